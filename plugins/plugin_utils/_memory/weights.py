# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of weights on each GPU, from the bytes of the checkpoint's tensor classes. Pure.

What vLLM logs as taken by the model: parameters as it shards, casts and repacks them, the tables of rotary positions,
what latent attention keeps twice, the draft layers of the same checkpoint, and the slots for adapters. How each class
of tensors spreads was read from model_executor/models and model_executor/layers of 0.33.0, and checked against that
release's own model classes (tools/memory/oracle_weights.py).
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.adapters import Part, adapters, extra_vocabulary
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.allocator import Allocator, allocator
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.reading import mapping, stretch_of, texts, word
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Settings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.stages import stages

_WIDE = ("float32", "float")
# DEFAULT_VOCAB_PADDING_SIZE in model_executor/layers/vocab_parallel_embedding.py of 0.6.0 to 0.33.0.
_VOCAB_PADDING = 64
_FULL = "full_attention"
# Linear layers: what quantization while loading makes smaller, and adapters attach to.
_LINEAR = ("attention", "key_value", "qkv", "latent", "state", "mlp", "expert", "shared_expert")
_LAYERED = (*_LINEAR, "router", "norm", "other")
_ENCODERS = ("vision", "projector")
_CLASSES = (*_LAYERED, *_ENCODERS, "embedding", "lm_head")
# Bytes of the numbers that become the model's dtype.
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# Bytes of one parameter that is quantized while loading, its scales included: QuantizationConfig classes of
# model_executor/layers/quantization (fp8.py; online/ of 0.33.0).
_ONLINE = {
    "fp8": 1.0,
    "fp8_per_tensor": 1.0,
    "fp8_per_block": 1.0 + 4 / 128**2,
    "ptpc_fp8": 1.0,
    "mxfp8": 1.0 + 1 / 32,
    "mxfp4": 0.5 + 1 / 32,
}
# Quantization while loading of the experts alone (experts_int8.py; online/int8.py and online/nvfp4.py of 0.33.0).
_ONLINE_EXPERTS = {"experts_int8": 1.0, "int8_per_channel_weight_only": 1.0}
# Jamba's dense layers are experts of which there is one (model_executor/models/jamba.py of 0.6.0).
_JAMBA_DENSE = Version("0.9.0")
# Formats that pack several parameters into one number, with tensors of other sizes than the layers'.
_PACKED = {"awq", "bitsandbytes", "gguf", "gptq", "mxfp4", "modelopt", "compressed-tensors"}
# bitsandbytes: 4 bits in blocks of 64. Their scales are 8 bits and nested until bitsandbytes_loader.py spreads them to
# 32 bits when it loads (_dequantize_dq, in 0.9.2 and later).
_BNB_SPREAD = Version("0.9.1")
_BNB_BLOCK = 64
# Models without a table of rotary positions (model_executor/models of 0.33.0).
_NO_ROPE = frozenset(
    {
        "bert",
        "bloom",
        "gpt2",
        "gpt_bigcode",
        "jamba",
        "mamba",
        "mamba2",
        "mpt",
        "nemotron_h",
        "opt",
        "roberta",
        "whisper",
        "xlm-roberta",
    }
)
# Models that create their head on every pipeline stage: ParallelLMHead without a look at is_last_rank in
# model_executor/models of 0.9.2, 0.19.0 and 0.33.0.
_HEAD_EVERYWHERE = frozenset(
    {
        "dbrx",
        "falcon",
        "gpt_oss",
        "granitemoe",
        "granitemoehybrid",
        "granitemoeshared",
        "jamba",
        "mixtral",
        "nemotron_h",
        "olmoe",
        "phimoe",
        "qwen2_moe",
        "qwen3_moe",
        "qwen3_next",
        "stablelm",
    }
)
# W_UK_T and W_UV beside kv_b_proj: process_weights_after_loading of attention/backends/mla in 0.7.1, of
# layers/attention/mla_attention.py in 0.33.0.
_LATENT_COPIES = Version("0.7.1")
# Encoders that no item may reach are left out: _mark_tower_model in model_executor/models/interfaces.py of 0.15.0; a
# dozen architectures did so before (get_limit_per_prompt in their files of 0.11.0).
_ENCODER_LEFT_OUT = Version("0.15.0")
# Models that create their embedding on every stage, likewise.
_EMBEDDING_EVERYWHERE = frozenset(
    {
        "cohere",
        "cohere2",
        "dbrx",
        "falcon",
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "gemma4",
        "gemma4_text",
        "gpt2",
        "gpt_oss",
        "granitemoe",
        "granitemoehybrid",
        "granitemoeshared",
        "internlm2",
        "jamba",
        "lfm2",
        "lfm2_moe",
        "mixtral",
        "nemotron_h",
        "olmoe",
        "opt",
        "phimoe",
        "qwen2_moe",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_moe",
        "qwen3_next",
        "stablelm",
    }
)
# Projectors that are whole on every GPU: ReplicatedLinear or a bare parameter in model_executor/models of 0.33.0.
_WHOLE_PROJECTORS = frozenset(
    {
        "Gemma3ForConditionalGeneration",
        "Gemma3nForConditionalGeneration",
        "Gemma4ForConditionalGeneration",
        "Idefics3ForConditionalGeneration",
        "KimiK25ForConditionalGeneration",
        "KimiVLForConditionalGeneration",
        "Lfm2VlForConditionalGeneration",
    }
)
# Encoders that are whole on every GPU: AutoModel of transformers inside gemma3n_mm.py and gemma4_mm.py of 0.33.0.
_WHOLE_ENCODERS = frozenset({"Gemma3nForConditionalGeneration", "Gemma4ForConditionalGeneration"})
# use_sequence_parallel_moe in config/parallel.py: shared experts are then whole on every GPU.
_SEQUENCE_PARALLEL = Version("0.11.0")
# How rows and columns of MXFP4 experts are rounded up, as (intermediate, hidden) of the smallest, the usual and the
# largest backend: create_weights in layers/quantization/mxfp4.py of 0.10.1 to 0.17.0, layers/fused_moe/oracle/mxfp4.py
# of 0.19.0 to 0.33.0.
_MXFP4_PADDING = ((64, 1), (128, 256), (256, 256))


