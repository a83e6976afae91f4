# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What tells of a start, each read in a thread of its own: the Docker Engine's events, the log, the server's answers.

News that must be seen at once go into one queue; the log waits in a buffer of bounded size and is taken when its reader
has time, so a flood of it delays nothing else.
"""

from __future__ import annotations

import collections
import json
import queue
import threading
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint

# Seconds between two questions to /health, and that it gets to answer.
HEALTH_SECONDS = 0.2
HEALTH_TIMEOUT = 1.0
# Bytes of a log that may wait; of more, the oldest are passed over.
WAITING_BYTES = 2**20
# Bytes of a log that are read within so many seconds: what an engine writes beyond it waits in the Docker Engine.
_SHARE_BYTES = 2**19
_SHARE_SECONDS = 0.25
# Bytes without a line end that are taken for a line.
_LINE_BYTES = 2**16
# What the Docker Engine tells when a container ends: its end, a kill for want of memory, its removal.
_ENDS = ("die", "oom", "destroy")


class News(t.NamedTuple):
    """kind: one of _ENDS, "events ended", "healthy" (/health has answered 200) or "verified" (value: what is wrong)."""

    kind: str
    value: str | None = None


Inbox = t.Any  # queue.Queue[News]; Python 3.8 cannot subscript it at run time


class Events:
    """The ends of a container as the Docker Engine tells them. It keeps few of them, so they are asked for before."""

    def __init__(self, engine: Engine, container: str, inbox: Inbox) -> None:
        """Listens when it returns; where the Engine does not let it, alive is False."""
        self.alive = False
        self._inbox = inbox
        try:
            self._stream = engine.events(container, _ENDS)
        except FleetError:
            return
        self.alive = True
        threading.Thread(target=self._read, daemon=True, name="events of " + container).start()

    def close(self) -> None:
        """Stop listening."""
        if self.alive:
            self._stream.close()

    def _read(self) -> None:
        rest = b""
        try:
            for piece in self._stream:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.strip():
                        self._inbox.put(News(str(json.loads(line).get("Action"))))
        # ValueError: a torn line at the end of a stream that breaks
        except (FleetError, ValueError):
            pass
        finally:
            self.alive = False
            self._inbox.put(News("events ended"))


class Log:
    """A container's log; ended when nothing more comes from it."""

    def __init__(self, engine: Engine, container: str, since: str | None) -> None:
        """since: the Docker Engine's time (RFC 3339) from which on it is read; None for its beginning."""
        self.ended = False
        self._engine = engine
        self._container = container
        self._since = since
        self._lock = threading.Lock()
        self._pieces: collections.deque[bytes] = collections.deque()
        self._waiting = 0
        self._dropped = 0
        self._rest = b""
        self._closed = threading.Event()
        self._stream: t.Any = None
        threading.Thread(target=self._read, daemon=True, name="log of " + container).start()

    def close(self) -> None:
        """Let the reading thread end."""
        self._closed.set()
        if self._stream is not None:
            self._stream.close()

    def take(self) -> tuple[list[str], int]:
        """The lines that wait, and how many were passed over before them."""
        with self._lock:
            ended = self.ended
            data = b"".join(self._pieces)
            dropped = self._dropped
            self._pieces.clear()
            self._waiting = self._dropped = 0
        # Progress bars end their lines with a carriage return.
        *lines, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if rest and (ended or len(rest) > _LINE_BYTES):
            lines, rest = [*lines, rest], b""
        self._rest = rest
        return [line.decode("utf-8", "replace") for line in lines], dropped

    def _read(self) -> None:
        try:
            self._stream = self._engine.log(self._container, self._since)
            began, read = time.monotonic(), 0
            for piece in self._stream:
                if self._closed.is_set():
                    return
                with self._lock:
                    self._pieces.append(piece)
                    self._waiting += len(piece)
                    while self._waiting > WAITING_BYTES and len(self._pieces) > 1:
                        old = self._pieces.popleft()
                        self._waiting -= len(old)
                        self._dropped += old.count(b"\n")
                read += len(piece)
                if read >= _SHARE_BYTES:
                    self._closed.wait(max(0.0, began + _SHARE_SECONDS - time.monotonic()))
                    began, read = time.monotonic(), 0
        except FleetError:
            # The stream breaks when the Engine restarts or the container is removed; both show in the container's
            # state.
            pass
        finally:
            self.ended = True


class Answers:
    """The server's answers: first /health until it is 200, then what verify finds."""

    def __init__(self, server: endpoint.Server, verify: t.Callable[[], str | None], inbox: Inbox) -> None:
        self._server = server
        self._verify = verify
        self._inbox = inbox
        self._closed = threading.Event()
        threading.Thread(target=self._ask, daemon=True, name=f"answers of {server.url}").start()

    def close(self) -> None:
        """Ask no more; a question that is on its way may still be answered."""
        self._closed.set()

    def _ask(self) -> None:
        while not endpoint.answers(self._server, HEALTH_TIMEOUT):
            if self._closed.wait(HEALTH_SECONDS):
                return
        self._inbox.put(News("healthy"))
        self._inbox.put(News("verified", self._verify()))


def inbox() -> Inbox:
    """A queue for News."""
    return queue.Queue()
