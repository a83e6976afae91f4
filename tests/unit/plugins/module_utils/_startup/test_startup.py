# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages read from recorded logs of real starts, and starts judged by what happens in them."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import ContainerState
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.stages import STAGES, Event, read_line
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.watch import LINES_AT_ONCE, Watch

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


# What the CPU build never says, in the formats of the calls in vLLM and huggingface_hub that the patterns name.
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
    (
        "INFO 01-02 03:04:05 llm_engine.py:235] Initializing an LLM engine (v0.6.6) with config: x",
        Event("starting", "engine process starts"),
    ),
    (
        "(Worker_TP1 pid=99) INFO [default_loader.py:1] Loading weights took 3.10 seconds",
        Event("loading", "weights loaded in 3.10 s", process="Worker_TP1"),
    ),
    (
        "(EngineCore_DP0 pid=7) INFO [gpu_worker.py:1] Available KV cache memory: 12.50 GiB",
        Event("sizing", "12.50 GiB for the KV cache", process="EngineCore_DP0"),
    ),
    (
        "(APIServer pid=1) INFO [entry.py:1] Starting vLLM server on http://0.0.0.0:8000",
        Event("warming", "API server starts", process="APIServer"),
    ),
    (
        "(VllmWorkerProcess pid=12) INFO 01-02 03:04:05 pynccl.py:69] vLLM is using nccl==2.21.5",
        Event("starting", "ranks join over NCCL 2.21.5", process="VllmWorkerProcess"),
    ),
    (
        "(Worker_TP3 pid=1) INFO [parallel_state.py:1] world_size=4 rank=3 local_rank=3 backend=nccl",
        Event("starting", "one of 4 ranks starts", process="Worker_TP3"),
    ),
    (
        "model-00001-of-00004.safetensors:  25%|##5   | 1.23G/4.92G [00:11<00:33, 111MB/s]",
        Event("downloading", "downloading model-00001-of-00004.safetensors 25 %", 25, 100),
    ),
    (
        "INFO [weight_utils.py:1] Time spent downloading weights for org/m: 12.345678 seconds",
        Event("downloading", "downloaded in 12.345678 s"),
    ),
    (
        "INFO [weight_utils.py:1] Prefetching checkpoint files: 50% (4/8)",
        Event("loading", "reading files ahead 4/8", 4, 8),
    ),
    ("Multi-thread loading shards:  50% Completed | 2/4", Event("loading", "loading weights 2/4", 2, 4)),
    (
        "Loading safetensors using Fastsafetensor loader:  50% Completed | 2/4",
        Event("loading", "loading weights 2/4", 2, 4),
    ),
    ("Loading np_cache checkpoint shards:  50% Completed | 2/4", Event("loading", "loading weights 2/4", 2, 4)),
    (
        "INFO [gpu_model_runner.py:1] Model loading took 14.2 GiB memory and 3.1 seconds",
        Event("loading", "model takes 14.2 GiB"),
    ),
    ("INFO [backends.py:1] Dynamo bytecode transform time: 4.25 s", Event("compiling", "traced in 4.25 s")),
    (
        "INFO [backends.py:1] Compiling a graph for compile range (1, 8192) takes 9.50 s",
        Event("compiling", "a graph compiled in 9.50 s"),
    ),
    (
        "INFO [backends.py:1] Directly load the compiled graph(s) for dynamic shape from the cache, took 1.5 s",
        Event("compiling", "compiled graphs come from the cache"),
    ),
    ("INFO [monitor.py:1] torch.compile took 12.50 s in total", Event("compiling", "compiled in 12.50 s")),
    ("INFO [gpu_executor.py:1] # GPU blocks: 2789, # CPU blocks: 2048", Event("sizing", "KV cache of 2789 blocks")),
    (
        "INFO [model_runner.py:1] Capturing cudagraphs for decoding. This may lead to",
        Event("capturing", "capturing graphs"),
    ),
    ("Capturing CUDA graph shapes:  20%|##  | 7/35 [00:02<00:09]", Event("capturing", "capturing graphs 7/35", 7, 35)),
    (
        "INFO [model_runner.py:1] Graph capturing finished in 22 secs, took 0.75 GiB",
        Event("capturing", "graphs captured in 22 s"),
    ),
    ("DeepGEMM warmup:  10%|# | 10/100", Event("capturing", "preparing kernels 10/100", 10, 100)),
    ("INFO [launcher.py:1] Route: /health, Methods: GET", None),
    ("INFO: 127.0.0.1:1 - GET /health error loading Starting fail", None),
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


