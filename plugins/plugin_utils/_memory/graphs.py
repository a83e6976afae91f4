# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What captured CUDA graphs take, and what vLLM's own estimate of them takes off the budget. Pure.

Both grow with the number of captured graphs and with the layers in each. The estimate is noisy by its nature: it
captures the two largest graphs of each mode and takes the second for all others (profile_cudagraph_memory in
v1/worker/gpu_model_runner.py of 0.19.0; only for full graphs in v1/worker/gpu/cudagraph_utils.py of 0.31.0).
"""

from __future__ import annotations

import bisect

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.spread import around, basis, constants

# Graphs of the starts that the coefficients are fitted to: 51 sizes, piecewise and full.
_FITTED_GRAPHS = 102
_CONSUMED = Version("0.27.0")
_FREED = (Version("0.11.0"), Version("0.12.0"))
# GPUs without NVLink between them: beyond two, all-reduce goes through NCCL, which is captured into every graph.
_WITHOUT_LINKS = (75, 86, 89, 120)


def graphs(shape: Geometry, chosen: Settings, device: Device) -> Term:
    """What the capture takes on each GPU, bytes."""
    if not chosen.capture_sizes:
        return Term("graphs", 0, 0, 0)
    size = share(chosen) * _full_size("graphs", shape, chosen)
    if chosen.runner == 2 or chosen.release >= _CONSUMED:
        # The driver keeps what the captures of the estimate took, and the real ones use it again.
        size *= constants()["graphs"]["after_estimate"]
    elif _FREED[0] <= chosen.release < _FREED[1]:
        # What the profile run left in torch's cache was freed in the meantime.
        size *= constants()["graphs"]["after_freeing"]
    if chosen.asked.lora:
        size *= constants()["graphs"]["lora"]
    size += share(chosen) * _without_links("graphs", shape, chosen, device)
    return around("graphs", size * GIB, _kind(shape), basis(chosen, device))


def graphs_reserved(shape: Geometry, chosen: Settings, device: Device) -> Term:
    """What vLLM's own estimate takes off the budget of each GPU, bytes; nothing where the release does not."""
    if not chosen.graphs_in_budget:
        return Term("graphs reserved", 0, 0, 0)
    size = share(chosen) * _full_size("graphs reserved", shape, chosen)
    if chosen.runner == 2:
        size *= constants()["graphs reserved"]["second_runner"]
    size += _without_links("graphs reserved", shape, chosen, device)
    return around("graphs reserved", size * GIB, _kind(shape), basis(chosen, device))


def features(shape: Geometry, chosen: Settings) -> tuple[float, ...]:
    """What the fitted coefficients are multiplied with: one, layers, experts, those in four bits, share of one GPU in
    each layer.
    """
    asked = chosen.asked
    four_bits = shape.is_moe and shape.quantization == "mxfp4"
    layers = shape.layers / asked.pipeline_parallel
    return (1.0, layers, float(shape.is_moe), float(four_bits), 1 / asked.tensor_parallel)


def _full_size(name: str, shape: Geometry, chosen: Settings) -> float:
    """GiB of as many graphs as in the fitted starts."""
    found = constants()[name]["coefficients"]
    return max(0.1, sum(factor * value for factor, value in zip(found, features(shape, chosen), strict=True)))


def _without_links(name: str, shape: Geometry, chosen: Settings, device: Device) -> float:
    """GiB more where all-reduce is part of the graphs; told by starts of models of experts alone."""
    if chosen.asked.tensor_parallel <= 2 or device.capability not in _WITHOUT_LINKS or not shape.is_moe:
        return 0.0
    return float(constants()[name]["layer_without_links"]) * shape.layers / chosen.asked.pipeline_parallel


def share(chosen: Settings) -> float:
    """Captured graphs as a share of those of the fitted starts. Full ones are of decode batches only."""
    sizes = chosen.capture_sizes
    most = chosen.max_num_seqs * (1 + chosen.speculative_tokens)
    full = bisect.bisect_right(sizes, most) if chosen.full_graphs else 0
    return (len(sizes) + full) / _FITTED_GRAPHS


def _kind(shape: Geometry) -> str:
    return "moe" if shape.is_moe else "dense"
