# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make tools/accuracy/models.json: configurations of models, and what model_info would say of their weights.

`profiles.py FACTS [--out FILE] [--configs FOLDER]` where FACTS has the form of ../shared/vram/model_configs.json. Names
and shapes of tensors are those of the architecture's class in transformers, built without memory; the quantization that
the configuration tells is applied to them. Needs torch and transformers: the catalogue's virtual environment.

basis tells what the bytes stand on: "headers_total" (the total of the checkpoint's headers is known and was met, or met
by scaling), "computed" (shapes and quantization alone), "incomplete" (an encoder or a draft layer is missing), "none".
"""

from __future__ import annotations

import argparse
import copy
import fnmatch
import json
import math
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.classes import CLASSES, Classifier

GIB = 2**30
Tensor = tuple[str, tuple[int, ...], str]  # name, shape, dtype

# Sources that state counts only: what kind of model a name is, and whether its head is its embedding.
FAMILIES = (
    (r"gemma-2-", "gemma2", True),
    (r"gemma-3-", "gemma3", True),
    (r"phi-2$", "phi", False),
    (r"phi-4$", "phi3", False),
    (r"Qwen3-(0\.6|1\.7|4)B", "qwen3", True),
    (r"Qwen3-", "qwen3", False),
    (r"Qwen2\.5-(0\.5|1\.5|3)B", "qwen2", True),
    (r"Qwen|QwQ|Kimi-Dev", "qwen2", False),
    (r"Mistral-Small-3", "mistral3", False),
    (r"Mistral|Mixtral", "mistral", False),
    (r"Llama|llama", "llama", False),
    (r"granite-vision", "llava_next", True),
    (r"granite", "granite", True),
    (r"Kimi-VL", "kimi_vl", False),
)
# Model types that transformers does not know, and those whose tensors have the same sizes.
SAME_SIZES = {
    "deepseek_ref": "deepseek_v4",
    "kimi_k2": "deepseek_v3",
    "kimi_vl": "deepseek_v3",
    "mimo": "qwen2",
    "minimax_m3": "minimax_m3_vl_text",
    "qwen": "qwen2",
}
# The decoder's type in configurations that leave it open.
DECODERS = {
    "kimi_k25": "deepseek_v3",
    "llava": "llama",
    "llava_next": "granite",
    "minimax_m3_vl": "minimax_m3_vl_text",
    "mistral3": "mistral",
}
# Encoders where the facts do not repeat them: those of the same family's other models.
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
}
# Facts that sources leave out, by a pattern over the name. Each is checked by the checkpoint's total where that is
# known.
FILLED: tuple[tuple[str, dict[str, Any]], ...] = (
    # The note of the facts: vLLM uses 262208 rows.
    (r"google/gemma-3-(4|12|27)b", {"vocab_size": 262208, "vision_config": SIGLIP, "max_position_embeddings": 131072}),
    (r"google/gemma-3-", {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "rope_local_base_freq": 10000.0}),
    # Total and layers equal those of Qwen2.5-72B.
    (r"Kimi-Dev-72B", {"like": "Qwen/Qwen2.5-72B-Instruct"}),
    (r"granite-3.1-8b", {"like": "ibm-granite/granite-3.3-8b-instruct"}),
    (
        r"granite-3.1-2b|granite-vision-3.3-2b",
        {
            "like": "ibm-granite/granite-3.3-8b-instruct",
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_attention_heads": 32,
            "head_dim": 64,
        },
    ),
    (
        r"Mistral-Small-3\.",
        {
            "hidden_size": 5120,
            "num_attention_heads": 32,
            "intermediate_size": 32768,
            "vocab_size": 131072,
            "max_position_embeddings": 131072,
            "vision_config": {
                "model_type": "pixtral",
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 1540,
                "patch_size": 14,
            },
        },
    ),
    (
        r"Kimi-VL-A3B",
        {
            "hidden_size": 2048,
            "intermediate_size": 11264,
            "moe_intermediate_size": 1408,
            "n_routed_experts": 64,
            "n_shared_experts": 2,
            "num_experts_per_tok": 6,
            "first_k_dense_replace": 1,
            "vocab_size": 163840,
            "kv_lora_rank": 512,
            "q_lora_rank": None,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
            "max_position_embeddings": 131072,
            "is_multimodal_without_facts": True,
        },
    ),
    (r"Qwen3\.8-27B", {"like": "Qwen/Qwen3.5-27B"}),
    (r"gemma-4-E2B", {"unknown": True}),
    (
        r"Llama-4-",
        {
            "vision_config": {
                "model_type": "llama4_vision_model",
                "hidden_size": 1408,
                "intermediate_size": 5632,
                "num_hidden_layers": 34,
                "num_attention_heads": 16,
                "image_size": 336,
                "patch_size": 14,
                "projector_input_dim": 4096,
                "projector_output_dim": 4096,
                "vision_output_dim": 4096,
            }
        },
    ),
    (r"gemma-4-(26B|31B)|Gemma-4-", {"hidden_size_per_layer_input": 0}),
    # 512 experts of 40 layers hold 120 billion parameters only behind a narrower state.
    (r"Nemotron-3-Super-120B", {"moe_latent_size": 1024}),
    (r"Nemotron-3-Ultra|deepseek-vl2|Nemotron-Super-49B", {"unknown": True}),
    (
        r"llava-1.5-7b",
        {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32},
    ),
    # The copies are of the base models: what was loaded at TP 1 and 4 has tables of 32768 positions.
    (r"Qwen/Qwen2(\.5)?-7B-Instruct$", {"max_position_embeddings": 32768, "override": True}),
    # Its intermediate_size counts gate and up projection together.
    (r"Qwen/Qwen-7B", {"intermediate_size": 11008, "override": True}),
    (r"opt-125m|opt-", {"tie_word_embeddings": True}),
    (r"gemma-(2-|7b)", {"tie_word_embeddings": True}),
)
# Models of records that the facts lack, and the models of the facts whose architecture and sizes they share.
DERIVED = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": "Qwen/Qwen2.5-14B-Instruct",
    "ibm-granite/granite-3.3-2b-instruct": "ibm-granite/granite-3.1-2b-instruct",
    "jakiAJK/DeepSeek-R1-Distill-Qwen-7B_GPTQ-int4": "Qwen/Qwen2.5-7B",
}
# Quantization that a repository's name tells where its configuration is not known.
NAMED_QUANTIZATION: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"FP8-Block", {"quant_method": "compressed-tensors", "bits": 8, "kind": "float", "block": [128, 128]}),
    (r"(?i)fp8-dynamic", {"quant_method": "compressed-tensors", "bits": 8, "kind": "float"}),
    (r"Meta-Llama-3-8B-Instruct-FP8", {"quant_method": "fp8", "bits": 8, "kind": "float"}),
    (r"unsloth/Qwen3-8B-FP8|Qwen3\.8-27B-FP8", {"quant_method": "fp8", "weight_block_size": [128, 128]}),
    (r"w8a8", {"quant_method": "compressed-tensors", "bits": 8, "kind": "int"}),
    (r"Meta-Llama-3.1-8B-Instruct-quantized.w4a16", {"quant_method": "gptq", "bits": 4, "group": 128}),
    (r"w4a16|27B-INT4", {"quant_method": "compressed-tensors", "bits": 4, "kind": "int", "group": 128}),
    (r"AWQ-4bit", {"quant_method": "compressed-tensors", "bits": 4, "kind": "int", "group": 32}),
    # Made of blocks of 32 (Q4_0).
    (r"gemma-3-12b-it-int4-awq", {"quant_method": "awq", "bits": 4, "group": 32}),
    (r"GPTQ-int4", {"quant_method": "gptq", "bits": 4, "group": 128}),
    (r"(?i)awq", {"quant_method": "awq", "bits": 4, "group": 128}),
    (r"bnb-4bit", {"quant_method": "bitsandbytes", "bits": 4}),
    (
        r"Kimi-K2-Thinking|Kimi-K2.6$",
        {"quant_method": "compressed-tensors", "bits": 4, "kind": "int", "group": 32, "ignore_count": 4},
    ),
    (r"NVFP4", {"quant_method": "modelopt", "quant_algo": "NVFP4"}),
)
# Repositories whose quantization differs by layer in a way that no source tells.
UNCERTAIN = re.compile(r"unsloth-bnb-4bit|GGUF|NVFP4-MTP|Qwen3\.8|AWQ-4bit")
# Fields of transformers that say nothing of sizes.
DROPPED = {
    "transformers_version",
    "id2label",
    "label2id",
    "problem_type",
    "_name_or_path",
    "return_dict",
    "chunk_size_feed_forward",
}
LINEAR = {"attention", "key_value", "qkv", "latent", "state", "mlp", "expert", "shared_expert"}


def main() -> int:
    """Write the file and say what was met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("facts", type=Path)
    parser.add_argument("--out", type=Path, default=Path("tools/accuracy/models.json"))
    parser.add_argument("--configs", type=Path, help="also write each configuration here, for oracle_weights.py")
    parser.add_argument("--only", default="", help="a pattern over the names")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    facts = {name: value for name, value in json.loads(options.facts.read_text()).items() if not name.startswith("_")}
    for name, base in DERIVED.items():
        facts.setdefault(name, {"source": None, "source_kind": "derived", "architecture_of": base, "config": None})
    result = {}
    for name in facts:
        if re.search(options.only, name):
            entry = entry_of(name, facts)
            result[name] = entry
            print(f"{name}: {entry['basis']}, {(entry['weights'] or {}).get('total_bytes', 0) / GIB:.4f} GiB", end="")
            print(
                f" ({entry['computed_over_headers']})" if "computed_over_headers" in entry else "", entry.get("why", "")
            )
            if options.configs and entry["weights"]:
                folder = options.configs / name.replace("/", "--")
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "config.json").write_text(json.dumps(entry["config"]))
    lines = (f"{json.dumps(name)}: {json.dumps(result[name], sort_keys=True)}" for name in sorted(result))
    options.out.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


