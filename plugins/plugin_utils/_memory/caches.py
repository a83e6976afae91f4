# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each layer of a decoder keeps between two steps, from its config.json. Pure.

The kinds of layers are read where vLLM's models of 0.32.0 read them (vllm/model_executor/models/, vllm/models/).
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.reading import (
    Unreadable,
    count,
    first,
    mapping,
    numbers,
    shown,
    texts,
    word,
)

Kind = t.Literal[
    "full", "sliding", "chunked", "mla", "indexer", "compressed", "window_mla", "partial", "state", "cross"
]
Mixer = t.Literal["", "mamba1", "mamba2", "gdn", "kda", "linear", "short_conv"]

# Words of layer_types, layers_block_type and the letters of hybrid_override_pattern, by what such a layer keeps.
_FULL = (
    "full_attention",
    "attention",
    "global",
    "global_attention",
    "indexed_attention",
    "deepseek_sparse_attention",
    "*",
    "A",
)
_SLIDING = ("sliding_attention", "sliding_window", "local_attention", "swa")
_CHUNKED = ("chunked_attention",)
_STATE = ("linear_attention", "mamba", "mamba2", "conv", "recurrent", "M", "gated_delta_net", "kda")
_BOTH = ("hybrid",)
_NOTHING = ("mlp", "moe", "-", "E")
_MEANINGS = {
    name: kind
    for kind, names in (
        ("full", _FULL),
        ("sliding", _SLIDING),
        ("chunked", _CHUNKED),
        ("state", _STATE),
        ("both", _BOTH),
        ("none", _NOTHING),
    )
    for name in names
}

# Models whose layers alternate without saying so: every so-many-th layer is full attention, the others have a window.
# gemma2.py, gemma3.py, commandr.py, gpt_oss.py of 0.32.0 through the layer_types that transformers fills in.
_PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gemma3n": 5, "gemma3n_text": 5, "cohere2": 4, "gpt_oss": 2}
# Where nothing else tells the layers apart.
_NEEDED = {
    "nemotron_h": ("hybrid_override_pattern", "layers_block_type"),
    "nemotron-nas": ("block_configs",),
    "mimo_v2_flash": ("hybrid_layer_pattern", "layer_types"),
}
# Models of vllm/models of 0.32.0 that keep more than is read here: indexes, states of convolutions, several pools.
_MORE = ("minimax_m3", "qwen4", "glm5_next", "inkling", "dots3_note", "deepseek_v41", "cohere_compass")
# The most unknown kinds of layers that a note names.
_MOST_NAMES = 5
_ENCODER_DECODER = ("whisper", "bart", "mbart", "t5", "nemotron_parse")


