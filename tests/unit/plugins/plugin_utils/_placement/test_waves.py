# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waves of copies: they double, and go around what is broken."""

from __future__ import annotations

import math

import pytest

from ansible_collections.gpufleet.vllm.plugins.filter.copy_wave import copy_wave
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.waves import wave


def simulate(count: int, seeds: int = 1, dead: frozenset[str] = frozenset(), mute: frozenset[str] = frozenset()):
    """(waves, hosts that have it). dead: hosts that cannot copy. mute: hosts from which nobody can."""
    hosts = [f"h{number}" for number in range(count)]
    have, failures, rounds = hosts[:seeds], set(), 0
    for rounds in range(1, 100):
        planned = wave([one for one in hosts if one not in have], have, failures)
        if not planned:
            return rounds - 1, have
        assert len(set(planned.values())) == len(planned) and set(planned.values()) <= set(have)
        for target, source in planned.items():
            if target in dead or source in mute:
                failures.add((source, target))
            else:
                have.append(target)
    return rounds, have


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 64, 1000])
@pytest.mark.parametrize("seeds", [1, 2])
def test_each_wave_doubles_who_has_it(count: int, seeds: int) -> None:
    taken, have = simulate(count, seeds)
    assert len(have) == max(count, min(seeds, count))
    assert taken <= max(0, math.ceil(math.log2(count / seeds)))


def test_eight_hosts_take_no_more_than_four_times_one_copy() -> None:
    """The seed and eight others; on links of equal speed a wave takes the time of one copy."""
    taken, have = simulate(9)
    assert len(have) == 9 and taken <= math.log2(8) + 1


def test_hosts_that_are_dead_in_the_middle_are_gone_around() -> None:
    for number in range(1, 16):
        broken = frozenset({f"h{number}"})
        taken, have = simulate(16, mute=broken)
        assert len(have) == 16 and taken <= 7, number
        taken, have = simulate(16, dead=broken)
        assert len(have) == 15 and taken <= 7, number


def test_it_ends_when_nothing_works() -> None:
    assert simulate(8, mute=frozenset({"h0"}))[1] == ["h0"]
    assert wave(["a"], []) == {}


def test_the_filter_takes_what_facts_hold() -> None:
    assert copy_wave(["b", "c"], ["a", "d"], [["a", "b"]]) == {"b": "d", "c": "a"}
