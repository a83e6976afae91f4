# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles of checkpoints that the tests write, whole, broken and hostile."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.classes import CLASSES
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import CheckpointError
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.models import model_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.profile import read_profile

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "torch_dtype": "bfloat16",
}
LAYER = {"self_attn.q_proj.weight": (64, 64), "mlp.up_proj.weight": (128, 64), "input_layernorm.weight": (64,)}
TENSORS = {
    "model.embed_tokens.weight": ("BF16", (512, 64)),
    **{f"model.layers.{n}.{name}": ("BF16", shape) for n in range(2) for name, shape in LAYER.items()},
    "model.norm.weight": ("F32", (64,)),
    "lm_head.weight": ("BF16", (512, 64)),
}
INDEX = "model.safetensors.index.json"


def put(folder, name, content):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def checkpoint(writer, tmp_path):
    """A whole checkpoint in one file."""
    put(tmp_path, "config.json", CONFIG)
    put(tmp_path, "generation_config.json", {"eos_token_id": 2})
    put(tmp_path, "tokenizer.json", {})
    put(tmp_path, "tokenizer_config.json", {"chat_template": "{{ messages }}"})
    writer.safetensors(tmp_path / "model.safetensors", TENSORS)
    return tmp_path


@pytest.fixture
def sharded(writer, checkpoint):
    """The same in two shards, with Mistral's duplicate beside them."""
    (checkpoint / "model.safetensors").rename(checkpoint / "consolidated.safetensors")
    names = list(TENSORS)
    weight_map = {}
    for number, part in enumerate((names[:3], names[3:]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        writer.safetensors(checkpoint / file, {name: TENSORS[name] for name in part})
        weight_map.update(dict.fromkeys(part, file))
    put(checkpoint, INDEX, {"metadata": {"total_size": 1}, "weight_map": weight_map})
    return checkpoint


WEIGHTS = {
    "format": "safetensors",
    "total_bytes": 2 * 65536 + 2 * (8192 + 16384 + 128) + 256,
    "bytes_by_dtype": {"BF16": 2 * 65536 + 2 * (8192 + 16384 + 128), "F32": 256},
    "parameters_by_dtype": {"BF16": 65536 + 4096 * 2 + 8192 * 2 + 128, "F32": 64},
    "bytes_by_class": {
        **dict.fromkeys(CLASSES, {}),
        "embedding": {"BF16": 65536},
        "lm_head": {"BF16": 65536},
        "attention": {"BF16": 2 * 8192},
        "mlp": {"BF16": 2 * 16384},
        "norm": {"BF16": 2 * 128, "F32": 256},
    },
    "bytes_by_layer": [8192 + 16384 + 128] * 2,
    "layer_count_seen": 2,
}


def test_a_whole_checkpoint(checkpoint):
    profile = read_profile(str(checkpoint), "c" * 40)
    assert profile == {
        "path": str(checkpoint),
        "commit": "c" * 40,
        "config_source": "config.json",
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "config": CONFIG,
        "text_config_path": "",
        "generation_config": {"eos_token_id": 2},
        "weights": {**WEIGHTS, "files": 1},
        "quantization": None,
        "tokenizer": {"present": True, "files": ["tokenizer.json", "tokenizer_config.json"]},
        "chat_template": True,
        "remote_code": False,
        "problems": [],
    }
    json.dumps(profile, allow_nan=False)


def test_a_sharded_checkpoint_counts_what_the_index_names(sharded):
    profile = read_profile(str(sharded))
    assert profile["weights"] == {**WEIGHTS, "files": 2}
    assert profile["problems"] == []


def test_without_an_index_mistrals_duplicate_is_left_out(writer, checkpoint):
    writer.safetensors(checkpoint / "consolidated.safetensors", TENSORS)
    assert read_profile(str(checkpoint))["weights"] == {**WEIGHTS, "files": 1}
    (checkpoint / "model.safetensors").unlink()
    assert read_profile(str(checkpoint))["weights"] == {**WEIGHTS, "files": 1}


def test_the_weights_are_not_read(writer, checkpoint):
    """Beyond the headers the file is a hole of 64 GiB: reading it would take minutes."""
    writer.safetensors(checkpoint / "model.safetensors", {"model.layers.0.mlp.w": ("BF16", (2**20, 2**15))})
    assert read_profile(str(checkpoint))["weights"]["total_bytes"] == 2**36


def cut_shard(folder):
    os.truncate(folder / "model-00001-of-00002.safetensors", 1000)
    return ["truncated", "model-00001-of-00002.safetensors", "Pre-stage"]


def lose_shard(folder):
    (folder / "model-00001-of-00002.safetensors").unlink()
    return ["missing", INDEX, "1 of 2 weight files are missing: model-00001-of-00002"]


def lose_shard_content(folder):
    (folder / "model-00001-of-00002.safetensors").unlink()
    (folder / "model-00001-of-00002.safetensors").symlink_to("../blobs/gone")
    return ["missing", "model-00001-of-00002", "points at nothing"]


def lose_tensor(folder):
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.layers.9.mlp.up_proj.weight"] = "model-00002-of-00002.safetensors"
    put(folder, INDEX, index)
    return ["index", "model-00002-of-00002", "1 tensors", "model.layers.9.mlp"]


def point_outside(folder):
    put(folder, INDEX, {"weight_map": {"a": "../../etc/passwd"}})
    return ["invalid", INDEX, "outside the folder", "../../etc/passwd"]


def point_at_root(folder):
    put(folder, INDEX, {"weight_map": {"a": "/etc/passwd"}})
    return ["invalid", INDEX, "outside the folder"]


def odd_index(folder):
    put(folder, INDEX, {"weight_map": ["a"]})
    return ["invalid", INDEX, "no table"]


def odd_index_values(folder):
    put(folder, INDEX, {"weight_map": {"a": 1}})
    return ["invalid", INDEX, "no table"]


def broken_generation_config(folder):
    put(folder, "generation_config.json", "{")
    return ["invalid", "generation_config.json", "no JSON"]


@pytest.mark.parametrize(
    "spoil",
    [
        cut_shard,
        lose_shard,
        lose_shard_content,
        lose_tensor,
        point_outside,
        point_at_root,
        odd_index,
        odd_index_values,
        broken_generation_config,
    ],
)
def test_one_problem_hides_nothing_else(sharded, spoil):
    kind, file, *words = spoil(sharded)
    profile = read_profile(str(sharded))
    (problem,) = profile["problems"]
    assert (problem["severity"], problem["kind"]) == ("error", kind)
    assert file in problem["file"]
    for word in words:
        assert word in problem["message"]
    assert profile["weights"]["total_bytes"] > 0 and profile["architectures"]


def test_unknown_dtypes_are_counted_and_said(writer, checkpoint):
    header = {"a": {"dtype": "F5_NEW", "shape": [8], "data_offsets": [0, 5]}}
    writer.raw(checkpoint / "model.safetensors", json.dumps(header).encode(), 5)
    profile = read_profile(str(checkpoint))
    assert profile["weights"]["bytes_by_dtype"] == {"F5_NEW": 5}
    assert [problem["severity"] for problem in profile["problems"]] == ["warning"]


@pytest.mark.parametrize(
    "other, words", [("model-Q4_K_M.gguf", "model-Q4_K_M.gguf cannot be measured"), ("x.txt", "is here.")]
)
def test_no_safetensors(checkpoint, other, words):
    (checkpoint / "model.safetensors").unlink()
    put(checkpoint, other, "")
    profile = read_profile(str(checkpoint))
    assert profile["weights"] is None
    assert words in profile["problems"][0]["message"] + "."


@pytest.mark.parametrize(
    "content, kind",
    [
        (None, "missing"),
        ("", "invalid"),
        ("[]", "invalid"),
        ('{"a": ', "invalid"),
        ('{"a":' * 100000, "invalid"),
        (" " * 5_000_000 + "{}", "too_large"),
    ],
)
def test_without_a_configuration_there_is_no_profile(checkpoint, content, kind):
    (checkpoint / "config.json").unlink()
    if content is not None:
        put(checkpoint, "config.json", content)
    with pytest.raises(CheckpointError) as caught:
        read_profile(str(checkpoint))
    assert caught.value.details == {"kind": kind, "file": str(checkpoint / "config.json")}


def test_infinity_in_a_configuration(checkpoint):
    put(checkpoint, "config.json", '{"time_step_limit": [0.0, Infinity], "x": NaN}')
    profile = read_profile(str(checkpoint))
    assert profile["config"] == {"time_step_limit": [0.0, "Infinity"], "x": "NaN"}
    json.dumps(profile, allow_nan=False)


@pytest.mark.parametrize(
    "config, path",
    [
        ({"hidden_size": 1}, ""),
        ({"text_config": {"hidden_size": 1}, "vision_config": {"hidden_size": 2}}, "text_config"),
        ({"text_config": {"eos_token_id": 1}, "hidden_size": 1}, ""),
        ({"llm_config": {"num_hidden_layers": 1}}, "llm_config"),
        ({"language_config": {"num_hidden_layers": 1}}, "language_config"),
        ({"thinker_config": {"text_config": {"hidden_size": 1}}}, "thinker_config.text_config"),
        ({"text_config": ["hidden_size"]}, ""),
    ],
)
def test_where_the_decoders_fields_are(checkpoint, config, path):
    put(checkpoint, "config.json", config)
    assert read_profile(str(checkpoint))["text_config_path"] == path


@pytest.mark.parametrize(
    "config, own, quantization",
    [
        (
            {"quantization_config": {"quant_method": "fp8"}},
            None,
            {"method": "fp8", "algorithm": None, "source": "config.json: quantization_config"},
        ),
        (
            {"text_config": {"quantization_config": {"quant_method": "awq"}}},
            None,
            {"method": "awq", "algorithm": None, "source": "config.json: text_config.quantization_config"},
        ),
        (
            {},
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}},
            {"method": "modelopt", "algorithm": "NVFP4", "source": "hf_quant_config.json"},
        ),
        ({}, None, None),
        ({"quantization_config": None}, {"quantization": None}, None),
    ],
)
def test_quantization(checkpoint, config, own, quantization):
    put(checkpoint, "config.json", config)
    if own:
        put(checkpoint, "hf_quant_config.json", own)
    assert read_profile(str(checkpoint))["quantization"] == quantization