def entry_of(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """One model's line of models.json."""
    fact = facts[name]
    config, quantization, whole = facts_of(name, facts)
    entry: dict[str, Any] = {"source": fact["source"], "source_kind": fact["source_kind"]}
    if "architecture_of" in fact:
        entry["architecture_of"] = fact["architecture_of"]
    total = fact.get("safetensors_total_gib_by_llm_d_planner")
    try:
        if config.pop("unknown", False):
            raise ValueError("the source tells too little")
        hf, tensors = tensors_of(config)
    except Exception as error:
        # Whatever a library thinks of an unusual configuration, the other models shall be written.
        return {
            **entry,
            "config": config,
            "weights": None,
            "basis": "none",
            "why": f"{type(error).__name__}: {error}"[:160],
        }
    dtype = "F16" if str(config.get("torch_dtype")) == "float16" else "BF16"
    profile = aggregate(quantized(tensors, quantization, dtype, config), decoder_layers(config))
    drafts = int(config.get("num_nextn_predict_layers") or config.get("mtp_num_hidden_layers") or 0)
    if drafts and not profile["bytes_by_class"]["draft"]:
        # Transformers builds no draft layers: each is like the last layer, with a projection of two states into one.
        add(profile, "draft", dtype, drafts * (profile["bytes_by_layer"][-1] + 4 * config["hidden_size"] ** 2))
    basis = "computed" if whole and not UNCERTAIN.search(name) else "incomplete"
    if total:
        entry["computed_over_headers"] = round(profile["total_bytes"] / (total * GIB), 5)
        difference = int(total * GIB) - profile["total_bytes"]
        if not whole and difference > 0:
            # What the architecture lacks here is its encoder.
            add(profile, "vision", dtype, difference)
        elif abs(difference) < 0.02 * profile["total_bytes"]:
            scale(profile, int(total * GIB) / profile["total_bytes"])
        basis = "headers_total"
    entry.update(config=clean(hf, config, quantization), weights=profile, basis=basis)
    return entry


def facts_of(name: str, facts: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None, bool]:
    """Configuration as far as it is known or follows, its quantization, and whether all parts are known."""
    base = name
    while facts[base].get("config") is None:
        base = facts[base]["architecture_of"]
    config = copy.deepcopy(facts[base]["config"])
    filled: dict[str, Any] = {}
    for pattern, more in FILLED:
        if re.search(pattern, base):
            filled = {**more, **filled}
    override = filled.pop("override", False)
    like = filled.pop("like", None)
    if override:
        config.update(filled)
    elif like:
        config = {**copy.deepcopy(facts[like]["config"]), **config}
        config.update(filled)
    else:
        config = {**filled, **config, **{key: filled[key] for key in ("vocab_size", "vision_config") if key in filled}}
    whole = not config.pop("is_multimodal_without_facts", False) and "vision-3.3" not in base
    for key in ("layers", "litgpt_sliding_window_indices"):
        config.pop(key, None)
    if not config.get("model_type"):
        found = next(((kind, tied) for pattern, kind, tied in FAMILIES if re.search(pattern, base)), None)
        if found:
            config["model_type"], tied = found
            config.setdefault("tie_word_embeddings", tied)
    if str(config.get("model_type", "")).startswith(("mistral", "mixtral", "ministral")):
        # The default of transformers is the window of Mistral's first model; those since then have none.
        config.setdefault("sliding_window", None)
    quantization = config.pop("quantization_config", None)
    if "hf_quant_config" in facts[base]:
        quantization = {"quant_method": "modelopt", **(quantization or {}), **facts[base]["hf_quant_config"]}
    if quantization and re.search(r"deepseek-ai/DeepSeek-V4", base):
        # expert_dtype is fp4 in its configurations (models/deepseek_v4 of 0.33.0).
        quantization["experts"] = "mxfp4"
    if base != name:
        if quantization and quantization.get("quant_method") == "modelopt" and "NVFP4" not in name:
            quantization = None
        named = [found for pattern, found in NAMED_QUANTIZATION if re.search(pattern, name)]
        if named and not (quantization and "NVFP4" in name):
            quantization = dict(named[0])
    return config, quantization, whole


def decoder_layers(config: dict[str, Any]) -> int:
    """Decoder layers."""
    return int(config["num_hidden_layers"])


def tensors_of(config: dict[str, Any]) -> tuple[Any, list[tuple[str, tuple[int, ...]]]]:
    """The configuration as transformers completes it, and names and shapes of all tensors of the checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = dict(config)
    kind = SAME_SIZES.get(config["model_type"], config["model_type"])
    vision = config.pop("vision_config", None)
    known = CONFIG_MAPPING[kind]
    for key in ("architectures", "model_type", "auto_map"):
        config.pop(key, None)
    if "text_config" in getattr(known, "sub_configs", {}):
        text = {**config, "model_type": DECODERS.get(kind) or known.sub_configs["text_config"].model_type}
        own = {"text_config": text, "tie_word_embeddings": config.get("tie_word_embeddings", False)}
        if vision:
            own["vision_config"] = vision
        hf = known(**own)
        auto = AutoModelForImageTextToText
    else:
        hf = known(**config)
        auto = AutoModelForCausalLM
    hf.dtype = torch.bfloat16
    with torch.device("meta"):
        try:
            model = auto.from_config(hf)
        except ValueError:
            model = AutoModelForCausalLM.from_config(hf)
    tied = bool(getattr(hf.get_text_config(), "tie_word_embeddings", False))
    found = [(name, tuple(tensor.shape)) for name, tensor in model.named_parameters()]
    hf.architecture = type(model).__name__
    if tied:
        found = [one for one in found if not one[0].startswith("lm_head")]
    return hf, found


def quantized(
    tensors: list[tuple[str, tuple[int, ...]]], quantization: dict[str, Any] | None, dtype: str, config: dict[str, Any]
) -> Iterator[tuple[str, str, int, int]]:
    """Name, dtype, elements and bytes of what the checkpoint stores."""
    classify = Classifier(decoder_layers(config)).classify
    for name, shape in tensors:
        elements = math.prod(shape)
        kind = classify(name)[0]
        linear = kind in LINEAR and len(shape) >= 2 and not name.endswith("bias") and "conv" not in name
        method = scheme(quantization, name, kind) if linear and quantization else None
        if method is None:
            yield name, dtype, elements, 2 * elements
        else:
            yield from method(name, elements, shape, dtype)


def scheme(quantization: dict[str, Any], name: str, kind: str) -> Any:
    """How a linear layer is stored, or None for as it is."""
    method = str(quantization.get("quant_method", "modelopt"))
    algorithm = str(quantization.get("quant_algo") or quantization.get("moe_quant_algo") or "")
    if method == "fbgemm_fp8":
        # Its list, which the facts cut short: all of attention, and the first and the last layer.
        layer = re.search(r"layers\.(\d+)\.", name)
        inner = kind == "mlp" and layer and int(layer[1]) not in (0, 125)
        return _fp8(None) if inner else None
    excluded = [
        str(one)
        for key in ("modules_to_not_convert", "ignore_head", "exclude_modules_head", "ignore")
        for one in quantization.get(key) or []
    ]
    if is_excluded(name, excluded):
        return None
    if kind == "expert" and quantization.get("experts") == "mxfp4":
        return _mxfp4
    groups = quantization.get("config_groups") or {}
    weight = next(iter(groups.values()), {}).get("weights", {}) if groups else {}
    bits = quantization.get("bits") or weight.get("num_bits")
    if method == "mxfp4" or "mxfp4" in str(quantization.get("format", "")):
        return _mxfp4 if kind == "expert" else None
    if algorithm in ("NVFP4", "MIXED_PRECISION") or quantization.get("moe_quant_algo") == "NVFP4":
        if algorithm == "MIXED_PRECISION" and kind not in ("expert", "mlp", "shared_expert"):
            return _fp8(None)
        return _nvfp4
    if method == "fp8" or algorithm == "FP8":
        return _fp8(quantization.get("weight_block_size"))
    if method == "bitsandbytes":
        return _bitsandbytes
    if method in ("awq", "gptq"):
        return _packed(quantization.get("group", 128), zeros=True)
    if method == "compressed-tensors" and bits == 8:
        return _fp8(quantization.get("block"), "I8" if quantization.get("kind") == "int" else "F8_E4M3", "BF16")
    if method == "compressed-tensors" and bits == 4:
        # Models of Moonshot quantize their routed experts alone.
        if "ignore_count" in quantization and kind != "expert":
            return None
        return _packed(quantization.get("group") or weight.get("group_size") or 128, zeros=False)
    raise ValueError(f"quantization {method} {algorithm} is not known here")


def is_excluded(name: str, patterns: list[str]) -> bool:
    """Whether a list of modules left as they are names this one. Lists are cut short in the facts: what they say of a
    part of one layer holds for that part of all, unless it is a whole layer."""
    module = re.sub(r"^(model\.)?(language_model\.)?(model\.)?(backbone\.)?", "", name.rsplit(".", 1)[0])
    for pattern in patterns:
        pattern = re.sub(r"^(model\.)?(language_model\.)?(model\.)?(backbone\.)?", "", pattern)
        if re.fullmatch(r"layers\.\d+\.?\*?", pattern):
            if module.startswith(re.sub(r"\.?\*?$", ".", pattern)):
                return True
            continue
        pattern = re.sub(r"layers\.\d+\.", "layers.*.", pattern)
        if (
            fnmatch.fnmatch(module, pattern)
            or fnmatch.fnmatch(module, f"{pattern}.*")
            or module.endswith(f".{pattern}")
        ):
            return True
    return False


def _fp8(block: list[int] | None, kind: str = "F8_E4M3", scale_kind: str = "F32") -> Any:
    def store(name: str, elements: int, shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, str, int, int]]:
        yield name, kind, elements, elements
        matrices = math.prod(shape[:-2])
        if block:
            scales = matrices * math.ceil(shape[-2] / block[0]) * math.ceil(shape[-1] / block[1])
        else:
            scales = matrices * shape[-2]
        yield f"{name}_scale", scale_kind, scales, scales * (4 if scale_kind == "F32" else 2)

    return store


def _packed(group: int, zeros: bool) -> Any:
    def store(name: str, elements: int, shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, str, int, int]]:
        yield f"{name}_packed", "I32", elements // 8, elements // 2
        yield f"{name}_scale", dtype, elements // group, 2 * elements // group
        if zeros:
            yield f"{name}_zeros", "I32", elements // group // 8, elements // group // 2

    return store


def _mxfp4(name: str, elements: int, shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, str, int, int]]:
    yield f"{name}_blocks", "U8", elements // 2, elements // 2
    yield f"{name}_scales", "U8", elements // 32, elements // 32


def _nvfp4(name: str, elements: int, shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, str, int, int]]:
    yield name, "U8", elements // 2, elements // 2
    yield f"{name}_scale", "F8_E4M3", elements // 16, elements // 16


def _bitsandbytes(name: str, elements: int, shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, str, int, int]]:
    yield name, "U8", elements // 2, elements // 2
    yield f"{name}.absmax", "U8", elements // 64, elements // 64
    yield f"{name}.nested_absmax", "F32", elements // 64 // 256, elements // 64 // 64


def aggregate(tensors: Iterator[tuple[str, str, int, int]], layers: int) -> dict[str, Any]:
    """The sums that model_info gives: _checkpoint/totals.py."""
    classify = Classifier(layers).classify
    bytes_by_class: dict[str, dict[str, int]] = {tensor_class: {} for tensor_class in CLASSES}
    bytes_by_dtype: dict[str, int] = {}
    parameters: dict[str, int] = {}
    bytes_by_layer = [0] * layers
    for name, dtype, elements, size in tensors:
        tensor_class, layer = classify(name)
        in_class = bytes_by_class[tensor_class]
        in_class[dtype] = in_class.get(dtype, 0) + size
        bytes_by_dtype[dtype] = bytes_by_dtype.get(dtype, 0) + size
        parameters[dtype] = parameters.get(dtype, 0) + elements
        if layer is not None:
            bytes_by_layer[layer] += size
    return {
        "format": "safetensors",
        "files": 1,
        "total_bytes": sum(bytes_by_dtype.values()),
        "bytes_by_dtype": bytes_by_dtype,
        "parameters_by_dtype": parameters,
        "bytes_by_class": bytes_by_class,
        "bytes_by_layer": bytes_by_layer,
        "layer_count_seen": sum(1 for size in bytes_by_layer if size),
    }


def add(profile: dict[str, Any], tensor_class: str, dtype: str, size: int) -> None:
    """Put more bytes into a class."""
    in_class = profile["bytes_by_class"][tensor_class]
    in_class[dtype] = in_class.get(dtype, 0) + size
    profile["bytes_by_dtype"][dtype] = profile["bytes_by_dtype"].get(dtype, 0) + size
    profile["total_bytes"] += size


def scale(profile: dict[str, Any], factor: float) -> None:
    """Meet a total that is known."""
    for sizes in (profile["bytes_by_dtype"], *profile["bytes_by_class"].values()):
        for dtype in sizes:
            sizes[dtype] = round(sizes[dtype] * factor)
    profile["bytes_by_layer"] = [round(size * factor) for size in profile["bytes_by_layer"]]
    profile["total_bytes"] = sum(profile["bytes_by_dtype"].values())


def clean(hf: Any, config: dict[str, Any], quantization: dict[str, Any] | None) -> dict[str, Any]:
    """The configuration as config.json has it: the decoder's fields nested where the architecture nests them."""
    found = json.loads(hf.to_json_string(use_diff=False))
    text = found.get("text_config") if isinstance(found.get("text_config"), dict) else found
    for key, value in config.items():
        if key not in ("vision_config", "model_type", "architectures", "rope_scaling"):
            text.setdefault(key, value)
    found = {key: value for key, value in found.items() if value not in (None, {}, []) and key not in DROPPED}
    if "q_lora_rank" in config:
        # None means that queries have no narrow side, which a missing key does not.
        found.get("text_config", found)["q_lora_rank"] = config["q_lora_rank"]
    found["architectures"] = config.get("architectures") or [hf.architecture]
    # Where a configuration says nothing, the class decides; what was built is what counts.
    found["tie_word_embeddings"] = bool(getattr(hf.get_text_config(), "tie_word_embeddings", False))
    if quantization:
        found["quantization_config"] = quantization
    dtype = config.get("torch_dtype") or config.get("dtype") or "bfloat16"
    found["torch_dtype"] = dtype
    return found


if __name__ == "__main__":
    sys.exit(main())
