# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that people read."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._planner import plan_fleet
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.fleet import fleet_text
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.plan import plan_text
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.progress import progress_line, read_events
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.table import table
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import absent_model, rtx_host, spec

SERVER: dict[str, t.Any] = {
    "name": "vllm-a-0",
    "state": "healthy",
    "url": "http://127.0.0.1:8000",
    "version": "0.33.0",
    "started_at": "2026-11-20T10:00:00.123456789Z",
    "metrics": {
        "requests_running": 2,
        "requests_waiting": 0,
        "kv_cache_usage_ratio": 0.256,
        "generation_tokens_total": 9,
    },
}


def test_plan() -> None:
    plan = plan_fleet([spec()], {"g": rtx_host(servers=[{"name": "vllm-old-0", "port": 8005, "gpus": []}])})
    assert plan_text(plan.placements, plan.removals) == [
        "PLAN",
        "server           host  GPUs  listens on        vLLM  memory  now",
        "---------------  ----  ----  --------------  ------  ------  ---",
        "vllm-qwen3-8b-0  g        0  127.0.0.1:8000  0.33.0  fits    new",
        "",
        "MEMORY of vllm-qwen3-8b-0 on NVIDIA GeForce RTX 4090: 23.63 GiB, of which the engine takes 21.74",
        "[WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWARGGKKKKKKKKKKC...] W weights, A activation, R runtime, G graphs, K "
        "kv cache, C context",
        "GiB            low  expected    high",
        "----------  ------  --------  ------",
        "weights     15.260    15.260  15.413",
        "activation   0.081     0.581   1.081",
        "runtime      0.050     0.250   0.550",
        "graphs       0.044     0.944   1.844",
        "kv cache     2.852     4.704   6.304",
        "context      0.300     0.510   0.710",
        "fits: 34,240 tokens of KV cache, 4.18 requests of 8,192 tokens at once; the longest request that model and "
        "memory allow has 34,240 tokens",
        "note: the terms are not calibrated for 0.33.0 on a GPU",
        "",
        "Run with prune to remove: vllm-old-0 on g",
    ]


def test_plan_without_the_files() -> None:
    plan = plan_fleet([spec()], {"g": rtx_host(models=[absent_model()])})
    text = plan_text(plan.placements, plan.removals)
    assert text[-1] == (
        "MEMORY of vllm-qwen3-8b-0: unknown, for the model's files are not there yet, the engine fetches them"
    )
    assert "unknown" in text[3]


def test_fleet() -> None:
    assert fleet_text({"b": [SERVER], "a": [{**SERVER, "metrics": None, "version": None}]}) == [
        "server    host  state    url                      vLLM  runn"
        "ing  waiting  KV used %  tokens made  started (UTC)",
        "--------  ----  -------  ---------------------  ------  ----"
        "---  -------  ---------  -----------  -------------------",
        "vllm-a-0  a     healthy  http://127.0.0.1:8000       -      "
        "  -        -          -            -  2026-11-20 10:00:00",
        "vllm-a-0  b     healthy  http://127.0.0.1:8000  0.33.0      "
        "  2        0         26            9  2026-11-20 10:00:00",
    ]


def test_empty_fleet() -> None:
    assert fleet_text({"a": []}) == ["No server of the fleet runs on any host."]


@pytest.mark.parametrize(
    ("done", "total", "expected"),
    [
        (0, 4, "[....................]"),
        (2, 4, "[##########..........]"),
        (4, 4, "[####################]"),
        (9, 4, "[####################]"),
        (None, None, "weights"),
    ],
)
def test_progress(done: int | None, total: int | None, expected: str) -> None:
    event = {"server": "s", "seconds": 1.25, "stage": "loading", "text": "weights", "done": done, "total": total}
    line = progress_line("h", event)
    assert line.startswith("h | s |    1.2 s | loading     | weights")
    assert line.endswith(expected)


def test_numbers_stand_right() -> None:
    assert table(["n", "t"], [["1.5", "a"], ["-10", "bb"], ["-", "c"]]) == [
        "  n  t",
        "---  --",
        "1.5  a",
        "-10  bb",
        "  -  c",
    ]


def test_table_without_rows() -> None:
    assert table(["a", "b"], []) == ["a  b", "-  -"]


def test_events_are_read_as_they_are_in_the_file() -> None:
    file = '{"stage": "loading", "text": "größer"}\n{"stage": "ready"}\n'
    events, size = read_events(file)
    assert [event["stage"] for event in events] == ["loading", "ready"]
    assert size == len(file.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"stage": "loading"}\r\n{"stage": "re',  # a terminal's line ends, and a line that is being written
        'We trust you have received the usual lecture.\n{"stage": "loading"}\r\n',
        '{"stage": "loading"}\n{"stage',
    ],
)
def test_only_whole_lines_of_the_file_are_counted(text: str) -> None:
    assert read_events(text) == ([{"stage": "loading"}], len('{"stage": "loading"}\n'))


def test_nothing_yet() -> None:
    assert read_events("") == ([], 0)
