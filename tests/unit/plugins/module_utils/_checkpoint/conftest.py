# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes safetensors and GGUF files for the tests: right ones, and wrong ones from a header that the test made up."""

from __future__ import annotations

import json
import math
import struct
import types

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import Folder

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


# Numbers of the types of metadata values (GGUFValueType) and their formats.
GGUF_VALUES = {bool: (7, "<?"), int: (4, "<I"), float: (6, "<f")}


def gguf_text(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_value(value):
    """The type and the bytes of a metadata value."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + gguf_text(value)
    if isinstance(value, list):
        items = [gguf_value(item) for item in value] or [gguf_value(0)]
        return struct.pack("<I", 9) + items[0][:4] + struct.pack("<Q", len(value)) + b"".join(i[4:] for i in items)
    number, form = GGUF_VALUES[type(value)]
    return struct.pack("<I", number) + struct.pack(form, value)


def gguf_header(metadata, tensors, version=3):
    """The header for {key: value} and {name: (number of the type, shape, offset)}."""
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    header += b"".join(gguf_text(key) + gguf_value(value) for key, value in metadata.items())
    for name, (kind, shape, offset) in tensors.items():
        header += gguf_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    return header


def write_gguf(path, metadata, tensors, data_bytes=None, version=3):
    """A file whose tensors {name: (number of the type, shape, bytes)} are a hole in it."""
    position, placed = 0, {}
    for name, (kind, shape, nbytes) in tensors.items():
        placed[name] = (kind, shape, position)
        position += -(-nbytes // 32) * 32
    header = gguf_header(metadata, placed, version)
    with open(path, "wb") as handle:
        handle.write(header)
        handle.truncate(-(-len(header) // 32) * 32 + (position if data_bytes is None else data_bytes))


@pytest.fixture
def counted(monkeypatch):
    """The reads from folders as (name, begin, bytes), in their order."""
    reads = []
    read = Folder.read

    def counting(folder, name, begin, length):
        content = read(folder, name, begin, length)
        reads.append((name, begin, len(content)))
        return content

    monkeypatch.setattr(Folder, "read", counting)
    return reads


@pytest.fixture
def writer():
    """The functions above, for tests to call."""
    return types.SimpleNamespace(header_of=header_of, safetensors=write_safetensors, raw=write_raw, gguf=write_gguf)
