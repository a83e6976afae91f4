# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles in processes of their own: killed at any time, and two that load into one shared cache."""

from __future__ import annotations

import multiprocessing
import pathlib
import random
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import files
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub import cache
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.lock import RepoLock
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access, Repo
from support import bundle

SPAWN = multiprocessing.get_context("fork")


@pytest.fixture
def sides(tmp_path: pathlib.Path) -> bundle.Sides:
    made = bundle.Sides(tmp_path)
    chance = random.Random(5)
    contents = {f"model-{number}.safetensors": chance.randbytes(1_000_000) for number in range(20)}
    bundle.add_snapshot(made.near, {**contents, "config.json": b"{}"})
    return made


def found(sides: bundle.Sides) -> dict[str, bytes]:
    folder = pathlib.Path(cache.resolve(str(sides.far), bundle.REPO).path)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wanted(sides: bundle.Sides) -> dict[str, bytes]:
    folder = pathlib.Path(cache.resolve(str(sides.near), bundle.REPO).path)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_hosts_that_load_into_one_cache_do_no_harm(sides: bundle.Sides) -> None:
    sides.create()

    def run(number: int) -> None:
        sides.load(state_path=str(sides.folder / f"state-{number}.json"))

    both = [SPAWN.Process(target=run, args=(number,)) for number in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(600)
    assert [one.exitcode for one in both] == [0, 0]
    assert found(sides) == wanted(sides)
    assert sides.load()["changed"] is False


def test_what_is_loaded_waits_for_who_changes_the_repo(sides: bundle.Sides) -> None:
    sides.create()
    sides.load()
    repo = Repo(str(sides.far), bundle.REPO, Access())
    snapshot = sides.far / "models--acme--tiny/snapshots" / bundle.COMMIT
    (snapshot / "config.json").unlink()
    with RepoLock(repo.hub_cache, repo.lock_path, lambda holder: None, 1):
        loads = SPAWN.Process(target=sides.load)
        loads.start()
        loads.join(1)  # no longer: it must not end
        assert loads.exitcode is None
        # As pruning does, while what was there before was taken for good.
        for blob in (sides.far / "models--acme--tiny/blobs").iterdir():
            blob.unlink()
    loads.join(60)
    assert loads.exitcode == 0 and found(sides) == wanted(sides)


@pytest.mark.parametrize("work", ["create", "load"])
def test_a_process_that_is_killed_at_any_time_is_completed_by_the_next(sides: bundle.Sides, work: str) -> None:
    if work == "load":
        sides.create()
    run: t.Callable[[], t.Any] = getattr(sides, work)
    chance = random.Random(work)
    for _kill in range(15):
        process = SPAWN.Process(target=run)
        process.start()
        process.join(chance.uniform(0.005, 0.1))
        process.kill()
        process.join()
    run()
    if work == "create":
        assert sides.create()["changed"] is False
        sides.load()
    assert found(sides) == wanted(sides)
    assert not list(sides.folder.rglob(files.PARTIAL + "*"))
