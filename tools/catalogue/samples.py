# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verify.py gives to a release's parser: representative values of every option, and texts that are odd ones."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

NESTED = {"a": {"b": [1, "x y", None, True, -2.5]}}
# Texts that the parsers would take for options, dotted names, files or short forms if they were not rendered with care.
TRAPS = ("-x", "-1", "-1.5", "--config", "--a_b.c=d_e", "-O3")
PLAIN = {
    "str": [(text, text) for text in ("word", "two words", "./a.b=c,d", "", *TRAPS)],
    "int": [(7, 7), (0, 0), (-1, -1), ("12", 12)],
    "float": [(0.5, 0.5), (2, 2.0), (-1.5, -1.5), ("1e-3", 0.001)],
    "size": [(4096, 4096), ("4k", 4000), ("4K", 4096), ("1.5m", 1500000), ("2g", 2 * 10**9), ("1T", 2**40)],
    "size-or-auto": [(4096, 4096), ("4k", 4000), ("4K", 4096), ("auto", -1), (-1, -1)],
    "json": [(NESTED, NESTED), ({}, {}), ('{"a": [1]}', {"a": [1]})],
    "literal": [(NESTED, NESTED), ({}, {}), ('{"a": [true]}', {"a": [True]}), ("{'a': [True]}", {"a": [True]})],
    "json-or-str": [(NESTED, NESTED), ({}, {}), ("word", "word"), ('{"a":\n [1]}', {"a": [1]})],
    "json-or-key=int": [(NESTED, NESTED), ({}, {}), ('{"a":\n [1]}', {"a": [1]}), ("image=2", {"image": 2})],
    "comma-separated": [(["a", "b"], ["a", "b"]), ("a,b", ["a", "b"])],
    "key=int": [({}, None), ({"image": 2, "video": 1}, {"image": 2, "video": 1}), ("image=2", {"image": 2})],
}
# Options that are text to the parser and an object to the engine, which reads them later.
READ_LATER = {
    "model_loader_extra_config": "json",
    "tokenizer_pool_extra_config": "json",
    "speculative_config": "literal",
}
# Options whose items have a form of their own, of which the parser makes objects that only it knows (Ellipsis).
ADAPTERS: dict[str, list[Any]] = {
    "lora_modules": [["name=/path", "other=/path"], [{"name": "n", "path": "/p"}]],
    "prompt_adapters": [["name=/path"]],
}
# LoRAParserAction in entrypoints/openai/cli_args.py knows JSON from 0.6.2 on.
LORA_JSON = {"name": "n", "path": "/p", "base_model_name": "b"}
# override_neuron_config in engine/arg_utils.py of 0.6.0 to 0.6.2.
TEXT = [("a:1,b:2", {"a": "1", "b": "2"})]
WORDS = """
word auto AUTO true None none null seven x:y a,b
7 -3 -0 +5 3 2.5 1e3 nan inf 7,8 1_000 0x10 \u0663
4k 4K 1.5k 1.5K 4kb 1T
a=1 a=b A=1,b=2 a=1,a=2
"""
# Texts of many kinds: for each option, the parser and check_value must agree which of them it takes.
TEXTS = (
    *WORDS.split(),
    *("", " ", " 7 ", "4 k", "{", "{}", "[]", "[1]", "{abc}", '{"a": 1}', '{"a": 0.5}', ' {"a":\n1} '),
    '{"name":"n","path":"/p"}',
)


class Needs(NamedTuple):
    """What a configuration class wants of other fields before it takes values of a field other than the default."""

    names: str
    """Pattern of Class.field."""
    values: tuple[Any, ...] | None
    """The values concerned; None for all."""
    fields: dict[str, Any]
    """The other fields."""
    why: str
    since: str
    until: str | None = None
    value: Any = ...
    """A value to give instead, where the class limits numbers."""


