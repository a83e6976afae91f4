# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of a block of one layer, and the size of blocks, against figures of vLLM's source and of recorded starts."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import Asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.pages import cache_dtype, limits, pages, state_mode
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, settings

DENSE = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 4,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 1000,
}
LATENT = {**DENSE, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
SPARSE = {**LATENT, "index_topk": 2048, "index_head_dim": 128}
NET = {
    **DENSE,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "full_attention_interval": 4,
}
MAMBA = {
    **DENSE,
    "model_type": "nemotron_h",
    "architectures": ["NemotronHForCausalLM"],
    "num_key_value_heads": 2,
    "hybrid_override_pattern": "ME*E",
    "mamba_num_heads": 64,
    "mamba_head_dim": 64,
    "ssm_state_size": 128,
    "n_groups": 8,
    "conv_kernel": 4,
    "chunk_size": 128,
}
H100, B200, L4 = (Device("gpu", name, 80 * 2**30) for name in ("NVIDIA H100 80GB HBM3", "NVIDIA B200", "NVIDIA L4"))
CPU = Device("cpu", "host", 80 * 2**30)


def found(config: t.Any, release: str = "0.32.0", device: Device = H100, **asked: t.Any) -> t.Any:
    shape = geometry(config)
    return pages(shape, settings(release, Asked(max_model_len=4096, **asked), shape, device), device)


@pytest.mark.parametrize(
    ("config", "asked", "units"),
    [
        (DENSE, {}, [4096]),
        (DENSE, {"dtype": "float32"}, [8192]),
        (DENSE, {"tensor_parallel": 4}, [1024]),
        (DENSE, {"tensor_parallel": 16}, [512]),
        (DENSE, {"kv_cache_dtype": "fp8"}, [2048]),
        (DENSE, {"kv_cache_dtype": "fp8", "dtype": "float32"}, [2048]),
        (DENSE, {"kv_cache_dtype": "int8_per_token_head"}, [8 * (256 + 8)]),
        (DENSE, {"kv_cache_dtype": "int4_per_token_head"}, [8 * (128 + 8)]),
        (DENSE, {"kv_cache_dtype": "nvfp4"}, [8 * 2 * (64 + 8)]),
        (DENSE, {"kv_cache_dtype": "turboquant_4bit_nc"}, [8 * (64 + 2 + 64 + 4)]),
        (DENSE, {"kv_cache_dtype": "turboquant_3bit_nc"}, [8 * (48 + 2 + 48 + 4)]),
        (DENSE, {"kv_cache_dtype": "turboquant_k8v4"}, [8 * (128 + 64 + 4)]),
        (LATENT, {"tensor_parallel": 8}, [1152]),
        (LATENT, {"kv_cache_dtype": "fp8"}, [576]),
        (SPARSE, {}, [1152, 132]),
        (SPARSE, {"kv_cache_dtype": "fp8"}, [656, 132]),
        (SPARSE, {"kv_cache_dtype": "nvfp4_ds_mla"}, [352, 132]),
    ],
)
def test_bytes_of_a_token(config: t.Any, asked: dict[str, t.Any], units: list[int]) -> None:
    assert [page.unit for page in found(config, **asked)[0]] == units


@pytest.mark.parametrize(
    ("config", "release", "device", "asked", "tokens"),
    [
        (DENSE, "0.33.0", H100, {}, 16),
        (DENSE, "0.33.0", H100, {"block_size": 128}, 128),
        (DENSE, "0.33.0", CPU, {}, 128),
        (LATENT, "0.7.3", H100, {}, 16),
        (LATENT, "0.10.2", H100, {}, 64),
        (LATENT, "0.10.2", L4, {}, 16),
        (LATENT, "0.10.2", B200, {}, 128),
        (LATENT, "0.10.2", B200, {"attention_backend": "FLASHINFER_MLA"}, 64),
        (LATENT, "0.19.0", H100, {}, 16),
        (LATENT, "0.19.0", H100, {"kv_cache_dtype": "fp8"}, 64),
        (LATENT, "0.19.0", B200, {}, 32),
        (LATENT, "0.19.0", H100, {"attention_backend": "CUTLASS_MLA"}, 128),
        (SPARSE, "0.14.0", H100, {}, 64),
        (SPARSE, "0.20.0", B200, {"kv_cache_dtype": "fp8"}, 32),
        (SPARSE, "0.32.0", B200, {"kv_cache_dtype": "fp8"}, 64),
        # Logged by starts of a gated delta net on two GPUs, and of a Mamba 2 model whose configuration was not asked.
        (NET, "0.17.0", H100, {"tensor_parallel": 2}, 544),
        ({**MAMBA, "architectures": ["Another"]}, "0.20.0", H100, {}, 1072),
        (MAMBA, "0.12.0", H100, {}, 1072),
        (MAMBA, "0.20.0", H100, {}, 2096),
        (MAMBA, "0.20.0", H100, {"mamba_ssm_cache_dtype": "bfloat16"}, 1072),
        # In all blocks: a multiple of the 128 tokens of a chunk.
        (MAMBA, "0.20.0", H100, {"prefix_caching": True}, 2176),
        (NET, "0.33.0", H100, {"tensor_parallel": 2, "prefix_caching": False}, 544),
        # FlashInfer writes states every 64 tokens.
        (NET, "0.33.0", H100, {"tensor_parallel": 2}, 576),
    ],
)
def test_tokens_of_a_block(config: t.Any, release: str, device: Device, asked: dict[str, t.Any], tokens: int) -> None:
    assert found(config, release, device, **asked)[1] == tokens


@pytest.mark.parametrize(
    ("config", "release", "asked", "mode", "blocks"),
    [
        (NET, "0.19.0", {}, "none", 1),
        (NET, "0.19.0", {"prefix_caching": True}, "align", 2),
        (NET, "0.32.0", {}, "align", 2),
        (NET, "0.33.0", {}, "align", 3),
        (NET, "0.33.0", {"speculative": {"method": "ngram", "num_speculative_tokens": 4}}, "align", 7),
        (MAMBA, "0.14.1", {"prefix_caching": True}, "all", 0),
        (MAMBA, "0.31.0", {}, "all", 0),
        (MAMBA, "0.31.0", {"mamba_cache_mode": "align"}, "align", 2),
        (MAMBA, "0.32.0", {}, "align", 3),
        (MAMBA, "0.32.0", {"prefix_caching": False}, "none", 1),
    ],
)
def test_blocks_of_a_state(config: t.Any, release: str, asked: dict[str, t.Any], mode: str, blocks: int) -> None:
    shape = geometry(config)
    chosen = settings(release, Asked(max_model_len=4096, **asked), shape, H100)
    state = next(page for page in pages(shape, chosen, H100)[0] if page.family == "state")
    assert (state_mode(shape, chosen), state.fixed) == (mode, blocks)


def test_states_are_as_large_as_attention() -> None:
    kinds, block = found(NET, "0.19.0", tensor_parallel=2)
    assert {page.size for page in kinds} == {block * 1024}


MODELOPT = {"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}


@pytest.mark.parametrize(
    ("quantization", "release", "asked", "expected"),
    [
        ({}, "0.32.0", "auto", "auto"),
        (MODELOPT, "0.32.0", "auto", "fp8_e4m3"),
        (MODELOPT, "0.13.0", "auto", "auto"),
        (MODELOPT, "0.32.0", "bfloat16", "bfloat16"),
        ({**MODELOPT, "kv_cache_quant_algo": None}, "0.32.0", "auto", "auto"),
        (
            {"quant_method": "modelopt", "kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False}},
            "0.32.0",
            "auto",
            "fp8_e4m3",
        ),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}}, "0.32.0", "auto", "auto"),
    ],
)
def test_type_of_the_cache(quantization: t.Any, release: str, asked: str, expected: str) -> None:
    shape = geometry({**DENSE, "quantization_config": quantization})
    chosen = settings(release, Asked(kv_cache_dtype=asked), shape, H100)
    assert cache_dtype(shape, chosen) == expected


