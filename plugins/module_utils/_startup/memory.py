# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What an engine's start-up log says about memory, as figures. Pure.

The patterns follow the log calls of vLLM 0.6.0 to 0.33.0; each names the first and last release of its wording and the
file below vllm/. Most figures have two decimals, so a figure is right to 0.005 GiB. Which lines exist depends on the
release: the parts of the budget are told at INFO level up to 0.16 and from 0.26 on, between them at DEBUG only.
"""

from __future__ import annotations

import math
import re
import typing as t

Figures = t.Dict[str, float]

# What a report holds, each None when the log does not tell it. GiB of one GPU (of the host on the CPU), tokens, blocks
# and requests of one engine. activation: transient, without graphs; non_torch: beside weights, inside the budget;
# graphs_estimate: what the release expects of graphs before it captures them; consumed: what the process holds before
# the KV cache exists (weights and non-torch); peak_told: what 0.27.0 and later call peak activation, the estimate of
# graphs included where that is taken off the budget; budget: what the engine may take in all; free: at its start.
FIGURES = (
    "weights_gib",
    "activation_gib",
    "non_torch_gib",
    "consumed_gib",
    "peak_told_gib",
    "graphs_gib",
    "graphs_estimate_gib",
    "available_kv_gib",
    "kv_tokens",
    "gpu_blocks",
    "max_concurrency",
    "max_concurrency_len",
    "budget_gib",
    "free_gib",
    "total_gib",
    "kv_needed_gib",
    "estimated_max_model_len",
)
# Where ranks differ, the GPU with the least room decides about all.
_LEAST = ("available_kv_gib", "kv_tokens", "gpu_blocks", "max_concurrency", "free_gib", "estimated_max_model_len")
# These are told by the engine, not by a worker.
_OF_ENGINE = ("kv_tokens", "gpu_blocks", "max_concurrency", "max_concurrency_len")

_PATTERNS: tuple[t.Pattern[str], ...] = tuple(
    re.compile(pattern)
    for pattern in (
        # 0.6.0-0.7.3 worker/model_runner.py (GB means GiB: divided by 2**30), 0.8.3-0.9.2 worker/xpu_model_runner.py
        r"Loading model weights took (?P<weights_gib>[\d.]+) Gi?B",
        # 0.8.0-0.10.2 worker/model_runner.py, 0.8.0-0.33.0 v1/worker/gpu_model_runner.py, 0.12.0-0.33.0
        # v1/worker/gpu/model_runner.py
        r"Model loading took (?P<weights_gib>[\d.]+) Gi?B",
        # 0.6.4 worker/worker.py
        r"Memory profiling results: total_gpu_memory=(?P<total_gib>[\d.]+)GiB .*peak_torch_memory=(?P<peak>[\d.]+)GiB "
        r".*non_torch_memory=(?P<non_torch_gib>-?[\d.]+)GiB kv_cache_size=(?P<available_kv_gib>-?[\d.]+)GiB",
        # 0.6.5-0.10.2 worker/worker.py: one message of three lines
        r"the current vLLM instance can use total_gpu_memory \((?P<total_gib>[\d.]+)GiB\) x gpu_memory_utilization "
        r"\([\d.]+\) = (?P<budget_gib>[\d.]+)GiB",
        r"model weights take (?P<weights_gib>[\d.]+)GiB; non_torch_memory takes (?P<non_torch_gib>-?[\d.]+)GiB; "
        r"PyTorch activation peak memory takes (?P<activation_gib>[\d.]+)GiB; the rest of the memory reserved for KV "
        r"Cache is (?P<available_kv_gib>-?[\d.]+)GiB",
        # 0.6.0-0.6.6 executor/gpu_executor.py, distributed_gpu_executor.py, cpu_executor.py, 0.6.4-0.7.3 v1,
        # 0.7.0-0.11.0 executor/executor_base.py (with the platform's name)
        r"# \w+ blocks: (?P<gpu_blocks>\d+)",
        # 0.9.1-0.26.0 utils/mem_utils.py (0.9.1 utils.py, 0.9.2-0.11.0 utils/__init__.py), DEBUG
        r"Total non KV cache memory: [\d.]+GiB; torch peak memory increase: (?P<activation_gib>[\d.]+)GiB; non-torch "
        r"forward increase memory: (?P<non_torch_gib>-?[\d.]+)GiB; weights memory: (?P<weights_gib>[\d.]+)GiB",
        # 0.27.0-0.33.0 utils/mem_utils.py, DEBUG; its torch peak counts weights that were loaded meanwhile, so the
        # head-room is the difference of the sums
        r"Total non KV cache memory: (?P<sum>[\d.]+)GiB; torch peak memory increase: -?[\d.]+GiB; total consumed "
        r"\(from mem_get_info\): (?P<consumed_gib>-?[\d.]+)GiB; weights memory: (?P<weights_gib>[\d.]+)GiB",
        # 0.9.1-0.33.0 v1/worker/gpu_worker.py
        r"Available KV cache memory: (?P<available_kv_gib>-?[\d.]+) GiB",
        # 0.10.2-0.33.0 v1/worker/gpu_worker.py, with kv_cache_memory_bytes
        r"Initial free memory (?P<free_gib>[\d.]+) GiB, reserved (?P<available_kv_gib>[\d.]+) ?GiB memory for KV Cache",
        # 0.10.1-0.33.0 v1/worker/gpu_worker.py, DEBUG
        r"Initial free memory: (?P<free_gib>[\d.]+) GiB; Requested memory: [\d.]+ \(util\), (?P<budget_gib>[\d.]+) GiB",
        # 0.14.0-0.33.0 v1/worker/gpu_worker.py, DEBUG; the snapshot is utils/mem_utils.py
        r"worker init memory snapshot: .*free_memory=(?P<free_gib>[\d.]+)GiB, total_memory=(?P<total_gib>[\d.]+)GiB",
        r"worker requested memory: (?P<budget_gib>[\d.]+)GiB",
        # 0.10.2-0.33.0 v1/worker/gpu_worker.py: one message with four sentences, the third of them up to 0.26.0 and
        # from 0.27.0 on, where the peak includes the estimate of the graphs when that is in force. The first is also of
        # a start that ends there, 0.9.1-0.33.0 v1/worker/gpu_worker.py and utils.py.
        r"Free memory on device \S* ?\((?P<free_gib>[\d.]+)/(?P<total_gib>[\d.]+) GiB\) on startup",
        r"[Dd]esired GPU memory utilization (?:is )?\([\d.]+, (?P<budget_gib>[\d.]+) GiB\)",
        r"Actual usage is (?P<weights_gib>[\d.]+) GiB for weight, (?P<activation_gib>[\d.]+) GiB for peak activation, "
        r"(?P<non_torch_gib>-?[\d.]+) GiB for non-torch memory, and (?P<graphs_gib>-?[\d.]+) GiB for CUDAGraph memory",
        r"Actual usage is (?P<consumed_gib>-?[\d.]+) GiB for consumed memory \(weights \+ non-torch\), "
        r"(?P<peak_told_gib>[\d.]+) GiB for peak activation, and (?P<graphs_gib>-?[\d.]+) GiB for CUDAGraph memory",
        r"Current kv cache memory in use is (?P<available_kv_gib>[\d.]+) GiB",
        # 0.18.0-0.33.0 v1/worker/gpu_model_runner.py, and what says that it is taken off the budget:
        # 0.18.0-0.33.0 v1/worker/gpu_worker.py
        r"Estimated CUDA graph memory: (?P<graphs_estimate_gib>[\d.]+) GiB total",
        r"(?P<in_budget>CUDA graph memory profiling is enabled)",
        # 0.18.0-0.33.0 v1/worker/gpu_worker.py
        r"CUDA graph pool memory: (?P<graphs_gib>-?[\d.]+) GiB \(actual\), (?P<graphs_estimate_gib>[\d.]+) GiB "
        r"\(estimated\)",
        # 0.6.4-0.10.2 worker/model_runner.py, 0.6.4-0.33.0 v1/worker/gpu_model_runner.py, 0.12.0-0.33.0
        # v1/worker/gpu/model_runner.py
        r"Graph capturing finished in \d+ secs, took (?P<graphs_gib>-?[\d.]+) GiB",
        # 0.20.0-0.33.0 v1/worker/cpu_worker.py
        r"Explicitly set \((?P<available_kv_gib>[\d.]+)/(?P<total_gib>[\d.]+)\) GiB for KV cache on node",
        r"Auto set \((?P<available_kv_gib>[\d.]+)/(?P<total_gib>[\d.]+)\) GiB for KV cache on node .*with "
        r"(?P<budget_gib>[\d.]+) GiB requested memory for the worker\. (?P<consumed_gib>[\d.]+) GiB memory was",
        # 0.8.0-0.33.0 v1/core/kv_cache_utils.py; the platform's name from 0.30.0, and on one line with the next from
        # 0.28.0
        r"\w+(?: \+ host)? KV cache size: (?P<kv_tokens>[\d,]+) tokens",
        # 0.6.3-0.6.6 executor/gpu_executor.py, 0.7.0-0.11.0 executor/executor_base.py, 0.7.1-0.33.0
        # v1/core/kv_cache_utils.py
        r"Maximum concurrency for (?P<max_concurrency_len>[\d,]+) tokens per request: (?P<max_concurrency>[\d.]+)x",
        # 0.7.0-0.32.0 v1/core/kv_cache_utils.py, 0.33.0 v1/core/kv_cache_planning.py: a start that ends there
        r"\(?(?P<kv_needed_gib>[\d.]+) Gi?B KV cache is needed, which is larger than the available KV cache memory "
        r"\((?P<available_kv_gib>-?[\d.]+) Gi?B\)(?:.*estimated maximum model length is "
        r"(?P<estimated_max_model_len>[\d,]+))?",
    )
)
# Groups above that are no whole numbers, beside those of GiB.
_FRACTIONS = ("sum", "peak", "max_concurrency")
# One search that nearly every line of a log fails.
_ANY = re.compile(r"GiB|GB|# \w+ blocks|KV cache size|Maximum concurrency|CUDA graph memory|version ")
# The banner of one start: 0.6.0-0.13.0 entrypoints/openai/api_server.py, then log_version_and_model in
# entrypoints/utils.py (0.32.0: entrypoints/serve/utils/api_utils.py).
_BANNER = re.compile(r"(?:vLLM (?:API )?server|█ ) version (?P<version>[^\s,]+)")
# The process that a line is of: decorate_logs in 0.10.1.1-0.33.0 (utils/__init__.py, utils/system_utils.py), before it
# executor/multiproc_worker_utils.py. A progress bar without a line end may stand before it.
_PROCESS = re.compile(r"\((?P<name>[A-Za-z][\w ={}-]*?) pid=(?P<pid>\d+)(?:, ip=[^)]*)?\)")
# The colours of ColoredFormatter in logging_utils/formatter.py, 0.12.0-0.33.0, and of the prefix before.
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
# Characters of a line that are looked at; no message above is longer.
_CHARACTERS = 2000
# GiB, tokens and blocks of any engine are far fewer; more is a torn line, or one that no engine wrote.
_LARGEST = 10**15


class MemoryReport:
    """The figures of the last start in a log that is handed over line by line."""

    def __init__(self) -> None:
        self._begin(None)

    def line(self, line: str) -> None:
        """Take one line of the log."""
        line = line[:_CHARACTERS]
        if not _ANY.search(line):
            return
        line = _COLOUR.sub("", line)
        banner = _BANNER.search(line)
        if banner:
            # A log may hold several starts: a container that was restarted keeps its log.
            self._begin(banner["version"])
            return
        for pattern in _PATTERNS:
            match = pattern.search(line)
            if match:
                self._take(_process(line[: match.start()]), match.groupdict())

    @property
    def version(self) -> str | None:
        """The release as the engine tells it, or None."""
        return self._version

    def figures(self) -> dict[str, t.Any] | None:
        """FIGURES of the engine, and those of its processes as per_rank where several tell some; None without any."""
        ranks = {name: _completed(found) for name, found in self._named().items()}
        told = [found for found in ranks.values() if found]
        if not told:
            return None
        report: dict[str, t.Any] = {}
        for name in FIGURES:
            values = [found[name] for found in told if name in found]
            report[name] = (min if name in _LEAST else max)(values) if values else None
        workers = {
            rank: {name: found[name] for name in FIGURES if name in found and name not in _OF_ENGINE}
            for rank, found in ranks.items()
        }
        workers = {rank: found for rank, found in workers.items() if found}
        report["per_rank"] = workers if len(workers) > 1 else {}
        return report

    def _begin(self, version: str | None) -> None:
        self._version = version
        self._processes: dict[tuple[str, str], Figures] = {}

    def _take(self, process: tuple[str, str], found: t.Mapping[str, str | None]) -> None:
        figures = self._processes.setdefault(process, {})
        for name, text in found.items():
            if name == "in_budget":
                figures[name] = 1.0
                continue
            value = _number(name, text)
            if value is None:
                continue
            if name == "weights_gib":
                # Up to 0.10.2 a draft model is told in the same words after the one that it drafts for.
                value = max(value, figures.get(name, value))
            elif name in _OF_ENGINE:
                # Up to 0.11.0 the engine tells what each worker has room for, and then takes the least.
                value = min(value, figures.get(name, value))
            figures[name] = value

    def _named(self) -> dict[str, Figures]:
        """The processes by their names; with the process ID where several have one name, as of VllmWorkerProcess."""
        names = [name for name, _pid in self._processes]
        return {
            name if names.count(name) == 1 else f"{name} {pid}": figures
            for (name, pid), figures in self._processes.items()
        }


def read_log(lines: t.Iterable[str]) -> MemoryReport:
    """The report of a whole log."""
    report = MemoryReport()
    for line in lines:
        report.line(line)
    return report


def _process(before: str) -> tuple[str, str]:
    """(name, process ID) of the process that wrote a line, from what stands before its message."""
    found = _PROCESS.findall(before)
    return found[-1] if found else ("main", "")


def _number(name: str, text: str | None) -> float | None:
    """A figure; None where the line does not tell it or a torn line has no number there that can be right."""
    if text is None:
        return None
    try:
        value = float(text.replace(",", "").rstrip("."))
    except ValueError:
        return None
    if not math.isfinite(value) or abs(value) > _LARGEST:
        return None
    return value if name.endswith("_gib") or name in _FRACTIONS else int(value)


def _completed(found: Figures) -> Figures:
    """The figures of one process with those that follow from others, without what only helped."""
    figures = {name: found[name] for name in FIGURES if name in found}
    weights, consumed = figures.get("weights_gib"), figures.get("consumed_gib")
    if "peak" in found and weights is not None:
        # peak_torch_memory of 0.6.4 is all that torch held at the peak.
        figures["activation_gib"] = round(found["peak"] - weights, 4)
    if consumed is not None and weights is not None and "non_torch_gib" not in figures:
        figures["non_torch_gib"] = round(consumed - weights, 4)
    if "sum" in found and consumed is not None:
        figures["activation_gib"] = round(found["sum"] - consumed, 4)
    elif "peak_told_gib" in figures:
        reserved = figures.get("graphs_estimate_gib") if "in_budget" in found else 0.0
        if reserved is not None:
            figures["activation_gib"] = round(figures["peak_told_gib"] - reserved, 4)
    return figures
