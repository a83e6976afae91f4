# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Headers of safetensors files: 8 bytes with the length N (little endian), N bytes of JSON, then the tensors.

Only 8 + N bytes are read. The rules are those of the safetensors library 0.8.0: offsets cover the rest of the file
without a gap or an overlap, and each tensor's bytes are what its shape and dtype say.
"""

from __future__ import annotations

import math
import operator
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import (
    MIB,
    CheckpointError,
    Files,
    parse_object,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.totals import Tensor

# The format allows 100 MB. A checkpoint of 671 billion parameters in 163 shards has 12 MB in all of them together.
HEADER_LIMIT_BYTES = 32 * MIB
# No tensor has as many dimensions; a product over millions of them would never end.
_MAX_DIMENSIONS = 64
# Offsets and dimensions are signed 64-bit numbers in torch. Python would neither read nor print thousands of digits.
_NUMBER_LIMIT = 2**63
# Names of real tensors have less than 200 characters. A number of thousands of digits in one is none that Python reads.
_NAME_LIMIT = 1024

# Bits of one element, by the names of safetensors 0.8.0.
DTYPE_BITS: dict[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


def read_header(files: Files, name: str) -> tuple[list[Tensor], int]:
    """The tensors of a file, and the bytes that were read for them. Raises CheckpointError."""
    path, size = files.where(name), files.size(name)
    prefix = files.read(name, 0, 8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > size - 8:
        raise CheckpointError(
            "truncated",
            path,
            f"its header should have {length} bytes, the file has {size}: it is cut off, or no safetensors file. "
            "Pre-stage the model again",
        )
    if length > HEADER_LIMIT_BYTES:
        raise CheckpointError("too_large", path, f"its header has {length} bytes, more than any checkpoint's")
    content = files.read(name, 8, length)
    return _tensors(path, parse_object(path, content), size - 8 - length), 8 + length


def _tensors(path: str, header: dict[str, t.Any], data_bytes: int) -> list[Tensor]:
    """The header's tensors, checked against each other and against the bytes that follow the header."""
    header.pop("__metadata__", None)
    tensors: list[Tensor] = []
    position = 0
    for begin, end, name, dtype, shape in _entries(path, header):
        if begin != position or end < begin:
            text = f"its bytes are {begin} to {end}, but {position} is next: tensors overlap or leave a gap"
            raise _invalid(path, name, text)
        position = end
        elements = math.prod(shape)
        bits = DTYPE_BITS.get(dtype)
        if bits is not None and elements * bits != (end - begin) * 8:
            raise _invalid(path, name, f"shape {shape} of {dtype} is not {end - begin} bytes")
        tensors.append(Tensor(name, dtype, elements, end - begin))
    if position != data_bytes:
        raise CheckpointError(
            "truncated",
            path,
            f"its tensors have {position} bytes, the file holds {data_bytes} after its header. Pre-stage the model "
            "again",
        )
    return tensors


def _entries(path: str, header: dict[str, t.Any]) -> list[tuple[int, int, str, str, list[int]]]:
    """Begin, end, name, dtype and shape of each tensor by where it lies, with every number one from 0 to 2**63 - 1."""
    entries: list[tuple[int, int, str, str, list[int]]] = []
    numbers: list[int] = []
    for name, entry in header.items():
        try:
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise _invalid(path, name, "it lacks dtype, shape or data_offsets") from None
        if not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
            raise _invalid(path, name, "its dtype or shape has the wrong form")
        if len(name) > _NAME_LIMIT:
            raise _invalid(path, name, f"its name has {len(name)} characters")
        entries.append((begin, end, name, dtype, shape))
        numbers += shape
        numbers.append(begin)
        numbers.append(end)
    # All at once, because there are 100 thousand tensors; which one it is matters only when something is wrong.
    if not _are_numbers(numbers):
        for begin, end, name, _dtype, shape in entries:
            if not _are_numbers([begin, end, *shape]):
                raise _invalid(path, name, "its shape or data_offsets are not numbers from 0 to 2**63 - 1")
    entries.sort(key=operator.itemgetter(0, 1))
    return entries


def _are_numbers(values: list[t.Any]) -> bool:
    """Whether all are whole numbers from 0. The exact type, because true and false are numbers to isinstance."""
    return not values or (set(map(type, values)) == {int} and min(values) >= 0 and max(values) < _NUMBER_LIMIT)


def _invalid(path: str, name: str, message: str) -> CheckpointError:
    return CheckpointError("invalid", path, f"tensor '{name[:200]}': {message}. Pre-stage the model again")