def test_a_sparse_model_had_8_bits_by_default() -> None:
    shape = geometry(SPARSE)
    assert [cache_dtype(shape, settings(release, Asked(), shape, H100)) for release in ("0.11.0", "0.12.0")] == [
        "fp8_ds_mla",
        "auto",
    ]


@pytest.mark.parametrize(
    ("release", "asked", "tokens"),
    [
        ("0.25.0", {}, 2048),
        ("0.26.0", {}, 4096),
        ("0.26.0", {"async_scheduling": False}, 2048),
        ("0.32.0", {"pipeline_parallel": 2}, 6144),
        ("0.32.0", {"pipeline_parallel": 2, "async_scheduling": False}, 4096),
    ],
)
def test_tokens_in_flight(release: str, asked: dict[str, t.Any], tokens: int) -> None:
    shape = geometry(DENSE)
    chosen = settings(release, Asked(max_num_batched_tokens=2048, **asked), shape, H100)
    assert limits(shape, chosen).in_flight == tokens


def test_layers_that_draft_come_behind_the_others() -> None:
    config = {**SPARSE, "num_nextn_predict_layers": 1}
    kinds, _block = found(config, speculative={"method": "mtp", "num_speculative_tokens": 3})
    assert [page.layers for page in kinds] == [(0, 1, 2, 3)] * 2 + [(4,)] * 2
    assert len(found(config)[0]) == 2
    assert len(found(config, speculative={"method": "ngram", "num_speculative_tokens": 3})[0]) == 2
