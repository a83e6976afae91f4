# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine options that decide about devices and memory, as numbers. Pure.

Their values come as people and templates write them: 2, "2", "32k", "auto".
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import typing as t
from decimal import Decimal

MIB = 2**20
GIB = 2**30

# FlashInfer's distribution, and what it was called before 0.2.0.
FLASHINFER = ("flashinfer-python", "flashinfer")

# human_readable_int in vllm/utils/argparse_utils.py of 0.32.0: small suffixes are decimal, large ones binary and
# without fractions.
_SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SUFFIXED = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([kmgt])|(\d{1,15})([KMGT])", re.ASCII)
_PLAIN = re.compile(r"[+-]?\d{1,18}", re.ASCII)
# No server is as large: bytes, tokens, requests, workers of one kind, stages of a pipeline.
_BYTES, _TOKENS, _REQUESTS, _WORKERS, _STAGES = 2**50, 10**9, 10**6, 2**12, 64
# These must be at least 1 where they are given, and at most what stands beside them.
_COUNTS = {
    "tensor_parallel": ("tensor_parallel_size", _WORKERS),
    "pipeline_parallel": ("pipeline_parallel_size", _STAGES),
    "prefill_context_parallel": ("prefill_context_parallel_size", _WORKERS),
    "data_parallel": ("data_parallel_size", _WORKERS),
    "decode_context_parallel": ("decode_context_parallel_size", _WORKERS),
    "max_num_seqs": ("max_num_seqs", _REQUESTS),
    "max_num_batched_tokens": ("max_num_batched_tokens", _TOKENS),
    "kv_cache_memory_bytes": ("kv_cache_memory_bytes", _BYTES),
    "block_size": ("block_size", _TOKENS),
    "max_loras": ("max_loras", _REQUESTS),
    "max_lora_rank": ("max_lora_rank", _REQUESTS),
    "gpu_blocks_override": ("num_gpu_blocks_override", _TOKENS),
    "mamba_block_size": ("mamba_block_size", _TOKENS),
}
# Switches: their values in a spec are true or false.
_SWITCHES = {
    "eager": "enforce_eager",
    "expert_parallel": "enable_expert_parallel",
    "lora": "enable_lora",
    "hybrid_manager_off": "disable_hybrid_kv_cache_manager",
    "language_model_only": "language_model_only",
    "prefix_caching": "enable_prefix_caching",
    "async_scheduling": "async_scheduling",
    "chunked_prefill": "enable_chunked_prefill",
}
# Choices and names.
_WORDS = {
    "kv_cache_dtype": "kv_cache_dtype",
    "dtype": "dtype",
    "quantization": "quantization",
    "mamba_cache_dtype": "mamba_cache_dtype",
    "mamba_ssm_cache_dtype": "mamba_ssm_cache_dtype",
    "mamba_cache_mode": "mamba_cache_mode",
    "performance_mode": "performance_mode",
    "attention_backend": "attention_backend",
}
# The other options that are read here, and those that no byte depends on.
_READ = {
    *(option for option, _most in _COUNTS.values()),
    *_SWITCHES.values(),
    *_WORDS.values(),
    "max_model_len",
    "gpu_memory_utilization",
    "speculative_config",
    "limit_mm_per_prompt",
    "cpu_offload_gb",
    "compilation_config",
    "cudagraph_capture_sizes",
    "max_cudagraph_capture_size",
}
_WITHOUT_MEMORY = {
    "api_key",
    "chat_template",
    "enable_auto_tool_choice",
    "enable_log_requests",
    "generation_config",
    "hf_token",
    "override_generation_config",
    "reasoning_parser",
    "seed",
    "served_model_name",
    "tool_call_parser",
    "trust_remote_code",
}


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a spec asks of devices and memory; None leaves it to vLLM. Bytes, tokens, requests.

    auto_length: vLLM shall take the longest length that its memory holds (max_model_len "auto" or -1).
    speculative, limit_mm: the JSON of speculative_config and limit_mm_per_prompt. compilation_level, capture_sizes,
    max_capture_size, cudagraph_mode: what is said of graphs. env: the spec's variables.
    unread: options and values that nothing here is computed from, though vLLM may take memory for them.
    flashinfer: the version of FlashInfer in the image, "" where it has none, None where nothing is known of the image.
    cpu_kv_bytes: the variable VLLM_CPU_KVCACHE_SPACE, which on a CPU overrides kv_cache_memory_bytes (platforms/cpu.py
    of 0.32.0).
    """

    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    prefill_context_parallel: int = 1
    decode_context_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: bool = False
    max_model_len: int | None = None
    auto_length: bool = False
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    utilization: float | None = None
    kv_cache_memory_bytes: int | None = None
    cpu_kv_bytes: int | None = None
    kv_cache_dtype: str = "auto"
    dtype: str = "auto"
    quantization: str | None = None
    block_size: int | None = None
    gpu_blocks_override: int | None = None
    hybrid_manager_off: bool = False
    prefix_caching: bool | None = None
    chunked_prefill: bool | None = None
    async_scheduling: bool | None = None
    performance_mode: str | None = None
    attention_backend: str | None = None
    mamba_cache_dtype: str = "auto"
    mamba_ssm_cache_dtype: str = "auto"
    mamba_cache_mode: str | None = None
    mamba_block_size: int | None = None
    eager: bool = False
    capture_sizes: tuple[int, ...] | None = None
    max_capture_size: int | None = None
    cudagraph_mode: str | None = None
    compilation_level: int | None = None
    speculative: t.Mapping[str, t.Any] | None = None
    lora: bool = False
    max_loras: int | None = None
    max_lora_rank: int | None = None
    language_model_only: bool = False
    limit_mm: t.Mapping[str, t.Any] | None = None
    cpu_offload_gib: float = 0.0
    env: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    flashinfer: str | None = None
    unread: tuple[tuple[str, str], ...] = ()

    @property
    def workers(self) -> int:
        """Processes of one data-parallel rank: world_size in config/parallel.py of 0.32.0."""
        return self.tensor_parallel * self.pipeline_parallel * self.prefill_context_parallel

    @property
    def speculative_tokens(self) -> int:
        """Tokens that are drafted for each step of a request; 0 without speculative decoding."""
        return min(max(0, whole((self.speculative or {}).get("num_speculative_tokens")) or 0), _REQUESTS)

    @property
    def layer_partition(self) -> str | None:
        """The layers of each pipeline stage, as the variable says them (envs.py of 0.6.0 to 0.33.0)."""
        return self.env.get("VLLM_PP_LAYER_PARTITION")

    @property
    def gpu_count(self) -> int:
        """GPUs of one server: each worker of each data-parallel rank has its own."""
        return self.workers * self.data_parallel


def read_asked(
    engine: t.Mapping[str, t.Any], env: t.Mapping[str, str], packages: t.Mapping[str, str] | None = None
) -> tuple[Asked, dict[str, str]]:
    """What is asked, and for each option whose value cannot be meant the reason why not. Never raises.

    engine, env: those of the spec. packages: of the image, as image_info has them; None where they are not known.
    """
    found: dict[str, t.Any] = {}
    faults: dict[str, str] = {}
    for name, (option, most) in _COUNTS.items():
        if option in engine:
            number = whole(engine[option])
            if number is None or number < 1:
                faults[option] = "must be 1 or more"
            elif number > most:
                faults[option] = f"must be at most {most:,}"
            else:
                found[name] = number
    if "max_model_len" in engine:
        length = -1 if str(engine["max_model_len"]).strip().lower() == "auto" else whole(engine["max_model_len"])
        if length == -1:
            found["auto_length"] = True
        elif length is None or length < 1:
            faults["max_model_len"] = "must be 1 or more, or auto"
        elif length > _TOKENS:
            faults["max_model_len"] = f"must be at most {_TOKENS:,}"
        else:
            found["max_model_len"] = length
    if "gpu_memory_utilization" in engine:
        share = _share(engine["gpu_memory_utilization"])
        if share is None:
            faults["gpu_memory_utilization"] = "must be more than 0 and at most 1"
        else:
            found["utilization"] = share
    space = whole(env.get("VLLM_CPU_KVCACHE_SPACE", ""))
    found["cpu_kv_bytes"] = space * GIB if space and space > 0 else None
    found.update({name: str(engine[option]) for name, option in _WORDS.items() if engine.get(option) is not None})
    found.update({name: engine[option] for name, option in _SWITCHES.items() if isinstance(engine.get(option), bool)})
    found["speculative"] = _mapping(engine.get("speculative_config"))
    found["limit_mm"] = _mapping(engine.get("limit_mm_per_prompt"))
    found["cpu_offload_gib"] = _positive(engine.get("cpu_offload_gb"))
    found.update(_graphs(engine))
    found["env"] = dict(env)
    if packages is not None:
        found["flashinfer"] = next((packages[name] for name in FLASHINFER if name in packages), "")
    others = set(engine) - _READ - _WITHOUT_MEMORY
    found["unread"] = tuple(sorted((str(name), repr(engine[name])) for name in others))
    return Asked(**found), faults


def whole(value: t.Any) -> int | None:
    """The whole number that vLLM's parser makes of a value, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value).strip()
    match = _SUFFIXED.fullmatch(text)
    if match:
        number, suffix = (match[1], match[2]) if match[1] else (match[3], match[4])
        return int(Decimal(number) * _SUFFIXES[suffix])
    return int(text) if _PLAIN.fullmatch(text) else None


