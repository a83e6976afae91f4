# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Prometheus text of a server to the few figures that say how it is. Pure.

Names by release, read from the metrics that releases 0.6.0 to 0.33.0 register: what was gpu_cache_usage_perc is
kv_cache_usage_perc in later ones. A figure that a server does not have is None.
"""

from __future__ import annotations

import contextlib
import math
import re

# Figure -> the metric's names over the releases, newest first. Counters lose the suffix _total in no release.
FIGURES: dict[str, tuple[str, ...]] = {
    "requests_running": ("vllm:num_requests_running",),
    "requests_waiting": ("vllm:num_requests_waiting",),
    "kv_cache_usage_ratio": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    "prompt_tokens_total": ("vllm:prompt_tokens_total",),
    "generation_tokens_total": ("vllm:generation_tokens_total",),
}

# Figures of which the highest engine counts, for a sum of ratios is none.
_HIGHEST = ("kv_cache_usage_ratio",)
_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{.*\})?\s+(?P<value>\S+)")


def figures(text: str) -> dict[str, float | None]:
    """The figures of FIGURES, over all engines and label sets: the sums, and of a ratio the highest."""
    values: dict[str, list[float]] = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            with contextlib.suppress(ValueError):
                values.setdefault(match["name"], []).append(float(match["value"]))
    return {figure: _one(figure, names, values) for figure, names in FIGURES.items()}


def _one(figure: str, names: tuple[str, ...], values: dict[str, list[float]]) -> float | None:
    for name in names:
        # An engine that has not counted yet says NaN, which JSON does not know.
        known = [value for value in values.get(name, ()) if math.isfinite(value)]
        if known:
            return max(known) if figure in _HIGHEST else sum(known)
    return None
