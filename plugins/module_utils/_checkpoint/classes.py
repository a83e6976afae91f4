# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What a tensor is for, told by its name.

The class decides how its bytes spread over GPUs, so tensors that spread alike share one. The first rule that matches
wins; what no rule knows is "other" and is never guessed. Names of layers have their numbers replaced by '#'. How each
class spreads was read from the layer classes of model_executor/models and model_executor/layers of 0.33.0: what is a
ColumnParallelLinear, RowParallelLinear or QKVParallelLinear there is split, ReplicatedLinear and disable_tp=True are
whole on every GPU.
"""

from __future__ import annotations

import re

CLASSES = (
    "embedding",
    "lm_head",
    "attention",
    "key_value",
    "qkv",
    "latent",
    "state",
    "mlp",
    "expert",
    "shared_expert",
    "router",
    "norm",
    "vision",
    "projector",
    "draft",
    "unused",
    "other",
)

# (class, pattern over the name, why). Names come from strangers: the time of a pattern must grow no faster than a name.
RULES: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (tensor_class, re.compile(pattern), why)
    for tensor_class, pattern, why in (
        (
            "unused",
            r"(^|\.)(inv_freq|cos_cached|sin_cached|masked_bias)$|(^|\.)h\.#\.attn\.bias$"
            r"|^(talker|code2wav|token2wav|code_predictor)\.|^rope_freqs\.|^rope_factors_\w+\.",
            "Tables that vLLM computes itself, and the speech that omni models would answer with: never loaded.",
        ),
        (
            "projector",
            r"(^|\.)(multi_modal_projector|multimodal_projector|mm_projector|patch_merger|pre_mm_projector_norm"
            r"|vision_language_adapter|connector|projector|embed_vision|embed_audio|sound_projection|vision_projection"
            r"|merger|merger_list|deepstack_merger_list|resampler|image_newline|view_seperator|mm\.#)(\.|$)|^mlp1\.",
            "What leads from an encoder into the decoder: some architectures split it, some hold it whole.",
        ),
        (
            "vision",
            r"(^|\.)(visual|visual_tokenizer|vision_\w+|vision|vpm|apm|vit|audio_\w+|img_processor|sound_encoder"
            r"|sam_model|speech_\w+|whisper_encoder|mm_whisper_embeddings|embed_tokens_extend|vte|v\.blk)(\.|$)",
            "Encoders of images and sound: they run before the decoder, and are not part of its layers whatever their "
            "inner names are.",
        ),
        (
            "draft",
            r"(^|\.)mtp(_\w+)?\.|(^|\.)(layers|blk)\.#\.(embed_tokens|shared_head|eh_proj|enorm|hnorm|nextn)\.",
            "Draft layers for multi-token prediction: loaded only for speculative decoding.",
        ),
        (
            "lm_head",
            r"(^|\.)(lm_head|embed_out|output_layer)(\.|$)|^output\.|^head\.",
            "From hidden state to vocabulary: split over the padded vocabulary, on the last pipeline stage.",
        ),
        (
            "embedding",
            r"(^|\.)(embed_tokens\w*|tok_embeddings|word_embeddings|embed_in|embeddings?|embed|wte|token_embd"
            r"|per_layer_token_embd)\.",
            "From vocabulary to hidden state: split over the padded vocabulary, on the first pipeline stage.",
        ),
        (
            "norm",
            r"(^|\.)(?=[^.]*norm|ln_)[^.]*\.(weight|bias|scale)$",
            "Small vectors that every GPU holds whole, also those inside attention.",
        ),
        (
            "shared_expert",
            r"(^|\.)(shared_experts?|share_expert|shared_mlp)\.|_shexp\.",
            "Experts that run for every token: split over tensor parallelism, never spread by expert parallelism.",
        ),
        (
            "expert",
            r"(^|\.)experts(\.|$)|(^|\.)block_sparse_moe\.(input|output)_linear\.|(^|\.)moe\.(gate|up|down)_proj\."
            r"|_exps\.",
            "Routed experts: the part that expert parallelism spreads.",
        ),
        (
            "router",
            r"(^|\.)(gate|router|router_\w+|shared_expert_gate|expert_bias|e_score_correction_bias|moe_statics|tid2eid)"
            r"(\.|$)|(^|\.)(?=[^.]*_gate_inp[_.])[^.]*\.|_latent_proj\.|exp_probs_b\.",
            "Routers of experts and what narrows the state before them: every GPU holds them whole.",
        ),
        (
            "latent",
            r"(^|\.)(q_a_proj|kv_a_proj_with_mqa|kv_a_proj|fused_qkv_a_proj|wq_a|wkv_a\w*|wkv|indexer|compressor"
            r"|g_a_proj)\.|\.attn_(q_a|kv_a_mqa)\.",
            "The narrow side of latent attention, its indexer included: every GPU holds it whole.",
        ),
        (
            "mlp",
            r"(^|\.)mixer\.(gate|up|down)_proj\.",
            "In Nemotron-H every layer is a 'mixer'; these are its MLP layers.",
        ),
        (
            "state",
            r"(^|\.)(linear_attn|mamba|conv|temporal_block|short_conv|ssm)\.|(^|\.)mixer\.(in_proj|out_proj|conv1d|A_log"
            r"|A|D|dt_bias|x_proj|dt_proj)|\.(ssm|shortconv)_\w+",
            "State space, linear attention and short convolutions: split by heads or channels.",
        ),
        (
            "key_value",
            r"(^|\.)(self_attn|self_attention|attention|attn|mixer|encoder_attn|EncDecAttention|SelfAttention"
            r"|cross_attn)(\.attention)?\.(#\.)?(k_proj|v_proj|kv_proj|key|value|wk|wv|k|v)\.|\.attn_(k|v)\.",
            "Keys and values: split by their heads, and copied where there are more GPUs than such heads.",
        ),
        (
            "qkv",
            r"(^|\.)(qkv_proj|query_key_value|c_attn|Wqkv|qkv|W_pack|wqkv|attn_qkv|in_proj_qkv)\.",
            "Queries, keys and values in one tensor: its part of keys and values is copied like theirs.",
        ),
        (
            "attention",
            r"(^|\.)(self_attn|self_attention|cross_attn|encoder_attn|attention|attn|mixer|SelfAttention"
            r"|EncDecAttention)\.|\.attn_\w+\.",
            "Queries, outputs and the wide side of latent attention: split by heads.",
        ),
        (
            "mlp",
            r"(^|\.)(mlp|mlps|feed_forward|ffn|block_sparse_moe|moe|moe_block|fc1|fc2|DenseReluDense)\.|\.ffn_\w+\.",
            "Feed-forward layers: split by columns and rows.",
        ),
    )
)

_NUMBER = re.compile(r"\.(\d+)\.")
_LAYER = re.compile(r"(^|\.)(layers|h|blocks|layer|blk|block)\.#\.")
# No part of the decoder's layers, whatever their names look like.
_OUTSIDE = ("vision", "projector", "draft", "unused")


class Classifier:
    """Tells classes and decoder layers of tensor names. Names that differ in their numbers only are looked up once.

    decoder_layers: num_hidden_layers of the decoder. Some checkpoints keep their draft layers behind the last one under
    the same names, so a layer of that number and more is "draft"; None leaves them what their names say.
    """

    def __init__(self, decoder_layers: int | None = None) -> None:
        self._decoder_layers = decoder_layers
        self._known: dict[str, tuple[str, int | None]] = {}

    def classify(self, name: str) -> tuple[str, int | None]:
        """Class of a tensor, and the number of the decoder layer it belongs to (None: to none)."""
        parts = _NUMBER.split(name)  # text, number, text, number, ..., text
        key = ".#.".join(parts[::2])
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._look_up(key)
        tensor_class, part = known
        layer = None if part is None else int(parts[part])
        if layer is not None and self._decoder_layers is not None and layer >= self._decoder_layers:
            return "draft", None
        return tensor_class, layer

    @staticmethod
    def _look_up(key: str) -> tuple[str, int | None]:
        """Class, and which part of the split name is the layer's number."""
        tensor_class = next((rule[0] for rule in RULES if rule[1].search(key)), "other")
        layer = None if tensor_class in _OUTSIDE else _LAYER.search(key)
        return tensor_class, None if layer is None else 2 * key[: layer.end()].count("#") - 1
