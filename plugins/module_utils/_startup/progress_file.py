# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""How starts go on, as lines of the progress file."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._progress import ProgressFile
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.stages import Event


def progress_writer(path: str | None) -> t.Callable[[str, Event], None]:
    """A function that adds a line for each event; it may be called from several threads."""
    file = ProgressFile(path)
    return lambda server, event: file.tell(dict(event._asdict(), server=server))
