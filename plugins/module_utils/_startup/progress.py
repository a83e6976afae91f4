# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Whether a start moves: by lines that were not there before, and by what its processes read, receive, hold, compute.

Engines that wait repeat themselves (vLLM's broadcast and handshake warnings), so repetition is no progress. A load that
says nothing for long reads data or takes memory. Computing alone may be compilation, and may be a rank that spins while
it waits for another one for ever, so it puts a stall off, and not without end. Pure.
"""

from __future__ import annotations

import typing as t

# Distinct lines remembered to tell progress from repetition.
_REMEMBERED = 4096
# Bytes read, written, received or taken as memory between two looks that count as progress. Engines that wait exchange
# some heartbeats and write some lines.
MOVED_BYTES = 2**20
# Share of one core that counts as computing.
BUSY_SHARE = 0.2
# A start that only computes is given this many stall times.
BUSY_TIMES = 3


class Usage(t.NamedTuple):
    """What a container has used since its start; the memory is what it holds now. An unknown figure is 0."""

    cpu_seconds: float
    io_bytes: int
    received_bytes: int
    memory_bytes: int


class Progress:
    """When a start last moved. times are seconds of one monotonic clock."""

    def __init__(self, stall_seconds: float, now: float) -> None:
        self.stall_seconds = stall_seconds
        self.moved = now
        # The shapes of lines seen, the oldest first; a dict for its order and its quick look-up.
        self._seen: dict[str, None] = {}
        self._usage: Usage | None = None
        self._looked = now
        self._peak = 0
        self._computed: float | None = None

    def line(self, shape: str, now: float) -> bool:
        """Take the shape of a line: what it is without its variable parts. Whether it is new, which is progress."""
        new = shape not in self._seen
        # What was seen last is forgotten last.
        self._seen.pop(shape, None)
        self._seen[shape] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if new:
            self.moved = now
        return new

    def usage(self, usage: Usage, now: float) -> None:
        """Take a look at what the container uses."""
        before, elapsed = self._usage, now - self._looked
        self._usage, self._looked = usage, now
        if before is None or elapsed <= 0:
            self._peak = max(self._peak, usage.memory_bytes)
            return
        taken = usage.memory_bytes - self._peak
        self._peak = max(self._peak, usage.memory_bytes)
        # The counters begin anew when the container was restarted; then nothing is concluded.
        moved = max(usage.io_bytes - before.io_bytes, usage.received_bytes - before.received_bytes, taken)
        if moved >= MOVED_BYTES:
            self.moved = now
        if (usage.cpu_seconds - before.cpu_seconds) / elapsed >= BUSY_SHARE:
            self._computed = now

    def silent(self, now: float) -> float:
        """Seconds since anything moved."""
        return now - self.moved

    def stall(self, now: float) -> str | None:
        """Why it counts as stalled, or None."""
        still = self.silent(now)
        if still <= self.stall_seconds:
            return None
        computes = self._computed is not None and now - self._computed <= self.stall_seconds
        if computes and still <= BUSY_TIMES * self.stall_seconds:
            return None
        return "its processes compute, and neither write, read, receive nor take anything" if computes else ""