@pytest.mark.parametrize(
    "files, present, template, code",
    [
        ({}, False, False, False),
        ({"tokenizer_config.json": {}}, False, False, False),
        ({"tokenizer.model": "", "tokenizer_config.json": {}}, True, False, False),
        ({"qwen.tiktoken": ""}, True, False, False),
        ({"tekken.json": {}}, True, False, False),
        ({"vocab.json": {}, "merges.txt": "", "chat_template.jinja": ""}, True, True, False),
        ({"tokenizer.json": {}, "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["x.X"]}}}, True, False, True),
    ],
)
def test_tokenizer_template_and_code(checkpoint, files, present, template, code):
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "tokenizer_config.json").unlink()
    for name, content in files.items():
        put(checkpoint, name, content)
    profile = read_profile(str(checkpoint))
    assert profile["tokenizer"]["present"] is present
    assert (profile["chat_template"], profile["remote_code"]) == (template, code)
    assert set(profile["tokenizer"]["files"]) == set(files) - {"chat_template.jinja"}


def test_code_that_the_configuration_asks_for(checkpoint):
    put(checkpoint, "config.json", {**CONFIG, "auto_map": {"AutoModel": "modeling.Model"}})
    assert read_profile(str(checkpoint))["remote_code"] is True


def test_models_in_order_once_each_and_missing_ones_with_a_reason(checkpoint, tmp_path_factory):
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path_factory.mktemp("hub")
    repo = cache / "models--acme--tiny"
    (repo / "snapshots").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit).symlink_to(checkpoint)
    file = checkpoint / "config.json"
    requests = [
        ("acme/tiny", None),
        (str(checkpoint), None),
        ("acme/gone", None),
        ("acme/tiny", None),
        ("acme/tiny", commit),
        (str(checkpoint / "gone"), None),
        (str(file), None),
        ("relative/path/here", None),
    ]
    entries = model_facts(requests, str(cache))
    assert [(entry["model"], entry["revision"], entry["found"]) for entry in entries] == [
        ("acme/tiny", None, True),
        (str(checkpoint), None, True),
        ("acme/gone", None, False),
        ("acme/tiny", commit, True),
        (str(checkpoint / "gone"), None, False),
        (str(file), None, False),
        ("relative/path/here", None, False),
    ]
    assert [entry.get("commit") for entry in entries] == [commit, None, None, commit, None, None, None]
    reasons = [entry["reason"] for entry in entries]
    assert reasons[0] is None and "models--acme--gone" in reasons[2] and "not there" in reasons[4]
    assert "a folder with config.json" in reasons[5] and "absolute path" in reasons[6]


