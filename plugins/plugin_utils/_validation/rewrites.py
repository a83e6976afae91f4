# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to write instead, by the value and by what stands beside it: the newest spelling first. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import whole
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migration import Case, Remedy, as_mapping

# From here on models read their rotary embedding from rope_parameters of the model's config.json, which overrides
# replace as a whole (patch_rope_parameters in transformers_utils/config.py of 0.12.0).
_ROPE_PARAMETERS = "0.12.0"
# The first release whose package allows transformers 5, which keeps rope_theta inside rope_parameters only: overridden
# beside it, it is ignored without a word (vllm.egg-info of 0.19.1, modeling_rope_utils.py of transformers 5.19.0).
_TRANSFORMERS_5 = "0.19.1"


def written(**options: t.Any) -> Remedy:
    return {"engine": options}


def leave_out(_case: Case) -> t.Sequence[Remedy]:
    return [{}]


def nothing(_case: Case) -> t.Sequence[Remedy]:
    return []


def same_as(*options: str) -> t.Callable[[Case], t.Sequence[Remedy]]:
    """The same value under another name."""
    return lambda case: [written(**{option: case.value}) for option in options]


def switch(on: t.Sequence[Remedy] = (), off: t.Sequence[Remedy] = ({},)) -> t.Callable[[Case], t.Sequence[Remedy]]:
    """Proposals for true and for false; by default nothing stands for true, and leaving it out for false."""
    return lambda case: on if case.value is True else off if case.value is False else []


def by_text(
    answers: t.Mapping[str, t.Sequence[Remedy]],
) -> t.Callable[[Case], t.Sequence[Remedy]]:
    """Proposals by the value's text."""
    return lambda case: answers.get(str(case.value), [])


def not_log_requests(case: Case) -> t.Sequence[Remedy]:
    return [written(enable_log_requests=not case.value)] if isinstance(case.value, bool) else []


# Options of 0.6.0 to 0.8.2 and the fields of SpeculativeConfig that took their place: create_speculative_config in
# arg_utils.py of 0.8.2, the one release that has both.
_SPECULATIVE = {
    "speculative_model": "model",
    "num_speculative_tokens": "num_speculative_tokens",
    "speculative_model_quantization": "quantization",
    "speculative_draft_tensor_parallel_size": "draft_tensor_parallel_size",
    "speculative_max_model_len": "max_model_len",
    "speculative_disable_mqa_scorer": "disable_mqa_scorer",
    "speculative_disable_by_batch_size": "disable_by_batch_size",
    "ngram_prompt_lookup_max": "prompt_lookup_max",
    "ngram_prompt_lookup_min": "prompt_lookup_min",
    "spec_decoding_acceptance_method": "acceptance_method",
    "typical_acceptance_sampler_posterior_threshold": "posterior_threshold",
    "typical_acceptance_sampler_posterior_alpha": "posterior_alpha",
    "disable_logprobs_during_spec_decoding": "disable_logprobs",
}
_SPECULATIVE_NUMBERS = {
    "num_speculative_tokens",
    "draft_tensor_parallel_size",
    "max_model_len",
    "disable_by_batch_size",
    "prompt_lookup_max",
    "prompt_lookup_min",
}


def speculative(case: Case) -> t.Sequence[Remedy]:
    """All options for speculation in one speculative_config, the same for each of them."""
    known = case.fields("SpeculativeConfig")
    config: dict[str, t.Any] = {}
    for option, field in _SPECULATIVE.items():
        value = case.engine.get(option)
        if value is None or (known and field not in known):
            continue
        if field in _SPECULATIVE_NUMBERS:
            value = whole(value)
            if value is None:
                return []
        elif isinstance(value, list | dict):
            return []
        config[field] = value
    if "model" not in config and "num_speculative_tokens" not in config:
        # Without these two 0.8.2 did not speculate at all.
        return [{}]
    if config.get("model") in ("[ngram]", "ngram"):
        del config["model"]
        # 0.8.2 searched from windows of one token on; its successors from prompt_lookup_max on.
        if "prompt_lookup_max" in config:
            config.setdefault("prompt_lookup_min", 1)
        config = {"method": "ngram", **config}
    return [written(speculative_config=config)]


