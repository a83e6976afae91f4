# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of servers that serve: what heals by itself, what is told, and what the next run mends."""

from __future__ import annotations

import os
import signal
import threading
import time
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import liveness, look, sick
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.servers import Depth, fleet_servers
from support.faults import Fault, served, until


def process(container: t.Any) -> int:
    """The engine's process on the host: the one that is not the init."""
    container.reload()
    rows = container.top()["Processes"]
    titles = container.top()["Titles"]
    pid, command = titles.index("PID"), titles.index("CMD")
    return next(int(row[pid]) for row in rows if "vllm" in row[command] and "docker-init" not in row[command])


def restarted(host: t.Any, server: dict[str, t.Any], before: int) -> bool:
    container = host.containers()["a"]
    return container.attrs["RestartCount"] > before and served(server)


def info(host: t.Any) -> dict[str, t.Any]:
    """The server as vllm_info gives it."""
    (one,) = fleet_servers(Engine(), host.fleet, Store(str(host.state_dir)), Depth(True, True))
    return one


def test_engine_killed_after_ready(host: t.Any, fault: Fault) -> None:
    fault.name = "engine process killed after ready (the server then ends with exit code 0)"
    # The time in which a loaded machine does what follows its start, and what follows the next one.
    server = host.server(env={"STAND_IN_START_SECONDS": "0.3", "STAND_IN_EXIT_AFTER": "20"})
    host.run(server)
    assert until(lambda: not served(server))
    fault.begins()
    assert until(lambda: restarted(host, server, 0))
    fault.ends()
    one = info(host)
    assert one["restarts"] >= 1
    assert host.run(server)["changed"] is False
    fault.seen(f"vllm_info: {one['state']}, restarts {one['restarts']}", "the server, restarted by the Docker Engine")


