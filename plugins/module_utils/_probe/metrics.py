# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Prometheus text of a server to the few figures that say how it is. Pure.

Names by release, read from the metrics that releases 0.6.0 to 0.33.0 register: what was gpu_cache_usage_perc is
kv_cache_usage_perc in later ones. A figure that a server does not have, or has not counted yet, is None.
"""

from __future__ import annotations

import math
import re
import typing as t

# Figure -> the metric's names over the releases, newest first. Counters lose the suffix _total in no release.
FIGURES: dict[str, tuple[str, ...]] = {
    "requests_running": ("vllm:num_requests_running",),
    "requests_waiting": ("vllm:num_requests_waiting",),
    "requests_finished_total": ("vllm:request_success_total",),
    "kv_cache_usage_ratio": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    "prompt_tokens_total": ("vllm:prompt_tokens_total",),
    "generation_tokens_total": ("vllm:generation_tokens_total",),
    "preemptions_total": ("vllm:num_preemptions_total",),
}
# Hits and queries in tokens, the newest first; before them engine V0 told the ratio itself.
PREFIX_CACHE: tuple[tuple[str, str], ...] = (
    ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"),
    ("vllm:gpu_prefix_cache_hits_total", "vllm:gpu_prefix_cache_queries_total"),
)
PREFIX_CACHE_RATIO = "vllm:gpu_prefix_cache_hit_rate"
# Figure, without its percentile -> the histogram's names in seconds. time_per_output_token_seconds was the time between
# two tokens before 0.10.2 called that inter_token_latency_seconds.
HISTOGRAMS: dict[str, tuple[str, ...]] = {
    "time_to_first_token": ("vllm:time_to_first_token_seconds",),
    "time_between_tokens": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    "request_latency": ("vllm:e2e_request_latency_seconds",),
    "queue_time": ("vllm:request_queue_time_seconds",),
}
PERCENTILES = (50, 95)
# Counters that stand still when the engine does. A step that makes no token, such as a piece of a long prompt, moves
# none of them (vLLM 0.9.2 to 0.33.0, v1/engine/async_llm.py: IterationStats only with outputs).
MOVING: tuple[str, ...] = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:num_preemptions_total",
    # A histogram's name, 0.6.4 to 0.33.0 (V0 only up to 0.7.2)
    "vllm:iteration_tokens_total_count",
)
# From 0.11.1 on, one sample for each of awake, weights_offloaded and discard_all.
SLEEP = "vllm:engine_sleep_state"

# Figures of which the highest engine counts, for a sum of ratios is none.
_HIGHEST = ("kv_cache_usage_ratio",)
_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)")
_BOUND = re.compile(r'(?:^|,)\s*le="([^"]+)"')

Samples = t.Dict[str, t.List[t.Tuple[str, float]]]


def samples(text: str) -> Samples:
    """Name -> labels and value of each sample. NaN, which an engine says that has not counted yet, is left out."""
    found: Samples = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            try:
                value = float(match["value"])
            except ValueError:
                continue
            if math.isfinite(value):
                found.setdefault(match["name"], []).append((match["labels"] or "", value))
    return found


def figures(text: str) -> dict[str, float | None]:
    """The figures of a server over all its engines and label sets: the sums, of a ratio the highest; see names()."""
    found = samples(text)
    result: dict[str, float | None] = {}
    for figure, names in FIGURES.items():
        values = _first(found, names)
        result[figure] = None if values is None else (max if figure in _HIGHEST else sum)(values)
    result["prefix_cache_hit_ratio"] = _prefix_cache(found)
    for figure, names in HISTOGRAMS.items():
        buckets = next((_buckets(found[name + "_bucket"]) for name in names if name + "_bucket" in found), None)
        for percentile in PERCENTILES:
            result[f"{figure}_p{percentile}_seconds"] = _quantile(buckets, percentile / 100) if buckets else None
    return result


def moving(text: str) -> dict[str, float]:
    """The counters of MOVING that a server has, summed."""
    found = samples(text)
    return {name: sum(value for _labels, value in found[name]) for name in MOVING if name in found}


def held(text: str) -> float | None:
    """How full the KV caches of all engines are together; None when the server does not tell."""
    values = _first(samples(text), FIGURES["kv_cache_usage_ratio"])
    return None if values is None else sum(values)


def sleeping(text: str) -> bool | None:
    """Whether an engine sleeps; None when the release does not tell."""
    awake = [value for labels, value in samples(text).get(SLEEP, ()) if 'sleep_state="awake"' in labels]
    return min(awake) == 0 if awake else None


def _first(found: Samples, names: t.Sequence[str]) -> list[float] | None:
    """The values of the first of these names that the server has."""
    return next(([value for _labels, value in found[name]] for name in names if name in found), None)


def _prefix_cache(found: Samples) -> float | None:
    for hits, queries in PREFIX_CACHE:
        counted = sum(_first(found, (queries,)) or ())
        if counted:
            return round(sum(_first(found, (hits,)) or ()) / counted, 4)
    # Engine V0 says -1 before it has counted.
    told = [value for value in _first(found, (PREFIX_CACHE_RATIO,)) or () if value >= 0]
    return max(told) if told else None


def _buckets(rows: t.Iterable[tuple[str, float]]) -> list[tuple[float, float]]:
    """(upper bound, requests up to it) of a histogram over all label sets, by bound."""
    sums: dict[float, float] = {}
    for labels, value in rows:
        bound = _BOUND.search(labels)
        if bound:
            key = float(bound[1])
            sums[key] = sums.get(key, 0.0) + value
    return sorted(sums.items())


def _quantile(buckets: t.Sequence[tuple[float, float]], share: float) -> float | None:
    """As Prometheus' histogram_quantile: linear within a bucket, the highest finite bound beyond it; None of none."""
    count = buckets[-1][1]
    if count <= 0:
        return None
    wanted = share * count
    below, counted = 0.0, 0.0
    for bound, upto in buckets:
        if upto >= wanted:
            if math.isinf(bound):
                return below
            inside = upto - counted
            return round(below + (bound - below) * ((wanted - counted) / inside if inside else 0.0), 6)
        below, counted = bound, upto
    return below
