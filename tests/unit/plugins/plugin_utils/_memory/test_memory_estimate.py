# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory ledger: against recorded starts, by its own laws, and with the values that users write."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, Asked, read_asked, whole
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.estimate import estimate
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Ledger
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.reading import Unreadable
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import settings as settled
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import (
    H100,
    LLAMA_8B_CONFIG,
    QWEN3_8B_CONFIG,
    RTX_4090,
    weights,
)

LLAMA_HEAD = 128256 * 4096 * 2
LLAMA_WEIGHTS = weights(int(14.9575 * GIB), embedding=LLAMA_HEAD, lm_head=LLAMA_HEAD)
QWEN_HEAD = 151936 * 4096 * 2
QWEN_WEIGHTS = weights(int(15.26 * GIB), embedding=QWEN_HEAD, lm_head=QWEN_HEAD)
RELEASES = ("0.6.6", "0.16.0", "0.19.0", "0.32.0", "0.33.0")


def ledger(
    engine: dict[str, t.Any],
    release: str = "0.19.0",
    config: dict[str, t.Any] | None = None,
    found: dict[str, t.Any] | None = None,
    total: int = H100,
    kind: str = "gpu",
    env: dict[str, str] | None = None,
) -> Ledger:
    """The ledger of these engine options on an H100."""
    asked, faults = read_asked(engine, env or {})
    assert faults == {}
    shape = geometry(config or LLAMA_8B_CONFIG)
    device = Device(kind, "H100 80GB" if kind == "gpu" else "a CPU", total)
    return estimate(found or LLAMA_WEIGHTS, shape, settled(release, asked, shape, device), device)


# GiB of weights and of KV cache, and tokens, that vLLM 0.19.0 logged on an H100 of 79.19 GiB with
# gpu_memory_utilization 0.95 and max_model_len 8192; of a pipeline the stage with the least, which the tokens are
# counted from. Source: accuracy/results/v0.19.0 of llm-d-incubation/llm-d-planner.
RECORDED = [
    (LLAMA_8B_CONFIG, LLAMA_WEIGHTS, {}, 14.99, 58.11, 476016),
    (LLAMA_8B_CONFIG, LLAMA_WEIGHTS, {"tensor_parallel_size": 2}, 7.51, 63.76, 1044688),
    (LLAMA_8B_CONFIG, LLAMA_WEIGHTS, {"tensor_parallel_size": 4}, 3.77, 67.44, 2209792),
    (LLAMA_8B_CONFIG, LLAMA_WEIGHTS, {"pipeline_parallel_size": 2}, 7.51, 65.63, 1075312),
    (LLAMA_8B_CONFIG, LLAMA_WEIGHTS, {"pipeline_parallel_size": 4}, 4.26, 68.89, 2257264),
    (QWEN3_8B_CONFIG, QWEN_WEIGHTS, {}, 15.27, 57.50, 418688),
]


@pytest.mark.parametrize(("config", "found", "engine", "weight", "kv", "tokens"), RECORDED)
def test_recorded_starts(
    config: dict[str, t.Any], found: dict[str, t.Any], engine: dict[str, t.Any], weight: float, kv: float, tokens: int
) -> None:
    one = ledger({"gpu_memory_utilization": 0.95, "max_model_len": 8192, **engine}, config=config, found=found)
    assert one.confidence == "calibrated"
    assert one.terms[0].expected / GIB == pytest.approx(weight, rel=0.0065)
    assert one.kv.low / GIB <= kv <= one.kv.high / GIB
    assert one.kv.expected / GIB == pytest.approx(kv, abs=0.1)
    assert one.tokens == pytest.approx(tokens, rel=0.003)


def test_largest_length_ends_at_the_model() -> None:
    assert ledger({"max_model_len": 8192}, config=QWEN3_8B_CONFIG, found=QWEN_WEIGHTS).largest_length == 40960


@pytest.mark.parametrize("value", ["auto", "AUTO", -1, "-1"])
def test_auto_length_takes_what_fits(value: t.Any) -> None:
    small = ledger({"max_model_len": value}, "0.33.0", QWEN3_8B_CONFIG, QWEN_WEIGHTS, RTX_4090)
    large = ledger({"max_model_len": value}, "0.33.0", QWEN3_8B_CONFIG, QWEN_WEIGHTS, H100)
    assert small.verdict == "fits"
    assert 0 < small.max_model_len < 40960
    assert small.max_model_len == small.safe_length
    assert small.kv.low < small.kv_needed + small.kv_needed // small.max_model_len * 2 * small.block_tokens
    assert large.max_model_len == 40960


def test_auto_length_of_what_does_not_fit_at_all() -> None:
    assert ledger({"max_model_len": "auto"}, "0.33.0", QWEN3_8B_CONFIG, QWEN_WEIGHTS, 12 * GIB).verdict == "misfit"


