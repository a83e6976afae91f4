# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a container may take to end, and whether what it had is free again."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import leaving, processes
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec, Gpus
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.usage import Usage

GIB = 2**30


def spec(**changes: t.Any) -> ContainerSpec:
    fields: dict[str, t.Any] = {field.name: "" for field in dataclasses.fields(ContainerSpec)}
    return ContainerSpec(**{**fields, "stop_seconds": 60, "argv": ("vllm", "serve"), "gpus": None, **changes})


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), 60),
        (("--shutdown-timeout", "45"), 60),
        (("--shutdown-timeout", "300"), 310),
        (("--shutdown-timeout=300",), 310),
        (("--shutdown_timeout", "300"), 310),
        (("--shutdown-timeout", "soon"), 60),
        (("--shutdown-timeout",), 60),
        (("sh", "-c", 'exec "$@"', "sh", "vllm", "--shutdown-timeout", "51"), 61),
    ],
)
def test_a_container_gets_more_time_than_its_engine_may_drain(argv: tuple[str, ...], expected: int) -> None:
    assert leaving.stop_seconds(spec(argv=argv)) == expected


@pytest.mark.parametrize(
    ("exit_code", "oom", "seconds", "expected"),
    [(137, False, 60.2, True), (137, False, 3, False), (137, True, 60.2, False), (0, False, 60.2, False)],
)
def test_sigkill_is_told_from_other_ends(exit_code: int, oom: bool, seconds: float, expected: bool) -> None:
    assert leaving.was_killed(exit_code, oom, seconds, 60) is expected


def test_gpus_are_named_by_their_uuids() -> None:
    assert leaving.gpus(spec()) == []
    assert leaving.gpus(spec(gpus=Gpus("nvidia", ("GPU-1", "MIG-2")))) == ["GPU-1", "MIG-2"]
    assert leaving.gpus(spec(gpus=Gpus("cdi", ("nvidia.com/gpu=GPU-1",)))) == ["GPU-1"]


def on(used: float | None, listed: t.Mapping[int, float | None] | None) -> dict[str, Usage]:
    """One GPU; sizes in GiB."""
    sizes = None if listed is None else {pid: None if size is None else int(size * GIB) for pid, size in listed.items()}
    return {"GPU-1": Usage(None if used is None else int(used * GIB), sizes)}


# Before and after the end of the processes 7 and 8: whether their memory is back, and words of what is told when not.
BACK: list[tuple[str, dict[str, Usage], dict[str, Usage], str | None]] = [
    ("all of it", on(70, {7: 40, 8: 29}), on(0.5, {}), None),
    ("a process is there", on(70, {7: 69}), on(69, {7: 69}), "processes of it that do not end (7)"),
    ("the memory is there", on(70, {7: 69}), on(69.5, {}), "NVML names no process"),
    ("another one stays", on(70, {7: 30, 9: 39}), on(39.6, {9: 39}), None),
    ("another one grows", on(70, {7: 30, 9: 39}), on(60, {9: 59}), None),
    ("a new one", on(31, {7: 30}), on(30, {11: 29}), None),
    (
        "less than it had is back",
        on(70, {7: 40, 9: 29}),
        on(60, {9: 29}),
        "processes of others (9), which were left alone",
    ),
    ("a little stays", on(70, {7: 69}), on(1.1, {}), None),
    ("sizes are not told", on(70, {7: None}), on(70, {}), None),
    ("processes are not told", on(70, None), on(70, None), None),
    ("memory is not told", on(None, {7: 1}), on(None, {}), None),
    ("the card is gone", on(70, {7: 69}), {}, None),
]


@pytest.mark.parametrize(("before", "now", "words"), [row[1:] for row in BACK], ids=[row[0] for row in BACK])
def test_memory_that_does_not_come_back_is_told(
    before: dict[str, Usage], now: dict[str, Usage], words: str | None
) -> None:
    assert leaving.is_back(before, now, {7, 8}) is (words is None)
    told = leaving.missing(before, now, {7, 8}, "vllm-a-0", 30)
    assert len(told) == (words is not None)
    assert all(words in one and "of GPU-1 are in use 30 s after vllm-a-0 ended" in one for one in told if words)


def test_processes_are_known_by_their_birth() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        born = processes.births([child.pid, os.getpid(), 2**30])
        assert sorted(born) == sorted([child.pid, os.getpid()])
        assert processes.alive(born) == sorted(born)
        child.kill()
        while processes.alive(born) != [os.getpid()]:
            assert child.returncode is None  # a zombie is no process any more
        assert processes.alive({os.getpid(): "1"}) == []
    finally:
        child.kill()
        child.wait()