@dataclasses.dataclass(frozen=True)
class Cache:
    """One thing that one layer keeps; a layer may keep several, or nothing.

    layer: number of the decoder layer, from 0; heads: KV heads of the whole model; key, value: width of one key and of
    one value (key alone for a latent); window: tokens of a window or of a chunk; ratio: tokens for each entry that is
    kept; mixer, sizes: the kind of recurrent state and its sizes, in the order that pages.py names.
    """

    layer: int
    kind: Kind
    heads: int = 1
    key: int = 0
    value: int = 0
    window: int = 0
    ratio: int = 1
    mixer: Mixer = ""
    sizes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The counts that caches are built from."""

    text: t.Mapping[str, t.Any]
    model_type: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    latent: int

    @property
    def window(self) -> int:
        """Tokens of the sliding window, 0 where it is absent or off (get_sliding_window in config/model.py)."""
        value = self.text.get("sliding_window", self.text.get("sliding_window_size"))
        if self.text.get("use_sliding_window") is False or not isinstance(value, int) or isinstance(value, bool):
            return 0
        return max(0, value)


# What layers keep, as of layer 0, and the numbers of the layers that keep it.
Layouts = tuple[tuple[Cache, tuple[int, ...]], ...]


def caches(decoder: Decoder) -> tuple[Layouts, tuple[str, ...]]:
    """The different things that the layers keep, and what is not known of it. Raises Unreadable."""
    if numbers(decoder.text, "compress_ratios"):
        return _compressed(decoder), ()
    for model_type, keys in _NEEDED.items():
        if decoder.model_type == model_type and not any(decoder.text.get(key) for key in keys):
            raise Unreadable(f"config.json has no usable {keys[0]}")
    kinds, uncertain = _kinds(decoder)
    if decoder.model_type.startswith(_MORE):
        uncertain += (
            f"what models of the type {shown(decoder.model_type)} keep beside keys and values is not counted",
        )
    if decoder.model_type in _ENCODER_DECODER:
        kinds = kinds[: count(decoder.text, "decoder_layers", decoder.layers)]
    shared = decoder.layers - count(decoder.text, "num_kv_shared_layers", 0)
    # Layers of one kind keep the same, unless each has a configuration of its own.
    own = isinstance(decoder.text.get("block_configs"), list)
    made: dict[tuple[str, int], list[list[int]]] = {}
    found: dict[Cache, list[int]] = {}
    for layer, kind in enumerate(kinds[: max(0, shared)]):
        key = (kind, layer if own else 0)
        if key not in made:
            made[key] = [found.setdefault(cache, []) for cache in _layer(decoder, layer, kind)]
        for layers in made[key]:
            layers.append(layer)
    return _layouts(found), uncertain


def _layouts(found: t.Mapping[Cache, list[int]]) -> Layouts:
    return tuple((cache, tuple(layers)) for cache, layers in found.items())


def _kinds(decoder: Decoder) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """One word a layer: full, sliding, chunked, state, both, cross, none."""
    text, layers, uncertain = decoder.text, decoder.layers, []
    words = (
        texts(text, "layer_types") or texts(text, "layers_block_type") or tuple(word(text, "hybrid_override_pattern"))
    )
    if words:
        unknown = {one for one in words if one not in _MEANINGS}
        if unknown:
            names = ", ".join(shown(one) or "no name" for one in sorted(unknown)[:_MOST_NAMES])
            names += f" and {len(unknown) - _MOST_NAMES} others" if len(unknown) > _MOST_NAMES else ""
            uncertain.append(f"layers of the kinds {names} are counted as full attention")
        # A draft of the checkpoint may be listed behind the layers; what is missing is counted as full attention.
        elif len(words) < layers:
            uncertain.append(f"config.json names the kinds of {len(words)} of {layers} layers")
        return (*(_MEANINGS.get(one, "full") for one in words[:layers]), *["full"] * (layers - len(words))), tuple(
            uncertain
        )
    return _unnamed(decoder), ()


def _unnamed(decoder: Decoder) -> tuple[str, ...]:
    """The kind of each layer where no list of words names it."""
    text, model_type, layers = decoder.text, decoder.model_type, range(decoder.layers)
    linear = mapping(text, "linear_attn_config")

    def where(other: str, kind: str, is_so: t.Callable[[int], bool]) -> tuple[str, ...]:
        return tuple(kind if is_so(layer) else other for layer in layers)

    if linear:  # kimi_linear, kimi_k3: counted from 1
        states = set(numbers(linear, "kda_layers"))
        return where("full", "state", lambda layer: layer + 1 in states)
    if listed := numbers(text, "attn_type_list"):  # minimax_text_01: 1 is full attention
        return where("state", "full", lambda layer: listed[layer : layer + 1] == (1,))
    if period := count(text, "attn_layer_period", 0):  # jamba
        offset = count(text, "attn_layer_offset", 0)
        return where("state", "full", lambda layer: layer % period == offset)
    if interval := count(text, "full_attention_interval", 0):  # qwen3_next, qwen3_5
        return where("full", "state", lambda layer: bool((layer + 1) % interval))
    for key in ("attn_layer_indices", "full_attn_idxs"):  # bamba, lfm2
        if attending := set(numbers(text, key)):
            return where("state", "full", attending.__contains__)
    if model_type == "falcon_h1":
        return ("both",) * decoder.layers
    if model_type in ("mamba", "mamba2", "falcon_mamba"):
        return ("state",) * decoder.layers
    if crossing := set(numbers(text, "cross_attention_layers")):  # mllama
        return where("full", "cross", crossing.__contains__)
    if pattern := numbers(text, "hybrid_layer_pattern"):  # mimo_v2
        return where("full", "sliding", lambda layer: pattern[layer : layer + 1] == (1,))
    if model_type.startswith("llama4"):
        return where("full", "chunked", lambda layer: _is_chunked(text, layer))
    every = count(text, "sliding_window_pattern", 0) or _PATTERNS.get(model_type, 0)
    if every and decoder.window:
        return where("full", "sliding", lambda layer: bool((layer + 1) % every))
    return ("sliding" if decoder.window else "full",) * decoder.layers


def _is_chunked(text: t.Mapping[str, t.Any], layer: int) -> bool:
    """llama4.py of 0.32.0: layers without positions attend to everything, every fourth where none are named."""
    without = numbers(text, "no_rope_layers")
    positions = without[layer] if layer < len(without) else (layer + 1) % 4
    return bool(positions and count(text, "attention_chunk_size", 0))


def _layer(decoder: Decoder, layer: int, kind: str) -> list[Cache]:
    """What a layer keeps, as of layer 0."""
    text = decoder.text
    if kind == "none":
        return []
    if kind == "state":
        return [_state(decoder)]
    if kind == "both":
        return [_attention(decoder, layer, "full"), _state(decoder)]
    if decoder.latent and kind == "full":
        found = [Cache(0, "mla", 1, decoder.latent)]
        if _indexed(decoder):
            found.append(Cache(0, "indexer", 1, count(text, "index_head_dim", 128)))
        return found
    if decoder.model_type in _ENCODER_DECODER:
        return [_attention(decoder, layer, "full"), _attention(decoder, layer, "cross")]
    return [_attention(decoder, layer, kind)] if _attends(text, layer) else []


def _attends(text: t.Mapping[str, t.Any], layer: int) -> bool:
    """nemotron-nas: layers whose attention is left out, or replaced by a linear map."""
    attention = _block(text, layer)
    return not (attention.get("no_op") or attention.get("replace_with_linear"))


def _block(text: t.Mapping[str, t.Any], layer: int) -> t.Mapping[str, t.Any]:
    blocks = text.get("block_configs")
    block = blocks[layer] if isinstance(blocks, list) and layer < len(blocks) else None
    return mapping(block, "attention") if isinstance(block, dict) else {}


def _attention(decoder: Decoder, layer: int, kind: str) -> Cache:
    """Heads and widths of one layer of attention; some models give them for each kind of layer, or for each layer."""
    text, heads, key = decoder.text, decoder.kv_heads, decoder.head_dim
    value = count(text, "v_head_dim", 0) if decoder.model_type.startswith("mimo_v2") else 0
    window = decoder.window if kind == "sliding" else count(text, "attention_chunk_size", 0) if kind == "chunked" else 0
    if kind == "sliding" and not window:
        kind = "full"
    if kind == "full":  # gemma4: layers that see everything have fewer and wider heads
        if text.get("attention_k_eq_v") is True or "num_global_key_value_heads" in text:
            heads = count(text, "num_global_key_value_heads", heads)
        key = count(text, "global_head_dim", key)
    elif kind == "sliding":  # mimo_v2
        heads = count(text, "swa_num_key_value_heads", heads)
        key, value = count(text, "swa_head_dim", key), count(text, "swa_v_head_dim", value)
    if _block(text, layer).get("n_heads_in_group") is not None:
        heads = max(1, decoder.heads // count(_block(text, layer), "n_heads_in_group"))
    return Cache(0, t.cast(Kind, kind), heads, key, value or key, window)


def _indexed(decoder: Decoder) -> bool:
    """deepseek_v2.py of 0.32.0: a sparse model keeps the keys of its indexer as well."""
    return decoder.text.get("index_topk") is not None


def _state(decoder: Decoder) -> Cache:
    """Recurrent states; the sizes as the model's get_mamba_state_shape_from_config of 0.32.0 takes them."""
    text = decoder.text
    linear = mapping(text, "linear_attn_config")
    mixer: Mixer
    if linear:
        mixer = "kda"
        sizes = (count(linear, "num_heads"), count(linear, "head_dim"), count(linear, "short_conv_kernel_size", 4))
    elif "linear_num_value_heads" in text:
        names = ("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim")
        mixer, sizes = "gdn", (*(count(text, name) for name in names), count(text, "linear_conv_kernel_dim", 4))
    elif numbers(text, "attn_type_list"):
        mixer, sizes = "linear", (decoder.heads, decoder.head_dim)
    elif "conv_L_cache" in text:
        mixer, sizes = "short_conv", (count(text, "conv_dim", decoder.hidden), count(text, "conv_L_cache"))
    elif "mamba_num_heads" in text or "mamba_n_heads" in text or "n_mamba_heads" in text:
        mixer, sizes = "mamba2", _mamba2(decoder)
    elif decoder.model_type == "mamba2":
        mixer = "mamba2"
        wide = count(text, "expand", 2) * decoder.hidden
        sizes = (wide, count(text, "n_groups", 1), count(text, "num_heads"), count(text, "head_dim"))
        sizes += (count(text, "state_size"), count(text, "conv_kernel", 4))
    elif any(name in text for name in ("mamba_d_state", "state_size")):
        mixer = "mamba1"
        wide = first(text, ("intermediate_size",), None) if decoder.model_type in ("mamba", "falcon_mamba") else 0
        wide = wide or first(text, ("mamba_expand", "expand"), 2) * decoder.hidden
        sizes = (wide, first(text, ("mamba_d_state", "state_size")), first(text, ("mamba_d_conv", "conv_kernel"), 4))
    else:
        raise Unreadable("config.json does not say what its recurrent layers keep")
    return Cache(0, "state", mixer=mixer, sizes=tuple(sizes))


