# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What a tensor is for, told by its name.

The class decides how its bytes spread over GPUs, so tensors that spread alike share one. The first rule that matches
wins; what no rule knows is "other" and is never guessed. Names of layers have their numbers replaced by '#'.
"""

from __future__ import annotations

import re

CLASSES = ("embedding", "lm_head", "attention", "mlp", "expert", "norm", "vision", "other")

# (class, pattern over the name, why)
RULES: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (tensor_class, re.compile(pattern), why)
    for tensor_class, pattern, why in (
        (
            "vision",
            r"(^|\.)(visual|vision_\w+|vision|vpm|apm|resampler|audio_\w+|image_newline|img_processor|embed_vision|embed_audio"
            r"|multi_modal_projector|multimodal_projector|mm_projector|patch_merger|pre_mm_projector_norm|connector)(\.|$)|^mlp1\.",
            "Encoders of images and sound and what leads from them into the decoder: they run before it, and are not "
            "part of its layers whatever their inner names are.",
        ),
        (
            "other",
            r"(^|\.)mtp(_\w+)?\.|\.layers\.#\.(embed_tokens|shared_head|eh_proj|enorm|hnorm)\.",
            "Parts of draft layers for multi-token prediction: loaded only for speculative decoding.",
        ),
        (
            "lm_head",
            r"(^|\.)(lm_head|embed_out|output_layer)\.|^output\.",
            "From hidden state to vocabulary: split over the padded vocabulary, on the last pipeline stage.",
        ),
        (
            "embedding",
            r"(^|\.)(embed_tokens\w*|tok_embeddings|word_embeddings|embed_in|embeddings?|wte|wpe)\.",
            "From vocabulary to hidden state: split over the padded vocabulary, on the first pipeline stage.",
        ),
        (
            "norm",
            r"(^|\.)([^.]*norm[^.]*|ln_[^.]*)\.(weight|bias|scale)$",
            "Small vectors that every GPU holds whole, also those inside attention.",
        ),
        (
            "expert",
            r"(^|\.)experts(\.|$)",
            "Routed experts: the part that expert parallelism spreads. Shared experts run for every token and are mlp.",
        ),
        (
            "mlp",
            r"(^|\.)mixer\.(gate|up|down)_proj\.",
            "In Nemotron-H every layer is a 'mixer'; these are its MLP layers.",
        ),
        (
            "attention",
            r"(^|\.)(self_attn|self_attention|linear_attn|cross_attn|attention|attn|mixer|mamba|conv|temporal_block)\.",
            "Token mixers, state space and short convolution layers among them: split by heads or channels.",
        ),
        (
            "other",
            r"(^|\.)(gate|router|shared_expert_gate|expert_bias|e_score_correction_bias)(\.|$)",
            "Routers of experts: every GPU holds them whole.",
        ),
        (
            "mlp",
            r"(^|\.)(mlp|feed_forward|ffn|block_sparse_moe|moe|shared_experts?|shared_mlp|fc1|fc2)\.",
            "Feed-forward layers: split by columns and rows.",
        ),
    )
)

_NUMBER = re.compile(r"\.(\d+)\.")
_LAYER = re.compile(r"(^|\.)(layers|h|blocks|layer)\.#\.")


class Classifier:
    """Tells classes and decoder layers of tensor names. Names that differ in their numbers only are looked up once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, int | None]] = {}

    def classify(self, name: str) -> tuple[str, int | None]:
        """Class of a tensor, and the number of the decoder layer it belongs to (None: to none)."""
        parts = _NUMBER.split(name)  # text, number, text, number, ..., text
        key = ".#.".join(parts[::2])
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._look_up(key)
        tensor_class, part = known
        return tensor_class, None if part is None else int(parts[part])

    @staticmethod
    def _look_up(key: str) -> tuple[str, int | None]:
        """Class, and which part of the split name is the layer's number."""
        tensor_class = next((rule[0] for rule in RULES if rule[1].search(key)), "other")
        layer = None if tensor_class == "vision" or key.startswith("mtp") else _LAYER.search(key)
        return tensor_class, None if layer is None else 2 * key[: layer.end()].count("#") - 1
