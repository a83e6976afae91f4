# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a model as its config.json gives it, reduced to what decides about memory.

Pure; a model's name decides nothing.
"""

from __future__ import annotations

import dataclasses
import typing as t

_GREATEST = 10**9
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


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Counts of a decoder; mla_width is the width of the latent of MLA, 0 without MLA.

    max_positions: the longest request in tokens that the model is made for; is_length_certain: whether that is all that
    decides, and no scaling of positions, which releases count differently.
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


class Unreadable(Exception):
    """The configuration lacks what a memory estimate needs; the text names it."""


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
    hidden, heads = _count(text, "hidden_size"), _count(text, "num_attention_heads")
    uncertain = []
    kinds = text.get("layer_types")
    others = (
        {kind for kind in kinds if isinstance(kind, str)} - {"full_attention"} if isinstance(kinds, list) else set()
    )
    if others:
        uncertain.append(f"layers of the kinds {', '.join(sorted(others))} are counted as full attention")
    if text is not config:
        uncertain.append("the encoder of other inputs than text is not counted")
    lengths = [_count(text, key) for key in _LENGTH_KEYS if text.get(key) is not None]
    scaling = _scaling(text)
    mla = _count(text, "kv_lora_rank", 0)
    return Geometry(
        layers=_count(text, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=_count(text, "num_key_value_heads", heads),
        head_dim=_count(text, "head_dim", max(1, hidden // heads)),
        intermediate=_count(text, "intermediate_size", 4 * hidden),
        vocab=_count(text, "vocab_size"),
        # vLLM takes 2048 where the configuration says nothing.
        max_positions=int(min(lengths, default=2048) * scaling),
        is_length_certain=bool(lengths) and scaling == 1 and "model_max_length" not in text,
        mla_width=mla + _count(text, "qk_rope_head_dim", 0) if mla else 0,
        is_moe=any(text.get(name) for name in ("num_experts", "num_local_experts", "n_routed_experts")),
        is_quantized=bool(config.get("quantization_config") or text.get("quantization_config")),
        uncertain=tuple(uncertain),
    )


def _scaling(text: t.Mapping[str, t.Any]) -> float:
    """By how much positions are stretched: _get_and_verify_max_len in config/model.py of 0.32.0."""
    rope = text.get("rope_parameters") or text.get("rope_scaling")
    factor = rope.get("factor") if isinstance(rope, dict) else None
    kind = (rope.get("rope_type") or rope.get("type")) if isinstance(rope, dict) else None
    contained = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
    usable = isinstance(factor, (int, float)) and not isinstance(factor, bool) and 1 < factor < 10**6
    return float(factor) if usable and kind not in contained and "gemma3" not in str(text.get("model_type")) else 1.0


def _count(config: t.Mapping[str, t.Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    if value is None and default is not None:
        return default
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or not (default == 0 or value > 0)
        or not 0 <= value < _GREATEST
    ):
        raise Unreadable(f"config.json has no usable {name}")
    return int(value)
