# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline on the real Docker Engine. The tests follow each other on one fleet, as runs do in real life."""

from __future__ import annotations

import json
import typing as t
import urllib.request

import pytest
import yaml

from support.fleet import Fleet

PREDICTED = ("changed", "actions", "diff")


def get(url: str) -> t.Any:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=120) as answer:
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def two(fleets: t.Callable[[], Fleet]) -> Fleet:
    """Two models, one of them with two replicas; the first test deploys them."""
    fleet = fleets()
    # Slow enough that its stages are read before the server answers.
    slow = {"STAND_IN_START_SECONDS": "4"}
    fleet.models = [fleet.model("a", replicas=2, env=slow), fleet.model("b")]
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
    assert again.unchanged
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
    two.containers()["vllm-a-0"].stop(timeout=30)
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
    assert kept.unchanged and two.identities() == before
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
