# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Which running servers do not serve and will not by themselves, so that only a restart helps.

A restart costs what the server has in hand, so a first bad look is never enough: the server is looked at for a while
longer, and whatever moves, answers or changes meanwhile clears it. One that is well costs one look, and one token when
it is idle; all are looked at at the same time.
"""

from __future__ import annotations

import concurrent.futures
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.address import endpoint_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import Observed
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import observed_state
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint, liveness, look

# Seconds for which a server that stands still, or that nothing answers at, gets another chance. It is far more than a
# step of an engine takes.
PATIENCE_SECONDS = 60.0
# The same for one whose engine is dead: vLLM 0.32.0 ends 3.5 s after that (measured), and is then started by the
# Docker Engine; with VLLM_KEEP_ALIVE_ON_ENGINE_DEATH it stays for ever.
DEAD_SECONDS = 10.0
_LOOK_SECONDS = 1.0
# Servers that are looked at at the same time.
_LOOKED_AT_ONCE = 32
# Where an engine says that it stands still because it was told to, and the field that says so: vLLM 0.8.0 and 0.12.0
# (the catalogue's routes.json), with VLLM_SERVER_DEV_MODE only.
_TOLD_TO_STAND_STILL = (("/is_sleeping", "is_sleeping"), ("/is_paused", "is_paused"))

# What is told of each state. Without figures, so that check mode and the run after it say the same.
WHYS = {
    liveness.STALLED: "its engine stands still: no counter moves and no request is answered, while /health answers 200",
    liveness.ENGINE_DEAD: "its engine process is dead, and the server in front of it stays",
    liveness.UNREACHABLE: "nothing answers /health any more, though its container runs",
}


def find_sick(
    engine: Engine, servers: t.Sequence[Observed], api_key: t.Callable[[Observed], str | None]
) -> dict[str, Observed]:
    """Those of these servers that only a restart helps, by name, with why. api_key: the key that a server wants."""

    def why(one: Observed) -> str:
        # One that was not ready since its start is loading, however long that takes: its start is watched for that.
        if one.state.status != "running" or not (one.healthy or one.seen_ready or one.state.health == "healthy"):
            return ""
        found = _why(endpoint_of(one.spec, api_key(one)), one.spec.argv)
        inspect = engine.inspect(one.state.id) if found else None
        state = observed_state(inspect) if inspect else None
        # What ended or was started meanwhile is another matter.
        return found if state and (state.start, state.status) == (one.state.start, "running") else ""

    with concurrent.futures.ThreadPoolExecutor(max_workers=_LOOKED_AT_ONCE) as pool:
        whys = list(pool.map(why, servers))
    return {one.spec.name: one._replace(sick=reason) for one, reason in zip(servers, whys) if reason}


def _why(server: endpoint.Server, argv: t.Sequence[str]) -> str:
    """Why it is sick, or "" when it is not, for certain."""
    word = look.look(server, True, argv, may_ask=True).state.word
    sick = {
        liveness.STALLED: lambda: _stands_still(server, argv),
        liveness.ENGINE_DEAD: lambda: _stays(server, DEAD_SECONDS, lambda answer: answer.status in (500, 503)),
        liveness.UNREACHABLE: lambda: _stays(server, PATIENCE_SECONDS, _is_nothing),
    }.get(word)
    return WHYS[word] if sick is not None and sick() else ""


def _is_nothing(answer: endpoint.Answer) -> bool:
    """Whether nobody answered. Who has another certificate than the server's is somebody."""
    return answer.status == 0 and not answer.is_stranger


def _stays(server: endpoint.Server, seconds: float, bad: t.Callable[[endpoint.Answer], bool]) -> bool:
    """Whether each answer of /health in these seconds is a bad one."""
    end = time.monotonic() + seconds
    while bad(endpoint.get(server, "/health")):
        if time.monotonic() >= end:
            return True
        time.sleep(_LOOK_SECONDS)
    return False


def _stands_still(server: endpoint.Server, argv: t.Sequence[str]) -> bool:
    """Whether its engine has not moved and answers no request, and was not told to stand still."""
    first, _text = look.reading(server)
    if look.may_sleep(first, argv):
        return False
    for path, field in _TOLD_TO_STAND_STILL:
        if endpoint.decoded(endpoint.get(server, path)).get(field):
            return False
    answered = look.answers(server, argv, PATIENCE_SECONDS)
    while True:
        later, _text = look.reading(server)
        state = liveness.judgement(first, later, answered)
        if state is not None:
            return state.word == liveness.STALLED
        time.sleep(_LOOK_SECONDS)
