# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages read from recorded logs of real starts, and starts judged by what happens in them."""

from __future__ import annotations

import pathlib
import time
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import ContainerState
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.stages import STAGES, Event, read_line
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.watch import Watch

LOGS = pathlib.Path(__file__).parents[3] / "fixtures" / "engine_logs"


def stages_of(name: str) -> list[str]:
    """The stages that a watch goes through in a recorded log."""
    watch = Watch("a", 600, 0.0)
    for line in (LOGS / name).read_text(encoding="utf-8").splitlines():
        watch.line(line, 1.0)
    return [entry["stage"] for entry in watch.timeline]


WHOLE = ["starting", "loading", "sizing", "warming"]
RECORDED = [
    ("good_start_and_stop.log", WHOLE),
    ("good_start_kv_bytes.log", WHOLE),
    ("good_start_kv_share.log", WHOLE),
    ("good_start_read_only.log", WHOLE),
    ("missing_tokenizer.log", WHOLE),
    ("engine_core_killed.log", WHOLE),
    ("bad_flag.log", []),
    ("bad_model_path.log", ["starting"]),
    ("repo_not_cached.log", ["starting"]),
    ("max_model_len_too_long.log", ["starting"]),
    ("kv_cache_too_small.log", ["starting", "loading"]),
    ("memory_too_small.log", ["starting"]),
    ("shm_too_small.log", ["starting"]),
    ("port_taken.log", ["starting"]),
    ("stopped_while_starting.log", ["starting"]),
]


@pytest.mark.parametrize(("name", "expected"), RECORDED)
def test_stages_of_real_starts(name: str, expected: list[str]) -> None:
    assert stages_of(name) == expected


# What the CPU build never says, in the formats of the calls in vLLM 0.33.0 and huggingface_hub that the patterns name.
LINES: list[tuple[str, Event | None]] = [
    ("Fetching 12 files:  25%|##5       | 3/12 [00:01<00:03]", Event("downloading", "downloading files 3/12", 3, 12)),
    (
        "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:01<00:01]",
        Event("loading", "loading weights 2/4", 2, 4),
    ),
    ("Loading pt checkpoint shards: 100% Completed | 4/4", Event("loading", "loading weights 4/4", 4, 4)),
    ("INFO [gpu_model_runner.py:1] Starting to load model /m...", Event("loading", "loading weights")),
    ("INFO [monitor.py:1] torch.compile takes 12.50 s in total", Event("compiling", "compiled in 12.50 s")),
    (
        "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  10%|# | 7/67 [00:01<00:09]",
        Event("capturing", "capturing graphs 7/67", 7, 67),
    ),
    ("INFO [kv_cache_utils.py:1] GPU KV cache size: 123,456 tokens", Event("sizing", "KV cache of 123,456 tokens")),
    ("INFO [api_server.py:1] vLLM API server version 0.10.0", Event("starting", "vLLM 0.10.0 starts")),
    (
        "INFO [core.py:1] init engine (profile, warmup) took 1.5 seconds",
        Event("warming", "engine initialised in 1.5 s"),
    ),
    ("INFO [launcher.py:1] Route: /health, Methods: GET", None),
    ("", None),
]


@pytest.mark.parametrize(("line", "event"), LINES)
def test_lines(line: str, event: Event | None) -> None:
    assert read_line(line) == event
    assert event is None or event.stage in STAGES


def state(status: str = "running", exit_code: int = 0, oom: bool = False, restarts: int = 0) -> ContainerState:
    return ContainerState("id", status, status == "running", exit_code, oom, "", "", restarts, "no", None)


FAILURES: list[tuple[str, list[t.Any], float, str | None, str]] = [
    ("runs", [state()], 1, None, ""),
    ("ends", [state("exited", 1)], 1, "exited", "exit code 1"),
    ("ends with 0", [state("exited", 0)], 1, "exited", "exit code 0"),
    ("out of memory", [state("exited", 137, oom=True)], 1, "exited", "exit code 137 (killed for want of memory)"),
    ("gone", [None], 1, "gone", "removed"),
    ("crash loop", [state("restarting", 1)], 1, "exited", "exit code 1"),
    ("restarted unseen", [state(), state(restarts=1)], 1, "exited", "exit code 0"),
    ("restarted before", [state(restarts=3), state(restarts=3)], 1, None, ""),
    ("still", [state()], 11, "stalled", "nothing moved for 11 s in the stage created"),
    ("not yet still", [state()], 10, None, ""),
]


@pytest.mark.parametrize(
    ("seen", "now", "kind", "words"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES]
)
def test_failures(seen: list[t.Any], now: float, kind: str | None, words: str) -> None:
    watch = Watch("a", 10, 0.0)
    failure = None
    for one in seen:
        failure = watch.failure(one, now)
    assert (failure.kind if failure else None) == kind
    assert failure is None or words in failure.reason


MOVING = [
    ("new lines", [f"line {word}" for word in "abcdefgh"], True),
    ("counted progress", [f"Loading safetensors checkpoint shards: x | {n}/8 [" for n in range(8)], True),
    ("the same again", ["waiting for 1 s"] * 8, False),
    (
        "the same with another number",
        [f"No available shared memory broadcast block found in {n} seconds" for n in range(8)],
        False,
    ),
    ("two in turns", ["a", "b"] * 4, False),
    ("empty lines", [" "] * 8, False),
]


@pytest.mark.parametrize(("lines", "moves"), [row[1:] for row in MOVING], ids=[row[0] for row in MOVING])
def test_repetition_is_no_progress(lines: list[str], moves: bool) -> None:
    watch = Watch("a", 20, 0.0)
    for number, line in enumerate(lines):
        watch.line(line, 10.0 * number)
    assert (watch.failure(state(), 75.0) is None) == moves


def test_stages_go_forward_only_and_are_told_once() -> None:
    watch = Watch("a", 10, 0.0)
    lines = [
        "KV cache size: 5 tokens",
        "Starting to load model x...",
        "KV cache size: 5 tokens",
        "KV cache size: 6 tokens",
    ]
    events = [watch.line(line, 2.0) for line in lines]
    assert [event.text if event else None for event in events] == [
        "KV cache of 5 tokens",
        None,
        None,
        "KV cache of 6 tokens",
    ]
    watch.ready(3.04)
    assert watch.timeline == [
        {"stage": "sizing", "seconds": 2.0, "text": "KV cache of 6 tokens"},
        {"stage": "ready", "seconds": 3.0, "text": "ready"},
    ]


def test_a_flood_costs_little() -> None:
    """20 000 different lines within the time that they may take to come."""
    watch = Watch("a", 10, 0.0)
    words = [f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676 % 26)} {'x' * 100}" for n in range(17576)]
    began = time.process_time()
    for number in range(20000):
        watch.line(words[number % len(words)], 1.0)
    assert time.process_time() - began < 2
    assert len(watch.tail) == 400
