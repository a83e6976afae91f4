# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Round trip of one release against its own parsers; runs inside the catalogue's virtual environment, for verify.py.

`roundtrip.py VERSION SOURCE` where SOURCE is the folder that holds the release's `vllm` package. Prints the result as
JSON on the last line of standard output.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import enum
import io
import itertools
import json
import sys
import typing
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import probe
import samples
from plain import plain

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Option, load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import check_value, render_option
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.server import command
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.options import OWN_OPTIONS

# What every command says that is not an option of the spec's.
OWN = {
    "model": "organisation/model",
    "revision": "main",
    "served_model_name": ["m"],
    "host": "0.0.0.0",
    "port": 8000,
}

Refusal = str


@dataclass(frozen=True)
class Given:
    """An option with a sample, and the arguments that the two become."""

    option: Option
    sample: samples.Sample
    arguments: list[str]


@dataclass(frozen=True)
class Entrypoint:
    """A way to start the server of one release."""

    words: list[str]
    """The image's entrypoint."""
    parser: argparse.ArgumentParser
    """What knows the options."""
    parse: Callable[[list[str]], Any]
    """Parses what follows the entrypoint."""

    def __str__(self) -> str:
        return "module" if self.is_module else "serve"

    @property
    def is_module(self) -> bool:
        """Whether it is the module entrypoint, which takes the model as --model."""
        return self.words[-1] != "serve"

    def read(self, arguments: list[str]) -> Any:
        """What the parser makes of the arguments, or its refusal."""
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                return self.parse(arguments)
        except (Exception, SystemExit) as error:
            return refusal(errors.getvalue(), error)


def refusal(errors: str, error: BaseException) -> Refusal:
    """The lines of a parser's refusal that say why."""
    lines = [line for line in errors.splitlines() if "further information" not in line]
    return " ".join(" ".join(lines[-3:]).split())[-300:] or repr(error)


def entrypoints() -> list[Entrypoint]:
    """Both ways to start the server, as they parse when the server is started."""
    # load_parser() asked for help, and while they do, releases hide --model.
    sys.argv = ["vllm", "serve"]
    root, serve = probe.serve_parser()
    sys.argv = ["api_server.py"]
    module = probe.module_parser()
    return [
        Entrypoint(["vllm", "serve"], serve, lambda arguments: root.parse_args(["serve", *arguments])),
        Entrypoint(["python3", "-m", "vllm.entrypoints.openai.api_server"], module, module.parse_args),
    ]


def made(value: Any) -> str:
    """A value as text that tells 1 from 1.0 and True."""
    return json.dumps(plain(value), sort_keys=True)


def difference(entrypoint: Entrypoint, option: Option, expected: Any, parsed: Any) -> str | None:
    """How what the parser made of an option differs from what is expected."""
    action = entrypoint.parser._option_string_actions[option.flag]
    got = getattr(parsed, action.dest)
    if expected is ... or (expected == "" and got is None):
        return None  # many options take empty text for "not given"
    if isinstance(action, argparse._StoreFalseAction):
        expected = not expected
    if isinstance(expected, dict) and isinstance(got, str):
        got = read_later(got)
    if isinstance(expected, dict) and not isinstance(got, dict):
        got = {name: named(getattr(got, name, ...), value) for name, value in expected.items()}
    return None if made(got) == made(expected) else f"became {made(got)} instead of {made(expected)}"


def named(got: Any, expected: Any) -> Any:
    """A field's value; the name of a member of an enumeration where that is what was given."""
    return got.name if isinstance(got, enum.Enum) and got.name == expected else got


