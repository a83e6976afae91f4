# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rule is: the numbers that an option takes or what it demands of others; conditions that rules share. Pure."""

from __future__ import annotations

import dataclasses
import math
import re
import typing as t
from collections.abc import Callable, Mapping

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.engine import Engine

EITHER = "Leave one of the two out"
LEAVE_OUT: dict[str, t.Any] = {}


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that vLLM takes for an option, where its parser takes any."""

    name: str
    since: str
    until: str | None = None
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def holds(self, number: float) -> bool:
        """Whether the number is within."""
        return (
            (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        words = {"at_least": "at least", "above": "more than", "at_most": "at most", "below": "less than"}
        limits = [f"{text} {limit:g}" for name, text in words.items() if (limit := getattr(self, name)) is not None]
        return " and ".join(limits)


@dataclasses.dataclass(frozen=True)
class Rule:
    """A demand that an option makes of others; reason and fix may name options in braces, to show their numbers."""

    field: str
    since: str
    until: str | None
    broken: Callable[[Engine], bool]
    reason: str
    fix: str
    warning: bool = False
    remedy: Mapping[str, t.Any] | None = None

    def problem(self, engine: Engine) -> Problem:
        """The problem of a spec that breaks the rule."""
        names = re.findall(r"\{(\w+)\}", self.reason + self.fix)
        numbers = {name: engine.number(name) for name in names}
        return Problem(
            engine.spec.name,
            f"engine.{self.field}",
            self.reason.format(**numbers),
            self.fix.format(**numbers),
            engine.shown(self.field),
            self.warning,
            self.remedy,
        )


# ---- conditions that several rules share


def below(engine: Engine, smaller: str, larger: str) -> bool:
    """Whether the number of one option is less than that of another; False when one is unreadable."""
    left, right = engine.number(smaller), engine.number(larger)
    return left is not None and right is not None and left < right


def more_than_one(engine: Engine, name: str) -> bool:
    number = engine.number(name)
    return number is not None and number > 1


def product(engine: Engine, *names: str) -> int | None:
    """The product of sizes; an option that the release lacks counts once."""
    sizes = [engine.number(name) for name in names if name in engine.release.options]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def set_twice(option: str, config: str, key: str) -> Callable[[Engine], bool]:
    return lambda engine: engine.has(option) and engine.mapping(config).get(key) is not None


def without(name: str) -> Callable[[Engine], bool]:
    """Broken where another switch is not on."""
    return lambda engine: not engine.on(name)


def on_without(name: str, other: str) -> Callable[[Engine], bool]:
    """Broken where a switch is on and another option has no value or is off."""
    return lambda engine: engine.on(name) and (not engine.has(other) or engine.off(other))


def both_on(name: str, other: str) -> Callable[[Engine], bool]:
    return lambda engine: engine.on(name) and engine.on(other)
