# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers that somebody made up to harm: whatever they hold, there is an answer, and little is read for it."""

from __future__ import annotations

import json
import pathlib
import struct
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint import configs, gguf, profile
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import Folder
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.models import model_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.profile import read_profile

NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.integers(0, 64), st.booleans(), st.floats(), st.text(), st.none())
ENTRY = st.one_of(
    NUMBERS,
    st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.one_of(st.sampled_from(["BF16", "F4", "NEW", ""]), NUMBERS),
            "shape": st.one_of(st.lists(NUMBERS, max_size=5), NUMBERS),
            "data_offsets": st.one_of(st.lists(NUMBERS, max_size=3), NUMBERS),
        },
    ),
)
HEADER = st.one_of(st.dictionaries(st.text(), ENTRY, max_size=6), ENTRY, st.lists(ENTRY, max_size=3))
GGUF_PARTS = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 2**64 - 1).map(lambda number: struct.pack("<Q", number)),
    st.integers(0, 41).map(lambda number: struct.pack("<I", number)),
    st.integers(0, 9).map(lambda number: struct.pack("<Q", number)),
)


def answer(name, content, behind=0):
    """What is said of a folder with this file of weights. It is data that any reader of JSON takes."""
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        (folder / "config.json").write_text("{}")
        with open(folder / name, "wb") as handle:
            handle.write(content)
            handle.truncate(len(content) + behind)
        model = folder / name if name.endswith(".gguf") else folder
        (entry,) = model_facts([(str(model), None)], "/nowhere")
    json.dumps(entry, allow_nan=False).encode()
    return entry


@given(st.binary(max_size=200))
def test_random_bytes(content):
    assert answer("model.safetensors", content)["problems"]
    assert not answer("x.gguf", content)["found"]


@settings(max_examples=300)
@given(HEADER, st.integers(0, 1000))
def test_safetensors_headers(header, behind):
    content = json.dumps(header).encode()
    entry = answer("model.safetensors", len(content).to_bytes(8, "little") + content, behind)
    # What is taken as right adds up to the bytes of the file.
    if not any(problem["severity"] == "error" for problem in entry["problems"]):
        assert entry["weights"]["total_bytes"] == behind


@settings(max_examples=300)
@given(st.sampled_from([2, 3]), st.integers(0, 4), st.integers(0, 4), st.lists(GGUF_PARTS, max_size=20))
def test_gguf_headers(version, tensors, keys, parts):
    entry = answer("x.gguf", b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + b"".join(parts), 4096)
    if entry["found"] and entry["weights"]:
        assert 0 <= entry["weights"]["total_bytes"] <= 4096 + 1024


@settings(max_examples=200)
@given(st.data())
def test_a_right_gguf_with_some_bytes_changed(data):
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place) / "x.gguf"
        path.write_bytes(RIGHT)
        content = bytearray(RIGHT)
        for at in data.draw(st.lists(st.integers(0, len(RIGHT) - 1), min_size=1, max_size=4)):
            content[at] = data.draw(st.integers(0, 255))
    entry = answer("x.gguf", bytes(content))
    assert entry["found"] or entry["reason"]


RIGHT = (
    b"GGUF"
    + struct.pack("<IQQ", 3, 1, 2)
    + struct.pack("<Q20sIQ5s", 20, b"general.architecture", 8, 5, b"llama")
    + struct.pack("<Q21sIIQ", 21, b"tokenizer.ggml.tokens", 9, 8, 2)
    + struct.pack("<Q1sQ1s", 1, b"a", 1, b"b")
    + struct.pack("<Q10sIQQIQ", 10, b"blk.0.ffn_", 2, 32, 4, 8, 0)
).ljust(256, b"\0")
RIGHT = RIGHT[: -(-len(RIGHT) // 32) * 32] + bytes(32 * 4 // 32 * 34)


def test_the_right_one_is_right():
    assert answer("x.gguf", RIGHT)["weights"] is not None


@pytest.mark.parametrize("length", [2**20, 2**31, 2**40, 2**63, 2**64 - 1])
def test_a_length_in_a_header_is_not_believed(tmp_path, counted, length):
    """The file is a hole of 1 TiB: were the length taken, all memory would not do."""
    for name, start in (
        ("model.safetensors", length.to_bytes(8, "little")),
        ("a.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", length)),  # of a name
        ("b.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 10, length)),  # a list
        ("c.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIQ", 1, b"k", 8, length)),  # a text
    ):
        with open(tmp_path / name, "wb") as handle:
            handle.write(start)
            handle.truncate(2**40)
    read_profile_or_reason(tmp_path)
    for name in ("a.gguf", "b.gguf", "c.gguf"):
        read_profile_or_reason(tmp_path / name)
    assert sum(read for _name, _begin, read in counted) < 40 * 2**20


@pytest.mark.parametrize("count, words", [(2**60, "the file ends"), (2**30, "larger than any checkpoint's")])
def test_a_list_of_endless_strings(tmp_path, counted, count, words):
    """Every string of the list is empty, in a hole of 1 TiB."""
    with open(tmp_path / "x.gguf", "wb") as handle:
        handle.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 8, count))
        handle.truncate(2**40)
    assert words in read_profile_or_reason(tmp_path / "x.gguf")["reason"]
    assert sum(read for _name, _begin, read in counted) <= gguf.FIRST_READ_BYTES


