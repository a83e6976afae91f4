# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Progress as JSON lines in a file, which the controller reads meanwhile."""

from __future__ import annotations

import json
import os
import time
import typing as t


def progress_writer(path: str | None, subject: str) -> t.Callable[..., None]:
    """A function that adds a line for a stage with its figures; it does nothing without a path. Threads may share it.

    subject: what the lines are about.
    """
    began = time.monotonic()

    def write(stage: str, **figures: t.Any) -> None:
        if path is None:
            return
        line = dict(figures, subject=subject, stage=stage, seconds=round(time.monotonic() - began, 1))
        # One write a line, so that no lock is needed; a link that somebody put there is not followed.
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.write(handle, (json.dumps(line) + "\n").encode())
        finally:
            os.close(handle)

    return write
