# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn what a message told into sentences and into the change of the specification that mends it. Pure."""

from __future__ import annotations

import math
import re
import typing as t

from packaging.version import InvalidVersion, Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load as load_release

# Ranks of adapters that vLLM takes (0.6.0-0.33.0 config/lora.py: possible_max_ranks, MaxLoRARanks).
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# GiB of a GPU that are left beside what the engine asks for, when others hold memory on it.
_SPARE_GIB = 0.5
# Characters of a value that are shown.
_SHOWN = 300

_NAME = re.compile(r"\{(\w+)\}")
# A part of a sentence that is left out when a value in it is not known.
_OPTIONAL = re.compile(r"\[([^\[\]]*\{\w+\}[^\[\]]*)\]")


def sentence(template: str, values: t.Mapping[str, t.Any]) -> str:
    """Fill in {names}; a part in square brackets is left out when one of its names is unknown."""

    def fill(text: str) -> str:
        return _NAME.sub(lambda match: str(values.get(match[1], "?"))[:_SHOWN], text)

    def part(match: t.Match[str]) -> str:
        return fill(match[1]) if all(name in values for name in _NAME.findall(match[1])) else ""

    # What is filled in may hold brackets itself, so the optional parts are cut out of the template.
    pieces, at = [], 0
    for match in _OPTIONAL.finditer(template):
        pieces += [fill(template[at : match.start()]), part(match)]
        at = match.end()
    return "".join([*pieces, fill(template[at:])])


def values_of(groups: t.Mapping[str, str], facts: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The named values of a message and what follows from them.

    facts: may hold engine (the options of the specification) and release (version).
    """
    values: dict[str, t.Any] = dict(groups)
    told = Told(
        groups,
        {name: number for name, text in groups.items() if (number := _number(text)) is not None},
        facts.get("engine") or {},
        facts.get("release"),
    )
    for name, compute in _COMPUTED.items():
        value = compute(told)
        if value is not None:
            values[name] = value
    return values


def change_for(
    changes: t.Sequence[t.Mapping[str, t.Any]], values: t.Mapping[str, t.Any], release: str | None
) -> tuple[dict[str, t.Any], list[str]]:
    """What to set and which fields to take out, of the first change that is for this release and has all its values.

    An option that the release does not have is not set.
    """
    for change in changes:
        if not within(release, change.get("since"), change.get("until")):
            continue
        wanted = _filled(change.get("set", {}), values)
        remove = _filled(change.get("remove", []), values)
        if wanted is None or remove is None:
            continue
        if release and "engine" in wanted:
            known = load_release(release).option
            wanted["engine"] = {name: value for name, value in wanted["engine"].items() if known(name) is not None}
        wanted = {key: value for key, value in wanted.items() if value != {}}
        if wanted or remove:
            return wanted, remove
    return {}, []


def within(release: str | None, since: str | None, until: str | None) -> bool:
    """Whether a release lies in these bounds, both included. One that is not known is taken for the newest."""
    try:
        version = Version(release) if release else None
    except InvalidVersion:
        version = None
    if version is None:
        return until is None
    base = Version(version.base_version)
    return (since is None or base >= Version(since)) and (until is None or base <= Version(until))


def _filled(item: t.Any, values: t.Mapping[str, t.Any]) -> t.Any:
    """The item with its {names} filled in; None where one is unknown."""
    if isinstance(item, dict):
        filled = {sentence(key, values): _filled(value, values) for key, value in item.items()}
        return None if None in filled.values() else filled
    if isinstance(item, list):
        done = [_filled(value, values) for value in item]
        return None if None in done else done
    if isinstance(item, str):
        if any(name not in values for name in _NAME.findall(item)):
            return None
        whole = _NAME.fullmatch(item)
        return _plain(values[whole[1]]) if whole else sentence(item, values)
    return item


def _number(text: t.Any) -> float | None:
    try:
        number = float(str(text).replace(",", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _plain(value: t.Any) -> t.Any:
    """A whole number as one, another number as a number, and texts as they are."""
    if not isinstance(value, str):
        return value
    number = _number(value)
    if number is None:
        return value
    return int(number) if number == int(number) else number


class Told(t.NamedTuple):
    """What a message told: its values as texts, those of them that are numbers, and what is known beside it."""

    texts: t.Mapping[str, str]
    numbers: t.Mapping[str, float]
    engine: t.Mapping[str, t.Any]
    release: str | None


def _divisor(told: Told) -> int | None:
    """The most GPUs, not more than were asked for, that divide the heads."""
    heads, asked = told.numbers.get("heads"), told.numbers.get("tp")
    if not heads or not asked:
        return None
    return max(n for n in range(1, int(asked) + 1) if int(heads) % n == 0)


def _share(told: Told) -> float | None:
    """The share of a GPU's memory that fits into what is free."""
    free, total = told.numbers.get("free"), told.numbers.get("total")
    if not free or not total or free > total:
        return None
    share = math.floor((free - _SPARE_GIB) / total * 100) / 100
    return share if share > 0 else None


def _lora_rank(told: Told) -> int | None:
    asked = told.numbers.get("lora")
    return next((rank for rank in _LORA_RANKS if asked and rank >= asked), None)


def _fewer(told: Told) -> int | None:
    """Half of the requests at once that were asked for."""
    asked = told.numbers.get("requests") or _number(told.engine.get("max_num_seqs"))
    return max(1, int(asked) // 2) if asked else None


def _option(told: Told) -> str | None:
    """The option's name of a flag, without what stands behind a dot or a sign of equality."""
    flag = re.match(r"--?([A-Za-z][\w-]*)", told.texts.get("flag", ""))
    return flag[1].replace("-", "_") if flag else None


def _suggested(told: Told) -> str | None:
    """What the release has instead of an option that it does not know."""
    option = _option(told)
    if option is None or told.release is None:
        return None
    return ", ".join(load_release(told.release).suggest(option)) or None


def _whole(name: str) -> t.Callable[[Told], int | None]:
    def compute(told: Told) -> int | None:
        return int(told.numbers[name]) if name in told.numbers else None

    return compute


# What is computed of the values of a message: name to what computes it, None where the values do not tell it.
_COMPUTED: dict[str, t.Callable[[Told], t.Any]] = {
    "divisor": _divisor,
    "share": _share,
    "lora_rank": _lora_rank,
    "fewer": _fewer,
    "option": _option,
    "suggested": _suggested,
    "most": _whole("most"),
    "least": _whole("least"),
}
