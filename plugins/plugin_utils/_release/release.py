# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a vLLM release accepts, from the catalogue that tools/catalogue extracts out of vLLM's own packages."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from packaging.version import InvalidVersion, Version

CATALOGUE = Path(__file__).parent.parent / "data" / "catalogue.json"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of the server command, as one release has it."""

    name: str
    """The flag without dashes in front, in snake_case."""
    flag: str
    """The full flag, never an abbreviation."""
    aliases: tuple[str, ...]
    """Other flags that mean the same, short ones among them."""
    type: str | None
    """str, int, float, size (1k, 2M), size-or-auto, json, json-or-str, key=int, comma-separated, or text (in a form
    that only the release knows); None for a boolean."""
    on: str | None
    """The argument that switches a boolean on; None if the option is no boolean."""
    off: str | None
    """The argument that switches a boolean off; None if leaving it out is the only way."""
    boolean_style: str | None
    """flag (no way to say no), no (--no-x), enable-disable (--disable-x) or value (--x=False)."""
    nargs: int | str | None
    """How many values follow the flag: a number, "+", "*", or "?" for none or one."""
    repeat: bool
    """Whether each value of a list takes the flag anew."""
    choices: tuple[Any, ...] | None
    """The values that the parser accepts; None if it does not limit them."""
    known: tuple[str, ...]
    """Values that the option's help lists where plugins may add others."""
    default: Any
    """The parser's default as plain data; None also where the default is a configuration object."""
    config: str | None
    """The configuration class that a JSON object is validated into."""
    deprecated: str | None
    """What the release itself says of the deprecation."""
    serve_only: bool
    """Whether `vllm serve` has the option, but the module entrypoint has not."""

    @property
    def kind(self) -> str:
        """boolean, list, json or value."""
        if self.on is not None:
            return "boolean"
        if self.repeat or self.nargs not in (None, "?"):
            return "list"
        return "json" if self.type in ("json", "json-or-str", "key=int") else "value"


@dataclass(frozen=True, slots=True)
class Life:
    """In which catalogued releases an option exists."""

    name: str
    spans: tuple[tuple[str, str | None], ...]
    """First and last release of each span; the last is None if the newest catalogued release still has the option."""

    @property
    def since(self) -> str:
        """The first release that accepts the option."""
        return self.spans[0][0]

    @property
    def until(self) -> str | None:
        """The last release that accepts the option; None if the newest catalogued one does."""
        return self.spans[-1][1]

    def __str__(self) -> str:
        return " and ".join(
            f"it exists from {since} on" if until is None else f"it existed from {since} to {until}"
            for since, until in self.spans
        )


@dataclass(frozen=True, eq=False)
class Release:
    """Facts of one release."""

    version: str
    """The catalogued release that these facts are of."""
    requested: str
    """The version that was asked for."""
    exact: bool
    """Whether the requested version is this release (or a build of it, such as 0.32.0+cpu)."""
    note: str
    """Why another release stands in; empty if exact."""
    options: Mapping[str, Option]
    """Every option of `vllm serve`, by its name in snake_case."""
    environment: frozenset[str]
    """Every VLLM_* variable that the release reads."""
    entrypoint: tuple[str, ...] | None
    """Entrypoint of the published CUDA image; None where the release's archive has no Dockerfile."""
    positional_model: bool
    """Whether that image takes the model as its first argument (vllm serve MODEL) and not as --model MODEL."""

    def option(self, name: str) -> Option | None:
        """The option of this name or alias, with dashes or underscores; None if the release has none."""
        name = _snake(name)
        found = self.options.get(name)
        if found is None:
            found = next((o for o in self.options.values() if name in map(_snake, o.aliases)), None)
        return found

    def suggest(self, name: str) -> list[str]:
        """Up to three options that may have been meant, the likeliest first."""
        name = _snake(name)
        # 0.33 reads --disable-x as the opposite of --enable-x: the option is enable_x.
        opposite = [option.name for option in self.options.values() if option.off and _snake(option.off) == name]
        near = difflib.get_close_matches(name, self.options, n=3, cutoff=0.7)
        return list(dict.fromkeys(opposite + near))[:3]

    def life(self, name: str) -> Life | None:
        """The releases that have the option of this name; None if none has."""
        states = _catalogue()["options"].get(_snake(name))
        if not states:
            return None
        order = releases()
        spans: list[tuple[str, str | None]] = []
        for state in states:
            since, until = state["since"], state["until"]
            if spans and spans[-1][1] is not None and order.index(spans[-1][1]) + 1 == order.index(since):
                since = spans.pop()[0]
            spans.append((since, until))
        return Life(_snake(name), tuple(spans))