def test_a_flood_costs_little_and_hides_no_stage() -> None:
    """100 000 lines in batches, a stage in the midst of one: most are not looked at in full."""
    watch = Watch("a", 10, 0.0)
    batch = [f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676 % 26)} {'x' * 100}" for n in range(10000)]
    events = []
    for number in range(10):
        told = [f"Loading safetensors checkpoint shards: x | {number}/10 ["]
        events += watch.lines(batch[:2000] + told + batch[2000:], 1.0)
    assert [event.done for event in events] == list(range(10))
    assert len(watch.tail) == 400
    assert watch.passed_over == 10 * (10000 - LINES_AT_ONCE)


FATAL_LINES = [
    "(EngineCore_DP0 pid=99) ERROR 01-02 03:04:05 [core.py:842] EngineCore failed to start.",
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': 1}",
    "(Worker_TP1 pid=9) ERROR 01-02 03:04:05 [multiproc_executor.py:743] WorkerProc failed to start.",
    "Exception: WorkerProc initialization failed due to an exception in a background process.",
    "ERROR [multiproc_executor.py:231] Worker proc VllmWorker-1 died unexpectedly, shutting down executor.",
    "RuntimeError: Engine process failed to start. See stack trace for the root cause.",
    "vllm: error: unrecognized arguments: --swap-space 4",
]


@pytest.mark.parametrize("line", FATAL_LINES)
def test_an_engine_that_says_that_it_failed_has_failed_even_when_it_stays(line: str) -> None:
    watch = Watch("a", 600, 0.0)
    watch.line(line, 5.0)
    # Its exit code and last lines are worth a while.
    assert watch.failure(state(), 34.0) is None
    watch.line("more of it", 34.0)
    failure = watch.failure(state(), 36.0)
    assert failure is not None and failure.kind == "stalled"
    assert line[:60] in failure.reason
    ended = watch.failure(state("exited", 1), 36.0)
    assert ended is not None and ended.kind == "exited"


@pytest.mark.parametrize("name", [name for name, _stages in RECORDED if name.startswith("good_start")])
def test_no_healthy_log_has_a_fatal_line(name: str) -> None:
    watch = Watch("a", 10**6, 0.0)
    watch.lines((LOGS / name).read_text(encoding="utf-8").splitlines(), 1.0)
    assert watch.failure(state(), 10**5) is None


def test_every_rank_moves_by_itself_and_the_one_behind_is_named() -> None:
    watch = Watch("a", 10, 0.0)
    start = "(Worker_TP{} pid={}) INFO [gpu_model_runner.py:1] Starting to load model /m..."
    done = "(Worker_TP{} pid={}) INFO [default_loader.py:1] Loading weights took 3.0 seconds"
    size = "(Worker_TP{} pid={}) INFO [gpu_worker.py:1] Available KV cache memory: 9.50 GiB"
    for rank in range(3):
        assert watch.line(start.format(rank, rank), 1.0) is not None
        assert watch.line(done.format(rank, rank), 2.0 + rank) is not None
    for rank in (0, 2):
        watch.line(size.format(rank, rank), 6.0)
    failure = watch.failure(state(), 17.0)
    assert failure is not None
    assert failure.reason == "nothing moved for 11 s in the stage sizing; behind the other ranks: Worker_TP1"


def test_an_end_for_want_of_memory_that_only_the_event_tells() -> None:
    failure = Watch("a", 10, 0.0).failure(state("exited", 137), 1.0, oom=True)
    assert failure is not None and "killed for want of memory" in failure.reason
