# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine goes away and comes back: in the middle of a start, while servers serve, with the whole host."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import typing as t

import pytest
from integration.library.conftest import Host

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from support.faults import Fault, beside, served, until
from support.fleet import BUILD
from support.own_engine import OwnEngine


@pytest.fixture(scope="module")
def own(stand_in: str) -> t.Iterator[OwnEngine]:
    """An Engine for the tests of this file, with the stand-in's image."""
    (BUILD / "tests").mkdir(parents=True, exist_ok=True)
    made = OwnEngine(pathlib.Path(tempfile.mkdtemp(prefix="engine-", dir=BUILD / "tests")))
    try:
        made.start()
        made.take_image(stand_in)
        yield made
    finally:
        made.remove()


@pytest.fixture
def host(own: OwnEngine, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    """A host on that Engine."""
    monkeypatch.setenv("DOCKER_HOST", own.url)
    made = Host(tmp_path)
    try:
        yield made
    finally:
        made.clean()


def serves(own: OwnEngine, server: dict[str, t.Any]) -> bool:
    return bool(own.inside(lambda: served(server)))


def replacing(host: Host) -> bool:
    """Whether a new container runs beside the one that it replaces."""
    there = host.containers()
    return "a.previous" in there and "a" in there and there["a"].status == "running"


def test_restarted_while_serving(own: OwnEngine, host: Host, fault: Fault) -> None:
    fault.name = "Docker Engine restarted while servers serve"
    servers = [host.server(name) for name in "ab"]
    own.inside(lambda: host.run(*servers))
    before = {name: one.id for name, one in host.containers().items()}
    fault.begins()
    own.stop()
    own.start()
    assert until(lambda: all(serves(own, server) for server in servers))
    fault.ends()
    assert own.inside(lambda: host.run(*servers))["changed"] is False
    assert {name: one.id for name, one in host.containers().items()} == before
    fault.seen("nothing to do for the next run", "the same servers, started again by the Engine")


def test_restarted_during_a_start(own: OwnEngine, host: Host, fault: Fault, tmp_path: pathlib.Path) -> None:
    fault.name = "Docker Engine restarted during a start"
    server = host.server()
    own.inside(lambda: host.run(server))
    # On another port than the former one's it would start beside it, so it is the same.
    slow = host.held(tmp_path / "gate", listen=server["listen"])
    thread, found = beside(lambda: own.inside(lambda: host.run(slow)))
    assert until(lambda: replacing(host))
    time.sleep(1)
    fault.begins()
    own.stop()
    own.start()
    thread.join()
    fault.ends()
    (error,) = found
    assert isinstance(error, FleetError), error
    assert until(lambda: serves(own, server)), error
    assert set(host.containers()) == {"a"}
    (tmp_path / "gate/go").touch()
    done = own.inside(lambda: host.run(slow))
    assert done["servers"][0]["state"] == "ready"
    fault.seen(error, "the former container serves again; the next run brings the new one")


def test_host_reboot(own: OwnEngine, host: Host, fault: Fault) -> None:
    fault.name = "host rebooted without warning"
    servers = [host.server(name) for name in "ab"]
    own.inside(lambda: host.run(*servers))
    fault.begins()
    own.lose_power()
    own.start()
    assert until(lambda: all(serves(own, server) for server in servers))
    fault.ends()
    assert own.inside(lambda: host.run(*servers))["changed"] is False
    fault.seen("nothing to do for the next run", "the same servers, started by the Engine in any order")


RUN = """
import json, sys
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.converge import Converger, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store

fleet, server, state_dir = json.loads(sys.argv[1])
Converger(Wish(fleet, [server], {}, "started", False), Store(state_dir), lambda *event: None).run(False)
"""


def test_host_reboot_during_a_replacement(own: OwnEngine, host: Host, fault: Fault) -> None:
    fault.name = "host rebooted in the middle of a replacement"
    server = host.server()
    own.inside(lambda: host.run(server))
    slow = {**server, "env": {"STAND_IN_START_SECONDS": "3600"}}
    arguments = json.dumps([host.fleet, slow, str(host.state_dir)])
    # The run is a process of the host, and ends with it.
    run = subprocess.Popen(
        own.command(sys.executable, "-c", RUN, arguments),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert until(lambda: replacing(host))
    run.kill()
    own.lose_power()
    run.wait()
    own.start()
    serving = "serves" if until(lambda: serves(own, server), 2) else "does not serve"
    quick = {**server, "env": {"STAND_IN_START_SECONDS": "0.1"}}
    fault.begins()
    done = own.inside(lambda: host.run(quick))
    fault.ends()
    assert done["servers"][0]["state"] == "ready" and serves(own, server)
    assert set(host.containers()) == {"a"}
    assert own.inside(lambda: host.run(quick))["changed"] is False
    steps = ", ".join(one["action"] for one in done["actions"])
    fault.seen(f"the next run: {steps}", f"until the next run the server {serving}; after it the new one, alone")
