# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GGUF files: their headers, what they say in the words of config.json, and which of them vLLM loads."""

from __future__ import annotations

import json
import os
import struct

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint import gguf
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.classes import Classifier
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.configs import from_gguf
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import CheckpointError, Folder
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.models import model_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.shards import gguf_files

METADATA = {
    "general.architecture": "qwen3",
    "general.name": "Tiny",
    "qwen3.block_count": 2,
    "qwen3.context_length": 4096,
    "qwen3.embedding_length": 256,
    "qwen3.feed_forward_length": 512,
    "qwen3.attention.head_count": 4,
    "qwen3.attention.head_count_kv": 2,
    "qwen3.attention.key_length": 64,
    "qwen3.rope.freq_base": 1e6,
    "tokenizer.ggml.tokens": ["a", "b", "c"] * 100,
    "tokenizer.chat_template": "{{ messages }}",
}
# Q4_K: 144 bytes for 256 elements; Q6_K: 210; F32: 4 for one.
TENSORS = {
    "token_embd.weight": (12, (256, 300), 300 * 144),
    "output_norm.weight": (0, (256,), 1024),
    "blk.0.attn_q.weight": (12, (256, 256), 256 * 144),
    "blk.0.ffn_down.weight": (14, (512, 256), 512 * 210),
    "blk.1.attn_q.weight": (12, (256, 256), 256 * 144),
}
CONFIG = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "tie_word_embeddings": True,
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "intermediate_size": 512,
    "max_position_embeddings": 4096,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "rope_theta": 1e6,
    "vocab_size": 300,
}


def one(model, **options):
    (entry,) = model_facts([(str(model), None)], "/nowhere", **options)
    return entry


def read(path):
    return gguf.read_header(Folder(os.path.dirname(path)), os.path.basename(path))


@pytest.mark.parametrize("version", [2, 3])
def test_a_file(writer, tmp_path, version):
    path = tmp_path / "Tiny-Q4_K_M.gguf"
    writer.gguf(path, METADATA, TENSORS, version=version)
    entry = one(path)
    assert (entry["source"], entry["path"], entry["commit"]) == ("file", str(path), None)
    assert (entry["config_source"], entry["config"]) == ("gguf", CONFIG)
    assert (entry["model_type"], entry["architectures"]) == ("qwen3", ["Qwen3ForCausalLM"])
    weights = entry["weights"]
    assert (weights["format"], weights["files"], weights["layer_count_seen"]) == ("gguf", 1, 2)
    assert weights["bytes_by_dtype"] == {"Q4_K": (300 + 512) * 144, "F32": 1024, "Q6_K": 512 * 210}
    assert weights["parameters_by_dtype"] == {"Q4_K": (300 + 512) * 256, "F32": 256, "Q6_K": 512 * 256}
    assert weights["bytes_by_layer"] == [256 * 144 + 512 * 210, 256 * 144]
    assert weights["bytes_by_class"]["embedding"] == {"Q4_K": 300 * 144}
    assert entry["quantization"] == {"method": "gguf", "algorithm": "Q4_K", "source": path.name}
    assert entry["tokenizer"] == {"present": True, "files": []} and entry["chat_template"] is True
    assert entry["problems"] == []
    json.dumps(entry, allow_nan=False)


def test_a_configuration_beside_it_wins(writer, tmp_path):
    writer.gguf(tmp_path / "x.gguf", METADATA, {**TENSORS, "output.weight": (0, (8,), 32)})
    (tmp_path / "config.json").write_text('{"model_type": "own", "num_hidden_layers": 1}')
    entry = one(tmp_path / "x.gguf")
    assert (entry["config_source"], entry["model_type"]) == ("config.json", "own")
    # Its layers are those of the configuration; what comes behind them is a draft.
    assert len(entry["weights"]["bytes_by_layer"]) == 1


