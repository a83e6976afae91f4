# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defaults that a release chooses when it starts, by device; runs in the process in which probe.py made it run.

The parser's default of these options is None. The release's own EngineArgs fills them in, for a model that generates
text and supports everything that depends on the model; NVML's stand-in shows it one device after the other.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import types
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from plain import plain

# Name, compute capability and memory in GiB, as NVML tells them.
GPUS = {
    "H100 80 GiB": ("NVIDIA H100 80GB HBM3", (9, 0), 80),
    "A100 80 GiB": ("NVIDIA A100-SXM4-80GB", (8, 0), 80),
    "B200 180 GiB": ("NVIDIA B200", (10, 0), 180),
    "L4 24 GiB": ("NVIDIA L4", (8, 9), 24),
}
# What the rules ask of a model. An attribute that a release asks for beside these fails, so that nothing is made up.
MODEL = types.SimpleNamespace(
    model="model",
    architectures=["LlamaForCausalLM"],
    runner_type="generate",
    task="generate",
    dtype=torch.bfloat16,
    model_impl="auto",
    quantization=None,
    max_model_len=32768,
    pooler_config=None,
    multimodal_config=None,
    get_sliding_window=lambda: None,
    is_v1_compatible=True,
    is_chunked_prefill_supported=True,
    is_prefix_caching_supported=True,
    is_attention_free=False,
    is_encoder_decoder=False,
    is_hybrid=False,
    is_mm_prefix_lm=False,
    is_multimodal_model=False,
    has_inner_state=False,
    use_mla=False,
)
PARALLEL = types.SimpleNamespace(use_batched_dp_moe=False)


def defaults(answers: dict[str, Any], options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Effective defaults by option, each by device; empty before 0.8.0, which decided by the model's length alone."""
    arguments, platforms = map(importlib.import_module, ("vllm.engine.arg_utils", "vllm.platforms"))
    if not any(name.startswith("_set_default_") for name in vars(arguments.EngineArgs)):
        return {}
    found: dict[str, dict[str, Any]] = {}
    for device, (name, capability, memory) in GPUS.items():
        answers["nvmlDeviceGetName"] = name
        answers["nvmlDeviceGetCudaComputeCapability"] = capability
        answers["nvmlDeviceGetMemoryInfo"] = types.SimpleNamespace(total=memory << 30, free=memory << 30, used=0)
        forget(platforms.current_platform)
        collect(found, device, arguments)
    cpu = importlib.import_module("vllm.platforms.cpu").CpuPlatform()
    users = [module for module in (platforms, arguments) if hasattr(module, "current_platform")]
    with contextlib.ExitStack() as patches:
        for module in users:
            patches.enter_context(patch.object(module, "current_platform", cpu))
        collect(found, "cpu", arguments)
    return {option: {"by_device": devices} for option, devices in found.items() if option in options | {"engine": 0}}


def forget(platform: Any) -> None:
    """What the platform remembers of the device that it was shown before."""
    for name in dir(type(platform)):
        clear = getattr(getattr(platform, name, None), "cache_clear", None)
        if clear is not None:
            clear()


def collect(found: dict[str, dict[str, Any]], device: str, arguments: types.ModuleType) -> None:
    """What the release's rules set on fresh arguments that had no value before."""
    engine = arguments.EngineArgs(model=str(Path(__file__).parent))
    before = dict(vars(engine))
    context = importlib.import_module("vllm.usage.usage_lib").UsageContext.OPENAI_API_SERVER
    given = {"usage_context": context, "model_config": MODEL, "parallel_config": PARALLEL}
    version = "V1"
    if hasattr(engine, "_is_v1_supported_oracle"):
        version = "V1" if engine._is_v1_supported_oracle(MODEL) else "V0"
    for name, rule in vars(arguments.EngineArgs).items():
        other = {"V1": "v0", "V0": "v1"}[version]
        if name.startswith("_set_default_") and not name.endswith(other) and "reasoning" not in name:
            wanted = inspect.signature(rule).parameters
            getattr(engine, name)(**{key: value for key, value in given.items() if key in wanted})
    changed = {name: plain(value) for name, value in vars(engine).items() if before.get(name) is None}
    for name, value in {**changed, "engine": version}.items():
        if value is not None:
            found.setdefault(name, {})[device] = value