def separate_speculative(case: Case) -> t.Sequence[Remedy]:
    """A speculative_config as the options that 0.6.0 to 0.8.1 had."""
    config = as_mapping(case.value)
    if config is None:
        return []
    options = {field: option for option, field in _SPECULATIVE.items()}
    method = config.pop("method", None)
    if method == "ngram":
        config["model"] = "[ngram]"
    elif method not in (None, "draft_model", "medusa", "mlp_speculator", "eagle"):
        return []
    if not config.keys() <= options.keys():
        return []
    return [written(**{options[field]: value for field, value in config.items()})]


SHORT_SPECULATIVE = {"spec_method": "method", "spec_model": "model", "spec_tokens": "num_speculative_tokens"}


def short_speculative(case: Case) -> t.Sequence[Remedy]:
    """All three in one speculative_config, or as the options before it; the same for each of them."""
    config = {field: case.engine[option] for option, field in SHORT_SPECULATIVE.items() if option in case.engine}
    return [written(speculative_config=config), *separate_speculative(dataclasses.replace(case, value=config))]


# What backend:options of 0.8.0 to 0.9.2 said (_extract_backend_options in config.py of 0.9.0).
_BACKEND_OPTIONS = {
    "no-fallback": "disable_fallback",
    "disable-any-whitespace": "disable_any_whitespace",
    "no-additional-properties": "disable_additional_properties",
}


# The backends that two of them are for; any other is refused (__post_init__ of DecodingConfig in config.py of 0.9.0,
# validator of StructuredOutputsConfig in config/structured_outputs.py of 0.33.0).
_BACKENDS = {
    "disable_any_whitespace": ("xgrammar", "guidance"),
    "disable_additional_properties": ("guidance",),
}


def _backend_fits(config: t.Mapping[str, t.Any]) -> bool:
    return all(config.get("backend") in backends for field, backends in _BACKENDS.items() if config.get(field))


def structured(case: Case) -> t.Sequence[Remedy]:
    """The options guided_decoding_* in one structured_outputs_config, the same for each of them."""
    config: dict[str, t.Any] = {}
    backend = case.engine.get("guided_decoding_backend")
    if isinstance(backend, str):
        config["backend"], _colon, options = backend.partition(":")
        wanted = [option.strip() for option in options.split(",")]
        config |= {field: True for option, field in _BACKEND_OPTIONS.items() if option in wanted}
    elif backend is not None:
        return []
    for field in _BACKEND_OPTIONS.values():
        value = case.engine.get(f"guided_decoding_{field}")
        if not isinstance(value, bool | None):
            return []
        if value:
            config[field] = True
    separate = {f"guided_decoding_{field}": value for field, value in config.items()}
    # 0.18.0 dropped the field: requests that the backend cannot serve fail, and nothing falls back.
    known = case.fields("StructuredOutputsConfig")
    if known and "disable_fallback" not in known:
        config.pop("disable_fallback", None)
    if not config:
        return [{}]
    present = as_mapping(case.engine.get("structured_outputs_config")) or {}
    if not _backend_fits({**config, **present}):
        return []
    return [written(structured_outputs_config=config), written(**separate)]


def guided(case: Case) -> t.Sequence[Remedy]:
    """A structured_outputs_config as the options that 0.6.0 to 0.10.2 had."""
    config = as_mapping(case.value)
    if config is None or not config.keys() <= {"backend", *_BACKEND_OPTIONS.values()}:
        return []
    wanted = {field: value for field, value in config.items() if value is not False}
    if not _backend_fits(wanted) or not all(value is True for field, value in wanted.items() if field != "backend"):
        return []
    options = {option: field for option, field in _BACKEND_OPTIONS.items() if field in wanted}
    proposals = [written(**{f"guided_decoding_{field}": value for field, value in wanted.items()})]
    backend = wanted.get("backend", "auto")
    if options and not case.before("0.8.0"):
        proposals.append(written(guided_decoding_backend=f"{backend}:{','.join(options)}"))
    return proposals


def split_task(case: Case) -> t.Sequence[Remedy]:
    """0.12.0 did the same by itself (__post_init__ of ModelConfig in config/model.py): _task_to_convert."""
    task = str(case.value)
    if task in ("generate", "transcription"):
        return [written(runner="generate")]
    if task in ("embed", "embedding"):
        return [written(runner="pooling", convert="embed")]
    if task == "reward":
        # From 0.15.0 on convert reward meant embed (_get_convert_type in config/model.py of 0.15.1).
        return [written(runner="pooling", convert="reward"), written(runner="pooling", convert="embed")]
    answers = {
        "classify": written(runner="pooling", convert="classify"),
        # Which conversion that is depends on the architecture, and is what convert auto chooses.
        "score": written(runner="pooling"),
        "draft": written(runner="draft"),
        "auto": {},
    }
    return [answers[task]] if task in answers else []