def test_api_process_killed(host: t.Any, fault: Fault) -> None:
    fault.name = "API process killed (SIGKILL)"
    server = host.server()
    host.run(server)
    pid = process(host.containers()["a"])
    fault.begins()
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: restarted(host, server, 0))
    fault.ends()
    one = info(host)
    assert one["restarts"] == 1
    assert host.run(server)["changed"] is False
    fault.seen(f"vllm_info: {one['state']}, restarts 1", "the server, restarted by the Docker Engine")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What seems sick gets seconds instead of a minute to show that it is not."""
    monkeypatch.setattr(liveness, "STILL_SECONDS", 3.0)
    monkeypatch.setattr(look, "ASK_SECONDS", 2.0)
    monkeypatch.setattr(sick, "PATIENCE_SECONDS", 2.0)
    monkeypatch.setattr(sick, "STANDSTILL_SECONDS", 2.0)
    monkeypatch.setattr(sick, "DEAD_SECONDS", 1.0)


@pytest.mark.usefixtures("impatient")
def test_frozen_engine(host: t.Any, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.name = "frozen process (SIGSTOP)"
    server = host.server(stop_seconds=2)
    host.run(server)
    before = host.containers()["a"].id
    pid = process(host.containers()["a"])
    fault.begins()
    os.kill(pid, signal.SIGSTOP)
    state = info(host)["state"]
    fault.ends()
    assert state == "unreachable"
    assert not served(server, timeout=2)
    done = host.run(server)
    assert done["servers"][0]["state"] == "ready" and served(server, timeout=30)
    assert host.containers()["a"].id == before
    monkeypatch.undo()
    assert host.run(server)["changed"] is False
    fault.seen(f"vllm_info: {state}", "the frozen server, until the next run restarts it")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("number", "word", "name"),
    [
        ("SIGUSR1", b"stand-in: frozen", "engine frozen behind a /health of 200 while it serves (patience 2 s)"),
        ("SIGUSR2", b"stand-in: dead", "engine dead behind a server that stays (patience 1 s)"),
    ],
)
def test_sick_engine_behind_a_server_that_stays(
    host: t.Any, fault: Fault, monkeypatch: pytest.MonkeyPatch, number: str, word: bytes, name: str
) -> None:
    fault.name = name
    server = host.server()
    host.run(server)
    container = host.containers()["a"]
    container.kill(signal=number)
    assert until(lambda: word in container.logs(tail=20))
    fault.begins()
    done = host.run(server)
    fault.ends()
    (action,) = done["actions"]
    assert action["action"] == "restart" and done["servers"][0]["state"] == "ready" and served(server, timeout=30)
    assert host.containers()["a"].id == container.id
    monkeypatch.undo()
    assert host.run(server)["changed"] is False
    fault.seen(f"the next run: {action['action']} ({action['because'][0]})", "the same server, started again, ready")


def test_frozen_engine_behind_a_healthy_server(host: t.Any, fault: Fault) -> None:
    fault.name = "start whose engine is frozen behind a /health of 200 (limit 3 s)"
    server = host.server()
    host.run(server)
    frozen = {**server, "stall_seconds": 3, "env": {**server["env"], "STAND_IN_FREEZE_AFTER": "0"}}
    fault.begins()
    error = host.refused(frozen)
    fault.ends()
    assert served(server) and set(host.containers()) == {"a"}
    fault.seen(error, "the former container serves again")


def test_sigterm_ignored(host: t.Any, fault: Fault) -> None:
    fault.name = "SIGTERM ignored (stop_seconds: 2)"
    server = host.server(env={"STAND_IN_START_SECONDS": "0.05", "STAND_IN_IGNORE_SIGTERM": "1"}, stop_seconds=2)
    host.run(server)
    pid = process(host.containers()["a"])
    fault.begins()
    done = host.run(server, state="absent")
    # It ends at all, after the time that it was given.
    assert 1.5 < fault.ends() < 300
    assert host.containers() == {} and not os.path.exists(f"/proc/{pid}")
    fault.seen(
        f"{done['actions'][0]['action']}: ended by SIGKILL after stop_seconds", "nothing; the process tree is gone"
    )


def by_stopping(container: t.Any) -> None:
    container.stop(timeout=30)


def by_renaming(container: t.Any) -> None:
    container.rename(container.name + "-mine")


def by_limiting(container: t.Any) -> None:
    container.update(mem_limit=2**28, memswap_limit=2**29)


def by_removing(container: t.Any) -> None:
    container.remove(force=True)


@pytest.mark.parametrize("change", [by_removing, by_stopping, by_renaming, by_limiting])
def test_changed_by_hand(host: t.Any, fault: Fault, change: t.Callable[[t.Any], None]) -> None:
    fault.name = "container changed by hand: " + change.__name__.replace("by_", "")
    server = host.server()
    host.run(server)
    change(host.containers()["a"])
    fault.begins()
    planned = host.run(server, check=True)
    done = host.run(server)
    fault.ends()
    assert planned["actions"] == done["actions"] and done["changed"]
    assert set(host.containers()) == {"a"} and served(server)
    assert host.run(server)["changed"] is False
    because = "; ".join(f"{one['action']} ({', '.join(one['because'])})" for one in done["actions"])
    fault.seen(because, "the server as it is wanted, ready")


def test_clock_jump(host: t.Any, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the run goes a day forward and back while it watches; the host's own must not be touched by a "
    "test."""
    fault.name = "clock that jumps by a day during a start"
    real, jump = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + jump[0])
    timer = threading.Timer(0.4, lambda: jump.__setitem__(0, 86400.0))
    back = threading.Timer(0.8, lambda: jump.__setitem__(0, -86400.0))
    timer.start()
    back.start()
    server = host.server(env={"STAND_IN_START_SECONDS": "1.5"}, stall_seconds=60)
    fault.begins()
    assert host.run(server)["servers"][0]["state"] == "ready"
    assert fault.ends() < 3600
    bad = host.server("b", env={"STAND_IN_STALL_AT": "engine"}, stall_seconds=1)
    error = host.refused(server, bad)
    assert error.details["failures"][0]["kind"] == "stalled"
    fault.seen("no failure; a stall is still found in its own time", "the server, ready")
