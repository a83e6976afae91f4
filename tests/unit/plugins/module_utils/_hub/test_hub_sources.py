# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of repos and folders."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.sources import Asked, source_facts


def look(bench, source="acme/tiny", revision=None, scope="model"):
    (entry,) = source_facts([Asked(source, revision, scope)], str(bench.cache))
    return entry


def test_a_whole_snapshot_has_no_problems(bench):
    bench.present()
    entry = look(bench)
    assert entry["found"] and entry["problems"] == [] == entry["missing_code_repos"]
    assert entry["files"] == sorted(bench.stored) and entry["commit"] == bench.commit()


def test_a_part_that_was_chosen_is_whole(bench):
    """Whether a part is enough is the closure's to say, by kinds of files."""
    bench.present(scope="tokenizer")
    bench.present(allow=("*00002-of*",))
    assert look(bench)["problems"] == [] == look(bench, scope="tokenizer")["problems"]
    (bench.snapshot() / "tokenizer.json").unlink()
    assert [one["file"] for one in look(bench)["problems"]] == ["tokenizer.json"]


def test_each_kind_of_damage_is_named(bench):
    bench.present()
    folder = bench.snapshot()
    (folder / "tokenizer.json").unlink()
    os.truncate(os.path.realpath(folder / "model-00001-of-00002.safetensors"), 5)
    os.unlink(os.path.realpath(folder / "chat_template.jinja"))
    (folder / "config.json").unlink()
    (folder / "config.json").write_text("{" + " " * (len(bench.stored["config.json"]) - 1))
    found = {one["file"]: one["kind"] for one in look(bench)["problems"]}
    assert {name: found[name] for name in found if name != "chat_template.jinja"} == {
        "tokenizer.json": "missing",
        "model-00001-of-00002.safetensors": "size",
        "config.json": "invalid",
    }
    assert found["chat_template.jinja"] == "missing"


def test_what_is_not_there_has_a_reason(bench, tmp_path):
    assert "is not there" in look(bench)["reason"]
    bench.present()
    assert "does not know revision 'v2'" in look(bench, revision="v2")["reason"]
    assert "is no repo id" in look(bench, source="a/b/c")["reason"]
    assert str(tmp_path / "none") in look(bench, source=str(tmp_path / "none"))["reason"]


def test_folders_and_files(bench, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/config.json").write_text('{"auto_map": {"AutoModel": "acme/code--m.C"}}')
    entry = look(bench, source=str(tmp_path / "own"))
    assert entry["files"] == ["config.json"] and entry["missing_code_repos"] == entry["code_repos"] == ["acme/code"]
    assert look(bench, source=str(tmp_path / "own/config.json"))["files"] == ["config.json"]


def test_shards_that_an_index_lists_beside_others(tmp_path):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "consolidated.safetensors").write_bytes(b"")
    # The index of a second form of the weights, which was not brought.
    assert look_at(tmp_path) == []
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    assert look_at(tmp_path) == [("model-2.safetensors", "missing", "model.safetensors.index.json lists it")]
    assert look_at(tmp_path, "tokenizer") == []
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": [1]}')
    assert look_at(tmp_path) == []


@pytest.mark.parametrize(
    "name, shard", [("model.safetensors", "model-{}.safetensors"), ("pytorch_model.bin", "p-{}.bin")]
)
def test_an_index_of_a_model_of_hundreds_of_experts(tmp_path, name, shard):
    weights = {f"model.layers.0.mlp.experts.{number}.down_proj.weight": shard.format(1) for number in range(300_000)}
    index = tmp_path / f"{name}.index.json"
    index.write_text(json.dumps({"weight_map": {**weights, "lm_head.weight": shard.format(2)}}))
    assert index.stat().st_size > 1 << 24
    (tmp_path / shard.format(1)).write_bytes(b"")
    assert look_at(tmp_path) == [(shard.format(2), "missing", f"{index.name} lists it")]


def look_at(folder, scope="model"):
    (entry,) = source_facts([Asked(str(folder), None, scope)], str(folder))
    return [(one["file"], one["kind"], one["message"]) for one in entry["problems"]]
