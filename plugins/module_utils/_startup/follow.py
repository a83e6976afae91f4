# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Follow a start by all that tells of it, until the server is ready or the start has failed."""

from __future__ import annotations

import collections
import contextlib
import queue
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import ContainerState, observed_state
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.patient import AWAY_SECONDS
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineUnreachable, FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.sources import Answers, Events, Log, inbox
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.stages import Event
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.watch import TAIL_LINES, Failure, Watch

# Seconds between two readings of the log.
LOG_SECONDS = 0.2
# Seconds between two looks at the container's state: while the Engine's events tell of its end, and while they do not.
STATE_SECONDS = 5.0
BLIND_STATE_SECONDS = 0.5
# Seconds after the news of an end in which its state is looked at again, should it not show the end yet.
NEWS_SECONDS = 0.1
# A silent start is looked into this often within its stall time, within these bounds in seconds.
USAGE_LOOKS = 6
USAGE_SECONDS = (0.25, 30.0)
# Seconds that are waited for the last lines of a container that has ended, and for the reason of its end.
LAST_LINES_SECONDS = 0.4
# Exit code of what was ended by SIGKILL.
KILLED = 137
# The Docker Engine's time of the start of what was never started.
NEVER = "0001-01-01T00:00:00Z"

Report = t.Callable[[Event], None]


class Expected(t.NamedTuple):
    """What a ready server answers.

    Its kind of request, the names it serves, their length in tokens when it was set, and the adapters that it must list
    beside them.
    """

    kind: str
    served_names: tuple[str, ...]
    max_model_len: int | None
    adapters: tuple[str, ...] = ()


def follow(
    engine: Engine,
    container: str,
    server: endpoint.Server,
    expected: Expected | None,
    watch: Watch,
    report: Report,
    begin: t.Callable[[], None] | None = None,
) -> Failure | None:
    """Return None when the server is ready, else why it is not. report is called for each event.

    expected is None where only /health is asked for: of a former server whose names and length are not known any more.
    begin starts the container, and is called when its end can no longer be missed; None when it runs already.
    """
    return _Follower(engine, container, server, expected, watch, report).run(begin)