def _mamba2(decoder: Decoder) -> tuple[int, ...]:
    """(width, groups, heads, width of a head, state, kernel)."""
    text = decoder.text
    heads = first(text, ("mamba_num_heads", "mamba_n_heads", "n_mamba_heads"))
    expanded = first(text, ("mamba_expand", "expand"), 2) * decoder.hidden
    head = first(text, ("mamba_head_dim", "mamba_d_head", "mamba_headdim"), max(1, expanded // heads))
    # nemotron_h: heads * width; the others: expand * hidden, or what is given (falcon_h1).
    wide = heads * head if decoder.model_type == "nemotron_h" else count(text, "mamba_d_ssm", expanded)
    groups = first(text, ("n_groups", "mamba_n_groups", "mamba_ngroups"), 1)
    state = first(text, ("ssm_state_size", "mamba_d_state"))
    return wide, groups, heads, head, state, first(text, ("conv_kernel", "mamba_d_conv"), 4)


def _compressed(decoder: Decoder) -> Layouts:
    """deepseek_v4: a window for each layer, its compressed entries, and what is being compressed.

    vllm/models/deepseek_v4/attention.py and compressor.py of 0.32.0: every fourth token has an index as well.
    """
    ratios, width = numbers(decoder.text, "compress_ratios"), decoder.head_dim
    index = count(decoder.text, "index_head_dim", 128)
    found: dict[Cache, list[int]] = {}

    def keep(layer: int, *given: t.Any) -> None:
        found.setdefault(Cache(0, *given), []).append(layer)

    for layer, ratio in enumerate(ratios[: decoder.layers]):
        keep(layer, "window_mla", 1, width, 0, decoder.window)
        if ratio <= 1:
            continue
        overlap = 2 if ratio == 4 else 1
        keep(layer, "compressed", 1, width, 0, 0, ratio)
        keep(layer, "partial", 1, 2 * overlap * width, 0, overlap * ratio, ratio)
        if ratio == 4:
            keep(layer, "indexer", 1, index, 0, 0, ratio)
            keep(layer, "partial", 1, 2 * overlap * index, 0, overlap * ratio, ratio)
    return _layouts(found)
