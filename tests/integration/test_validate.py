# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""model_validate and upgrade_check through ansible-playbook: all is said, nothing is touched, no secret is shown."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml

from support.fleet import Fleet, Played

SECRET = "s3cr3t-of-this-test"
GOOD: dict[str, t.Any] = {
    "name": "good",
    "model": "Qwen/Qwen3-0.6B",
    "image": "vllm/vllm-openai:v0.33.0",
    "engine": {"max_model_len": 1024},
    "secrets": {"api_key": SECRET, "hub_token": SECRET + "-2"},
}
MODES = pytest.mark.parametrize("mode", [[], ["--check"]], ids=["run", "check"])


def task(fleet: Fleet, tmp_path: pathlib.Path, module: str, *arguments: str, **options: t.Any) -> Played:
    """Run one task of the module on localhost. Its models come from the inventory, as they do in life."""
    call = {"models": "{{ vllm_models }}", **options}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [{"name": "Ask", f"gpufleet.vllm.{module}": call}],
    }
    path = tmp_path / "play.yml"
    path.write_text(yaml.safe_dump([play]), encoding="utf-8")
    played = fleet.play(str(path), "-vvv", *arguments)
    assert "Traceback" not in played.output
    assert SECRET not in played.output and SECRET not in str(played.records)
    assert not fleet.containers() and not fleet.state_dir.exists()
    return played


@MODES
def test_sound_models_are_valid(fleet: Fleet, tmp_path: pathlib.Path, mode: list[str]) -> None:
    fleet.models = [GOOD, {**GOOD, "name": "older", "image": "vllm/vllm-openai:v0.11.0"}]
    played = task(fleet, tmp_path, "model_validate", *mode)
    assert played.unchanged
    (result,) = played.results("model_validate")
    assert result["valid"] is True and result["messages"] == []
    good, older = result["models"]
    assert (good["release"], older["release"]) == ("0.33.0", "0.11.0")
    assert good["argv"][0] == "Qwen/Qwen3-0.6B" and older["argv"][:2] == ["--model", "Qwen/Qwen3-0.6B"]
    assert good["env"]["HF_TOKEN_PATH"]


@MODES
def test_all_problems_come_in_one_failure(fleet: Fleet, tmp_path: pathlib.Path, mode: list[str]) -> None:
    fleet.models = [
        {**GOOD, "engine": {"max_model_length": 8, "max_num_seqs": "few", "api_key": SECRET}},
        {**GOOD, "name": "second", "replcas": 2},
        {**GOOD, "name": "third", "image": "registry.example/vllm:latest"},
        {**GOOD, "name": "fourth"},
    ]
    played = task(fleet, tmp_path, "model_validate", *mode)
    assert played.rc != 0
    message = played.failure
    assert message.startswith("5 problems")
    for part in ("engine.max_model_length", "engine.max_num_seqs", "engine.api_key", "second: replcas", "third: image"):
        assert part in message
    (result,) = played.results("model_validate")
    assert result["valid"] is False and len(result["messages"]) == 5
    # What is sound is rendered nonetheless.
    assert [model["argv"] is not None for model in result["models"]] == [False, True]


