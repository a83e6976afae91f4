# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The task that follows a run on a host: it ends when the run was killed, and the next one mends what is left."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import threading
import time

from support.fleet import LABEL_FLEET, Fleet, Played


def test_a_run_killed_on_the_host_is_not_followed_for_ever(fleet: Fleet) -> None:
    fleet.models = [fleet.model("followed", env={"STAND_IN_START_SECONDS": "40"})]
    mine = {"label": f"{LABEL_FLEET}={fleet.name}"}
    played: list[Played] = []
    thread = threading.Thread(target=lambda: played.append(fleet.deploy()))
    thread.start()
    end = time.monotonic() + 600
    # The running ones of this fleet alone: those of others may vanish while they are listed.
    while thread.is_alive() and time.monotonic() < end and not fleet.docker.api.containers(filters=mine):
        time.sleep(0.2)
    assert not played, played[0].output
    module = int(json.loads((fleet.state_dir / "lock").read_text(encoding="utf-8"))["pid"])
    # The fourth field is the parent's ID (proc(5)): the wrapper of asynchronous jobs, which would tell of the death.
    status = pathlib.Path(f"/proc/{module}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    os.kill(int(status[1]), signal.SIGKILL)
    os.kill(module, signal.SIGKILL)
    thread.join(timeout=600)
    assert not thread.is_alive()
    assert played[0].rc != 0
    assert "killed on the host" in played[0].failure
    again = fleet.deploy()
    assert again.rc == 0, again.output
    assert [one["State"] for one in fleet.docker.api.containers(all=True, filters=mine)] == ["running"]
