# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline on the real Docker Engine. The tests of a file follow each other on one fleet, as runs do in real life."""

from __future__ import annotations

import json
import pathlib
import typing as t
import urllib.request

import pytest
import yaml

from support.fleet import BUILD, Fleet

PREDICTED = ("changed", "actions", "diff")


def get(url: str) -> t.Any:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def two(fleets: t.Callable[[], Fleet]) -> Fleet:
    """Two models, one of them with two replicas; the first test deploys them."""
    fleet = fleets()
    fleet.models = [fleet.model("a", replicas=2), fleet.model("b")]
    return fleet


def test_check_mode_predicts_the_deployment_and_touches_nothing(two: Fleet) -> None:
    predicted = two.deploy("--check", "--diff")
    assert predicted.rc == 0, predicted.output
    assert not two.containers()
    assert not two.state_dir.exists()
    real = two.deploy("--diff")
    assert real.rc == 0, real.output
    (before,), (after,) = predicted.results("vllm_servers"), real.results("vllm_servers")
    assert [before[key] for key in PREDICTED] == [after[key] for key in PREDICTED]
    assert [one["action"] for one in before["actions"]] == ["create"] * 3
    assert {"argv", "env", "image", "mounts"} <= set(after["diff"]["after"]["vllm-a-0"])
    assert [server["state"] for server in after["servers"]] == ["ready"] * 3
    # The stages were shown while the task ran, not only in its result.
    assert "one | vllm-a-0 |" in real.output and "loading weights" in real.output


def test_second_run_changes_nothing_and_touches_no_container(two: Fleet) -> None:
    before = two.identities()
    assert sorted(before) == ["vllm-a-0", "vllm-a-1", "vllm-b-0"]
    again = two.deploy()
    assert again.rc == 0, again.output
    assert not again.changed
    assert two.identities() == before


def test_changing_one_option_replaces_exactly_that_server(two: Fleet) -> None:
    before = two.identities()
    two.models[1]["engine"]["max_model_len"] = 512
    (planned,) = two.play("plan", server_allow_stand_in=True).results("vllm_servers")
    assert two.identities() == before
    (real,) = two.deploy("--diff").results("vllm_servers")
    assert [real[key] for key in PREDICTED] == [planned[key] for key in PREDICTED]
    assert real["actions"] == [{"server": "vllm-b-0", "action": "replace", "because": ["argv"]}]
    argv = real["diff"]["after"]["vllm-b-0"]["argv"]
    assert argv[argv.index("--max-model-len") + 1] == "512"
    after = two.identities()
    assert [name for name in after if after[name] != before[name]] == ["vllm-b-0"]


def test_a_container_changed_by_hand_is_mended(two: Fleet) -> None:
    two.containers()["vllm-a-0"].stop(timeout=5)
    two.containers()["vllm-a-1"].remove(force=True)
    kept = two.identities()["vllm-b-0"]
    (result,) = two.deploy().results("vllm_servers")
    done = {(one["server"], one["action"]) for one in result["actions"]}
    assert done == {("vllm-a-0", "start"), ("vllm-a-1", "create")}
    assert two.identities()["vllm-b-0"] == kept


def test_a_start_that_fails_puts_the_former_server_back_and_names_the_cause(two: Fleet) -> None:
    before = two.identities()
    working = two.models[1]["env"]
    two.models[1]["env"] = {
        **working,
        "STAND_IN_DIE_AT": "weights",
        "STAND_IN_DIE_TEXT": "RuntimeError: Cannot find any model weights with `/models/b`",
    }
    failed = two.deploy()
    two.models[1]["env"] = working
    assert failed.rc != 0
    first = failed.failure.splitlines()[0]
    assert "vllm-b-0" in first and "/models/b" in first and "Complete the download" in first
    (result,) = failed.results("vllm_servers")
    (failure,) = result["failures"]
    assert (failure["kind"], failure["exit_code"]) == ("exited", 1)
    assert failure["restored"] == "the former container serves again"
    assert result["diagnosis"][0]["causes"][0]["id"] == "weights-not-found"
    after = two.containers()
    assert {name: one.id for name, one in after.items()} == {name: one[0] for name, one in before.items()}
    port = after["vllm-b-0"].attrs["HostConfig"]["PortBindings"]["8000/tcp"][0]["HostPort"]
    assert get(f"http://127.0.0.1:{port}/v1/models")["data"][0]["id"] == "b"


