# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices with the bytes that CUDA reports, models that say no more than needed, and what vLLM makes of options."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry, geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings, settings

T4 = Device("gpu", "Tesla T4", int(14.74 * GIB))
V100 = Device("gpu", "Tesla V100-SXM2-32GB", int(31.73 * GIB))
L4 = Device("gpu", "NVIDIA L4", int(22.16 * GIB))
A100_40 = Device("gpu", "NVIDIA A100-SXM4-40GB", int(39.56 * GIB))
A100 = Device("gpu", "NVIDIA A100-SXM4-80GB", int(79.25 * GIB))
H100 = Device("gpu", "NVIDIA H100 80GB HBM3", int(79.19 * GIB))
H20 = Device("gpu", "NVIDIA H20", int(95.08 * GIB))
B200 = Device("gpu", "NVIDIA B200", int(178.36 * GIB))
PRO6000 = Device("gpu", "NVIDIA RTX PRO 6000 Blackwell Server Edition", int(94.97 * GIB))
GB10 = Device("gpu", "NVIDIA GB10", int(121.69 * GIB))
MI300X = Device("gpu", "AMD Instinct MI300X", int(191.45 * GIB))
CPU = Device("cpu", "host", 64 * GIB)


def config(
    architecture: str = "LlamaForCausalLM",
    hidden: int = 4096,
    intermediate: int = 14336,
    vocab: int = 32000,
    **more: t.Any,
) -> dict[str, t.Any]:
    """The fields of a config.json that decide."""
    return {
        "architectures": [architecture],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "vocab_size": vocab,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        **more,
    }


def settled(
    release: str,
    device: Device,
    model: t.Mapping[str, t.Any],
    env: t.Mapping[str, str] | None = None,
    packages: t.Mapping[str, str] | None = None,
    **engine: t.Any,
) -> tuple[Geometry, Settings]:
    """The shape of a model and the settings of its start; the options must be right."""
    asked, faults = read_asked(engine, env or {}, packages)
    assert not faults
    shape = geometry(model)
    return shape, settings(release, asked, shape, device)