@dataclasses.dataclass(frozen=True)
class _Stored:
    """The checkpoint as this server loads it: loaded bytes of each class on one GPU that would hold everything.

    layers: stored bytes of each decoder layer; draft: share of all layers' bytes that only a drafter loads.
    """

    loaded: t.Mapping[str, float]
    layers: tuple[int, ...]
    draft: float


def weights(found: t.Mapping[str, t.Any], shape: Geometry, chosen: Settings) -> tuple[Term, ...]:
    """One term for each pipeline stage: bytes on each of its GPUs.

    found: what model_info says of the weights; bytes of the whole checkpoint.
    """
    stored = _stored(found, shape, chosen)
    shares = _shares(shape, chosen)
    padding = [stored.loaded["expert"] * shares["expert"] * (one - 1) for one in _mxfp4_padding(shape, chosen)]
    # What is added to the parameters once they are loaded.
    blocks = allocator(chosen.asked.env)
    beside = _latent_copies(shape, chosen) + _layer_waste(stored, shares, shape, chosen, blocks)
    terms = []
    for stage, size in _sizes(stored, shares, shape, chosen):
        fixed = size + beside * stage.share + adapters(shape, chosen, stage)
        fixed += sum(blocks.waste((one,)) for one in _vocabulary(stored, shape, chosen, stage))
        fixed -= min(fixed, chosen.asked.cpu_offload_gib * GIB)
        low, expected, high = (fixed + one * stage.share for one in padding)
        down, up = _margins(stored, shape, chosen)
        terms.append(Term("weights", int(low * (1 - down)), int(expected), int(high * (1 + up))))
    return tuple(terms)


def parameters(found: t.Mapping[str, t.Any], shape: Geometry, chosen: Settings) -> tuple[int, ...]:
    """Bytes of parameters and of the tables of positions on each GPU, by pipeline stage: what the model's classes
    create, before anything is repacked or added."""
    stored = _stored(found, shape, chosen)
    return tuple(size for _stage, size in _sizes(stored, _shares(shape, chosen), shape, chosen))


def _sizes(
    stored: _Stored, shares: t.Mapping[str, float], shape: Geometry, chosen: Settings
) -> t.Iterator[tuple[Part, int]]:
    """The pipeline stages with those bytes."""
    body = sum([stored.loaded[name] * shares[name] for name in _LAYERED])
    # Encoders are on the GPUs of every stage unless the model's class says otherwise.
    everywhere = sum([stored.loaded[name] * shares[name] for name in _ENCODERS]) + _rope(shape, chosen)
    for stage in _parts(stored, shape, chosen):
        size = body * stage.share + everywhere + sum(_vocabulary(stored, shape, chosen, stage))
        if stage.is_last and _has_draft(chosen):
            # Draft layers spread like the others, and share their embedding and head.
            size += body * stored.draft
        yield stage, int(size)


