# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts that fail and runs that are cut off: what served before serves again, and the next run mends what is left."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import converge, patient, transaction
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.converge import Converger, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineUnreachable, FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.progress_file import progress_writer
from support.faults import beside, until

# A run that ends itself with SIGKILL before or after the n-th call of a method of the Engine.
CUT_OFF = """
import json, os, signal, sys
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.converge import Converger, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store

fleet, server, state_dir, method, when = json.loads(sys.argv[1])
real = getattr(Engine, method)

def cut(self, *arguments):
    if when == "after":
        real(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(Engine, method, cut)
Converger(Wish(fleet, [server], {}, "started", False), Store(state_dir), lambda *event: None).run(False)
"""


def cut_off(host: t.Any, server: dict[str, t.Any], method: str, when: str) -> None:
    """Run in a process of its own that is killed."""
    arguments = json.dumps([host.fleet, server, str(host.state_dir), method, when])
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", CUT_OFF, arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == -9, done.stderr


FAULTS = [
    ("dies", {"STAND_IN_DIE_AT": "weights", "STAND_IN_DIE_CODE": "3"}, {}, "exited", "exit code 3"),
    ("stalls", {"STAND_IN_STALL_AT": "engine"}, {"stall_seconds": 1}, "stalled", "nothing moved for"),
    ("other name", {}, {"probe": {"kind": "generate", "served_names": ["x"], "max_model_len": 512}}, "wrong", "not x"),
    ("no program", {}, {"entrypoint": ["/no/such"]}, "exited", "exit code 127"),
]


