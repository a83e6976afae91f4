# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain data from whatever an inventory, a template or a test brings. Pure."""

from __future__ import annotations

import typing as t

# Deeper than any configuration of vLLM, and far from where Python's own recursion ends.
_DEPTH = 32
_LARGEST = 2**63
# Values of one model, far more than any has; aliases of YAML can stand for billions.
_MOST = 100_000


class NotPlain(ValueError):
    """What keeps a value from being plain data; path: the keys and indices that lead to it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: tuple[str, ...] = ()


def plain(value: t.Any) -> t.Any:
    """The same as exact str, int, float, bool, None, list and dict.

    Raises NotPlain for anything else, never showing it.

    Ansible's strings carry tags and its containers may template lazily; pydantic and json read such objects past their
    Python methods.
    """
    return _copy(value, 0, iter(range(_MOST)))


def _copy(value: t.Any, depth: int, left: t.Iterator[int]) -> t.Any:
    """plain of a value so deep within, while there are values left."""
    if next(left, None) is None:
        raise NotPlain(f"holds more than {_MOST} values")
    if depth > _DEPTH:
        raise NotPlain(f"is nested more than {_DEPTH} levels deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if abs(value) >= _LARGEST:
            raise NotPlain("holds a number of more than 63 bits")
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_within(str(index), item, depth, left) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {(name := _key(key)): _within(name, item, depth, left) for key, item in value.items()}
    raise NotPlain(f"holds a value of the type {type(value).__name__}, which is neither text, number, list nor mapping")


def _within(name: str, value: t.Any, depth: int, left: t.Iterator[int]) -> t.Any:
    try:
        return _copy(value, depth + 1, left)
    except NotPlain as error:
        error.path = (name, *error.path)
        raise


def short(text: str, limit: int = 80) -> str:
    """At most so many characters of a text that a user wrote."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _key(key: t.Any) -> str:
    # YAML makes numbers, booleans and null of keys without quotes.
    if key is None or isinstance(key, (str, int, float)):
        return _text(str(plain(key)))
    raise NotPlain("holds a key that is no text")


def _text(value: str) -> str:
    text = str.__str__(value)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise NotPlain("holds a text with a NUL or half a character, which no argument or variable can carry")
    return text