def test_shards(writer, tmp_path):
    names = list(TENSORS)
    for number, part in enumerate((names[:2], names[2:4], names[4:]), 1):
        metadata = METADATA if number == 1 else {"split.no": number - 1}
        writer.gguf(tmp_path / f"t-Q4-0000{number}-of-00003.gguf", metadata, {name: TENSORS[name] for name in part})
    whole = one(tmp_path / "t-Q4-00001-of-00003.gguf")
    assert (whole["weights"]["files"], whole["config"], whole["problems"]) == (3, CONFIG, [])
    assert whole["weights"]["bytes_by_dtype"]["Q4_K"] == (300 + 512) * 144
    (tmp_path / "t-Q4-00002-of-00003.gguf").unlink()
    cut = one(tmp_path / "t-Q4-00001-of-00003.gguf")
    assert cut["weights"]["files"] == 2
    assert [(p["kind"], os.path.basename(p["file"])) for p in cut["problems"]] == [
        ("missing", "t-Q4-00002-of-00003.gguf")
    ]


def test_only_the_header_is_read(writer, tmp_path, counted):
    """64 GiB of tensors are behind a vocabulary of 200 thousand tokens."""
    path = tmp_path / "big.gguf"
    metadata = {**METADATA, "tokenizer.ggml.tokens": [f"token{n}" for n in range(200_000)]}
    writer.gguf(path, metadata, {"token_embd.weight": (1, (2**15, 2**20), 2**36)})
    assert one(path)["weights"]["total_bytes"] == 2**36
    header_bytes = sum(16 + len(f"token{n}") for n in range(200_000))
    assert sum(read for _name, _begin, read in counted) < 2 * header_bytes + 2**20
    assert len(counted) <= 4


def test_a_type_that_is_unknown_is_counted_by_offsets(writer, tmp_path):
    path = tmp_path / "x.gguf"
    writer.gguf(path, METADATA, {"blk.0.attn_q.weight": (99, (256,), 64), "blk.0.attn_k.weight": (98, (1,), 96)})
    entry = one(path)
    assert entry["weights"]["bytes_by_dtype"] == {"GGML_99": 64, "GGML_98": 96}
    assert [(p["severity"], p["kind"]) for p in entry["problems"]] == [("warning", "unknown_dtype")] * 2


def swapped(content):
    return content[:4] + struct.pack(">I", 3) + content[8:]


@pytest.mark.parametrize(
    "spoil, kind, words",
    [
        (lambda content: b"GGML" + content[4:], "invalid", "begin with GGUF"),
        (lambda content: content[:4] + struct.pack("<I", 1) + content[8:], "invalid", "version 1"),
        (swapped, "invalid", "big endian"),
        (lambda content: content[:8] + struct.pack("<Q", 2**63) + content[16:], "truncated", "the file ends"),
        (lambda content: content[:16] + struct.pack("<Q", 2**63) + content[24:], "invalid", "a name in it has"),
        (lambda content: content[:24] + struct.pack("<Q", 2**63) + content[32:], "invalid", "a name in it"),
        (lambda content: content[:-40000], "truncated", "behind the end of the file"),
        (lambda content: content.replace(b"blk.1.attn_q", b"blk.0.attn_q"), "invalid", "is there twice"),
        (lambda content: content.replace(b"qwen3.context_length", b"qwen3.embedding_leng"), "invalid", "ere"),
        (lambda content: b"", "truncated", "byte 0"),
    ],
)
def test_refuses_wrong_headers(writer, tmp_path, spoil, kind, words):
    path = str(tmp_path / "x.gguf")
    writer.gguf(path, {**METADATA, "qwen3.embedding_leng": 1}, TENSORS)
    with open(path, "rb") as handle:
        content = handle.read()
    with open(path, "wb") as handle:
        handle.write(spoil(content))
    with pytest.raises(CheckpointError) as caught:
        read(path)
    assert caught.value.details == {"kind": kind, "file": path}
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "metadata, tensors, words",
    [
        ({}, {"a": (0, (8,), 64), "b": (0, (8,), 32)}, "overlap or leave a gap"),
        ({}, {"a": (0, (9,), 32), "b": (0, (8,), 32)}, "overlap or leave a gap"),
        ({}, {"a": (12, (100,), 64)}, "blocks of 256"),
        ({}, {"a": (0, (1,) * 5, 32)}, "5 dimensions"),
        ({"general.alignment": 0}, {}, "alignment"),
        ({"general.alignment": 48}, {}, "alignment"),
        ({"general.alignment": "32"}, {}, "alignment"),
        ({"x" * 5000: 1}, {}, "5000 bytes"),
    ],
)
def test_refuses_what_does_not_fit_together(writer, tmp_path, metadata, tensors, words):
    path = str(tmp_path / "x.gguf")
    writer.gguf(path, metadata, tensors)
    with pytest.raises(CheckpointError, match=words) as caught:
        read(path)
    assert caught.value.details["kind"] == "invalid"


