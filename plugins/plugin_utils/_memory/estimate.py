# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory ledger of one server on one device. Pure.

How vLLM sets its budget: requested = ceil(total * gpu_memory_utilization); KV cache = requested, less weights,
activation peak, what else torch and its libraries hold, and from 0.20.0 on the estimate of the graphs
(v1/worker/gpu_worker.py and cpu_worker.py of 0.32.0). The coefficients are fits to recorded starts: activation and
graphs to 48 starts of 0.19.0 on one GPU type, the sampler before 0.17.0 to 21 starts. Outside those releases the
interval is wider and the ledger says that it is not calibrated.
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import Asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import (
    BLOCK_TOKENS,
    GIB,
    Ledger,
    Term,
    block_tokens,
)

_CALIBRATED = (Version("0.17.0"), Version("0.20.0"))
_TRITON_SAMPLER = Version("0.17.0")
_GRAPHS_IN_BUDGET = Version("0.20.0")
# get_batch_defaults in engine/arg_utils.py has a tier of 160 GiB and more from here on.
_LARGE_TIER = Version("0.28.0")
_FLOAT32 = ("float32", "float")
# Host memory of one worker on the CPU beside weights and KV cache, in bytes: resident size of 0.32.0 with a model of
# 0.3 MB, KV cache taken off, measured with tests/engine.
_CPU_RUNTIME = Term("runtime", int(1.0 * GIB), int(1.4 * GIB), int(2.2 * GIB))


@dataclasses.dataclass(frozen=True)
class Device:
    """kind: gpu or cpu; total: bytes of the GPU as CUDA reports them, or of the host."""

    kind: str
    name: str
    total: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """The engine options that decide about memory, with vLLM's own defaults filled in. Bytes, tokens, requests."""

    release: str
    asked: Asked
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    utilization: float
    kv_cache_memory_bytes: int | None
    kv_value_bytes: int


def settings(release: str, default_utilization: float, asked: Asked, shape: Geometry, device: Device) -> Settings:
    """Fill in what vLLM would: get_batch_defaults and its callers in engine/arg_utils.py of 0.32.0."""
    seqs, tokens = _batch_defaults(Version(release), device, asked.workers)
    seqs, tokens = asked.max_num_seqs or seqs, asked.max_num_batched_tokens or tokens
    return Settings(
        release=release,
        asked=asked,
        max_model_len=asked.max_model_len or shape.max_positions,
        max_num_seqs=min(seqs, tokens),
        max_num_batched_tokens=tokens,
        utilization=asked.utilization or default_utilization,
        kv_cache_memory_bytes=(asked.cpu_kv_bytes if device.kind == "cpu" else None) or asked.kv_cache_memory_bytes,
        kv_value_bytes=_kv_value_bytes(asked),
    )


def estimate(weights: t.Mapping[str, t.Any], shape: Geometry, chosen: Settings, device: Device) -> Ledger:
    """The ledger of each device that the server uses.

    weights: what model_info says of the weights; bytes of the whole checkpoint.
    """
    release = Version(chosen.release)
    calibrated = _CALIBRATED[0] <= release < _CALIBRATED[1] and device.kind == "gpu"
    budget = math.ceil(device.total * chosen.utilization)
    terms = [_weights(weights, shape, chosen)]
    outside: list[Term] = []
    if device.kind == "cpu":
        terms.append(_CPU_RUNTIME)
    else:
        graphs = _graphs(shape, chosen, calibrated)
        terms += [_activation(shape, chosen, release, calibrated), _runtime(chosen)]
        outside.append(_context(shape, chosen))
        (terms if release >= _GRAPHS_IN_BUDGET else outside).append(graphs)
    if chosen.kv_cache_memory_bytes:
        # vLLM then takes exactly this, and the rest of the budget is not looked at.
        left = Term("kv cache", *[chosen.kv_cache_memory_bytes] * 3)
        budget = left.expected + sum(term.expected for term in terms)
    else:
        left = Term(
            "kv cache",
            budget - sum(term.high for term in terms),
            budget - sum(term.expected for term in terms),
            budget - sum(term.low for term in terms),
        )
    per_token = kv_bytes_per_token(shape, chosen)
    length = chosen.max_model_len
    if chosen.asked.auto_length:
        length = min(
            length, block_tokens(left.low, per_token) or block_tokens(left.expected, per_token) or BLOCK_TOKENS
        )
    tokens = block_tokens(left.expected, per_token)
    notes = list(shape.uncertain)
    if not calibrated:
        notes.append(f"the terms are not calibrated for {chosen.release} on a {device.kind.upper()}")
    return Ledger(
        device=device.name,
        total=device.total,
        budget=budget,
        terms=tuple(terms),
        outside=tuple(outside),
        kv=left,
        kv_bytes_per_token=per_token,
        kv_needed=math.ceil(length / BLOCK_TOKENS) * BLOCK_TOKENS * per_token,
        max_model_len=length,
        max_positions=shape.max_positions,
        tokens=tokens,
        concurrency=round(tokens / length, 2),
        calibrated=calibrated,
        notes=tuple(notes),
    )


