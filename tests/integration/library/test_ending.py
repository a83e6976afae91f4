# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers come to their end on a real Docker Engine: heeded or not, nothing of them is left."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import processes
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine

STUBBORN = {"STAND_IN_START_SECONDS": "0.05", "STAND_IN_IGNORE_SIGTERM": "1"}


def test_an_engine_that_heeds_sigterm_ends_by_itself(host: t.Any) -> None:
    server = host.server()
    host.run(server)
    born = processes.births(Engine().processes(server["name"]))
    assert len(born) >= 2  # the init and the engine
    (ended,) = host.run(server, state="stopped")["ended"]
    assert (ended["container"], ended["exit_code"], ended["killed"], ended["notes"]) == (server["name"], 0, False, [])
    assert processes.alive(born) == []
    assert Engine().processes(server["name"]) == []
    # What does not run is not ended again.
    assert host.run(server, state="absent")["ended"] == []


def test_an_engine_that_ignores_sigterm_is_killed_in_time_and_that_is_told(host: t.Any) -> None:
    server = host.server(env=STUBBORN, stop_seconds=2)
    host.run(server)
    born = processes.births(Engine().processes(server["name"]))
    began = time.monotonic()
    done = host.run({**server, "env": {"STAND_IN_START_SECONDS": "0.05"}})
    (ended,) = done["ended"]
    assert (ended["exit_code"], ended["killed"]) == (137, True)
    assert ended["notes"] == [f"{server['name']} did not end within 2 s of SIGTERM, and was ended by SIGKILL."]
    assert 2 <= ended["seconds"] <= time.monotonic() - began
    assert processes.alive(born) == []
    assert done["servers"][0]["state"] == "ready"


def test_the_time_to_drain_counts_and_not_the_shorter_time_of_the_container(host: t.Any) -> None:
    """The engine drains for as long as it is told; its container's own time alone would cut that off."""
    server = host.server(stop_seconds=1)
    server["command"] = [*server["command"], "--shutdown-timeout", "1"]
    # It takes 3 s to end after SIGTERM.
    server["entrypoint"] = ["/bin/sh", "-c", 'trap "sleep 3; kill $!; exit 0" TERM; vllm serve "$@" & wait', "sh"]
    host.run(server)
    (ended,) = host.run(server, state="absent")["ended"]
    assert (ended["killed"], ended["exit_code"]) == (False, 0)
    assert ended["seconds"] >= 3


def test_a_start_that_stalls_is_ended_before_the_former_one_starts(host: t.Any) -> None:
    server = host.server()
    host.run(server)
    stalls = {**server, "env": {**STUBBORN, "STAND_IN_STALL_AT": "weights"}, "stall_seconds": 1, "stop_seconds": 2}
    error = host.refused(stalls)
    assert error.details["failures"][0]["restored"] == "the former container serves again"
    former, failed = error.details["ended"]
    assert (former["killed"], failed["killed"], failed["exit_code"]) == (False, True, 137)
    assert host.run(server)["changed"] is False