def test_lists_of_lists_are_refused(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 9, 1) + b"\0" * 64)
    with pytest.raises(CheckpointError, match="unknown type 9"):
        read(str(path))


@pytest.mark.parametrize(
    "architecture, said, config",
    [
        ("llama", {"rope.dimension_count": 128}, {"model_type": "llama", "head_dim": 128}),
        ("qwen2", {"rope.dimension_count": 128}, {"model_type": "qwen2"}),
        ("qwen3moe", {"expert_count": 128, "expert_used_count": 8}, {"num_experts": 128, "num_experts_per_tok": 8}),
        ("gemma3", {"attention.sliding_window": 512}, {"model_type": "gemma3_text", "sliding_window": 512}),
        ("new", {"block_count": 3}, {"model_type": "new", "num_hidden_layers": 3}),
        (
            "new",
            {"attention.sliding_window_pattern": [True, False]},
            {"layer_types": ["sliding_attention", "full_attention"]},
        ),
        (
            "lfm2",
            {"attention.head_count_kv": [0, 8, 0], "shortconv.l_cache": 3},
            {"num_key_value_heads": 8, "layer_types": ["conv", "full_attention", "conv"], "conv_L_cache": 3},
        ),
        (
            "deepseek2",
            {
                "attention.kv_lora_rank": 512,
                "attention.key_length": 576,
                "attention.key_length_mla": 192,
                "attention.value_length_mla": 128,
                "attention.head_count": 128,
                "attention.head_count_kv": 1,
                "rope.dimension_count": 64,
                "expert_count": 256,
                "block_count": 62,
                "nextn_predict_layers": 1,
            },
            {
                "kv_lora_rank": 512,
                "qk_rope_head_dim": 64,
                "qk_nope_head_dim": 128,
                "v_head_dim": 128,
                "num_key_value_heads": 128,
                "n_routed_experts": 256,
                "num_hidden_layers": 61,
                "num_nextn_predict_layers": 1,
            },
        ),
        (
            "llama",
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32768},
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
        ),
        ("llama", {"rope.freq_base": float("nan"), "rope.scaling.type": "none"}, {"tie_word_embeddings": False}),
    ],
)
def test_metadata_in_the_words_of_a_configuration(architecture, said, config):
    metadata = {"general.architecture": architecture, **{f"{architecture}.{key}": said[key] for key in said}}
    found = from_gguf(metadata, has_head=True)
    assert {key: found.get(key) for key in config} == config
    assert "rope_theta" not in found and ("head_dim" in found) == ("head_dim" in config)


def test_without_an_architecture_there_is_no_configuration(writer, tmp_path):
    writer.gguf(tmp_path / "x.gguf", {}, TENSORS)
    assert from_gguf({"general.architecture": 5}, True) == {}
    assert "no config.json" in one(tmp_path / "x.gguf")["reason"]


