# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Specs from what the inventory holds, and every problem of all of them at once."""

from __future__ import annotations

import typing as t

import pydantic

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec, Secrets
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import NotPlain, plain, short
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem, did_you_mean

# So many names of a path are shown.
_LEVELS = 4
# pydantic's words for a value that should have been a mapping or list; what stands there instead may be a secret.
_WRONG_CONTAINERS = ("model_type", "model_attributes_type", "dict_type", "list_type")


def load_specs(models: t.Any) -> tuple[list[ModelSpec], list[Problem]]:
    """The valid specs in their order, and the problems of the others.

    Never raises for any input, and shows no secret.
    """
    if not isinstance(models, list):
        return [], [
            Problem(
                "vllm_models", "vllm_models", "is no list", "Write a list of models, each with name, model and image"
            )
        ]
    specs: dict[str, ModelSpec] = {}
    problems: list[Problem] = []
    for index, declared in enumerate(models):
        where = f"vllm_models[{index}]"
        where = _name(declared) or where
        try:
            declared = plain(declared)
        except NotPlain as error:
            # Names below these may be secrets.
            path = error.path[:1] if error.path[:1] in (("secrets",), ("env",)) else error.path
            field = ".".join(map(short, path[:_LEVELS])) or "(the model)"
            fix = "Write text, numbers, lists and mappings; dates, which YAML makes of some texts, in quotes"
            problems.append(Problem(where, field, str(error), fix))
            continue
        try:
            spec = ModelSpec.model_validate(declared)
        except pydantic.ValidationError as error:
            problems.extend(_problem(where, dict(item), declared) for item in error.errors(include_url=False))
            continue
        if spec.name in specs:
            problems.append(
                Problem(where, "name", "is used by two models", "Give each model a name of its own", spec.name)
            )
        specs.setdefault(spec.name, spec)
    return list(specs.values()), problems


def _name(declared: t.Any) -> str | None:
    name = declared.get("name") if isinstance(declared, dict) else None
    return short(str.__str__(name)) if isinstance(name, str) and name.isprintable() and name else None


def _problem(where: str, error: dict[str, t.Any], declared: t.Any) -> Problem:
    # Members of a union appear in the location by their type's name; a user's path holds only keys and indices of what
    # was written.
    path = _written(error["loc"], declared)
    # What stands where a secret's name should may be the secret.
    is_name = path[:1] == ("secrets",) and not set(path[1:2]) <= set(Secrets.model_fields)
    shown = path[:1] if is_name else path
    field = ".".join(short(str(part)) for part in shown) or "(the model)"
    if error["type"] == "extra_forbidden":
        return Problem(where, field, "is unknown", _unknown_fix(path))
    if error["type"] == "missing":
        return Problem(where, field, "is missing", f"Add {field}: {_description(path)}")
    reason = error["msg"].removeprefix("Value error, ").removesuffix(".")
    if error["type"] in _WRONG_CONTAINERS:
        reason = "must be a list" if error["type"] == "list_type" else "must be a mapping"
    for theirs in ("Input should", "String should", "Value should"):
        if reason.startswith(theirs):
            reason = "must" + reason.removeprefix(theirs)
    hidden = path[:1] in (("secrets",), ("env",)) or error["type"] in _WRONG_CONTAINERS
    return Problem(where, field, reason, f"It takes: {_description(path)}", None if hidden else _shown(error["input"]))


def _written(location: tuple[t.Any, ...], declared: t.Any) -> tuple[t.Any, ...]:
    path: list[t.Any] = []
    value = declared
    for position, part in enumerate(location):
        if isinstance(value, dict) and (part in value or position == len(location) - 1):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _section(path: tuple[t.Any, ...]) -> type[pydantic.BaseModel]:
    """The model of the section in which this path ends."""
    section: t.Any = ModelSpec
    for part in path[:-1]:
        field = section.model_fields.get(part)
        if field is None or not hasattr(field.annotation, "model_fields"):
            break
        section = field.annotation
    return section


def _unknown_fix(path: tuple[t.Any, ...]) -> str:
    name = str(path[-1])
    if len(path) == 1:
        for place, field in ModelSpec.model_fields.items():
            if name in getattr(field.annotation, "model_fields", ()):
                return f"Write it as {place}.{name}"
        known = ", ".join(sorted(ModelSpec.model_fields))
        return did_you_mean(name, ModelSpec.model_fields, f"Known are {known}. vLLM's own options stand under engine")
    return did_you_mean(name, _section(path).model_fields)


def _description(path: tuple[t.Any, ...]) -> str:
    """What the field of this path takes, in the words of its documentation."""
    section = _section(path)
    field = next((section.model_fields[part] for part in reversed(path) if part in section.model_fields), None)
    if field is None:
        return "a mapping with name, model and image"
    return field.description or ", ".join(getattr(field.annotation, "model_fields", ()))


def _shown(value: t.Any) -> t.Any:
    """A short plain form of a value, or None when it has none."""
    return short(value) if isinstance(value, str) else value if isinstance(value, (int, float, bool)) else None
