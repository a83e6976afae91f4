# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The start of one server as a transaction: it ends with the server ready, or with what was there before put back."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import leaving
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.address import endpoint_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.arguments import options
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import PREVIOUS, RESTART_POLICY, Action
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.ending import Ended, end
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.history import History
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.measured import (
    Measurement,
    compared,
    measurement,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import ContainerState, observed_state
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.patient import PatientEngine, patiently
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineUnreachable, FleetError, Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.usage import others
from ansible_collections.gpufleet.vllm.plugins.module_utils._redact import Redactor
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.follow import Expected, follow
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.stages import Event
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.watch import Failure, Watch

# Log lines that a failure carries in its result, and that are kept in the state folder.
REPORTED_LINES = 60
KEPT_LINES = 100000
# Seconds from SIGTERM to SIGKILL for what cannot finish anything: a start that has failed, an engine that stands still.
FAILED_SECONDS = 10

# How the former container is, where all is well.
SERVES_AGAIN = "the former container serves again"
NOT_STOPPED = "the former container was not stopped"
# The kind of a problem of a container that could not be ended.
NOT_ENDED = "not_ended"

Report = t.Callable[[str, Event], None]


class Outcome(t.NamedTuple):
    """How one started server came out. problem is None when it is ready (or was only created).

    memory: what its log told of memory beside the prediction; measurement: the same as it is kept for the next plan;
    ended: the containers that were ended for it.
    """

    server: str
    timeline: list[dict[str, t.Any]]
    problem: dict[str, t.Any] | None = None
    memory: dict[str, t.Any] | None = None
    measurement: Measurement | None = None
    ended: t.Sequence[Ended] = ()


def not_ended(server: str, reason: str) -> dict[str, t.Any]:
    """The problem of a container that could not be ended, in the form of a start's."""
    return {
        "server": server,
        "kind": NOT_ENDED,
        "reason": reason,
        "stage": None,
        "exit_code": None,
        "oom_killed": False,
        "log": [],
        "log_file": None,
        "restored": None,
        "release": None,
        "engine": {},
        "gpu_processes": [],
    }


class Start:
    """One server's start; run() is called once, in a thread of its own, after make_way() where there is a need."""

    def __init__(
        self,
        action: Action,
        server: t.Mapping[str, t.Any],
        secrets: t.Mapping[str, str],
        must_run: bool,
        beside: bool,
        rollback: int | None,
        store: Store,
        history: History,
        report: Report,
    ) -> None:
        """
        server: the element of the option `servers` of vllm_servers; secrets: its secrets by name.
        must_run: whether it is to be started and become ready; else its container is only made.
        beside: whether the container that it replaces serves on until it is ready.
        rollback: number of the generation that this goes back to; None for what is deployed.
        """
        self._action = action
        self._name = action.name
        self._server = server
        self._secrets = secrets
        self._redactor = Redactor(secrets.values())
        self._must_run = must_run
        self._beside = beside and must_run
        self._rollback = rollback
        self._store = store
        self._history = history
        self._report = lambda event: report(action.name, event)
        self._engine = PatientEngine(store)
        self._watch = self._new_watch()
        self._began = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._created: str | None = None
        self._made_way = False
        self._ended: list[Ended] = []

    def make_way(self) -> Outcome:
        """Stop the present container early, for another server takes what it has."""
        before = self._action.before
        try:
            if before is not None:
                self._report(Event("created", "stopping the present one, which is in the way of another"))
                self._made_way = True
                self._store.note_down(self._name)
                self._end(self._name, before)
        except FleetError as error:
            return Outcome(self._name, [], not_ended(self._name, str(error).rstrip(".")))
        return Outcome(self._name, [], ended=self._ended)

    def take_back(self) -> str | None:
        """When run() will not be called: what was stopped to make way starts again; how it is, in words."""
        if not (self._made_way and self._action.served):
            return None
        how = self._start_again()
        if how == SERVES_AGAIN:
            self._store.note_up(self._name)
        return how

    def run(self) -> Outcome:
        """Create or start it and see it ready; undo that when it fails."""
        try:
            self._make()
            failure = self._see_it_ready() if self._must_run else None
        except FleetError as error:
            failure = Failure("refused", str(error).rstrip("."))
        memory = compared(self._server.get("expected_memory"), self._watch.memory.figures())
        measured = measurement(self._server, memory, self._watch.memory.version, self._began)
        problem = None
        try:
            if failure is None:
                if memory:
                    self._report(Event("ready", "memory as the engine tells it", memory=memory))
                failure = self._settle()
            if failure:
                problem = self._undo(failure)
        except FleetError as error:
            # What is left to do, the next run does.
            problem = self._problem(failure or Failure("refused", str(error).rstrip(".")), None)
            problem["restored"] = f"what was begun could not be ended: {error}" if failure else None
        return Outcome(self._name, self._watch.timeline, problem, memory, measured, self._ended)

    def _settle(self) -> Failure | None:
        """What follows on success: the Engine keeps it running, and what it replaced goes.

        The failure when it ended before the Engine would have started it again.
        """
        spec = self._action.after
        # One that has died already is no generation to which anybody is to go back.
        failure = self._ended_since() if self._must_run else None
        if failure is not None:
            return failure
        if self._must_run and spec is not None:
            # Before the policy, by which the next run would know that nothing is left to do.
            if self._rollback is not None:
                self._history.rolled_back(self._name, self._rollback)
            else:
                self._history.became_ready(spec, self._server, self._result())
        if self._must_run and self._action.kind != "wait":
            # Only a server that was once ready is brought back by the Engine; one that cannot start would be started
            # for ever.
            self._engine.set_restart_policy(self._name, RESTART_POLICY)
        failure = self._ended_since() if self._must_run else None
        if failure is not None:
            return failure
        if self._action.former is not None:
            self._end(self._name + PREVIOUS, self._action.former)
            self._engine.remove(self._name + PREVIOUS)
        self._store.note_up(self._name)
        if spec is not None:
            self._history.drop_secrets(self._name, [spec.secrets_mark])
        return None

    def _end(self, container: str, spec: ContainerSpec, at_most: int | None = None) -> None:
        ended = end(self._engine, container, spec, self._name, at_most)
        if ended.exit_code is not None:
            self._ended.append(ended)

    def _ended_since(self) -> Failure | None:
        """The failure when it has ended since it was ready; else it is noted that this start became ready."""
        try:
            inspect = self._engine.inspect(self._name)
        except EngineUnreachable:
            # The Engine's own checks of the container tell it later.
            return None
        if inspect is None:
            return Failure("gone", "the container was removed just after it was ready")
        state = observed_state(inspect)
        if not state.running:
            return Failure("exited", f"the engine ended with exit code {state.exit_code} just after it was ready")
        # The mark only tells it before the Engine's own checks do: a full disk makes no server fail that serves.
        with contextlib.suppress(Refused):
            self._store.note_ready(self._name, state.start)
        return None

    def _result(self) -> dict[str, t.Any]:
        """How the start came out, as a generation keeps it."""
        seconds = self._watch.timeline[-1]["seconds"] if self._watch.timeline else None
        return {"ready_seconds": seconds, "version": self._watch.memory.version}

    def _make(self) -> None:
        """Everything before the start.

        The present container is stopped last, when nothing but the start itself can fail.
        """
        kind, spec = self._action.kind, self._action.after
        if kind in ("confirm", "wait") or spec is None:
            return
        self._store.make_own_mounts(spec)
        self._store.write_secrets(spec, self._secrets)
        if kind == "replace" and self._action.served and self._action.before is not None:
            self._history.adopt(self._action.before)
        if kind == "replace":
            self._engine.rename(self._name, self._name + PREVIOUS)
        if kind in ("create", "replace"):
            self._created = self._engine.create(spec)
            self._report(Event("created", f"container created from {spec.image}"))
        if self._action.before is not None and kind in ("replace", "restart") and not self._beside:
            self._report(Event("created", "stopping the present one"))
            if self._action.served:
                self._store.note_down(self._name)
            container = self._name + PREVIOUS if kind == "replace" else self._name
            self._end(container, self._action.before, FAILED_SECONDS if self._action.sick else None)

    def _see_it_ready(self) -> Failure | None:
        if self._action.kind in ("start", "restart"):
            # A start that fails is to end, so that it is seen.
            self._engine.set_restart_policy(self._name, "no")
        probe = self._server["probe"]
        names = tuple(probe["served_names"])
        adapters = tuple(probe.get("adapters") or ())
        return follow(
            self._engine,
            self._name,
            endpoint_of(self._action.after, self._secrets.get("api_key")),
            Expected(probe["kind"], names, probe["max_model_len"], adapters) if names else None,
            self._watch,
            self._report,
            begin=self._begin if self._action.kind not in ("confirm", "wait") else None,
        )

    def _begin(self) -> None:
        self._engine.start(self._name)

    # ---- when it fails

    def _undo(self, failure: Failure) -> dict[str, t.Any]:
        """Keep what tells of the failure, then restore what was there before; the failure as data."""
        # What waits for the failure is to hear of it at once.
        self._report(Event(self._watch.stage, "failed: " + self._hidden(failure.reason)))
        # The Engine may be being restarted, which may be why the start has failed; what is done already is not done
        # again. What tells of the failure is read once, for then its container goes.
        inspect = patiently(lambda: self._engine.inspect(self._created or self._name))
        state = observed_state(inspect) if inspect else None
        problem = self._problem(failure, state)
        whole = self._whole_log(state is not None)
        patiently(lambda: self._put_back(problem, state, whole))
        return problem

    def _whole_log(self, there: bool) -> t.Sequence[str]:
        """The log of the start that failed: all that the Engine gives in time, else the lines that were watched.

        there: whether its container is still there.
        """
        watched = tuple(self._watch.tail)
        if watched and there:
            # What served before does not stay down for a log.
            with contextlib.suppress(FleetError):
                return self._engine.log_tail(self._created or self._name, KEPT_LINES)
        return watched

    def _put_back(self, problem: dict[str, t.Any], state: ContainerState | None, whole: t.Sequence[str]) -> None:
        """Keep the whole log, and restore what was there before; how that went is added to the problem.

        state: the container's that failed; None when it is gone.
        """
        former = self._action.former
        # What serves again need not wait until a long log is searched for secrets.
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
            kept = pool.submit(self._store.keep_failed_log, self._name, map(self._hidden, whole)) if whole else None
            if former is not None:
                problem["restored"] = self._restore()
                if problem["restored"] in (SERVES_AGAIN, NOT_STOPPED):
                    self._store.note_up(self._name)
            elif self._created:
                self._engine.remove(self._created)
            elif self._engine.podman is not None and state is not None and _restarts_in_vain(state):
                self._engine.stop(self._name, FAILED_SECONDS)
        problem["log_file"] = kept.result() if kept else None
        if former is not None or self._action.kind == "create":
            self._history.drop_secrets(self._name, [former.secrets_mark if former is not None else None])

    def _problem(self, failure: Failure, state: ContainerState | None) -> dict[str, t.Any]:
        return {
            "server": self._name,
            "kind": failure.kind,
            "reason": self._hidden(failure.reason),
            "stage": self._watch.stage,
            "exit_code": state.exit_code if state and not state.running and failure.kind == "exited" else None,
            "oom_killed": bool(state and state.oom_killed),
            "log": [self._hidden(line) for line in self._watch.tail][-REPORTED_LINES:],
            "log_file": None,
            "restored": None,
            "release": self._release(),
            "engine": self._redactor.data(options(self._action.after.argv if self._action.after else ())),
            "gpu_processes": self._others_on_its_gpus(state),
        }

    def _others_on_its_gpus(self, state: ContainerState | None) -> list[dict[str, t.Any]]:
        """The processes that hold memory of its GPUs beside it."""
        spec = self._action.after
        return others(leaving.gpus(spec), state.id if state else "") if spec and spec.gpus else []

    def _release(self) -> str | None:
        """The engine's release: as its log told it, else the one that the plan was made for."""
        planned = ((self._server.get("expected_memory") or {}).get("key") or {}).get("same") or {}
        return self._watch.memory.version or planned.get("release")

    def _restore(self) -> str:
        """Give the former container its name back, and start it when it served; how it is, in words."""
        former = self._engine.inspect(self._name + PREVIOUS)
        if former is not None:
            if self._created or self._action.kind != "replace":
                failed = self._created or self._name
                if self._action.after is not None:
                    # It serves nobody, and the memory that it has is needed by the former one.
                    self._end(failed, self._action.after, FAILED_SECONDS)
                self._engine.remove(failed)
            self._engine.rename(former["Id"], self._name)
        present = self._engine.inspect(self._name)
        if present is None:
            return "the former container is gone"
        if observed_state(present).running:
            return NOT_STOPPED
        if not self._action.served:
            return "the former container is back, stopped as it was"
        return self._start_again()

    def _start_again(self) -> str:
        """Start the former container under its own name; how it is, in words."""
        self._report(Event("created", "putting back the former container"))
        watch = self._new_watch()
        try:
            server = endpoint_of(self._action.former)
            failure = follow(self._engine, self._name, server, None, watch, self._report, begin=self._begin)
            failure = failure or self._ended_since()
        except FleetError as error:
            return self._hidden(f"the former container is back, and did not start: {error}")
        if failure:
            return self._hidden(f"the former container is back, and did not become ready: {failure.reason}")
        return SERVES_AGAIN

    def _new_watch(self) -> Watch:
        return Watch(self._name, float(self._server["stall_seconds"]), time.monotonic())

    def _hidden(self, text: str) -> str:
        """The text without secrets."""
        return self._redactor.text(text)


def _restarts_in_vain(state: ContainerState) -> bool:
    """Whether it never was ready and does not run, as one that Podman starts again for ever."""
    return not state.running and state.restart_policy != RESTART_POLICY
