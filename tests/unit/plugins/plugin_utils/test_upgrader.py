# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet at two releases."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Invalid
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._upgrader import check_upgrade
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validator import validate_models
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import (
    GIB,
    absent_model,
    card,
    cpu_host,
    cpu_spec,
    h100_host,
    host,
    image,
    model,
    rtx_host,
    spec,
    weights,
)


def at(version: str, **engine: t.Any) -> dict[str, t.Any]:
    """A model on the published image of this release."""
    return spec(image=f"vllm/vllm-openai:v{version}", engine={"max_model_len": 8192, **engine})


def one(declared: dict[str, t.Any], release: str, **arguments: t.Any) -> dict[str, t.Any]:
    """What changes for a single model."""
    found = check_upgrade([declared], release, **arguments)
    json.dumps(found)
    return found["models"][0]


def fields(messages: list[dict[str, t.Any]]) -> list[str]:
    return [message["field"] for message in messages]


def topics(found: dict[str, t.Any]) -> set[str]:
    return {change["topic"] for change in found["changed_defaults"]}


# Options and the release after which they are gone (parsers of both releases), and whether something replaces them.
@pytest.mark.parametrize(
    ("before", "after", "option", "value", "has_remedy"),
    [
        ("0.6.6", "0.33.0", "num_scheduler_steps", 8, True),
        ("0.10.2", "0.11.0", "max_seq_len_to_capture", 8192, True),
        ("0.10.1", "0.10.2", "prefix_caching_hash_algo", "builtin", True),
        ("0.11.2", "0.12.0", "guided_decoding_backend", "xgrammar", True),
        ("0.17.1", "0.18.0", "swap_space", 4, None),
    ],
)
def test_what_breaks(before: str, after: str, option: str, value: t.Any, has_remedy: bool | None) -> None:
    found = check_upgrade([at(before, **{option: value})], after)
    (changed,) = found["models"]
    assert fields(changed["breaks"]) == [f"engine.{option}"]
    assert changed["already_broken"] == []
    assert (found["breaks"], found["upgradable"]) == (1, False)
    assert (changed["current"], found["release"]) == (before, after)
    if has_remedy:
        assert changed["breaks"][0]["remedy"] is not None
        assert changed["engine"].get(option) != value
    if changed["breaks"][0]["remedy"] is not None:
        # What is proposed starts there.
        assert not validate_models([spec(engine=changed["engine"])], after).errors


def test_the_landmarks_between_the_oldest_and_the_newest() -> None:
    found = one(at("0.6.6"), "0.33.0")
    assert found["breaks"] == []
    assert topics(found) >= {
        "gpu_memory_utilization",
        "max_num_seqs",
        "generation_config",
        "allowed_origins",
        "enable_prefix_caching",
        "the V1 engine",
        "the V0 engine",
        "request logging",
        "FlashInfer's sampler",
    }
    assert {one["fact"] for one in found["image"]} >= {"entrypoint", "cuda"}
    assert "vllm:gpu_cache_usage_perc" in [metric["name"] for metric in found["metrics"]]


@pytest.mark.parametrize(
    ("before", "after", "there", "absent"),
    [
        ("0.10.2", "0.11.0", "the V0 engine", "the V1 engine"),
        ("0.31.0", "0.32.0", "allowed_origins", "gpu_memory_utilization"),
        ("0.19.1", "0.20.0", "gpu_memory_utilization", "allowed_origins"),
        ("0.32.0", "0.31.0", "allowed_origins", "the V0 engine"),
        ("0.33.0", "0.7.3", "the V1 engine", "no such"),
    ],
)
def test_landmarks(before: str, after: str, there: str, absent: str) -> None:
    found = topics(one(at(before), after))
    assert there in found and absent not in found


def test_nothing_changes_from_a_release_to_itself() -> None:
    found = check_upgrade([at("0.33.0")], "0.33.0", inspections={"g": rtx_host()})
    (changed,) = found["models"]
    assert found["upgradable"] and found["breaks"] == 0
    for part in ("breaks", "already_broken", "deprecations", "changed_defaults", "image", "metrics", "routes"):
        assert changed[part] == [], part
    assert changed["memory"][0]["before"] == changed["memory"][0]["after"]


def test_a_downgrade_breaks_what_is_too_new() -> None:
    found = one(at("0.33.0", optimization_level=1), "0.11.0")
    assert fields(found["breaks"]) == ["engine.optimization_level"]


def test_what_is_wrong_already_is_no_break() -> None:
    found = check_upgrade([at("0.32.0", no_such_option=1)], "0.33.0")
    assert found["breaks"] == 0 and not found["upgradable"]
    assert fields(found["models"][0]["already_broken"]) == ["engine.no_such_option"]


