# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What starts tell of their memory, kept on the host. The tests follow each other on one fleet."""

from __future__ import annotations

import json
import typing as t

import pytest

from support.fleet import Fleet

KEY = "sk-measured-51c0"


@pytest.fixture(scope="module")
def two(fleets: t.Callable[[], Fleet]) -> Fleet:
    """A model with two replicas and a secret, and one whose KV cache is what its share leaves."""
    fleet = fleets()
    shared = {"max_model_len": 1024, "gpu_memory_utilization": 0.15}
    # Slow enough that all that they tell is read before they answer.
    slow = {"STAND_IN_START_SECONDS": "4"}
    fleet.models = [
        fleet.model("meas-a", replicas=2, secrets={"api_key": KEY}, env=dict(slow)),
        fleet.model("meas-b", engine=shared, env=dict(slow)),
    ]
    return fleet


def kept(fleet: Fleet) -> list[dict[str, t.Any]]:
    """The measurements on the host."""
    lines = (fleet.state_dir / "measured.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_each_start_tells_and_starts_of_one_kind_are_kept_once(two: Fleet) -> None:
    played = two.deploy()
    assert played.rc == 0, played.output
    (result,) = played.results("vllm_servers")
    measured = {server["name"]: server["memory"]["measured"] for server in result["servers"]}
    assert {name: one["available_kv_gib"] for name, one in measured.items()} == {
        "vllm-meas-a-0": 0.25,
        "vllm-meas-a-1": 0.25,
        "vllm-meas-b-0": 1.3,
    }
    first = next(server for server in result["servers"] if server["name"] == "vllm-meas-a-0")["memory"]
    assert first["predicted"]["available_kv_gib"] == 0.25
    assert first["difference"]["available_kv_gib"] == 0
    assert "memory: KV cache 0.25 GiB (predicted 0.25), 2,097,152 tokens" in played.output
    assert sorted(entry["measured"]["available_kv_gib"] for entry in kept(two)) == [0.25, 1.3]
    assert KEY not in (two.state_dir / "measured.jsonl").read_text(encoding="utf-8")


def test_a_run_that_starts_nothing_tells_nothing(two: Fleet) -> None:
    before = (two.state_dir / "measured.jsonl").stat().st_mtime_ns
    again = two.deploy()
    assert again.unchanged
    assert [server["memory"] for server in again.results("vllm_servers")[0]["servers"]] == [None] * 3
    assert (two.state_dir / "measured.jsonl").stat().st_mtime_ns == before


def test_the_next_plan_uses_it(two: Fleet) -> None:
    (plan,) = two.play("plan", server_allow_stand_in=True).results("fleet_plan")
    found = {one["server"]: one["ledger"] for one in plan["placements"]}
    assert any("corrected by 1 earlier start" in note for note in found["vllm-meas-b-0"]["notes"])
    terms = {term["name"]: term["expected"] for term in found["vllm-meas-b-0"]["terms"]}
    assert (terms["weights"] + terms["runtime"]) / 2**30 == pytest.approx(0.53, abs=0.01)


def test_a_start_that_fails_after_it_told_is_kept_as_well(two: Fleet) -> None:
    before = kept(two)
    two.models[1]["env"]["STAND_IN_DIE_AT"] = "warmup"
    failed = two.deploy()
    del two.models[1]["env"]["STAND_IN_DIE_AT"]
    assert failed.rc != 0
    after = kept(two)
    # The variable is none that decides about memory, so the start counts as one of the same kind.
    assert len(after) == len(before)
    assert after[-1]["server"] == "vllm-meas-b-0"
    assert after[-1]["at"] > max(entry["at"] for entry in before)


def test_a_file_of_another_form_stops_nothing(two: Fleet) -> None:
    (two.state_dir / "measured.jsonl").write_text(
        '{"key": {"same": [], "load": 1}, "measured": {}}\n{"key": {}, "measured": {}}\nnothing\n', encoding="utf-8"
    )
    two.models[1]["engine"]["max_model_len"] = 512
    played = two.deploy()
    assert played.rc == 0, played.output
    assert [entry["measured"].get("max_concurrency_len") for entry in kept(two)][-1] == 512
