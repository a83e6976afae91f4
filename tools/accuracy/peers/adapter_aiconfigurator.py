# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""aiconfigurator's estimate_kv_cache on the jobs of stdin (JSON, see run.py), its answers as JSON on stdout."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import re
import sys
from typing import Any

from aiconfigurator_core.sdk.memory import estimate_kv_cache

GIB = 2**30
# Of dense models that are quantized: it does not tell from every configuration by itself.
_MODES = {8: "fp8", 4: "int4_wo"}
# Its GPUs by what a GPU's name holds, each with the only vLLM release that it has data of; others are refused.
_SYSTEMS = (
    (r"B200", "b200_sxm", "0.24.0"),
    (r"H200", "h200_sxm", "0.24.0"),
    (r"H100", "h100_sxm", "0.24.0"),
    (r"A100", "a100_sxm", "0.14.0"),
    (r"RTX PRO 6000", "rtx_pro_6000_server", "0.24.0"),
)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Its own estimate, naive where it knows no better, with the GPU's real bytes instead of those of its sheet."""
    system, version = next(
        ((name, release) for text, name, release in _SYSTEMS if re.search(text, job["gpu"])), ("", "")
    )
    if not system:
        raise ValueError("no data for this GPU")
    with contextlib.redirect_stdout(sys.stderr):
        found = estimate_kv_cache(
            job["folder"],
            system,
            "vllm",
            version,
            max_num_tokens=job["max_num_batched_tokens"],
            max_batch_size=job["max_num_seqs"],
            memory_fraction_kind="of_total",
            memory_fraction_value=job["utilization"],
            tp_size=job["tp"],
            pp_size=job["pp"],
            moe_tp_size=job["tp"] if job["is_moe"] else None,
            moe_ep_size=1 if job["is_moe"] else None,
            gemm_quant_mode=None if job["is_moe"] else _MODES.get(job["bits"]),
            kvcache_quant_mode="fp8" if job["kv_cache_dtype"].startswith("fp8") else None,
            gpu_memory_capacity_bytes_override=int(job["gpu_gib"] * GIB),
            allow_naive_fallback=True,
        )
    tokens = int(found["total_kv_size_tokens"])
    return {
        "kv_gib": found["total_kv_size_bytes"] / GIB,
        "tokens": tokens,
        "fits": tokens >= job["max_model_len"],
        "source": found["source"],
    }


def main() -> None:
    """Answer every job; what the tool refuses is its answer."""
    said: dict[str, Any] = {}
    for job in json.load(sys.stdin):
        try:
            said[job["id"]] = answer(job)
        except Exception as error:
            if "no KV budget" in str(error):
                said[job["id"]] = {"fits": False}
                continue
            said[job["id"]] = {"refused": f"{type(error).__name__}: {error}"[:200]}
    json.dump({"version": importlib.metadata.version("aiconfigurator"), "records": said}, sys.stdout)


if __name__ == "__main__":
    main()
