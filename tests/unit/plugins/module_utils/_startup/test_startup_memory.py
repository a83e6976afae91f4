# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What start-up logs say about memory.

Logs of the CPU build are recorded; the others are the format strings of the release that each case names, with figures.
"""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.memory import FIGURES, MemoryReport, read_log
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.watch import Watch

LOGS = pathlib.Path(__file__).parents[3] / "fixtures" / "engine_logs"


def told(lines: t.Iterable[str]) -> dict[str, t.Any]:
    """The figures of these lines that are not None."""
    figures = read_log(lines).figures()
    return {name: value for name, value in (figures or {}).items() if value not in (None, {})}


RECORDED: list[tuple[str, dict[str, t.Any]]] = [
    (
        "good_start_kv_bytes.log",
        {
            "available_kv_gib": 0.06,
            "total_gib": 16.21,
            "kv_tokens": 131072,
            "max_concurrency": 128.0,
            "max_concurrency_len": 1024,
        },
    ),
    (
        "good_start_kv_share.log",
        {
            "available_kv_gib": 1.3,
            "budget_gib": 1.83,
            "consumed_gib": 0.53,
            "total_gib": 18.34,
            "kv_tokens": 2732416,
            "max_concurrency": 2668.38,
            "max_concurrency_len": 1024,
        },
    ),
    ("kv_cache_too_small.log", {"available_kv_gib": 0.0, "total_gib": 17.46}),
    ("bad_flag.log", {}),
    ("memory_too_small.log", {}),
]


@pytest.mark.parametrize(("name", "expected"), RECORDED)
def test_real_starts_of_the_cpu_build(name: str, expected: dict[str, t.Any]) -> None:
    assert told((LOGS / name).read_text(encoding="utf-8").splitlines()) == expected


# (release, lines in its wording, what they tell)
WORDINGS: list[tuple[str, list[str], dict[str, t.Any]]] = [
    (
        # worker/model_runner.py, executor/gpu_executor.py
        "0.6.3",
        [
            "INFO 10-20 10:00:00 model_runner.py:1067] Loading model weights took 14.9888 GB",
            "INFO 10-20 10:00:01 gpu_executor.py:122] # GPU blocks: 27896, # CPU blocks: 2048",
            "INFO 10-20 10:00:01 gpu_executor.py:126] Maximum concurrency for 32768 tokens per request: 13.62x",
            "INFO 10-20 10:00:09 model_runner.py:1523] Graph capturing finished in 12 secs.",
        ],
        {"weights_gib": 14.9888, "gpu_blocks": 27896, "max_concurrency": 13.62, "max_concurrency_len": 32768},
    ),
    (
        # worker/worker.py ("Gib" is theirs)
        "0.6.4",
        [
            "INFO 11-20 10:00:00 model_runner.py:1077] Loading model weights took 14.9888 GB",
            "INFO 11-20 10:00:01 worker.py:232] Memory profiling results: total_gpu_memory=79.10GiB"
            " initial_memory_usage=0.48GiB peak_torch_memory=16.23GiB memory_usage_post_profile=15.61Gib"
            " non_torch_memory=0.58GiB kv_cache_size=54.38GiB gpu_memory_utilization=0.90",
            "INFO 11-20 10:00:09 model_runner.py:1518] Graph capturing finished in 17 secs, took 0.26 GiB",
        ],
        {
            "weights_gib": 14.9888,
            "activation_gib": 1.2412,
            "non_torch_gib": 0.58,
            "available_kv_gib": 54.38,
            "total_gib": 79.1,
            "graphs_gib": 0.26,
        },
    ),
    (
        # worker/worker.py: one message of three lines; executor/executor_base.py
        "0.8.5",
        [
            "INFO 05-16 10:00:00 [model_runner.py:1140] Model loading took 6.2501 GiB and 3.500000 seconds",
            "INFO 05-16 10:00:01 [worker.py:287] Memory profiling takes 2.31 seconds",
            "INFO 05-16 10:00:01 [worker.py:287] the current vLLM instance can use total_gpu_memory (14.74GiB) x "
            "gpu_memory_utilization (0.69) = 10.22GiB",
            "INFO 05-16 10:00:01 [worker.py:287] model weights take 6.25GiB; non_torch_memory takes 0.03GiB; PyTorch "
            "activation peak memory takes 0.75GiB; the rest of the memory reserved for KV Cache is 3.19GiB.",
            "INFO 05-16 10:00:01 [executor_base.py:112] # cuda blocks: 7299, # CPU blocks: 2048",
            "INFO 05-16 10:00:01 [executor_base.py:117] Maximum concurrency for 4096 tokens per request: 28.51x",
        ],
        {
            "weights_gib": 6.2501,
            "activation_gib": 0.75,
            "non_torch_gib": 0.03,
            "available_kv_gib": 3.19,
            "budget_gib": 10.22,
            "total_gib": 14.74,
            "gpu_blocks": 7299,
            "max_concurrency": 28.51,
            "max_concurrency_len": 4096,
        },
    ),
    (
        # v1/worker/gpu_model_runner.py, v1/core/kv_cache_utils.py
        "0.8.0",
        [
            "INFO 03-19 10:00:00 [gpu_model_runner.py:1164] Model loading took 14.9889 GB and 4.500000 seconds",
            "INFO 03-19 10:00:02 [kv_cache_utils.py:537] GPU KV cache size: 427,424 tokens",
            "INFO 03-19 10:00:02 [kv_cache_utils.py:540] Maximum concurrency for 8,192 tokens per request: 52.18x",
        ],
        {"weights_gib": 14.9889, "kv_tokens": 427424, "max_concurrency": 52.18, "max_concurrency_len": 8192},
    ),
    (
        # v1/worker/gpu_worker.py: the sentence at the end, at INFO level
        "0.11.0",
        [
            "(EngineCore_DP0 pid=90) INFO 10-05 10:00:00 [gpu_model_runner.py:2653] Model loading took 14.9889 GiB and "
            "4.500000 seconds",
            "(EngineCore_DP0 pid=90) INFO 10-05 10:00:01 [gpu_worker.py:298] Available KV cache memory: 54.84 GiB",
            "(EngineCore_DP0 pid=90) INFO 10-05 10:00:02 [gpu_worker.py:391] Free memory on device (78.68/79.19 GiB) "
            "on startup. Desired GPU memory utilization is (0.9, 71.27 GiB). Actual usage is 14.99 GiB for weight, "
            "1.31 GiB for peak activation, 0.13 GiB for non-torch memory, and 0.51 GiB for CUDAGraph memory. Replace "
            "gpu_memory_utilization config with `--kv-cache-memory=58000000000` to fit into requested memory, or "
            "`--kv-cache-memory=66000000000` to fully utilize gpu memory. Current kv cache memory in use is "
            "58884079616 bytes.",
        ],
        {
            "weights_gib": 14.99,
            "activation_gib": 1.31,
            "non_torch_gib": 0.13,
            "graphs_gib": 0.51,
            "available_kv_gib": 54.84,
            "budget_gib": 71.27,
            "free_gib": 78.68,
            "total_gib": 79.19,
        },
    ),
    (
        # v1/worker/gpu_worker.py, utils/mem_utils.py, v1/worker/gpu_model_runner.py at DEBUG level
        "0.19.0",
        [
            "(EngineCore pid=90) DEBUG 04-10 10:00:00 [v1/worker/gpu_worker.py:270] worker init memory snapshot: "
            "torch_peak=0.0GiB, free_memory=78.68GiB, total_memory=79.19GiB, cuda_memory=0.51GiB, torch_memory=0.0GiB, "
            "non_torch_memory=0.51GiB, timestamp=1.5, auto_measure=True",
            "(EngineCore pid=90) DEBUG 04-10 10:00:00 [v1/worker/gpu_worker.py:273] worker requested memory: 75.23GiB",
            "(EngineCore pid=90) INFO 04-10 10:00:03 [v1/worker/gpu_model_runner.py:4560] Model loading took 7.51 GiB "
            "memory and 3.992785 seconds",
            "(EngineCore pid=90) DEBUG 04-10 10:00:04 [v1/worker/gpu_model_runner.py:5700] Estimated PIECEWISE CUDA "
            "graph memory: 138.00 MiB first-capture + (51-1) × 6.00 MiB per-graph",
            "(EngineCore pid=90) INFO 04-10 10:00:04 [v1/worker/gpu_model_runner.py:5720] Estimated CUDA graph memory: "
            "0.74 GiB total",
            "(EngineCore pid=90) DEBUG 04-10 10:00:05 [v1/worker/gpu_worker.py:430] Memory profiling takes 21.36 "
            "seconds. Total non KV cache memory: 9.97GiB; torch peak memory increase: 2.21GiB; non-torch forward "
            "increase memory: 0.25GiB; weights memory: 7.51GiB.",
            "(EngineCore pid=90) INFO 04-10 10:00:05 [v1/worker/gpu_worker.py:43] Available KV cache memory: 65.26 GiB",
            "(EngineCore pid=90) INFO 04-10 10:00:09 [v1/worker/gpu_worker.py:597] CUDA graph pool memory: 0.87 GiB "
            "(actual), 0.74 GiB (estimated), difference: 0.13 GiB (14.9%).",
            "(EngineCore pid=90) INFO 04-10 10:00:09 [v1/worker/gpu_model_runner.py:5800] Graph capturing finished in "
            "5 secs, took 0.87 GiB",
        ],
        {
            "weights_gib": 7.51,
            "activation_gib": 2.21,
            "non_torch_gib": 0.25,
            "graphs_gib": 0.87,
            "graphs_estimate_gib": 0.74,
            "available_kv_gib": 65.26,
            "budget_gib": 75.23,
            "free_gib": 78.68,
            "total_gib": 79.19,
        },
    ),
    (
        # v1/worker/gpu_worker.py: consumed memory, and a peak that holds the estimate of the graphs as well;
        # v1/core/kv_cache_utils.py: one line for tokens and concurrency; colours of logging_utils/formatter.py
        "0.32.0",
        [
            "\x1b[0;36m(EngineCore pid=90)\x1b[0;0m \x1b[32mINFO\x1b[0m \x1b[90m11-20 10:00:03\x1b[0m "
            "\x1b[90m[model_runner.py:425]\x1b[0m Model loading took 15.27 GiB memory and 3.992785 seconds",
            "(EngineCore pid=90) INFO 11-20 10:00:05 [gpu_worker.py:759] Available KV cache memory: 54.9 GiB",
            "(EngineCore pid=90) INFO 11-20 10:00:05 [gpu_worker.py:774] CUDA graph memory profiling is enabled "
            "(default since v0.21.0). The current --gpu-memory-utilization=0.9200 is equivalent to "
            "--gpu-memory-utilization=0.9093 without CUDA graph memory profiling.",
            "(EngineCore pid=90) INFO 11-20 10:00:06 [kv_cache_utils.py:2327] GPU KV cache size: 399,792 tokens, "
            "Maximum concurrency for 40,960 tokens per request: 9.76x",
            "(EngineCore pid=90) INFO 11-20 10:00:09 [gpu_worker.py:971] CUDA graph pool memory: 0.91 GiB (actual), "
            "0.85 GiB (estimated), difference: 0.06 GiB (6.6%).",
            "(EngineCore pid=90) INFO 11-20 10:00:09 [gpu_worker.py:1034] Free memory on device (78.68/79.19 GiB) on "
            "startup. Desired GPU memory utilization is (0.92, 72.86 GiB). Actual usage is 15.52 GiB for consumed "
            "memory (weights + non-torch), 2.44 GiB for peak activation, and 0.91 GiB for CUDAGraph memory. Replace "
            "gpu_memory_utilization config with `--kv-cache-memory=1` (0.0 GiB) to fit into requested memory, or "
            "`--kv-cache-memory=1` (0.0 GiB) to fully utilize gpu memory. Current kv cache memory in use is 54.9 GiB.",
        ],
        {
            "weights_gib": 15.27,
            "activation_gib": 1.59,
            "non_torch_gib": 0.25,
            "consumed_gib": 15.52,
            "peak_told_gib": 2.44,
            "graphs_gib": 0.91,
            "graphs_estimate_gib": 0.85,
            "available_kv_gib": 54.9,
            "kv_tokens": 399792,
            "max_concurrency": 9.76,
            "max_concurrency_len": 40960,
            "budget_gib": 72.86,
            "free_gib": 78.68,
            "total_gib": 79.19,
        },
    ),
    (
        # utils/mem_utils.py at DEBUG level: the peak there counts more than what is transient
        "0.27.0",
        [
            "DEBUG 08-20 10:00:05 [v1/worker/gpu_worker.py:560] Memory profiling takes 20.00 seconds. Total non KV "
            "cache memory: 17.11GiB; torch peak memory increase: 16.4GiB; total consumed (from mem_get_info): "
            "15.52GiB; weights memory: 15.27GiB."
        ],
        {"weights_gib": 15.27, "activation_gib": 1.59, "non_torch_gib": 0.25, "consumed_gib": 15.52},
    ),
    (
        # v1/worker/gpu_worker.py, with kv_cache_memory_bytes
        "0.33.0",
        [
            "(EngineCore pid=90) INFO 11-21 10:00:05 [gpu_worker.py:671] Initial free memory 78.68 GiB, reserved 20.0 "
            "GiB memory for KV Cache as specified by kv_cache_memory_bytes config and skipped memory profiling. This "
            "does not respect the gpu_memory_utilization config."
        ],
        {"free_gib": 78.68, "available_kv_gib": 20.0},
    ),
    (
        # v1/core/kv_cache_utils.py: a start that ends for want of KV cache
        "0.19.0 that ends",
        [
            "(EngineCore pid=90) ERROR 04-10 10:00:05 [core.py:1100] ValueError: To serve at least one request with "
            "the models's max seq len (131072), (16.0 GiB KV cache is needed, which is larger than the available KV "
            "cache memory (3.06 GiB). Based on the available memory, the estimated maximum model length is 25,056. Try "
            "increasing `gpu_memory_utilization`"
        ],
        {"available_kv_gib": 3.06, "kv_needed_gib": 16.0, "estimated_max_model_len": 25056},
    ),
    (
        # v1/worker/utils.py: a start that ends at once
        "0.32.0 that ends",
        [
            "(EngineCore pid=90) ERROR 11-20 10:00:05 [core.py:1300] ValueError: Free memory on device cuda:0 "
            "(39.9/79.19 GiB) on startup is less than desired GPU memory utilization (0.92, 72.86 GiB). Decrease GPU"
        ],
        {"free_gib": 39.9, "total_gib": 79.19, "budget_gib": 72.86},
    ),
]


@pytest.mark.parametrize(("release", "lines", "expected"), WORDINGS, ids=[case[0] for case in WORDINGS])
def test_wording_of_a_release(release: str, lines: list[str], expected: dict[str, t.Any]) -> None:
    assert told(lines) == expected, release


RANKS: list[tuple[str, list[str], dict[str, t.Any]]] = [
    (
        # v1/executor/multiproc_executor.py of 0.32.0 names the workers
        "tensor parallel",
        [
            "(Worker_TP0 pid=11) INFO 1 [m.py:1] Model loading took 8.01 GiB memory and 1.0 seconds",
            "(Worker_TP1 pid=12) INFO 1 [m.py:1] Model loading took 8.02 GiB memory and 1.0 seconds",
            "(Worker_TP0 pid=11) INFO 1 [m.py:1] Available KV cache memory: 60.1 GiB",
            "(EngineCore pid=9) INFO 1 [m.py:1] GPU KV cache size: 1,000 tokens, Maximum concurrency for 100 tokens "
            "per request: 10.00x",
        ],
        {
            "weights_gib": 8.02,
            "available_kv_gib": 60.1,
            "kv_tokens": 1000,
            "max_concurrency": 10.0,
            "max_concurrency_len": 100,
            "per_rank": {
                "Worker_TP0": {"weights_gib": 8.01, "available_kv_gib": 60.1},
                "Worker_TP1": {"weights_gib": 8.02},
            },
        },
    ),
    (
        # v1/executor/multiproc_executor.py of 0.8.5; the bar of another process stands before it on the line
        "ranks of 0.8.5",
        [
            "(VllmWorker rank=1 pid=12) INFO 1 [m.py:1] Available KV cache memory: 59.9 GiB",
            "Capturing: 10%|# | 1/10 (VllmWorker rank=0 pid=11) INFO 1 [m.py:1] Available KV cache memory: 60.1 GiB",
        ],
        {
            "available_kv_gib": 59.9,
            "per_rank": {
                "VllmWorker rank=1": {"available_kv_gib": 59.9},
                "VllmWorker rank=0": {"available_kv_gib": 60.1},
            },
        },
    ),
    (
        # executor/multiproc_worker_utils.py of 0.6.0: one name for all; the driver has no prefix
        "ranks of 0.6.0",
        [
            "INFO 1 m.py:1] Loading model weights took 7.5122 GB",
            "(VllmWorkerProcess pid=12) INFO 1 m.py:1] Loading model weights took 7.5123 GB",
            "(VllmWorkerProcess pid=13) INFO 1 m.py:1] Loading model weights took 7.5124 GB",
        ],
        {
            "weights_gib": 7.5124,
            "per_rank": {
                "main": {"weights_gib": 7.5122},
                "VllmWorkerProcess 12": {"weights_gib": 7.5123},
                "VllmWorkerProcess 13": {"weights_gib": 7.5124},
            },
        },
    ),
    (
        # get_kv_cache_config in v1/core/kv_cache_utils.py of 0.8.5 is called for each worker
        "each worker's room, told by the engine",
        [
            "INFO 1 [kv_cache_utils.py:639] GPU KV cache size: 3,331,712 tokens",
            "INFO 1 [kv_cache_utils.py:642] Maximum concurrency for 32,000 tokens per request: 104.12x",
            "INFO 1 [kv_cache_utils.py:639] GPU KV cache size: 3,276,512 tokens",
            "INFO 1 [kv_cache_utils.py:642] Maximum concurrency for 32,000 tokens per request: 102.39x",
            "INFO 1 [kv_cache_utils.py:639] GPU KV cache size: 3,315,328 tokens",
            "INFO 1 [kv_cache_utils.py:642] Maximum concurrency for 32,000 tokens per request: 103.60x",
        ],
        {"kv_tokens": 3276512, "max_concurrency": 102.39, "max_concurrency_len": 32000},
    ),
    (
        "data parallel: each engine has its own cache",
        [
            "(EngineCore_DP0 pid=8) INFO 1 [m.py:1] GPU KV cache size: 1,000 tokens",
            "(EngineCore_DP1 pid=9) INFO 1 [m.py:1] GPU KV cache size: 900 tokens",
        ],
        {"kv_tokens": 900},
    ),
]


@pytest.mark.parametrize(("case", "lines", "expected"), RANKS, ids=[case[0] for case in RANKS])
def test_ranks(case: str, lines: list[str], expected: dict[str, t.Any]) -> None:
    assert told(lines) == expected, case


def test_the_last_start_of_a_log_counts() -> None:
    first = ["vLLM API server version 0.11.0", "Model loading took 1.00 GiB", "Available KV cache memory: 9.00 GiB"]
    report = read_log([*first, "       █ ▀▄▀ █  version 0.32.0", "Model loading took 2.0 GiB memory"])
    assert report.version == "0.32.0"
    assert told([*first, "       █ ▀▄▀ █  version 0.32.0", "Model loading took 2.0 GiB memory"]) == {"weights_gib": 2.0}


def test_a_log_that_is_read_again_from_its_beginning_tells_the_same() -> None:
    lines = (LOGS / "good_start_kv_bytes.log").read_text(encoding="utf-8").splitlines()
    assert told(lines + lines) == told(lines)


UNUSABLE = [
    [],
    ["", "GiB", "Available KV cache memory: ... GiB", "GPU KV cache size: , tokens", "# GPU blocks: many"],
    ["Available KV cache memory: 1.2.3.4 GiB"],
    [f"GPU KV cache size: {'9' * 400} tokens", f"Available KV cache memory: {'9' * 400} GiB"],
    [
        f"# GPU blocks: {'9' * 20}",
        f"Model loading took {'9' * 16} GiB",
        f"Current kv cache memory in use is 1{'0' * 16} GiB",
    ],
    ["x" * 10_000_000 + "Available KV cache memory: 1.00 GiB"],
    ["(((((" * 100_000 + " pid=1) GiB"],
]


@pytest.mark.parametrize("lines", UNUSABLE, ids=range(len(UNUSABLE)))
def test_what_has_no_figure_tells_nothing(lines: list[str]) -> None:
    assert read_log(lines).figures() is None


def test_a_report_has_every_figure_by_name() -> None:
    report = MemoryReport()
    report.line("Available KV cache memory: -1.25 GiB")
    figures = report.figures()
    assert figures is not None
    assert set(figures) == {*FIGURES, "per_rank"}
    assert figures["available_kv_gib"] == -1.25
    assert figures["weights_gib"] is None


def test_a_watch_reads_the_report_as_it_goes() -> None:
    watch = Watch("a", 600, 0.0)
    for line in (LOGS / "good_start_kv_bytes.log").read_text(encoding="utf-8").splitlines():
        watch.line(line, 1.0)
    figures = watch.memory.figures()
    assert figures is not None
    assert figures["kv_tokens"] == 131072
