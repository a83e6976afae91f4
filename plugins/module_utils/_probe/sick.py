# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Which running servers do not serve and will not by themselves, so that only a restart helps.

A restart costs what the server has in hand, so a first bad look is never enough: the server is looked at for a while
longer, and whatever moves, answers or changes meanwhile clears it, and so does whatever is not certain. One that is
well costs one look, and one token when it is idle; all are looked at at the same time.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.address import endpoint_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import Observed
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import observed_state
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint, liveness, look

# Seconds for which a server that nothing answers at gets another chance. A busy API process may take longer than ten to
# answer /health.
PATIENCE_SECONDS = 60.0
# The same for one that answers /health and whose engine does not move. It is long because nothing that is counted moves
# while vLLM 0.9.x reads a long prompt; see liveness.moved.
STANDSTILL_SECONDS = 300.0
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
    engine: Engine,
    servers: t.Sequence[Observed],
    api_key: t.Callable[[Observed], str | None],
    tell: t.Callable[[str, str], None],
) -> dict[str, Observed]:
    """Those of these servers that only a restart helps, by name, with why.

    api_key: the key that a server wants; tell: gets the name of one that seems sick, and a text about it, from several
    threads.
    """

    def why(one: Observed) -> str:
        if one.state.status != "running":
            return ""
        # At one that was not ready since its start, nothing answers while it loads, however long that takes. One that
        # the Docker Engine started by itself is known to have been ready only when it answers, or by Docker's check.
        was_ready = one.healthy or one.seen_ready or one.state.health == "healthy"
        server = endpoint_of(one.spec, api_key(one))
        found = _why(server, was_ready, one.spec.argv, lambda text: tell(one.spec.name, text))
        inspect = engine.inspect(one.state.id) if found else None
        state = observed_state(inspect) if inspect else None
        # What ended or was started meanwhile is another matter.
        return found if state and (state.start, state.status) == (one.state.start, "running") else ""

    with concurrent.futures.ThreadPoolExecutor(max_workers=_LOOKED_AT_ONCE) as pool:
        whys = list(pool.map(why, servers))
    return {one.spec.name: one._replace(sick=reason) for one, reason in zip(servers, whys) if reason}


def _why(server: endpoint.Server, was_ready: bool, argv: t.Sequence[str], tell: t.Callable[[str], None]) -> str:
    """Why it is sick, or "" when it is not, for certain."""
    state = look.look(server, was_ready, argv, may_ask=True).state
    looks: dict[str, tuple[float, t.Callable[[], bool]]] = {
        liveness.STALLED: (STANDSTILL_SECONDS, lambda: _stands_still(server, argv)),
        liveness.ENGINE_DEAD: (DEAD_SECONDS, lambda: _stays(server, DEAD_SECONDS, _is_dead)),
        liveness.UNREACHABLE: (PATIENCE_SECONDS, lambda: _stays(server, PATIENCE_SECONDS, _is_nothing)),
    }
    if state.word not in looks:
        return ""
    seconds, is_so = looks[state.word]
    tell(f"seems sick ({state.why}), looking for up to {seconds:.0f} s")
    return WHYS[state.word] if is_so() else ""


def _is_dead(answer: endpoint.Answer) -> bool:
    """Whether the API process says that its engine is dead."""
    return liveness.is_dead(answer.status, answer.body)


def _is_nothing(answer: endpoint.Answer) -> bool:
    """Whether nobody answered. Who has another certificate than the server's is somebody."""
    return answer.status == 0 and not answer.is_stranger


def _stays(server: endpoint.Server, seconds: float, bad: t.Callable[[endpoint.Answer], bool]) -> bool:
    """Whether each answer of /health in these seconds is a bad one. A late one is waited for, for it is one."""
    # /health wants no key (vLLM 0.11.0 to 0.33.0: the API key guards /v1 and its like).
    keyless = server._replace(api_key=None)
    end = time.monotonic() + seconds
    while bad(endpoint.get(keyless, "/health", max(end - time.monotonic(), endpoint.HEALTH_SECONDS))):
        if time.monotonic() >= end:
            return True
        time.sleep(_LOOK_SECONDS)
    return False


class _Asked:
    """A small request that is on its way as long as it takes, while its engine is looked at.

    answered: see liveness.judgement; False also while it is on its way.
    """

    def __init__(self, server: endpoint.Server, argv: t.Sequence[str]) -> None:
        self.answered: bool | None = False

        def ask() -> None:
            self.answered = _answers(server, argv, STANDSTILL_SECONDS)

        # It ends with the process at the latest: nobody waits for the answer of an engine that moves.
        threading.Thread(target=ask, daemon=True, name="small request").start()


def _answers(server: endpoint.Server, argv: t.Sequence[str], seconds: float) -> bool | None:
    """As look.answers. A connection that was cut off proves nothing, so it is asked again."""
    end = time.monotonic() + seconds
    while True:
        answered = look.answers(server, argv, max(end - time.monotonic(), _LOOK_SECONDS))
        if answered is not False or time.monotonic() >= end:
            return answered
        time.sleep(_LOOK_SECONDS)


def _stands_still(server: endpoint.Server, argv: t.Sequence[str]) -> bool:
    """Whether its engine does not move and answers no request in all this time, and was not told to stand still."""
    first, _text = look.reading(server)
    if look.may_sleep(first, argv) or _told_to_stand_still(server):
        return False
    asked = _Asked(server, argv)
    before = first
    while True:
        later, _text = look.reading(server)
        state = liveness.judgement(first, later, asked.answered)
        # Without its figures nothing is known of it. The KV cache is compared from look to look, for requests come.
        if state is not None and (state.word != liveness.STALLED or not later.moving or liveness.moved(before, later)):
            return False
        if state is not None and later.at - first.at >= STANDSTILL_SECONDS:
            return not _told_to_stand_still(server)
        before = later
        time.sleep(_LOOK_SECONDS)


def _told_to_stand_still(server: endpoint.Server) -> bool:
    return any(endpoint.decoded(endpoint.get(server, path)).get(field) for path, field in _TOLD_TO_STAND_STILL)
