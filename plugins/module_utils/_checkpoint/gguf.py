# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Headers of GGUF files: magic, version, counts, metadata, tensor infos; then the tensors, each aligned.

Only the header is read; of the vocabulary in it only its length is kept. Types and sizes are those of the package gguf
0.19.0 (constants.py: GGUFValueType, GGMLQuantizationType, GGML_QUANT_SIZES), versions 2 and 3, little endian.
"""

from __future__ import annotations

import math
import struct
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import MIB, CheckpointError, Files
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.totals import Tensor

# The largest vocabularies (262 thousand tokens with merges and scores) make headers of 16 MB.
HEADER_LIMIT_BYTES = 64 * MIB
# What is read first, before the length of the header is known.
FIRST_READ_BYTES = MIB
# Lists of up to this length (a number for each layer) are kept, of longer ones only the length.
_KEPT_ITEMS = 1024
_KEPT_TEXT_BYTES = 4096
_DIMENSIONS = 4  # GGML_MAX_DIMS

# Name, elements of a block, bytes of a block; by the number of the type.
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
TYPE_NAMES = frozenset(name for name, _elements, _bytes in TYPES.values())

# Formats of metadata values by the number of their type; 8 is a string, 9 a list.
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _LIST = 8, 9


class Header(t.NamedTuple):
    """What the header of one file says. metadata: long lists are their lengths, long texts are True."""

    metadata: dict[str, t.Any]
    tensors: list[Tensor]
    read_bytes: int


def read_header(files: Files, name: str) -> Header:
    """The header of a file. Raises CheckpointError."""
    reader = _Reader(files, name)
    if reader.take(4) != b"GGUF":
        raise reader.invalid("it does not begin with GGUF")
    version = reader.number("<I")
    if version not in (2, 3):
        swapped = " (its numbers are big endian)" if version >> 16 and not version & 0xFFFF else ""
        raise reader.invalid(f"version {version} of GGUF is not read{swapped}, only 2 and 3")
    tensor_count, key_count = reader.number("<Q"), reader.number("<Q")
    metadata: dict[str, t.Any] = {}
    for _key in range(key_count):
        key = reader.text()
        if key in metadata:
            raise reader.invalid(f"the key '{key[:200]}' is there twice")
        metadata[key] = _value(reader, reader.number("<I"))
    infos = [_info(reader) for _tensor in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= MIB or alignment & (alignment - 1):
        raise reader.invalid(f"its alignment is {str(alignment)[:200]}, which is no power of two up to 1 MiB")
    return Header(metadata, _tensors(reader, infos, alignment), reader.read_bytes)


class _Reader:
    """Goes through a header, reading no further than needed."""

    def __init__(self, files: Files, name: str) -> None:
        self._files, self._name = files, name
        self.path, self.size = files.where(name), files.size(name)
        self._content = bytearray()
        self.position = 0

    @property
    def read_bytes(self) -> int:
        return len(self._content)

    def invalid(self, message: str) -> CheckpointError:
        return CheckpointError("invalid", self.path, f"{message}. Pre-stage the model again")

    def _expect(self, end: int) -> None:
        """Raises when the header cannot have this many bytes."""
        if end > self.size:
            text = f"its header goes on at byte {self.size}, where the file ends. Pre-stage the model again"
            raise CheckpointError("truncated", self.path, text)
        if end > HEADER_LIMIT_BYTES:
            raise CheckpointError("too_large", self.path, "its header is larger than any checkpoint's")

    def _fill(self, end: int) -> None:
        """Reads until there are end bytes, or raises."""
        self._expect(end)
        while len(self._content) < end:
            # Twice as much each time: few requests of a hub, and little too much.
            more = self._files.read(self._name, len(self._content), max(len(self._content), FIRST_READ_BYTES))
            if not more:
                raise CheckpointError("truncated", self.path, "it became shorter while it was read. Try again")
            self._content += more

    def take(self, length: int) -> bytes:
        self._fill(self.position + length)
        self.position += length
        return bytes(self._content[self.position - length : self.position])

    def number(self, form: str) -> t.Any:
        length = struct.calcsize(form)
        self._fill(self.position + length)
        (value,) = struct.unpack_from(form, self._content, self.position)
        self.position += length
        return value

    def text(self) -> str:
        """A name or key. Real ones have less than 100 bytes."""
        length = self.number("<Q")
        if length > 1024:
            raise self.invalid(f"a name in it has {length} bytes")
        return self.take(length).decode("utf-8", "replace")

    def skip_texts(self, count: int) -> None:
        """Over a list of strings: a vocabulary has several hundred thousand."""
        self._expect(self.position + 8 * count)
        content, position, length_at = self._content, self.position, struct.Struct("<Q").unpack_from
        for _text in range(count):
            if position + 8 > len(content):
                self._fill(position + 8)
            position += 8 + length_at(content, position)[0]
        self._fill(position)
        self.position = position


def _value(reader: _Reader, kind: int) -> t.Any:
    """A value of the metadata; of what is long, only that it is there."""
    if kind == _STRING:
        length = reader.number("<Q")
        content = reader.take(length)
        return content.decode("utf-8", "replace") if length <= _KEPT_TEXT_BYTES else True
    if kind != _LIST:
        return reader.number(_scalar(reader, kind))
    item, count = reader.number("<I"), reader.number("<Q")
    if item == _STRING:
        reader.skip_texts(count)
        return count
    form = _scalar(reader, item)
    content = reader.take(count * struct.calcsize(form))
    return list(struct.unpack(f"<{count}{form[1]}", content)) if count <= _KEPT_ITEMS else count


def _scalar(reader: _Reader, kind: int) -> str:
    form = _SCALARS.get(kind)
    if form is None:
        raise reader.invalid(f"its metadata has a value of the unknown type {kind}")
    return form


def _info(reader: _Reader) -> tuple[str, int, int, int]:
    """Name, elements, type and offset of a tensor."""
    name = reader.text()
    dimensions = reader.number("<I")
    if dimensions > _DIMENSIONS:
        raise reader.invalid(f"tensor '{name[:200]}' has {dimensions} dimensions")
    elements = math.prod([reader.number("<Q") for _dimension in range(dimensions)])
    return name, elements, reader.number("<I"), reader.number("<Q")


def _tensors(reader: _Reader, infos: list[tuple[str, int, int, int]], alignment: int) -> list[Tensor]:
    """The tensors, checked against each other and against the bytes that follow the header.

    As llama.cpp wants it, each begins where the one before ends, aligned. One of an unknown type ends where the next
    begins.
    """
    data_bytes = max(0, reader.size - -(-reader.position // alignment) * alignment)
    tensors: list[Tensor] = []
    names: set[str] = set()
    position = 0
    starts = [offset for _name, _elements, _kind, offset in infos[1:]] + [data_bytes]
    for (name, elements, kind, offset), following in zip(infos, starts):
        if name in names:
            raise reader.invalid(f"tensor '{name[:200]}' is there twice")
        names.add(name)
        if offset != position:
            text = f"tensor '{name[:200]}' begins at {offset}, not at {position}: tensors overlap or leave a gap"
            raise reader.invalid(text)
        dtype, block, block_bytes = TYPES.get(kind, (f"GGML_{kind}", 1, 0))
        nbytes = elements // block * block_bytes if kind in TYPES else following - offset
        if elements % block or nbytes < 0:
            raise reader.invalid(f"tensor '{name[:200]}' has {elements} elements, which do not fill blocks of {block}")
        tensors.append(Tensor(name, dtype, elements, nbytes))
        end = offset + nbytes
        position = -(-end // alignment) * alignment
        if end > data_bytes:
            raise CheckpointError(
                "truncated",
                reader.path,
                f"tensor '{name[:200]}' ends {end - data_bytes} bytes behind the end of the file. Pre-stage the model "
                "again",
            )
    return tensors
