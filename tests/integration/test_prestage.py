# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an empty cache and a hub to an offline server, and what the plan says when a piece is missing."""

from __future__ import annotations

import json
import pathlib
import shutil
import typing as t

import pytest

from support.fleet import BUILD, Fleet, Played
from support.hub import Hub

TOKEN = "hf_QmVpbVByZXN0YWdpbmc"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, hub: pathlib.Path) -> t.Iterator[Hub]:
    """A hub with the tiny model, which it gives to one token only."""
    root = tmp_path_factory.mktemp("hub")
    (snapshot,) = (hub / "models--gpufleet--tiny-qwen3" / "snapshots").iterdir()
    shutil.copytree(snapshot, root / "acme" / "tiny")
    with Hub(root, gated={"acme/tiny": TOKEN}) as made:
        yield made


@pytest.fixture(scope="module")
def site(fleets: t.Callable[[], Fleet], source: Hub) -> Fleet:
    """A fleet whose host has an empty cache; another host may not get the model. The tests follow each other."""
    fleet = fleets()
    fleet.hub = fleet.folder / "cache"
    fleet.models = [fleet.model("staged", model="acme/tiny", revision=source.commit("acme/tiny"))]
    fleet.models[0]["placement"] = {"hosts": ["one"]}
    python = str(BUILD / "venv-target-3.9" / "bin" / "python")
    fleet.host_vars = {name: {"ansible_python_interpreter": python} for name in ("one", "two")}
    return fleet


def prestage(fleet: Fleet, source: Hub, *arguments: str, **extra: t.Any) -> Played:
    given = {"model_store_endpoint": source.endpoint, "model_store_token": TOKEN, **extra}
    return fleet.play("prestage", *arguments, **given)


def brought(played: Played) -> dict[str, t.Any]:
    """The one snapshot that was brought; the other host has none to bring."""
    found = [item for result in played.results("hf_snapshot") for item in result.get("results", [result])]
    assert len(found) == 1
    return found[0]


def test_a_model_that_is_not_there_is_refused_offline(site: Fleet) -> None:
    refused = site.play("check", server_allow_stand_in=True)
    assert refused.rc != 0 and "acme/tiny is not in" in refused.failure or "is not there" in refused.failure


def test_check_mode_tells_how_much_would_come(site: Fleet, source: Hub) -> None:
    played = prestage(site, source, "--check", "--diff")
    assert played.rc == 0, played.output
    result = brought(played)
    assert result["changed"] and result["fetched_bytes"] == result["total_bytes"] > 200_000
    assert not site.hub.exists()


def test_it_comes_and_no_output_has_the_token(site: Fleet, source: Hub) -> None:
    played = prestage(site, source, "-vvv", "--diff")
    assert played.rc == 0, played.output
    assert TOKEN not in played.output and TOKEN not in json.dumps(played.records)
    assert "one | acme/tiny |" in played.output and "[####" in played.output
    result = brought(played)
    assert result["changed"] and pathlib.Path(result["path"], "model.safetensors").is_file()
    assert all(TOKEN.encode() not in path.read_bytes() for path in site.hub.rglob("*") if path.is_file())
    asked = len(source.requests)
    assert prestage(site, source).unchanged
    assert len(source.requests) == asked


def test_the_wrong_token_is_named_as_such_and_not_shown(site: Fleet, source: Hub) -> None:
    site.hub.rename(site.hub.with_name("away"))
    played = prestage(site, source, model_store_token="hf_wrong")
    site.hub.with_name("away").rename(site.hub)
    assert played.rc != 0 and "without the right token (status 403)" in played.output
    assert "hf_wrong" not in played.output


def test_an_offline_server_starts(site: Fleet) -> None:
    deployed = site.deploy()
    assert deployed.rc == 0, deployed.output
    assert list(site.containers()) == ["vllm-staged-0"]


def test_what_is_missing_is_named_with_host_file_and_task(site: Fleet, source: Hub) -> None:
    (tokenizer,) = site.hub.rglob("tokenizer.json")
    tokenizer.unlink()
    refused = site.play("check", server_allow_stand_in=True)
    assert refused.rc != 0
    assert "on one: offline is true" in refused.failure and str(tokenizer) in refused.failure
    assert "gpufleet.vllm.prestage" in refused.failure
    mended = prestage(site, source)
    assert mended.rc == 0 and mended.changed
    assert site.deploy().unchanged


def test_the_cache_loses_what_nobody_needs(site: Fleet) -> None:
    """The last of this file: the model is no longer declared, its server still runs, and then it does not."""
    prune = {"cache_prune": True, "cache_min_age_hours": 0}
    site.models[0]["name"] = "another"
    needed = site.play("cache", **prune)
    assert needed.unchanged and "acme/tiny at" in needed.output and "is declared" in needed.output
    site.models = []
    used = site.play("cache", **prune)
    assert used.unchanged and "the running container vllm-staged-0 reads it" in used.output
    # Both hosts are this machine with one state folder, whose lock only one run at a time gets.
    removed = site.play("teardown", "--limit", "one")
    assert removed.rc == 0, removed.failure
    foreseen = site.play("cache", "--check", "--diff", **prune)
    assert foreseen.rc == 0 and foreseen.changed and list(site.hub.rglob("model.safetensors"))
    pruned = site.play("cache", **prune)
    assert pruned.rc == 0 and pruned.changed, pruned.output
    assert not list(site.hub.rglob("model.safetensors"))
    assert site.play("cache", **prune).unchanged
