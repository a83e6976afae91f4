# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts watched through the real Docker Engine: how soon an end is told, silent loads, bursts of log, earlier logs."""

from __future__ import annotations

import threading
import time
import typing as t

import pytest
from integration.library.conftest import LABEL_FLEET

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.converge import Converger, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup import follow, sources
from support.faults import until


def test_an_end_is_told_by_the_engine_and_not_by_looking(host: t.Any, monkeypatch: t.Any) -> None:
    """With looks so rare that only the event can tell."""
    monkeypatch.setattr(follow, "STATE_SECONDS", 1000.0)
    server = host.server(env={"STAND_IN_START_SECONDS": "3600"}, stall_seconds=10000)
    told: list[float] = []

    def report(_name: str, event: t.Any) -> None:
        if event.text.startswith("failed"):
            told.append(time.monotonic())

    def run() -> None:
        try:
            Converger(Wish(host.fleet, [server], {}, "started", False), Store(str(host.state_dir)), report).run(False)
        except FleetError:
            return

    thread = threading.Thread(target=run)
    thread.start()
    assert until(lambda: [one for one in host.containers().values() if one.status == "running"])
    time.sleep(1)
    host.containers()["a"].kill()
    died = time.monotonic()
    thread.join()
    # Far sooner than the next look. How soon is measured on a quiet machine (benchmarks/start_watch.py).
    assert told[0] - died < 300


def test_a_silent_load_that_takes_memory_is_no_stall(host: t.Any) -> None:
    server = host.server(env={"STAND_IN_START_SECONDS": "0.1", "STAND_IN_SILENT_SECONDS": "12"}, stall_seconds=8)
    assert host.run(server)["servers"][0]["state"] == "ready"


def test_a_burst_of_log_is_bounded_and_the_start_goes_on(host: t.Any) -> None:
    host.run(host.server(env={"STAND_IN_START_SECONDS": "0.5", "STAND_IN_LOG_BURST": "40"}))
    texts = [event.text for _name, event in host.events]
    assert [text for text in texts if "lines of the log were passed over" in text]
    assert "answers requests" in texts


def test_what_waits_of_a_log_is_bounded(host: t.Any) -> None:
    """A log that nobody takes keeps its newest lines only."""
    host.run(host.server(env={"STAND_IN_START_SECONDS": "0.1", "STAND_IN_LOG_BURST": "8"}))
    log = sources.Log(Engine(), host.containers()["a"].id, None)
    try:
        until(lambda: log._dropped >= 8 * 2**20 // 128 * 0.5)
        assert log._waiting <= sources.WAITING_BYTES + 2**16
        lines, dropped = log.take()
    finally:
        log.close()
    assert dropped > 0
    assert len(lines) <= sources.WAITING_BYTES // 100


def test_the_end_of_a_log_is_bounded(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TAIL_BYTES", 2**18)
    made = host.docker.containers.run(
        host.server()["image"],
        entrypoint=["seq", "-f", "%011.0f", "1", "30000"],
        detach=True,
        labels={LABEL_FLEET: host.fleet},
    )
    made.wait()
    lines = Engine().log_tail(made.id, 30000)
    assert {len(line) for line in lines} == {11}
    assert [int(line) for line in lines] == list(range(30001 - len(lines), 30001))
    assert 10000 < len(lines) <= 2**18 / 12
    assert Engine().log_tail(made.id, 2) == ["00000029999", "00000030000"]


def test_a_restart_does_not_read_what_an_earlier_run_has_written(host: t.Any) -> None:
    server = host.server(env={"STAND_IN_START_SECONDS": "5"})
    host.run(server)
    host.events.clear()
    host.run(server, state="restarted")
    stages = [event.stage for _name, event in host.events]
    assert stages.count("starting") == len({event.text for _n, event in host.events if event.stage == "starting"})
    assert "loading" in stages and stages[-1] == "ready"
