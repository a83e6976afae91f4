# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sampler a start's profile run takes."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.sampler import VARIABLE, sampler, ways
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, settings

T4 = Device("gpu", "Tesla T4", int(14.74 * GIB))
V100 = Device("gpu", "Tesla V100-SXM2-32GB", int(31.73 * GIB))
H100 = Device("gpu", "NVIDIA H100 80GB HBM3", int(79.19 * GIB))
MI300X = Device("gpu", "AMD Instinct MI300X", int(191.69 * GIB))
SHAPE = geometry(
    {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "vocab_size": 128000,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
    }
)
ON, OFF = {VARIABLE: "1"}, {VARIABLE: "0"}
NEW, OLD = {"flashinfer-python": "0.3.1"}, {"flashinfer": "0.2.1.post2"}


@pytest.mark.parametrize(
    ("release", "device", "env", "packages", "expected"),
    [
        # V0 sorts, unless it is asked not to.
        ("0.6.6", H100, {}, NEW, ("sorted", "sorted")),
        ("0.7.3", H100, ON, NEW, ("flashinfer", "flashinfer")),
        # The first releases of V1 sample nothing.
        ("0.7.3", H100, {"VLLM_USE_V1": "1"}, NEW, ("logits", "logits")),
        # Installed or not, where the image is not known.
        ("0.8.5", H100, {}, None, ("sorted", "flashinfer")),
        ("0.11.0", H100, {}, None, ("sorted", "flashinfer")),
        ("0.11.0", H100, {}, {}, ("sorted", "sorted")),
        ("0.11.0", H100, {}, NEW, ("flashinfer", "flashinfer")),
        ("0.11.0", H100, OFF, NEW, ("sorted", "sorted")),
        ("0.11.0", MI300X, {}, NEW, ("sorted", "sorted")),
        # Until 0.8.5 only an older FlashInfer, then only a newer one.
        ("0.8.5", H100, {}, NEW, ("sorted", "sorted")),
        ("0.8.5", H100, {}, OLD, ("flashinfer", "flashinfer")),
        ("0.9.2", H100, {}, OLD, ("sorted", "sorted")),
        ("0.9.2", H100, {}, {"flashinfer-python": "odd"}, ("sorted", "sorted")),
        # From 0.11.1 to 0.20.0 it has to be asked for.
        ("0.11.1", H100, {}, NEW, ("sorted", "sorted")),
        ("0.16.0", H100, ON, NEW, ("flashinfer", "flashinfer")),
        ("0.17.0", H100, {}, NEW, ("triton", "triton")),
        # Then it is the default where the GPU can.
        ("0.21.0", H100, {}, None, ("flashinfer", "flashinfer")),
        ("0.33.0", H100, OFF, NEW, ("triton", "triton")),
        ("0.22.0", T4, {}, NEW, ("flashinfer", "flashinfer")),
        ("0.28.0", T4, {}, NEW, ("triton", "triton")),
        ("0.22.0", V100, {}, NEW, ("triton", "triton")),
    ],
)
def test_which_one(release, device, env, packages, expected) -> None:
    asked, _faults = read_asked({}, env, packages)
    assert ways(settings(release, asked, SHAPE, device), device) == expected


def test_what_each_takes() -> None:
    asked, _faults = read_asked({"tensor_parallel_size": 2}, {})
    chosen = settings("0.19.0", asked, SHAPE, H100)
    sizes = [sampler(SHAPE, chosen, H100, 256, way, 2) for way in ("sorted", "triton", "flashinfer", "logits")]
    assert sizes == [value * 256 * 128000 for value in (38, 14 + 4 * 132 / 256, 14, 5.0)]
    # A few rows are sorted also by the releases that have the kernel.
    assert sampler(SHAPE, chosen, H100, 4, "triton", 2) == 38 * 4 * 128000