@pytest.mark.parametrize(("env", "changes", "kind", "reason"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_replacement_that_fails_leaves_the_former_serving(
    host: t.Any, env: dict[str, str], changes: dict[str, t.Any], kind: str, reason: str
) -> None:
    server = host.server()
    host.run(server)
    before = host.containers()["a"]
    bad = {**server, **changes, "env": {**server["env"], "CHANGED": "1", **env}}
    error = host.refused(bad)
    (failure,) = error.details["failures"]
    assert (failure["kind"], reason in failure["reason"]) == (kind, True), failure["reason"]
    assert failure["restored"] == "the former container serves again"
    after = host.containers()
    assert set(after) == {"a"}
    assert (after["a"].id, after["a"].status) == (before.id, "running")
    assert after["a"].attrs["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert host.run(server)["changed"] is False
    kept = pathlib.Path(failure["log_file"])
    assert (kept.stat().st_mode & 0o777, failure["log"][0] in kept.read_text()) == (0o600, True)


def test_a_first_start_that_fails_leaves_nothing(host: t.Any) -> None:
    error = host.refused(host.server(env={"STAND_IN_DIE_AT": "config", "STAND_IN_DIE_TEXT": "no such thing"}))
    (failure,) = error.details["failures"]
    assert (failure["exit_code"], failure["oom_killed"], failure["restored"]) == (1, False, None)
    assert "no such thing" in failure["log"]
    assert host.containers() == {}


def test_a_replacement_that_ends_just_after_it_was_ready_leaves_the_former_serving(host: t.Any) -> None:
    server = host.server()
    host.run(server)
    before = host.containers()["a"].id
    killed: list[str] = []

    def report(name: str, event: t.Any) -> None:
        if event.stage == "ready" and not killed:
            killed.append(name)
            container = host.containers()["a"]
            container.kill()
            container.wait()

    wish = Wish(host.fleet, [{**server, "env": {}}], {}, "started", False)
    with pytest.raises(FleetError) as caught:
        Converger(wish, Store(str(host.state_dir)), report).run(False)
    (failure,) = caught.value.details["failures"]
    assert (failure["kind"], "just after it was ready" in failure["reason"]) == ("exited", True), failure["reason"]
    assert failure["restored"] == "the former container serves again"
    assert {name: (one.id, one.status) for name, one in host.containers().items()} == {"a": (before, "running")}
    again = host.run(server)
    # What died is nothing to which a rollback could go, nor is it what a rollback would leave.
    assert [(one["number"], one["current"]) for one in again["servers"][0]["generations"]] == [(1, True)]
    assert again["changed"] is False


def test_a_mark_that_cannot_be_written_makes_no_server_fail_that_serves(host: t.Any) -> None:
    server = host.server()
    # Nothing can be written below a file, as nothing can on a full disk.
    host.state_dir.mkdir()
    (host.state_dir / "ready").write_text("")
    host.run(server)
    error = host.refused({**server, "env": {"STAND_IN_DIE_AT": "config"}})
    assert [one["restored"] for one in error.details["failures"]] == ["the former container serves again"]
    assert host.run(server)["changed"] is False
    assert not list((host.state_dir / "down").glob("*"))


# A start that says more than is watched of it, and fails.
TALKS = {"entrypoint": ["/bin/sh", "-c", "seq 1 5000; exit 3"]}


def test_a_log_that_the_engine_does_not_give_keeps_no_former_server_down(
    host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log_tail(self: Engine, container: str, lines: int) -> list[str]:
        if lines != transaction.KEPT_LINES:
            return real(self, container, lines)
        asked.append(lines)
        raise EngineUnreachable("it takes too long")

    asked: list[int] = []
    real = Engine.log_tail
    server = host.server()
    host.run(server)
    monkeypatch.setattr(Engine, "log_tail", log_tail)
    (failure,) = host.refused({**server, **TALKS}).details["failures"]
    assert len(asked) == 1
    assert (failure["exit_code"], failure["restored"]) == (3, "the former container serves again")
    # What was watched of it is kept instead.
    assert failure["log"][0] in pathlib.Path(failure["log_file"]).read_text().splitlines()
    assert host.run(server)["changed"] is False


def test_an_engine_that_is_away_when_the_failed_container_is_gone_takes_nothing_that_is_known_of_it(
    host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    away: list[EngineUnreachable] = []

    def remove(self: Engine, container: str) -> None:
        real_remove(self, container)
        away.append(EngineUnreachable("it is away"))

    def inspect(self: Engine, container: str) -> dict[str, t.Any] | None:
        if away:
            raise away.pop()
        return real_inspect(self, container)

    real_remove, real_inspect = Engine.remove, Engine.inspect
    server = host.server()
    host.run(server)
    monkeypatch.setattr(patient, "TRY_SECONDS", 0.01)
    monkeypatch.setattr(Engine, "remove", remove)
    monkeypatch.setattr(Engine, "inspect", inspect)
    (failure,) = host.refused({**server, **TALKS}).details["failures"]
    assert (failure["exit_code"], failure["restored"]) == (3, "the former container serves again")
    assert pathlib.Path(failure["log_file"]).read_text().splitlines() == [str(one) for one in range(1, 5001)]


@pytest.mark.parametrize("seconds", [-1, 60])
def test_an_engine_that_is_away_after_the_starts_hides_no_failure(
    host: t.Any, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """seconds: for which it may be away."""
    away = [EngineUnreachable("it is away")]

    def mounted(self: Engine) -> set[str]:
        if away:
            raise away.pop()
        return real(self)

    real = Engine.mounted
    monkeypatch.setattr(patient, "AWAY_SECONDS", seconds)
    monkeypatch.setattr(patient, "TRY_SECONDS", 0.01)
    monkeypatch.setattr(Engine, "mounted", mounted)
    error = host.refused(host.server(), host.server("b", env={"STAND_IN_DIE_AT": "config"}))
    assert [failure["server"][-1] for failure in error.details["failures"]] == ["b"]
    assert "did not become ready" in str(error)
    assert [action["action"] for action in error.details["actions"]] == ["create", "create"]
    assert ("it is away" in str(error), "servers" in error.details) == ((True, False) if seconds < 0 else (False, True))


def test_progress_that_cannot_be_written_breaks_off_no_start(host: t.Any) -> None:
    server = host.server()
    host.run(server)
    wish = Wish(host.fleet, [{**server, "env": {}}], {}, "started", False)
    done = Converger(wish, Store(str(host.state_dir)), progress_writer("/dev/full")).run(False)
    assert done["servers"][0]["state"] == "ready"


def test_what_served_before_a_killed_run_serves_again_when_the_next_fails_too(host: t.Any) -> None:
    server = host.server()
    host.run(server)
    before = host.containers()["a"].id
    bad = {**server, "env": {"STAND_IN_DIE_AT": "config"}}
    cut_off(host, bad, "start", "before")
    error = host.refused(bad)
    assert error.details["failures"][0]["restored"] == "the former container serves again"
    assert {name: (one.id, one.status) for name, one in host.containers().items()} == {"a": (before, "running")}


@pytest.mark.parametrize("state", ["started", "present"])
def test_what_served_before_a_killed_run_serves_again_when_it_is_wanted_again(
    host: t.Any, kinds: t.Any, state: str
) -> None:
    server = host.server()
    host.run(server)
    before = host.containers()["a"].id
    cut_off(host, {**server, "env": {}}, "start", "before")
    assert kinds(host.run(server, state=state)) == ["put_back", "start"]
    assert host.containers()["a"].id == before
    assert host.run(server)["changed"] is False


def test_absent_removes_what_a_killed_run_left(host: t.Any, kinds: t.Any) -> None:
    server = host.server()
    host.run(server)
    cut_off(host, {**server, "env": {}}, "start", "before")
    assert set(host.containers()) == {"a", "a.previous"}
    assert kinds(host.run(server, state="absent")) == ["remove", "remove"]
    assert host.containers() == {}


def test_the_second_of_two_runs_is_refused(host: t.Any, tmp_path: pathlib.Path) -> None:
    server = host.held(tmp_path / "gate")
    first, _done = beside(lambda: host.run(server))
    assert until(host.containers)
    error = host.refused(server)
    (tmp_path / "gate/go").touch()
    assert f"Another run (process {os.getpid()} of " in str(error)
    assert f"state started of the fleet {host.fleet}, since 2" in str(error)
    assert "Nothing was changed" in str(error)
    first.join()
    assert host.run(server)["changed"] is False


def test_slow_is_not_stalled(host: t.Any) -> None:
    """It takes longer than its stall time, and each of its steps a small part of that."""
    server = host.server(env={"STAND_IN_START_SECONDS": "14"}, stall_seconds=10)
    assert host.run(server)["servers"][0]["state"] == "ready"


def test_a_flood_of_output_hides_neither_readiness_nor_death(host: t.Any) -> None:
    """What is read of a log is bounded in bytes a second: what is behind a flood is not come by through reading."""
    flood = {"STAND_IN_LOG_FLOOD": "50000", "STAND_IN_START_SECONDS": "0.5"}
    assert host.run(host.server("a", env=flood))["servers"][0]["state"] == "ready"
    error = host.refused(host.server("b", env={**flood, "STAND_IN_DIE_AT": "serve"}))
    assert error.details["failures"][0]["kind"] == "exited"


def test_out_of_memory_is_named(host: t.Any) -> None:
    program = "b = bytearray()\nwhile True: b += bytes(1 << 20)"
    server = host.server(entrypoint=["python3", "-c", program], command=[], memory_bytes=2**25)
    (failure,) = host.refused(server).details["failures"]
    assert (failure["kind"], failure["oom_killed"]) == ("exited", True)
    assert "killed for want of memory" in failure["reason"]


def test_without_names_health_is_enough(host: t.Any) -> None:
    server = host.server(probe={"kind": "generate", "served_names": [], "max_model_len": None})
    assert host.run(server)["servers"][0]["state"] == "ready"


def test_progress_is_reported(host: t.Any) -> None:
    # Slow enough that each stage is read before the server answers.
    server = host.server(env={"STAND_IN_START_SECONDS": "7"})
    host.run(server)
    stages = [event.stage for name, event in host.events if name == server["name"]]
    assert stages == sorted(stages, key=["created", "starting", "loading", "sizing", "warming", "ready"].index)
    assert {"starting", "loading", "sizing", "warming", "ready"} <= set(stages)


def test_a_restart_policy_comes_with_readiness(host: t.Any) -> None:
    policies: dict[str, str] = {}

    def note(name: str, event: t.Any) -> None:
        policies[event.stage] = host.containers()["a"].attrs["HostConfig"]["RestartPolicy"]["Name"]

    server = host.server(env={"STAND_IN_START_SECONDS": "1"})
    Converger(Wish(host.fleet, [server], {}, "started", False), Store(str(host.state_dir)), note).run(False)
    assert policies.pop("ready") == "no"
    assert set(policies.values()) == {"no"}
    assert host.containers()["a"].attrs["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_a_failure_carries_the_release_and_the_options_without_secrets(host: t.Any) -> None:
    server = host.server(env={"STAND_IN_START_SECONDS": "0.05", "STAND_IN_DIE_AT": "weights"})
    server["command"] += ["--max-num-seqs=4", "--api-key", "sk-never-there"]
    (failure,) = host.refused(server).details["failures"]
    assert failure["release"] == "0.32.0+standin"
    assert failure["engine"]["max_num_seqs"] == "4" and failure["engine"]["max_model_len"] == "512"
    assert failure["engine"]["api_key"] != "" and "sk-never-there" not in json.dumps(failure)
    # One that ends before it says anything is of the release that the plan was made for.
    planned = {"key": {"same": {"release": "0.31.0"}}, "predicted": {}}
    silent = host.server(entrypoint=["/bin/false"], expected_memory=planned)
    (failure,) = host.refused(silent).details["failures"]
    assert failure["release"] == "0.31.0"


def test_a_failure_tells_who_else_is_on_its_gpus(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has no GPU: the Engine refuses the start, and what NVML would tell is given."""
    other = {"gpu": "GPU-1", "pid": 4242, "name": "python3", "used_bytes": 2**34}
    asked: list[t.Any] = []
    monkeypatch.setattr(converge, "device_problems", lambda *_arguments: [])
    monkeypatch.setattr(transaction, "others", lambda gpus, container: asked.append((gpus, container)) or [other])
    (failure,) = host.refused(host.server(gpus={"runtime": "nvidia", "ids": ["GPU-1"]})).details["failures"]
    assert failure["kind"] == "refused" and failure["gpu_processes"] == [other]
    ((gpus, container),) = asked
    assert gpus == ["GPU-1"] and len(container) == 64
    # One without GPUs asks nobody.
    (failure,) = host.refused(host.server("b", entrypoint=["/bin/false"])).details["failures"]
    assert failure["gpu_processes"] == [] and len(asked) == 1
