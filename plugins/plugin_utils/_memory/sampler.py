# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sampler the profile run takes, and what it makes of the logits. Pure.

The release, the packages of the image and a variable decide: TopKTopPSampler in v1/sample/ops/topk_topp_sampler.py of
0.7.3, 0.8.0, 0.8.5, 0.9.0, 0.9.2, 0.11.0 to 0.16.0, 0.22.0, 0.28.0 and 0.33.0; model_executor/layers/sampler.py of
0.7.3 for V0.
"""

from __future__ import annotations

import math
import typing as t

from packaging.version import InvalidVersion, Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings

VARIABLE = "VLLM_USE_FLASHINFER_SAMPLER"
Way = t.Literal["logits", "sorted", "triton", "flashinfer"]
# profile_run of 0.6.6, 0.7.0, 0.7.2 and 0.7.3 computes logits and samples nothing.
_SAMPLES = Version("0.8.0")
# topk_topp_triton.py: from here on the mask of top-k and top-p needs no sorted copy.
_TRITON = Version("0.17.0")
# FlashInfer samples where it is installed, until 0.11.1 waits for the variable; until 0.9.0 only one below 0.2.3, from
# then on only one from 0.2.3 on.
_ASKED_FOR, _OTHER_FLASHINFER = Version("0.11.1"), Version("0.9.0")
_FLASHINFER_CHANGED = Version("0.2.3")
# From here on the variable is true by default, and requirements/cuda.txt brings the package.
_FLASHINFER_AGAIN = Version("0.21.0")
# FlashInferBackend.supports_compute_capability; 0.28.0 has 80.
_LEAST_CAPABILITY, _LEAST_LATER = 75, (Version("0.28.0"), 80)
# DEFAULT_VOCAB_PADDING_SIZE in model_executor/layers/vocab_parallel_embedding.py.
_VOCAB_PADDING = 64
# Streaming multiprocessors by compute capability (the largest common product), each of which has a buffer of one row in
# apply_top_k_top_p_triton.
_PROCESSORS = {75: 40, 80: 108, 86: 84, 89: 142, 90: 132, 100: 148, 103: 148, 120: 188, 121: 48}


def ways(chosen: Settings, device: Device) -> tuple[Way, Way]:
    """The sampler that is expected, and the one that takes least where it is not known which one runs."""
    if chosen.engine == "V1" and chosen.release < _SAMPLES:
        return "logits", "logits"
    own: Way = "triton" if chosen.engine == "V1" and chosen.release >= _TRITON else "sorted"
    wish = chosen.asked.env.get(VARIABLE)
    least = _LEAST_LATER[1] if chosen.release >= _LEAST_LATER[0] else _LEAST_CAPABILITY
    if wish == "0" or device.is_amd or 0 < device.capability < least:
        return own, own
    if wish == "1":
        return "flashinfer", "flashinfer"
    if chosen.engine == "V0" or _ASKED_FOR <= chosen.release < _FLASHINFER_AGAIN:
        return own, own
    if chosen.release >= _FLASHINFER_AGAIN:
        return "flashinfer", "flashinfer"
    installed = chosen.asked.flashinfer
    if installed is None:
        # The images have it, a plain installation of the package has not.
        return own, "flashinfer"
    return ("flashinfer", "flashinfer") if _suits(installed, chosen.release) else (own, own)


def _suits(installed: str, release: Version) -> bool:
    """Whether a release samples with this FlashInfer; "" is none."""
    try:
        is_later = Version(installed) >= _FLASHINFER_CHANGED
    except InvalidVersion:
        return False
    return is_later == (release >= _OTHER_FLASHINFER)


def sampler(shape: Geometry, chosen: Settings, device: Device, rows: int, way: Way, width: int) -> float:
    """Bytes of the logits of so many rows and of what sampling makes of them. width: bytes of one value."""
    vocab = math.ceil(shape.vocab / _VOCAB_PADDING) * _VOCAB_PADDING
    if way == "logits":
        # All-gather makes them of the GPUs' parts, and a copy in the order of the vocabulary (all_gather in
        # distributed/parallel_state.py of 0.7.3).
        tensor = chosen.asked.tensor_parallel
        return width * rows * vocab * (1 if tensor == 1 else 2 + 1 / tensor)
    if chosen.runner == 2:
        # v1/worker/gpu/sample/sampler.py of 0.31.0: dummy requests ask for nothing, and no copy of the logits is made.
        return width * rows * vocab
    if chosen.speculative_tokens:
        # The rejection sampler gets two rows a request (_dummy_sampler_run).
        rows *= 2
    if way == "sorted" or way == "triton" and rows < 8:
        # Logits in 16 and 32 bits, sorted, their places in 64 bits, probabilities and the buffers of the sort.
        return (36 + width) * rows * vocab
    # Logits as computed and in 32 bits, probabilities, and random numbers or masked logits as many.
    masks = 4 * min(rows, _PROCESSORS.get(device.capability, 132)) * vocab if way == "triton" else 0
    return (12 + width) * rows * vocab + masks
