# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue that tools/catalogue extracts out of vLLM's own packages, read a section at a time.

A section is a file of data/catalogue: names, each with spans of releases in which the same facts hold. README.md beside
the files says what each section holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

FOLDER = Path(__file__).parent.parent / "data" / "catalogue"

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Life:
    """In which catalogued releases a name of a section exists."""

    name: str
    spans: tuple[tuple[str, str | None], ...]
    """First and last release of each span; the last is None if the newest catalogued release still has the name."""

    @property
    def since(self) -> str:
        """The first release that has it."""
        return self.spans[0][0]

    @property
    def until(self) -> str | None:
        """The last release that has it; None if the newest catalogued one does."""
        return self.spans[-1][1]

    def __str__(self) -> str:
        return " and ".join(
            f"it exists from {since} on" if until is None else f"it existed from {since} to {until}"
            for since, until in self.spans
        )


def releases() -> tuple[str, ...]:
    """The catalogued releases, the oldest first."""
    return tuple(_section("releases"))


def facts(section: str, version: str) -> Mapping[str, Facts]:
    """What a section holds of one catalogued release, by name; `since` and `until` are among the facts."""
    return _facts(section, version)


def life(section: str, name: str) -> Life | None:
    """The releases that have this name in the section; None if none has."""
    states = _section(section).get(name)
    if not states:
        return None
    rank = _rank()
    spans: list[tuple[str, str | None]] = []
    for state in states:
        since, until = state["since"], state["until"]
        # Only the facts changed between two spans that touch, not the existence.
        if spans and spans[-1][1] is not None and rank[spans[-1][1]] + 1 == rank[since]:
            since = spans.pop()[0]
        spans.append((since, until))
    return Life(name, tuple(spans))


def names(section: str) -> tuple[str, ...]:
    """Every name that any release has in the section."""
    return tuple(_section(section))


@cache
def _section(section: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{section}.json").read_text(encoding="utf-8"))


@cache
def _rank() -> dict[str, int]:
    return {version: index for index, version in enumerate(releases())}


@cache
def _facts(section: str, version: str) -> Mapping[str, Facts]:
    if section == "releases":
        return MappingProxyType({version: _section(section)[version]})
    rank = _rank()
    here = rank[version]
    found = {}
    for name, spans in _section(section).items():
        for span in spans:
            if rank[span["since"]] <= here and (span["until"] is None or here <= rank[span["until"]]):
                found[name] = span
                break
    return MappingProxyType(found)
