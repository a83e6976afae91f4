# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a model as its config.json gives it, reduced to what decides about memory.

Pure; a model's name decides nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.caches import Cache, Decoder, Layouts, caches
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.reading import (
    Unreadable,
    count,
    first,
    mapping,
    numbers,
    stretch_of,
    texts,
    word,
)

# derive_max_model_len_and_key in transformers_utils/model_arch_config_convertor.py of 0.32.0: the smallest of them
# counts.
_LENGTH_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# One count under the names that model families give it (attribute_map of their classes in transformers).
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads")
# get_total_num_kv_heads in model_arch_config_convertor.py of 0.32.0.
_KV_HEADS = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
_INTERMEDIATE = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "decoder_ffn_dim")
_VOCAB = ("vocab_size", "padded_vocab_size")
# get_num_experts and get_num_experts_per_token, the same file.
_EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k")
_DRAFT_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "mtp_num_layers", "num_mtp_layers")
_MEDIA = ("vision_config", "audio_config", "vision_tower_config", "speech_config", "vision_n_layers")
# No decoder has as many layers, nor reads as long a text.
_MOST_LAYERS = 1000
_MOST_POSITIONS = 10**8


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Counts of a decoder; mla_width is the width of the latent of MLA, 0 without MLA.

    max_positions: the longest request in tokens that the model is made for; is_length_certain: whether that is all that
    decides, and no scaling of positions, which releases count differently. dtype, quantization: as config.json names
    them, "" where it does not; moe_layers: layers with experts; draft_layers: layers of the checkpoint that predict
    further tokens; layouts: the different things that layers keep (as of layer 0), with the numbers of the layers that
    keep them; config: the mapping that describes the decoder.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_positions: int
    is_length_certain: bool
    mla_width: int
    is_moe: bool
    is_quantized: bool
    uncertain: tuple[str, ...]
    model_type: str
    architecture: str
    dtype: str
    quantization: str
    tied: bool
    experts: int
    experts_per_token: int
    moe_intermediate: int
    moe_layers: int
    rotary_dim: int
    kv_lora: int
    qk_nope: int
    qk_rope: int
    v_head_dim: int
    draft_layers: int
    is_multimodal: bool
    layouts: Layouts
    quantization_config: t.Mapping[str, t.Any] = dataclasses.field(repr=False, compare=False)
    config: t.Mapping[str, t.Any] = dataclasses.field(repr=False, compare=False)

    @functools.cached_property
    def caches(self) -> tuple[Cache, ...]:
        """What each layer keeps, by layer."""
        each = ((layer, cache) for cache, layers in self.layouts for layer in layers)
        return tuple(dataclasses.replace(cache, layer=layer) for layer, cache in sorted(each, key=lambda one: one[0]))

    def keeps(self, kind: str) -> bool:
        """Whether any layer keeps something of this kind."""
        return any(cache.kind == kind for cache, _layers in self.layouts)


def geometry(config: t.Mapping[str, t.Any], text_path: str = "") -> Geometry:
    """Read the shape.

    Raises Unreadable with the key that is missing or of no use; configurations are made by strangers.

    text_path: where in config the decoder's fields are, as keys with dots between them (text_config_path of
    model_info).
    """
    text: t.Any = config
    for key in filter(None, text_path.split(".")):
        text = text.get(key) if isinstance(text, dict) else None
    if not isinstance(text, dict):
        raise Unreadable(f"config.json has no mapping {text_path}")
    model_type = word(text, "model_type") or word(config, "model_type")
    hidden, heads, layers = first(text, _HIDDEN), first(text, _HEADS), _layers(text, _LAYERS, None)
    head_dim = _head_dim(text, hidden, heads)
    rope = count(text, "qk_rope_head_dim", 0)
    latent = count(text, "kv_lora_rank", 0)
    mla_width = latent + rope if latent else 0
    kv_heads = _kv_heads(text, model_type, heads)
    kept, uncertain = caches(Decoder(text, model_type, layers, hidden, heads, kv_heads, head_dim, mla_width))
    if text is not config:
        uncertain += ("the encoder of other inputs than text is not counted",)
    lengths = [count(text, key) for key in _LENGTH_KEYS if text.get(key) is not None]
    scaling = _scaling(text)
    experts = max((count(text, name, 0) for name in _EXPERTS), default=0)
    intermediate = first(text, _INTERMEDIATE, 4 * hidden)
    quantization = mapping(config, "quantization_config") or mapping(text, "quantization_config")
    architectures = texts(config, "architectures")
    return Geometry(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=intermediate,
        vocab=first(text, _VOCAB),
        # vLLM takes 2048 where the configuration says nothing.
        max_positions=min(int(min(lengths, default=2048) * scaling), _MOST_POSITIONS),
        is_length_certain=bool(lengths) and scaling == 1 and "model_max_length" not in text,
        mla_width=mla_width,
        is_moe=experts > 0,
        is_quantized=bool(config.get("quantization_config") or text.get("quantization_config")),
        uncertain=uncertain,
        model_type=model_type,
        architecture=architectures[0] if architectures else "",
        dtype=_dtype(config, text),
        quantization=word(quantization, "quant_method").lower().replace("_", "-"),
        tied=_tied(config, text),
        experts=experts,
        experts_per_token=first(text, _EXPERTS_PER_TOKEN, 0) if experts else 0,
        moe_intermediate=first(text, ("moe_intermediate_size", "intermediate_size"), intermediate) if experts else 0,
        moe_layers=_moe_layers(text, model_type, layers) if experts else 0,
        rotary_dim=rope or _rotary(text, head_dim),
        kv_lora=latent,
        qk_nope=count(text, "qk_nope_head_dim", 0),
        qk_rope=rope,
        v_head_dim=count(text, "v_head_dim", 0) or head_dim,
        draft_layers=_layers(text, _DRAFT_LAYERS, 0),
        is_multimodal=any(config.get(name) or text.get(name) for name in _MEDIA),
        layouts=kept,
        quantization_config=quantization,
        config=text,
    )