def read_later(text: str) -> Any:
    """What the engine makes of text that its parser leaves as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text)


class Verifier:
    """Verifies one release; runs in the catalogue's environment."""

    def __init__(self, version: str, source: Path) -> None:
        probe.load_parser(source)
        self.release = load(version)
        self.entrypoints = entrypoints()
        self.problems: dict[str, list[str]] = {"rejected": [], "mismatched": [], "stricter": [], "laxer": []}
        self.skipped: Counter[str] = Counter()
        self.renderings = self.commands = self.texts = 0

    def run(self) -> dict[str, Any]:
        """Verify all; plain data."""
        given = self.given()
        for entrypoint in self.entrypoints:
            self.round_trip(entrypoint, given)
        self.reverse()
        if self.release.version.startswith("0.8.5"):
            self.chance()
        counts = {"options": len(self.release.options), "renderings": self.renderings, "commands": self.commands}
        return {**counts, "texts": self.texts, "problems": self.problems, "skipped": self.skipped}

    def given(self) -> list[Given]:
        """Every option with every sample, and the arguments that the two become."""
        configs, found = self.release.facts("configs"), []
        for option in self.release.options.values():
            if option.name in samples.SKIPPED:
                self.skipped[f"{option.name}: {samples.SKIPPED[option.name]}"] += 1
                continue
            self.skipped["field that holds an object of a class"] += samples.objects(option, configs)
            for sample in samples.samples(option, configs, self.release.version):
                found.append(Given(option, sample, render_option(option, sample.value)))
                if sample.needs:
                    self.needed(option, sample)
        return found

    def chance(self) -> None:
        """See that choices hold in every run: 0.8.5 takes one of two Literals out of a set, by their addresses."""
        for turn in (1, -1):
            typing._LiteralGenericAlias.__hash__ = lambda self, turn=turn: turn * len(self.__args__)
            parser = entrypoints()[0].parser
            for option in self.release.options.values():
                choices = set(option.choices or ()) - set(
                    parser._option_string_actions[option.flag].choices or option.choices or ()
                )
                if choices:
                    self.problems["mismatched"].append(f"{option.flag}: not in every run {', '.join(sorted(choices))}")

    def needed(self, option: Option, sample: samples.Sample) -> None:
        """Count a value that is not given alone, and see that the release indeed refuses it alone."""
        self.skipped[f"alone: {sample.needs}"] += 1
        alone = Given(option, sample, render_option(option, sample.lone))
        if not isinstance(self.entrypoints[0].read(["model", *alone.arguments]), Refusal):
            self.problem("mismatched", self.entrypoints[0], alone, f"taken alone, though: {sample.needs}")

    def round_trip(self, entrypoint: Entrypoint, given: list[Given]) -> None:
        """Parse all samples in whole commands; alone those of options that command() writes itself."""
        actions = entrypoint.parser._option_string_actions
        given = [item for item in given if item.arguments and not (item.option.serve_only and entrypoint.is_module)]
        self.renderings += len(given)
        waiting: dict[str, list[Given]] = {}
        for item in given:
            if item.arguments[0].partition("=")[0] not in actions:
                self.problem("mismatched", entrypoint, item, "abbreviated, or no option at all")
            elif item.option.name in OWN_OPTIONS:
                self.alone(entrypoint, item)
            else:
                waiting.setdefault(actions[item.option.flag].dest, []).append(item)
        # Each command has one sample of each option, until every sample was in one.
        for row in itertools.zip_longest(*waiting.values()):
            self.together(entrypoint, [item for item in row if item is not None])

    def together(self, entrypoint: Entrypoint, line: list[Given]) -> None:
        """Parse a whole command; if it is rejected, each of its options alone, to see which is to blame."""
        self.commands += 1
        command = self.command(entrypoint, {item.option.name: item.sample.value for item in line})
        flags = [argument.partition("=")[0] for argument in command if argument.startswith("--")]
        odd = [flag for flag in flags if flag not in entrypoint.parser._option_string_actions or flag == "--config"]
        parsed = entrypoint.read(command)
        if isinstance(parsed, Refusal):
            blamed = [item for item in line if self.alone(entrypoint, item)]
            if not blamed:
                self.problems["rejected"].append(f"{entrypoint} {command}: {parsed}")
            return
        for item in line:
            if reason := difference(entrypoint, item.option, item.sample.expected, parsed):
                self.problem("mismatched", entrypoint, item, reason)
        # `vllm serve` has no option --model in 0.9.0.
        own = {name: getattr(parsed, name) for name in OWN if name != "model"}
        own["model"] = parsed.model if entrypoint.is_module else parsed.model_tag
        if own != OWN or odd:
            self.problems["mismatched"].append(f"{entrypoint} {command}: the command became {own}, odd flags: {odd}")

    def command(self, entrypoint: Entrypoint, engine: dict[str, Any]) -> list[str]:
        """What follows the entrypoint when a model with these engine options is served."""
        (name,) = OWN["served_model_name"]
        spec = ModelSpec(name=name, model=OWN["model"], revision=OWN["revision"], image="i", engine=engine)
        return command(spec, self.release, entrypoint.words, None)

    def alone(self, entrypoint: Entrypoint, item: Given) -> bool:
        """Parse an option alone; whether something is wrong."""
        model = ["--model", "model"] if entrypoint.is_module else ["model"]
        parsed = entrypoint.read([*model, *item.arguments])
        if isinstance(parsed, Refusal):
            self.problem("rejected", entrypoint, item, parsed)
            return True
        reason = difference(entrypoint, item.option, item.sample.expected, parsed)
        if reason:
            self.problem("mismatched", entrypoint, item, reason)
        return reason is not None

    def problem(self, kind: str, entrypoint: Entrypoint, item: Given, reason: str) -> None:
        """Note what is wrong with a rendering."""
        self.problems[kind].append(f"{entrypoint} {item.arguments}: {reason}")

    def reverse(self) -> None:
        """What check_value refuses, the parser must refuse, and the other way round."""
        serve = self.entrypoints[0]
        for option in self.release.options.values():
            if option.name in samples.SKIPPED:
                continue
            for text in samples.texts(option):
                values = [text] * (option.nargs if isinstance(option.nargs, int) else 1)
                reason = check_value(option, values if option.kind == "list" else text)
                if reason is None:
                    # What is rendered counts: for some values it is not the text that was given.
                    flag, *values = render_option(option, values if option.kind == "list" else text)
                    values = values or [flag.partition("=")[2]]
                refused, made_of_it = taken(serve.parser, option, values)
                self.texts += 1
                if (reason is None) == (refused is None):
                    continue
                if why := samples.agreed(option, text, made_of_it):
                    self.skipped[why] += 1
                elif reason is not None:
                    self.problems["stricter"].append(f"{option.flag} {text!r}: {reason}")
                else:
                    self.problems["laxer"].append(f"{option.flag} {text!r}: {refused}")


def taken(parser: argparse.ArgumentParser, option: Option, texts: list[str]) -> tuple[Refusal | None, Any]:
    """Why the parser refuses the texts as an option's values (None if it takes them), and what it makes of them."""
    action = parser._option_string_actions[option.flag]
    if action.nargs == 0:
        return "it takes no value", None
    errors, namespace = io.StringIO(), argparse.Namespace(**{action.dest: None})
    try:
        with contextlib.redirect_stderr(errors):
            action(parser, namespace, parser._get_values(action, texts), option.flag)
    except argparse.ArgumentError as error:
        return str(error.message)[-300:], None
    except (Exception, SystemExit) as error:
        return refusal(errors.getvalue(), error), None
    return None, getattr(namespace, action.dest)


if __name__ == "__main__":
    print(json.dumps(Verifier(sys.argv[1], Path(sys.argv[2])).run()))
