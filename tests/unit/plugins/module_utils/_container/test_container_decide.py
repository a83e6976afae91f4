# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided from what is wanted and what is there; no Docker Engine takes part."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import (
    Observed,
    decide,
    decide_end,
    server_state,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import ContainerState
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec


def spec(name: str = "a", server: str | None = None, **changes: t.Any) -> ContainerSpec:
    base = ContainerSpec(
        name=name,
        image="i:1",
        image_id="sha256:1",
        argv=("vllm",),
        env={},
        mounts=(),
        tmpfs={},
        listen=("127.0.0.1", 8000),
        container_port=8000,
        gpus=None,
        shm_bytes=1,
        memory_bytes=0,
        cpus=0,
        user="",
        read_only_root=True,
        cap_drop=("ALL",),
        cap_add=(),
        security_opt=(),
        ipc_mode="private",
        network="bridge",
        init=True,
        stop_seconds=10,
        health=None,
        labels={"gpufleet.vllm.server": server or name},
    )
    return dataclasses.replace(base, **changes)


def there(
    name: str = "a",
    status: str = "running",
    policy: str = "unless-stopped",
    healthy: bool | None = None,
    complete: bool = True,
    health: str | None = None,
    server: str | None = None,
    taken_down: bool = False,
    seen_ready: bool = False,
    sick: str = "",
    **changes: t.Any,
) -> Observed:
    """A container of the fleet; ready by default when it runs."""
    running = status in ("running", "paused")
    state = ContainerState("id", status, running, 0, False, "", "", 0, policy, health)
    one = spec(name, server or name.replace(".previous", ""), **changes)
    answers = running and status != "paused" if healthy is None else healthy
    return Observed(one, state, answers, complete, taken_down, seen_ready, sick)


OLD = {"argv": ("vllm", "old")}
TABLE: list[tuple[str, list[Observed], str, list[str]]] = [
    ("nothing there", [], "started", ["create"]),
    ("ready", [there()], "started", []),
    ("ready, present", [there()], "present", []),
    ("sick behind a 200", [there(sick="it is frozen")], "started", ["restart"]),
    ("sick and silent", [there(sick="it is frozen", healthy=False)], "started", ["restart"]),
    ("sick, and never ready", [there(sick="it is frozen", policy="no")], "started", ["confirm"]),
    ("sick, present", [there(sick="it is frozen")], "present", []),
    ("sick and otherwise", [there(sick="it is frozen", **OLD)], "started", ["replace"]),
    ("ready, restarted", [there()], "restarted", ["restart"]),
    ("stopped", [there(status="exited")], "started", ["start"]),
    ("stopped, present", [there(status="exited")], "present", []),
    ("stopped by a run that was cut off, present", [there(status="exited", taken_down=True)], "present", ["start"]),
    ("stopped, restarted", [there(status="exited")], "restarted", ["start"]),
    ("created", [there(status="created", policy="no")], "started", ["start"]),
    ("paused", [there(status="paused")], "started", ["restart"]),
    ("crash loop", [there(status="restarting")], "started", ["restart"]),
    ("loading", [there(healthy=False)], "started", ["wait"]),
    ("never confirmed", [there(policy="no", healthy=False)], "started", ["confirm"]),
    ("healthy, never confirmed", [there(policy="no")], "started", ["confirm"]),
    ("other policy", [there(policy="always")], "started", ["confirm"]),
    ("never confirmed, present", [there(policy="no")], "present", []),
    ("changed", [there(**OLD)], "started", ["replace"]),
    ("changed, present", [there(**OLD)], "present", ["replace"]),
    ("changed, restarted", [there(**OLD)], "restarted", ["replace"]),
    ("secrets gone", [there(complete=False)], "started", ["replace"]),
    ("renamed by hand", [there("z", server="a")], "started", ["rename"]),
    ("renamed by hand and changed", [there("z", server="a", **OLD)], "started", ["rename", "replace"]),
    ("another one of that server beside it", [there(), there("z", server="a")], "started", []),
    # What killed runs leave: cut off after the rename, the creation, the stop, the start, the first readiness.
    ("cut off after the rename", [there("a.previous", **OLD)], "started", ["put_back", "replace"]),
    (
        "cut off after the creation",
        [there(status="created", policy="no"), there("a.previous", **OLD)],
        "started",
        ["put_back", "replace"],
    ),
    (
        "cut off after the stop",
        [there(status="created", policy="no"), there("a.previous", status="exited", **OLD)],
        "started",
        ["put_back", "replace"],
    ),
    (
        "cut off while starting",
        [there(policy="no", healthy=False), there("a.previous", status="exited", **OLD)],
        "started",
        ["confirm"],
    ),
    (
        "died after it was cut off",
        [there(policy="no", status="exited"), there("a.previous", status="exited", **OLD)],
        "started",
        ["put_back", "replace"],
    ),
    ("cut off when ready", [there(), there("a.previous", status="exited", **OLD)], "started", ["drop"]),
    (
        "cut off when ready, then stopped",
        [there(status="exited"), there("a.previous", status="exited", **OLD)],
        "started",
        ["drop", "start"],
    ),
    (
        "cut off, and the former is wanted again",
        [there(status="created", policy="no", **OLD), there("a.previous", status="exited")],
        "started",
        ["put_back", "start"],
    ),
    (
        "the same, present",
        [there(status="created", policy="no", **OLD), there("a.previous", status="exited")],
        "present",
        ["put_back", "start"],
    ),
    (
        "the same, present, of one that did not serve",
        [there(status="created", policy="no", **OLD), there("a.previous", status="exited", policy="no")],
        "present",
        ["put_back"],
    ),
]