def releases() -> tuple[str, ...]:
    """The catalogued releases, the oldest first."""
    return tuple(_catalogue()["releases"])


def load(version: str) -> Release:
    """Facts of a version, or of the nearest catalogued one with `exact` False and a note. Never fails."""
    known, why = _nearest(version)
    note = "" if why is None else f"vLLM {version} is not in the catalogue ({why}): the facts of {known} are used"
    options, environment, facts = _facts(known)
    entrypoint = tuple(facts["entrypoint"]) if facts["entrypoint"] else None
    positional = entrypoint is None or entrypoint[-1] == "serve"
    return Release(known, version, why is None, note, options, environment, entrypoint, positional)


def _nearest(version: str) -> tuple[str, str | None]:
    """The catalogued release for a version, and why another one stands in (None if it does not)."""
    order = releases()
    try:
        wanted = Version(version)
    except InvalidVersion:
        return order[-1], "not a version number; the newest known release stands in"
    if wanted.public in order:
        return wanted.public, None
    if wanted.is_prerelease and wanted.base_version in order:
        return wanted.base_version, "a build before the release"
    older = [release for release in order if Version(release) <= wanted]
    same_minor = [release for release in older if Version(release).release[:2] == wanted.release[:2]]
    if same_minor:
        return same_minor[-1], "the nearest release of the same minor version stands in"
    if older:
        return older[-1], "the nearest older release stands in"
    return order[0], "older than every known release"


@cache
def _catalogue() -> dict[str, Any]:
    return json.loads(CATALOGUE.read_text(encoding="utf-8"))


@cache
def _facts(version: str) -> tuple[Mapping[str, Option], frozenset[str], dict[str, Any]]:
    """Options, environment and the remaining facts of one catalogued release."""
    catalogue = _catalogue()
    rank = {release: index for index, release in enumerate(catalogue["releases"])}
    here = rank[version]

    def holds(span: Mapping[str, Any]) -> bool:
        return rank[span["since"]] <= here and (span["until"] is None or here <= rank[span["until"]])

    states = ((name, next(filter(holds, spans), None)) for name, spans in catalogue["options"].items())
    options = {name: _option(name, state) for name, state in states if state is not None}
    environment = frozenset(name for name, spans in catalogue["environment"].items() if any(map(holds, spans)))
    return MappingProxyType(options), environment, catalogue["releases"][version]


def _option(name: str, facts: Mapping[str, Any]) -> Option:
    boolean = facts.get("boolean") or {}
    return Option(
        name=name,
        flag=facts["flag"],
        aliases=tuple(facts.get("aliases", ())),
        type=facts.get("type"),
        on=boolean.get("on"),
        off=boolean.get("off"),
        boolean_style=boolean.get("style"),
        nargs=facts.get("nargs"),
        repeat=facts.get("repeat", False),
        choices=tuple(facts["choices"]) if "choices" in facts else None,
        known=tuple(facts.get("known", ())),
        default=facts.get("default"),
        config=facts.get("config"),
        deprecated=facts.get("deprecated"),
        serve_only=facts.get("serve_only", False),
    )


def _snake(name: str) -> str:
    return name.lstrip("-").replace("-", "_")
