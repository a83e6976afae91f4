# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Configurations of other makers in the words of config.json: the metadata of GGUF files, Mistral's params.json."""

from __future__ import annotations

import math
import typing as t

# llama.cpp's names of architectures where transformers has another one (transformers 5.19.0,
# modeling_gguf_pytorch_utils.py: load_gguf_checkpoint), and the class that vLLM takes (0.23.0, the last release that
# reads GGUF itself, model_executor/models/registry.py).
_ARCHITECTURES: dict[str, tuple[str, str]] = {
    "llama": ("llama", "LlamaForCausalLM"),
    "mistral3": ("mistral", "MistralForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen2moe": ("qwen2_moe", "Qwen2MoeForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "qwen3moe": ("qwen3_moe", "Qwen3MoeForCausalLM"),
    "gpt-oss": ("gpt_oss", "GptOssForCausalLM"),
    "falcon": ("falcon", "FalconForCausalLM"),
    "phi3": ("phi3", "Phi3ForCausalLM"),
    "stablelm": ("stablelm", "StableLmForCausalLM"),
    "starcoder2": ("starcoder2", "Starcoder2ForCausalLM"),
    "nemotron": ("nemotron", "NemotronForCausalLM"),
    "gemma2": ("gemma2", "Gemma2ForCausalLM"),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
    "minimax-m2": ("minimax_m2", "MiniMaxM2ForCausalLM"),
    "lfm2": ("lfm2", "Lfm2ForCausalLM"),
    "command-r": ("cohere", "CohereForCausalLM"),
    "deepseek2": ("deepseek_v2", "DeepseekV2ForCausalLM"),
}
# Keys of GGUF behind the architecture's name (gguf 0.19.0, constants.py: Keys), to those of config.json
# (transformers 5.19.0, integrations/ggml.py: GGUF_CONFIG_MAPPING; the rest by what they mean).
_GGUF_KEYS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "attention.q_lora_rank": "q_lora_rank",
    "attention.kv_lora_rank": "kv_lora_rank",
    "attention.indexer.key_length": "index_head_dim",
    "attention.indexer.head_count": "index_n_heads",
    "attention.indexer.top_k": "index_topk",
    "rope.freq_base": "rope_theta",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_shared_count": "n_shared_experts",
    "expert_feed_forward_length": "moe_intermediate_size",
    "leading_dense_block_count": "first_k_dense_replace",
    "nextn_predict_layers": "num_nextn_predict_layers",
    "shortconv.l_cache": "conv_L_cache",
}
# Mistral's keys, to those of config.json (vLLM 0.32.0, transformers_utils/configs/mistral.py).
_PARAMS_KEYS = {
    "dim": "hidden_size",
    "norm_eps": "rms_norm_eps",
    "n_kv_heads": "num_key_value_heads",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "tied_embeddings": "tie_word_embeddings",
}
# No decoder has as many layers.
_LAYERS_LIMIT = 1000
_PARAMS_MOE_KEYS = {
    "first_k_dense_replace": "first_k_dense_replace",
    "num_experts_per_tok": "num_experts_per_tok",
    "num_experts": "n_routed_experts",
    "expert_hidden_dim": "moe_intermediate_size",
    "num_shared_experts": "n_shared_experts",
}


def from_gguf(metadata: t.Mapping[str, t.Any], has_head: bool) -> dict[str, t.Any]:
    """The metadata of a GGUF file as config.json would say it. has_head: whether there is an output tensor."""
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        return {}
    model_type, model_class = _ARCHITECTURES.get(architecture, (architecture, ""))

    def said(key: str) -> t.Any:
        value = metadata.get(f"{architecture}.{key}")
        return None if isinstance(value, float) and not math.isfinite(value) else value

    config: dict[str, t.Any] = {"model_type": model_type, "tie_word_embeddings": not has_head}
    if model_class:
        config["architectures"] = [model_class]
    for key, words in _GGUF_KEYS.items():
        value = said(key)
        if isinstance(value, list):
            # One number for each layer, where others have one for all: the largest, so that nothing is too small.
            value = max(value, default=None)
        if value is not None:
            config[words] = value
    if "vocab_size" not in config and isinstance(metadata.get("tokenizer.ggml.tokens"), int):
        config["vocab_size"] = metadata["tokenizer.ggml.tokens"]
    rotary = said("rope.dimension_count")
    if architecture == "llama" and "head_dim" not in config and rotary is not None:
        config["head_dim"] = rotary
    _add_latent_attention(config, said, rotary)
    _add_layer_types(config, said)
    if isinstance(config.get("num_nextn_predict_layers"), int) and isinstance(config.get("num_hidden_layers"), int):
        # llama.cpp counts draft layers as blocks.
        config["num_hidden_layers"] -= config["num_nextn_predict_layers"]
    scaling = said("rope.scaling.type")
    if isinstance(scaling, str) and scaling != "none":
        original = said("rope.scaling.original_context_length")
        parts = {"rope_type": scaling, "factor": said("rope.scaling.factor")}
        config["rope_scaling"] = {**parts, **({"original_max_position_embeddings": original} if original else {})}
    return config


def _add_latent_attention(config: dict[str, t.Any], said: t.Callable[[str], t.Any], rotary: t.Any) -> None:
    """Widths of DeepSeek's attention; the key then has a part with positions (rotary) and one without."""
    key = said("attention.key_length_mla") or said("attention.key_length")
    if not config.get("kv_lora_rank") or not isinstance(key, int) or not isinstance(rotary, int):
        return
    config.update(qk_rope_head_dim=rotary, qk_nope_head_dim=key - rotary)
    config["v_head_dim"] = said("attention.value_length_mla") or said("attention.value_length")
    config["n_routed_experts"] = config.pop("num_experts", None)
    # The compressed form says one head, which is not what config.json calls a head.
    config["num_key_value_heads"] = config.get("num_attention_heads")
    config.pop("head_dim", None)


def _add_layer_types(config: dict[str, t.Any], said: t.Callable[[str], t.Any]) -> None:
    """Layers that differ: those with a window, and those of LFM2 without attention."""
    pattern, heads = said("attention.sliding_window_pattern"), said("attention.head_count_kv")
    if isinstance(pattern, list):
        config["layer_types"] = ["sliding_attention" if windowed else "full_attention" for windowed in pattern]
    elif config["model_type"] == "lfm2" and isinstance(heads, list):
        config["layer_types"] = ["full_attention" if count else "conv" for count in heads]


def from_params(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Mistral's params.json as config.json would say it (vLLM 0.32.0, transformers_utils/configs/mistral.py)."""
    config = {_PARAMS_KEYS.get(key, key): value for key, value in params.items()}
    config.setdefault("model_type", "transformer")
    config.setdefault("tie_word_embeddings", False)
    config.setdefault("max_position_embeddings", 128_000)
    moe = config.get("moe")
    config["architectures"] = ["MistralForCausalLM"]
    if config["model_type"] == "mamba":
        config["architectures"] = ["Mamba2ForCausalLM"]
    elif isinstance(moe, dict) and moe.get("num_shared_experts"):
        config.update({words: moe[key] for key, words in _PARAMS_MOE_KEYS.items() if key in moe})
        config.update(model_type="deepseek_v3", architectures=["MistralLarge3ForCausalLM"])
    elif isinstance(moe, dict):
        config.update({"num_local_experts": moe.get("num_experts"), "architectures": ["MixtralForCausalLM"]})
        config["num_experts_per_tok"] = moe.get("num_experts_per_tok")
    windows = config.get("sliding_window")
    if isinstance(windows, list) and windows and isinstance(config.get("num_hidden_layers"), int):
        kinds = ["sliding_attention" if window else "full_attention" for window in windows]
        layers = min(config["num_hidden_layers"] // len(kinds) * len(kinds), _LAYERS_LIMIT)
        config["layer_types"] = [kinds[layer % len(kinds)] for layer in range(layers)]
        config["sliding_window"] = next((window for window in windows if window), None)
    quantization = config.pop("quantization", None)
    if isinstance(quantization, dict):
        is_fp8 = quantization.get("qformat_weight") == "fp8_e4m3"
        config["quantization_config"] = {"quant_method": "fp8"} if is_fp8 else quantization
    return _with_encoder(config)


def _with_encoder(config: dict[str, t.Any]) -> dict[str, t.Any]:
    """The decoder beside the encoder of images or sound, when there is one."""
    multimodal = config.get("multimodal")
    parts = multimodal if isinstance(multimodal, dict) else {}
    image = parts.get("vision_encoder_args") or config.get("vision_encoder")
    sound = parts.get("whisper_model_args")
    if image:
        kind, encoder, name = "pixtral", "vision_config", "PixtralForConditionalGeneration"
    elif sound:
        kind, encoder, name = "voxtral", "audio_config", "VoxtralForConditionalGeneration"
    else:
        return config
    whole = {"model_type": kind, "architectures": [name], "text_config": config, encoder: image or sound}
    if "quantization_config" in config:
        whole["quantization_config"] = config["quantization_config"]
    return whole
