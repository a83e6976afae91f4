# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run ended by SIGKILL before or after each of its changes: the next one reaches what was wanted, nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import typing as t

import pytest

# A run that ends itself before or after the n-th call of a method of the Engine.
KILLED = """
import json, os, signal, sys
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.converge import Converger, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store

fleet, servers, state, state_dir, method, when, turn = json.loads(sys.argv[1])
real = getattr(Engine, method)
calls = []

def cut(self, *arguments):
    calls.append(method)
    last = len(calls) == turn
    if last and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(self, *arguments)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(Engine, method, cut)
Converger(Wish(fleet, servers, {}, state, False), Store(state_dir), lambda *event: None).run(False)
"""


def kill(host: t.Any, server: dict[str, t.Any], state: str, cut: str) -> None:
    """A run for this server, cut off there: "before start" or "after start 2" for the second call."""
    when, method, *turn = cut.split()
    arguments = [host.fleet, [server], state, str(host.state_dir), method, when, int(turn[0]) if turn else 1]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def settled(host: t.Any, server: dict[str, t.Any]) -> str:
    """The ID of the one container, which serves as it should; a further run changes nothing."""
    assert set(host.containers()) == {"a"}
    container = host.containers()["a"]
    assert (container.status, container.attrs["HostConfig"]["RestartPolicy"]["Name"]) == ("running", "unless-stopped")
    assert host.run(server)["changed"] is False
    assert not list((host.state_dir / "down").glob("*"))
    return str(container.id)


@pytest.mark.parametrize("cut", ["before create", "after create", "after start", "before set_restart_policy"])
def test_a_first_start(host: t.Any, cut: str) -> None:
    server = host.server()
    kill(host, server, "started", cut)
    done = host.run(server)
    assert done["servers"][0]["state"] == "ready"
    assert [one["number"] for one in done["servers"][0]["generations"]] == [1]
    settled(host, server)


REPLACING = [
    f"{when} {method}"
    for method in ("rename", "create", "stop", "start", "set_restart_policy", "remove")
    for when in ("before", "after")
]


@pytest.mark.parametrize("cut", REPLACING)
def test_a_replacement(host: t.Any, cut: str) -> None:
    server = host.server()
    host.run(server)
    changed = {**server, "env": {**server["env"], "CHANGED": "1"}}
    kill(host, changed, "started", cut)
    done = host.run(changed)
    assert done["servers"][0]["state"] == "ready"
    assert [(one["number"], one["current"]) for one in done["servers"][0]["generations"]] == [(2, True), (1, False)]
    settled(host, changed)


@pytest.mark.parametrize("cut", REPLACING[1:-1])
def test_a_replacement_that_is_not_wanted_any_more(host: t.Any, cut: str) -> None:
    server = host.server()
    host.run(server)
    before = host.containers()["a"].id
    kill(host, {**server, "env": {}}, "started", cut)
    # What was ready is the present one, and is replaced; else the former one, which is still there, comes back.
    done = host.run(server)
    assert done["servers"][0]["state"] == "ready"
    after = settled(host, server)
    assert (after == before) or cut in ("after set_restart_policy", "before remove")


@pytest.mark.parametrize("cut", ["after start", "before set_restart_policy", "after set_restart_policy", "after stop"])
def test_a_replacement_beside_the_former(host: t.Any, cut: str) -> None:
    server = host.server()
    host.run(server)
    changed = {**server, "memory_bytes": 2**27, "listen": host.server()["listen"]}
    kill(host, changed, "started", cut)
    assert host.run(changed)["servers"][0]["state"] == "ready"
    settled(host, changed)


@pytest.mark.parametrize("state", ["started", "present"])
@pytest.mark.parametrize("cut", ["after stop", "before start", "after start"])
def test_a_restart(host: t.Any, state: str, cut: str) -> None:
    server = host.server()
    host.run(server)
    before = host.containers()["a"].id
    kill(host, server, "restarted", cut)
    done = host.run(server, state=state)
    assert done["servers"][0]["state"] in ("ready", "loading" if state == "present" else "ready")
    if state == "present":
        host.run(server)
    assert settled(host, server) == before


@pytest.mark.parametrize("cut", ["after rename", "after create", "after stop", "after start", "before remove"])
def test_a_rollback(host: t.Any, cut: str) -> None:
    server = host.server()
    host.run(server)
    later = {**server, "env": {}}
    host.run(later)
    kill(host, server, "rolled_back", cut)
    done = host.run(server, state="rolled_back")
    found = [(one["number"], one["current"], one["rolled_back"]) for one in done["servers"][0]["generations"]]
    assert found == [(2, False, True), (1, True, False)]
    settled(host, server)


@pytest.mark.parametrize(
    "cut", ["before remove", "after remove", "before rename 2", "after rename 2", "before start 2"]
)
def test_the_putting_back_of_the_former(host: t.Any, cut: str) -> None:
    """The replacement fails and the run is cut off while it restores: the next restores, though it fails as well."""
    server = host.server()
    host.run(server)
    before = host.containers()["a"].id
    bad = {**server, "env": {"STAND_IN_DIE_AT": "config"}}
    kill(host, bad, "started", cut)
    error = host.refused(bad)
    assert error.details["failures"][0]["restored"] == "the former container serves again"
    assert settled(host, server) == before


@pytest.mark.parametrize("state", ["stopped", "absent"])
@pytest.mark.parametrize("cut", ["before stop", "after stop"])
def test_an_end(host: t.Any, state: str, cut: str) -> None:
    server = host.server()
    host.run(server)
    kill(host, server, state, cut)
    host.run(server, state=state)
    assert {one.status for one in host.containers().values()} == ({"exited"} if state == "stopped" else set())
    assert host.run(server, state=state)["changed"] is False
    assert not list((host.state_dir / "down").glob("*"))


def test_a_restart_that_is_not_wanted_any_more(host: t.Any) -> None:
    """What a killed run had stopped is noted to serve again, until it is to be stopped."""
    server = host.server()
    host.run(server)
    kill(host, server, "restarted", "before start")
    assert host.run(server, state="stopped")["changed"] is True
    assert host.run(server, state="stopped")["changed"] is False
    assert host.run(server, state="present")["changed"] is False
    assert host.containers()["a"].status == "exited"
