# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build one release's own server parser and print its facts as JSON; runs inside the catalogue's virtual environment.

`probe.py SOURCE` where SOURCE is the folder that holds the release's `vllm` package. The release's code is executed;
only what needs a compiled extension or a GPU is replaced by an empty stand-in. NVML is made to show one GPU, because
the published images run on CUDA and some defaults and choices follow the platform.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import importlib.abc
import importlib.machinery
import io
import json
import os
import re
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import registries
from defaults import defaults
from plain import plain

# Modules that cannot exist here: vLLM's compiled code, GPU libraries and optional accelerators' kernels.
STAND_INS = (
    r"(vllm\.(_(?!core_C)\w*C(_\w+)?|vllm_flash_attn(\.\w+)*|_flashmla\w*|third_party\.flashmla(\.\w+)*|cumem_allocator|spinloop|fs_io_C)"
    r"|gguf|diskcache|triton|xformers|flashinfer|vllm_flash_attn|outlines|lmformatenforcer|xgrammar|llguidance"
    r"|outlines_core|cv2|numba|humming)(\..*)?"
)
# NVML's Python binding, in the two places that releases import it from.
NVML = r"pynvml|vllm\.third_party\.pynvml"
# What NVML answers: one GPU of the kind that the published images are made for.
NVML_ANSWERS = {
    "nvmlDeviceGetCount": 1,
    "nvmlDeviceGetCudaComputeCapability": (9, 0),
    "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
    "nvmlDeviceGetMemoryInfo": types.SimpleNamespace(total=80 << 30, free=80 << 30, used=0),
    "nvmlSystemGetCudaDriverVersion": 13000,
}


# How help texts say that the option itself is deprecated; "Enable deprecated metrics" does not.
DEPRECATED = re.compile(r"^\W*deprecated\b|[\[(]deprecated\b|\b(is|are|been|be) deprecated\b", re.I)

MARKED = "marked deprecated by the parser"


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that gives an empty module, whose every attribute exists, for the names that match a pattern."""

    def __init__(self, pattern: str, attribute: Callable[[str], Any]) -> None:
        self.pattern, self.attribute = re.compile(pattern), attribute

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """Claim the modules that are stood in for."""
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if self.pattern.fullmatch(name) else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """The empty module."""
        module = types.ModuleType(spec.name)
        module.__version__, module.__file__ = "0", f"<stand-in for {spec.name}>"
        module.__getattr__ = self.get
        return module

    def get(self, name: str) -> Any:
        """An attribute of a stand-in; special names stay absent, so that Python's own protocols are not misled."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self.attribute(name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to execute."""


class Anything(type):
    """Metaclass of stand-in classes: every attribute exists, so that enumerations of libraries can be named."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=name)


def _anything(name: str) -> Any:
    """A class for a capitalised name, which may be subclassed, and a mock for any other."""
    if name[:1].isupper():
        return Anything(name, (), {"__init__": lambda self, *args, **kwargs: None})
    return MagicMock(name=name)


def _nvml(name: str) -> Any:
    """A function of NVML, or its exception class."""
    return Exception if name.startswith("NVMLError") else lambda *args, **kwargs: NVML_ANSWERS.get(name)


class Captured(BaseException):
    """Carries the parser out of a release's main() at the moment when it would parse."""


def serve_parser() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser of `vllm` and that of `vllm serve` in it, built by the release's own code."""
    try:
        serve = importlib.import_module("vllm.entrypoints.cli.serve")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("vllm.entrypoints.cli"):
            raise
        return _parser_of_main()
    root = _parser_class()(prog="vllm")
    return root, serve.cmd_init()[0].subparser_init(root.add_subparsers())