def kv_bytes_per_token(shape: Geometry, chosen: Settings) -> int:
    """Bytes that one token takes in the KV cache of one device. Every rank keeps all of MLA; heads are split."""
    layers = math.ceil(shape.layers / chosen.asked.pipeline_parallel)
    if shape.mla_width:
        return layers * shape.mla_width * chosen.kv_value_bytes
    heads = max(1, shape.kv_heads // chosen.asked.tensor_parallel)
    return layers * heads * 2 * shape.head_dim * chosen.kv_value_bytes


def _batch_defaults(release: Version, device: Device, workers: int) -> tuple[int, int]:
    """(max_num_seqs, max_num_batched_tokens) of `vllm serve`."""
    if device.kind == "cpu":
        return 128 * workers, 2048 * workers
    if device.total >= 160 * GIB and release >= _LARGE_TIER:
        return 1024, 16384
    if device.total >= 70 * GIB and "a100" not in device.name.lower():
        return 1024, 8192
    return 256, 2048


def _kv_value_bytes(asked: Asked) -> int:
    """Bytes of one value of the KV cache. Formats of less than a byte are counted as one, for scales come on top."""
    if asked.kv_cache_dtype == "auto":
        return 4 if asked.dtype in _FLOAT32 else 2
    return 2 if asked.kv_cache_dtype in ("float16", "bfloat16") else 1


def _weights(found: t.Mapping[str, t.Any], shape: Geometry, chosen: Settings) -> Term:
    asked, classes = chosen.asked, found["bytes_by_class"]
    # The first stage of a pipeline has the embedding and the last one the head (or, when they are tied, the embedding
    # again).
    ends = max(classes["embedding"], classes["lm_head"]) if asked.pipeline_parallel > 1 else 0
    body = found["total_bytes"] - classes["expert"]
    if asked.pipeline_parallel > 1:
        body -= classes["embedding"] + classes["lm_head"]
    # Experts are spread over the data-parallel ranks as well (FusedMoEParallelConfig.make of 0.32.0).
    share = (body + classes["expert"] / asked.data_parallel) / asked.pipeline_parallel + ends
    share *= _cast(found["bytes_by_dtype"], asked.dtype) if not shape.is_quantized else 1
    expected = math.ceil(share / asked.tensor_parallel)
    # Quantized weights are repacked and padded by up to 7 %, parts of MoE and MLA layers are copied or not split.
    margin = 0.07 if shape.is_quantized else 0.05 if shape.is_moe or shape.mla_width else 0.01
    return Term("weights", expected, expected, int(expected * (1 + margin)))


def _cast(stored: t.Mapping[str, int], dtype: str) -> float:
    """Loaded bytes for each stored byte: 32-bit weights are loaded as 16 bits unless float32 is asked for."""
    wide = dtype in _FLOAT32
    loaded = sum(
        size * (2 if wide and kind in ("BF16", "F16") else 0.5 if not wide and kind == "F32" else 1)
        for kind, size in stored.items()
    )
    return loaded / (sum(stored.values()) or 1)


def _activation(shape: Geometry, chosen: Settings, release: Version, calibrated: bool) -> Term:
    seqs, tokens, vocab, hidden = chosen.max_num_seqs, chosen.max_num_batched_tokens, shape.vocab, shape.hidden
    if release < _TRITON_SAMPLER:
        peak = 38.35 * seqs * vocab + 2 * tokens * hidden
    else:
        sampler = 14.5 * seqs * vocab + 1.22 * 2 * tokens * hidden + 0.037 * GIB
        forward = 2 * tokens * (3 * shape.intermediate / chosen.asked.tensor_parallel + 4 * hidden) + 15 * 2**20
        peak = max(sampler, forward)
    if chosen.asked.pipeline_parallel > 1:
        # What the stage before hands over; the last stage, which samples, decides.
        peak += 2 * tokens * hidden
    spread = (0.2 if shape.is_moe else 0.05) * GIB if calibrated else 0.5 * GIB
    return Term("activation", int(max(0, peak - spread)), int(peak), int(peak + spread))


def _runtime(chosen: Settings) -> Term:
    tensor, pipeline = chosen.asked.tensor_parallel, chosen.asked.pipeline_parallel
    expected = 2.1 if tensor > 1 else 0.07 if pipeline > 1 else 0.25
    return Term("runtime", int(0.05 * GIB), int(expected * GIB), int((expected + 0.3) * GIB))


def _graphs(shape: Geometry, chosen: Settings, calibrated: bool) -> Term:
    if chosen.asked.eager:
        return Term("graphs", 0, 0, 0)
    layers = shape.layers / chosen.asked.pipeline_parallel
    expected = (
        0.35
        + 0.0165 * layers
        + 0.47 * shape.is_moe
        + 0.21 * bool(shape.mla_width)
        - 0.09 * (chosen.asked.tensor_parallel > 1)
    )
    spread = 0.5 if calibrated else 0.9
    return Term("graphs", int(max(0.0, expected - spread) * GIB), int(expected * GIB), int((expected + spread) * GIB))


def _context(shape: Geometry, chosen: Settings) -> Term:
    workers = chosen.asked.tensor_parallel * chosen.asked.pipeline_parallel
    expected = 0.51 if workers == 1 else 2.05 if shape.is_moe else 1.55
    return Term("context", int(0.3 * GIB), int(expected * GIB), int((expected + 0.2) * GIB))
