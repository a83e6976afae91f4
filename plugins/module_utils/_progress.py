# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The file through which a module that runs long tells how it goes on, to the task that follows it."""

from __future__ import annotations

import json
import os
import time
import typing as t


class ProgressFile:
    """One JSON line for each thing that is told; threads may share it. Without a path nothing is written."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._began = time.monotonic()
        # Who follows the run sees by this whether it still lives.
        self._add({"pid": os.getpid()})

    def tell(self, line: t.Mapping[str, t.Any]) -> None:
        """Add a line, with the seconds since the beginning."""
        self._add({**line, "seconds": round(time.monotonic() - self._began, 1)})

    def _add(self, line: t.Mapping[str, t.Any]) -> None:
        if self._path is None:
            return
        try:
            # One write a line, so that no lock is needed; a link that somebody put there is not followed.
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.write(handle, (json.dumps(line) + "\n").encode())
            finally:
                os.close(handle)
        except OSError:
            # A full disk hides the progress; it must not break off what is under way.
            return
