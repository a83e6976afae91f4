# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GGUF files that the makers' own package wrote, and what its reader says of them beside what ours says."""

from __future__ import annotations

import gguf as theirs
import numpy
import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint import gguf
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import Folder


def test_types_and_sizes_are_theirs():
    known = {kind.value: (kind.name, *sizes) for kind, sizes in theirs.constants.GGML_QUANT_SIZES.items()}
    # On the oldest Python their package is older, and knows fewer.
    assert known.items() <= gguf.TYPES.items()


@pytest.fixture
def written(tmp_path):
    """A file with a value of each type and tensors of several."""
    path = tmp_path / "theirs.gguf"
    writer = theirs.GGUFWriter(str(path), "llama")
    writer.add_block_count(2)
    writer.add_head_count_kv([2, 0])
    writer.add_rope_freq_base(10000.0)
    writer.add_token_list(["a", "bc", ""] * 50)
    writer.add_token_scores([0.5] * 2000)
    writer.add_chat_template("x" * 10_000)
    for name, value in (
        ("uint8", 1),
        ("int8", -1),
        ("uint16", 2),
        ("int16", -2),
        ("uint64", 2**40),
        ("int64", -(2**40)),
    ):
        getattr(writer, f"add_{name}")(f"own.{name}", value)
    writer.add_float64("own.float64", 0.25)
    writer.add_bool("own.bool", True)
    for name, kind, shape in (
        ("token_embd.weight", theirs.GGMLQuantizationType.Q8_0, (50, 64)),
        ("blk.0.attn_q.weight", theirs.GGMLQuantizationType.F16, (3, 5)),
        ("blk.0.ffn_down.weight", theirs.GGMLQuantizationType.Q4_0, (7, 96)),
        ("output_norm.weight", theirs.GGMLQuantizationType.F32, (5,)),
    ):
        data = numpy.zeros(shape, numpy.float32)
        writer.add_tensor(name, theirs.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_tensors(written):
    ours = gguf.read_header(Folder(str(written.parent)), written.name).tensors
    reader = theirs.GGUFReader(str(written))
    assert [(one.name, one.dtype, one.elements, one.nbytes) for one in ours] == [
        (one.name, one.tensor_type.name, int(one.n_elements), int(one.n_bytes)) for one in reader.tensors
    ]


def test_metadata(written):
    metadata = gguf.read_header(Folder(str(written.parent)), written.name).metadata
    assert metadata == {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.attention.head_count_kv": [2, 0],
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.tokens": 150,
        "tokenizer.ggml.scores": 2000,
        "tokenizer.chat_template": True,
        "own.uint8": 1,
        "own.int8": -1,
        "own.uint16": 2,
        "own.int16": -2,
        "own.uint64": 2**40,
        "own.int64": -(2**40),
        "own.float64": 0.25,
        "own.bool": True,
    }