class _Follower:
    def __init__(
        self,
        engine: Engine,
        container: str,
        server: endpoint.Server,
        expected: Expected | None,
        watch: Watch,
        report: Report,
    ) -> None:
        self._engine = engine
        self._container = container
        self._server = server
        self._expected = expected
        self._watch = watch
        self._report = report
        self._inbox = inbox()
        self._oom = False
        self._usage_seconds = min(max(watch.progress.stall_seconds / USAGE_LOOKS, USAGE_SECONDS[0]), USAGE_SECONDS[1])

    def run(self, begin: t.Callable[[], None] | None) -> Failure | None:
        self._events = Events(self._engine, self._container, self._inbox)
        opened: list[t.Any] = [self._events]
        try:
            ran_before = begin is None or self._started_at() is not None
            if begin is not None:
                begin()
                # What came before it, as the end of a former server that takes its time, is no standstill of this one.
                self._watch.progress.moved = time.monotonic()
            # What an earlier run of the container has written is not of this start. Of a container that is new
            # everything is read, whatever the clock does meanwhile.
            self._since = self._started_at() if ran_before else None
            self._log = Log(self._engine, self._container, self._since)
            answers = Answers(self._server, self._problem, self._inbox)
            opened += [answers]
            failure = self._follow()
        finally:
            for source in opened:
                source.close()
            if hasattr(self, "_log"):
                self._log.close()
        if self._watch.passed_over:
            text = f"{self._watch.passed_over} lines of the log were passed over, for it was flooded"
            self._report(Event(self._watch.stage, text))
        return failure

    def _follow(self) -> Failure | None:
        now = seen = time.monotonic()
        next_log, next_state, next_usage = now, now, now + self._usage_seconds
        while True:
            try:
                news = self._inbox.get(timeout=max(0.0, min(next_log, next_state) - time.monotonic()))
            except queue.Empty:
                news = None
            now = time.monotonic()
            if now >= next_log:
                self._read_log(now)
                next_log = time.monotonic() + LOG_SECONDS
            if news is not None:
                if news.kind == "verified":
                    self._read_log(now)
                    return self._verified(news.value)
                if news.kind == "healthy":
                    event = Event("warming", "/health answers")
                    self._watch.entered(event, now)
                    self._report(event)
                    continue
                self._oom = self._oom or news.kind == "oom"
                next_state = now
            if now >= next_usage and self._watch.progress.silent(now) >= self._usage_seconds:
                next_usage = now + self._usage_seconds
                self._look_into(now)
            if now < next_state:
                continue
            try:
                inspect = self._engine.inspect(self._container)
                seen = now
            except EngineUnreachable:
                if now - seen > AWAY_SECONDS:
                    raise
                next_state = now + BLIND_STATE_SECONDS
                continue
            failure = self._watch.failure(observed_state(inspect) if inspect else None, now, self._oom)
            if failure:
                try:
                    return self._ended(failure)
                except EngineUnreachable:
                    return failure
            self._listen_again()
            next_state = now + self._until_next_state(news is not None)

    def _until_next_state(self, after_news: bool) -> float:
        """Seconds until the container's state is looked at again."""
        stall = self._watch.progress.stall_seconds
        if after_news:
            return NEWS_SECONDS
        return min(STATE_SECONDS if self._events.alive else BLIND_STATE_SECONDS, max(NEWS_SECONDS, stall / USAGE_LOOKS))

    def _listen_again(self) -> None:
        """The container runs: open anew what broke, as when the Docker Engine was restarted.

        The new stream repeats the log, and repetition is no progress.
        """
        if not self._events.alive:
            self._events = Events(self._engine, self._container, self._inbox)
        if self._log.ended:
            self._log.close()
            self._log = Log(self._engine, self._container, self._since)

    def _read_log(self, now: float) -> None:
        lines, dropped = self._log.take()
        self._watch.passed_over += dropped
        for event in self._watch.lines(lines, now):
            self._report(event)

    def _look_into(self, now: float) -> None:
        """A silent start: what do its processes do?"""
        try:
            usage = self._engine.usage(self._container)
        except FleetError:
            return
        if usage is not None:
            self._watch.usage(usage, now)

    def _started_at(self) -> str | None:
        """When the container was last started; None when it never was, or is gone."""
        inspect = self._engine.inspect(self._container)
        at = observed_state(inspect).started_at if inspect else ""
        return at if at and at != NEVER else None

    # ---- the ends

    def _problem(self) -> str | None:
        """Healthy is not yet ready: it must serve what was asked for and answer one real request."""
        expected = self._expected
        if expected is None:
            return None
        return endpoint.model_problem(
            self._server, expected.served_names, expected.max_model_len, expected.adapters
        ) or endpoint.request_problem(self._server, expected.kind, expected.served_names[0])

    def _verified(self, problem: str | None) -> Failure | None:
        if problem:
            return Failure("wrong", f"/health answers 200, but {problem}")
        self._watch.ready(time.monotonic())
        self._report(Event("ready", "answers requests" if self._expected else "answers /health"))
        return None

    def _ended(self, failure: Failure) -> Failure:
        """The failure with the last lines of the log, and with the news that may come after the end."""
        self._read_log(time.monotonic())
        # The end of a flooded log is not come by through reading on.
        until = time.monotonic() + (0.0 if self._watch.passed_over else LAST_LINES_SECONDS)
        while True:
            inspect = self._engine.inspect(self._container)
            state = observed_state(inspect) if inspect else None
            now = time.monotonic()
            over = self._log.ended and not self._may_be_oom(state)
            self._read_log(now)
            if over or now >= until or failure.kind != "exited":
                break
            self._take_news()
        if not self._log.ended and failure.kind == "exited" and state is not None:
            # The log is longer than it could be read meanwhile; its end is what tells the cause.
            # What was read of it has to do where the Engine does not give it in time.
            with contextlib.suppress(FleetError):
                tail = self._engine.log_tail(self._container, TAIL_LINES)
                self._watch.tail = collections.deque(tail, maxlen=TAIL_LINES)
        return self._watch.failure(state, time.monotonic(), self._oom) or failure

    def _may_be_oom(self, state: ContainerState | None) -> bool:
        """Whether a kill for want of memory may still be told."""
        return state is not None and state.exit_code == KILLED and not (state.oom_killed or self._oom)

    def _take_news(self) -> None:
        try:
            self._oom = self._inbox.get(timeout=0.05).kind == "oom" or self._oom
        except queue.Empty:
            return