def _layers(text: t.Mapping[str, t.Any], names: t.Sequence[str], default: int | None) -> int:
    """A number of layers, under the first of the keys that is there."""
    found = first(text, names, default)
    if found > _MOST_LAYERS:
        raise Unreadable(f"config.json has no usable {names[0]}: it says {found:,}, and {_MOST_LAYERS:,} is the most")
    return found


def _head_dim(text: t.Mapping[str, t.Any], hidden: int, heads: int) -> int:
    """get_head_size in model_arch_config_convertor.py of 0.32.0, without its case for MLA."""
    given = first(text, ("head_dim", "kv_channels", "hidden_size_per_head", "attention_head_dim"), 0)
    return given or max(1, hidden // heads)


def _kv_heads(text: t.Mapping[str, t.Any], model_type: str, heads: int) -> int:
    """get_total_num_kv_heads in model_arch_config_convertor.py of 0.32.0."""
    if model_type in ("falcon", "RefinedWeb", "RefinedWebModel"):
        if not text.get("new_decoder_architecture") and text.get("multi_query"):
            return 1
    elif model_type == "dbrx":
        return count(mapping(text, "attn_config"), "kv_n_heads", heads)
    return first(text, _KV_HEADS, heads)


def _dtype(config: t.Mapping[str, t.Any], text: t.Mapping[str, t.Any]) -> str:
    for source in (config, text):
        for name in ("dtype", "torch_dtype"):
            if word(source, name):
                return word(source, name).removeprefix("torch.")
    return ""


def _tied(config: t.Mapping[str, t.Any], text: t.Mapping[str, t.Any]) -> bool:
    """PretrainedConfig of transformers ties the embeddings of a model that says nothing only for some families."""
    for source in (text, config):
        if isinstance(source.get("tie_word_embeddings"), bool):
            return bool(source["tie_word_embeddings"])
    return False


def _moe_layers(text: t.Mapping[str, t.Any], model_type: str, layers: int) -> int:
    """Layers with experts, by the keys that models use: dense layers first, every so-many-th layer, or a list."""
    pattern = word(text, "hybrid_override_pattern")
    if pattern:
        return pattern.count("E")
    kinds = texts(text, "layers_block_type")
    if "moe" in kinds:
        return kinds.count("moe")
    listed = numbers(text, "moe_layer_freq") or numbers(text, "moe_layers")
    if numbers(text, "moe_layer_freq"):
        return sum(1 for one in listed if one)
    if texts(text, "mlp_layer_types"):
        return sum(1 for one in texts(text, "mlp_layer_types") if one != "dense")
    dense = count(text, "first_k_dense_replace", 0)
    step = 1
    for name in ("decoder_sparse_step", "interleave_moe_layer_step", "expert_layer_period", "moe_layer_freq"):
        if isinstance(text.get(name), int):
            step = max(1, count(text, name, 0))
    offset = count(text, "expert_layer_offset", 0) if "expert_layer_period" in text else step - 1
    without = set(numbers(text, "mlp_only_layers"))
    return sum(1 for layer in range(dense, layers) if layer % step == offset % step and layer not in without)


def _rotary(text: t.Mapping[str, t.Any], head_dim: int) -> int:
    """Width of a head that is rotated: get_rope in model_executor/layers/rotary_embedding of 0.32.0."""
    if count(text, "rotary_dim", 0):
        return count(text, "rotary_dim", 0)
    share = mapping(text, "rope_parameters").get("partial_rotary_factor", text.get("partial_rotary_factor", 1))
    usable = isinstance(share, (int, float)) and not isinstance(share, bool) and 0 < share <= 1
    return max(1, int(head_dim * share)) if usable else head_dim


def _scaling(text: t.Mapping[str, t.Any]) -> float:
    """By how much positions are stretched: _get_and_verify_max_len in config/model.py of 0.32.0."""
    rope = text.get("rope_parameters") or text.get("rope_scaling")
    stretch = stretch_of(rope.get("factor") if isinstance(rope, dict) else None)
    kind = (rope.get("rope_type") or rope.get("type")) if isinstance(rope, dict) else None
    contained = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
    return 1.0 if kind in contained or "gemma3" in str(text.get("model_type")) else stretch