def old_task(case: Case) -> t.Sequence[Remedy]:
    """runner and convert, both in one task, as 0.6.4 to 0.10.0 had it."""
    runner, convert = (str(case.engine.get(option, "auto")) for option in ("runner", "convert"))
    tasks = {
        ("pooling", "embed"): ["embed", "embedding"],
        ("auto", "embed"): ["embed", "embedding"],
        ("pooling", "classify"): ["classify"],
        ("auto", "classify"): ["classify"],
        ("pooling", "reward"): ["reward"],
        ("auto", "reward"): ["reward"],
        ("generate", "auto"): ["generate"],
        ("generate", "none"): ["generate"],
        ("draft", "auto"): ["draft"],
    }
    if (runner, convert) in (("auto", "auto"), ("auto", "none")):
        return [{}]
    return [written(task=task) for task in tasks.get((runner, convert), [])]


def rope(case: Case) -> t.Sequence[Remedy]:
    """rope_scaling and rope_theta in hf_overrides, the same for both."""
    scaling, theta = as_mapping(case.engine.get("rope_scaling", {})), case.engine.get("rope_theta")
    if scaling is None or isinstance(theta, bool) or not isinstance(theta, int | float | str | None):
        return []
    if isinstance(theta, str):
        try:
            theta = float(theta)
        except ValueError:
            return []
    if "type" in scaling:
        # The old name of the key (patch_rope_scaling_dict in transformers_utils/config.py of 0.11.0).
        scaling = {"rope_type": scaling.pop("type"), **scaling}
    alone = {} if theta is None else {"rope_theta": theta}
    if not scaling:
        # Not known which rope_parameters the model has besides.
        return [written(hf_overrides=alone)] if alone and case.before(_TRANSFORMERS_5) else []
    if case.before(_ROPE_PARAMETERS):
        return [written(hf_overrides={"rope_scaling": scaling, **alone})]
    parameters = {**scaling, **alone}
    return [written(hf_overrides={"rope_parameters": parameters})] if "rope_theta" in parameters else []


def old_rope(case: Case) -> t.Sequence[Remedy]:
    """hf_overrides of the rotary embedding as the options that 0.6.0 to 0.6.3.post1 had for it."""
    overrides = as_mapping(case.value)
    if not overrides or not overrides.keys() <= {"rope_scaling", "rope_theta"}:
        return []
    return [{"engine": overrides}]


def graph_sizes(case: Case) -> t.Sequence[Remedy]:
    """A single size was the end of a series in 0.9.0 to 0.11.0, several the list (config/scheduler.py of 0.10.2)."""
    values = case.value if isinstance(case.value, list | tuple) else [case.value]
    sizes = [whole(value) for value in values]
    if not sizes or None in sizes:
        return []
    if len(sizes) == 1:
        return [written(max_cudagraph_capture_size=sizes[0])]
    return [written(cudagraph_capture_sizes=sizes), written(compilation_config={"cudagraph_capture_sizes": sizes})]


def old_graph_sizes(case: Case) -> t.Sequence[Remedy]:
    values = case.value if isinstance(case.value, list | tuple) else [case.value]
    sizes = [whole(value) for value in values]
    if not sizes or None in sizes:
        return []
    return [written(compilation_config={"cudagraph_capture_sizes": sizes})]


def old_graph_limit(case: Case) -> t.Sequence[Remedy]:
    size = whole(case.value)
    return [] if size is None else [written(cuda_graph_sizes=[size])]


# Options of 0.9.2 to 0.11.2 and the fields of EPLBConfig that took their place (arg_utils.py of 0.11.2).
EPLB = {
    "num_redundant_experts": "num_redundant_experts",
    "eplb_window_size": "window_size",
    "eplb_step_interval": "step_interval",
    "eplb_log_balancedness": "log_balancedness",
}


