# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The known causes of failures, read once from known/*.yml. docs/diagnosis.md says what an entry holds."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
import typing as t

import yaml

# From root to leaf: of several that match, those of an earlier rank are the reason for those of a later one.
RANKS = ("cause", "symptom", "wrapper", "request", "notice")
# Warnings without progress after which a start that goes well so far waits for what does not come.
REPEATS = 3
# The shortest run of plain characters by which a pattern is looked for before it is tried.
LEAST_LITERAL = 5
# Characters that end a run of plain ones.
_SPECIAL = frozenset("^$.|()[]{}*+?\\")
# The head of a group; look: of one that looks ahead or back and matches nothing itself.
_GROUP = re.compile(r"\((?:\?(?:P<\w+>|:|(?P<look><?[=!])))?")


@dataclasses.dataclass(frozen=True)
class Pattern:
    """match: searched in one line; literal: what every line that it matches holds.

    near: must be found in one of the lines before, or in the line itself; any_level: whether a warning or a line of
    information shows it as well; repeats: how many such lines without progress after them show it of a start that goes
    well. rank and the texts replace those of the signature.
    """

    match: t.Pattern[str]
    literal: str
    near: t.Pattern[str] | None
    rank: str
    any_level: bool
    repeats: int
    cause: str
    remedy: str
    change: tuple[t.Mapping[str, t.Any], ...]


@dataclasses.dataclass(frozen=True)
class Signature:
    """One cause. facts: what a failure's facts must hold for it where the log says nothing of it."""

    id: str
    area: str
    rank: str
    patterns: tuple[Pattern, ...]
    facts: t.Mapping[str, t.Any]
    not_after: str | None
    explains: frozenset[str]
    cause: str
    remedy: str
    change: tuple[t.Mapping[str, t.Any], ...]
    since: str | None
    until: str | None
    link: str | None
    sample: str


@functools.cache
def signatures() -> tuple[Signature, ...]:
    """All signatures, in the order of their files."""
    folder = pathlib.Path(__file__).with_name("known")
    return tuple(
        _signature(path.stem, entry)
        for path in sorted(folder.glob("*.yml"))
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))
    )


def literal(pattern: str) -> str:
    """The longest run of plain characters that everything holds which this regular expression matches.

    Raises ValueError where it has alternatives outside of parentheses, or no run that is long enough.
    """
    runs, alternatives, _at = _runs(pattern, 0)
    if alternatives:
        raise ValueError(f"{pattern}: write alternatives as patterns of their own")
    best = max(runs, key=len)
    if len(best.strip()) < LEAST_LITERAL:
        raise ValueError(f"{pattern}: has no run of {LEAST_LITERAL} plain characters")
    return best


def _runs(pattern: str, at: int) -> tuple[list[str], bool, int]:
    """The runs of plain characters of one level of parentheses, whether it has alternatives, and where it ends."""
    runs, alternatives = [""], False
    while at < len(pattern) and pattern[at] != ")":
        character = pattern[at]
        plain, inner = "", []
        if character == "\\":
            plain = "" if pattern[at + 1].isalnum() else pattern[at + 1]
            at += 2
        elif character == "[":
            at = _class_end(pattern, at)
        elif character == "(":
            header = t.cast("re.Match[str]", _GROUP.match(pattern, at))
            inner, several, at = _runs(pattern, header.end())
            at += 1
            inner = [] if several or header["look"] else inner
        else:
            alternatives |= character == "|"
            plain = "" if character in _SPECIAL else character
            at += 1
        repeated = at < len(pattern) and pattern[at] in "?*{"
        if plain and not repeated:
            runs[-1] += plain
        else:
            runs += [*([] if repeated else inner), ""]
    return runs, alternatives, at


def _class_end(pattern: str, at: int) -> int:
    """The position behind a class of characters that begins at this one."""
    at += 2 if pattern[at + 1] == "^" else 1
    # A closing bracket that comes first stands for itself.
    at += 1 if pattern[at] == "]" else 0
    while pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at + 1


def _signature(area: str, entry: t.Mapping[str, t.Any]) -> Signature:
    change = _changes(entry.get("change"))
    patterns = []
    for item in entry.get("patterns", ()):
        item = {"match": item} if isinstance(item, str) else item
        patterns.append(
            Pattern(
                match=re.compile(item["match"]),
                literal=literal(item["match"]),
                near=re.compile(item["near"]) if "near" in item else None,
                rank=item.get("rank", entry.get("rank", "cause")),
                any_level=item.get("any_level", entry.get("any_level", False)),
                repeats=item.get("repeats", entry.get("repeats", REPEATS)),
                cause=item.get("cause", entry["cause"]),
                remedy=item.get("remedy", entry["remedy"]),
                change=_changes(item["change"]) if "change" in item else change,
            )
        )
    return Signature(
        id=entry["id"],
        area=area,
        rank=entry.get("rank", "cause"),
        patterns=tuple(patterns),
        facts=entry.get("facts", {}),
        not_after=entry.get("not_after"),
        explains=frozenset(entry.get("explains", ())),
        cause=entry["cause"],
        remedy=entry["remedy"],
        change=change,
        since=entry.get("since"),
        until=entry.get("until"),
        link=entry.get("link"),
        sample=entry.get("sample", ""),
    )


def _changes(change: t.Any) -> tuple[t.Mapping[str, t.Any], ...]:
    """A change, or several of which each is for some releases, as {set, remove, since, until}."""
    if change is None:
        return ()
    if isinstance(change, list):
        return tuple(change)
    return (change if "set" in change or "remove" in change else {"set": change},)
