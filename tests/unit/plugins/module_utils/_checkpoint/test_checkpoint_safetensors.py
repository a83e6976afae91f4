# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of safetensors files, right ones and those that somebody cut off or made up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint import safetensors
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import CheckpointError, Folder

TENSORS = {"a.weight": ("BF16", (4, 8)), "b.weight": ("F8_E4M3", (3,)), "scalar": ("F32", ()), "empty": ("F32", (0, 4))}


def read_header(path):
    return safetensors.read_header(Folder(os.path.dirname(path)), os.path.basename(path))


def entry(dtype="BF16", shape=(2,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_reads_a_header_and_no_more(writer, tmp_path):
    path = str(tmp_path / "model.safetensors")
    writer.safetensors(path, TENSORS)
    tensors, read_bytes = read_header(path)
    assert [(tensor.name, tensor.dtype, tensor.elements, tensor.nbytes) for tensor in tensors] == [
        ("a.weight", "BF16", 32, 64),
        ("b.weight", "F8_E4M3", 3, 3),
        ("scalar", "F32", 1, 4),
        ("empty", "F32", 0, 0),
    ]
    assert read_bytes == os.path.getsize(path) - 71


def test_types_smaller_than_a_byte_and_unknown_ones(writer, tmp_path):
    path = str(tmp_path / "model.safetensors")
    header = {"fp4": entry("F4", (3, 2), (0, 3)), "new": entry("F5_NEW", (7,), (3, 10))}
    writer.raw(path, json.dumps(header).encode(), 10)
    tensors, _read = read_header(path)
    assert [(tensor.elements, tensor.nbytes) for tensor in tensors] == [(6, 3), (7, 7)]


# What the safetensors library 0.8.0 refuses, we refuse.
@pytest.mark.parametrize(
    "header, data_bytes, kind, words",
    [
        ({"a": entry()}, 3, "truncated", "the file holds 3 after"),
        ({"a": entry()}, 5, "truncated", "tensors have 4 bytes"),
        ({"a": entry(), "b": entry()}, 8, "invalid", "overlap or leave a gap"),
        ({"a": entry(), "b": entry(offsets=(2, 6))}, 6, "invalid", "overlap or leave a gap"),
        ({"a": entry(), "b": entry(offsets=(6, 10))}, 10, "invalid", "overlap or leave a gap"),
        ({"a": entry(shape=(3,))}, 4, "invalid", "is not 4 bytes"),
        ({"a": entry("F4", (3,), (0, 2))}, 2, "invalid", "is not 2 bytes"),
        ({"a": entry(offsets=(4, 0))}, 4, "invalid", "overlap or leave a gap"),
        ({"a": entry("NEW", (0,), (0, 4)), "b": entry("NEW", (0,), (4, 0))}, 0, "invalid", "overlap or leave a gap"),
        ({"a" * 2000: entry()}, 4, "invalid", "2000 characters"),
        ({"a": entry(offsets=(-4, 0))}, 4, "invalid", "numbers from 0"),
        ({"a": entry(offsets=(0, 4.0))}, 4, "invalid", "numbers from 0"),
        ({"a": entry(offsets=(False, 4))}, 4, "invalid", "numbers from 0"),
        ({"a": entry(offsets=(0, 4, 8))}, 4, "invalid", "lacks"),
        ({"a": entry(shape=(-1, -2))}, 4, "invalid", "numbers from 0"),
        ({"a": entry(shape=("2",))}, 4, "invalid", "numbers from 0"),
        ({"a": entry(shape=(2,) + (1,) * 100)}, 4, "invalid", "wrong form"),
        ({"a": entry(shape=(2**62,) * 64)}, 4, "invalid", "is not 4 bytes"),
        ({"a": entry("XX", (10**4000, 10**4000))}, 4, "invalid", "numbers from 0 to 2**63 - 1"),
        ({"a": entry("XX", (2**63,))}, 4, "invalid", "numbers from 0 to 2**63 - 1"),
        ({"a": entry(dtype=["BF16"])}, 4, "invalid", "wrong form"),
        ({"a": {"dtype": "BF16", "shape": [2]}}, 4, "invalid", "lacks"),
        ({"a": 5}, 4, "invalid", "lacks"),
        ([entry()], 4, "invalid", "object was expected"),
    ],
)
def test_refuses_wrong_headers(writer, tmp_path, header, data_bytes, kind, words):
    path = str(tmp_path / "model.safetensors")
    writer.raw(path, json.dumps(header).encode(), data_bytes)
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert caught.value.details == {"kind": kind, "file": path}
    assert words in str(caught.value) and path in str(caught.value)


def test_a_tensor_named_twice(writer, tmp_path):
    """JSON keeps the last of two equal names; the bytes of the first are then a gap."""
    path = str(tmp_path / "model.safetensors")
    twice = b'{"a":%s,"a":%s}' % (json.dumps(entry()).encode(), json.dumps(entry(offsets=(4, 8))).encode())
    writer.raw(path, twice, 8)
    with pytest.raises(CheckpointError, match="gap"):
        read_header(path)


@pytest.mark.parametrize(
    "content, length, kind",
    [
        (b"", 0, "invalid"),
        (b"not json", None, "invalid"),
        (b"[" * 100000, None, "invalid"),
        (b'{"a":' * 100000, None, "invalid"),
        (b"\xff\xfe{}", None, "invalid"),
        (b'{"a":' + b"9" * 10000 + b"}", None, "invalid"),
        (b"{}", 2**63, "truncated"),
        (b"{}", 3, "truncated"),
    ],
)
def test_refuses_what_is_no_header(writer, tmp_path, content, length, kind):
    path = str(tmp_path / "model.safetensors")
    writer.raw(path, content, 0, length)
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert caught.value.details["kind"] == kind


def test_refuses_a_huge_header_without_reading_it(writer, tmp_path):
    path = str(tmp_path / "model.safetensors")
    writer.raw(path, b"{}", 100 * 2**30, length=90 * 2**30)
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert caught.value.details["kind"] == "too_large"


def link_to_itself(path):
    path.symlink_to(path)


@pytest.mark.parametrize(
    "make, kind",
    [
        (lambda path: None, "missing"),
        (lambda path: path.symlink_to("nowhere"), "missing"),
        (Path.mkdir, "not_a_file"),
        (os.mkfifo, "not_a_file"),
        (lambda path: path.write_bytes(b""), "truncated"),
        (lambda path: path.write_bytes(b"\x02\0\0"), "truncated"),
        (link_to_itself, "unreadable"),
    ],
)
def test_refuses_what_is_no_file(tmp_path, make, kind):
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(CheckpointError) as caught:
        read_header(str(path))
    assert caught.value.details["kind"] == kind


def test_cut_off_anywhere(writer, tmp_path):
    """A download that stopped at any byte is noticed."""
    header, data_bytes = writer.header_of(TENSORS)
    whole = tmp_path / "whole"
    writer.raw(whole, json.dumps(header).encode(), data_bytes)
    content = whole.read_bytes()
    cut = tmp_path / "cut"
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_header(str(cut))
