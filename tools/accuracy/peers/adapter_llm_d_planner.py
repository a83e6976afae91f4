# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""llm-d-planner's capacity planner on the jobs of stdin (JSON, see run.py), its answers as JSON on stdout."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from functools import cache
from typing import Any

from planner import capacity_planner as planner


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Its own functions; it pools the GPUs of a server, so a GPU's share is taken."""
    model, length = job["model"], job["max_model_len"]
    config = config_of(model)
    gpus = job["tp"] * job["pp"]
    split = {"tp": job["tp"], "pp": job["pp"], "dp": 1}
    left = planner.allocatable_kv_cache_memory(
        model, config, job["gpu_gib"], job["utilization"], max_model_len=length, **split
    )
    # As its max_concurrent_requests does; total_kv_cache_blocks counts the GPUs twice.
    detail = planner.KVCacheDetail(model, config, length, 1)
    needed = detail.per_request_kv_cache_gb
    return {
        "weights_gib": planner.per_gpu_model_memory_required(model, config, job["tp"], job["pp"]),
        "activation_gib": planner.estimate_vllm_activation_memory(config, tp=job["tp"]),
        "kv_gib": left / gpus,
        "tokens": int(planner.gib_to_bytes(left) / detail.per_token_memory_bytes),
        "fits": left > 0 and left >= needed,
    }


@cache
def config_of(model: str) -> Any:
    """The configuration, through transformers."""
    return planner.get_model_config_from_hf(model)


def main() -> None:
    """Answer every job; what the tool refuses is its answer."""
    said: dict[str, Any] = {}
    for job in json.load(sys.stdin):
        try:
            said[job["id"]] = answer(job)
        except Exception as error:
            said[job["id"]] = {"refused": f"{type(error).__name__}: {error}"[:200]}
    json.dump({"version": importlib.metadata.version("llm-d-planner"), "records": said}, sys.stdout)


if __name__ == "__main__":
    main()
