# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of the slots for LoRA adapters, which vLLM allocates when it loads the model and counts as weights. Pure.

Each layer that an adapter may change gets two matrices a slot: max_lora_rank by what goes in, and what comes out by
max_lora_rank (create_lora_weights of lora/layers.py in 0.7.3 and 0.9.2, of lora/layers/ in 0.11.0 to 0.33.0). Without
fully_sharded_loras the narrow side of a layer that is split by columns is whole on every GPU, and so is the wide side
of one that is split by rows.
"""

from __future__ import annotations

import dataclasses
import math

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Settings

# lora_extra_vocab_size is 256 by default; 0.12.0 has none (config/lora.py, lora/layers/logits_processor.py).
EXTRA_VOCAB = 256
_NO_EXTRA_VOCAB = Version("0.12.0")
# lora/layers/fused_moe.py: not in 0.11.0, in 0.11.1.
_EXPERTS_SINCE = Version("0.11.1")
# Architectures whose class, or one that it inherits from, names its embedding and head in embedding_modules:
# model_executor/models of 0.7.3, 0.9.2, 0.11.0, 0.16.0, 0.22.0, 0.28.0 and 0.33.0. Those of others get no slots.
_VOCABULARY = frozenset(
    {
        "ApertusForCausalLM",
        "AquilaForCausalLM",
        "AquilaModel",
        "BambaForCausalLM",
        "DeciLMForCausalLM",
        "Ernie4_5ForCausalLM",
        "Ernie4_5_ForCausalLM",
        "Exaone4ForCausalLM",
        "ExaoneForCausalLM",
        "ExaoneMoEForCausalLM",
        "ExaoneMoeForCausalLM",
        "FalconH1ForCausalLM",
        "GraniteForCausalLM",
        "GraniteMoeForCausalLM",
        "GraniteMoeHybridForCausalLM",
        "GraniteMoeSWAForCausalLM",
        "GraniteMoeSharedForCausalLM",
        "GraniteSWAForCausalLM",
        "HyperCLOVAXForCausalLM",
        "IQuestCoderForCausalLM",
        "InternLM3ForCausalLM",
        "InternLMForCausalLM",
        "JambaForCausalLM",
        "LLaMAForCausalLM",
        "Lfm2ForCausalLM",
        "Lfm2MoeForCausalLM",
        "Llama4ForCausalLM",
        "LlamaForCausalLM",
        "MiniCPM3ForCausalLM",
        "MiniCPMForCausalLM",
        "MixtralForCausalLM",
        "MotifForCausalLM",
        "NemotronForCausalLM",
        "NemotronHForCausalLM",
        "NemotronHPuzzleForCausalLM",
        "Param2MoEForCausalLM",
        "Phi3ForCausalLM",
        "PhiMoEForCausalLM",
        "SolarForCausalLM",
        "TeleChat2ForCausalLM",
        "TeleChat3ForCausalLM",
        "TeleChatForCausalLM",
        "TeleFLMForCausalLM",
        "XverseForCausalLM",
    }
)
# The same of some releases: (not before, no longer from). Qwen3 has them not in 0.14.0 but in 0.16.0, Mistral the other
# way round; Qwen3.5 not in 0.28.0, the rest not in 0.33.0.
_VOCABULARY_IN = {
    "CwmForCausalLM": (Version("0"), Version("0.33.0")),
    "GPTBigCodeForCausalLM": (Version("0"), Version("0.8.0")),
    "GlmForCausalLM": (Version("0"), Version("0.33.0")),
    "Jais2ForCausalLM": (Version("0"), Version("0.33.0")),
    "MellumForCausalLM": (Version("0"), Version("0.33.0")),
    "MistralForCausalLM": (Version("0"), Version("0.16.0")),
    "Qwen3ForCausalLM": (Version("0.16.0"), Version("1")),
    "Qwen3MoeForCausalLM": (Version("0.16.0"), Version("1")),
    "Qwen3_5ForCausalLM": (Version("0.33.0"), Version("1")),
    "Qwen3_5MoeForCausalLM": (Version("0.33.0"), Version("1")),
}
# These name the embedding alone, and these from 0.33.0 on.
_EMBEDDING = frozenset(
    {
        "Cohere2ForCausalLM",
        "CohereForCausalLM",
        "GPTNeoXForCausalLM",
        "NanbeigeForCausalLM",
    }
)
_EMBEDDING_LATER = frozenset(
    {
        "ArceeForCausalLM",
        "CwmForCausalLM",
        "FlexOlmoForCausalLM",
        "GPTBigCodeForCausalLM",
        "GlmForCausalLM",
        "HunYuanDenseV1ForCausalLM",
        "HunYuanMoEV1ForCausalLM",
        "Jais2ForCausalLM",
        "MellumForCausalLM",
        "Olmo2ForCausalLM",
        "Olmo3ForCausalLM",
        "OlmoForCausalLM",
        "PhiForCausalLM",
        "SeedOssForCausalLM",
        "SmolLM3ForCausalLM",
        "Starcoder2ForCausalLM",
    }
)
_LATER, _NEVER = Version("0.33.0"), Version("1")
_WIDE = ("float32", "float")


@dataclasses.dataclass(frozen=True)
class Part:
    """What one pipeline stage has: a share of the layers, the embedding, the head."""

    share: float
    is_first: bool
    is_last: bool


def extra_vocabulary(shape: Geometry, chosen: Settings) -> int:
    """Rows that embedding and head have for the tokens of adapters."""
    has_rows = chosen.asked.lora and chosen.release < _NO_EXTRA_VOCAB and _has_embedding(shape, chosen)
    return EXTRA_VOCAB if has_rows else 0


def adapters(shape: Geometry, chosen: Settings, part: Part) -> float:
    """Bytes of all slots on each GPU of a stage; lora_dtype is the model's."""
    asked = chosen.asked
    if not asked.lora:
        return 0.0
    rank, width = asked.max_lora_rank or 16, 4 if asked.dtype in _WIDE else 2
    values = rank * (part.share * _layers(shape, chosen))
    extra = extra_vocabulary(shape, chosen)
    if part.is_first and _has_embedding(shape, chosen):
        # VocabParallelEmbeddingWithLoRA: whole on every GPU.
        values += rank * (shape.vocab + extra + shape.hidden) + extra * shape.hidden
    if part.is_last and _has_head(shape, chosen):
        # LogitsProcessorWithLoRA, likewise; lora_vocab_padding_size was 256.
        rows = math.ceil(shape.vocab / EXTRA_VOCAB) * EXTRA_VOCAB if extra else shape.vocab
        values += rank * (rows + shape.hidden) + extra * shape.hidden
    return width * values * (asked.max_loras or 1)


