# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands inside the options that are mappings.

Fields that the release does not have, values that they do not take, and what its configuration classes demand of
several fields together. Pure.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import typing as t
from collections.abc import Callable, Iterator, Mapping, Sequence

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import whole
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Option, Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import check_value
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem, did_you_mean
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.engine import (
    Engine,
    holds_in,
    read_mapping,
    read_number,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migrations import migrate_value

# Options whose parser takes any mapping, and the class that engine/arg_utils.py makes of it.
OWNERS = {
    "speculative_config": "SpeculativeConfig",
    "override_pooler_config": "PoolerConfig",
    "watermark_config": "WatermarkConfig",
    "diffusion_config": "DiffusionConfig",
}
# Filled in by create_speculative_config in engine/arg_utils.py, whatever the user writes.
_FILLED_IN = frozenset({"target_model_config", "target_parallel_config", "enable_chunked_prefill", "disable_log_stats"})
_METHOD = ("SpeculativeConfig", "method")
# What 0.8.2 to 0.9.0.1 compare the method with, although their annotation does not list all of it (config.py).
_UNLISTED_METHODS = frozenset({"eagle3", "deepseek_mtp", "[ngram]"})
# Their classes compare them with the choices themselves, in __post_init__ (config.py of 0.8.5 to 0.9.0.1).
_COMPARED = frozenset({"SpeculativeConfig.acceptance_method", "KVTransferConfig.kv_role"})
# Options without a configuration class of which the parser takes any JSON, and the engine mappings alone; others are
# known by their default.
_MAPPINGS = frozenset(OWNERS) | {
    "custom_histogram_buckets",
    "default_chat_template_kwargs",
    "default_mm_loras",
    "hf_overrides",
    "mm_processor_kwargs",
    "model_loader_extra_config",
    "override_generation_config",
    "override_neuron_config",
    "rope_scaling",
    "tokenizer_pool_extra_config",
}
_NAMES = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
# Their annotation is a list of names or any text.
_OPEN = frozenset(
    {"SpeculativeConfig.quantization", "SpeculativeConfig.kv_cache_dtype", "AttentionConfig.indexer_kv_dtype"}
)
# The deepest nesting of configuration classes is 2 (attention_config.hisparse_config).
_DEPTH = 4
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_LEAVE_OUT: dict[str, t.Any] = {}

Given = Mapping[str, t.Any]
Path = tuple[str, ...]


def check_configs(spec: ModelSpec, release: Release) -> list[Problem]:
    """Every problem inside the options that are mappings, and those that are none where only the engine says so.

    What the parser itself refuses is checked with the other values.
    """
    engine = Engine(spec, release)
    problems: list[Problem] = []
    for name in spec.engine:
        option = release.options.get(name)
        if option is None:
            continue
        problems.extend(_form(spec, option))
        given = engine.mapping(name)
        if not given:
            continue
        owner = option.config or OWNERS.get(name)
        if owner in _classes(release.version):
            problems.extend(_fields(spec, release, (name,), str(owner), given))
        for check in _CHECKS.get(name, ()):
            problems.extend(check(engine, name, given))
    return problems


def refuses_unknown(owner: str, version: str) -> bool:
    """Whether a release refuses a field that the class does not have; otherwise it ignores it.

    The decorator config forbids them since 0.16.0 (config/utils.py); before, single classes did (config/compilation.py
    of 0.13.0). Without pydantic, Python's own dataclasses refuse them: all of 0.9.0, the two below until 0.8.5.post1.
    """
    if holds_in(version, "0.16.0", None) or holds_in(version, "0.9.0", "0.9.0.1"):
        return True
    if holds_in(version, "0.13.0", "0.15.1"):
        return owner in ("CompilationConfig", "PassConfig", "DynamicShapesConfig")
    return owner in ("SpeculativeConfig", "PoolerConfig") and holds_in(version, "0.6.0", "0.8.5.post1")


def checks_types(owner: str, version: str) -> bool:
    """Whether a release checks the types of the class' fields: what pydantic made does (config.py of 0.9.1, 0.8.5)."""
    return holds_in(version, "0.9.1", None) or (
        owner in ("CompilationConfig", "PassConfig", "KVTransferConfig") and holds_in(version, "0.6.5", "0.8.5.post1")
    )


@functools.cache
def _classes(version: str) -> Mapping[str, Mapping[str, catalogue.Facts]]:
    """The fields of each configuration class of a release."""
    found: dict[str, dict[str, catalogue.Facts]] = {}
    for name, facts in catalogue.facts("configs", version).items():
        owner, _dot, field = name.partition(".")
        found.setdefault(owner, {})[field] = facts
    return found


# ---- the option as a whole


def _form(spec: ModelSpec, option: Option) -> Iterator[Problem]:
    """A value that the parser takes for the option, as any JSON, and the engine does not, because it is no mapping."""
    name, value = option.name, spec.engine[option.name]
    mapped = name in _MAPPINGS or (isinstance(option.default, dict) and name != "additional_config")
    if option.config is not None or not mapped or check_value(option, value) is not None:
        return
    said = _decoded(value)
    inner = _decoded(said)
    if isinstance(value, str) and isinstance(said, str) and said != value and isinstance(inner, dict):
        remedy = {"engine": {name: inner}}
        yield _problem(spec, (name,), "is encoded twice", "Write the mapping itself", remedy=remedy)
    # Text that is no JSON has a meaning of its own: image=2, or the name of a class.
    elif type(said) in _NAMES and not (isinstance(said, str) and said == value):
        reason = f"must be a mapping, not {_NAMES[type(said)]}"
        yield _problem(spec, (name,), reason, f"Write a mapping; {_default({'default': option.default})}")


def _decoded(value: t.Any) -> t.Any:
    """What JSON text says; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


# ---- fields


def _fields(spec: ModelSpec, release: Release, path: Path, owner: str, given: Given) -> Iterator[Problem]:
    """Problems of the fields of one mapping, and of those nested in it."""
    known = _classes(release.version)[owner]
    for field, value in read_mapping(given).items():
        here = (*path, field)
        if field not in known:
            yield _unknown(spec, release, here, owner, value)
            continue
        old = _RENAMED.get(f"{owner}.{field}")
        if old is not None and old.announced and (new := old.written_as(value, known)) is not None:
            reason = f"is deprecated in vLLM {release.version}"
            yield _problem(spec, here, reason, _write(path, new), value, True, _nested(path, new))
        if owner == "SpeculativeConfig" and field in _FILLED_IN:
            continue
        nested = next((kind for kind in _kinds(known[field]) if kind in _classes(release.version)), None)
        if nested is not None and isinstance(value, dict) and len(here) < _DEPTH:
            yield from _fields(spec, release, here, nested, value)
        elif reason := _misfit(f"{owner}.{field}", known[field], value, release.version):
            gone = migrate_value("spec_method", value, {}, release) if (owner, field) == _METHOD else None
            fix = gone.advice if gone else f"Correct it; {_default(known[field])}"
            yield _problem(spec, here, reason, fix, value)
        elif (owner, field) == _METHOD and (reason := _ignored_method(known[field], value, release.version)):
            yield _problem(spec, here, reason, "Write one of them, or leave it out", value, True)


def _ignored_method(facts: catalogue.Facts, value: t.Any, version: str) -> str | None:
    """A method that the release does not know and finds out from the draft model instead: config.py of 0.8.5."""
    methods = {*facts.get("choices", ()), *_UNLISTED_METHODS}
    if value is None or not facts.get("choices") or checks_types("SpeculativeConfig", version):
        return None
    if isinstance(value, str) and value in methods:
        return None
    return f"is none of {', '.join(sorted(methods))}; vLLM {version} ignores it and goes by the draft model"


def _unknown(spec: ModelSpec, release: Release, path: Path, owner: str, value: t.Any) -> Problem:
    """A field that the class does not have in this release."""
    field, known = path[-1], _classes(release.version)[owner]
    refused = refuses_unknown(owner, release.version)
    life = catalogue.life("configs", f"{owner}.{field}")
    reason = f"is no field of {owner} in vLLM {release.version}" + (f"; {life}" if life else "")
    reason += "" if refused else ", which ignores it"
    renamed = _RENAMED.get(f"{owner}.{field}")
    new = renamed.written_as(value, known) if renamed is not None else None
    if new is not None:
        return _problem(spec, path, reason, _write(path[:-1], new), value, not refused, _nested(path[:-1], new))
    otherwise = f"Leave it out; {owner} has {', '.join(sorted(known))}"
    fix = "Leave it out, or use an image that has it" if life else did_you_mean(field, known, otherwise)
    # A name that no release knows may be that of a secret.
    return _problem(spec, path, reason, fix, value if life else None, not refused)


def _misfit(name: str, facts: catalogue.Facts, value: t.Any, version: str) -> str | None:
    """Why a field does not take a value, as pydantic converts it; None if it does, or may."""
    choices, kinds = facts.get("choices"), _kinds(facts)
    if value is None:
        return None
    checked = checks_types(name.partition(".")[0], version)
    limited = name not in _OPEN and (checked or name in _COMPARED)
    if choices and limited and not _is_choice(value, choices, kinds):
        life = catalogue.life("speculative_methods", str(value)) if name == "SpeculativeConfig.method" else None
        near = f"; {life}" if life else ""
        return f"must be one of {', '.join(map(str, choices))}" + near
    if not kinds or not checked or not set(kinds) <= set(_TAKES):
        return None
    if not any(_TAKES[kind](value) for kind in kinds):
        return "must be " + " or ".join(_WORDS[kind] for kind in kinds)
    number = read_number(value)
    if number is None or not set(kinds) <= {"int", "float"}:
        return None
    limits = [f"{word} {facts[key]:g}" for key, word, fits in _BOUNDS if key in facts and not fits(number, facts[key])]
    return "must be " + " and ".join(limits) if limits else None


def _is_choice(value: t.Any, choices: Sequence[t.Any], kinds: Sequence[str]) -> bool:
    """Whether a value may be one of the choices; only one of their own type can be none of them."""
    same = [choice for choice in choices if type(choice) is type(value)]
    if len(same) < len(choices) or value in same:
        return True
    # An enumeration (it has no type) is given by name, in any case: validate_backend_before in config/attention.py.
    if not kinds and isinstance(value, str):
        return value.upper() in same or value.lower() in same
    return not set(kinds) <= {"str", "int"}


def _kinds(facts: catalogue.Facts) -> Sequence[str]:
    return str(facts["type"]).split("|") if facts.get("type") else ()


def _default(facts: catalogue.Facts) -> str:
    default = facts.get("default")
    return "its default is " + ("none" if default is None else short(json.dumps(default)))


_TAKES: dict[str, Callable[[t.Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: isinstance(value, (bool, int)) or whole(value) is not None or _is_integral(value),
    "float": lambda value: isinstance(value, bool) or read_number(value) is not None,
    "bool": lambda value: (
        value in (True, False) or str(value).lower() in ("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n")
    ),
    "dict": lambda value: isinstance(value, dict),
    # A validator may split a text, as that of kernel_config.ir_op_priority does.
    "list": lambda value: isinstance(value, (list, str)),
    "tuple": lambda value: isinstance(value, (list, str)),
}
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "dict": "a mapping",
    "list": "a list",
    "tuple": "a list",
}
_BOUNDS: Sequence[tuple[str, str, Callable[[float, float], bool]]] = (
    ("ge", "at least", lambda number, bound: number >= bound),
    ("gt", "more than", lambda number, bound: number > bound),
    ("le", "at most", lambda number, bound: number <= bound),
    ("lt", "less than", lambda number, bound: number < bound),
)


def _is_integral(value: t.Any) -> bool:
    number = read_number(value)
    return number is not None and number.is_integer()


# ---- fields under new names


@dataclasses.dataclass(frozen=True)
class Renamed:
    """What says the same as an old field.

    to: the new fields for a value of the old one, by dotted name for a nested one; an empty mapping where the default
    says it, None where nothing does. announced: the release that has both says that the old one goes.
    """

    to: Callable[[t.Any], dict[str, t.Any] | None]
    announced: bool = True

    def written_as(self, value: t.Any, known: Mapping[str, t.Any]) -> dict[str, t.Any] | None:
        """The new fields, if the release has them."""
        new = self.to(value)
        return new if new is not None and set(new) <= set(known) else None


def _same(*names: str) -> Callable[[t.Any], dict[str, t.Any]]:
    return lambda value: dict.fromkeys(names, value)


def _where(switch: bool, name: str, new: t.Any) -> Callable[[t.Any], dict[str, t.Any] | None]:
    """The new value where the old switch stood this way; the other way was the default."""
    return lambda value: {name: new} if value is switch else {} if value is (not switch) else None


_RENAMED = {
    # config/compilation.py of 0.11.1 (level), 0.10.1 (the graphs), 0.12.0 (pass_config), 0.18.0 and 0.20.0
    "CompilationConfig.level": Renamed(_same("mode")),
    "CompilationConfig.use_cudagraph": Renamed(_where(False, "cudagraph_mode", "NONE")),
    "CompilationConfig.full_cuda_graph": Renamed(_where(True, "cudagraph_mode", "FULL")),
    "CompilationConfig.compile_ranges_split_points": Renamed(_same("compile_ranges_endpoints")),
    "CompilationConfig.encoder_cudagraph_max_images_per_batch": Renamed(
        _same("encoder_cudagraph_max_vision_items_per_batch")
    ),
    "PassConfig.enable_fusion": Renamed(_same("fuse_norm_quant", "fuse_act_quant")),
    "PassConfig.enable_attn_fusion": Renamed(_same("fuse_attn_quant")),
    "PassConfig.enable_noop": Renamed(_same("eliminate_noops")),
    "PassConfig.enable_sequence_parallelism": Renamed(_same("enable_sp")),
    "PassConfig.enable_async_tp": Renamed(_same("fuse_gemm_comms")),
    "PassConfig.enable_fi_allreduce_fusion": Renamed(_same("fuse_allreduce_rms")),
    # config/attention.py of 0.21.0 and 0.28.0
    "AttentionConfig.use_trtllm_ragged_deepseek_prefill": Renamed(_where(True, "mla_prefill_backend", "TRTLLM_RAGGED")),
    "AttentionConfig.disable_flashinfer_prefill": Renamed(_where(True, "mla_prefill_backend", "FLASH_ATTN")),
    "AttentionConfig.use_fp4_indexer_cache": Renamed(_where(True, "indexer_kv_dtype", "mxfp4")),
    # config/pooler.py of 0.13.0; "normalize was removed; use use_activation" in that of 0.33.0
    "PoolerConfig.softmax": Renamed(_same("use_activation")),
    "PoolerConfig.activation": Renamed(_same("use_activation")),
    "PoolerConfig.normalize": Renamed(_same("use_activation"), announced=False),
    "SpeculativeConfig.tensor_parallel_size": Renamed(_same("draft_tensor_parallel_size"), announced=False),
}


# ---- demands on several fields


def _speculative(engine: Engine, name: str, given: Given) -> Iterator[Problem]:
    """SpeculativeConfig.__post_init__ and _verify_args: config.py of 0.8.2, config/speculative.py of 0.33.0."""
    spec, version = engine.spec, engine.release.version
    method, draft = engine.speculative_method, given.get("model", engine.text("spec_model") or None)
    tokens = given.get("num_speculative_tokens", spec.engine.get("spec_tokens"))
    if method == "draft_model" and holds_in(version, "0.10.0", "0.14.1"):
        reason = f"vLLM {version} speculates without draft models; that it does it since 0.15.0"
        yield _problem(spec, (name, "method"), reason, "Use ngram, eagle or mtp, or a later image", method)
    if tokens is None and (method in ("ngram", "ngram_gpu", "draft_model") or (draft is None and method != "suffix")):
        yield _problem(spec, (name,), "needs num_speculative_tokens", "Add it; 3 to 5 are common")
    yield from _draft_model(engine, name, method, draft, tokens)
    yield from _lookup(engine, name, method, given)
    if given.get("tensor_parallel_size") is not None and holds_in(version, "0.15.0", None):
        new = {"draft_tensor_parallel_size": given["tensor_parallel_size"]}
        reason = "sets nothing; the size of the draft model is draft_tensor_parallel_size"
        yield _problem(
            spec,
            (name, "tensor_parallel_size"),
            reason,
            _write((name,), new),
            given["tensor_parallel_size"],
            remedy=_nested((name,), new),
        )
    size, target = whole(given.get("draft_tensor_parallel_size")), engine.number("tensor_parallel_size")
    if size is not None and target is not None and size not in (1, target):
        reason = f"is neither 1 nor engine.tensor_parallel_size, which is {target}"
        yield _problem(spec, (name, "draft_tensor_parallel_size"), reason, "Write one of the two", size)
    for key, since, until, low in _LOWEST:
        number = whole(given.get(key))
        if number is not None and number < low and holds_in(version, since, until):
            yield _problem(spec, (name, key), f"must be at least {low}", "Write such a number", number)
    if given.get("use_heterogeneous_vocab") is True and method != "draft_model" and holds_in(version, "0.25.0", None):
        reason = "is for method draft_model only"
        yield _problem(spec, (name, "use_heterogeneous_vocab"), reason, "Leave it out", True)
    synthetic = [key for key in ("synthetic_acceptance_rates", "synthetic_acceptance_length") if key in given]
    if holds_in(version, "0.20.0", None) and (given.get("rejection_sample_method") == "synthetic") != bool(synthetic):
        field = "rejection_sample_method" if not synthetic else synthetic[0]
        reason = "belongs to rejection_sample_method: synthetic and one of synthetic_acceptance_rates and _length"
        yield _problem(spec, (name, field), reason, "Give both, or none; it is for measurements")


# Before 0.11.1 the classes check these themselves, since then pydantic does by the fields' bounds.
_LOWEST = (
    ("num_speculative_tokens", "0.8.2", "0.11.0", 1),
    ("disable_by_batch_size", "0.8.2", "0.11.0", 2),
    ("prompt_lookup_min", "0.8.2", "0.11.0", 1),
    ("prompt_lookup_max", "0.8.2", "0.11.0", 1),
    ("suffix_decoding_max_tree_depth", "0.11.1", None, 1),
    ("suffix_decoding_max_cached_requests", "0.11.1", None, 0),
    ("suffix_decoding_max_spec_factor", "0.11.1", None, 0),
)
# Methods that need no draft model of their own: the text itself, the target's own layers, or its hidden states.
_WITHOUT_DRAFT = frozenset({"ngram", "[ngram]", "ngram_gpu", "suffix", "extract_hidden_states", "dspark"})


def _draft_model(engine: Engine, name: str, method: str | None, draft: t.Any, tokens: t.Any) -> Iterator[Problem]:
    """Whether a draft model is named where one is needed, and whether it is there."""
    spec = engine.spec
    itself = method in _WITHOUT_DRAFT or str(method).endswith("mtp")
    # Until 0.10.2 the target's type can stand in for the method.
    if draft is None and tokens is not None and not itself and holds_in(engine.release.version, "0.11.0", None):
        wanted = "a module" if method == "custom_class" else "the draft model"
        yield _problem(spec, (name,), f"needs model, {wanted}", "Add it, or method: ngram or mtp, which need none")
    if not isinstance(draft, str) or itself or method == "custom_class":
        return
    if draft.startswith("/"):
        reason = "is a path inside the container, where only the model's own folder is mounted"
        yield _problem(spec, (name, "model"), reason, "Write a hub id, or use an image that holds it", draft, True)
    elif spec.offline and _HUB_ID.fullmatch(draft):
        reason = "is another model that the server fetches, and offline is true"
        yield _problem(spec, (name, "model"), reason, "Pre-stage it like the model itself", draft, True)


def _lookup(engine: Engine, name: str, method: str | None, given: Given) -> Iterator[Problem]:
    """The lengths of n-grams."""
    low, high = whole(given.get("prompt_lookup_min")), whole(given.get("prompt_lookup_max"))
    if method in ("ngram", "[ngram]", "ngram_gpu") and low is not None and high is not None and low > high:
        reason = f"is more than prompt_lookup_max, which is {high}"
        yield _problem(engine.spec, (name, "prompt_lookup_min"), reason, f"Write {high} or less", low)


def _transfer(role: str, connector: str, roles: Sequence[str]) -> Callable[[Engine, str, Given], Iterator[Problem]]:
    """A connector needs a role: KVTransferConfig (config/kv_transfer.py), ECTransferConfig (config/ec_transfer.py)."""

    def check(engine: Engine, name: str, given: Given) -> Iterator[Problem]:
        version = engine.release.version
        # get_connector_class in kv_connector/factory.py of 0.11.0, the first release with the V1 engine alone; what
        # kv_offloading_size fills in: _post_init_kv_transfer_config in config/vllm.py.
        unnamed = name == "kv_transfer_config" and given.get(connector) is None and holds_in(version, "0.11.0", None)
        if unnamed and not engine.has("kv_offloading_size"):
            yield _problem(engine.spec, (name,), f"needs {connector}", "Add it, or leave the whole option out")
        if given.get(connector) is not None and given.get(role) is None:
            reason = f"needs {role}, because it names a connector"
            yield _problem(engine.spec, (name,), reason, f"Add {role}: {roles[-1]}")
        # Later classes list the roles themselves.
        elif holds_in(version, "0.6.5", "0.8.5.post1") and given.get(role, roles[0]) not in roles:
            yield _problem(engine.spec, (name, role), f"must be one of {', '.join(roles)}", "Write one", given[role])

    return check


def _structured_outputs(engine: Engine, name: str, given: Given) -> Iterator[Problem]:
    """_validate_structured_output_config in config/structured_outputs.py of 0.11.0 to 0.33.0."""
    backend = given.get("backend", "auto")
    for key, backends in (
        ("disable_any_whitespace", ("xgrammar", "guidance")),
        ("disable_additional_properties", ("guidance",)),
    ):
        if given.get(key) is True and backend not in backends:
            reason = f"needs backend {' or '.join(backends)}"
            yield _problem(engine.spec, (name, key), reason, f"Add backend: {backends[-1]}, or leave it out", True)
    if backend == "lm-format-enforcer" and holds_in(engine.release.version, "0.33.0", None):
        reason = "is deprecated in vLLM 0.33.0, which announces its removal in 0.35.0"
        yield _problem(
            engine.spec,
            (name, "backend"),
            reason,
            "Write auto, xgrammar or guidance",
            backend,
            True,
            _nested((name,), {"backend": "auto"}),
        )


def _graphs(engine: Engine, name: str, given: Given) -> Iterator[Problem]:
    """CompilationConfig in config/compilation.py: the mode by its name, no graphs, and custom_ops."""
    version, mode = engine.release.version, given.get("mode")
    if isinstance(mode, str) and holds_in(version, "0.11.1", None) and mode.upper() not in _COMPILATION_MODES:
        fix = did_you_mean(mode.upper(), _COMPILATION_MODES)
        yield _problem(engine.spec, (name, "mode"), f"must be one of {', '.join(_COMPILATION_MODES)}", fix, mode)
    sizes = given.get("cudagraph_capture_sizes")
    if sizes == [] and not engine.on("enforce_eager") and holds_in(version, "0.11.1", None):
        reason = "must hold a size as long as graphs are captured"
        yield _problem(
            engine.spec,
            (name, "cudagraph_capture_sizes"),
            reason,
            "Leave it out, or add engine.enforce_eager: true",
            remedy=_LEAVE_OUT,
        )
    ops = given.get("custom_ops")
    if isinstance(ops, list) and ops.count("all") + ops.count("none") > 1:
        yield _problem(engine.spec, (name, "custom_ops"), "names all or none more than once", "Leave one of them")


# CompilationMode, whose numbers are what the catalogue has.
_COMPILATION_MODES = ("NONE", "STOCK_TORCH_COMPILE", "DYNAMO_TRACE_ONCE", "VLLM_COMPILE")


def _profiler(engine: Engine, name: str, given: Given) -> Iterator[Problem]:
    """_validate_profiler_config in config/profiler.py of 0.13.0 to 0.33.0."""
    folder = given.get("torch_profiler_dir")
    if given.get("profiler") == "torch" and not folder:
        yield _problem(engine.spec, (name,), "needs torch_profiler_dir with profiler: torch", "Add it, a folder")
    elif folder and given.get("profiler") != "torch":
        reason = "needs profiler: torch"
        yield _problem(engine.spec, (name, "torch_profiler_dir"), reason, "Add profiler: torch", str(folder))


def _pooler(engine: Engine, name: str, given: Given) -> Iterator[Problem]:
    """PoolerConfig.__post_init__ in config/pooler.py of 0.14.0 to 0.33.0."""
    both = [key for key in ("seq_pooling_type", "tok_pooling_type") if given.get(key) and given.get("pooling_type")]
    if both and holds_in(engine.release.version, "0.14.0", None):
        reason = f"cannot be given together with {both[0]}"
        yield _problem(engine.spec, (name, "pooling_type"), reason, "Leave one of the two out", remedy=_LEAVE_OUT)


def _experts(engine: Engine, name: str, given: Given) -> Iterator[Problem]:
    """EPLBConfig._validate_eplb_config in config/parallel.py of 0.24.0 to 0.33.0."""
    communicator = given.get("communicator")
    if given.get("use_async") is True and communicator in ("torch_nccl", "pynccl"):
        reason = "does not work with use_async"
        yield _problem(
            engine.spec,
            (name, "communicator"),
            reason,
            "Leave it out, or write torch_gloo or nixl",
            communicator,
            remedy=_LEAVE_OUT,
        )


def _modalities(engine: Engine, name: str, given: Given) -> Iterator[Problem]:
    """MultiModalConfig.limit_per_prompt in config/multimodal.py: a count, since 0.11.1 also a mapping of options."""
    mapped = holds_in(engine.release.version, "0.11.1", None)
    for modality, limit in given.items():
        path = (name, modality)
        if mapped and isinstance(limit, dict):
            path, limit = (*path, "count"), limit.get("count", 0)
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            yield _problem(engine.spec, path, "must be a number from 0 on", "Write a count, without quotes", limit)


_CHECKS: dict[str, Sequence[Callable[[Engine, str, Given], Iterator[Problem]]]] = {
    "speculative_config": (_speculative,),
    "kv_transfer_config": (_transfer("kv_role", "kv_connector", ("kv_producer", "kv_consumer", "kv_both")),),
    "ec_transfer_config": (_transfer("ec_role", "ec_connector", ("ec_producer", "ec_consumer", "ec_both")),),
    "structured_outputs_config": (_structured_outputs,),
    "compilation_config": (_graphs,),
    "profiler_config": (_profiler,),
    "pooler_config": (_pooler,),
    "eplb_config": (_experts,),
    "limit_mm_per_prompt": (_modalities,),
}


# ---- form


def _problem(
    spec: ModelSpec,
    path: Path,
    reason: str,
    fix: str,
    value: t.Any = None,
    warning: bool = False,
    remedy: Mapping[str, t.Any] | None = None,
) -> Problem:
    """A problem of a field inside an option; of its value only what is short and plain is shown."""
    shown = short(value) if isinstance(value, str) else value if isinstance(value, (bool, int, float)) else None
    return Problem(spec.name, ".".join(map(short, ("engine", *path))), reason, fix, shown, warning, remedy)


def _write(path: Path, new: Mapping[str, t.Any]) -> str:
    """The line to write instead, under the mapping of this path."""
    if not new:
        return "Leave it out; it says what the default says"
    lines = ", ".join(f"{key}: {short(json.dumps(value, default=str))}" for key, value in new.items())
    return f"Write {lines} in engine.{'.'.join(path)}"


def _nested(path: Path, new: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The remedy that writes these fields into the mapping of this path."""
    inner: dict[str, t.Any] = dict(new)
    for key in reversed(path):
        inner = {key: inner}
    return {"engine": inner} if new else {}
