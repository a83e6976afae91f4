# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of metrics pages, with the names of old and new releases."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import metrics

TEXT = """
# HELP vllm:num_requests_running x
vllm:num_requests_running{engine="0",model_name="a}b"} 2.0
vllm:num_requests_running{engine="1",model_name="a"} 1.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
vllm:prompt_tokens_total{engine="0"} NaN
vllm:generation_tokens_total 7
vllm:num_requests_waiting{engine="0"} broken
vllm:request_success_total{engine="0",finished_reason="stop"} 3.0
vllm:request_success_total{engine="0",finished_reason="length"} 2.0
vllm:prefix_cache_queries_total{engine="0"} 30
vllm:prefix_cache_queries_total{engine="1"} 10
vllm:prefix_cache_hits_total{engine="0"} 10
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1"} 50.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5"} 90.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 100.0
vllm:e2e_request_latency_seconds_bucket{le="1.0",engine="0"} 0.0
vllm:e2e_request_latency_seconds_bucket{le="+Inf",engine="0"} 0.0
vllm:time_per_output_token_seconds_bucket{le="0.01"} 1
vllm:time_per_output_token_seconds_bucket{le="0.02"} 3
vllm:time_per_output_token_seconds_bucket{le="+Inf"} 3
vllm:iteration_tokens_total_count{engine="0"} 12
"""


def test_figures() -> None:
    known = {name: value for name, value in metrics.figures(TEXT).items() if value is not None}
    assert known == {
        "requests_running": 3.0,
        "requests_finished_total": 5.0,
        "kv_cache_usage_ratio": 0.5,
        "generation_tokens_total": 7.0,
        "prefix_cache_hit_ratio": 0.25,
        "time_to_first_token_p50_seconds": 0.1,
        # Beyond the highest bound nothing is known but that.
        "time_to_first_token_p95_seconds": 0.5,
        "time_between_tokens_p50_seconds": 0.0125,
        "time_between_tokens_p95_seconds": 0.01925,
    }
    assert metrics.moving(TEXT) == {
        "vllm:generation_tokens_total": 7.0,
        "vllm:request_success_total": 5.0,
        "vllm:iteration_tokens_total_count": 12.0,
    }


def test_the_kv_caches_of_all_engines_count() -> None:
    """One that fills beside a fuller one is seen too, under the older name as well."""
    assert metrics.held(TEXT) == 0.75
    assert metrics.held("vllm:gpu_cache_usage_perc 0.1") == 0.1


def test_nothing_is_known_of_an_empty_page() -> None:
    assert set(metrics.figures("").values()) == {None}
    assert metrics.moving("") == {}
    assert metrics.held("") is None
    assert metrics.sleeping("") is None


OLD = [
    ("vllm:gpu_cache_usage_perc 0.1", "kv_cache_usage_ratio", 0.1),
    ("vllm:gpu_prefix_cache_hit_rate -1", "prefix_cache_hit_ratio", None),
    ("vllm:gpu_prefix_cache_hit_rate 0.5", "prefix_cache_hit_ratio", 0.5),
    ("vllm:gpu_prefix_cache_hits_total 1\nvllm:gpu_prefix_cache_queries_total 4", "prefix_cache_hit_ratio", 0.25),
    ("vllm:prefix_cache_hits_total 0\nvllm:prefix_cache_queries_total 0", "prefix_cache_hit_ratio", None),
    ("vllm:prefix_cache_hits_total 0\nvllm:prefix_cache_queries_total 4", "prefix_cache_hit_ratio", 0.0),
]


@pytest.mark.parametrize(("text", "figure", "value"), OLD)
def test_names_of_other_releases(text: str, figure: str, value: float | None) -> None:
    assert metrics.figures(text)[figure] == value


@pytest.mark.parametrize(("states", "expected"), [({"awake": 1}, False), ({"awake": 0, "discard_all": 1}, True)])
def test_sleep(states: dict[str, t.Any], expected: bool) -> None:
    text = "\n".join(f'vllm:engine_sleep_state{{engine="0",sleep_state="{k}"}} {v}' for k, v in states.items())
    assert metrics.sleeping(text) is expected
