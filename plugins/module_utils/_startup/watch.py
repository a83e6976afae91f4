# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""One start judged by evidence: the container's end, a line after which there is no start, a standstill, an answer.

Elapsed time alone never fails a start. Pure: time, lines, states, usage and answers are handed in.
"""

from __future__ import annotations

import collections
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import ContainerState
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.memory import MemoryReport
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.progress import Progress, Usage
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.stages import (
    FATAL,
    STAGES,
    Event,
    read_line,
    speaks,
)

# Lines kept for a failure's report; the whole log stays with the container or goes into its report.
TAIL_LINES = 400
# Lines handed over at once that are looked at in full; of more, only those that may tell of a stage are.
LINES_AT_ONCE = 500
# Characters of a line that are looked at and kept; a dump of a configuration has tens of thousands.
LINE_CHARACTERS = 4000
# Seconds that an engine which has said that it failed gets to end by itself, with its exit code and its last lines. It
# may stay for ever (VLLM_KEEP_ALIVE_ON_ENGINE_DEATH, a worker that does not end).
FATAL_SECONDS = 30
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
        # Lines that were only searched for stages, because too many came at once.
        self.passed_over = 0
        self.progress = Progress(stall_seconds, now)
        self._began = now
        self._restarts: int | None = None
        self._fatal: tuple[str, float] | None = None
        # The stage that each of the engine's processes has told last.
        self._processes: dict[str, str] = {}

    def lines(self, lines: t.Sequence[str], now: float) -> list[Event]:
        """Take lines of the log in their order; the events that were not there before."""
        lines = [line[:LINE_CHARACTERS] for line in lines if line and not line.isspace()]
        many = len(lines) - LINES_AT_ONCE
        if many > 0:
            told = [line for line in lines[:many] if speaks(line)][-LINES_AT_ONCE:]
            self.passed_over += many - len(told)
            lines = told + lines[many:]
        return [event for event in (self.line(line, now) for line in lines) if event is not None]

    def line(self, line: str, now: float) -> Event | None:
        """Take a line of the log; the event when the line is one that was not there before."""
        line = line[:LINE_CHARACTERS]
        if not line.strip():
            return None
        self.tail.append(line)
        self.memory.line(line)
        event = read_line(line)
        if event is None and self._fatal is None and speaks(line) and FATAL.search(line):
            self._fatal = line.strip()[:200], now
        # A counted event moves when its count does, which the shape without digits would hide. Each process moves by
        # itself.
        shape = f"{event.process}: {event.text}" if event else _VARIABLE.sub("#", line)
        if not self.progress.line(shape, now) or event is None:
            return None
        if event.process:
            self._processes[event.process] = event.stage
        if STAGES.index(event.stage) < STAGES.index(self.stage):
            return None
        self._enter(event, now)
        return event

    def usage(self, usage: Usage, now: float) -> None:
        """Take what the container uses."""
        self.progress.usage(usage, now)

    def entered(self, event: Event, now: float) -> None:
        """Take an event that no line of the log tells; it is progress."""
        self.progress.moved = now
        self._enter(event, now)

    def ready(self, now: float) -> None:
        """The server answers as wanted."""
        self._enter(Event("ready", "ready"), now)

    def failure(self, state: ContainerState | None, now: float, oom: bool = False) -> Failure | None:
        """Why the start is over without success, or None when it goes on.

        state: None when the container is gone. oom: whether the Engine has told that the kernel killed in it for want
        of memory, which its state may not say.
        """
        if state is None:
            return Failure("gone", "the container was removed while it started")
        if self._restarts is None:
            self._restarts = state.restart_count
        if state.status in ("exited", "dead", "restarting") or state.restart_count > self._restarts:
            killed = " (killed for want of memory)" if state.oom_killed or oom else ""
            return Failure("exited", f"the engine ended with exit code {state.exit_code}{killed}")
        if self._fatal is not None and now - self._fatal[1] > FATAL_SECONDS:
            return Failure("stalled", f"the engine said that it failed, and did not end: {self._fatal[0]}")
        why = self.progress.stall(now)
        if why is None:
            return None
        text = f"nothing moved for {self.progress.silent(now):.0f} s in the stage {self.stage}"
        return Failure("stalled", "; ".join(part for part in (text, why, self._behind()) if part))

    def _behind(self) -> str:
        """The processes that are behind the others, in words: where a standstill of several ranks is looked for."""
        workers = {name: STAGES.index(stage) for name, stage in self._processes.items() if "orker" in name}
        late = sorted(name for name, stage in workers.items() if stage < max(workers.values()))
        return "behind the other ranks: " + ", ".join(late) if late else ""

    def _enter(self, event: Event, now: float) -> None:
        seconds = round(now - self._began, 1)
        if event.stage != self.stage or not self.timeline:
            self.timeline.append({"stage": event.stage, "seconds": seconds, "text": event.text})
        else:
            self.timeline[-1]["text"] = event.text
        self.stage = event.stage
