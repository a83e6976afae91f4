# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a changed default means, in words. Which defaults change is the catalogue's matter; here is what to say of them.

Every entry cites the release and the file that it was read in. Pure.
"""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Consequence:
    """words: read behind "OPTION: before -> after", in both directions; source: release and file.

    nothing: the value that releases take whose parser's default is None, where that is always the same. absent: what
    releases do that do not have the option; an ellipsis where there is nothing to compare.
    """

    words: str
    source: str
    nothing: t.Any = None
    absent: t.Any = ...


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """A change that no option's default shows. It happens in the release `since`.

    words, undone: what an upgrade over `since` brings, and what a downgrade over it takes back; keep: what to write to
    have the former behaviour in the newer release, by section of the spec; engine, env: who writes one of these has
    decided himself, or has nothing to decide; gpu: whether it is so on GPUs only.
    """

    topic: str
    since: str
    words: str
    undone: str
    source: str
    keep: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    engine: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    gpu: bool = False


_BATCH = "engine/arg_utils.py of 0.8.0 and 0.28.0"

# By option.
OF_DEFAULT: dict[str, Consequence] = {
    "gpu_memory_utilization": Consequence(
        "the engine takes another share of the device, and nearly all of the difference is KV cache",
        "config/cache.py of 0.20.0",
    ),
    "max_num_seqs": Consequence(
        "so many requests run at once, and the sampler's memory grows with them, at the cost of the KV cache",
        f"{_BATCH}, 256 in that of 0.7.3",
        nothing=256,
    ),
    "max_num_batched_tokens": Consequence(
        "so many tokens are computed in one step; more of them speed up prompts and take memory from the KV cache",
        _BATCH,
    ),
    "enable_prefix_caching": Consequence(
        "the KV cache of equal beginnings of prompts is used again; answers come sooner, and the time that they take "
        "depends on what was asked before",
        "engine/arg_utils.py of 0.7.3 and 0.8.0",
        nothing=False,
    ),
    "enable_chunked_prefill": Consequence(
        "long prompts are computed in pieces between the tokens of other requests: steadier answers, and "
        "max_num_batched_tokens no longer has to hold a whole prompt",
        "engine/arg_utils.py of 0.8.0",
    ),
    "async_scheduling": Consequence(
        "the next step is scheduled while the GPU computes this one; where it is left open, the engine does so unless "
        "a feature does not go with it",
        "config/vllm.py of 0.14.0",
        absent=False,
    ),
    "generation_config": Consequence(
        "auto takes temperature, top_p and the like of requests that name none out of the model's "
        "generation_config.json: the same request may be answered otherwise",
        "engine/arg_utils.py of 0.8.0",
        nothing="vllm",
        absent="vllm",
    ),
    "allowed_origins": Consequence(
        'which pages of other origins may call the server from a browser: [] none, ["*"] all',
        "entrypoints/launchers/cli_args.py of 0.32.0",
    ),
    "prefix_caching_hash_algo": Consequence(
        "the keys of the prefix cache's blocks; those of builtin, a choice up to 0.10.1.1, may collide",
        "config/cache.py of 0.10.2",
    ),
    "guided_decoding_backend": Consequence(
        "structured outputs come from another backend, which may refuse schemas that the former one took",
        "engine/arg_utils.py of 0.6.5 and config.py of 0.8.4",
    ),
}

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(
        "the V1 engine",
        "0.8.0",
        "is the default: another scheduler and sampler, no swapping to host memory, other defaults and metrics",
        "is no longer the default",
        "envs.py and engine/arg_utils.py of 0.8.0",
        env=("VLLM_USE_V1",),
        gpu=True,
    ),
    Behaviour(
        "the V0 engine",
        "0.11.0",
        "is gone; what only it could do is refused",
        "exists again, for what V1 does not support",
        "engine/llm_engine.py of 0.11.0",
    ),
    Behaviour(
        "request logging",
        "0.10.1",
        "is off unless it is asked for",
        "is on unless disable_log_requests is set",
        "engine/arg_utils.py of 0.10.1",
        keep={"engine": {"enable_log_requests": True}},
        engine=("enable_log_requests", "disable_log_requests"),
    ),
    Behaviour(
        "the check of GPU-to-GPU copies",
        "0.10.1",
        "is left out: the driver's word is taken, and servers on several GPUs hang where it is wrong",
        "is made at the first start on several GPUs",
        "envs.py of 0.10.1 (VLLM_SKIP_P2P_CHECK)",
        keep={"env": {"VLLM_SKIP_P2P_CHECK": "0"}},
        env=("VLLM_SKIP_P2P_CHECK",),
        gpu=True,
    ),
    Behaviour(
        "the memory of CUDA graphs",
        "0.20.0",
        "counts within gpu_memory_utilization and is taken from the KV cache",
        "comes on top of gpu_memory_utilization",
        "envs.py of 0.20.0 (VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS)",
        keep={"env": {"VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": "0"}},
        engine=("enforce_eager", "kv_cache_memory_bytes"),
        env=("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS",),
        gpu=True,
    ),
    Behaviour(
        "FlashInfer's sampler",
        "0.21.0",
        "is used for top-k and top-p where the GPU supports it; equal seeds may give other tokens than before",
        "is used only where it is asked for",
        "envs.py and v1/sample/ops/topk_topp_sampler.py of 0.21.0 (VLLM_USE_FLASHINFER_SAMPLER)",
        keep={"env": {"VLLM_USE_FLASHINFER_SAMPLER": "0"}},
        env=("VLLM_USE_FLASHINFER_SAMPLER",),
        gpu=True,
    ),
)

# Metrics that go on under another name; the comments of v1/metrics/loggers.py of 0.10.2 (and, for the queue's time,
# the help text in engine/metrics.py of 0.8.0) name the successors.
METRIC_SUCCESSORS = {
    "vllm:gpu_cache_usage_perc": ("vllm:kv_cache_usage_perc",),
    "vllm:gpu_prefix_cache_hits_total": ("vllm:prefix_cache_hits_total",),
    "vllm:gpu_prefix_cache_queries_total": ("vllm:prefix_cache_queries_total",),
    "vllm:gpu_prefix_cache_hit_rate": ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"),
    "vllm:time_per_output_token_seconds": ("vllm:inter_token_latency_seconds",),
    "vllm:time_in_queue_requests": ("vllm:request_queue_time_seconds",),
}