def test_a_warning_fails_only_where_it_is_taken_for_an_error(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet.models = [{**GOOD, "env": {"VLLM_NO_SUCH_VARIABLE": "1"}}]
    played = task(fleet, tmp_path, "model_validate")
    assert played.unchanged and "VLLM_NO_SUCH_VARIABLE" in played.output
    assert [one["severity"] for one in played.results("model_validate")[0]["messages"]] == ["warning"]
    strict = task(fleet, tmp_path, "model_validate", strict=True)
    assert strict.rc != 0 and "VLLM_NO_SUCH_VARIABLE" in strict.failure


def test_one_release_for_all(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet.models = [{**GOOD, "image": "registry.example/vllm:latest"}]
    played = task(fleet, tmp_path, "model_validate", release="0.10.2")
    assert played.results("model_validate")[0]["models"][0]["release"] == "0.10.2"


@pytest.mark.parametrize("models", [None, "text", [7], {"name": "x"}])
def test_odd_models_are_refused_in_words(fleet: Fleet, tmp_path: pathlib.Path, models: t.Any) -> None:
    for module, options in (("model_validate", {}), ("upgrade_check", {"release": "0.33.0"})):
        fleet.models = models if models is not None else {}
        played = task(fleet, tmp_path, module, **options)
        assert played.rc != 0 and "problem" in played.failure


@MODES
def test_an_upgrade_is_reported_and_stops_nothing(fleet: Fleet, tmp_path: pathlib.Path, mode: list[str]) -> None:
    old = {**GOOD, "image": "vllm/vllm-openai:v0.10.2", "engine": {"swap_space": 4}}
    fleet.models = [old, {**GOOD, "name": "other", "image": "vllm/vllm-openai:v0.19.1"}]
    played = task(fleet, tmp_path, "upgrade_check", *mode, release="0.33.0")
    assert played.unchanged
    (result,) = played.results("upgrade_check")
    assert (result["release"], result["breaks"], result["upgradable"]) == ("0.33.0", 1, False)
    first, other = result["models"]
    assert [one["field"] for one in first["breaks"]] == ["engine.swap_space"]
    assert (first["current"], other["current"]) == ("0.10.2", "0.19.1")
    assert "gpu_memory_utilization" in [one["topic"] for one in other["changed_defaults"]]
    assert "UPGRADE to vLLM 0.33.0: 1 of 2 cannot start there as declared: good" in played.output
    assert result["text"][0] in played.output


def test_a_strict_upgrade_check_fails_where_something_breaks(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet.models = [{**GOOD, "image": "vllm/vllm-openai:v0.10.2", "engine": {"swap_space": 4}}]
    played = task(fleet, tmp_path, "upgrade_check", release="0.33.0", strict=True)
    assert played.rc != 0 and "engine.swap_space" in played.failure
    fleet.models = [{**GOOD, "image": "vllm/vllm-openai:v0.10.2"}]
    assert task(fleet, tmp_path, "upgrade_check", release="0.33.0", strict=True, show=False).unchanged


def playbook(fleet: Fleet, *arguments: str, **extra: t.Any) -> Played:
    """Run the playbook, which touches nothing."""
    played = fleet.play("upgrade_check", *arguments, **extra)
    assert "Traceback" not in played.output
    assert not fleet.containers() and not fleet.state_dir.exists()
    return played


@MODES
def test_the_playbook_compares_what_the_hosts_have(fleet: Fleet, mode: list[str]) -> None:
    fleet.models = [fleet.model()]
    played = playbook(fleet, *mode, upgrade_release="0.33.0")
    assert played.unchanged
    (result,) = played.results("upgrade_check")
    (model,) = result["models"]
    # The stand-in says that it is 0.32.0.
    assert (model["current"], result["release"], result["upgradable"]) == ("0.32.0", "0.33.0", True)
    assert "probe: 0.32.0 -> 0.33.0" in played.output
    assert model["memory"], "the tiny model is on the host, so its memory is known"


def test_the_playbook_takes_the_tag_where_no_host_has_the_image(fleet: Fleet) -> None:
    fleet.models = [{**GOOD, "image": "vllm/vllm-openai:v0.10.2", "engine": {"swap_space": 4}}]
    played = playbook(fleet, upgrade_release="0.33.0")
    assert played.unchanged
    (result,) = played.results("upgrade_check")
    assert result["models"][0]["current"] == "0.10.2" and result["breaks"] == 1
    assert playbook(fleet, upgrade_release="0.33.0", upgrade_strict=True).rc != 0
    newer = playbook(fleet, upgrade_release="0.33.0", upgrade_current="0.33.0").results("upgrade_check")[0]
    assert newer["breaks"] == 0 and not newer["upgradable"]


def test_the_playbook_asks_for_what_it_needs(fleet: Fleet) -> None:
    fleet.models = [fleet.model()]
    without = playbook(fleet)
    assert without.rc != 0 and "upgrade_release=0.33.0" in without.failure
    fleet.models = None
    undeclared = playbook(fleet, upgrade_release="0.33.0")
    assert undeclared.rc != 0 and "vllm_models is not declared" in undeclared.failure
