# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a migration is: why a name or value went, and what says the same in a release. Pure."""

from __future__ import annotations

import dataclasses
import functools
import json
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release

Remedy = t.Mapping[str, t.Mapping[str, t.Any]]
"""What to write instead, by section of the spec: engine and env; an empty one: leave it out."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A value to migrate: the option's, and beside it the whole section engine, with the release to write it for."""

    value: t.Any
    engine: t.Mapping[str, t.Any]
    release: Release

    def before(self, version: str) -> bool:
        """Whether the release at hand is older than a catalogued one."""
        return rank(self.release.version) < rank(version)

    def fields(self, config: str) -> frozenset[str]:
        """The fields of a configuration class; empty where the release's facts do not tell."""
        return class_fields(config, self.release.version)


class Note(t.NamedTuple):
    """What to know in some releases: from one to another, both included; None leaves that end open."""

    text: str
    since: str | None = None
    until: str | None = None


@dataclasses.dataclass(frozen=True)
class Migration:
    """What became of an option or a value.

    reason: a clause for the user, read behind "it was removed in ...: "; empty where the name only came later.
    source: release and file where this can be read.
    rewrite: proposals, the newest spelling first; none where the value cannot be migrated.
    advice: what to do where no proposal fits the release.
    """

    reason: str
    source: str
    rewrite: t.Callable[[Case], t.Sequence[Remedy]]
    advice: str = ""
    notes: t.Sequence[Note] = ()


@dataclasses.dataclass(frozen=True)
class Changed:
    """A value that an option takes no longer.

    until: the last release that takes it as it is written; None: it is never taken so.
    """

    option: str
    pattern: str
    until: str | None
    migration: Migration


@dataclasses.dataclass(frozen=True)
class Replacement:
    """The answer for one release.

    remedy: None where nothing else says the same; {}: leave it out.
    advice: what to do where there is no remedy, and what to know in this release.
    """

    reason: str
    advice: str
    remedy: Remedy | None


@functools.cache
def class_fields(config: str, version: str) -> frozenset[str]:
    """The fields of a configuration class in a catalogued release."""
    names = catalogue.facts("configs", version)
    return frozenset(name.partition(".")[2] for name in names if name.startswith(f"{config}."))


def rank(version: str) -> int:
    return catalogue.releases().index(version)


def as_mapping(value: t.Any) -> dict[str, t.Any] | None:
    """A mapping, also one that is written as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return dict(value) if isinstance(value, dict) else None
