# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""End a container, and wait until nothing of it is left: its processes, and its memory of NVIDIA's GPUs."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import leaving, processes
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import observed_state
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.usage import usage

# Seconds for the processes and the memory to go after the container has ended, and between two looks.
GONE_SECONDS = 30
LOOK_SECONDS = 0.25


class Ended(t.NamedTuple):
    """How a container came to its end.

    seconds: from the wish to the end; exit_code: None when it did not run; killed: it did not heed SIGTERM; notes: what
    a person is to know, in sentences.
    """

    container: str
    seconds: float
    exit_code: int | None
    killed: bool
    notes: tuple[str, ...]


def end(engine: Engine, container: str, spec: ContainerSpec, name: str, at_most: int | None = None) -> Ended:
    """Stop it with SIGTERM and the time that it needs to finish its requests, and see its memory come back.

    container: its present name or ID; name: what a person calls it. at_most: seconds after which SIGKILL follows, for
    one that has nothing to finish. Nothing that is not of the container is ever ended.
    """
    allowed = leaving.stop_seconds(spec) if at_most is None else min(at_most, leaving.stop_seconds(spec))
    running = (engine.inspect(container) or {}).get("State") or {}
    if not running.get("Running"):
        # A container that the Engine is about to restart does not run, and is to be stopped all the same.
        engine.stop(container, allowed)
        return Ended(name, 0.0, None, False, ())
    pids = {int(running.get("Pid") or 0), *engine.processes(container)} - {0}
    born = processes.births(pids)
    uuids = leaving.gpus(spec)
    before = usage(uuids) if uuids else {}
    began = time.monotonic()
    engine.stop(container, allowed)
    seconds = time.monotonic() - began
    inspect = engine.inspect(container)
    state = observed_state(inspect) if inspect else None
    killed = state is not None and leaving.was_killed(state.exit_code, state.oom_killed, seconds, allowed)
    notes = []
    if killed and allowed:
        notes.append(f"{name} did not end within {allowed} s of SIGTERM, and was ended by SIGKILL.")
    if not wait_until(lambda: not processes.alive(born)):
        rest = ", ".join(map(str, processes.alive(born)))
        notes.append(f"Processes of {name} are still there {GONE_SECONDS} s after its container ended: {rest}.")
    if before and not wait_until(lambda: leaving.is_back(before, usage(uuids), pids)):
        notes.extend(leaving.missing(before, usage(uuids), pids, name, time.monotonic() - began - seconds))
    return Ended(name, round(seconds, 1), state.exit_code if state else None, killed, tuple(notes))


def wait_until(true: t.Callable[[], bool]) -> bool:
    """Whether this became true within GONE_SECONDS."""
    until = time.monotonic() + GONE_SECONDS
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_SECONDS)
    return True
