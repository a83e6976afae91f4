# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CUDA, NCCL and other libraries take inside and outside the budget. Pure.

The line between the two is the snapshot of free memory in init_device of the worker (v1/worker/gpu_worker.py): since
0.11.0 it is taken when the processes are connected, so that the context of CUDA and the buffers of NCCL are outside;
before, NCCL is inside, and everything that is in use on the GPU before 0.6.5 (worker/worker.py of 0.6.4), with V1
before 0.9.1 (determine_available_memory in v1/worker/gpu_worker.py of 0.7.3 to 0.9.0).
"""

from __future__ import annotations

import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.activation import PERSISTENT_APART, persistent
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.spread import around, basis, constants

# Hopper and Blackwell of data centres: FlashInfer's fused all-reduce and DeepGEMM are theirs.
DATACENTRE = (90, 100, 103)
_OWN_ONLY, _OWN_ONLY_V1 = Version("0.6.5"), Version("0.9.1")
_NCCL_OUTSIDE = Version("0.11.0")
_LARGER = Version("0.18.0")
# 0.32.0 with a model of 0.3 MB on the CPU, measured with tests/engine: what a worker says that it holds beside weights
# and KV cache, and the resident size of all processes beyond that (API server, engine core), which no budget counts.
_CPU_RUNTIME = Term("runtime", int(0.4 * GIB), int(0.55 * GIB), int(1.0 * GIB))
_CPU_CONTEXT = Term("context", int(0.6 * GIB), int(0.85 * GIB), int(1.2 * GIB))


def runtime(shape: Geometry, chosen: Settings, device: Device) -> Term:
    """Memory inside the budget that is neither weights nor activation, bytes on each GPU."""
    if device.kind == "cpu":
        return _CPU_RUNTIME
    time, name = era(chosen), group(chosen)
    found = constants()["runtime"]["nccl inside" if time == "V1 all in use" else time]
    size = found[name]
    if device.capability in DATACENTRE:
        size = found.get(f"{name} datacentre", size)
    if time == "V1 all in use":
        size += _alone(device)
    if device.is_amd:
        size = max(size, constants()["runtime"]["amd"])
    if device.is_unified:
        size = max(size, constants()["runtime"]["unified"])
    kept = persistent(shape, chosen, device) if chosen.release >= PERSISTENT_APART else 0.0
    return around("runtime", size * GIB + kept, kind(chosen, device), basis(chosen, device))


def context(shape: Geometry, chosen: Settings, device: Device) -> Term:
    """Memory outside the budget, bytes on each GPU: the context of CUDA and the buffers of NCCL.

    On a CPU: the engine's other processes.
    """
    if device.kind == "cpu":
        return _CPU_CONTEXT
    if era(chosen) in _ALL:
        # All that is in use is taken off the budget.
        return Term("context", 0, 0, 0)
    found, size, name = constants()["context"], _alone(device), group(chosen)
    if name != "single" and chosen.release >= _NCCL_OUTSIDE:
        # NCCL's buffers for NVLink and its switches are Hopper's and later; no start of others was recorded.
        size += found["connected" if device.capability in DATACENTRE else "connected_elsewhere"]
        if shape.is_moe and name != "pipeline":
            size += found["connected_experts"]
    return around("context", size * GIB, context_kind(shape, chosen), basis(chosen, device))


def _alone(device: Device) -> float:
    """GiB of the context of one process."""
    found = constants()["context"]
    return float(found["by_capability"].get(str(device.capability), found["any"]))


Era = t.Literal["all in use", "V1 all in use", "V0", "nccl inside", "nccl outside", "larger"]
_ALL = ("all in use", "V1 all in use")


def era(chosen: Settings) -> Era:
    """Which libraries' memory the budget holds. V0 has NCCL inside as V1 had, but its starts took less."""
    if chosen.engine == "V1" and chosen.release < _OWN_ONLY_V1:
        return "V1 all in use"
    if chosen.release < _OWN_ONLY:
        return "all in use"
    if chosen.engine == "V0":
        return "V0"
    if chosen.release < _NCCL_OUTSIDE:
        return "nccl inside"
    return "nccl outside" if chosen.release < _LARGER else "larger"


def context_kind(shape: Geometry, chosen: Settings) -> str:
    """Which kind of residuals the interval of `context` rests on.

    Two recorded starts of a model with experts in four bits died in the warm-up behind the capture, with 2 GiB less
    than all that is known of was to leave; no other model has done so.
    """
    return "four bits" if shape.is_moe and shape.quantization == "mxfp4" else group(chosen)


def kind(chosen: Settings, device: Device) -> str:
    """Which kind of residuals the interval of `runtime` rests on.

    Where GPU and host share memory, whatever else runs on the host counts.
    """
    if device.is_unified:
        return "unified"
    return "all in use" if era(chosen) in _ALL else group(chosen)


def group(chosen: Settings) -> t.Literal["single", "pipeline", "pair", "many"]:
    """How many GPUs work on one layer together: one, two, more; or one after the other."""
    asked = chosen.asked
    if asked.tensor_parallel > 2:
        return "many"
    if asked.tensor_parallel == 2:
        return "pair"
    return "pipeline" if asked.pipeline_parallel > 1 or asked.data_parallel > 1 and asked.expert_parallel else "single"
