# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that one meets with ansible-playbook: what its text says, and a controller that is killed."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import pathlib
import signal
import subprocess

from support.faults import Fault, until
from support.fleet import BUILD, ROOT, Fleet

# Everything that a shell, a template or JSON may take for something else.
SHELL_KEY = r"""sk-$(touch /tmp/owned) `id` "two" 'one' \ ; && | > < * ? ~ # ! % {{ 7 * 7 }} {% raw %}"""


def test_wrong_flag_in_a_spec(fleet: Fleet, fault: Fault) -> None:
    fault.name = "wrong option in a spec"
    fleet.models = [fleet.model("fault-flag", engine={"max_model_length": 1024})]
    fault.begins()
    played = fleet.deploy()
    fault.ends()
    assert played.rc != 0
    assert "engine.max_model_length" in played.failure and "Did you mean max_model_len?" in played.failure
    assert fleet.containers() == {}
    fault.seen(played.failure, "nothing; no host was touched")


def ask(fleet: Fleet, key: str) -> int:
    """Status of a request with this key."""
    connection = http.client.HTTPConnection("127.0.0.1", fleet.first_port, timeout=120)
    connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}".encode()})
    return connection.getresponse().status


def test_secret_with_shell_characters(fleet: Fleet, fault: Fault) -> None:
    fault.name = "secret with shell characters, quotes and template signs"
    # What a look-up gives is never taken for a template.
    (fleet.folder / "key").write_text(SHELL_KEY, encoding="utf-8")
    fleet.models = [
        fleet.model("fault-key", secrets={"api_key": "{{ lookup('file', '" + str(fleet.folder / "key") + "') }}"})
    ]
    fault.begins()
    played = fleet.deploy("-vv", "--diff")
    fault.ends()
    assert played.rc == 0, played.output
    assert (ask(fleet, SHELL_KEY), ask(fleet, "sk-other")) == (200, 401)
    (container,) = fleet.containers().values()
    places = {
        "output": played.output,
        "inspect": json.dumps(container.attrs, ensure_ascii=False),
        "log": container.logs().decode(),
        "arguments": " ".join(" ".join(row) for row in container.top()["Processes"]),
    }
    for place, text in places.items():
        assert "touch /tmp/owned" not in text, place
    assert container.exec_run(["test", "-e", "/tmp/owned"]).exit_code == 1
    assert fleet.deploy().unchanged
    fault.seen(
        "ready; 200 with the key, 401 without; the key is in no argument, inspection, log or output",
        "the server, ready",
    )


def is_free(lock: pathlib.Path) -> bool:
    """Whether no run on the host has the lock."""
    with lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_controller_killed(fleet: Fleet, fault: Fault) -> None:
    fault.name = "ansible-playbook killed (SIGKILL) while a server starts"
    fleet.models = [fleet.model("fault-killed", env={"STAND_IN_START_SECONDS": "4"})]
    assert fleet.play("plan", server_allow_stand_in=True).rc == 0  # writes the inventory
    log = fleet.folder / "killed.log"
    run = subprocess.Popen(
        [
            str(BUILD / f"venv-core-{fleet.core}/bin/ansible-playbook"),
            "-i",
            str(fleet.folder / "hosts.yml"),
            str(ROOT / "playbooks/deploy.yml"),
            "-e",
            json.dumps({"server_allow_stand_in": True}),
        ],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(fleet.collections), "ANSIBLE_HOME": str(BUILD / "ansible")},
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert until(fleet.containers), log.read_text(encoding="utf-8")
    # The controller and all that it has started here, the module among them.
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    # The job on the host has a session of its own (ansible-core's async_wrapper) and goes on. A run that meets it is
    # refused, which is another row.
    assert until(lambda: is_free(fleet.state_dir / "lock"))
    fault.begins()
    played = fleet.deploy()
    fault.ends()
    assert played.rc == 0, played.output
    (result,) = played.results("vllm_servers")
    assert result["servers"][0]["state"] == "ready" and len(fleet.containers()) == 1
    assert fleet.deploy().unchanged
    steps = ", ".join(one["action"] for one in result["actions"]) or "nothing left to do, for the module had gone on"
    fault.seen(f"the next run: {steps}", "the server, ready")
