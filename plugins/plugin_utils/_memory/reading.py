# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading numbers out of a config.json, which strangers write. Pure."""

from __future__ import annotations

import functools
import typing as t

from packaging.version import Version

# The release of a number, which is parsed once.
version_of = functools.cache(Version)

_GREATEST = 10**9
_MOST_STRETCH = 10**6
_SHOWN = 40


class Unreadable(Exception):
    """The configuration lacks what a memory estimate needs; the text names it."""


def count(config: t.Mapping[str, t.Any], name: str, default: int | None = None) -> int:
    """The whole number above 0 under a key (0 as well where the default is 0); raises Unreadable."""
    value = config.get(name)
    if value is None and default is not None:
        return default
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or not (default == 0 or value > 0)
        or not 0 <= value < _GREATEST
    ):
        raise Unreadable(f"config.json has no usable {name}")
    return int(value)


def first(config: t.Mapping[str, t.Any], names: t.Sequence[str], default: int | None = None) -> int:
    """The number under the first of the keys that is there; the error names the first key."""
    for name in names:
        if config.get(name) is not None:
            return count(config, name, default)
    return count(config, names[0], default)


def texts(config: t.Mapping[str, t.Any], name: str) -> tuple[str, ...]:
    """The words of a list; what is no word becomes an empty one. () where there is no list."""
    value = config.get(name)
    return tuple(item if isinstance(item, str) else "" for item in value) if isinstance(value, list) else ()


def numbers(config: t.Mapping[str, t.Any], name: str) -> tuple[int, ...]:
    """The whole numbers of a list; () where there is no list of nothing but such."""
    value = config.get(name)
    if not isinstance(value, list) or not all(isinstance(item, int) and abs(item) < _GREATEST for item in value):
        return ()
    return tuple(int(item) for item in value)


def mapping(config: t.Mapping[str, t.Any], name: str) -> t.Mapping[str, t.Any]:
    """The mapping under a key; empty where there is none."""
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def word(config: t.Mapping[str, t.Any], name: str) -> str:
    """The text under a key; "" where there is none."""
    value = config.get(name)
    return value if isinstance(value, str) else ""


def stretch_of(factor: t.Any) -> float:
    """By how much a factor stretches positions; 1 for what is none."""
    usable = isinstance(factor, (int, float)) and not isinstance(factor, bool) and 1 < factor < _MOST_STRETCH
    return float(factor) if usable else 1.0


def shown(text: str) -> str:
    """A word of a configuration for people: its beginning, without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_SHOWN])
