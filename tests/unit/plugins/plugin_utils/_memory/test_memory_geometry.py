# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a model: the counts beside those that validation uses."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import geometry

BASE = {"num_hidden_layers": 12, "hidden_size": 1024, "num_attention_heads": 8, "vocab_size": 1000}


@pytest.mark.parametrize(
    ("config", "field", "expected"),
    [
        ({"torch_dtype": "torch.bfloat16"}, "dtype", "bfloat16"),
        ({"dtype": "float16"}, "dtype", "float16"),
        ({}, "dtype", ""),
        ({"quantization_config": {"quant_method": "compressed_tensors"}}, "quantization", "compressed-tensors"),
        ({"quantization_config": "x"}, "quantization", ""),
        ({"tie_word_embeddings": True}, "tied", True),
        ({"architectures": ["A", "B"]}, "architecture", "A"),
        ({"architectures": "A"}, "architecture", ""),
        ({"num_experts": 64, "num_experts_per_tok": 4}, "experts_per_token", 4),
        ({"num_experts": 64, "moe_intermediate_size": 96}, "moe_intermediate", 96),
        ({"num_local_experts": 8, "intermediate_size": 512}, "moe_intermediate", 512),
        ({"n_routed_experts": 8, "first_k_dense_replace": 3}, "moe_layers", 9),
        ({"n_routed_experts": 8, "moe_layer_freq": [0, 1, 1] * 4}, "moe_layers", 8),
        ({"num_experts": 8, "interleave_moe_layer_step": 2}, "moe_layers", 6),
        ({"num_experts": 8, "expert_layer_period": 2, "expert_layer_offset": 1}, "moe_layers", 6),
        ({"num_experts": 8, "mlp_only_layers": [0, 5]}, "moe_layers", 10),
        ({"first_k_dense_replace": 3}, "moe_layers", 0),
        ({"partial_rotary_factor": 0.25}, "rotary_dim", 32),
        ({"partial_rotary_factor": 0.001}, "rotary_dim", 1),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, "rotary_dim", 64),
        ({"num_nextn_predict_layers": 2}, "draft_layers", 2),
        ({"vision_config": {"depth": 2}}, "is_multimodal", True),
        ({}, "is_multimodal", False),
        ({"multi_query": True, "model_type": "falcon"}, "kv_heads", 1),
        ({"multi_query_group_num": 2}, "kv_heads", 2),
        ({}, "kv_heads", 8),
    ],
)
def test_counts(config: dict[str, t.Any], field: str, expected: t.Any) -> None:
    assert getattr(geometry({**BASE, **config}), field) == expected


def test_counts_under_other_names() -> None:
    shape = geometry({"n_layer": 2, "n_embd": 64, "n_head": 4, "n_inner": 128, "vocab_size": 10})
    assert (shape.layers, shape.hidden, shape.heads, shape.intermediate) == (2, 64, 4, 128)


def test_like_layers_are_kept_together() -> None:
    shape = geometry({**BASE, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 6})
    assert [(cache.kind, layers) for cache, layers in shape.layouts] == [
        ("sliding", (0, 2, 4, 6, 8, 10)),
        ("full", (1, 3, 5, 7, 9, 11)),
    ]