def test_many_large_headers_come_to_an_end(writer, tmp_path, monkeypatch):
    """What is read for one header is limited, and so it is for all of them."""
    monkeypatch.setattr(profile, "_HEADERS_LIMIT_BYTES", 3000)
    (tmp_path / "config.json").write_text("{}")
    for number in range(1, 10):
        name = f"m-{number}-of-9"
        writer.safetensors(tmp_path / f"{name}.safetensors", {f"{n}" * 500: ("BF16", (2,)) for n in range(2)})
        writer.gguf(tmp_path / f"{name}.gguf", {"k": "x" * 1200}, {})
    for entry in (read_profile_or_reason(tmp_path), read_profile_or_reason(tmp_path / "m-1-of-9.gguf")):
        assert {problem["kind"] for problem in entry["problems"]} == {"too_large"}
        assert 1 < entry["weights"]["files"] < 5


def read_profile_or_reason(model):
    (entry,) = model_facts([(str(model), None)], "/nowhere")
    return entry


def test_a_layer_number_of_thousands_of_digits(writer, tmp_path):
    """Python refuses to make a number of them."""
    (tmp_path / "config.json").write_text("{}")
    writer.safetensors(tmp_path / "model.safetensors", {f"model.layers.{'9' * 5000}.mlp.w": ("BF16", (2,))})
    assert [problem["kind"] for problem in read_profile(str(tmp_path))["problems"]] == ["invalid"]


def test_a_layer_number_that_no_list_should_have(writer, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    writer.safetensors(tmp_path / "model.safetensors", {f"model.layers.{10**12}.mlp.w": ("BF16", (2,))})
    weights = read_profile(str(tmp_path))["weights"]
    assert (weights["bytes_by_layer"], weights["total_bytes"]) == ([], 4)


@pytest.mark.parametrize(
    "config",
    [
        {"text_config": []},
        {"num_hidden_layers": "8"},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": True},
        {"quantization_config": []},
        {"architectures": "Llama"},
        {"auto_map": 5},
        {"model_type": {"a": []}},
    ],
    ids=str,
)
def test_configurations_of_the_wrong_form(writer, tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    writer.safetensors(tmp_path / "model.safetensors", {"model.layers.0.mlp.w": ("BF16", (2,))})
    assert read_profile(str(tmp_path))["weights"]["total_bytes"] == 4


@pytest.mark.parametrize("layers, types", [(10**9, 1000), (5, 4), (-4, 0)])
def test_a_number_of_layers_that_no_list_should_have(layers, types):
    config = configs.from_params({"sliding_window": [1, None], "n_layers": layers})
    assert config["layer_types"] == (["sliding_attention", "full_attention"] * 500)[:types]


def test_links_in_a_circle(tmp_path):
    (tmp_path / "config.json").symlink_to("config.json")
    (tmp_path / "sub").symlink_to(".")
    (tmp_path / "model.safetensors").symlink_to("sub/sub/model.safetensors")
    entry = read_profile_or_reason(tmp_path)
    assert not entry["found"] and "cannot read it" in entry["reason"]
    assert "sub/sub" in Folder(str(tmp_path)).names
