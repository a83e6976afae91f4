# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parallel sizes and lengths against the shape of the model."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.parallel import check_parallel
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import (
    LLAMA_8B_CONFIG,
    QWEN3_8B_CONFIG,
    model,
    spec,
)

MIXTRAL = {**LLAMA_8B_CONFIG, "num_local_experts": 8}
# 24 attention and 4 KV heads: 3 divides the one and not the other.
ODD = {**QWEN3_8B_CONFIG, "num_attention_heads": 24, "num_key_value_heads": 4}
MLA = {**QWEN3_8B_CONFIG, "num_attention_heads": 24, "num_key_value_heads": 4, "kv_lora_rank": 512}
WRAPPED = {"architectures": ["X"], "text_config": {**QWEN3_8B_CONFIG, "num_experts": 8}}


def check(
    engine: dict[str, t.Any],
    release: str = "0.33.0",
    config: t.Any = None,
    path: str = "",
    env: dict[str, str] | None = None,
) -> list[Problem]:
    """The problems of these options with a model of this shape (Qwen3-8B: 32 heads, 8 KV heads, 36 layers)."""
    specs, found = load_specs([spec(engine=engine, env=env or {})])
    assert found == []
    return check_parallel(specs[0], load(release), model(config=config or QWEN3_8B_CONFIG, text_config_path=path))


@pytest.mark.parametrize(
    ("size", "config", "reason"),
    [
        (1, QWEN3_8B_CONFIG, None),
        (2, QWEN3_8B_CONFIG, None),
        ("8", QWEN3_8B_CONFIG, None),
        (16, QWEN3_8B_CONFIG, None),
        (32, QWEN3_8B_CONFIG, None),
        (3, QWEN3_8B_CONFIG, "cannot split the model's 32 attention heads"),
        (64, QWEN3_8B_CONFIG, "cannot split the model's 32 attention heads"),
        (3, ODD, "cannot split the model's 4 KV heads"),
        (6, ODD, "cannot split the model's 4 KV heads"),
        (8, ODD, None),
        (12, ODD, None),
        (3, MLA, None),
        (5, MLA, "cannot split the model's 24 attention heads"),
    ],
)
def test_tensor_parallel(size: t.Any, config: t.Any, reason: str | None) -> None:
    found = check({"tensor_parallel_size": size}, config=config)
    assert [(one.field, one.reason) for one in found] == ([("engine.tensor_parallel_size", reason)] if reason else [])


def test_the_sizes_that_fit_are_named() -> None:
    assert check({"tensor_parallel_size": 3})[0].fix == "Write one of 1, 2, 4, 8, 16"
    assert check({"tensor_parallel_size": 3}, config=ODD)[0].fix == "Write one of 1, 2, 4, 8, 12"


@pytest.mark.parametrize(
    ("engine", "release", "config", "path", "fires"),
    [
        ({"enable_expert_parallel": True}, "0.33.0", QWEN3_8B_CONFIG, "", True),
        ({"enable_expert_parallel": True}, "0.8.0", QWEN3_8B_CONFIG, "", True),
        # 0.7.3 has no such option, which another check says.
        ({"enable_expert_parallel": True}, "0.7.3", QWEN3_8B_CONFIG, "", False),
        ({"enable_expert_parallel": False}, "0.33.0", QWEN3_8B_CONFIG, "", False),
        ({"enable_expert_parallel": True}, "0.33.0", MIXTRAL, "", False),
        ({"enable_expert_parallel": True}, "0.33.0", WRAPPED, "text_config", False),
    ],
)
def test_expert_parallel_needs_experts(
    engine: dict[str, t.Any], release: str, config: t.Any, path: str, fires: bool
) -> None:
    found = check(engine, release, config, path)
    assert [one.field for one in found] == (["engine.enable_expert_parallel"] if fires else [])
    assert all(one.remedy == {} for one in found)


@pytest.mark.parametrize(
    ("tensor", "context", "release", "config", "reason"),
    [
        (8, 2, "0.33.0", QWEN3_8B_CONFIG, "needs an engine.tensor_parallel_size of more than the model's 8 KV heads"),
        (8, 2, "0.11.1", QWEN3_8B_CONFIG, "needs an engine.tensor_parallel_size of more than the model's 8 KV heads"),
        # 0.11.0 does not compare the size with the model.
        (8, 2, "0.11.0", QWEN3_8B_CONFIG, None),
        (16, 2, "0.33.0", QWEN3_8B_CONFIG, None),
        (16, 4, "0.33.0", QWEN3_8B_CONFIG, "is more than 2, which is engine.tensor_parallel_size 16"),
        (32, 4, "0.33.0", QWEN3_8B_CONFIG, None),
        (24, 4, "0.33.0", ODD, "does not divide the model's 6 attention heads"),
        (24, 6, "0.33.0", ODD, None),
        (8, 8, "0.33.0", MLA, None),
        (8, 1, "0.33.0", QWEN3_8B_CONFIG, None),
    ],
)
def test_decode_context_parallel(tensor: int, context: int, release: str, config: t.Any, reason: str | None) -> None:
    found = check({"tensor_parallel_size": tensor, "decode_context_parallel_size": context}, release, config)
    assert [one.field for one in found] == (["engine.decode_context_parallel_size"] if reason else [])
    assert all(one.reason.startswith(reason or "") for one in found)


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ("18,18", None),
        (" 20, 16", None),
        (None, None),
        ("12,12,12", "names 3 stages, and engine.pipeline_parallel_size is 2"),
        ("18,17", "adds up to 35 layers, and the model has 36"),
        ("18,x", "is no list of layers for each pipeline stage"),
    ],
)
def test_layers_of_pipeline_stages(layers: str | None, reason: str | None) -> None:
    env = {} if layers is None else {"VLLM_PP_LAYER_PARTITION": layers}
    found = check({"pipeline_parallel_size": 2}, env=env)
    assert [(one.field, one.reason) for one in found] == ([("env.VLLM_PP_LAYER_PARTITION", reason)] if reason else [])
    assert all(one.fix == "Leave it out, or write for example 18,18" and one.value is None for one in found)
    assert check({}, env=env) == []


