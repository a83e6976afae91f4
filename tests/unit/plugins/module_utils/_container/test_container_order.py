# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server waits for which, what runs beside what, and that each step is done as early as it can be."""

from __future__ import annotations

import dataclasses
import threading
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import Action
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.order import beside, order
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.schedule import Skipped, carry_out
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec, Gpus

ENDING = {"remove", "stop", "drop"}


def spec(name: str, gpus: str, port: int, address: str = "127.0.0.1") -> ContainerSpec:
    fields: dict[str, t.Any] = {field.name: "" for field in dataclasses.fields(ContainerSpec)}
    given = Gpus("nvidia", tuple(gpus)) if gpus else None
    return ContainerSpec(**{**fields, "name": name, "listen": (address, port), "gpus": given, "memory_bytes": 0})


def act(
    kind: str, name: str, after: str | None = None, before: str | None = None, port: int = 0, was: int = 0
) -> Action:
    """An action on GPUs of one letter each, away from those of `before`; each server has a port of its own."""
    own = 8000 + ord(name[0])
    return Action(
        kind,
        name,
        (),
        spec(name, before, was or own) if before is not None else None,
        spec(name, after, port or own) if after is not None else None,
    )


def create(name: str, gpus: str = "", **ports: int) -> Action:
    return act("create", name, gpus, **ports)


def replace(name: str, after: str, before: str, **ports: int) -> Action:
    return act("replace", name, after, before, **ports)


# Each action, then what each step waits for: "a" is the action of the server a, "(a)" its making way.
ORDERS: list[tuple[str, list[Action], dict[str, str]]] = [
    ("nothing", [], {}),
    ("disjoint", [create("a", "0"), create("b", "1"), create("c")], {"a": "", "b": "", "c": ""}),
    ("one GPU", [create("a", "0"), create("b", "0"), create("c", "1")], {"a": "", "b": "a", "c": ""}),
    (
        "overlapping GPUs",
        [create("a", "01"), create("b", "12"), create("c", "2"), create("d", "0")],
        {"a": "", "b": "a", "c": "b", "d": "a"},
    ),
    ("a GPU that is left", [replace("a", "1", "0"), replace("b", "2", "1")], {"a": "b", "b": ""}),
    ("a GPU that is left, by one that is new", [create("a", "1"), replace("b", "2", "1")], {"a": "b", "b": ""}),
    ("a port that is left", [create("a", port=2), replace("b", "", "", port=3, was=2)], {"a": "b", "b": ""}),
    ("a GPU before and after", [replace("a", "0", "0"), replace("b", "0", "0")], {"a": "", "b": "a"}),
    ("a swap", [replace("a", "1", "0"), replace("b", "0", "1")], {"a": "(b)", "b": "a(b)", "(b)": ""}),
    (
        "one that waits for a swap",
        [create("c", "0"), replace("a", "1", "0"), replace("b", "0", "1")],
        {"a": "(b)", "b": "ac(b)", "(b)": "", "c": "a"},
    ),
    (
        "a GPU of one that ends",
        [act("remove", "x", None, "0"), create("a", "0"), create("b", "1")],
        {"x": "", "a": "x", "b": ""},
    ),
    ("memory of the host", [act("stop", "x", None, ""), create("a"), create("b", "1")], {"x": "", "a": "x", "b": ""}),
    ("its own former", [act("drop", "a", None, "0"), act("start", "a", "0", "0")], {"a drop": "", "a": "a drop"}),
    ("restarts on one GPU", [act("restart", "a", "0", "0"), act("restart", "b", "0", "0")], {"a": "", "b": "a"}),
]


@pytest.mark.parametrize(("actions", "expected"), [row[1:] for row in ORDERS], ids=[row[0] for row in ORDERS])
def test_order(actions: list[Action], expected: dict[str, str]) -> None:
    def shown(step: t.Any) -> str:
        action = actions[step.place]
        name = f"{action.name} drop" if action.kind == "drop" else action.name
        return f"({name})" if step.kind == "make way" else name

    found = {
        shown(step): sorted(map(shown, waits), key=lambda name: name.strip("(") + name)
        for step, waits in order(actions).items()
    }
    assert {
        name: "".join(sorted(waits, key=lambda one: one.startswith("("))) for name, waits in found.items()
    } == expected


FREE = 2**30
BESIDE: list[tuple[ContainerSpec | None, ContainerSpec | None, int | None, bool]] = [
    (spec("a", "0", 1), spec("a", "1", 2), None, True),
    (spec("a", "0", 1), spec("a", "01", 2), None, False),
    (spec("a", "0", 1), spec("a", "1", 1), None, False),
    (spec("a", "0", 1), spec("a", "1", 1, "127.0.0.2"), None, True),
    (spec("a", "0", 1), spec("a", "1", 1, "0.0.0.0"), None, False),
    (spec("a", "", 1), spec("a", "", 2), FREE, False),
    (spec("a", "", 1), dataclasses.replace(spec("a", "", 2), memory_bytes=FREE), FREE, True),
    (spec("a", "", 1), dataclasses.replace(spec("a", "", 2), memory_bytes=FREE), FREE - 1, False),
    (spec("a", "", 1), dataclasses.replace(spec("a", "", 2), memory_bytes=FREE), None, False),
    (None, spec("a", "1", 2), None, False),
]


@pytest.mark.parametrize(("before", "after", "free", "expected"), BESIDE)
def test_beside(before: ContainerSpec | None, after: ContainerSpec | None, free: int | None, expected: bool) -> None:
    assert beside(before, after, free) is expected


def test_steps_that_wait_for_nothing_run_at_the_same_time() -> None:
    gate = threading.Barrier(20)
    waits: dict[int, set[int]] = {number: set() for number in range(20)}
    done = dict(carry_out(waits, lambda number: gate.wait(300) >= 0, lambda result: not result))
    assert len(done) == 20


def test_a_failure_keeps_only_those_waiting_for_it_from_going_on() -> None:
    waits = {"a": set(), "b": {"a"}, "c": {"b"}, "d": set(), "e": {"d"}, "f": {"d", "b"}}
    order_of_starts: list[str] = []
    done = dict(carry_out(waits, lambda key: order_of_starts.append(key) or key, lambda result: result == "a"))
    assert done == {"a": "a", "b": Skipped("a"), "c": Skipped("a"), "d": "d", "e": "e", "f": Skipped("a")}
    assert order_of_starts.index("d") < order_of_starts.index("e")


def test_what_a_step_raises_is_raised_after_the_others() -> None:
    ended = threading.Event()

    def do(key: str) -> str:
        if key == "bad":
            raise ValueError("bad")
        ended.set()
        return key

    with pytest.raises(ValueError, match="bad"):
        list(carry_out({"bad": (), "good": ()}, do, lambda result: False))
    assert ended.is_set()