def eplb(case: Case) -> t.Sequence[Remedy]:
    """All four in one eplb_config, the same for each of them."""
    config = {field: case.engine[option] for option, field in EPLB.items() if case.engine.get(option) is not None}
    numbers = {field: whole(value) for field, value in config.items() if field != "log_balancedness"}
    log = config.get("log_balancedness", False)
    if not config or None in numbers.values() or not isinstance(log, bool):
        return []
    return [written(eplb_config={**config, **numbers})]


def old_eplb(case: Case) -> t.Sequence[Remedy]:
    config = as_mapping(case.value)
    options = {field: option for option, field in EPLB.items()}
    if not config or not config.keys() <= options.keys():
        return []
    return [written(**{options[field]: value for field, value in config.items()})]


def pooler(case: Case) -> t.Sequence[Remedy]:
    """0.16.0 left one of three names for the same switch (get_use_activation in config/pooler.py of 0.15.1)."""
    config = as_mapping(case.value)
    if config is None:
        return []
    known = case.fields("PoolerConfig")
    for old in ("normalize", "softmax", "activation"):
        if old in config and known and old not in known:
            config["use_activation"] = config.pop(old)
    return [written(pooler_config=config)]


def old_pooler(case: Case) -> t.Sequence[Remedy]:
    config = as_mapping(case.value)
    return [] if config is None else [written(override_pooler_config=config)]


def cache_gib(case: Case) -> t.Sequence[Remedy]:
    """0.6.6 to 0.10.0 could only switch the cache off; 0.8.0 on took its size in whole GiB from a variable."""
    gib = int(case.value) if isinstance(case.value, float) and case.value.is_integer() else whole(case.value)
    if gib is None:
        return []
    return [written(disable_mm_preprocessor_cache=True) if gib == 0 else {"env": {"VLLM_MM_INPUT_CACHE_GIB": str(gib)}}]


def old_attention_backend(case: Case) -> t.Sequence[Remedy]:
    """Until 0.12.0 a variable alone; up to 0.10.2 some names of the V1 engine's backends ended in _VLLM_V1."""
    value = case.value
    if isinstance(value, dict):
        value = value.get("backend") if value.keys() == {"backend"} else None
    if not isinstance(value, str):
        return []
    names = [value.upper(), f"{value.upper()}_VLLM_V1"]
    return [{"env": {"VLLM_ATTENTION_BACKEND": name}} for name in names]


def old_all2all(case: Case) -> t.Sequence[Remedy]:
    return [{"env": {"VLLM_ALL2ALL_BACKEND": case.value}}] if isinstance(case.value, str) else []


def old_log_level(case: Case) -> t.Sequence[Remedy]:
    return [{"env": {"VLLM_LOGGING_LEVEL": case.value.upper()}}] if isinstance(case.value, str) else []


def old_logging_config(case: Case) -> t.Sequence[Remedy]:
    config = as_mapping(case.value)
    path = config.get("pylogging_config_file") if config is not None and len(config) == 1 else None
    return [written(log_config_file=path)] if isinstance(path, str) else []


def old_exclude_tools(case: Case) -> t.Sequence[Remedy]:
    """Tool definitions under tool_choice none: left out before 0.9.2, as asked in 0.9.2, kept in 0.10.0."""
    if not isinstance(case.value, bool):
        return []
    kept = not case.before("0.10.0")
    return [written(expand_tools_even_if_tool_choice_none=not case.value), *([{}] if case.value is not kept else [])]


def reasoning(case: Case) -> t.Sequence[Remedy]:
    """Without a parser it did nothing; with one and false, the parser was not used."""
    if case.value is True or (case.value is False and "reasoning_parser" not in case.engine):
        return [{}]
    return []


def compilation_mode(case: Case) -> t.Sequence[Remedy]:
    """Levels and modes have the same numbers (CompilationLevel of 0.11.0 and CompilationMode of 0.11.1)."""
    number = whole(case.value)
    if number is None:
        return []
    return [written(compilation_config={"mode": number}), written(compilation_config={"level": number})]


def counts_per_prompt(case: Case) -> t.Sequence[Remedy]:
    pairs = (part.split("=") for part in str(case.value).split(","))
    return [written(limit_mm_per_prompt={name.strip(): int(count) for name, count in pairs})]


def split_modules(case: Case) -> t.Sequence[Remedy]:
    modules = str(case.value).split(",")
    return [written(collect_detailed_traces=["all"] if "all" in modules else modules)]