@pytest.mark.parametrize(
    ("length", "config", "env", "fires"),
    [
        (40960, QWEN3_8B_CONFIG, {}, False),
        (40961, QWEN3_8B_CONFIG, {}, True),
        ("41k", QWEN3_8B_CONFIG, {}, True),
        ("auto", QWEN3_8B_CONFIG, {}, False),
        (40961, QWEN3_8B_CONFIG, {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}, False),
        (40961, QWEN3_8B_CONFIG, {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "True"}, False),
        (40961, QWEN3_8B_CONFIG, {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "0"}, True),
        # vLLM takes only 1 and true for yes.
        (40961, QWEN3_8B_CONFIG, {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "yes"}, True),
        (40961, {**QWEN3_8B_CONFIG, "model_max_length": 131072}, {}, False),
        (131073, LLAMA_8B_CONFIG, {}, True),
    ],
)
def test_length(length: t.Any, config: t.Any, env: dict[str, str], fires: bool) -> None:
    found = check({"max_model_len": length}, config=config, env=env)
    assert [one.field for one in found] == (["engine.max_model_len"] if fires else [])


@pytest.mark.parametrize(
    ("engine", "release", "field"),
    [
        ({"long_prefill_token_threshold": 40961}, "0.27.0", "long_prefill_token_threshold"),
        ({"long_prefill_token_threshold": 40961}, "0.26.0", None),
        ({"long_prefill_token_threshold": 40960}, "0.33.0", None),
        # The length that is given is compared without the model.
        ({"long_prefill_token_threshold": 4096, "max_model_len": 2048}, "0.33.0", None),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 8192}, "0.7.3", "max_num_batched_tokens"),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 8192}, "0.8.0", None),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 8192}, "0.11.0", None),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 8192}, "0.11.1", "max_num_batched_tokens"),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 40960}, "0.33.0", None),
        ({"max_num_batched_tokens": 8192}, "0.33.0", None),
    ],
)
def test_tokens_against_the_length_of_the_model(engine: dict[str, t.Any], release: str, field: str | None) -> None:
    assert [one.field for one in check(engine, release)] == ([f"engine.{field}"] if field else [])


@pytest.mark.parametrize(
    ("engine", "release", "experts", "field"),
    [
        ({"data_parallel_size": 2, "data_parallel_rank": 1}, "0.21.0", 0, "data_parallel_rank"),
        ({"data_parallel_size": 2, "data_parallel_rank": 1}, "0.20.2", 0, None),
        ({"data_parallel_size": 2, "data_parallel_external_lb": True}, "0.33.0", 0, "data_parallel_external_lb"),
        ({"data_parallel_size": 2, "data_parallel_rank": 1}, "0.33.0", 8, None),
        ({"data_parallel_size": 2}, "0.33.0", 0, None),
    ],
)
def test_ranks_with_servers_of_their_own(
    engine: dict[str, t.Any], release: str, experts: int, field: str | None
) -> None:
    found = check(engine, release, {**QWEN3_8B_CONFIG, "num_experts": experts})
    assert [one.field for one in found] == ([f"engine.{field}"] if field else [])


def test_what_is_unknown_is_not_checked() -> None:
    engine = {"tensor_parallel_size": 3, "max_model_len": 10**6}
    specs, _found = load_specs([spec(engine=engine)])
    assert check_parallel(specs[0], load("0.33.0"), None) == []
    assert check(engine, config={"architectures": ["X"]}) == []
    assert check({**engine, "hf_overrides": {"num_attention_heads": 3}}) == []
    assert len(check(engine)) == 2


@pytest.mark.parametrize("odd", [None, [], {}, "", "x", -1, 0, 1.5, True, 10**30])
@pytest.mark.parametrize(
    "option",
    [
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "decode_context_parallel_size",
        "enable_expert_parallel",
        "max_model_len",
        "data_parallel_rank",
        "long_prefill_token_threshold",
    ],
)
def test_no_value_is_too_odd(option: str, odd: t.Any) -> None:
    specs, _found = load_specs([spec(engine={option: odd})])
    if specs:
        check_parallel(specs[0], load("0.33.0"), model())
