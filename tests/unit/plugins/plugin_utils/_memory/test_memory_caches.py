# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the layers of each family keep."""

from __future__ import annotations

import typing as t
from collections import Counter

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.reading import Unreadable

BASE = {"num_hidden_layers": 12, "hidden_size": 1024, "num_attention_heads": 8, "vocab_size": 1000}
WINDOW = {**BASE, "sliding_window": 512}
LATENT = {**BASE, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
NET = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 64, "linear_value_head_dim": 64}
MAMBA = {"mamba_num_heads": 8, "mamba_head_dim": 64, "ssm_state_size": 16, "n_groups": 2, "conv_kernel": 4}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (BASE, {"full": 12}),
        ({**WINDOW, "model_type": "mistral"}, {"sliding": 12}),
        ({**WINDOW, "use_sliding_window": False}, {"full": 12}),
        ({**WINDOW, "model_type": "gemma2"}, {"sliding": 6, "full": 6}),
        ({**WINDOW, "model_type": "gemma3_text"}, {"sliding": 10, "full": 2}),
        ({**WINDOW, "model_type": "x", "sliding_window_pattern": 4}, {"sliding": 9, "full": 3}),
        ({**WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 6}, {"sliding": 6, "full": 6}),
        ({**WINDOW, "layer_types": ["sliding_attention"] * 12, "num_kv_shared_layers": 8}, {"sliding": 4}),
        ({**BASE, "model_type": "llama4_text", "attention_chunk_size": 64}, {"chunked": 9, "full": 3}),
        (LATENT, {"mla": 12}),
        ({**LATENT, "index_topk": 2048}, {"mla": 12, "indexer": 12}),
        ({**BASE, **NET, "full_attention_interval": 4}, {"state": 9, "full": 3}),
        ({**BASE, **MAMBA, "hybrid_override_pattern": "ME*-" * 3}, {"state": 3, "full": 3}),
        ({**BASE, **MAMBA, "layers_block_type": ["mamba", "moe", "attention"] * 4}, {"state": 4, "full": 4}),
        (
            {**BASE, "attn_layer_period": 4, "attn_layer_offset": 1, "mamba_d_state": 16},
            {"state": 9, "full": 3},
        ),
        (
            {**LATENT, "linear_attn_config": {"kda_layers": [1, 2, 3], "num_heads": 8, "head_dim": 64}},
            {"state": 3, "mla": 9},
        ),
        ({**BASE, **MAMBA, "model_type": "falcon_h1"}, {"state": 12, "full": 12}),
        ({**BASE, "cross_attention_layers": [3, 8]}, {"full": 10, "cross": 2}),
        ({**BASE, "model_type": "whisper", "decoder_layers": 4}, {"full": 4, "cross": 4}),
        ({**BASE, "block_configs": [{"attention": {"no_op": True}}] * 5}, {"full": 7}),
    ],
)
def test_kinds_of_layers(config: dict[str, t.Any], expected: dict[str, int]) -> None:
    assert Counter(cache.kind for cache in geometry(config).caches) == expected


def test_widths_that_differ_between_kinds() -> None:
    config = {
        **WINDOW,
        "num_key_value_heads": 8,
        "num_global_key_value_heads": 2,
        "head_dim": 256,
        "global_head_dim": 512,
        "layer_types": ["sliding_attention", "full_attention"] * 6,
    }
    window, full = geometry(config).caches[:2]
    assert (window.heads, window.key, window.value, window.window) == (8, 256, 256, 512)
    assert (full.heads, full.key, full.value, full.window) == (2, 512, 512, 0)


def test_widths_that_differ_between_layers() -> None:
    blocks = [{"attention": {"n_heads_in_group": 8}}, {"attention": {"n_heads_in_group": 2}}]
    assert [cache.heads for cache in geometry({**BASE, "block_configs": blocks}).caches[:3]] == [1, 4, 8]


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({**BASE, "model_type": "nemotron_h"}, "hybrid_override_pattern"),
        ({**BASE, "model_type": "nemotron-nas"}, "block_configs"),
        ({**WINDOW, "model_type": "mimo_v2_flash"}, "hybrid_layer_pattern"),
        ({**BASE, "layer_types": ["linear_attention"] * 12}, "recurrent layers"),
    ],
)
def test_what_cannot_be_known_is_named(config: dict[str, t.Any], key: str) -> None:
    with pytest.raises(Unreadable, match=key):
        geometry(config)


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (["\x1b[2J", "\ud800"] * 6, "?[2J, ?"),
        (["x" * 50] * 12, "x" * 40),
        (
            [f"kind{number:05}" for number in range(20_000)],
            "kind00000, kind00001, kind00002, kind00003, kind00004 and 19995 others",
        ),
        ([{}] * 12, "no name"),
    ],
)
def test_made_up_kinds_are_shown_in_short(kinds: list[t.Any], names: str) -> None:
    assert geometry({**BASE, "layer_types": kinds}).uncertain == (
        f"layers of the kinds {names} are counted as full attention",
    )


def test_the_type_of_a_model_is_shown_without_what_steers_a_terminal() -> None:
    (note,) = geometry({**BASE, "model_type": "qwen4\x1b[2J"}).uncertain
    assert "qwen4?[2J" in note
