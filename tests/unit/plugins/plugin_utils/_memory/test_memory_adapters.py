# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots for LoRA adapters: the tensors of the releases' own classes, counted by hand."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.adapters import (
    Part,
    adapters,
    extra_vocabulary,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import MIB, Asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, settings

H100 = Device("gpu", "NVIDIA H100 80GB HBM3", 85_021_163_520)
WHOLE = Part(1.0, True, True)
# meta-llama/Llama-3.2-3B-Instruct and Qwen/Qwen3-4B-Base, as their configurations give them.
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
QWEN = {**LLAMA, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
EXPERTS = {**QWEN, "architectures": ["Qwen2MoeForCausalLM"], "num_experts": 8, "moe_intermediate_size": 1024}


def slots(config: dict[str, t.Any], release: str, part: Part = WHOLE, **asked: t.Any) -> float:
    """MiB of rank 64, one slot."""
    shape = geometry(config)
    wanted = Asked(**{"lora": True, "max_lora_rank": 64, **asked})
    return adapters(shape, settings(release, wanted, shape, H100), part) / MIB


# Of each layer: 3 * 3072 + 5120 for queries, keys and values, 2 * 3072 for what comes out of attention, 2 * 3072 +
# 2 * 8192 for gate and up, 8192 + 3072 for down.
LAYERS = 28 * 54272 * 64 * 2 / MIB


def vocabulary(rows: int, extra: int) -> float:
    """MiB of embedding and head."""
    return 2 * ((rows + 3072) * 64 + extra * 3072) * 2 / MIB


@pytest.mark.parametrize(
    ("config", "release", "expected"),
    [
        (LLAMA, "0.8.5", LAYERS + vocabulary(128256 + 256, 256)),
        (LLAMA, "0.11.2", LAYERS + vocabulary(128256 + 256, 256)),
        (LLAMA, "0.12.0", LAYERS + vocabulary(128256, 0)),
        (QWEN, "0.8.5", LAYERS),
        (QWEN, "0.33.0", LAYERS + vocabulary(128256, 0)),
        ({**LLAMA, "architectures": ["CohereForCausalLM"]}, "0.19.0", LAYERS + vocabulary(128256, 0) / 2),
        ({**LLAMA, "architectures": ["Phi3ForCausalLM"]}, "0.19.0", LAYERS + vocabulary(128256, 0)),
        ({**LLAMA, "architectures": ["MistralForCausalLM"]}, "0.14.0", LAYERS + vocabulary(128256, 0)),
        ({**LLAMA, "architectures": ["MistralForCausalLM"]}, "0.16.0", LAYERS),
        ({**LLAMA, "architectures": ["SmolLM3ForCausalLM"]}, "0.28.0", LAYERS),
        ({**LLAMA, "architectures": ["SmolLM3ForCausalLM"]}, "0.33.0", LAYERS + vocabulary(128256, 0) / 2),
        ({**LLAMA, "architectures": ["GemmaForCausalLM"]}, "0.9.2", LAYERS),
    ],
)
def test_the_tensors_of_each_release(config: dict[str, t.Any], release: str, expected: float) -> None:
    # The head's rows are a multiple of 256 where there are extra ones; 128256 is one already.
    assert slots(config, release) == pytest.approx(expected, rel=1e-3)


def test_no_adapters_no_slots() -> None:
    assert slots(LLAMA, "0.19.0", lora=False) == 0
    shape = geometry(LLAMA)
    assert extra_vocabulary(shape, settings("0.8.5", Asked(), shape, H100)) == 0


def test_slots_grow_with_rank_and_number() -> None:
    one = slots(LLAMA, "0.19.0")
    assert slots(LLAMA, "0.19.0", max_lora_rank=128) == pytest.approx(2 * one)
    assert slots(LLAMA, "0.19.0", max_loras=3) == pytest.approx(3 * one)
    assert slots(LLAMA, "0.19.0", max_lora_rank=None) == pytest.approx(one / 4)
    assert slots(LLAMA, "0.19.0", dtype="float32") == pytest.approx(2 * one)


def test_stages_share_the_layers_and_have_their_own_ends() -> None:
    parts = [Part(0.5, True, False), Part(0.5, False, True)]
    assert sum(slots(LLAMA, "0.19.0", part) for part in parts) == pytest.approx(slots(LLAMA, "0.19.0"))


def test_experts_have_slots_from_0_11_1_on() -> None:
    before, since = (slots(EXPERTS, release) for release in ("0.11.0", "0.11.1"))
    assert since - before == pytest.approx(28 * 8 * 3 * (3072 + 1024) * 64 * 2 / MIB)
    assert slots(EXPERTS, "0.19.0", tensor_parallel=2, expert_parallel=True) < slots(EXPERTS, "0.19.0")


@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_more_gpus_never_hold_more_each(tensor: int) -> None:
    latent = {**QWEN, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "q_lora_rank": 1536}
    for config in (LLAMA, EXPERTS, latent):
        assert slots(config, "0.19.0", tensor_parallel=tensor) < slots(config, "0.19.0", tensor_parallel=tensor // 2)
