# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""How a download goes on, as lines of the progress file."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._progress import ProgressFile


def progress_writer(path: str | None, subject: str) -> t.Callable[..., None]:
    """A function that adds a line for a stage with its figures; threads may share it. subject: what it is about."""
    file = ProgressFile(path)

    def write(stage: str, **figures: t.Any) -> None:
        file.tell(dict(figures, subject=subject, stage=stage))

    return write
