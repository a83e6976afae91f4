# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parallel sizes and the length against the shape of the model: what vLLM refuses once it has read config.json.

verify_with_parallel_config and get_and_verify_max_len of config/model.py (config.py in older releases). Pure.
"""

from __future__ import annotations

import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import Asked, read_asked, whole
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry, Unreadable, geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.engine import Engine, holds_in
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules import more_than_one

# 0.11.1 is the first release that compares the size with the model; 0.10.2 and 0.11.0 have the option only.
_CONTEXT_PARALLEL_CHECKED = Version("0.11.1")
_EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts", "block_configs")
_LARGEST_SHOWN = 16
_LAYERS_VARIABLE = "VLLM_PP_LAYER_PARTITION"
_LENGTH_VARIABLE = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"


def check_parallel(spec: ModelSpec, release: Release, profile: t.Mapping[str, t.Any] | None) -> list[Problem]:
    """What the model's shape forbids; profile: of model_info. Says nothing where hf_overrides may change the shape."""
    if profile is None or "hf_overrides" in spec.engine:
        return []
    config, path = profile["config"], profile["text_config_path"]
    try:
        shape = geometry(config, path)
    except Unreadable:
        return []
    asked, _faults = read_asked(spec.engine, spec.env)
    return [
        *_tensor(spec, shape, asked),
        *_pipeline(spec, release, shape, asked),
        *_experts(spec, release, config, path),
        *_context(spec, release, shape, asked),
        *_dense(spec, release, config, path),
        *_length(spec, shape, asked),
        *_tokens(spec, release, shape, asked),
    ]


def _tensor(spec: ModelSpec, shape: Geometry, asked: Asked) -> list[Problem]:
    """Attention heads are divided; KV heads are divided, or each is held by the same number of GPUs.

    The second is QKVParallelLinear in model_executor/layers/linear.py of every release; MLA has no such heads.
    """
    size = asked.tensor_parallel
    if _divides(shape, size):
        return []
    heads = f"{shape.heads} attention heads"
    if shape.heads % size == 0:
        heads = f"{shape.kv_heads} KV heads"
    splits = ", ".join(str(one) for one in range(1, _LARGEST_SHOWN + 1) if _divides(shape, one))
    fix = f"Write one of {splits}"
    return [Problem(spec.name, "engine.tensor_parallel_size", f"cannot split the model's {heads}", fix, size)]


def _divides(shape: Geometry, size: int) -> bool:
    split = shape.heads % size == 0
    shared = shape.kv_heads % size == 0 or size % shape.kv_heads == 0
    return split and (shared or bool(shape.mla_width))


def _pipeline(spec: ModelSpec, release: Release, shape: Geometry, asked: Asked) -> list[Problem]:
    """get_pp_indices in distributed/utils.py: a partition that is given has to name every layer once."""
    given = spec.env.get(_LAYERS_VARIABLE)
    if given is None or _LAYERS_VARIABLE not in release.environment or asked.pipeline_parallel < 2:
        return []
    field, example = f"env.{_LAYERS_VARIABLE}", ",".join(map(str, _even(shape.layers, asked.pipeline_parallel)))
    counts = [whole(part) for part in given.split(",")]
    if None in counts:
        reason = "is no list of layers for each pipeline stage"
    elif len(counts) != asked.pipeline_parallel:
        reason = f"names {len(counts)} stages, and engine.pipeline_parallel_size is {asked.pipeline_parallel}"
    elif sum(filter(None, counts)) != shape.layers:
        reason = f"adds up to {sum(filter(None, counts))} layers, and the model has {shape.layers}"
    else:
        return []
    return [Problem(spec.name, field, reason, f"Leave it out, or write for example {example}", remedy={})]


