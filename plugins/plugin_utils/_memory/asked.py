# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine options that decide about devices and memory, as numbers. Pure.

Their values come as people and templates write them: 2, "2", "32k", "auto".
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing as t
from decimal import Decimal

GIB = 2**30

# human_readable_int in vllm/utils/argparse_utils.py of 0.32.0: small suffixes are decimal, large ones binary and
# without fractions.
_SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SUFFIXED = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([kmgt])|(\d{1,15})([KMGT])", re.ASCII)
_PLAIN = re.compile(r"[+-]?\d{1,18}", re.ASCII)
# These must be at least 1 where they are given.
_COUNTS = {
    "tensor_parallel": "tensor_parallel_size",
    "pipeline_parallel": "pipeline_parallel_size",
    "prefill_context_parallel": "prefill_context_parallel_size",
    "data_parallel": "data_parallel_size",
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "kv_cache_memory_bytes": "kv_cache_memory_bytes",
}


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a spec asks of devices and memory; None leaves it to vLLM. Bytes, tokens, requests.

    auto_length: vLLM shall take the longest length that its memory holds (max_model_len "auto" or -1).
    cpu_kv_bytes: the variable VLLM_CPU_KVCACHE_SPACE, which on a CPU overrides kv_cache_memory_bytes (platforms/cpu.py
    of 0.32.0).
    """

    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    prefill_context_parallel: int = 1
    data_parallel: int = 1
    max_model_len: int | None = None
    auto_length: bool = False
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    utilization: float | None = None
    kv_cache_memory_bytes: int | None = None
    cpu_kv_bytes: int | None = None
    kv_cache_dtype: str = "auto"
    dtype: str = "auto"
    eager: bool = False

    @property
    def workers(self) -> int:
        """Processes of one data-parallel rank: world_size in config/parallel.py of 0.32.0."""
        return self.tensor_parallel * self.pipeline_parallel * self.prefill_context_parallel

    @property
    def gpu_count(self) -> int:
        """GPUs of one server: each worker of each data-parallel rank has its own."""
        return self.workers * self.data_parallel


def read_asked(engine: t.Mapping[str, t.Any], env: t.Mapping[str, str]) -> tuple[Asked, dict[str, str]]:
    """What is asked, and for each option whose value cannot be meant the reason why not. Never raises.

    engine, env: those of the spec.
    """
    found: dict[str, t.Any] = {}
    faults: dict[str, str] = {}
    for name, option in _COUNTS.items():
        if option in engine:
            number = whole(engine[option])
            if number is None or number < 1:
                faults[option] = "must be 1 or more"
            else:
                found[name] = number
    if "max_model_len" in engine:
        length = -1 if str(engine["max_model_len"]).strip().lower() == "auto" else whole(engine["max_model_len"])
        if length == -1:
            found["auto_length"] = True
        elif length is None or length < 1:
            faults["max_model_len"] = "must be 1 or more, or auto"
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
    found["kv_cache_dtype"] = str(engine.get("kv_cache_dtype", "auto"))
    found["dtype"] = str(engine.get("dtype", "auto"))
    found["eager"] = engine.get("enforce_eager") is True
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


def _share(value: t.Any) -> float | None:
    """A share above 0 and up to 1 (Field of gpu_memory_utilization in config/cache.py of 0.32.0), or None."""
    try:
        share = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return share if not isinstance(value, bool) and math.isfinite(share) and 0 < share <= 1 else None