TEST = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
# Values that the class moves or puts another one in the place of: Class.field, value (None for all), since.
MOVED = (
    ("AttentionConfig.backend", "CUSTOM", "0.13.0"),
    ("AttentionConfig.backend", "CUTLASS_MSA", "0.13.0"),
    ("AttentionConfig.backend", "TRITON_MSA", "0.13.0"),
    ("CompilationConfig.backend", "", "0.11.0"),
    ("CompilationConfig.compilation_time", None, "0.6.5"),
    ("CompilationConfig.inductor_compile_config", None, "0.6.5"),
    ("PoolerConfig.logit_bias", None, "0.20.0"),
    ("PoolerConfig.logit_scale", None, "0.20.0"),
)
# A sample of a folder that the class does not change: relative ones it makes absolute.
FOLDER = "/traces"
PROTON = {"profiler": "proton", "proton_profiler_dir": FOLDER}
NEEDS = (
    Needs(
        "KVTransferConfig.kv_connector",
        None,
        {"kv_role": "kv_both"},
        "there are two connectors, and each needs its kv_role",
        "0.6.5",
        "0.6.6.post1",
        "PyNcclConnector",
    ),
    Needs("KVTransferConfig.kv_connector", None, {"kv_role": "kv_both"}, "a connector needs its kv_role", "0.7.0"),
    Needs("KVTransferConfig.kv_role", ("word",), {}, "kv_role has a fixed set of values", "0.6.5", value="kv_both"),
    Needs(
        "AttentionConfig.use_cudnn_prefill",
        (True,),
        {},
        "this backend is gone, and only false is taken for it until the field goes",
        "0.21.0",
        "0.21.0",
        value=False,
    ),
    Needs("ECTransferConfig.ec_connector", None, {"ec_role": "ec_producer"}, "a connector needs its ec_role", "0.11.1"),
    Needs(
        "StructuredOutputsConfig.disable_any_whitespace",
        (True,),
        {"backend": "xgrammar"},
        "disable_any_whitespace is for the backends xgrammar and guidance only",
        "0.11.0",
    ),
    Needs(
        "StructuredOutputsConfig.disable_additional_properties",
        (True,),
        {"backend": "guidance"},
        "disable_additional_properties is for the backend guidance only",
        "0.11.0",
    ),
    Needs(
        "StructuredOutputsConfig.reasoning_parser",
        ("word",),
        {},
        "reasoning_parser must be one that the release registers",
        "0.11.1",
        "0.12.0",
        "deepseek_r1",
    ),
    Needs(
        "ProfilerConfig.profiler", ("torch",), {"torch_profiler_dir": FOLDER}, "a profiler needs its folder", "0.13.0"
    ),
    Needs("ProfilerConfig.profiler", ("proton",), PROTON, "a profiler needs its folder", "0.28.0"),
    Needs("ProfilerConfig.torch_profiler_dir", None, {"profiler": "torch"}, "a folder needs its profiler", "0.16.0"),
    Needs(
        "ProfilerConfig.capture_torch_profiler",
        (True,),
        {"profiler": "torch", "torch_profiler_dir": FOLDER},
        "capture_torch_profiler is for the profiler torch only",
        "0.26.0",
    ),
    Needs("ProfilerConfig.proton_profiler_dir", None, {"profiler": "proton"}, "a folder needs its profiler", "0.28.0"),
    Needs(
        "ProfilerConfig.proton_output_format",
        ("chrome_trace",),
        {**PROTON, "proton_data": "trace"},
        "chrome_trace is for the data trace of proton only",
        "0.28.0",
    ),
    Needs("ProfilerConfig.proton_.*", None, PROTON, "proton_* is for the profiler proton only", "0.28.0"),
    Needs(
        "EPLBConfig.communicator",
        ("torch_nccl", "pynccl"),
        {"use_async": False},
        "these communicators do not work with async EPLB, the default",
        "0.24.0",
    ),
)
SKIPPED = {
    "config": "a file of options is never used: the command has all of them, and OWN_OPTIONS refuses it",
    "model": "every command has it",
}


@dataclass(frozen=True)
class Sample:
    """A value of an option, and what the parser must make of it (Ellipsis: anything)."""

    value: Any
    expected: Any
    needs: str = ""
    """Why the value is not given alone."""
    lone: Any = None
    """The value that is refused alone."""


def rank(version: str) -> list[int]:
    """To compare versions by; a post release follows its release."""
    return [int(part) for part in re.findall(r"\d+", version)]


def samples(option: Any, configs: Mapping[str, Mapping[str, Any]], version: str) -> list[Sample]:
    """Representative values of an option: both ways of a boolean, every choice, every known value, every field."""
    if option.on is not None:
        return [Sample(True, True), *([Sample(False, False)] if option.off else [])]
    if option.name in ADAPTERS:
        json = option.name == "lora_modules" and rank(version) >= rank("0.6.2")
        return [Sample(value, ...) for value in (*ADAPTERS[option.name], *([[LORA_JSON]] if json else []))]
    if option.config is not None:
        return list(fields(option, configs, version))
    if option.type == "text":
        return [Sample(*pair) for pair in TEXT]
    if option.choices is not None:
        pairs = [(choice, choice) for choice in option.choices]
    else:
        form = READ_LATER.get(option.name, "str") if option.type == "str" else option.type
        pairs = [*PLAIN[form], *((known, known) for known in option.known)]
    if option.kind == "list":
        pairs = many(pairs, option)
    bare = [Sample(True, True)] if option.nargs == "?" else []
    return [Sample(*pair) for pair in pairs] + bare


