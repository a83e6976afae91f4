# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Sums over the tensors of a checkpoint."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.classes import CLASSES, Classifier

# No decoder has as many layers; a higher number in a name counts in the sums, but to no layer.
_LAYERS_LIMIT = 1000


class Tensor(t.NamedTuple):
    """One tensor as its header tells it."""

    name: str
    dtype: str
    elements: int
    nbytes: int


def totals(tensors: t.Iterable[Tensor], decoder_layers: int | None) -> dict[str, t.Any]:
    """What profile["weights"] says of these tensors. All sizes in bytes. decoder_layers: how many the model has."""
    classify = Classifier(decoder_layers).classify
    sums: dict[tuple[str, str, int | None], list[int]] = {}
    for name, dtype, elements, nbytes in tensors:
        tensor_class, layer = classify(name)
        # One look-up for each of 100 thousand tensors, which share a few thousand keys.
        found = sums.get((tensor_class, dtype, layer))
        if found is None:
            sums[(tensor_class, dtype, layer)] = [nbytes, elements]
        else:
            found[0] += nbytes
            found[1] += elements
    bytes_by_dtype: dict[str, int] = {}
    parameters_by_dtype: dict[str, int] = {}
    bytes_by_class: dict[str, dict[str, int]] = {tensor_class: {} for tensor_class in CLASSES}
    bytes_by_layer: dict[int, int] = {}
    for (tensor_class, dtype, layer), (nbytes, elements) in sums.items():
        bytes_by_dtype[dtype] = bytes_by_dtype.get(dtype, 0) + nbytes
        parameters_by_dtype[dtype] = parameters_by_dtype.get(dtype, 0) + elements
        in_class = bytes_by_class[tensor_class]
        in_class[dtype] = in_class.get(dtype, 0) + nbytes
        if layer is not None and layer < _LAYERS_LIMIT:
            bytes_by_layer[layer] = bytes_by_layer.get(layer, 0) + nbytes
    return {
        "total_bytes": sum(bytes_by_dtype.values()),
        "bytes_by_dtype": bytes_by_dtype,
        "parameters_by_dtype": parameters_by_dtype,
        "bytes_by_class": bytes_by_class,
        "bytes_by_layer": [bytes_by_layer.get(layer, 0) for layer in range(max(bytes_by_layer, default=-1) + 1)],
        "layer_count_seen": len(bytes_by_layer),
    }
