# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""One start judged by evidence: the container's end, a standstill, an answered request.

Elapsed time alone never fails a start. A start is stalled when for stall_seconds the log has brought no line that it
had not brought before; engines that wait repeat themselves (vLLM's broadcast and handshake warnings), so repetition is
no progress. Pure: time, lines, states and answers are handed in.
"""

from __future__ import annotations

import collections
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import ContainerState
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.memory import MemoryReport
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.stages import STAGES, Event, read_line

# Lines kept for a failure's report; the whole log stays with the container or goes into its report.
TAIL_LINES = 400
# Characters of a line that are looked at and kept; a dump of a configuration has tens of thousands.
LINE_CHARACTERS = 4000
# Distinct lines remembered to tell progress from repetition.
_REMEMBERED = 4096
# What changes between repetitions of one message: times, counts, process IDs.
_VARIABLE = re.compile(r"\d+")


class Failure(t.NamedTuple):
    """kind: exited, stalled, gone, refused or wrong (it answers, but not as wanted); reason: what a person reads."""

    kind: str
    reason: str


class Watch:
    """The watch over one server's start. times are seconds of one monotonic clock."""

    def __init__(self, name: str, stall_seconds: float, now: float) -> None:
        self.name = name
        self.stage = "created"
        self.timeline: list[dict[str, t.Any]] = []
        self.tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self.memory = MemoryReport()
        self._stall_seconds = stall_seconds
        self._began = now
        self._moved = now
        # The shapes of lines seen, the oldest first; a dict for its order and its quick look-up.
        self._seen: dict[str, None] = {}
        self._restarts: int | None = None

    def line(self, line: str, now: float) -> Event | None:
        """Take a line of the log; the event when the line is one that was not there before."""
        line = line[:LINE_CHARACTERS]
        if not line.strip():
            return None
        self.tail.append(line)
        self.memory.line(line)
        event = read_line(line)
        # A counted event moves when its count does, which the shape without digits would hide.
        if not self._is_new(event.text if event else _VARIABLE.sub("#", line)):
            return None
        self._moved = now
        if event is None or STAGES.index(event.stage) < STAGES.index(self.stage):
            return None
        self._enter(event, now)
        return event

    def ready(self, now: float) -> None:
        """The server answers as wanted."""
        self._enter(Event("ready", "ready"), now)

    def failure(self, state: ContainerState | None, now: float) -> Failure | None:
        """Why the start is over without success, or None when it goes on. state is None when the container is gone."""
        if state is None:
            return Failure("gone", "the container was removed while it started")
        if self._restarts is None:
            self._restarts = state.restart_count
        if state.status in ("exited", "dead", "restarting") or state.restart_count > self._restarts:
            killed = " (killed for want of memory)" if state.oom_killed else ""
            return Failure("exited", f"the engine ended with exit code {state.exit_code}{killed}")
        still = now - self._moved
        if still > self._stall_seconds:
            return Failure("stalled", f"nothing moved for {still:.0f} s in the stage {self.stage}")
        return None

    def _is_new(self, shape: str) -> bool:
        new = shape not in self._seen
        # What was seen last is forgotten last.
        self._seen.pop(shape, None)
        self._seen[shape] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return new

    def _enter(self, event: Event, now: float) -> None:
        seconds = round(now - self._began, 1)
        if event.stage != self.stage or not self.timeline:
            self.timeline.append({"stage": event.stage, "seconds": seconds, "text": event.text})
        else:
            self.timeline[-1]["text"] = event.text
        self.stage = event.stage
