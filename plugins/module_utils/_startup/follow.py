# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Follow a start: the log as it is written, the container's state and the server's answers, until ready or failed."""

from __future__ import annotations

import queue
import threading
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import ContainerState, observed_state
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineUnreachable, FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.stages import Event
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.watch import Failure, Watch

# Seconds between two looks at the container's state, and between two questions to /health.
STATE_SECONDS = 0.5
HEALTH_SECONDS = 0.25
# Seconds that /health gets to answer: while it is waited for, nothing else is looked at.
HEALTH_TIMEOUT = 1.0
# Seconds for which the Docker Engine may be away, as while it restarts.
ENGINE_AWAY_SECONDS = 60
# Seconds that are waited for the last lines of a container that has ended, and for the reason of its end.
LAST_LINES_SECONDS = 1.0
# Exit code of what was ended by SIGKILL.
KILLED = 137


class Expected(t.NamedTuple):
    """What a ready server answers.

    Its kind of request, the names it serves, and their length in tokens when it was set.
    """

    kind: str
    served_names: tuple[str, ...]
    max_model_len: int | None


def follow(
    engine: Engine,
    container: str,
    server: endpoint.Server,
    expected: Expected | None,
    watch: Watch,
    report: t.Callable[[Event], None],
) -> Failure | None:
    """Return None when the server is ready, else why it is not. report is called for each event of the log.

    expected is None where only /health is asked for: of a former server whose names and length are not known any more.
    """
    log = _Log(engine, container)
    try:
        return _follow(engine, container, server, expected, watch, report, log)
    finally:
        log.close()


def _follow(
    engine: Engine,
    container: str,
    server: endpoint.Server,
    expected: Expected | None,
    watch: Watch,
    report: t.Callable[[Event], None],
    log: _Log,
) -> Failure | None:
    next_state = 0.0
    seen = time.monotonic()
    while True:
        if log.ended:
            time.sleep(HEALTH_SECONDS)
        else:
            log.hand_to(watch, report, HEALTH_SECONDS)
        now = time.monotonic()
        if log.ended or now >= next_state:
            try:
                inspect = engine.inspect(container)
                seen = now
            except EngineUnreachable:
                if now - seen > ENGINE_AWAY_SECONDS:
                    raise
                time.sleep(STATE_SECONDS)
                continue
            failure = watch.failure(observed_state(inspect) if inspect else None, now)
            if failure:
                log.hand_to(watch, report, LAST_LINES_SECONDS)
                return watch.failure(_last_state(engine, container), now) or failure
            if log.ended and now >= next_state:
                # The container runs and its log has ended: the Docker Engine was restarted. The new stream repeats the
                # log.
                log.open()
            next_state = now + STATE_SECONDS
        if endpoint.healthy(server, HEALTH_TIMEOUT):
            log.hand_to(watch, report, 0.0)
            return _verify(server, expected, watch, report)


def _last_state(engine: Engine, container: str) -> ContainerState | None:
    """The state of a container that has ended, with the news that may come after its end: want of memory."""
    until = time.monotonic() + LAST_LINES_SECONDS
    while True:
        inspect = engine.inspect(container)
        state = observed_state(inspect) if inspect else None
        if state is None or state.exit_code != KILLED or state.oom_killed or time.monotonic() > until:
            return state
        time.sleep(0.1)


def _verify(
    server: endpoint.Server, expected: Expected | None, watch: Watch, report: t.Callable[[Event], None]
) -> Failure | None:
    """Healthy is not yet ready: it must serve what was asked for and answer one real request."""
    if expected is not None:
        problem = endpoint.model_problem(
            server, expected.served_names, expected.max_model_len
        ) or endpoint.request_problem(server, expected.kind, expected.served_names[0])
        if problem:
            return Failure("wrong", f"/health answers 200, but {problem}")
    watch.ready(time.monotonic())
    report(Event("ready", "answers requests" if expected else "answers /health"))
    return None


class _Log:
    """A container's log, read in a thread of its own; ended when there is nothing more to come from it."""

    # Lines that may wait: an engine that floods its log waits for us, not our memory for the engine.
    WAITING_LINES = 10000

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container
        self._closed = threading.Event()
        self.open()

    def open(self) -> None:
        """Read the log from its beginning."""
        self.ended = False
        self._lines: queue.Queue[str | None] = queue.Queue(maxsize=self.WAITING_LINES)
        threading.Thread(target=self._read, args=(self._lines,), daemon=True, name="log of " + self._container).start()

    def close(self) -> None:
        """Let the reading thread end; it does when the next line comes, or with the process."""
        self._closed.set()

    def hand_to(self, watch: Watch, report: t.Callable[[Event], None], seconds: float) -> None:
        """Hand what waits to the watch, and what comes within so many seconds; returns early when the log ends."""
        until = time.monotonic() + seconds
        waiting = self._lines.qsize()
        while not self.ended and (waiting > 0 or time.monotonic() < until):
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            waiting -= 1
            if line is None:
                self.ended = True
                return
            event = watch.line(line, time.monotonic())
            if event:
                report(event)

    def _read(self, lines: queue.Queue[str | None]) -> None:
        try:
            for line in self._engine.log_lines(self._container):
                while not self._closed.is_set():
                    try:
                        lines.put(line, timeout=HEALTH_SECONDS)
                        break
                    except queue.Full:
                        continue
                if self._closed.is_set():
                    return
        except FleetError:
            # The stream breaks when the Engine restarts or the container is removed; both show in the container's
            # state.
            pass
        finally:
            if not self._closed.is_set():
                lines.put(None)
