# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The file through which a run on a host tells how its starts go on, to the task that follows it."""

from __future__ import annotations

import json
import os
import threading
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.stages import Event


def progress_writer(path: str | None) -> t.Callable[[str, Event], None]:
    """A function that adds one JSON line for each event; it may be called from several threads."""
    lock = threading.Lock()
    began = time.monotonic()

    def add(line: t.Mapping[str, t.Any]) -> None:
        if path is None:
            return
        with lock:
            # A link that somebody put there is not followed.
            try:
                handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
                try:
                    os.write(handle, (json.dumps(line) + "\n").encode())
                finally:
                    os.close(handle)
            except OSError:
                # A full disk hides the progress; it must not break off a start while the former server is stopped.
                return

    def write(server: str, event: Event) -> None:
        add(dict(event._asdict(), server=server, seconds=round(time.monotonic() - began, 1)))

    # Who follows the run sees by this whether it still lives.
    add({"pid": os.getpid()})
    return write