def test_graphs_count_inside_the_budget_from_0_20_on() -> None:
    assert "graphs" in [term.name for term in ledger({}, "0.19.0").outside]
    assert "graphs reserved" in [term.name for term in ledger({}, "0.32.0").terms]
    assert "graphs beyond" in [term.name for term in ledger({}, "0.32.0").outside]


def test_fixed_kv_cache_is_taken_as_it_is() -> None:
    one = ledger({"kv_cache_memory_bytes": "4G"})
    assert (one.kv.low, one.kv.expected, one.kv.high) == (4 * GIB,) * 3
    assert ledger({"kv_cache_memory_bytes": "80G"}).verdict == "misfit"


def test_cpu_variable_wins_on_the_cpu_only() -> None:
    both = {"engine": {"kv_cache_memory_bytes": "8G"}, "env": {"VLLM_CPU_KVCACHE_SPACE": "4"}}
    assert ledger(**both, release="0.32.0", kind="cpu").kv.expected == 4 * GIB
    assert ledger(**both, release="0.32.0").kv.expected == 8 * GIB


ENGINES = st.fixed_dictionaries(
    {
        "tensor_parallel_size": st.sampled_from([1, 2, 4, 8]),
        "pipeline_parallel_size": st.sampled_from([1, 2, 4]),
        "max_model_len": st.integers(1, 200_000),
        "max_num_seqs": st.integers(1, 2048),
        "gpu_memory_utilization": st.floats(0.01, 1.0),
        "kv_cache_dtype": st.sampled_from(["auto", "fp8"]),
        "enforce_eager": st.booleans(),
    }
)


@settings(deadline=None)
@given(ENGINES, st.sampled_from(RELEASES), st.integers(1 * GIB, 300 * GIB))
def test_terms_and_kv_cache_are_the_budget(engine: dict[str, t.Any], release: str, total: int) -> None:
    one = ledger(engine, release, total=total)
    assert sum(term.expected for term in one.terms) + one.kv.expected == one.budget
    # Errors are independent: together they are less than all at their worst, and more than each alone.
    assert one.budget - sum(term.high for term in one.terms) <= one.kv.low
    assert all(one.kv.low <= one.kv.expected - term.high + term.expected for term in one.terms)
    assert one.room.expected == one.total - one.budget - sum(term.expected for term in one.outside)
    for term in (*one.terms, *one.outside, one.kv):
        assert term.low <= term.expected <= term.high
    assert one.largest_length <= max(one.max_positions, one.max_model_len)


@settings(deadline=None)
@given(ENGINES, st.sampled_from(RELEASES))
def test_less_is_never_needed_for_more(engine: dict[str, t.Any], release: str) -> None:
    one = ledger(engine, release)
    shorter = ledger({**engine, "max_model_len": max(1, engine["max_model_len"] // 2)}, release)
    assert shorter.kv_needed <= one.kv_needed
    smaller = ledger({**engine, "kv_cache_dtype": "fp8"}, release)
    assert smaller.kv_needed <= one.kv_needed
    for size in ("tensor_parallel_size", "pipeline_parallel_size"):
        spread = ledger({**engine, size: engine[size] * 2}, release)
        assert spread.terms[0].expected <= one.terms[0].expected
        assert spread.kv_needed <= one.kv_needed


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, 2),
        ("2", 2),
        (" 2 ", 2),
        ("32k", 32000),
        ("32K", 32768),
        ("25.6k", 25600),
        ("1M", 2**20),
        ("-1", -1),
        ("25.6K", None),
        ("1e3", None),
        (True, None),
        (None, None),
        (2.0, None),
        ([2], None),
        ("9" * 5000, None),
        ("9" * 5000 + "k", None),
    ],
)
def test_numbers_as_vllm_reads_them(value: t.Any, expected: int | None) -> None:
    assert whole(value) == expected


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("tensor_parallel_size", [0, -1, "x", None, False, [1], 1.5]),
        ("data_parallel_size", ["0"]),
        ("max_model_len", [0, -2, "long", None, True, "1t"]),
        ("max_num_seqs", [0, "1t", 10**6 + 1]),
        ("pipeline_parallel_size", [65, 100_000]),
        ("kv_cache_memory_bytes", [0, "-1G"]),
        ("gpu_memory_utilization", [0, 1.1, -0.5, "nan", "inf", None, True, [0.5], 10**400]),
    ],
)
def test_values_that_cannot_be_meant(option: str, values: list[t.Any]) -> None:
    for value in values:
        asked, faults = read_asked({option: value}, {})
        assert list(faults) == [option], value
        assert asked == Asked()


