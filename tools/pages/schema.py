# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/vllm_models.schema.json: JSON Schema of vllm_models for editors.

The fields are those of the model of a specification. An option of the engine takes what any catalogued release takes,
because a schema knows no image; what the newest release has comes first. Wherever a template may stand, one is taken.
"""

from __future__ import annotations

import json
import typing as t

from pages.facts import life, states
from pages.markdown import years
from pages.options import instead, takes
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.catalogue import Facts
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import READ_LATER
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.configs import OWNERS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.options import OWN_OPTIONS

Schema = dict[str, t.Any]

TEMPLATE: Schema = {"type": "string", "pattern": r"\{\{|\{%"}
TEXT: Schema = {"type": ["string", "number"]}
ANYTHING: Schema = {"type": ["object", "array", "string", "number", "boolean"]}
_WHOLE: Schema = {"type": ["integer", "string"], "pattern": r"^\s*[+-]?\d+\s*$"}
_NUMBER: Schema = {"type": ["number", "string"], "pattern": r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"}
_SIZE: Schema = {"type": ["integer", "string"], "pattern": r"^\s*(\d+|\d+(\.\d+)?[kmgt]|\d+[KMGT])\s*$"}
# What pydantic takes for a boolean besides the two; YAML 1.2 reads yes and no as texts.
_BOOLEANS = ["true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0"]
# What each type of the catalogue takes (check_value of _release/values.py).
_FORMS: dict[str, list[Schema]] = {
    "str": [TEXT],
    "text": [TEXT],
    "int": [_WHOLE],
    "float": [_NUMBER],
    "size": [_SIZE],
    "size-or-auto": [_SIZE, {"enum": ["auto"]}],
    "comma-separated": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}],
    "key=int": [{"type": ["object", "string"]}],
    "json": [ANYTHING],
    "json-or-key=int": [ANYTHING],
    "json-or-str": [ANYTHING],
    "literal": [ANYTHING],
}
# And each type of a configuration class' field.
_KINDS: dict[str, list[Schema]] = {
    "str": [TEXT],
    "int": [_WHOLE],
    "float": [_NUMBER],
    "bool": [{"type": "boolean"}],
    "dict": [{"type": "object"}],
    "list": [{"type": ["array", "string"]}],
    "tuple": [{"type": ["array", "string"]}],
}
# Classes that a speculative_config holds of its target and draft model; the engine makes them itself.
_ENGINES_OWN = {"ModelConfig", "ParallelConfig"}
# Keywords that say nothing of what is taken.
_NOTES = ("description", "default", "examples", "deprecated", "deprecationMessage")
# Keywords of a schema that can only be an alternative of its own.
_ALONE = {"enum", "anyOf", "$ref"}
# Keywords by the type whose values they limit; of other types they say nothing.
_KEYWORDS = {
    "string": {"pattern", "minLength", "format", "writeOnly", "patternErrorMessage"},
    "number": {"minimum", "maximum", "exclusiveMinimum"},
    "integer": {"minimum", "maximum", "exclusiveMinimum"},
    "array": {"items", "minItems"},
    "object": {"properties", "additionalProperties", "propertyNames", "required", "minProperties"},
    "boolean": set(),
    "null": set(),
}


class _Generator(GenerateJsonSchema):
    """Describes what the model takes, and not what it makes of that: numbers for texts and the other way round."""

    def str_schema(self, schema: t.Any) -> JsonSchemaValue:
        return {**super().str_schema(schema), **TEXT}

    def int_schema(self, schema: t.Any) -> JsonSchemaValue:
        return {**super().int_schema(schema), **_WHOLE}

    def float_schema(self, schema: t.Any) -> JsonSchemaValue:
        return {**super().float_schema(schema), **_NUMBER}

    def bool_schema(self, schema: t.Any) -> JsonSchemaValue:
        return {"anyOf": [super().bool_schema(schema), {"enum": _BOOLEANS}]}


def text() -> str:
    """The whole schema."""
    return _lines(schema(), "") + "\n"


def _lines(value: t.Any, indent: str) -> str:
    """JSON with a line for whatever fits on one."""
    flat = json.dumps(value, ensure_ascii=False)
    if not value or not isinstance(value, dict) or len(indent) + len(flat) <= 120:
        return flat
    lines = (f"{indent} {json.dumps(key)}: {_lines(item, indent + ' ')}" for key, item in value.items())
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def schema() -> Schema:
    """The schema of a list of models, and of a mapping of variables with such a list."""
    model = ModelSpec.model_json_schema(schema_generator=_Generator)
    sections = model.pop("$defs")
    for section in (model, *sections.values()):
        del section["title"]
        section["properties"] = {name: _field(facts, sections) for name, facts in section["properties"].items()}
    model["properties"]["engine"] |= {"properties": _options(), "additionalProperties": False}
    models = {"type": "array", "items": {"$ref": "#/$defs/model"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "The models of an inventory of the collection gpufleet.vllm, alone or among other variables. "
        f"Made by tools/reference.py; knows the options of vLLM {_range()}.",
        "type": ["array", "object"],
        "items": {"$ref": "#/$defs/model"},
        "properties": {"vllm_models": {"description": "The models of the fleet.", **joined([models, TEMPLATE])}},
        "$defs": {"model": joined([model, TEMPLATE]), **sections},
    }


def joined(forms: t.Sequence[Schema]) -> Schema:
    """What any of the forms takes, in as few alternatives as possible, because editors show each of them."""
    enum: list[t.Any] = []
    others: list[Schema] = []
    # By type, what each form asks of values of it.
    asked: dict[str, list[Schema]] = {}
    for form in forms:
        if set(form) == {"enum"}:
            enum += [value for value in form["enum"] if value not in enum]
        elif form.keys() & _ALONE:
            others += [] if form in others else [form]
        else:
            for kind in form["type"] if isinstance(form["type"], list) else [form["type"]]:
                keywords = {key: value for key, value in form.items() if key in _KEYWORDS[kind]}
                asked[kind] = [*asked.get(kind, []), keywords]
    flat: Schema = {"type": [kind for kind in asked if kind != "integer" or "number" not in asked]}
    for kind, every in asked.items():
        if {} in every:
            continue
        if kind == "string":
            every = [_texts(every)]
        flat |= every[0]
        others += [{"type": kind, **one} for one in every[1:] if one != every[0]]
    if enum and {} in asked.get("string", []):
        flat["examples"], enum = enum, []
    found = [*([flat] if asked else []), *([{"enum": enum}] if enum else []), *others]
    return found[0] if len(found) == 1 else {"anyOf": found}


def _texts(every: t.Sequence[Schema]) -> Schema:
    """Texts of any of these patterns; one without a pattern takes those of the others."""
    free = [one for one in every if "pattern" not in one]
    return free[0] if free else {**every[0], "pattern": "|".join(dict.fromkeys(one["pattern"] for one in every))}


def _range() -> str:
    order = catalogue.releases()
    return f"{order[0]} to {order[-1]}"


def _field(facts: Schema, sections: Schema) -> Schema:
    """A field of the model: without what pydantic makes up, and with templates."""
    notes = {key: facts[key] for key in _NOTES if facts.get(key) not in (None, {})}
    form = {key: value for key, value in facts.items() if key not in (*_NOTES, "title")}
    if "$ref" in form:
        section = sections[form["$ref"].rpartition("/")[2]]
        return {"description": section["description"], **joined([form, TEMPLATE])}
    forms = form.pop("anyOf", [form]) if "type" not in form else [form]
    if "pattern" in form:
        forms = [{**one, "pattern": form["pattern"]} if "string" in one["type"] else one for one in forms]
    return notes | joined([*forms, TEMPLATE])


# --- options of the engine ------------------------------------------------------------------------------------------


def _options() -> Schema:
    """All that any release has."""
    return {name: _option(name) for name in sorted(catalogue.names("options"))}


def _option(name: str) -> Schema:
    if name in OWN_OPTIONS:
        return {"description": f"{OWN_OPTIONS[name]}.", "deprecationMessage": OWN_OPTIONS[name], "not": {}}
    past = states("options", name)
    newest = past[-1]
    what = takes(newest).replace("`", "")
    notes: Schema = {"description": f"Takes {what}. vLLM {years(life('options', name))}."}
    if newest["until"] is not None:
        notes["deprecationMessage"] = f"vLLM {newest['until']} was the last to have it. {instead(name)}"
    elif newest.get("deprecated"):
        notes["deprecationMessage"] = newest["deprecated"]
    elif newest.get("default") is not None:
        notes["default"] = newest["default"]
    if "deprecationMessage" in notes:
        notes["deprecated"] = True
    if examples := newest.get("known"):
        notes["examples"] = list(examples)
    otherwise = {**TEMPLATE, "patternErrorMessage": f"Expected: {what}."}
    return notes | joined([otherwise, *(form for state in reversed(past) for form in _forms(name, state))])


def _forms(name: str, state: Facts) -> list[Schema]:
    """What an option takes in a release, as alternatives."""
    if state.get("boolean"):
        return [{"type": "boolean"}]
    if state.get("choices"):
        forms: list[Schema] = [{"enum": list(state["choices"])}]
    elif mapping := _mapping(state.get("config") or OWNERS.get(name, "")):
        # CompilationConfig.from_cli in config.py of 0.8.5 takes its level alone.
        forms = [mapping, {"type": "integer"}] if state["type"] == "literal" else [mapping]
    else:
        forms = _FORMS[READ_LATER.get(name, state["type"])]
    if state.get("nargs") == "?":
        return [*forms, {"enum": [True]}]
    if state.get("repeat") or state.get("nargs") is not None:
        # An element of a list of texts may be a mapping, as of lora_modules.
        items = [*forms, {"type": "object"}] if state["type"] == "str" and "choices" not in state else forms
        return [*items, {"type": "array", "items": joined(items)}]
    return forms


def _config(owner: str) -> Schema:
    """The fields of a configuration class, those of all releases."""
    found = {}
    for name in catalogue.names("configs"):
        if name.startswith(f"{owner}."):
            past = states("configs", name)
            forms = [form for state in reversed(past) for form in _kinds(state)]
            notes: Schema = {"description": f"vLLM {years(life('configs', name))}."}
            if past[-1]["until"] is None and past[-1].get("default") is not None:
                notes["default"] = past[-1]["default"]
            # The choices of a field are offered and not asked for: some classes take any text besides.
            if choices := past[-1].get("choices"):
                notes["examples"] = choices
            found[name.partition(".")[2]] = notes | joined([TEMPLATE, *forms, {"type": "null"}])
    return found


def _kinds(state: Facts) -> list[Schema]:
    """What a field of a configuration class takes in a release."""
    kinds = str(state["type"]).split("|") if state.get("type") else [""]
    return [form for kind in kinds for form in _KINDS.get(kind, [_mapping(kind) or ANYTHING])]


def _mapping(owner: str) -> Schema:
    """A mapping with the fields of a configuration class; nothing for any other name."""
    fields = _config(owner) if owner and owner not in _ENGINES_OWN else {}
    return {"type": ["object", "string"], "properties": fields} if fields else {}