def test_a_model_that_left_the_inventory_is_removed_with_prune_only(two: Fleet) -> None:
    before = two.identities()
    del two.models[1]
    kept = two.deploy()
    assert not kept.changed and two.identities() == before
    assert "prune" in kept.output and "vllm-b-0" in kept.output
    pruned = two.deploy(server_prune=True)
    assert pruned.rc == 0, pruned.output
    assert two.identities() == {name: before[name] for name in ("vllm-a-0", "vllm-a-1")}


def test_status_shows_the_fleet_and_the_action_group_has_the_modules(two: Fleet) -> None:
    status = two.play("status")
    assert status.rc == 0 and not status.changed, status.output
    table = "\n".join(status.results("fleet_report")[0]["text"])
    assert "vllm-a-0" in table and "vllm-a-1" in table and table.count("ready") == 2
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "module_defaults": {"group/gpufleet.vllm.vllm": {"fleet": two.name}},
            "tasks": [{"gpufleet.vllm.vllm_info": {}}],
        }
    ]
    path = two.folder / "info.yml"
    path.write_text(yaml.safe_dump(play), encoding="utf-8")
    (info,) = two.play(str(path)).results("vllm_info")
    assert [server["name"] for server in info["servers"]] == ["vllm-a-0", "vllm-a-1"]
    assert info["servers"][0]["version"].startswith("0.32.0")
    assert info["servers"][0]["metrics"]["generation_tokens_total"] >= 1


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
    two: Fleet, state: str, changed: bool, status: str | None
) -> None:
    before = two.identities()
    (predicted,) = two.deploy("--check", server_state=state).results("vllm_servers")
    assert two.identities() == before
    played = two.deploy(server_state=state)
    assert played.rc == 0, played.output
    (real,) = played.results("vllm_servers")
    assert (real["changed"], real["actions"]) == (predicted["changed"], predicted["actions"])
    assert real["changed"] == changed
    containers = two.containers()
    if status is None:
        assert not containers
        return
    assert {one.status for one in containers.values()} == {status}
    assert {name: one.id for name, one in containers.items()} == {name: one[0] for name, one in before.items()}


def test_replicas_spread_over_hosts_and_teardown_leaves_strangers(two: Fleet) -> None:
    two.host_vars = {
        name: {
            "host_fleet": f"{two.name}-{name}",
            "host_state_dir": str(two.state_dir / name),
            "host_port_range": [two.first_port + offset, two.first_port + offset + 9],
        }
        for name, offset in (("left", 0), ("right", 10))
    }
    played = two.deploy()
    assert played.rc == 0, played.output
    (plan,) = played.results("fleet_plan")
    assert {one["server"]: one["host"] for one in plan["placements"]} == {"vllm-a-0": "left", "vllm-a-1": "right"}
    stranger = two.docker.containers.create(two.stand_in, name=f"{two.name}-stranger")
    try:
        removed = two.play("teardown")
        assert removed.rc == 0, removed.output
        assert not two.containers()
        assert two.docker.containers.get(stranger.id).status == "created"
        assert not two.play("teardown").changed
    finally:
        stranger.remove(force=True)


def test_modules_run_on_a_target_with_the_oldest_python(fleet: Fleet) -> None:
    interpreter = BUILD / "venv-target-3.9" / "bin" / "python"
    assert pathlib.Path(interpreter).exists(), "make integration makes it: tools/venvs.sh target-3.9"
    fleet.host_vars = {"old": {"ansible_python_interpreter": str(interpreter)}}
    fleet.models = [fleet.model("old")]
    played = fleet.deploy()
    assert played.rc == 0, played.output
    assert not fleet.deploy().changed
