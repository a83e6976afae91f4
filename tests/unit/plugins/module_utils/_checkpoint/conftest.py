# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes safetensors files for the tests: right ones, and wrong ones from a header that the test made up."""

from __future__ import annotations

import json
import math
import types

import pytest

DTYPE_BYTES = {"BF16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1, "I32": 4}


def header_of(tensors):
    """The header for {name: (dtype, shape)}, in that order, and the bytes of the tensors."""
    header, position = {}, 0
    for name, (dtype, shape) in tensors.items():
        end = position + math.prod(shape) * DTYPE_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    return header, position


def write_safetensors(path, tensors):
    """A right file whose tensors are a hole in it: it takes no room and still has its true size."""
    header, data_bytes = header_of(tensors)
    write_raw(path, json.dumps({"__metadata__": {"format": "pt"}, **header}).encode(), data_bytes)


def write_raw(path, header, data_bytes, length=None):
    """Any header with any length before it, and data_bytes of nothing behind it."""
    with open(path, "wb") as handle:
        handle.write((len(header) if length is None else length).to_bytes(8, "little"))
        handle.write(header)
        handle.truncate(8 + len(header) + data_bytes)


@pytest.fixture
def writer():
    """The functions above, for tests to call."""
    return types.SimpleNamespace(header_of=header_of, safetensors=write_safetensors, raw=write_raw)