@pytest.mark.parametrize(("observed", "state", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_decide(observed: list[Observed], state: str, expected: list[str]) -> None:
    actions = decide([spec()], {one.spec.name: one for one in observed}, state, prune=False)
    assert [action.kind for action in actions] == expected
    assert all(action.because for action in actions)


SERVED = [
    ("it runs", [there(**OLD)], True),
    ("the Engine starts it over and over", [there(status="restarting", **OLD)], True),
    ("it is stopped", [there(status="exited", **OLD)], False),
    ("a killed run was about to start it again", [there(status="exited", taken_down=True, **OLD)], True),
    ("a killed run stopped it", [there("a.previous", status="exited", **OLD)], True),
    ("a killed run found it stopped", [there("a.previous", status="exited", policy="no", **OLD)], False),
    ("a killed run started its successor", [there(policy="no"), there("a.previous", status="exited", **OLD)], True),
]


@pytest.mark.parametrize(("observed", "served"), [row[1:] for row in SERVED], ids=[row[0] for row in SERVED])
def test_what_served_is_known_and_put_back(observed: list[Observed], served: bool) -> None:
    last = decide([spec()], {one.spec.name: one for one in observed}, "started", prune=False)[-1]
    assert last.former is not None
    assert (last.former.argv, last.served) == (("vllm", "old"), served)


def test_prune_removes_exactly_what_is_not_wanted() -> None:
    ones = [
        there(),
        there("a.previous", status="exited", **OLD),
        there("b"),
        there("b.previous"),
        there("y", server="a"),
    ]
    observed = {one.spec.name: one for one in ones}
    actions = decide([spec()], observed, "started", True, ["a", "b", "c"])
    assert [(a.kind, a.name) for a in actions] == [
        ("remove", "b"),
        ("remove", "b.previous"),
        ("remove", "y"),
        ("forget", "c"),
        ("drop", "a"),
    ]
    assert [a.kind for a in decide([spec()], observed, "started", False, ["c"])] == ["drop"]


ENDS: list[tuple[str, bool, list[tuple[str, str]]]] = [
    ("stopped", False, [("stop", "a"), ("stop", "z")]),
    ("absent", False, [("remove", "a"), ("remove", "a.previous"), ("remove", "z"), ("forget", "gone")]),
    ("stopped", True, [("stop", "a"), ("remove", "b"), ("stop", "z"), ("forget", "other")]),
    (
        "absent",
        True,
        [
            ("remove", "a"),
            ("remove", "a.previous"),
            ("remove", "b"),
            ("remove", "z"),
            ("forget", "gone"),
            ("forget", "other"),
        ],
    ),
]


@pytest.mark.parametrize(("state", "prune", "expected"), ENDS)
def test_decide_end(state: str, prune: bool, expected: list[tuple[str, str]]) -> None:
    ones = [there(), there("a.previous", status="exited"), there("b"), there("z", server="zed")]
    observed = {one.spec.name: one for one in ones}
    actions = decide_end(["a", "gone", "zed"], observed, state, prune, ["a", "b", "gone", "other"])
    assert [(action.kind, action.name) for action in actions] == expected


@pytest.mark.parametrize(
    ("one", "state"),
    [
        (None, "absent"),
        (there(), "ready"),
        (there(healthy=False), "loading"),
        (there(healthy=False, health="starting"), "loading"),
        (there(healthy=False, health="starting", seen_ready=True), "unhealthy"),
        (there(healthy=False, health="healthy"), "unhealthy"),
        (there(healthy=False, health="unhealthy"), "unhealthy"),
        (there(status="exited"), "exited"),
        (there(status="restarting"), "restarting"),
    ],
)
def test_server_state(one: Observed | None, state: str) -> None:
    assert server_state(one) == state
