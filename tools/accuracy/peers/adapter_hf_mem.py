# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""hf-mem on the jobs of stdin (JSON, see run.py), its answers as JSON on stdout."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from functools import cache
from typing import Any

import httpx2
from hf_mem.run import run

GIB = 2**30
_HUB = "https://huggingface.co"


class _Client(httpx2.AsyncClient):
    """The address of the hub is written into hf-mem; here it is that of HF_ENDPOINT."""

    def build_request(self, method: str, url: Any, **more: Any) -> Any:
        return super().build_request(method, str(url).replace(_HUB, os.environ["HF_ENDPOINT"]), **more)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """The tool sizes weights and the KV cache of whole requests, on no GPU: what is left is its user's sum."""
    found = sized(job["model"], job["max_model_len"], job["kv_cache_dtype"])
    gpus = job["tp"] * job["pp"]
    weights = found["memory"] / GIB
    left = job["gpu_gib"] * job["utilization"] - weights / gpus
    said: dict[str, Any] = {"weights_gib": weights / gpus, "kv_gib": left}
    cache_bytes = found["kv_cache"]
    if cache_bytes:
        needed = cache_bytes / GIB / gpus
        said["tokens"] = int(max(0.0, left) / needed * job["max_model_len"])
        said["fits"] = left >= needed
    return said


@cache
def sized(model: str, length: int, dtype: str) -> dict[str, Any]:
    """What the tool prints with --json-output."""
    known = ("bfloat16", "fp8", "fp8_ds_mla", "fp8_e4m3", "fp8_e5m2")
    kinds = [dtype] if dtype in known else ["auto", "bfloat16"]  # of some quantized models it cannot tell by itself
    while True:
        try:
            made: dict[str, Any] = run(
                model, experimental=True, max_model_len=length, kv_cache_dtype=kinds.pop(0)
            ).to_json()
            return made
        except RuntimeError:
            if not kinds:
                raise


def main() -> None:
    """Answer every job; what the tool refuses is its answer."""
    httpx2.AsyncClient = _Client
    said: dict[str, Any] = {}
    for job in json.load(sys.stdin):
        try:
            said[job["id"]] = answer(job)
        except (Exception, SystemExit) as error:
            said[job["id"]] = {"refused": f"{type(error).__name__}: {error}"[:200]}
    json.dump({"version": importlib.metadata.version("hf-mem"), "records": said}, sys.stdout)


if __name__ == "__main__":
    main()