def _graphs(engine: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What is said of CUDA graphs: options of their own (since 0.12.0 and later), or fields of compilation_config."""
    given = engine.get("compilation_config")
    # A bare number is the level (config/compilation.py of 0.10.0 and others).
    level = whole(given)
    fields = _mapping(given) or {}
    sizes = engine.get("cudagraph_capture_sizes", fields.get("cudagraph_capture_sizes"))
    largest = engine.get("max_cudagraph_capture_size", fields.get("max_cudagraph_capture_size"))
    mode = fields.get("cudagraph_mode")
    known = [number for size in sizes if (number := whole(size))] if isinstance(sizes, (list, tuple)) else None
    return {
        "capture_sizes": tuple(known) if known is not None else None,
        "max_capture_size": min(size, _REQUESTS) if (size := whole(largest)) and size > 0 else None,
        "cudagraph_mode": str(mode) if mode is not None else None,
        "compilation_level": level if level is not None else whole(fields.get("level", fields.get("mode"))),
    }


def _mapping(value: t.Any) -> t.Mapping[str, t.Any] | None:
    """A mapping, or the one that a text of JSON holds; anything else is None."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _positive(value: t.Any) -> float:
    """A number above 0, or 0."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) and number > 0 and not isinstance(value, bool) else 0.0


def _share(value: t.Any) -> float | None:
    """A share above 0 and up to 1 (Field of gpu_memory_utilization in config/cache.py of 0.32.0), or None."""
    try:
        share = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return share if not isinstance(value, bool) and math.isfinite(share) and 0 < share <= 1 else None