@pytest.mark.parametrize(
    "name, same",
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output.weight", "lm_head.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("blk.7.attn_norm.weight", "model.layers.7.input_layernorm.weight"),
        ("blk.7.attn_q_norm.weight", "model.layers.7.self_attn.q_norm.weight"),
        ("blk.7.ffn_gate.weight", "model.layers.7.mlp.gate_proj.weight"),
        ("blk.7.ffn_gate_exps.weight", "model.layers.7.mlp.experts.gate_proj.weight"),
        ("blk.7.attn_output.weight", "model.layers.7.self_attn.o_proj.weight"),
        ("blk.7.attn_q.weight", "model.layers.7.self_attn.q_proj.weight"),
        ("blk.7.attn_k.bias", "model.layers.7.self_attn.k_proj.bias"),
        ("blk.7.attn_qkv.weight", "model.layers.7.self_attn.qkv_proj.weight"),
        ("blk.7.attn_kv_a_mqa.weight", "model.layers.7.self_attn.kv_a_proj_with_mqa.weight"),
        ("blk.7.attn_kv_a_norm.weight", "model.layers.7.self_attn.kv_a_layernorm.weight"),
        ("blk.7.attn_q_a.weight", "model.layers.7.self_attn.q_a_proj.weight"),
        ("blk.7.attn_q_b.weight", "model.layers.7.self_attn.q_b_proj.weight"),
        ("blk.7.attn_kv_b.weight", "model.layers.7.self_attn.kv_b_proj.weight"),
        ("blk.7.attn_sinks.weight", "model.layers.7.self_attn.sinks"),
        ("blk.7.ffn_gate_inp.weight", "model.layers.7.mlp.gate.weight"),
        ("blk.7.exp_probs_b.bias", "model.layers.7.mlp.gate.e_score_correction_bias"),
        ("blk.7.ffn_gate_shexp.weight", "model.layers.7.mlp.shared_experts.gate_proj.weight"),
        ("blk.7.ssm_in.weight", "backbone.layers.7.mixer.in_proj.weight"),
        ("blk.7.nextn.eh_proj.weight", "model.layers.7.eh_proj.weight"),
    ],
)
def test_a_tensor_has_the_same_class_in_both_formats(name, same):
    assert Classifier().classify(name) == Classifier().classify(same)


@pytest.mark.parametrize(
    "names, quant, files",
    [
        (["a-Q4_K_M.gguf", "a-Q8_0.gguf"], "Q8_0", ["a-Q8_0.gguf"]),
        (["Q8_0/a-Q8_0.gguf"], "Q8_0", ["Q8_0/a-Q8_0.gguf"]),
        (
            ["x/a-Q8_0-00001-of-00002.gguf", "x/a-Q8_0-00002-of-00002.gguf"],
            "Q8_0",
            ["x/a-Q8_0-00001-of-00002.gguf", "x/a-Q8_0-00002-of-00002.gguf"],
        ),
        # What is not sharded wins, and UD-Q4 is another quantization than Q4 only for those who name it.
        (["a-Q8_0-00001-of-00002.gguf", "b-Q8_0.gguf"], "Q8_0", ["b-Q8_0.gguf"]),
        (["a-UD-Q4_K_XL.gguf", "a-Q4_K_XL.gguf"], "Q4_K_XL", ["a-Q4_K_XL.gguf"]),
        (["a-Q8_0.txt", "Q8_0.gguf"], "Q8_0", None),
    ],
)
def test_which_file_a_quantization_is(tmp_path, names, quant, files):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    folder = Folder(str(tmp_path))
    if files:
        assert gguf_files(folder, quant) == files
    else:
        with pytest.raises(CheckpointError, match="here are: Q8_0.gguf"):
            gguf_files(folder, quant)


@pytest.mark.parametrize("part", [":Q4_K_M", "/Tiny-Q4_K_M.gguf"])
def test_from_the_cache(writer, tmp_path, part):
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--acme--tiny" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    writer.gguf(snapshot / "Tiny-Q4_K_M.gguf", METADATA, TENSORS)
    (entry,) = model_facts([(f"acme/tiny{part}", commit)], str(tmp_path))
    assert (entry["source"], entry["commit"]) == ("cache", commit)
    assert entry["path"] == str(snapshot / "Tiny-Q4_K_M.gguf") and entry["weights"]["total_bytes"] > 0


def test_a_folder_of_gguf_files_says_how_to_name_one(writer, tmp_path):
    writer.gguf(tmp_path / "Tiny-Q4_K_M.gguf", METADATA, TENSORS)
    (tmp_path / "config.json").write_text("{}")
    entry = one(tmp_path)
    assert entry["weights"] is None and "by the path of its file" in entry["problems"][0]["message"]
    assert one(tmp_path / "gone.gguf")["reason"].startswith(f"{tmp_path}/gone.gguf: the file is missing")
