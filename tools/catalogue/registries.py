# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts out of a release's own tables and configuration classes; runs in the process in which probe.py made it run.

Each section is a function that returns name -> facts. Releases keep the same table in different places: candidates are
tried in order, the newest place first, and a release that has none of them has no such section.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from plain import plain
from torch.overrides import TorchFunctionMode

Facts = dict[str, dict[str, Any]]

# Compute capabilities of NVIDIA GPUs that vLLM was ever built for, as major * 10 + minor.
CAPABILITIES = (70, 75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121)
# Which dictionary of the model registry holds an architecture; the first that matches names its task.
TASKS = (
    ("SPECULATIVE", "speculative"),
    ("MULTIMODAL", "multimodal"),
    ("GENERATION", "generate"),
    ("TRANSFORMERS", "transformers"),
    ("_MODELS", "pooling"),
)
REQUESTS = {
    "chat": (("chat_completion.protocol", "protocol"), "ChatCompletionRequest"),
    "completion": (("completion.protocol", "protocol"), "CompletionRequest"),
}
CONSTRAINTS = ("gt", "ge", "lt", "le")


def find(places: Iterable[str]) -> Any:
    """The first of the dotted names (module, then attribute) that the release has; None if it has none."""
    for place in places:
        module, _dot, attribute = place.rpartition(".")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            continue
    return None


def quantization() -> Facts:
    """Methods of --quantization, with the compute capability (major * 10 + minor) that each wants at least."""
    package = importlib.import_module("vllm.model_executor.layers.quantization")
    methods = package.QUANTIZATION_METHODS
    deprecated = getattr(package, "DEPRECATED_QUANTIZATION_METHODS", ())
    found: Facts = {}
    for name in methods:
        config = methods[name] if isinstance(methods, dict) else package.get_quantization_config(name)
        try:
            capability = config.get_min_capability()
        except Exception:  # some refuse to be asked
            capability = None
        facts = {"min_capability": capability if isinstance(capability, int) and capability >= 0 else None}
        found[name] = without_none(facts | {"deprecated": name in deprecated or None})
    return found


class WithoutGpu(TorchFunctionMode):
    """Modules of some backends reserve GPU memory while they are imported: none is taken."""

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function for PyTorch's device without memory."""
        kwargs = dict(kwargs or {})
        if str(kwargs.get("device")).startswith("cuda"):
            kwargs["device"] = "meta"
        return function(*args, **kwargs)


def attention_backends() -> Facts:
    """Names of attention backends, with the compute capabilities that the class itself says it supports."""
    backends = find(
        (
            "vllm.v1.attention.backends.registry.AttentionBackendEnum",
            "vllm.attention.backends.registry.AttentionBackendEnum",
            "vllm.attention.backends.registry._Backend",
            "vllm.platforms.interface._Backend",
            "vllm.attention.selector._Backend",
        )
    )
    capability = find(("vllm.platforms.interface.DeviceCapability",))
    found: Facts = {}
    for name, backend in backends.__members__.items():
        found[name] = {}
        path = backend.value  # before 0.11.1 a number: those classes tell nothing
        if isinstance(path, str) and "." in path and not name.startswith(("ROCM", "CPU", "XPU", "AMX")):
            with WithoutGpu():
                try:
                    ask = getattr(find((path,)), "supports_compute_capability", None)
                    found[name] = capabilities(lambda number, ask=ask: ask(capability(*divmod(number, 10))))
                except Exception:  # a backend whose module cannot be imported here tells nothing
                    found[name] = {}
    return found


def capabilities(supports: Callable[[int], Any]) -> dict[str, Any]:
    """The least supported capability, and all of them where there is a gap above it; nothing where all are."""
    fit = [number for number in CAPABILITIES if supports(number)]
    if not fit or fit == list(CAPABILITIES):
        return {}
    above = [number for number in CAPABILITIES if number >= fit[0]]
    return {"min_capability": fit[0]} | ({"capabilities": fit} if fit != above else {})


