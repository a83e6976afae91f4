# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sampler a start's profile run takes."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.sampler import VARIABLE, sampler, ways
from support.memory import H100, MI300X, T4, V100, config, settled

MODEL = config(vocab=128000)
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
    _shape, chosen = settled(release, device, MODEL, env, packages)
    assert ways(chosen, device) == expected


def test_what_each_takes() -> None:
    shape, chosen = settled("0.19.0", H100, MODEL, tensor_parallel_size=2)
    sizes = [sampler(shape, chosen, H100, 256, way, 2) for way in ("sorted", "triton", "flashinfer", "logits")]
    assert sizes == [value * 256 * 128000 for value in (38, 14 + 4 * 132 / 256, 14, 5.0)]
    # A few rows are sorted also by the releases that have the kernel.
    assert sampler(shape, chosen, H100, 4, "triton", 2) == 38 * 4 * 128000
