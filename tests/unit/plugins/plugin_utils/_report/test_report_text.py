# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that people read."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._planner import plan_fleet
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.fleet import fleet_text
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.memory import ledger_text
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.plan import plan_text
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.progress import (
    Following,
    memory_text,
    progress_line,
    read_events,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.table import table
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import absent_model, rtx_host, spec

SERVER: dict[str, t.Any] = {
    "name": "vllm-a-0",
    "state": "ready",
    "url": "http://127.0.0.1:8000",
    "version": "0.33.0",
    "started_at": "2026-11-20T10:00:00.123456789Z",
    "metrics": {
        "requests_running": 2,
        "requests_waiting": 0,
        "kv_cache_usage_ratio": 0.256,
        "generation_tokens_total": 9,
        "time_to_first_token_p95_seconds": 0.09,
    },
}


def test_plan() -> None:
    plan = plan_fleet([spec()], {"g": rtx_host(servers=[{"name": "vllm-old-0", "port": 8005, "gpus": []}])})
    text, ledger = plan_text(plan.placements, plan.removals), plan.placements[0]["ledger"]
    assert text == [
        "PLAN",
        "server           host  GPUs  listens on        vLLM  memory  now",
        "---------------  ----  ----  --------------  ------  ------  ---",
        "vllm-qwen3-8b-0  g        0  127.0.0.1:8000  0.33.0  fits    new",
        "",
        *ledger_text("vllm-qwen3-8b-0", ledger),
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
    used = [{"memory_used_bytes": 30, "memory_total_bytes": 40}, {"memory_used_bytes": 36, "memory_total_bytes": 40}]
    sick = {
        **SERVER,
        "metrics": None,
        "version": None,
        "state": "stalled",
        "why": "no counter moved",
        "started_at": "0001-01-01T00:00:00Z",
    }
    assert fleet_text({"b": [{**SERVER, "gpu_use": used}], "a": [sick]}) == [
        "server    host  state    url                      vLLM  runn"
        "ing  waiting  KV used %  tokens made  first token p95 ms  GPU used %  started (UTC)",
        "--------  ----  -------  ---------------------  ------  ----"
        "---  -------  ---------  -----------  ------------------  ----------  -------------------",
        "vllm-a-0  a     stalled  http://127.0.0.1:8000       -      "
        "  -        -          -            -                   -           -  -",
        "vllm-a-0  b     ready    http://127.0.0.1:8000  0.33.0      "
        "  2        0         26            9                  90          90  2026-11-20 10:00:00",
        "",
        "vllm-a-0 on a is stalled: no counter moved",
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


MEASURED = {"weights_gib": 15.27, "activation_gib": None, "available_kv_gib": 54.9, "kv_tokens": 399792}


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (
            {"predicted": {"weights_gib": 15.2, "available_kv_gib": 54.6, "kv_tokens": 397600}, "measured": MEASURED},
            "memory: weights 15.27 GiB (predicted 15.20), KV cache 54.90 GiB (54.60), 399,792 tokens (397,600)",
        ),
        (
            {"predicted": None, "measured": MEASURED},
            "memory: weights 15.27 GiB, KV cache 54.90 GiB, 399,792 tokens",
        ),
        (
            {"predicted": {"kv_tokens": 16}, "measured": {"kv_tokens": 32}},
            "memory: 32 tokens (predicted 16)",
        ),
        ({"predicted": None, "measured": {"gpu_blocks": 2}}, "memory: the log tells none of it"),
    ],
)
def test_memory_of_a_start(memory: dict[str, t.Any], expected: str) -> None:
    assert memory_text(memory) == expected
    event = {"server": "s", "seconds": 9.0, "stage": "ready", "text": "told", "memory": memory}
    assert progress_line("h", event) == f"h | s |    9.0 s | ready       | {expected}"


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


def told(**event: t.Any) -> str:
    return json.dumps(event) + "\n"


def test_a_job_is_asked_after_news_and_seldom_without() -> None:
    following = Following("/p")
    assert following.command == "tail -c +1 /p 2>/dev/null; true"
    first = told(pid=7) + told(stage="loading", text="x")
    assert following.look(first) == [{"stage": "loading", "text": "x"}]
    assert following.asks
    assert following.command == (f"tail -c +{len(first) + 1} /p 2>/dev/null; kill -0 7 2>/dev/null || echo gone; true")
    quiet = [bool(following.look("")) or following.asks for _look in range(20)]
    assert quiet.count(True) == 2


@pytest.mark.parametrize("event", [{"stage": "ready", "text": "answers"}, {"stage": "loading", "text": "failed: x"}])
def test_a_job_is_asked_each_time_when_its_end_is_near(event: dict[str, str]) -> None:
    following = Following("/p")
    following.look(told(**event))
    assert all(following.look("") or following.asks for _look in range(8))


def test_a_job_that_was_killed_is_not_followed_for_ever() -> None:
    following = Following("/p")
    following.look(told(pid=7))
    seen = []
    for _look in range(4):
        following.look("gone\r\n")
        seen.append((following.asks, following.lost))
    assert seen == [(True, False)] * 3 + [(True, True)]
    following.look("")
    assert not following.lost