def reasoning_parsers() -> Facts:
    """Names that the release registers itself; --reasoning-parser does not list them in every release."""
    places = ("vllm.reasoning", "vllm.entrypoints.openai.reasoning_parsers")
    return registered(find(f"{place}.ReasoningParserManager" for place in places), "reasoning_parsers")


def tool_parsers() -> Facts:
    """Names that the release registers itself."""
    places = ("vllm.tool_parsers", "vllm.entrypoints.openai.tool_parsers")
    return registered(find(f"{place}.ToolParserManager" for place in places), "tool_parsers")


def registered(manager: Any, table: str) -> Facts:
    """What a parser manager has registered, loaded or not."""
    if manager is None:
        return {}
    names = manager.list_registered() if hasattr(manager, "list_registered") else getattr(manager, table)
    return {name: {} for name in names}


def architectures() -> Facts:
    """Model architectures of the registry with what they are for."""
    registry = model_registry()
    found: Facts = {}
    tables = {name: value for name, value in vars(registry).items() if name.endswith("_MODELS")}
    known = {**tables.get("_VLLM_MODELS", tables.get("_MODELS", {}))}
    for pattern, task in TASKS:
        for name, table in tables.items():
            if pattern in name and isinstance(table, dict) and name not in ("_VLLM_MODELS", "_MODELS"):
                for architecture in table:
                    if architecture in known:
                        found.setdefault(architecture, {"task": task})
    return found


def dropped_architectures() -> Facts:
    """Architectures that the release says it no longer supports, with the last release that did."""
    dropped = getattr(model_registry(), "_PREVIOUSLY_SUPPORTED_MODELS", {})
    return {name: {"last": last} for name, last in dropped.items()}


def plugin_architectures() -> Facts:
    """Architectures for which the release names a plugin."""
    outside = getattr(model_registry(), "_OOT_SUPPORTED_MODELS", {})
    return {name: {"plugin": plugin} for name, plugin in outside.items()}


def model_registry() -> Any:
    """The module that holds the tables of architectures."""
    try:
        return importlib.import_module("vllm.model_executor.models.registry")
    except ModuleNotFoundError:
        return importlib.import_module("vllm.model_executor.models")


def pooling_tasks() -> Facts:
    """Tasks of pooling models."""
    tasks = typing.get_args(find(("vllm.tasks.PoolingTask",)))
    runners = find(("vllm.config._RUNNER_TASKS",))
    if not tasks and isinstance(runners, dict):
        tasks = runners.get("pooling", ())
    if not tasks:
        tasks = [task for task in typing.get_args(find(("vllm.config._Task",))) if task not in ("generate", "draft")]
    return {task: {} for task in tasks}


def request_fields() -> Facts:
    """Fields of the requests for a chat and for a completion."""
    found: Facts = {}
    for request, (modules, name) in REQUESTS.items():
        model = find(f"vllm.entrypoints.openai.{module}.{name}" for module in modules)
        for field in model.model_fields:
            found.setdefault(field, {"requests": []})["requests"].append(request)
    return found


def configs(classes: Iterable[type]) -> Facts:
    """Fields of configuration classes and of those nested in them, as `Class.field`."""
    queue, seen = list(classes), set()
    whole = find(("vllm.config.VllmConfig",))
    queue += [whole] if whole is not None else []
    found: Facts = {}
    while queue:
        owner = queue.pop()
        if owner in seen:
            continue
        seen.add(owner)
        for name, annotation, default, constraints in fields(owner):
            shape = {"types": [], "choices": []}
            queue += describe(annotation, shape)
            facts = {
                "type": "|".join(sorted(set(shape["types"]))) or None,
                "choices": sorted(set(shape["choices"]), key=str) or None,
                "default": plain(default),
                **constraints,
            }
            if owner is not whole:
                found[f"{owner.__name__}.{name}"] = without_none(facts)
    return found