def test_gpu_count_is_the_product_of_all_parallel_sizes() -> None:
    engine = {
        "tensor_parallel_size": "2",
        "pipeline_parallel_size": 3,
        "prefill_context_parallel_size": 5,
        "decode_context_parallel_size": 2,
        "data_parallel_size": 7,
    }
    assert read_asked(engine, {})[0].gpu_count == 210


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "4096"}, "hidden_size"),
        ({"num_key_value_heads": [8, 8]}, "num_key_value_heads"),
        ({"head_dim": "auto"}, "head_dim"),
        ({"vocab_size": True}, "vocab_size"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers"),
        ({"kv_lora_rank": {}}, "kv_lora_rank"),
        ({"max_position_embeddings": -1}, "max_position_embeddings"),
        ({"num_hidden_layers": 1001}, "num_hidden_layers"),
        ({"num_nextn_predict_layers": 999_999_999}, "num_nextn_predict_layers"),
    ],
)
def test_unusable_configurations_name_the_key(changes: dict[str, t.Any], expected: str) -> None:
    with pytest.raises(Unreadable, match=expected):
        geometry({**LLAMA_8B_CONFIG, **changes})


@pytest.mark.parametrize(
    ("changes", "length", "certain"),
    [
        ({}, 131072, True),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, 262144, False),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, 131072, True),
        ({"rope_scaling": "x"}, 131072, True),
        ({"max_position_embeddings": None}, 2048, False),
        ({"max_position_embeddings": 999_999_999}, 10**8, True),
        ({"max_position_embeddings": None, "n_positions": 1024}, 1024, True),
    ],
)
def test_length_of_the_model(changes: dict[str, t.Any], length: int, certain: bool) -> None:
    shape = geometry({**LLAMA_8B_CONFIG, **changes})
    assert (shape.max_positions, shape.is_length_certain) == (length, certain)


def test_decoder_within_a_multimodal_configuration() -> None:
    shape = geometry({"text_config": {**LLAMA_8B_CONFIG, "layer_types": ["sliding_attention", {}]}}, "text_config")
    assert shape.layers == 32
    assert len(shape.uncertain) == 2
    with pytest.raises(Unreadable, match="text_config"):
        geometry({"text_config": 5}, "text_config")


ODD_KEYS = (
    *LLAMA_8B_CONFIG,
    "layer_types",
    "kv_lora_rank",
    "qk_rope_head_dim",
    "head_dim",
    "sliding_window",
    "global_head_dim",
    "partial_rotary_factor",
    "rope_parameters",
    "num_nextn_predict_layers",
    "num_experts",
    "compress_ratios",
    "attn_layer_period",
    "full_attention_interval",
    "mamba_num_heads",
    "ssm_state_size",
    "quantization_config",
)
NUMBERS = st.sampled_from([-(10**400), -1, 0, 1, 3, 64, 4096, 999_999_999, 10**400, 0.001, 1e300]) | st.integers()
ROPE = st.dictionaries(
    st.sampled_from(["factor", "original_max_position_embeddings", "partial_rotary_factor", "mrope_section"]), NUMBERS
).flatmap(lambda rope: st.sampled_from(["linear", "yarn", "su", "x"]).map(lambda kind: {**rope, "rope_type": kind}))
KINDS = st.lists(st.sampled_from(["full_attention", "sliding_attention", "mamba", "chunked_attention", "\x1b[2J"]))
ODD_VALUES = NUMBERS | ROPE | KINDS | st.builds(lambda rope: {"full_attention": rope}, ROPE) | st.from_type(object)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(ODD_KEYS), ODD_VALUES),
    st.sampled_from(RELEASES),
    st.sampled_from(["auto", "fp8", "nvfp4"]),
    st.sampled_from([1, 2, 64]),
)
def test_no_configuration_raises_anything_else(
    config: dict[str, t.Any], release: str, kv_dtype: str, size: int
) -> None:
    engine = {"kv_cache_dtype": kv_dtype, "tensor_parallel_size": size, "pipeline_parallel_size": size}
    mtp = {"speculative_config": {"method": "mtp", "num_speculative_tokens": 2}}
    try:
        one = ledger({**engine, **mtp}, release, {**LLAMA_8B_CONFIG, **config})
    except Unreadable:
        return
    assert all(term.low >= 0 for term in one.terms)
    assert all(note.isprintable() for note in one.notes)


@pytest.mark.parametrize(
    ("engine", "config"),
    [
        ({"kv_cache_dtype": "nvfp4"}, {**LLAMA_8B_CONFIG, "head_dim": 1}),
        ({}, {**LLAMA_8B_CONFIG, "compress_ratios": [4, 10**6] * 16}),
    ],
)
def test_layers_that_would_keep_nothing(engine: dict[str, t.Any], config: dict[str, t.Any]) -> None:
    with pytest.raises(Unreadable, match="nothing to keep"):
        ledger(engine, "0.32.0", config)


def test_the_layers_of_the_stages_decide_about_the_tokens() -> None:
    engine = {"pipeline_parallel_size": 2, "kv_cache_memory_bytes": "6G", "max_model_len": 4096}
    even, uneven = (
        ledger(engine, config=QWEN3_8B_CONFIG, found=QWEN_WEIGHTS, env={"VLLM_PP_LAYER_PARTITION": partition})
        for partition in ("18,18", "30,6")
    )
    assert uneven.tokens == pytest.approx(even.tokens * 18 / 30, abs=16)
