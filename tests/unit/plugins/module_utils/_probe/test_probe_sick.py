# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long what seems sick is looked at, and what clears it; on a clock that goes only when somebody waits."""

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import Observed
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import ContainerState
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint, liveness, look, sick
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.endpoint import Answer, Server
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.liveness import Reading

SERVER = Server("127.0.0.1", 1, api_key="k")
NOTHING = Answer(0, "", "ConnectionRefusedError")


class Clock:
    """time, as far as the healing uses it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(sick, "time", found)
    return found


class Questions:
    """What is asked over HTTP: answers by path, which may depend on the timeout; asked: (path, key, timeout)."""

    def __init__(self, answer: t.Callable[[str, float], Answer]) -> None:
        self._answer = answer
        self.asked: list[tuple[str, str | None, float]] = []

    def __call__(self, server: Server, path: str, timeout: float = 10) -> Answer:
        self.asked.append((path, server.api_key, timeout))
        return self._answer(path, timeout)


def stands_still(
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,
    reading: t.Callable[[float], Reading],
    answered: bool | None = False,
    told: t.Callable[[float], bool] = lambda now: False,
) -> bool:
    """Whether an engine with such readings, by the time, stands still; answered: what comes of the small request."""
    body = {True: '{"is_paused": true}', False: "{}"}
    monkeypatch.setattr(endpoint, "get", lambda *_asked: Answer(200, body[told(clock.now)]))
    monkeypatch.setattr(look, "reading", lambda _server: (reading(clock.now)._replace(at=clock.now), ""))
    monkeypatch.setattr(sick, "_Asked", lambda *_request: types.SimpleNamespace(answered=answered))
    return sick._stands_still(SERVER, ["serve", "m"])


BUSY = Reading(0, 200, 1, 0, {"tokens": 5}, False, 0.25)
LONG_PROMPT = BUSY._replace(held=0.5)
IDLE = BUSY._replace(running=0)


@pytest.mark.parametrize("one", [BUSY, IDLE])
def test_an_engine_that_nothing_moves_in_for_the_whole_time_stands_still(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, one: Reading
) -> None:
    assert stands_still(monkeypatch, clock, lambda now: one)
    assert clock.now >= 300


def test_the_time_is_kept_too_when_no_request_can_be_sent(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    assert stands_still(monkeypatch, clock, lambda now: BUSY, answered=None)
    assert clock.now >= 300


CLEARED: list[tuple[str, t.Callable[[float], Reading]]] = [
    ("a piece of a long prompt", lambda now: BUSY if now < 290 else LONG_PROMPT),
    # The request came meanwhile, so the fill is compared with that of the look before, not with the first.
    ("pieces of a prompt that came", lambda now: IDLE if now < 100 else BUSY if now < 200 else LONG_PROMPT),
    ("a token", lambda now: BUSY if now < 290 else BUSY._replace(moving={"tokens": 6})),
    ("its figures were not told", lambda now: BUSY if now < 290 else Reading(0, 200)),
    ("it went away", lambda now: BUSY if now < 290 else Reading(0, 0)),
    ("it was put to sleep", lambda now: BUSY if now < 290 else BUSY._replace(sleeping=True)),
]


@pytest.mark.parametrize("reading", [row[1] for row in CLEARED], ids=[row[0] for row in CLEARED])
def test_whatever_moves_or_changes_clears_it(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, reading: t.Callable[[float], Reading]
) -> None:
    assert not stands_still(monkeypatch, clock, reading)


def test_an_answer_clears_it(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    assert not stands_still(monkeypatch, clock, lambda now: BUSY, answered=True)


@pytest.mark.parametrize("since", [0, 100])
def test_one_that_was_told_to_stand_still_is_well(monkeypatch: pytest.MonkeyPatch, clock: Clock, since: int) -> None:
    assert not stands_still(monkeypatch, clock, lambda now: BUSY, told=lambda now: now >= since)


def test_a_request_that_is_cut_off_is_sent_again(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    sent: list[float] = []

    def answers(_server: Server, _argv: t.Sequence[str], seconds: float) -> bool:
        sent.append(seconds)
        return len(sent) == 3

    monkeypatch.setattr(look, "answers", answers)
    assert sick._answers(SERVER, [], 60) is True
    assert sent == [60, 59, 58]
    monkeypatch.setattr(look, "answers", lambda *_request: False)
    assert sick._answers(SERVER, [], 60) is False
    assert clock.now >= 60


def test_a_late_answer_of_health_is_waited_for(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """A busy API process takes forty seconds: many short questions would all be in vain."""

    def late(_path: str, timeout: float) -> Answer:
        clock.now += min(timeout, 40)
        return Answer(200, "") if timeout >= 40 else Answer(0, "", "TimeoutError")

    questions = Questions(late)
    monkeypatch.setattr(endpoint, "get", questions)
    assert not sick._stays(SERVER, 60, sick._is_nothing)
    # The key is for nobody whose answer does not need it.
    assert questions.asked == [("/health", None, 60)]


def test_a_refused_connection_is_tried_again_for_the_whole_time(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    questions = Questions(lambda path, timeout: NOTHING)
    monkeypatch.setattr(endpoint, "get", questions)
    assert sick._stays(SERVER, 60, sick._is_nothing)
    assert clock.now >= 60 and len(questions.asked) > 50


class Stays:
    """An engine whose containers are as they were."""

    def inspect(self, _container: str) -> dict[str, t.Any]:
        return {"the": "container"}


STATE = ContainerState("id", "running", True, 0, False, "", "", 0, "unless-stopped", "unhealthy")


@pytest.mark.parametrize(
    ("health", "why", "seconds"),
    [
        (Answer(503, ""), sick.WHYS[liveness.ENGINE_DEAD], 10),
        (Answer(500, "Internal Server Error"), sick.WHYS[liveness.ENGINE_DEAD], 10),
        # Its API process answers, so that its engine is made larger and is not dead.
        (Answer(503, '{"error":"The model is currently scaling. Please try again later."}'), None, 60),
        # It may still load.
        (NOTHING, None, None),
    ],
)
def test_one_that_the_docker_engine_started_and_nobody_saw_ready(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, health: Answer, why: str | None, seconds: int | None
) -> None:
    monkeypatch.setattr(endpoint, "get", Questions(lambda path, timeout: health))
    monkeypatch.setattr(sick, "endpoint_of", lambda _spec, key: SERVER)
    monkeypatch.setattr(sick, "observed_state", lambda _inspect: STATE)
    spec = t.cast("t.Any", types.SimpleNamespace(name="a", argv=("serve", "m")))
    told: list[tuple[str, str]] = []
    found = sick.find_sick(
        t.cast("t.Any", Stays()),
        [Observed(spec, STATE, healthy=False)],
        lambda one: None,
        lambda *text: told.append(text),
    )
    assert {name: one.sick for name, one in found.items()} == ({"a": why} if why else {})
    assert [(name, text.split("looking for ")[1]) for name, text in told] == (
        [("a", f"up to {seconds} s")] if seconds else []
    )