def _even(layers: int, stages: int) -> list[int]:
    """Layers of each stage, as even as can be."""
    return [layers // stages + (stage < layers % stages) for stage in range(stages)]


def _experts(spec: ModelSpec, release: Release, config: t.Mapping[str, t.Any], path: str) -> list[Problem]:
    """_verify_with_expert_parallelism, from the first release of the option on."""
    if spec.engine.get("enable_expert_parallel") is not True or "enable_expert_parallel" not in release.options:
        return []
    if _has_experts(config, path):
        return []
    return [
        Problem(
            spec.name,
            "engine.enable_expert_parallel",
            "the model has no experts",
            "Leave it out",
            True,
            remedy={},
        )
    ]


def _has_experts(config: t.Mapping[str, t.Any], path: str) -> bool:
    text: t.Any = config
    for key in filter(None, path.split(".")):
        text = text[key]
    return any(text.get(name) for name in _EXPERTS)


def _dense(spec: ModelSpec, release: Release, config: t.Mapping[str, t.Any], path: str) -> list[Problem]:
    """create_engine_config in engine/arg_utils.py of 0.21.0: ranks with servers of their own are for experts."""
    engine = Engine(spec, release)
    balanced = engine.on("data_parallel_external_lb") or engine.has("data_parallel_rank")
    if (
        not balanced
        or not more_than_one(engine, "data_parallel_size")
        or _has_experts(config, path)
        or not holds_in(release.version, "0.21.0", None)
    ):
        return []
    field = "data_parallel_rank" if engine.has("data_parallel_rank") else "data_parallel_external_lb"
    reason = "is refused for models without experts"
    fix = "Leave engine.data_parallel_size and what belongs to it out; servers of the model need not know each other"
    return [Problem(spec.name, f"engine.{field}", reason, fix, engine.shown(field))]


def _context(spec: ModelSpec, release: Release, shape: Geometry, asked: Asked) -> list[Problem]:
    """Decode context parallelism shares what KV heads leave of the tensor parallel size; MLA has one KV head."""
    name = "decode_context_parallel_size"
    size = whole(spec.engine.get(name))
    if (
        size is None
        or size < 2
        or name not in release.options
        or Version(release.version) < _CONTEXT_PARALLEL_CHECKED
        or shape.mla_width
    ):
        return []
    tensor, per_head = asked.tensor_parallel, shape.heads // shape.kv_heads
    largest = tensor // shape.kv_heads
    if tensor <= shape.kv_heads:
        reason = (
            f"needs an engine.tensor_parallel_size of more than the model's {shape.kv_heads} KV heads, not {tensor}"
        )
    elif size > largest:
        reason = (
            f"is more than {largest}, which is engine.tensor_parallel_size {tensor} divided by the model's "
            f"{shape.kv_heads} KV heads"
        )
    elif per_head % size:
        reason = f"does not divide the model's {per_head} attention heads for each KV head"
    else:
        return []
    fits = [one for one in range(2, largest + 1) if per_head % one == 0 and tensor % one == 0]
    fix = f"Write one of {', '.join(map(str, fits))}" if tensor > shape.kv_heads and fits else "Leave it out"
    return [Problem(spec.name, f"engine.{name}", reason, fix, size, remedy=None if fits else {})]


def _length(spec: ModelSpec, shape: Geometry, asked: Asked) -> list[Problem]:
    lifted = spec.env.get(_LENGTH_VARIABLE, "").strip().lower() in ("1", "true")
    length = asked.max_model_len
    if not length or length <= shape.max_positions or not shape.is_length_certain or lifted:
        return []
    reason = f"is more than the {shape.max_positions} tokens that the model is made for"
    fix = f"Set it to {shape.max_positions}, or less"
    return [Problem(spec.name, "engine.max_model_len", reason, fix, length)]


def _tokens(spec: ModelSpec, release: Release, shape: Geometry, asked: Asked) -> list[Problem]:
    """Numbers of tokens against the model's own length, where the spec gives none.

    verify_max_model_len in config/scheduler.py of 0.32.0, _verify_args in config.py of 0.6.0.
    """
    if "max_model_len" in spec.engine or not shape.is_length_certain:
        return []
    engine, version, length = Engine(spec, release), release.version, shape.max_positions
    threshold, batched = "long_prefill_token_threshold", "max_num_batched_tokens"
    problems = []
    if holds_in(version, "0.27.0", None) and engine.has(threshold) and (engine.number(threshold) or 0) > length:
        reason = f"is more than the {length} tokens that the model is made for"
        problems.append(
            Problem(spec.name, f"engine.{threshold}", reason, f"Write {length} or less", engine.shown(threshold))
        )
    whole_prompts = engine.off("enable_chunked_prefill") and not holds_in(version, "0.8.0", "0.11.0")
    if whole_prompts and asked.max_num_batched_tokens is not None and asked.max_num_batched_tokens < length:
        reason = f"is less than the model's {length} tokens, while engine.enable_chunked_prefill is off"
        fix = f"Write {length} or more, add engine.max_model_len, or leave engine.enable_chunked_prefill out"
        problems.append(Problem(spec.name, f"engine.{batched}", reason, fix, engine.shown(batched)))
    return problems
