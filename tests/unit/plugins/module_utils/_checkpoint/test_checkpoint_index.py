# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index of a sharded checkpoint: read at last, and still nothing that it says is missed."""

from __future__ import annotations

import json

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import Folder
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.profile import read_profile
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.shards import Index, families, family

INDEX = "model.safetensors.index.json"
SHARDS = 3
NAMES = [f"model.layers.{layer}.mlp.experts.{expert}.up_proj.weight" for layer in range(9) for expert in range(40)]
FILES = [f"model-0000{shard}-of-0000{SHARDS}.safetensors" for shard in range(1, SHARDS + 1)]
WEIGHT_MAP = {name: FILES[at * SHARDS // len(NAMES)] for at, name in enumerate(NAMES)}


@pytest.fixture
def folder(writer, tmp_path):
    """Three shards without an index."""
    (tmp_path / "config.json").write_text("{}")
    for file in FILES:
        writer.safetensors(tmp_path / file, {n: ("BF16", (2, 2)) for n in NAMES if WEIGHT_MAP[n] == file})
    return tmp_path


def put(folder, weight_map, metadata=None, **form):
    content = {"metadata": {} if metadata is None else metadata, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(content, **form))


def read_of_index(counted):
    return sum(read for name, _begin, read in counted if name == INDEX)


@pytest.mark.parametrize(
    "form", [{}, {"indent": 2, "sort_keys": True}, {"indent": "\t"}, {"separators": (",", ":")}], ids=str
)
@pytest.mark.parametrize("metadata", [{}, {"total_size": 1}], ids=str)
def test_an_index_that_agrees_is_not_read(folder, counted, form, metadata):
    put(folder, WEIGHT_MAP, metadata, **form)
    profile = read_profile(str(folder))
    assert (profile["weights"]["files"], profile["weights"]["total_bytes"]) == (SHARDS, len(NAMES) * 8)
    assert profile["problems"] == []
    assert read_of_index(counted) == 4096 + 64 < (folder / INDEX).stat().st_size / 4


def test_each_header_is_read_once(folder, counted):
    put(folder, {**WEIGHT_MAP, "lost": FILES[0]})
    read_profile(str(folder))
    assert sorted((name, begin) for name, begin, _read in counted if name in FILES) == [
        (file, begin) for file in FILES for begin in (0, 8)
    ]


def lose(weight_map):
    del weight_map[NAMES[0]]


def add(weight_map):
    weight_map["lm_head.weight"] = FILES[0]


def rename(weight_map):
    weight_map[NAMES[0] + "_scale"] = weight_map.pop(NAMES[0])


def move_to_another_file(weight_map):
    weight_map[NAMES[0]] = "model-extra.safetensors"


@pytest.mark.parametrize(
    "change, problems",
    [
        (lose, []),  # vLLM loads what the files hold, named by the index or not
        (add, ["1 tensors that model.safetensors.index.json expects here are missing: lm_head.weight"]),
        (rename, ["1 tensors that model.safetensors.index.json expects here are missing: model.layers.0"]),
        (move_to_another_file, ["1 of 4 weight files are missing: model-extra.safetensors"]),
    ],
)
def test_an_index_that_differs_is_read(folder, counted, change, problems):
    weight_map = dict(WEIGHT_MAP)
    change(weight_map)
    put(folder, weight_map, indent=2)
    profile = read_profile(str(folder))
    assert len(profile["problems"]) == len(problems)
    for place, words in enumerate(problems):
        assert words in profile["problems"][place]["message"]
    assert read_of_index(counted) > (folder / INDEX).stat().st_size
    assert profile["weights"]["total_bytes"] == len(NAMES) * 8


def test_a_file_beside_the_family_is_counted_when_the_index_names_it(writer, folder):
    writer.safetensors(folder / "extra.safetensors", {"lm_head.weight": ("BF16", (8, 8))})
    put(folder, WEIGHT_MAP)
    assert read_profile(str(folder))["weights"]["files"] == SHARDS
    put(folder, {**WEIGHT_MAP, "lm_head.weight": "extra.safetensors"})
    profile = read_profile(str(folder))
    assert (profile["weights"]["files"], profile["problems"]) == (SHARDS + 1, [])


def test_a_lost_shard_is_missed_with_and_without_an_index(folder):
    (folder / FILES[1]).unlink()
    messages = []
    for make in (lambda: None, lambda: put(folder, WEIGHT_MAP)):
        make()
        (problem,) = read_profile(str(folder))["problems"]
        assert problem["kind"] == "missing" and "1 of 3 weight files are missing: " + FILES[1] in problem["message"]
        messages.append(problem["message"])
    assert len(set(messages)) == 2


@pytest.mark.parametrize(
    "content",
    [
        '{"weight_map": {}}',
        '{"weight_map": {"a": "model-00001-of-00003.safetensors"}}',
        json.dumps({"weight_map": WEIGHT_MAP, "metadata": {}}),
        json.dumps({"metadata": {"x": "y" * 5000}, "weight_map": WEIGHT_MAP}),
        json.dumps({"metadata": {}, "weight_map": {"ü" + name: WEIGHT_MAP[name] for name in NAMES}}),
        "",
        '{"weight_map": {"a": "b", "c"',
    ],
)
def test_what_cannot_be_told_by_length_agrees_with_nothing(folder, content):
    (folder / INDEX).write_text(content)
    assert not Index(Folder(str(folder))).agrees({})


@pytest.mark.parametrize(
    "name, shards",
    [
        ("model-00002-of-00003.safetensors", FILES),
        ("m-1-of-2.gguf", ["m-1-of-2.gguf", "m-2-of-2.gguf"]),
        ("model.safetensors", ["model.safetensors"]),
        ("model-00001-of-00000.safetensors", ["model-00001-of-00000.safetensors"]),
        ("model-1-of-99999999999999999999.gguf", ["model-1-of-99999999999999999999.gguf"]),
        # Cut to nine digits, these counts would be 1.
        ("model-1-of-00000000100000.gguf", ["model-1-of-00000000100000.gguf"]),
        ("model-00001-of-0000000010.safetensors", ["model-00001-of-0000000010.safetensors"]),
    ],
)
def test_family(name, shards):
    assert family(name) == shards


def test_families_of_many_files_are_no_endless_list():
    assert families([*FILES, "lone.safetensors"]) == {*FILES, "lone.safetensors"}
    assert len(families([f"m{at}-1-of-10000.gguf" for at in range(100)])) < 30_000
