# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Look at a running server until it is known how it is: some readings and at most one small request."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint, liveness, metrics
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.liveness import Reading, State

# Seconds that the small request gets. An idle engine answers within milliseconds on a GPU, within a second on a CPU.
ASK_SECONDS = 10.0
# What is asked for when nobody knows what a server serves; each kind that it does not serve is refused at once.
_KINDS = ("generate", "embed", "pooling", "classify", "score", "transcribe")
_SLEEP_MODE = "--enable-sleep-mode"
_TASKS = {"embed": "embed", "embedding": "embed", "classify": "classify", "score": "score", "reward": "pooling"}


class Look(t.NamedTuple):
    """How a server is, and the text of its metrics ("" when it gives none)."""

    state: State
    metrics: str


def look(server: endpoint.Server, was_ready: bool, argv: t.Sequence[str], may_ask: bool) -> Look:
    """See how a running server is.

    was_ready: whether it has answered since its container was started; argv: its arguments, which tell what it serves.
    may_ask: whether its engine may be asked for one token when nothing else tells whether it lives.
    """
    first, text = reading(server)
    certain = liveness.first_judgement(first, was_ready)
    if certain is not None:
        return Look(certain, text)
    answered: bool | None = None
    if not first.busy and may_ask and not may_sleep(first, argv):
        answered = answers(server, argv, ASK_SECONDS)
    elif first.busy:
        time.sleep(liveness.MOVE_SECONDS)
    while True:
        later, text = (first, text) if answered else reading(server)
        state = liveness.judgement(first, later, answered)
        if state is not None:
            return Look(state, text)
        time.sleep(liveness.MOVE_SECONDS)


def reading(server: endpoint.Server) -> tuple[Reading, str]:
    """One look, and the text of the metrics that it was read from."""
    told = endpoint.get(server, "/health", endpoint.HEALTH_SECONDS)
    health, now = told.status, time.monotonic()
    if health != 200:
        return Reading(now, health, said=told.body), ""
    answer = endpoint.get(server, "/metrics")
    if answer.status != 200:
        return Reading(now, health), ""
    found = metrics.figures(answer.body)
    one = Reading(
        now,
        health,
        found["requests_running"],
        found["requests_waiting"],
        metrics.moving(answer.body),
        metrics.sleeping(answer.body),
        metrics.held(answer.body),
    )
    return one, answer.body


def may_sleep(one: Reading, argv: t.Sequence[str]) -> bool:
    """Whether it may be asleep without telling: its metrics tell it from 0.11.1 on. Such a one is not asked."""
    return one.sleeping is None and _SLEEP_MODE in argv


def answers(server: endpoint.Server, argv: t.Sequence[str], seconds: float) -> bool | None:
    """Whether its engine answers a small request in so many seconds; None when it serves none that can be sent."""
    names = [card["name"] for card in endpoint.cards(server) or () if not card["adapter_of"]]
    for kind in kinds(argv) if names else ():
        answer = endpoint.request(server, kind, names[0], seconds)
        if answer.status == 200:
            return True
        # Nothing came in time: the request waits for the engine. All else is a refusal of the API process.
        if answer.status == 0:
            return False
    return None


def kinds(argv: t.Sequence[str]) -> list[str]:
    """The kinds of requests that a server with these arguments may serve, the likeliest first. Pure."""
    asked = {_value(argv, option) for option in ("--runner", "--task", "--convert")}
    likely = [kind for word, kind in _TASKS.items() if word in asked]
    if "pooling" in asked or likely:
        likely += [kind for kind in _KINDS if kind != "generate"]
    return list(dict.fromkeys([*likely, *_KINDS]))


def _value(argv: t.Sequence[str], option: str) -> str | None:
    """The value of an option as `--a b` or `--a=b`."""
    for number, word in enumerate(argv):
        if word == option and number + 1 < len(argv):
            return argv[number + 1]
        if word.startswith(option + "="):
            return word[len(option) + 1 :]
    return None