def _parser_of_main() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Before vllm.entrypoints.cli existed, vllm.scripts.main() built the parser and parsed at once."""

    def capture(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        raise Captured(self)

    original, argparse.ArgumentParser.parse_args = argparse.ArgumentParser.parse_args, capture
    flexible = _parser_class()
    own, flexible.parse_args = flexible.parse_args, capture
    sys.argv = ["vllm", "serve"]
    try:
        importlib.import_module("vllm.scripts").main()
    except Captured as captured:
        main = captured.args[0]
    finally:
        argparse.ArgumentParser.parse_args, flexible.parse_args = original, own
    commands = next(action for action in main._actions if isinstance(action, argparse._SubParsersAction))
    return main, commands.choices["serve"]


def _parser_class() -> type[argparse.ArgumentParser]:
    """FlexibleArgumentParser, which moved from vllm.utils to vllm.utils.argparse_utils."""
    for module in ("vllm.utils.argparse_utils", "vllm.utils"):
        try:
            return importlib.import_module(module).FlexibleArgumentParser
        except (ModuleNotFoundError, AttributeError):
            continue
    raise RuntimeError("FlexibleArgumentParser is in none of the known modules of this release")


def module_parser() -> argparse.ArgumentParser:
    """The parser behind `python3 -m vllm.entrypoints.openai.api_server`."""
    for module in ("openai.cli_args", "launchers.cli_args", "common.cli_args"):
        try:
            make = importlib.import_module(f"vllm.entrypoints.{module}").make_arg_parser
        except (ModuleNotFoundError, AttributeError):
            continue
        return make(_parser_class()())
    raise RuntimeError("make_arg_parser is in none of the known modules of this release")


def outcome(convert: Callable[[str], Any], text: str) -> Any:
    """What the converter makes of the text; ValueError stands for every refusal."""
    try:
        return convert(text)
    except BaseException:
        return ValueError


def type_of(action: argparse.Action) -> str:
    """Name the converter of an option by what it does with sample texts, not by what it is called."""
    convert = action.type
    if convert is None or convert is str:
        return "str"
    if outcome(convert, "7k") == 7000:
        return "size-or-auto" if outcome(convert, "auto") == -1 else "size"
    if outcome(convert, "a=1") == {"a": 1}:
        return "json-or-key=int" if outcome(convert, '{"a": [1]}') == {"a": [1]} else "key=int"
    if outcome(convert, "a,b") == ["a", "b"]:
        return "comma-separated"
    read = outcome(convert, "{} #")  # a comment: no JSON, but a literal of Python
    if read is not ValueError and read is not None and not isinstance(read, str | list):
        return "literal"
    if outcome(convert, "word") == "word":
        return "json-or-str" if isinstance(outcome(convert, '{"a": 1}'), dict) else "str"
    if outcome(convert, "7") == 7 and outcome(convert, "{}") is ValueError:
        return "float" if outcome(convert, "7.5") == 7.5 else "int"
    if not isinstance(outcome(convert, "{}"), str) and outcome(convert, "{}") is not ValueError or config_of(action):
        return "json"
    return "text"


def config_of(action: argparse.Action) -> type | None:
    """The configuration class that a JSON option is validated into."""
    queue = [action.type]
    while queue:  # newer converters carry it, wrapped or not
        convert = queue.pop()
        owner = getattr(convert, "__self__", convert)  # KVTransferConfig.from_cli
        name = getattr(convert, "__qualname__", "")  # PoolerConfig.from_json, a static method
        if not isinstance(owner, type) and "." in name and "<" not in name:
            owner = getattr(sys.modules.get(convert.__module__), name.partition(".")[0], convert)
        if isinstance(owner, type) and (dataclasses.is_dataclass(owner) or hasattr(owner, "model_fields")):
            return owner
        queue += getattr(convert, "__defaults__", None) or ()
        queue += [cell.cell_contents for cell in getattr(convert, "__closure__", None) or ()]
    return type(action.default) if dataclasses.is_dataclass(action.default) else None


def config_named_like(action: argparse.Action) -> type | None:
    """Before converters carried their class: the one of vllm.config that is called as the option is."""
    configs = {name.lower(): value for name, value in vars(importlib.import_module("vllm.config")).items()}
    found = configs.get(action.dest.removeprefix("override_").replace("_", ""))
    return found if isinstance(found, type) and dataclasses.is_dataclass(found) else None


def boolean_of(parser: argparse.ArgumentParser, action: argparse.Action, flag: str) -> dict[str, Any] | None:
    """How the option is switched on and off, found by parsing; None for an option that wants a value."""
    if action.nargs == 0:
        names = [n for n, owner in parser._option_string_actions.items() if owner is action and n.startswith("--")]
        shown = set(action.option_strings)  # 0.33 keeps the older spellings registered, but hidden from help
        tokens = [flag, *sorted(set(names) - {flag}, key=lambda name: (name not in shown, name))]
    elif action.nargs == "?" or action.type is bool:
        tokens = [flag, f"{flag}=True", f"{flag}=False", f"{flag}="]
    else:
        return None
    inverted = isinstance(action, argparse._StoreFalseAction)
    spellings: dict[bool, str] = {}
    for token in tokens:
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                value = getattr(argparse.ArgumentParser.parse_known_args(parser, ["model", token])[0], action.dest)
        except (Exception, SystemExit):
            continue
        if not isinstance(value, bool):
            return None
        spellings.setdefault(value != inverted, token)
    off = spellings.get(False)
    style = "flag" if off is None else "value" if "=" in off else "no" if off.startswith("--no-") else "enable-disable"
    return {"on": spellings[True], "off": off, "style": style}


def facts_of(parser: argparse.ArgumentParser, action: argparse.Action, module_options: set[str]) -> dict[str, Any]:
    """Every fact of one option; what is at its usual value (no alias, no choices, ...) is left out."""
    long = [name for name in action.option_strings if name.startswith("--")]
    positive = [name for name in long if not name.startswith("--no-") or name[5:] not in {other[2:] for other in long}]
    flag = next((n for n in positive if n[2:].replace("-", "_") == action.dest), positive[0])
    boolean = boolean_of(parser, action, flag)
    negative = {name for name in long if boolean and name == boolean["off"]}
    help_text = "" if action.help in (None, argparse.SUPPRESS) else " ".join(action.help.split())
    deprecated = action in getattr(parser, "_deprecated", ()) or bool(DEPRECATED.search(help_text))
    known = metavar_choices(action.metavar)
    config = config_of(action)
    facts = {
        "flag": flag,
        "aliases": sorted(set(action.option_strings) - {flag} - negative - (set(long) - set(positive))),
        "boolean": boolean,
        "type": None if boolean else type_of(action),
        "config": config.__name__ if config else None,
        "nargs": None if boolean else action.nargs,
        "repeat": isinstance(action, argparse._AppendAction) or None,
        "choices": choices_of(action),
        "known": known,
        "default": None if action.default is argparse.SUPPRESS else plain(action.default),
        "dest": None if action.dest == flag[2:].replace("-", "_") else action.dest,
        "deprecated": (help_text or MARKED) if deprecated else None,
        "serve_only": True if not module_options & set(action.option_strings) else None,
    }
    return {key: value for key, value in facts.items() if value is not None and (value != [] or key == "default")}


def choices_of(action: argparse.Action) -> list[Any] | None:
    """The choices that can be given: None stands for the default, and "None" often is listed though refused."""
    if action.choices is None:
        return None
    choices, convert = [choice for choice in action.choices if choice is not None], action.type or str
    return sorted((plain(choice) for choice in choices if outcome(convert, str(plain(choice))) in choices), key=str)


def metavar_choices(metavar: Any) -> list[str] | None:
    """Values that an option open to any string lists in its help: a list, or text of the form {a,b,c}."""
    if isinstance(metavar, str):
        match = re.match(r"\{([^{}]+)\}", metavar)
        metavar = match.group(1).split(",") if match else None
    return sorted(map(str, metavar)) if isinstance(metavar, list | set) else None


def environment() -> list[str]:
    """Names of the VLLM_* variables that the release's own table knows."""
    return sorted(name for name in importlib.import_module("vllm.envs").environment_variables if name[:5] == "VLLM_")


