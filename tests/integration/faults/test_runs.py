# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that meet, and runs that are killed at each of their stages: the next one mends what is left."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from support.faults import Fault, beside, served, until

# A run that ends itself with SIGKILL before or after a call of a method of the Engine, or of the store.
CUT_OFF = """
import json, os, signal, sys
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.converge import Converger, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._container import engine, store

fleet, server, state_dir, owner, method, when = json.loads(sys.argv[1])
kind = {"Engine": engine.Engine, "Store": store.Store}[owner]
real = getattr(kind, method)

def cut(self, *arguments, **named):
    if when == "after":
        real(self, *arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(kind, method, cut)
secrets = {server["model"]: {"api_key": "second"}}
Converger(Wish(fleet, [server], secrets, "started", False), store.Store(state_dir), lambda *event: None).run(False)
"""
CUTS = [
    ("Store", "write_secrets", "before"),
    ("Store", "write_secrets", "after"),
    ("Engine", "rename", "before"),
    ("Engine", "rename", "after"),
    ("Engine", "create", "after"),
    ("Engine", "stop", "before"),
    ("Engine", "stop", "after"),
    ("Engine", "start", "before"),
    ("Engine", "start", "after"),
    ("Engine", "set_restart_policy", "before"),
    ("Engine", "set_restart_policy", "after"),
    ("Engine", "remove", "before"),
    ("Engine", "remove", "after"),
]
FIRST = {"a": {"api_key": "first"}}
SECOND = {"a": {"api_key": "second"}}


@pytest.mark.parametrize(("owner", "method", "when"), CUTS, ids=[f"{when}-{method}" for _owner, method, when in CUTS])
def test_killed_at_each_stage(host: t.Any, fault: Fault, owner: str, method: str, when: str) -> None:
    fault.name = f"run killed (SIGKILL) {when} {method}"
    server = host.server()
    host.run(server, secrets=FIRST)
    changed = {**server, "env": {**server["env"], "CHANGED": "1"}}
    arguments = json.dumps([host.fleet, changed, str(host.state_dir), owner, method, when])
    run = subprocess.run(
        [sys.executable, "-c", CUT_OFF, arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == -9, run.stderr
    serving = "serves" if until(lambda: served(server), 1) else "does not serve"
    fault.begins()
    done = host.run(changed, secrets=SECOND)
    fault.ends()
    assert done["servers"][0]["state"] == "ready" and set(host.containers()) == {"a"}
    assert host.run(changed, secrets=SECOND)["changed"] is False
    steps = ", ".join(one["action"] for one in done["actions"]) or "nothing left to do"
    fault.seen(f"the next run: {steps}", f"until the next run the server {serving}; after it the new one, alone")


def test_two_runs_at_once(host: t.Any, fault: Fault, tmp_path: pathlib.Path) -> None:
    fault.name = "two runs at once"
    server = host.held(tmp_path / "gate")
    thread, first = beside(lambda: host.run(server))
    assert until(host.containers)
    fault.begins()
    error = host.refused(server)
    fault.ends()
    (tmp_path / "gate/go").touch()
    thread.join()
    assert "Another run" in str(error) and "Nothing was changed" in str(error)
    assert first[0]["servers"][0]["state"] == "ready"
    assert host.run(server)["changed"] is False
    text = str(error).replace(host.fleet, "FLEET").replace(str(host.state_dir), "STATE_DIR")
    fault.seen(text, "the server of the first run, ready")