def _parts(stored: _Stored, shape: Geometry, chosen: Settings) -> tuple[Part, ...]:
    """The pipeline stages with the share of the layers' bytes that each has."""
    asked = chosen.asked
    ranges = stages(shape.layers, asked.pipeline_parallel, asked.layer_partition, chosen.release)
    sizes = stored.layers[: shape.layers]
    whole = sum(sizes)
    return tuple(
        Part(
            sum(sizes[begin:end]) / whole if whole else (end - begin) / shape.layers,
            index == 0,
            index == len(ranges) - 1,
        )
        for index, (begin, end) in enumerate(ranges)
    )


def _stored(found: t.Mapping[str, t.Any], shape: Geometry, chosen: Settings) -> _Stored:
    classes = found["bytes_by_class"]
    width = 4 if chosen.asked.dtype in _WIDE else 2
    loaded = {name: _cast(classes.get(name, {}), width) for name in _CLASSES}
    if not shape.quantization:
        _quantize(loaded, shape.model_type, chosen, width)
    elif shape.quantization == "bitsandbytes" and chosen.release >= _BNB_SPREAD:
        for name in _LINEAR:
            # Of each byte that is stored in 8 bits, 1 in 33 is a scale that becomes 4.
            loaded[name] += classes.get(name, {}).get("U8", 0) * 3 / (_BNB_BLOCK / 2 + 1)
    if shape.config.get("attention_k_eq_v") is True and not shape.quantization:
        # Layers whose values are their keys: vLLM holds both (Gemma4Attention in model_executor/models/gemma4.py).
        heads = _whole(shape.config, "num_global_key_value_heads")
        rows = heads * _whole(shape.config, "global_head_dim") * texts(shape.config, "layer_types").count(_FULL)
        loaded["key_value"] += rows * shape.hidden * width
    layers = tuple(found.get("bytes_by_layer", ()))
    behind, all_layers = sum(layers[shape.layers :]), sum(layers)
    if behind:
        # Draft layers under the names of decoder layers: what the classes hold of them is taken off.
        for name in _LAYERED:
            loaded[name] *= 1 - behind / all_layers
    named = sum(classes.get("draft", {}).values())
    return _Stored(loaded, layers, (behind + named) / (all_layers - behind) if all_layers > behind else 0.0)


def _cast(stored: t.Mapping[str, int], width: int) -> float:
    """Loaded bytes of a class: numbers of 16 and 32 bits become the model's dtype (set_default_torch_dtype in
    model_executor/model_loader/utils.py), unless they are scales beside quantized numbers."""
    if not stored:
        return 0.0
    if not _FLOATS.keys() >= stored.keys():
        return float(sum(stored.values()))
    return sum([size * width / _FLOATS[kind] for kind, size in stored.items()])


def _quantize(loaded: dict[str, float], model_type: str, chosen: Settings, width: int) -> None:
    """Make the linear layers smaller that are quantized while loading."""
    method = chosen.asked.quantization or ""
    if method == "bitsandbytes":
        scales = 4 / _BNB_BLOCK if chosen.release >= _BNB_SPREAD else (1 + 4 / 256) / _BNB_BLOCK
        sizes = dict.fromkeys(_LINEAR, 0.5 + scales)
    elif method in _ONLINE:
        sizes = dict.fromkeys(_LINEAR, _ONLINE[method])
    elif method in _ONLINE_EXPERTS:
        sizes = {"expert": _ONLINE_EXPERTS[method]}
        if model_type == "jamba" and chosen.release < _JAMBA_DENSE:
            sizes["mlp"] = sizes["expert"]
    else:
        return
    for name, size in sizes.items():
        loaded[name] *= size / width