def many(pairs: list[tuple[Any, Any]], option: Any) -> list[tuple[Any, Any]]:
    """Lists of an option's values: several at once, and each alone where one is enough."""
    fit = [(value, made) for value, made in pairs if value != "" and (option.repeat or not str(value).startswith("-"))]
    count = option.nargs if isinstance(option.nargs, int) else max(2, len(fit))
    together = [fit[index % len(fit)] for index in range(count)]
    several = ([value for value, _made in together], [made for _value, made in together])
    alone = [] if isinstance(option.nargs, int) else [([value], [made]) for value, made in pairs if value != ""]
    return [several, *alone]


def fields(option: Any, configs: Mapping[str, Mapping[str, Any]], version: str) -> Iterator[Sample]:
    """Each field of a JSON option's configuration class: its default, its choices, and values other than its default.

    What the class refuses alone is given with what it needs.
    """
    yield Sample({}, {})
    for name, facts in configs.items():
        owner, _dot, field = name.partition(".")
        if owner != option.config:
            continue
        for value in field_values(field, facts):
            given = {field: value}
            needs = needed(name, value, facts, version)
            if needs is None:
                moved = any(name == n and v in (None, value) and rank(s) <= rank(version) for n, v, s in MOVED)
                yield Sample(given, ... if moved else given)
            else:
                whole = {**needs.fields, field: value if needs.value is ... else needs.value}
                yield Sample(whole, whole, f"{owner}: {needs.why}", given)


def needed(name: str, value: Any, facts: Mapping[str, Any], version: str) -> Needs | None:
    """What a value of a field needs in a release, if anything."""
    if value == facts.get("default"):
        return None
    return next(
        (
            needs
            for needs in NEEDS
            if re.fullmatch(needs.names, name)
            and (needs.values is None or value in needs.values)
            and rank(needs.since) <= rank(version) <= rank(needs.until or version)
        ),
        None,
    )


def field_values(field: str, facts: Mapping[str, Any]) -> list[Any]:
    """Values that a field of a configuration class takes; none for a field that holds an object of a class."""
    types, default = facts.get("type", "").split("|"), facts.get("default")
    found = [default] if default is not None else []
    choices = facts.get("choices", [])
    found += [[choice] for choice in choices] if {"list", "set"} & set(types) else choices
    if "bool" in types:
        found += [True, False]
    if "int" in types and not choices:
        is_number = isinstance(default, int) and not isinstance(default, bool)
        found += first_within(facts, *((default + 1, default - 1) if is_number else (2, 1)))
    if "float" in types:
        found += first_within(facts, 0.5, 1.5)
    if "str" in types and not choices:
        found.append(FOLDER if field.endswith("_dir") else "word")
    return [value for index, value in enumerate(found) if repr(value) not in map(repr, found[:index])]


def objects(option: Any, configs: Mapping[str, Mapping[str, Any]]) -> int:
    """How many fields of a JSON option's configuration class have no plain value."""
    return sum(
        name.partition(".")[0] == option.config and not field_values(name, facts) for name, facts in configs.items()
    )


def first_within(facts: Mapping[str, Any], *numbers: float) -> list[float]:
    """The first of the numbers that is within a field's bounds."""
    fit = [n for n in numbers if all(TEST[bound](n, facts[bound]) for bound in TEST if bound in facts)]
    return fit[:1]


def texts(option: Any) -> list[str]:
    """Texts of which the release's parser and check_value must take the same."""
    if option.on is not None:
        return ["word", "true", "1", ""]
    return [*TEXTS, *(str(choice).swapcase() for choice in option.choices or ())]


def agreed(option: Any, text: str, made: Any) -> str | None:
    """Why check_value may differ from the parser about a text; `made` is what the parser makes of it, if anything."""
    if made in (None, "", [], [""], [None]) and text in ("", "None", "none"):
        return "text that stands for an option not given: the option is left out instead"
    if option.name in READ_LATER and isinstance(made, str):
        return "the parser takes any text, but the engine then only an object: see READ_LATER in values.py"
    if option.on is not None:
        return "booleans are written as booleans"
    if option.choices is not None and made in option.choices:
        return "choices are written as the release lists them, also where it takes them in any case"
    if option.type == "json" and option.config == "CompilationConfig" and text.isdecimal():
        return "0.9.0 to 0.9.1 also take the level alone: it is refused with the mapping to write"
    if option.type == "text":
        return "what only the release knows the form of is left to it"
    if option.type == "key=int" and text == "a=1,a=2":
        return "one name with two values is refused, as later releases do"
    if option.config is not None and text.strip().startswith("{"):
        return "fields of configuration classes are not judged by check_value"
    return None
