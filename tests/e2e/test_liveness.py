# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What status tells of real vLLM (its CPU build): ready, its engine frozen and thawed, its engine killed."""

from __future__ import annotations

import os
import signal
import time
import typing as t

import pytest

from support.fleet import Fleet
from support.real import real_fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Fleet]:
    """One fleet for all tests of this file, which follow each other: a real start takes a minute."""
    # With this variable the API process stays when its engine dies, and says so.
    stays = {"VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": "1"}
    made = real_fleet(tmp_path_factory.mktemp("e2e"), "alive", {"max_num_seqs": 4}, env=stays)
    try:
        yield made
    finally:
        made.remove()


def status(fleet: Fleet) -> dict[str, t.Any]:
    """The one server as the playbook status tells of it."""
    played = fleet.play("status")
    assert played.rc == 0, played.output
    (info,) = played.results("vllm_info")
    return t.cast("dict[str, t.Any]", info["servers"][0])


def engine_process(fleet: Fleet) -> int:
    """The engine's process on this host, by the title that vLLM gives it."""
    top = fleet.containers()["vllm-alive-0"].top()
    pid, command = top["Titles"].index("PID"), top["Titles"].index("CMD")
    return next(int(row[pid]) for row in top["Processes"] if "EngineCore" in row[command])


def test_ready_is_proven_and_measured(fleet: Fleet) -> None:
    played = fleet.play("deploy")
    assert played.rc == 0, played.output
    one = status(fleet)
    assert (one["state"], one["why"]) == ("ready", "it answers a request")
    assert [(card["name"], card["max_model_len"]) for card in one["served"]] == [("alive", 1024)]
    assert one["metrics"]["time_to_first_token_p95_seconds"] > 0
    assert one["metrics"]["requests_finished_total"] >= 1


def test_a_frozen_engine_is_found_behind_its_200_and_thaws(fleet: Fleet) -> None:
    process = engine_process(fleet)
    os.kill(process, signal.SIGSTOP)
    try:
        one = status(fleet)
    finally:
        os.kill(process, signal.SIGCONT)
    assert one["state"] == "stalled", one
    end = time.monotonic() + 900
    while status(fleet)["state"] != "ready":
        assert time.monotonic() < end


def test_a_killed_engine_is_told(fleet: Fleet) -> None:
    os.kill(engine_process(fleet), signal.SIGKILL)
    end = time.monotonic() + 900
    while (one := status(fleet))["state"] != "engine_dead":
        assert time.monotonic() < end, one
    assert "503" in one["why"]
