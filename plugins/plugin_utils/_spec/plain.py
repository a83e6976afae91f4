# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain data from whatever an inventory, a template or a test brings. Pure."""

from __future__ import annotations

import typing as t

# Deeper than any configuration of vLLM, and far from where Python's own recursion ends.
_DEPTH = 32
_LARGEST = 2**63


def plain(value: t.Any, depth: int = 0) -> t.Any:
    """The same as exact str, int, float, bool, None, list and dict.

    Raises ValueError for anything else, never showing it.

    Ansible's strings carry tags and its containers may template lazily; pydantic and json read such objects past their
    Python methods.
    """
    if depth > _DEPTH:
        raise ValueError(f"is nested more than {_DEPTH} levels deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if abs(value) >= _LARGEST:
            raise ValueError("holds a number of more than 63 bits")
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_key(key): plain(item, depth + 1) for key, item in value.items()}
    raise ValueError(
        f"holds a value of the type {type(value).__name__}, which is neither text, number, list nor mapping"
    )


def short(text: str, limit: int = 80) -> str:
    """At most so many characters of a text that a user wrote."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _key(key: t.Any) -> str:
    # YAML makes numbers, booleans and null of keys without quotes.
    if key is None or isinstance(key, (str, int, float)):
        return _text(str(plain(key)))
    raise ValueError("holds a key that is no text")


def _text(value: str) -> str:
    text = str.__str__(value)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds a text with a NUL or half a character, which no argument or variable can carry")
    return text
