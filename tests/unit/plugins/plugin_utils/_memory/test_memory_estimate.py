# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory ledger: against recorded starts, by its own laws, and with the values that users write."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory import estimate as memory
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import Asked, read_asked, whole
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Unreadable, geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import BLOCK_TOKENS, GIB, Ledger
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
DEFAULTS = {"0.16.0": 0.9, "0.19.0": 0.9, "0.32.0": 0.92, "0.33.0": 0.92}


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
    device = memory.Device(kind, "H100", total)
    return memory.estimate(
        found or LLAMA_WEIGHTS, shape, memory.settings(release, DEFAULTS[release], asked, shape, device), device
    )


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
    assert one.calibrated
    assert one.terms[0].expected / GIB == pytest.approx(weight, abs=0.05)
    assert one.kv.low / GIB <= kv <= one.kv.high / GIB
    assert one.kv.expected / GIB == pytest.approx(kv, abs=0.35)
    # What so much memory holds is exact; the log rounds it to 0.01 GiB.
    assert kv * GIB / one.kv_bytes_per_token == pytest.approx(tokens, rel=0.0005)


def test_largest_length_ends_at_the_model() -> None:
    assert ledger({"max_model_len": 8192}, config=QWEN3_8B_CONFIG, found=QWEN_WEIGHTS).largest_length == 40960


@pytest.mark.parametrize("value", ["auto", "AUTO", -1, "-1"])
def test_auto_length_takes_what_fits(value: t.Any) -> None:
    small = ledger({"max_model_len": value}, "0.33.0", QWEN3_8B_CONFIG, QWEN_WEIGHTS, RTX_4090)
    large = ledger({"max_model_len": value}, "0.33.0", QWEN3_8B_CONFIG, QWEN_WEIGHTS, H100)
    assert small.verdict == "fits"
    assert 0 < small.max_model_len < 40960
    assert small.max_model_len + BLOCK_TOKENS > small.kv.low / small.kv_bytes_per_token
    assert large.max_model_len == 40960


def test_auto_length_of_what_does_not_fit_at_all() -> None:
    assert ledger({"max_model_len": "auto"}, "0.33.0", QWEN3_8B_CONFIG, QWEN_WEIGHTS, 12 * GIB).verdict == "misfit"


@pytest.mark.parametrize(
    ("found", "engine", "gib"),
    [
        (weights(16 * GIB, "F32"), {}, 8),
        (weights(16 * GIB, "F32"), {"dtype": "float32"}, 16),
        (weights(16 * GIB, "BF16"), {"dtype": "float32"}, 32),
        (weights(16 * GIB, "BF16"), {"tensor_parallel_size": 2}, 8),
        (weights(16 * GIB, "BF16"), {"data_parallel_size": 4}, 16),
        (weights(16 * GIB, "BF16", expert=12 * GIB), {"data_parallel_size": 4}, 7),
        (weights(16 * GIB, "BF16", embedding=2 * GIB, lm_head=2 * GIB), {"pipeline_parallel_size": 2}, 8),
        (weights(16 * GIB, "BF16", embedding=2 * GIB), {"pipeline_parallel_size": 2}, 9),
    ],
)
def test_weights_of_one_device(found: dict[str, t.Any], engine: dict[str, t.Any], gib: float) -> None:
    assert ledger(engine, found=found).terms[0].expected == gib * GIB


@pytest.mark.parametrize(
    ("config", "engine", "expected"),
    [
        (LLAMA_8B_CONFIG, {}, 131072),
        (LLAMA_8B_CONFIG, {"kv_cache_dtype": "fp8_e5m2"}, 65536),
        (LLAMA_8B_CONFIG, {"dtype": "float32"}, 262144),
        (LLAMA_8B_CONFIG, {"tensor_parallel_size": 8}, 16384),
        (LLAMA_8B_CONFIG, {"tensor_parallel_size": 16}, 16384),
        # The latent of MLA is kept whole by every rank: 27 layers of 512 + 64.
        (
            {**LLAMA_8B_CONFIG, "num_hidden_layers": 27, "kv_lora_rank": 512, "qk_rope_head_dim": 64},
            {"tensor_parallel_size": 2},
            31104,
        ),
    ],
)
def test_kv_bytes_per_token(config: dict[str, t.Any], engine: dict[str, t.Any], expected: int) -> None:
    assert ledger(engine, config=config).kv_bytes_per_token == expected


def test_graphs_count_inside_the_budget_from_0_20_on() -> None:
    assert "graphs" in [term.name for term in ledger({}, "0.19.0").outside]
    assert "graphs" in [term.name for term in ledger({}, "0.32.0").terms]


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
RELEASES = st.sampled_from(sorted(DEFAULTS))


@settings(deadline=None)
@given(ENGINES, RELEASES, st.integers(1 * GIB, 300 * GIB))
def test_terms_and_kv_cache_are_the_budget(engine: dict[str, t.Any], release: str, total: int) -> None:
    one = ledger(engine, release, total=total)
    assert sum(term.expected for term in one.terms) + one.kv.expected == one.budget
    assert sum(term.high for term in one.terms) + one.kv.low == one.budget
    for term in (*one.terms, *one.outside, one.kv):
        assert term.low <= term.expected <= term.high
    assert one.largest_length <= max(one.max_positions, one.max_model_len)


@settings(deadline=None)
@given(ENGINES, RELEASES)
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
        ("max_model_len", [0, -2, "long", None, True]),
        ("max_num_seqs", [0]),
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


@given(
    st.dictionaries(
        st.sampled_from([*LLAMA_8B_CONFIG, "layer_types", "kv_lora_rank"]), st.from_type(object) | st.integers()
    )
)
def test_no_configuration_raises_anything_else(config: dict[str, t.Any]) -> None:
    try:
        shape = geometry({**LLAMA_8B_CONFIG, **config})
    except Unreadable:
        return
    assert dataclasses.is_dataclass(shape)