def _has_head(shape: Geometry, chosen: Settings) -> bool:
    since, until = _VOCABULARY_IN.get(shape.architecture, (_NEVER, _NEVER))
    return shape.architecture in _VOCABULARY or since <= chosen.release < until


def _has_embedding(shape: Geometry, chosen: Settings) -> bool:
    name = shape.architecture
    later = name in _EMBEDDING_LATER and chosen.release >= _LATER
    return name in _EMBEDDING or later or _has_head(shape, chosen)


def _layers(shape: Geometry, chosen: Settings) -> float:
    """Values for each rank of all decoder layers: the sums of what goes into and comes out of their matrices."""
    tensor = chosen.asked.tensor_parallel
    dense = shape.layers - shape.moe_layers
    feed_forward = 3 * shape.hidden + 3 * shape.intermediate / tensor
    values = shape.layers * _attention(shape, tensor) + dense * feed_forward
    if shape.moe_layers and chosen.release >= _EXPERTS_SINCE:
        asked = chosen.asked
        ranks = tensor * asked.data_parallel * asked.prefill_context_parallel
        held = math.ceil(shape.experts / ranks) if asked.expert_parallel else shape.experts
        inner = shape.moe_intermediate / (1 if asked.expert_parallel else ranks)
        values += shape.moe_layers * held * 3 * (shape.hidden + inner)
    return values


def _attention(shape: Geometry, tensor: int) -> float:
    """The matrices of one layer: queries, keys and values apart, though they are one tensor; the latent ones of MLA."""
    if shape.kv_lora:
        heads = shape.heads / tensor
        query = heads * (shape.qk_nope + shape.qk_rope)
        low = shape.config.get("q_lora_rank")
        into = shape.hidden + query if not isinstance(low, int) else shape.hidden + 2 * low + query
        latent = shape.hidden + 2 * shape.kv_lora + shape.qk_rope + heads * (shape.qk_nope + shape.v_head_dim)
        return into + latent + heads * shape.v_head_dim + shape.hidden
    queries = shape.heads * shape.head_dim / tensor
    keys = max(1, shape.kv_heads / tensor) * shape.head_dim
    return 3 * shape.hidden + queries + 2 * keys + queries + shape.hidden
