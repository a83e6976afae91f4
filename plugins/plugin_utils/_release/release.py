# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a vLLM release accepts, from the catalogue that tools/catalogue extracts out of vLLM's own packages."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from packaging.version import InvalidVersion, Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue

_MAPPINGS = ("json", "json-or-str", "key=int", "json-or-key=int", "literal")


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
    """str, int, float, size (1k, 2M), size-or-auto, json, json-or-str, key=int, json-or-key=int, literal (of Python),
    comma-separated, or text (in a form that only the release knows); None for a boolean."""
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
    removal: str | None
    """The release for which that announces the removal; None where it announces none."""
    serve_only: bool
    """Whether `vllm serve` has the option, but the module entrypoint has not."""

    @property
    def kind(self) -> str:
        """boolean, list, json or value."""
        if self.on is not None:
            return "boolean"
        if self.repeat or self.nargs not in (None, "?"):
            return "list"
        return "json" if self.type in _MAPPINGS else "value"


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

    def facts(self, section: str) -> Mapping[str, Mapping[str, Any]]:
        """What another section of the catalogue holds of this release, by name."""
        return catalogue.facts(section, self.version)


def load(version: str) -> Release:
    """Facts of a version, or of the nearest catalogued one with `exact` False and a note. Never fails."""
    known, why = _nearest(version)
    note = "" if why is None else f"vLLM {version} is not in the catalogue ({why}): the facts of {known} are used"
    image = catalogue.facts("images", known).get("cuda", {})
    entrypoint = tuple(image["entrypoint"]) if image else None
    positional = entrypoint is None or entrypoint[-1] == "serve"
    environment = frozenset(catalogue.facts("environment", known))
    return Release(known, version, why is None, note, _options(known), environment, entrypoint, positional)


def _nearest(version: str) -> tuple[str, str | None]:
    """The catalogued release for a version, and why another one stands in (None if it does not)."""
    order = catalogue.releases()
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
def _options(version: str) -> Mapping[str, Option]:
    return MappingProxyType({name: _option(name, facts) for name, facts in catalogue.facts("options", version).items()})


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
        removal=facts.get("removal"),
        serve_only=facts.get("serve_only", False),
    )


def _snake(name: str) -> str:
    return name.lstrip("-").replace("-", "_")