def _shares(shape: Geometry, chosen: Settings) -> dict[str, float]:
    """Share of each class that one GPU holds."""
    asked = chosen.asked
    split = 1 / asked.tensor_parallel
    # QKVParallelLinear in model_executor/layers/linear.py: each GPU has at least one head of keys and values.
    heads = max(split, 1 / shape.kv_heads)
    kv_part = 2 * shape.kv_heads / (shape.heads + 2 * shape.kv_heads)
    # FusedMoEParallelConfig.make in layers/fused_moe/config.py: data-parallel ranks split the experts as well.
    ranks = asked.tensor_parallel * asked.data_parallel * asked.prefill_context_parallel
    experts = 1 / ranks
    if asked.expert_parallel and ranks > 1 and shape.experts:
        experts = math.ceil(shape.experts / ranks) / shape.experts
    sequence = (
        asked.expert_parallel
        and asked.tensor_parallel > 1
        and asked.data_parallel > 1
        and chosen.release >= _SEQUENCE_PARALLEL
    )
    encoder = _encoder_share(chosen)
    return {
        "attention": split,
        "key_value": heads,
        "qkv": (1 - kv_part) * split + kv_part * heads,
        "latent": 1.0,
        "state": split,
        "mlp": split,
        "expert": experts,
        "shared_expert": 1.0 if sequence else split,
        "router": 1.0,
        "norm": 1.0,
        "other": 1.0,
        "vision": encoder * (1.0 if shape.architecture in _WHOLE_ENCODERS else split),
        "projector": encoder * (1.0 if shape.architecture in _WHOLE_PROJECTORS else split),
    }


def _encoder_share(chosen: Settings) -> float:
    """1, or 0 for an encoder that is left out because it shall get no input."""
    asked = chosen.asked
    none = bool(asked.limit_mm) and all(str(limit) == "0" for limit in (asked.limit_mm or {}).values())
    return 0.0 if chosen.release >= _ENCODER_LEFT_OUT and (none or asked.language_model_only) else 1.0


def _vocabulary(stored: _Stored, shape: Geometry, chosen: Settings, stage: Part) -> tuple[float, float]:
    """Bytes of embedding and head on one GPU of a stage. A tied head is the embedding, which the last stage then has as
    well (LlamaModel in model_executor/models/llama.py)."""
    rows = _up(_up(shape.vocab, _VOCAB_PADDING) + extra_vocabulary(shape, chosen), _VOCAB_PADDING)
    share = rows / shape.vocab / chosen.asked.tensor_parallel
    has_embedding = stage.is_first or (stage.is_last and shape.tied) or shape.model_type in _EMBEDDING_EVERYWHERE
    has_head = (stage.is_last or shape.model_type in _HEAD_EVERYWHERE) and not shape.tied and not chosen.is_pooling
    return stored.loaded["embedding"] * share * has_embedding, stored.loaded["lm_head"] * share * has_head


def _whole(config: t.Mapping[str, t.Any], name: str) -> int:
    """A number of a configuration, or 0 where it is of no use."""
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9 else 0


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _layer_waste(
    stored: _Stored, shares: t.Mapping[str, float], shape: Geometry, chosen: Settings, blocks: Allocator
) -> float:
    """What the allocator leaves unused of all layers of a plain decoder, whose queries, keys and values are one tensor
    (QKVParallelLinear) and whose gate and up projection are one as well (MergedColumnParallelLinear)."""
    if (
        shape.is_moe
        or shape.kv_lora
        or stored.loaded["state"]
        or {shape.quantization, chosen.asked.quantization} & _PACKED
    ):
        return 0.0
    part = {name: stored.loaded[name] * shares[name] / shape.layers for name in _LINEAR}
    outputs = part["attention"] / 2 if part["key_value"] else part["attention"]
    queries = part["qkv"] + part["key_value"] + part["attention"] - outputs
    # Feed-forward layers without a gate have 2 matrices of one size, others 3.
    width = 1 if shape.quantization or chosen.asked.quantization else 4 if chosen.asked.dtype in _WIDE else 2
    matrix = shape.intermediate * shape.hidden * width / chosen.asked.tensor_parallel
    down = part["mlp"] / (3 if part["mlp"] > 2.5 * matrix else 2)
    return blocks.waste((queries, outputs, part["mlp"] - down, down), shape.layers)


def _mxfp4_padding(shape: Geometry, chosen: Settings) -> tuple[float, float, float]:
    """By how much MXFP4 experts grow: at least, usually, at most."""
    if shape.quantization != "mxfp4" or not shape.moe_intermediate:
        return (1.0, 1.0, 1.0)
    asked = chosen.asked
    ranks = 1 if asked.expert_parallel else asked.tensor_parallel * asked.data_parallel
    own = shape.moe_intermediate / ranks
    grown = [
        _up(math.ceil(own), rows) * _up(shape.hidden, columns) / (own * shape.hidden)
        for rows, columns in _MXFP4_PADDING
    ]
    return grown[0], grown[1], grown[2]