def test_a_name_says_nothing_of_the_size(writer, tmp_path):
    """Half a billion parameters stay half a billion, whatever folder, file and repo are called."""
    folder = tmp_path / "acme" / "giant-70b-instruct"
    folder.mkdir(parents=True)
    put(folder, "config.json", {**CONFIG, "_name_or_path": "acme/giant-70b", "num_parameters": 70_000_000_000})
    tensors = {f"model.layers.{n}.mlp.up_proj.weight": ("BF16", (5000, 5000)) for n in range(20)}
    writer.safetensors(folder / "giant-70b.safetensors", tensors)
    (entry,) = model_facts([(str(folder), None)], "/nowhere")
    assert entry["weights"]["total_bytes"] == 10**9
    assert entry["weights"]["parameters_by_dtype"] == {"BF16": 500_000_000}


@pytest.mark.parametrize(
    "params, config",
    [
        (
            {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "hidden_dim": 128, "vocab_size": 512},
            {
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "intermediate_size": 128,
                "vocab_size": 512,
                "architectures": ["MistralForCausalLM"],
                "max_position_embeddings": 128_000,
                "tie_word_embeddings": False,
            },
        ),
        (
            {"moe": {"num_experts": 8, "num_experts_per_tok": 2}},
            {"architectures": ["MixtralForCausalLM"], "num_local_experts": 8, "num_experts_per_tok": 2},
        ),
        (
            {"moe": {"num_experts": 128, "num_shared_experts": 1, "expert_hidden_dim": 4096}, "kv_lora_rank": 512},
            {
                "architectures": ["MistralLarge3ForCausalLM"],
                "model_type": "deepseek_v3",
                "n_routed_experts": 128,
                "moe_intermediate_size": 4096,
                "kv_lora_rank": 512,
            },
        ),
        (
            {"n_layers": 4, "sliding_window": [None, 4096]},
            {"layer_types": ["full_attention", "sliding_attention"] * 2, "sliding_window": 4096},
        ),
        ({"quantization": {"qformat_weight": "fp8_e4m3"}}, {"quantization_config": {"quant_method": "fp8"}}),
        ({"vision_encoder": {"hidden_size": 8}}, {"architectures": ["PixtralForConditionalGeneration"]}),
        (
            {"multimodal": {"whisper_model_args": {"encoder_args": {}}}, "quantization": {"quant_method": "x"}},
            {"architectures": ["VoxtralForConditionalGeneration"], "quantization_config": {"quant_method": "x"}},
        ),
    ],
)
def test_mistrals_own_form(writer, tmp_path, params, config):
    put(tmp_path, "params.json", params)
    writer.safetensors(tmp_path / "consolidated.safetensors", {"layers.0.attention.wq.weight": ("BF16", (64, 64))})
    profile = read_profile(str(tmp_path))
    assert profile["config_source"] == "params.json"
    assert {key: profile["config"].get(key) for key in config} == config
    assert profile["weights"]["total_bytes"] == 8192 and profile["problems"] == []


def test_mistrals_encoders_stand_beside_the_decoder(tmp_path):
    put(tmp_path, "params.json", {"dim": 64, "n_layers": 2, "vision_encoder": {"hidden_size": 8}})
    profile = read_profile(str(tmp_path))
    assert profile["text_config_path"] == "text_config" and profile["config"]["vision_config"] == {"hidden_size": 8}
    assert profile["config"]["text_config"]["hidden_size"] == 64


def test_draft_layers_are_no_decoder_layers(writer, checkpoint):
    """Some checkpoints number the layers of their draft after those of the decoder."""
    writer.safetensors(
        checkpoint / "model.safetensors", {**TENSORS, "model.layers.2.mlp.up_proj.weight": ("BF16", (9,))}
    )
    weights = read_profile(str(checkpoint))["weights"]
    assert weights["bytes_by_layer"] == WEIGHTS["bytes_by_layer"]
    assert weights["total_bytes"] == WEIGHTS["total_bytes"] + 18