def fields(owner: type) -> Iterable[tuple[str, Any, Any, dict[str, Any]]]:
    """Name, annotation, default (None where there is none that is plain) and bounds of the fields one can give."""
    try:
        hints = typing.get_type_hints(owner, include_extras=True)
    except Exception:  # names that exist only for type checkers
        hints = {}
    if not dataclasses.is_dataclass(owner):
        for name, field in owner.model_fields.items():
            yield name, field.annotation, default_of(field), bounds(field)
        return
    for field in dataclasses.fields(owner):
        if field.init and not field.name.startswith("_"):
            inner = field.default if hasattr(field.default, "is_required") else field  # pydantic's Field(...)
            yield field.name, hints.get(field.name, field.type), default_of(inner), bounds(inner)


def default_of(field: Any) -> Any:
    """The default of a dataclass' or pydantic field; None where it has none."""
    if field.default_factory not in (None, dataclasses.MISSING):
        made = field.default_factory
        return made() if made in (list, dict, set) else None
    default = field.default
    return None if default is dataclasses.MISSING or type(default).__name__ == "PydanticUndefinedType" else default


def bounds(field: Any) -> dict[str, Any]:
    """Limits of a number that pydantic enforces."""
    parts = field.metadata if isinstance(field.metadata, list) else ()
    return {key: getattr(part, key) for part in parts for key in CONSTRAINTS if getattr(part, key, None) is not None}


def describe(annotation: Any, shape: dict[str, list[Any]]) -> list[type]:
    """Collect the plain types and choices of an annotation; the configuration classes in it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        shape["choices"] += [plain(choice) for choice in arguments if choice is not None]
        shape["types"] += [type(choice).__name__ for choice in arguments if choice is not None]
    elif origin in (typing.Union, types.UnionType):
        return [nested for argument in arguments for nested in describe(argument, shape)]
    elif origin is typing.Annotated or (origin is not None and "InitVar" in str(annotation)):
        return describe(arguments[0], shape)
    elif isinstance(origin, type):
        shape["types"].append(origin.__name__)
        return [nested for argument in arguments for nested in describe(argument, {"types": [], "choices": []})]
    elif isinstance(annotation, type) and annotation is not types.NoneType:
        if dataclasses.is_dataclass(annotation) or hasattr(annotation, "model_fields"):
            shape["types"].append(annotation.__name__)
            return [annotation]
        if issubclass(annotation, enum.Enum):
            named = any(not isinstance(member.value, str | int) or "." in str(member.value) for member in annotation)
            shape["choices"] += [name if named else plain(member) for name, member in annotation.__members__.items()]
        else:
            shape["types"].append(annotation.__name__)
    elif isinstance(annotation, str):
        shape["types"].append(annotation)
    return []


def without_none(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts that are known."""
    return {key: value for key, value in facts.items() if value is not None}


TABLES: dict[str, Callable[[], Facts]] = {
    function.__name__: function
    for function in (
        quantization,
        attention_backends,
        tool_parsers,
        reasoning_parsers,
        architectures,
        dropped_architectures,
        plugin_architectures,
        pooling_tasks,
        request_fields,
    )
}


def of_options(options: Facts, sections: dict[str, Facts]) -> dict[str, Facts]:
    """Sections that are the choices of an option, or of a field of its configuration."""

    def names(*places: str) -> Facts:
        for place in places:
            facts = sections.get("configs", {}).get(place, {}) if "." in place else options.get(place, {})
            if values := facts.get("choices") or facts.get("known"):
                return {str(value): {} for value in values}
        return {}

    chosen = {
        "tool_parsers": names("tool_call_parser"),
        "reasoning_parsers": names("reasoning_parser"),
    }
    return {
        **{section: facts for section, facts in chosen.items() if not sections.get(section)},
        "kv_cache_dtypes": names("kv_cache_dtype"),
        "executor_backends": names("distributed_executor_backend", "ParallelConfig.distributed_executor_backend"),
        "structured_outputs_backends": names(
            "StructuredOutputsConfig.backend",
            "DecodingConfig.backend",
            "DecodingConfig.guided_decoding_backend",
            "guided_decoding_backend",
        ),
        "speculative_methods": names("SpeculativeConfig.method"),
    }