def _latent_copies(shape: Geometry, chosen: Settings) -> float:
    """Bytes of the up-projections of latent attention that are kept a second time, in 16 bits."""
    if not shape.kv_lora or chosen.release < _LATENT_COPIES or chosen.asked.env.get("VLLM_MLA_DISABLE") == "1":
        return 0.0
    heads = shape.heads / chosen.asked.tensor_parallel
    width = 4 if chosen.asked.dtype in _WIDE else 2
    return shape.layers * heads * shape.kv_lora * (shape.qk_nope + shape.v_head_dim) * width


def _rope(shape: Geometry, chosen: Settings) -> float:
    """Bytes of the tables of rotary positions: get_rope in model_executor/layers/rotary_embedding of 0.33.0."""
    text = shape.config
    if shape.model_type in _NO_ROPE:
        return 0.0
    width = 4 if chosen.asked.dtype in _WIDE or shape.model_type == "gpt_oss" else 2
    positions = _whole(text, "max_position_embeddings") or shape.max_positions
    rope = mapping(text, "rope_parameters") or mapping(text, "rope_scaling")
    # Newer configurations have one mapping for each kind of layer.
    kinds = [one for one in rope.values() if isinstance(one, dict)]
    wide = _whole(text, "global_head_dim")
    if kinds:
        rows = sum(_rope_rows(one, positions) for one in kinds)
        if wide:
            # Gemma4RotaryEmbedding of full attention covers the whole of its wider heads.
            rows += positions * max(0.0, wide / shape.rotary_dim - 1)
    else:
        rows = _rope_rows(rope, positions)
        if "rope_local_base_freq" in text or shape.model_type in ("gemma3", "gemma3_text"):
            rows += positions
    return float(rows * shape.rotary_dim * width)


def _rope_rows(rope: t.Mapping[str, t.Any], positions: int) -> float:
    kind = word(rope, "rope_type") or word(rope, "type")
    stretch = stretch_of(rope.get("factor"))
    original = _whole(rope, "original_max_position_embeddings")
    rows = float(positions)
    if kind in ("linear", "dynamic"):
        rows = positions * stretch
    elif kind in ("yarn", "deepseek_yarn", "deepseek_llama_scaling") and original:
        rows = original * stretch
    elif kind in ("longrope", "su") and original:
        rows = original + positions
    # MRotaryEmbedding takes 4 times as many.
    return rows * 4 if rope.get("mrope_section") else rows


# Speculation that needs no weights (SpeculativeConfig in config/speculative.py of 0.33.0).
_WITHOUT_MODEL = ("ngram", "ngram_gpu", "suffix")


def _has_draft(chosen: Settings) -> bool:
    """Whether the draft layers of the checkpoint are loaded."""
    speculative = chosen.asked.speculative or {}
    return str(speculative.get("method", "")).endswith("mtp")


def _margins(stored: _Stored, shape: Geometry, chosen: Settings) -> tuple[float, float]:
    """By how much less and more than expected it may be, as shares."""
    asked = chosen.asked
    down = up = 0.003
    if shape.is_moe or shape.kv_lora:
        down, up = 0.01, 0.015
    if shape.quantization or asked.quantization:
        # Scales are spread and numbers repacked in ways that depend on the kernel.
        down, up = max(down, 0.01), max(up, 0.02)
    if asked.lora:
        up += 0.03 if shape.is_moe else 0.01
    method = str((asked.speculative or {}).get("method", ""))
    if asked.speculative and not _has_draft(chosen) and method not in _WITHOUT_MODEL:
        # A draft model of its own, whose checkpoint is not known here.
        up += 0.1
    elif _has_draft(chosen) and not stored.draft:
        up += 2 / shape.layers
    # What nothing is known of may be split, and an encoder may be whole on every GPU.
    whole = sum(stored.loaded.values()) or 1.0
    spread = (1 - 1 / asked.tensor_parallel) * asked.tensor_parallel
    down += min(0.5, stored.loaded["other"] / whole * spread)
    up += min(0.5, stored.loaded["projector"] / whole * spread)
    return down, up