def load_parser(source: Path) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Make the release importable, pretend a GPU, and build the parsers of `vllm` and `vllm serve`."""
    sys.path.insert(0, str(source))
    sys.meta_path.insert(0, StandIns(NVML, _nvml))
    sys.meta_path.append(StandIns(STAND_INS, _anything))
    # Defaults must be the release's, not those of the machine on which the extractor happens to run.
    for name in [name for name in os.environ if name.startswith(("VLLM_", "HF_", "CUDA_"))]:
        del os.environ[name]
    os.environ.update(VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1", VLLM_PLUGINS="")
    _order_literals()
    _answer_for_kernels()
    _allow_known_model_types()
    sys.argv = ["vllm", "serve", "--help"]  # newer releases read their help texts only when help is asked for
    return serve_parser()


def _order_literals() -> None:
    """0.8.5 takes one of two Literals out of a set, by the addresses of types: always the same one here."""
    typing._LiteralGenericAlias.__hash__ = lambda self: hash(frozenset(map(repr, self.__args__)))


def _answer_for_kernels() -> None:
    """Some releases ask their kernels, while they are imported, whether they support the GPU."""
    import torch

    find = torch._ops._OpNamespace.__getattr__

    def answer(self: Any, name: str) -> Any:
        return (lambda *args: True) if re.fullmatch(r"cutlass\w*_support\w*", name) else find(self, name)

    torch._ops._OpNamespace.__getattr__ = answer
    torch.cuda.get_device_properties = lambda device=None: types.SimpleNamespace(multi_processor_count=132)
    torch.cuda.get_device_capability = lambda device=None: NVML_ANSWERS["nvmlDeviceGetCudaComputeCapability"]


def _allow_known_model_types() -> None:
    """Releases register model types that the newer transformers used here knows already; let theirs pass."""
    import transformers

    register = transformers.AutoConfig.register
    transformers.AutoConfig.register = lambda name, config, exist_ok=False: register(name, config, exist_ok=True)


def tables(classes: list[type], options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The sections that the release's own tables and rules make, and why others could not be had."""
    makers = {
        **registries.TABLES,
        "configs": lambda: registries.configs(classes),
        "defaults": lambda: defaults(NVML_ANSWERS, options),  # last: it changes what NVML shows
    }
    sections: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, make in makers.items():
        try:
            sections[name] = make()
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    return sections | registries.of_options(options, sections), failed


def main() -> int:
    """Print the facts as one JSON object on the last line of standard output."""
    _command, parser = load_parser(Path(sys.argv[1]))
    module_options = {name for action in module_parser()._actions for name in action.option_strings}
    options: dict[str, Any] = {}
    classes: list[type] = []
    for action in parser._actions:
        if action.option_strings and not isinstance(action, argparse._HelpAction):
            facts = facts_of(parser, action, module_options)
            options[facts["flag"][2:].replace("-", "_")] = facts
            classes += filter(None, [config_of(action) or config_named_like(action)])
    sections, failed = tables(classes, options)
    facts = {"options": options, "environment": {name: {} for name in environment()}, **sections, "failed": failed}
    print(json.dumps(facts, sort_keys=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
