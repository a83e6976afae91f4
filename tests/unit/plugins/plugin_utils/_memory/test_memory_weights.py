# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of weights on each GPU: against what vLLM's own model classes create, recorded starts, and by their own laws.

fixtures/weights/oracle.json was made by tools/memory/oracle_weights.py with 0.32.0.
"""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, Asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry, geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings, settings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.stages import stages
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.weights import parameters, weights

H100 = Device("gpu", "NVIDIA H100 80GB HBM3", 85_021_163_520)
ORACLE = json.loads((Path(__file__).parents[3] / "fixtures" / "weights" / "oracle.json").read_text())
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
MOE = "Qwen/Qwen3-30B-A3B"
LATENT = "deepseek-ai/DeepSeek-V2-Lite-Chat"


def known(model: str) -> tuple[dict[str, t.Any], Geometry]:
    """Profile and shape of a model of the fixture."""
    entry = ORACLE["models"][model]
    config = entry["config"]
    return entry["weights"], geometry(config, "text_config" if "text_config" in config else "")


def chosen(shape: Geometry, release: str = "0.32.0", **asked: t.Any) -> Settings:
    return settings(release, Asked(**asked), shape, H100)


def gib(model: str, release: str = "0.19.0", **asked: t.Any) -> list[float]:
    """Expected GiB of each stage."""
    found, shape = known(model)
    return [term.expected / GIB for term in weights(found, shape, chosen(shape, release, **asked))]


@pytest.mark.parametrize(
    "figure", ORACLE["figures"], ids=lambda one: f"{one['model']} tp{one['tp']} pp{one['pp']} rank{one['rank']}"
)
def test_parameters_are_those_that_the_model_classes_create(figure):
    found, shape = known(figure["model"])
    asked = {"tensor_parallel": figure["tp"], "pipeline_parallel": figure["pp"]}
    ours = parameters(found, shape, chosen(shape, **asked))[figure["rank"] // figure["tp"]]
    # Left out: buffers of scales, and embeddings of positions that encoders hold whole.
    off = 0.002 if shape.is_multimodal else 0.0002
    assert ours == pytest.approx(figure["parameters"] + figure["buffers"], rel=off)


# What vLLM logged: llm-d-incubation/llm-d-planner, accuracy/results/v0.19.0, and issues of vllm-project/vllm.
@pytest.mark.parametrize(
    "model, asked, logged",
    [
        (LLAMA, {}, [14.99]),
        (LLAMA, {"dtype": "float32"}, [29.98]),
        (LLAMA, {"quantization": "fp8"}, [8.49]),
        (LLAMA, {"tensor_parallel": 2}, [7.51]),
        (LLAMA, {"tensor_parallel": 4}, [3.77]),
        (LLAMA, {"pipeline_parallel": 2}, [7.51, 7.51]),
        (LLAMA, {"pipeline_parallel": 4}, [4.26, 3.28, 3.28, 4.26]),
        ("Qwen/Qwen2.5-7B-Instruct", {}, [14.25]),
        ("Qwen/Qwen2.5-7B-Instruct", {"tensor_parallel": 4}, [3.55]),
        ("google/gemma-2-9b-it", {}, [17.22]),
        (MOE, {}, [56.88]),
    ],
)
def test_weights_are_what_starts_logged(model, asked, logged):
    assert gib(model, **asked) == pytest.approx(logged, abs=0.011)


@pytest.mark.parametrize(
    "layers, number, partition, release, expected",
    [
        (32, 1, None, "0.19.0", [(0, 32)]),
        (61, 4, None, "0.19.0", [(0, 15), (15, 30), (30, 46), (46, 61)]),
        (62, 4, None, "0.19.0", [(0, 15), (15, 31), (31, 47), (47, 62)]),
        (61, 4, None, "0.6.6", [(0, 15), (15, 30), (30, 45), (45, 61)]),
        (61, 4, None, "0.7.3", [(0, 15), (15, 30), (30, 45), (45, 61)]),
        (61, 4, None, "0.8.0", [(0, 15), (15, 30), (30, 46), (46, 61)]),
        (61, 2, "9" * 5000 + ",1", "0.19.0", [(0, 30), (30, 61)]),
        (61, 2, "40,21", "0.19.0", [(0, 40), (40, 61)]),
        (61, 2, "40,20", "0.19.0", [(0, 30), (30, 61)]),
        (61, 2, "a,b", "0.19.0", [(0, 30), (30, 61)]),
        (61, 2, "", "0.19.0", [(0, 30), (30, 61)]),
    ],
)
def test_stages(layers, number, partition, release, expected):
    found = stages(layers, number, partition, Version(release))
    if number == 2 and partition != "40,21":
        # One layer is left over, and goes to the stage before the last one.
        expected = [(0, 31), (31, 61)]
    assert list(found) == expected


def test_a_tied_head_is_held_once_and_by_both_ends_of_a_pipeline():
    found, shape = known("Qwen/Qwen3-0.6B")
    assert shape.tied
    embedding = sum(found["bytes_by_class"]["embedding"].values())
    alone = parameters(found, shape, chosen(shape))[0]
    halves = parameters(found, shape, chosen(shape, pipeline_parallel=2))
    assert sum(halves) - alone == pytest.approx(embedding, rel=0.05)


def test_keys_and_values_are_copied_where_gpus_are_more_than_their_heads():
    found, shape = known(LLAMA)
    (eight,), (sixteen,) = (parameters(found, shape, chosen(shape, tensor_parallel=size)) for size in (8, 16))
    keys = sum(found["bytes_by_class"]["key_value"].values())
    rope = shape.max_positions * shape.head_dim * 2
    assert (sixteen - rope) - (eight - rope) / 2 == pytest.approx(keys / 8 / 2, rel=0.02)


@pytest.mark.parametrize(
    "asked, share",
    [
        ({"tensor_parallel": 2}, 1 / 2),
        ({"tensor_parallel": 2, "data_parallel": 4}, 1 / 8),
        ({"tensor_parallel": 2, "data_parallel": 4, "expert_parallel": True}, 1 / 8),
        # 128 experts on 12 GPUs: some have 11.
        ({"tensor_parallel": 4, "data_parallel": 3, "expert_parallel": True}, 11 / 128),
    ],
)
def test_experts_are_spread_over_data_parallel_ranks(asked, share):
    found, shape = known(MOE)
    experts = sum(found["bytes_by_class"]["expert"].values())
    rest = {**found, "bytes_by_class": {**found["bytes_by_class"], "expert": {}}}
    here, without = (parameters(one, shape, chosen(shape, **asked))[0] for one in (found, rest))
    assert here - without == pytest.approx(experts * share, abs=2)


def test_latent_attention_keeps_its_up_projections_twice():
    found, shape = known(LATENT)
    kept, plain = (weights(found, shape, chosen(shape, env=env))[0].expected for env in ({}, {"VLLM_MLA_DISABLE": "1"}))
    assert kept - plain == 27 * 16 * 512 * (128 + 128) * 2


@pytest.mark.parametrize(
    "asked, release, loaded",
    [
        ({}, "0.32.0", True),
        ({"language_model_only": True}, "0.32.0", False),
        ({"limit_mm": {"image": 0, "video": 0}}, "0.32.0", False),
        ({"limit_mm": {"image": 0, "video": 1}}, "0.32.0", True),
        ({"limit_mm": {"image": 0, "video": 0}}, "0.10.0", True),
    ],
)
def test_encoders_that_get_no_input_are_left_out(asked, release, loaded):
    found, shape = known("Qwen/Qwen2.5-VL-7B-Instruct")
    encoder = sum(sum(found["bytes_by_class"][name].values()) for name in ("vision", "projector"))
    assert encoder > GIB
    with_all = parameters(found, shape, chosen(shape, release))[0]
    assert with_all - parameters(found, shape, chosen(shape, release, **asked))[0] == (
        0 if loaded else pytest.approx(encoder, abs=2)
    )


def test_draft_layers_count_with_speculation_only():
    found, shape = known(LLAMA)
    layer = found["bytes_by_layer"][0]
    drafted = {**found, "bytes_by_class": {**found["bytes_by_class"], "draft": {"BF16": layer}}}
    plain = parameters(found, shape, chosen(shape))[0]
    assert parameters(drafted, shape, chosen(shape))[0] == plain
    ngram = chosen(shape, speculative={"method": "ngram", "num_speculative_tokens": 2})
    assert parameters(drafted, shape, ngram)[0] == plain
    mtp = chosen(shape, speculative={"method": "deepseek_mtp", "num_speculative_tokens": 1})
    assert parameters(drafted, shape, mtp)[0] - plain == pytest.approx(layer, rel=0.01)


def test_draft_layers_under_the_names_of_decoder_layers_are_taken_off():
    found, shape = known(LLAMA)
    layer = found["bytes_by_layer"][0]
    classes = {
        name: {kind: size * 33 // 32 for kind, size in sizes.items()} if name not in ("embedding", "lm_head") else sizes
        for name, sizes in found["bytes_by_class"].items()
    }
    longer = {**found, "bytes_by_class": classes, "bytes_by_layer": [*found["bytes_by_layer"], layer]}
    assert parameters(longer, shape, chosen(shape))[0] == pytest.approx(
        parameters(found, shape, chosen(shape))[0], rel=1e-4
    )


@pytest.mark.parametrize(
    "asked, least, most",
    [
        ({"quantization": "bitsandbytes"}, 5.6, 5.7),
        ({"quantization": "fp8"}, 8.4, 8.5),
        ({"cpu_offload_gib": 5.0}, 9.98, 10.0),
        ({"cpu_offload_gib": 50.0}, 0.0, 0.0),
        ({"lora": True, "max_loras": 2, "max_lora_rank": 64}, 15.3, 15.8),
    ],
)
def test_what_changes_the_loaded_bytes(asked, least, most):
    assert least <= gib(LLAMA, "0.32.0", **asked)[0] <= most


def test_mxfp4_experts_grow_by_their_padding():
    config = {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "hidden_size": 2880,
        "num_hidden_layers": 24,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "intermediate_size": 2880,
        "vocab_size": 201088,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "max_position_embeddings": 131072,
        "quantization_config": {"quant_method": "mxfp4"},
    }
    shape = geometry(config)
    experts = 32 * 24 * 3 * 2880 * 2880 * 17 // 32
    found = {"bytes_by_class": {"expert": {"U8": experts}}, "bytes_by_layer": [experts // 24] * 24}
    (term,) = weights(found, shape, chosen(shape))
    table = 131072 * 64 * 4
    assert term.low == pytest.approx(experts * 0.99, rel=0.01)
    assert term.expected == pytest.approx(experts * (2944 / 2880) * (3072 / 2880) + table, rel=0.001)
    assert term.high > term.expected


TENSOR = st.sampled_from([1, 2, 4, 8])
MODELS = st.sampled_from(sorted(ORACLE["models"]))


@runs(max_examples=60)
@given(model=MODELS, tensor=TENSOR, pipeline=st.sampled_from([1, 2, 3]), expert=st.booleans())
def test_more_gpus_never_hold_more_each(model, tensor, pipeline, expert):
    found, shape = known(model)

    def most(**asked: t.Any) -> int:
        return max(parameters(found, shape, chosen(shape, expert_parallel=expert, **asked)))

    here = most(tensor_parallel=tensor, pipeline_parallel=pipeline)
    assert most(tensor_parallel=2 * tensor, pipeline_parallel=pipeline) <= here
    assert most(tensor_parallel=tensor, pipeline_parallel=2 * pipeline) <= here + 1


@runs(max_examples=60)
@given(model=MODELS, tensor=TENSOR, pipeline=st.sampled_from([1, 2, 4]))
def test_gpus_together_hold_at_least_the_checkpoint(model, tensor, pipeline):
    found, shape = known(model)
    held = sum(parameters(found, shape, chosen(shape, tensor_parallel=tensor, pipeline_parallel=pipeline))) * tensor
    classes = found["bytes_by_class"]
    assert held >= found["total_bytes"] - sum(sum(classes[name].values()) for name in ("draft", "unused"))


@runs(max_examples=40)
@given(model=MODELS, tensor=TENSOR, release=st.sampled_from(["0.6.6", "0.10.0", "0.19.0", "0.33.0"]))
def test_smaller_dtypes_never_take_more_and_terms_are_in_order(model, tensor, release):
    found, shape = known(model)

    def term(**asked: t.Any) -> t.Any:
        return weights(found, shape, chosen(shape, release, tensor_parallel=tensor, **asked))[0]

    plain = term()
    assert plain.low <= plain.expected <= plain.high
    assert term(dtype="float32").expected >= plain.expected >= term(quantization="fp8").expected
    assert term(lora=True, max_lora_rank=64).expected > plain.expected
