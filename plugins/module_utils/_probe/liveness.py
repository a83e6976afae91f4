# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""How a running server is, judged by progress. Pure.

/health answers 200 as long as the API process does not know that the engine is dead; a frozen engine stands behind a
200 for ever (vLLM 0.33.0, entrypoints/serve/instrumentator/health.py: only EngineDeadError gives 503, before 0.11.0 it
was 500). So an engine that has work must move its counters, and one that has none must answer one small request.
"""

from __future__ import annotations

import typing as t

# Seconds between two readings of an engine that has work, and in which a working engine must have moved a counter. A
# step of an engine takes milliseconds, a long prompt in one step on a CPU some seconds.
MOVE_SECONDS = 1.0
STILL_SECONDS = 15.0

# Characters of an answer of /health that are told.
_SAID = 200

READY, LOADING, SATURATED, STALLED = "ready", "loading", "saturated", "stalled"
SLEEPING, ENGINE_DEAD, UNREACHABLE = "sleeping", "engine_dead", "unreachable"
# The states in which a server does not serve and will not by itself.
SICK = (STALLED, ENGINE_DEAD, UNREACHABLE)


class Reading(t.NamedTuple):
    """One look at a server.

    at: seconds of a monotonic clock; health: the HTTP status of /health, 0 when nothing answered; running, waiting:
    requests, None when the server does not count; moving: counters that stand still when the engine does; sleeping:
    None when the release does not tell; held: how full the KV cache is, None when the server does not tell; said: the
    body of what /health answered when that was not 200.
    """

    at: float
    health: int
    running: float | None = None
    waiting: float | None = None
    moving: t.Mapping[str, float] = {}
    sleeping: bool | None = None
    held: float | None = None
    said: str = ""

    @property
    def busy(self) -> bool:
        """Whether the engine has work."""
        return bool(self.running or self.waiting)


class State(t.NamedTuple):
    """One of the words above, and why, for people."""

    word: str
    why: str


def is_dead(health: int, said: str) -> bool:
    """Whether an answer of /health says that the engine process is dead.

    That 503 has no body (vLLM 0.11.0 to 0.33.0: Response(status_code=503)). One with a body is of somebody before the
    engine, as of the ScalingMiddleware (0.11.0 to 0.28.0, later not for /health) while the engine is made larger.
    """
    return health == 500 or (health == 503 and not said.strip())


def first_judgement(one: Reading, was_ready: bool) -> State | None:
    """What one reading tells for certain, or None when the engine must be seen to move.

    was_ready: whether it has answered since its container was started.
    """
    if one.health == 0:
        return State(UNREACHABLE, "nothing answers /health") if was_ready else State(LOADING, "it does not listen yet")
    if is_dead(one.health, one.said):
        return State(ENGINE_DEAD, f"/health answers {one.health}: its engine process is dead")
    if one.health != 200:
        return State(UNREACHABLE, f"/health answers {one.health} {one.said.strip()[:_SAID]}".rstrip())
    if one.sleeping:
        return State(SLEEPING, "it was put to sleep, and serves when it is woken")
    return None


def moved(first: Reading, later: Reading) -> bool:
    """Whether a counter has changed; one that is lower was begun anew, which only a living engine does.

    A piece of a long prompt moves no counter, but fills the KV cache, which vLLM tells after each step from 0.11.0 on
    (v1/core/sched/scheduler.py: stats "even if there are no request outputs this step"). That counts between readings
    with as many requests only, so that nothing but the engine's own work is taken for it.
    """
    if any(later.moving[name] != value for name, value in first.moving.items() if name in later.moving):
        return True
    same = (first.running, first.waiting) == (later.running, later.waiting)
    return same and None not in (first.held, later.held) and first.held != later.held


def judgement(first: Reading, later: Reading, answered: bool | None) -> State | None:
    """What two readings and a small request tell; None when an engine with work may yet be seen to move.

    answered: whether the request was answered in its time; None when none was sent, or none that the server serves.
    """
    certain = first_judgement(later, True)
    if certain is not None:
        return certain
    if answered or moved(first, later):
        if later.waiting:
            return State(SATURATED, f"tokens flow, and {later.waiting:.0f} requests wait")
        return State(READY, "it answers a request" if answered else "its counters move")
    seconds = later.at - first.at
    if answered is None and not later.busy:
        return State(READY, "/health answers, and nothing is asked of its engine")
    if seconds < STILL_SECONDS and answered is None:
        return None
    if not first.moving:
        return State(
            UNREACHABLE, f"a request was not answered in {seconds:.0f} s, and it counts nothing that would tell why"
        )
    work = f"{later.running or 0:.0f} requests run and {later.waiting or 0:.0f} wait"
    return State(STALLED, f"{work}, and no counter moved in {seconds:.0f} s, while /health answers 200")
