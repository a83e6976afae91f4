# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""States, several hosts, teardown, and old targets."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml

from support.fleet import BUILD, Fleet


@pytest.fixture(scope="module")
def states(fleets: t.Callable[[], Fleet]) -> Fleet:
    """A deployed server, and in planned the arguments of the task that deployed it."""
    fleet = fleets()
    fleet.models = [fleet.model("state")]
    played = fleet.deploy()
    assert played.rc == 0, played.output
    servers = played.results("fleet_plan")[0]["hosts"]["one"]
    fleet.planned = {"servers": servers, "fleet": fleet.name, "state_dir": str(fleet.state_dir)}
    return fleet


@pytest.mark.parametrize(
    ("state", "changed", "status"),
    [
        ("present", False, "running"),
        ("stopped", True, "exited"),
        ("stopped", False, "exited"),
        ("present", False, "exited"),
        ("restarted", True, "running"),
        ("absent", True, None),
    ],
)
def test_each_state_is_reached_as_check_mode_predicts(
    states: Fleet, state: str, changed: bool, status: str | None
) -> None:
    before = states.identities()
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [{"gpufleet.vllm.vllm_servers": {**states.planned, "state": state}}],
        }
    ]
    path = states.folder / "state.yml"
    path.write_text(yaml.safe_dump(play), encoding="utf-8")
    (predicted,) = states.play(str(path), "--check").results("vllm_servers")
    assert states.identities() == before
    played = states.play(str(path))
    assert played.rc == 0, played.output
    (real,) = played.results("vllm_servers")
    assert (real["changed"], real["actions"]) == (predicted["changed"], predicted["actions"])
    assert real["changed"] == changed
    containers = states.containers()
    if status is None:
        assert not containers
        return
    assert {one.status for one in containers.values()} == {status}
    assert {name: one.id for name, one in containers.items()} == {name: one[0] for name, one in before.items()}


def test_replicas_spread_over_hosts_and_teardown_leaves_strangers(fleet: Fleet) -> None:
    fleet.models = [fleet.model("spread", replicas=2)]
    fleet.host_vars = {
        name: {
            "host_fleet": f"{fleet.name}-{name}",
            "host_state_dir": str(fleet.state_dir / name),
            "host_port_range": [fleet.first_port + offset, fleet.first_port + offset + 9],
        }
        for name, offset in (("left", 0), ("right", 10))
    }
    played = fleet.deploy()
    assert played.rc == 0, played.output
    (plan,) = played.results("fleet_plan")
    assert {one["server"]: one["host"] for one in plan["placements"]} == {
        "vllm-spread-0": "left",
        "vllm-spread-1": "right",
    }
    stranger = fleet.docker.containers.create(fleet.stand_in, name=f"{fleet.name}-stranger")
    try:
        removed = fleet.play("teardown")
        assert removed.rc == 0, removed.output
        assert not fleet.containers()
        assert fleet.docker.containers.get(stranger.id).status == "created"
        assert fleet.play("teardown").unchanged
    finally:
        stranger.remove(force=True)


def test_modules_run_on_a_target_with_the_oldest_python(fleet: Fleet) -> None:
    interpreter = BUILD / "venv-target-3.9" / "bin" / "python"
    assert pathlib.Path(interpreter).exists(), "make integration makes it: tools/venvs.sh target-3.9"
    fleet.host_vars = {"old": {"ansible_python_interpreter": str(interpreter)}}
    fleet.models = [fleet.model("old")]
    played = fleet.deploy()
    assert played.rc == 0, played.output
    assert fleet.deploy().unchanged
