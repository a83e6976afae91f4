# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What has to be done so that what is becomes what is wanted: an ordered list of actions. Pure.

A replaced container is kept beside the new one under its name plus ".previous" until the new one is ready. A run that
was killed in between leaves such a pair, and the next run mends it from here: the previous one is the one that was
known to work. Only a container that was once ready has the restart policy RESTART_POLICY; that is how a run knows what
an earlier one reached.
"""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import ContainerState
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec, differences

PREVIOUS = ".previous"
RESTART_POLICY = "unless-stopped"
# Docker's words for a container whose processes exist and yet cannot serve: only a stop and a start help.
_STUCK = ("paused", "restarting")
# Docker's health of a container that has once been healthy since its start, or should have been by now.
_WAS_READY = ("healthy", "unhealthy")


class Observed(t.NamedTuple):
    """A container of the fleet as it is.

    healthy: it answers /health with 200; complete: its secret files are on the host; taken_down: an earlier run has
    stopped it and has not seen it, or what replaces it, serve again; seen_ready: a run has seen this very start of it
    become ready; sick: why nothing but a restart helps it, "" when nothing is known to be wrong with it.
    """

    spec: ContainerSpec
    state: ContainerState
    healthy: bool
    complete: bool = True
    taken_down: bool = False
    seen_ready: bool = False
    sick: str = ""

    @property
    def was_ready(self) -> bool:
        """Whether it has been ready since its start, or should have been by its deadline.

        The Docker Engine knows it only after its next check, which may be half a minute later.
        """
        return self.seen_ready or self.state.health in _WAS_READY

    @property
    def serves(self) -> bool:
        """Whether it is to be running.

        It does, the Engine is about to start it again, or it did until a run that did not come to its end.
        """
        return self.state.running or self.state.status == "restarting" or self.taken_down


class Action(t.NamedTuple):
    """One thing to do with one container.

    kind:
        rename    somebody gave it another name: give it its own back
        put_back  an unfinished replacement: remove what has its name, if anything, and give the previous its name back
        drop      remove the previous container of a replacement that has succeeded
        remove    stop and remove
        forget    remove what is kept of a server whose container is gone: its secret files and generations
        stop      stop
        create    create it new
        replace   create the new one, stop and keep the present one
        start     start the stopped one
        restart   stop and start the same one
        confirm   it runs, and has not been confirmed ready: wait for that, then let the Engine restart it
        wait      it runs as wanted and is not ready: wait for that; changes nothing
    because: the differing properties, or words for the reason.
    former: what is put back when the action fails.
    served: the former, or the present, container is to be running: it was when the run began, or until an earlier one
    was cut off.
    sick: the present container cannot finish what it has in hand.
    """

    kind: str
    name: str
    because: tuple[str, ...] = ()
    before: ContainerSpec | None = None
    after: ContainerSpec | None = None
    former: ContainerSpec | None = None
    served: bool = False
    sick: bool = False

    @property
    def changes(self) -> bool:
        """Whether the action changes the host."""
        return self.kind != "wait"

    @property
    def starts(self) -> bool:
        """Whether the action ends in a server that must become ready, when the wanted state is a running one."""
        return self.kind in ("create", "replace", "start", "restart", "confirm", "wait")


def decide(
    wanted: t.Sequence[ContainerSpec],
    observed: t.Mapping[str, Observed],
    state: str,
    prune: bool,
    kept: t.Iterable[str] = (),
) -> list[Action]:
    """The actions that bring a host to the wanted state, in the order in which they are to be done.

    wanted: the containers of all servers that the task names; state: started, present or restarted.
    observed: all containers of the fleet on this host, by name.
    prune: remove the containers of the fleet that are not wanted.
    kept: the servers of which secret files or generations are on this host.
    """
    actions: list[Action] = []
    found = {spec.name: _find(spec.name, observed) for spec in wanted}
    if prune:
        stays = {one.spec.name for pair in found.values() for one in pair if one is not None}
        actions.extend(
            Action("remove", name, ("not in the inventory any more",), before=observed[name].spec)
            for name in sorted(set(observed) - stays)
        )
        actions.extend(_forget(set(kept) - set(found), observed))
    for spec in wanted:
        present, previous = found[spec.name]
        actions.extend(_decide_one(spec, present, previous, state))
    return actions


def decide_end(
    names: t.Sequence[str],
    observed: t.Mapping[str, Observed],
    state: str,
    prune: bool,
    kept: t.Iterable[str] = (),
) -> list[Action]:
    """The actions for the states that end servers: stopped and absent. Only names are needed for these."""
    actions = []
    for name, one in sorted(observed.items()):
        named = one.spec.server in names
        if (named and state == "absent") or (prune and not named):
            why = "absent is wanted" if state == "absent" else "not in the inventory any more"
            actions.append(Action("remove", name, (why,), before=one.spec))
        elif named and one.serves:
            actions.append(Action("stop", name, ("stopped is wanted",), before=one.spec, after=one.spec))
    ended = {name for name in kept if (name in names and state == "absent") or (name not in names and prune)}
    return actions + _forget(ended, observed)


def _forget(names: t.Iterable[str], observed: t.Mapping[str, Observed]) -> list[Action]:
    """For servers of which more than their containers is kept; removing a container takes along what is kept of it."""
    there = {one.spec.server for one in observed.values()}
    return [Action("forget", name, ("its container is gone",)) for name in sorted(set(names) - there)]


def _find(name: str, observed: t.Mapping[str, Observed]) -> tuple[Observed | None, Observed | None]:
    """The present and the previous container of a server.

    Where neither has its name, one that says that it is of this server.
    """
    present, previous = observed.get(name), observed.get(name + PREVIOUS)
    if present is None and previous is None:
        present = next((one for _name, one in sorted(observed.items()) if one.spec.server == name), None)
    return present, previous


def _decide_one(spec: ContainerSpec, present: Observed | None, previous: Observed | None, state: str) -> list[Action]:
    actions: list[Action] = []
    former: ContainerSpec | None = None
    served = present is not None and present.serves
    if previous is not None:
        was_serving = previous.serves or previous.state.restart_policy == RESTART_POLICY
        if present is not None and present.state.restart_policy == RESTART_POLICY:
            actions.append(Action("drop", spec.name, ("its replacement was ready",), before=previous.spec))
        elif present is None or not present.state.running or differences(present.spec, spec):
            actions.append(Action("put_back", spec.name, ("an earlier run was cut off",), before=previous.spec))
            present, served = previous, was_serving
        else:
            former, served = previous.spec, was_serving
    if present is None:
        return [*actions, Action("create", spec.name, ("there is none",), after=spec)]
    if present.spec.name not in (spec.name, spec.name + PREVIOUS):
        actions.append(Action("rename", spec.name, (f"it is named {present.spec.name}",), before=present.spec))
    changed = tuple(differences(present.spec, spec)) or (() if present.complete else ("secret files are gone",))
    if changed:
        return [*actions, Action("replace", spec.name, changed, present.spec, spec, present.spec, served)]
    kind, why = _transition(present, state, served)
    if kind is not None:
        actions.append(Action(kind, spec.name, (why,), present.spec, spec, former, served, bool(present.sick)))
    return actions


def _transition(present: Observed, state: str, served: bool) -> tuple[str | None, str]:
    """The action and its reason for a container that is as wanted, and perhaps not in the wanted state."""
    now = present.state
    if state == "present":
        # Nothing is to be started, but what ran when an earlier run took it down.
        stopped = not now.running and now.status not in _STUCK
        return ("start", "an earlier run stopped it") if served and stopped else (None, "")
    if now.status in _STUCK:
        return "restart", f"it is {now.status}"
    if not now.running:
        return "start", f"it is {now.status}"
    if state == "restarted":
        return "restart", "restarted is wanted"
    if now.restart_policy != RESTART_POLICY:
        return "confirm", f"its restart policy is {now.restart_policy}, as before the first time that it is ready"
    if present.sick:
        return "restart", present.sick
    if not present.healthy:
        return "wait", "it is not ready"
    return None, ""


def server_state(one: Observed | None) -> str:
    """absent, ready, loading (runs, never was ready), unhealthy (was ready, does not answer) or Docker's own word."""
    if one is None:
        return "absent"
    if not one.state.running:
        return one.state.status
    if one.healthy:
        return "ready"
    return "unhealthy" if one.was_ready else "loading"