def test_a_new_warning() -> None:
    # 0.17.0 is the first release that does not know this variable's purpose any more; see its envs.py and 0.14.1's.
    declared = {**at("0.14.1"), "env": {"VLLM_FLASH_ATTN_VERSION": "2"}}
    found = one(declared, "0.15.0")
    named = fields(found["deprecations"]) + fields(found["breaks"])
    assert named == ["env.VLLM_FLASH_ATTN_VERSION"]


def test_the_present_release_may_be_given() -> None:
    assert one(at("0.33.0"), "0.33.0", current="0.19.1")["current"] == "0.19.1"
    floating = spec(image="registry.example/vllm:latest")
    assert one(floating, "0.33.0", current="0.19.1")["current"] == "0.19.1"
    with pytest.raises(Invalid, match="Set current"):
        check_upgrade([floating], "0.33.0")


def test_the_present_release_is_what_the_image_holds() -> None:
    hosts = {"g": rtx_host(images=[image(version="0.19.1")])}
    assert one(spec(), "0.33.0", inspections=hosts)["current"] == "0.19.1"


def test_releases_that_are_not_catalogued_stand_for_the_nearest() -> None:
    found = check_upgrade([at("0.19.9")], "0.99.0")
    assert (found["release"], found["models"][0]["current"]) == ("0.33.0", "0.19.1")
    assert "0.99.0" in found["note"] and "0.19.9" in found["models"][0]["note"]


def test_malformed_models_are_refused_with_all_problems() -> None:
    with pytest.raises(Invalid) as caught:
        check_upgrade([spec("a", replcas=1), spec("b", image=7, port=1)], "0.33.0")
    assert {problem.where for problem in caught.value.problems} == {"a", "b"}


def test_memory_side_by_side() -> None:
    hosts = {"g": rtx_host(), "h": h100_host()}
    found = one(spec(), "0.33.0", current="0.19.1", inspections=hosts)
    assert {memory["device"] for memory in found["memory"]} == {"NVIDIA GeForce RTX 4090", "NVIDIA H100 80GB HBM3"}
    for memory in found["memory"]:
        assert memory["after"]["budget"] > memory["before"]["budget"]
        assert memory["after"]["tokens"] != memory["before"]["tokens"]
    (utilization,) = [one for one in found["changed_defaults"] if one["topic"] == "gpu_memory_utilization"]
    assert "+0.47 GiB on NVIDIA GeForce RTX 4090" in utilization["means"]


@pytest.mark.parametrize("hosts", [None, {"g": rtx_host(models=[absent_model()])}, {"n": host()}])
def test_memory_is_unknown_without_files_and_devices(hosts: t.Any) -> None:
    assert one(spec(), "0.33.0", current="0.19.1", inspections=hosts)["memory"] == []


def test_a_model_that_has_no_room_any_more_breaks() -> None:
    # From 0.20.0 on the graphs' memory is taken from the KV cache: what just fits before does not afterwards.
    gpu = card(0, "NVIDIA L4", int(22 * GIB))
    tight = model(weights=weights(int(18.0 * GIB)))
    declared = spec(engine={"max_model_len": 8192, "gpu_memory_utilization": 0.93})
    found = one(declared, "0.33.0", current="0.19.1", inspections={"g": host(gpu, models=[tight])})
    (memory,) = found["memory"]
    assert (memory["before"]["verdict"] != "misfit", memory["after"]["verdict"]) == (True, "misfit")
    assert fields(found["breaks"]) == ["engine.max_model_len"]
    assert "NVIDIA L4" in found["breaks"][0]["reason"]


def test_the_build_for_the_cpu() -> None:
    found = one(cpu_spec(), "0.33.0", current="0.19.1", inspections={"c": cpu_host()})
    assert [memory["device"] for memory in found["memory"]] == ["the CPU of c"]
    assert all(change["devices"] == () or list(change["devices"]) == [] for change in found["changed_defaults"])


@pytest.mark.parametrize("gpus", [[1], {"name": "*H100*"}, {"memory": "80GiB"}])
def test_the_gpus_that_the_model_asks_for_count(gpus: t.Any) -> None:
    mixed = host(card(0, "NVIDIA L4", 22 * GIB), card(1, "NVIDIA H100 80GB HBM3", 79 * GIB))
    declared = spec(placement={"gpus": gpus})
    found = one(declared, "0.33.0", current="0.19.1", inspections={"g": mixed})
    assert [memory["device"] for memory in found["memory"]] == ["NVIDIA H100 80GB HBM3"]


def test_secrets_are_nowhere() -> None:
    declared = {**at("0.19.1", api_key="HIDDEN-1"), "secrets": {"api_key": "HIDDEN-2"}}
    assert "HIDDEN" not in json.dumps(check_upgrade([declared], "0.33.0"))
