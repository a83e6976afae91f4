# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Which action waits for which: only for those that share something with it. Pure.

A server takes what it will have (GPUs, and where it listens) and leaves what it had. An action waits for those that
leave what it takes, and for those before it that take the same. Where that is a circle (two servers that swap their
GPUs), one of them makes way first: its present container is stopped, and starts again if the swap comes to nothing.
"""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import Action
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec

# What a step of an order is: the action itself, or the present container of its server being stopped for another one.
DO = "do"
MAKE_WAY = "make way"

# Actions that take no time and on whose outcome the names of the others rest; they are done before all others.
MENDS = ("rename", "put_back", "forget")
# Actions that only end a container.
ENDS = ("remove", "drop", "stop")

_ANY_ADDRESS = ("", "0.0.0.0", "::")


class Step(t.NamedTuple):
    """kind: DO or MAKE_WAY; place: of the action in the list that was ordered."""

    kind: str
    place: int


def order(actions: t.Sequence[Action]) -> dict[Step, frozenset[Step]]:
    """The steps of the actions, none of which is one of MENDS, and what each waits for; free of circles."""
    places = _leavers_first(actions)
    steps: dict[Step, set[Step]] = {Step(DO, index): set() for index in range(len(actions))}
    for place, later in enumerate(places):
        for earlier in places[:place]:
            if _waits(actions[later], actions[earlier]):
                steps[Step(DO, later)].add(Step(DO, earlier))
            if _waits_for_the_leaving(actions[earlier], actions[later]):
                # A circle: the later one's container is in the way of the earlier one.
                way = Step(MAKE_WAY, later)
                steps.setdefault(way, set())
                steps[Step(DO, earlier)].add(way)
                steps[Step(DO, later)].add(way)
    return {step: frozenset(waits_for) for step, waits_for in steps.items()}


def beside(before: ContainerSpec | None, after: ContainerSpec | None, free_memory_bytes: int | None) -> bool:
    """Whether a server and its replacement can run at the same time.

    They need GPUs of their own and different places to listen. Engines without GPUs need, instead of GPUs, a limit of
    memory that fits in what the host has free: free_memory_bytes, None where that is not known.
    """
    if before is None or after is None or clash(before.listen, after.listen):
        return False
    if before.gpus is not None and after.gpus is not None:
        return not set(before.gpus.ids) & set(after.gpus.ids)
    return free_memory_bytes is not None and 0 < after.memory_bytes <= free_memory_bytes


def clash(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two servers cannot listen there at the same time."""
    same_address = one[0] == other[0] or one[0] in _ANY_ADDRESS or other[0] in _ANY_ADDRESS
    return one[1] == other[1] and same_address


def _leavers_first(actions: t.Sequence[Action]) -> list[int]:
    """The same order, but for actions that must wait until another one has left what they take.

    Of a circle the one comes first that is met first.
    """
    rest, ordered = list(range(len(actions))), []
    while rest:
        met, one = set(), rest[0]
        while one not in met:
            met.add(one)
            one = next((other for other in rest if _waits_for_the_leaving(actions[one], actions[other])), one)
        ordered.append(one)
        rest.remove(one)
    return ordered


def _waits(later: Action, earlier: Action) -> bool:
    """Whether the later of two waits for the earlier one."""
    if _waits_for_the_leaving(later, earlier) or later.name == earlier.name:
        return True
    return later.starts and earlier.starts and _share(later.after, earlier.after)


def _waits_for_the_leaving(taker: Action, leaver: Action) -> bool:
    if not taker.starts or taker.name == leaver.name or leaver.kind not in (*ENDS, "replace"):
        return False
    # Engines without a GPU share the host's memory: one that starts comes after those that only leave.
    if leaver.kind in ENDS and _on_host_memory(taker.after) and _on_host_memory(leaver.before):
        return True
    if taker.after is None or leaver.before is None:
        return False
    # Servers that lived on one GPU stay there one after the other: neither needs the other's place.
    new_gpus = _gpus(taker.after) - _gpus(taker.before)
    return bool(new_gpus & _gpus(leaver.before)) or clash(taker.after.listen, leaver.before.listen)


def _share(one: ContainerSpec | None, other: ContainerSpec | None) -> bool:
    """Whether they have a GPU, or a place to listen, in common."""
    if one is None or other is None:
        return False
    return clash(one.listen, other.listen) or bool(_gpus(one) & _gpus(other))


def _gpus(spec: ContainerSpec | None) -> set[str]:
    return set(spec.gpus.ids) if spec is not None and spec.gpus is not None else set()


def _on_host_memory(spec: ContainerSpec | None) -> bool:
    return spec is not None and spec.gpus is None
