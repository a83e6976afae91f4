# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vram_fit and its playbooks through ansible-playbook: what a user sees of memory, and that no host is touched."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
import yaml

from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils import builders
from support.fleet import Fleet, Played

SECRET = "s3cr3t-of-this-test"
LONG = builders.spec(engine={"max_model_len": 40960}, secrets={"api_key": SECRET})
SHORT = builders.spec("short", engine={"max_model_len": 2048})
SMALL = [{"name": "NVIDIA T4", "memory_gib": 14.7, "count": 1}]
MODES = pytest.mark.parametrize("mode", [[], ["--check"]], ids=["run", "check"])


def ask(fleet: Fleet, folder: pathlib.Path, *arguments: str, **options: t.Any) -> Played:
    """Run one task of the module on localhost. Its models come from the inventory, as they do in life."""
    call = {"models": "{{ vllm_models }}", **options}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"name": "Ask", "gpufleet.vllm.vram_fit": call}]}
    path = folder / "play.yml"
    path.write_text(yaml.safe_dump([play]), encoding="utf-8")
    return checked(fleet, fleet.play(str(path), "-vvv", *arguments))


def checked(fleet: Fleet, played: Played) -> Played:
    assert "Traceback" not in played.output
    assert SECRET not in played.output and SECRET not in str(played.records)
    assert not fleet.containers() and not fleet.state_dir.exists()
    return played


def result(played: Played) -> dict[str, t.Any]:
    (found,) = played.results("vram_fit")
    return found


@MODES
def test_the_gpus_of_hosts_and_others(fleet: Fleet, tmp_path: pathlib.Path, mode: list[str]) -> None:
    fleet.models = [LONG, SHORT]
    hosts = {"lab": builders.rtx_host(), "big": builders.h100_host()}
    played = ask(fleet, tmp_path, *mode, inspections=hosts, devices=SMALL)
    assert played.unchanged
    found = result(played)
    assert found["fits"] and not found["problems"]
    long, _short = found["models"]
    verdicts = {one["device"]: one["verdict"] for one in long["devices"]}
    assert verdicts["NVIDIA H100 80GB HBM3"] == "fits" and verdicts["NVIDIA T4"] == "misfit"
    workstation = next(one for one in long["devices"] if one["device"] == "NVIDIA GeForce RTX 4090")
    assert workstation["hosts"] == ["lab"] and workstation["gpus_there"] == 2
    for line in found["text"]:
        assert line in played.output
    assert "MEMORY of qwen3-8b on NVIDIA T4: 14.70 GiB" in played.output


def test_strict_fails_where_a_model_fits_nowhere(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet.models = [LONG]
    known = [builders.model()]
    assert ask(fleet, tmp_path, devices=SMALL, profiles=known).unchanged
    played = ask(fleet, tmp_path, devices=SMALL, profiles=known, strict=True)
    assert played.rc != 0 and "qwen3-8b: fits on none of these devices (NVIDIA T4: misfit)" in played.failure
    assert "smaller weights" in played.output


def test_without_files_the_memory_is_unknown(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet.models = [LONG]
    played = ask(fleet, tmp_path, devices=SMALL, show=False)
    assert played.unchanged
    assert "not there yet" in result(played)["models"][0]["unknown"]


def test_all_problems_come_in_one_failure(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet.models = [LONG, {**SHORT, "replcas": 2}]
    devices = [*SMALL, {"name": "NVIDIA L4"}, 7]
    played = ask(fleet, tmp_path, devices=devices, profiles=[builders.model()])
    assert played.rc != 0 and played.failure.startswith("3 problems")
    for part in ("short: replcas", "devices[1]: memory_gib", "devices[2]"):
        assert part in played.failure
    # What is sound is computed nonetheless.
    assert [one["name"] for one in result(played)["models"]] == ["qwen3-8b"]


def test_files_are_written_where_they_differ(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet.models = [LONG, SHORT]
    options = {"devices": SMALL, "profiles": [builders.model()], "dest": str(tmp_path / "new/fit"), "show": False}
    folder = tmp_path / "new/fit"
    predicted = ask(fleet, tmp_path, "--check", "--diff", **options)
    assert predicted.changed and not folder.exists()
    assert len(result(predicted)["diff"]) == 3
    written = ask(fleet, tmp_path, "--diff", **options)
    assert written.changed and result(written)["diff"] == result(predicted)["diff"]
    assert sorted(path.name for path in folder.iterdir()) == ["fit.json", "qwen3-8b.svg", "short.svg"]
    data = json.loads((folder / "fit.json").read_text(encoding="utf-8"))
    assert data["models"] == result(written)["models"]
    assert SECRET not in "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
    assert ask(fleet, tmp_path, **options).unchanged
    (folder / "short.svg").unlink()
    again = ask(fleet, tmp_path, **options)
    assert again.changed and [one["after_header"] for one in result(again)["diff"]] == [str(folder / "short.svg")]


def test_a_folder_that_cannot_be_written_is_said(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet.models = [LONG]
    (tmp_path / "file").write_text("", encoding="utf-8")
    played = ask(fleet, tmp_path, devices=SMALL, profiles=[builders.model()], dest=str(tmp_path / "file/fit"))
    assert played.rc != 0 and "Choose another dest" in played.failure


@pytest.mark.parametrize("models", ["text", [7], {"name": "x"}])
def test_odd_models_are_refused_in_words(fleet: Fleet, tmp_path: pathlib.Path, models: t.Any) -> None:
    fleet.models = models
    played = ask(fleet, tmp_path, devices=SMALL)
    assert played.rc != 0 and "problem" in played.failure


@MODES
def test_the_playbook_shows_what_the_hosts_have(fleet: Fleet, tmp_path: pathlib.Path, mode: list[str]) -> None:
    fleet.models = [fleet.model()]
    played = checked(fleet, fleet.play("vram_fit", *mode, fit_devices=SMALL, fit_dest=str(tmp_path / "fit")))
    assert played.rc == 0
    (model,) = result(played)["models"]
    # The stand-in says that it is 0.32.0; it runs on the CPU, and the tiny model is on the host.
    assert model["release"] == "0.32.0" and model["fits"]
    assert {one["device"] for one in model["devices"]} == {"the CPU of one", "NVIDIA T4"}
    assert (tmp_path / "fit/probe.svg").exists() is (mode == [])


def test_check_shows_the_memory_before_the_plan(fleet: Fleet) -> None:
    fleet.models = [fleet.model()]
    played = checked(fleet, fleet.play("check", server_allow_stand_in=True))
    assert played.unchanged
    assert 0 <= played.output.find("MEMORY: every model fits") < played.output.find("PLAN\n")


def test_check_shows_why_before_the_plan_refuses(fleet: Fleet) -> None:
    engine = {"max_model_len": 1024, "kv_cache_memory_bytes": 2**16}
    fleet.models = [fleet.model(engine=engine), {"name": "broken"}]
    played = checked(fleet, fleet.play("check", server_allow_stand_in=True))
    assert played.rc != 0
    assert "MEMORY: 1 of 1 models fit on none of these devices: probe" in played.output
    assert "kv_cache_memory_bytes: " in played.output.partition("What would make it fit")[2]
    # The refusal is the plan's, with all problems.
    (refused,) = [one for one in played.records if one["outcome"] == "failed"]
    assert refused["action"] == "gpufleet.vllm.fleet_plan"
    assert "broken" in played.failure and "probe" in played.failure
