# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""States of running servers, told apart by readings, and the requests that prove that an engine lives."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import liveness
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.liveness import Reading
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.look import kinds

FIRST = [
    ("not yet", Reading(0, 0), False, "loading"),
    ("not any more", Reading(0, 0), True, "unreachable"),
    ("its engine is dead", Reading(0, 503), True, "engine_dead"),
    ("its engine is dead, before 0.11.0", Reading(0, 500), True, "engine_dead"),
    (
        "its engine is made larger",
        Reading(0, 503, said='{"error":"The model is currently scaling."}'),
        True,
        "unreachable",
    ),
    ("another program", Reading(0, 404), True, "unreachable"),
    ("asleep", Reading(0, 200, 0, 0, {}, True), True, "sleeping"),
    ("awake", Reading(0, 200, 0, 0, {}, False), True, None),
    ("never tells of sleep", Reading(0, 200, 5, 5), True, None),
]


@pytest.mark.parametrize(("one", "was_ready", "word"), [f[1:] for f in FIRST], ids=[f[0] for f in FIRST])
def test_what_one_reading_tells(one: Reading, was_ready: bool, word: str | None) -> None:
    state = liveness.first_judgement(one, was_ready)
    assert (state.word if state else None) == word


def at(seconds: float, running: float, waiting: float, tokens: float | None, health: int = 200) -> Reading:
    return Reading(seconds, health, running, waiting, {} if tokens is None else {"tokens": tokens})


def filled(seconds: float, held: float | None, running: float = 1) -> Reading:
    return Reading(seconds, 200, running, 0, {"tokens": 5}, False, held)


SECOND = [
    ("a long prompt fills the KV cache", filled(0, 0.25), filled(15, 0.5), None, "ready"),
    ("the KV cache is as full as before", filled(0, 0.25), filled(15, 0.25), None, "stalled"),
    ("as full with other requests", filled(0, 0.25), filled(15, 0.5, running=2), None, "stalled"),
    ("tells it no more", filled(0, 0.25), filled(15, None), None, "stalled"),
    ("tokens flow", at(0, 2, 0, 5), at(1, 2, 0, 6), None, "ready"),
    ("tokens flow and the queue grows", at(0, 2, 3, 5), at(1, 2, 30, 6), None, "saturated"),
    ("counters begin anew", at(0, 2, 0, 500), at(1, 2, 0, 6), None, "ready"),
    ("may yet move", at(0, 2, 0, 5), at(5, 2, 0, 5), None, None),
    ("has work and stands still", at(0, 2, 0, 5), at(15, 2, 9, 5), None, "stalled"),
    ("only waits", at(0, 0, 4, 5), at(15, 0, 4, 5), None, "stalled"),
    ("idle and answers", at(0, 0, 0, 5), at(0, 0, 0, 5), True, "ready"),
    ("idle and does not answer", at(0, 0, 0, 5), at(10, 1, 0, 5), False, "stalled"),
    ("became busy meanwhile", at(0, 0, 0, 5), at(10, 8, 9, 55), False, "saturated"),
    ("nothing can be asked of it", at(0, 0, 0, 5), at(0, 0, 0, 5), None, "ready"),
    ("its work ended meanwhile", at(0, 1, 0, 5), at(1, 0, 0, 5), None, "ready"),
    ("counts nothing and does not answer", at(0, 0, 0, None), at(10, 0, 0, None), False, "unreachable"),
    ("died meanwhile", at(0, 1, 0, 5), at(1, 1, 0, 5, health=503), None, "engine_dead"),
    ("went away meanwhile", at(0, 1, 0, 5), at(1, 1, 0, 5, health=0), None, "unreachable"),
]


@pytest.mark.parametrize(
    ("first", "later", "answered", "word"), [row[1:] for row in SECOND], ids=[row[0] for row in SECOND]
)
def test_what_two_readings_tell(first: Reading, later: Reading, answered: bool | None, word: str | None) -> None:
    state = liveness.judgement(first, later, answered)
    assert (state.word if state else None) == word
    assert state is None or state.why


KINDS = [
    (["serve", "m"], "generate"),
    (["serve", "m", "--runner", "pooling"], "embed"),
    (["serve", "m", "--runner=pooling", "--convert", "classify"], "classify"),
    (["serve", "m", "--task", "score"], "score"),
    (["serve", "m", "--task=reward"], "pooling"),
    (["serve", "m", "--task"], "generate"),
]


@pytest.mark.parametrize(("argv", "first"), KINDS)
def test_the_likeliest_request_is_sent_first_and_each_once(argv: list[str], first: str) -> None:
    found = kinds(argv)
    assert found[0] == first
    assert len(found) == len(set(found)) >= 6
