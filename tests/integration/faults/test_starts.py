# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults before and during a start. In each, a server that served before serves afterwards."""

from __future__ import annotations

import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import time
import typing as t

import pytest
from integration.library.conftest import IMAGE

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from support.faults import Deaths, Fault, served

FORMER = "the former container serves, the same as before"
NOTHING = "nothing; no container is left"


def fails(host: t.Any, fault: Fault, **changes: t.Any) -> t.Any:
    """A replacement that cannot start; the former serves on or again, and the next run has nothing to do."""
    server = host.server()
    host.run(server)
    before = host.containers()["a"].id
    env = {**server["env"], "CHANGED": "1", **changes.pop("env", {})}
    with Deaths(host.fleet) as deaths:
        error = host.refused({**server, "env": env, **changes})
        fault.seconds = reported(host, deaths.of(server["name"]))
    (failure,) = error.details["failures"]
    assert {name: (one.id, one.status) for name, one in host.containers().items()} == {"a": (before, "running")}
    assert served(server)
    assert host.run(server)["changed"] is False
    fault.seen(error, FORMER)
    return failure


def reported(host: t.Any, died: float) -> float:
    """Seconds from the end of the new container to the first word of it."""
    return round(max(0.0, next(event.at for event in host.told if event.text.startswith("failed")) - died), 2)


class Told(t.NamedTuple):
    """An event of a start with the time at which it was told."""

    at: float
    text: str


@pytest.fixture
def host(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """A host that notes when each event was told."""
    host.told = []

    class Timed(list[t.Any]):
        def append(self, entry: t.Any) -> None:
            host.told.append(Told(time.time(), entry[1].text))
            super().append(entry)

    monkeypatch.setattr(host, "events", Timed())
    return host


def test_wrong_flag(host: t.Any, fault: Fault) -> None:
    fault.name = "wrong flag, that only the engine refuses"
    command = ["some/model", "--served-model-name", "a", "--max-model-len", "512", "--no-such-flag"]
    failure = fails(host, fault, command=command, env={"STAND_IN_REFUSE_FLAGS": "--no-such-flag"})
    assert (failure["kind"], failure["exit_code"]) == ("exited", 2)
    assert "unrecognized arguments: --no-such-flag" in "\n".join(failure["log"])
    # How soon is measured on a quiet machine (benchmarks/start_watch.py), and stands in the table.
    assert fault.seconds is not None


def test_bad_model_path(host: t.Any, fault: Fault) -> None:
    fault.name = "bad model path"
    server = host.server()
    host.run(server)
    before = host.look()
    mount = {"source": "/srv/no/such/model", "target": "/models/a", "read_only": True}
    fault.begins()
    error = host.refused({**server, "mounts": [mount]})
    fault.ends()
    assert "/srv/no/such/model, for /models/a in the container, does not exist on this host" in str(error)
    assert host.look() == before and served(server)
    fault.seen(error, FORMER)


def test_out_of_memory_while_loading(host: t.Any, fault: Fault) -> None:
    fault.name = "out of memory (the container's limit) while loading"
    failure = fails(host, fault, memory_bytes=2**27, env={"STAND_IN_SILENT_SECONDS": "30"})
    assert (failure["kind"], failure["oom_killed"]) == ("exited", True)
    assert "killed for want of memory" in failure["reason"]


def test_slow_start(host: t.Any, fault: Fault) -> None:
    fault.name = "start that takes 10 times the usual time"
    usual = host.server("usual", env={"STAND_IN_START_SECONDS": "1.4"})
    host.run(usual)
    server = host.server("slow", env={"STAND_IN_START_SECONDS": "14"}, stall_seconds=10)
    fault.begins()
    done = host.run(usual, server)
    assert fault.ends() > 13
    assert [one["state"] for one in done["servers"]] == ["ready", "ready"]
    stages = [entry["stage"] for entry in done["servers"][1]["timeline"]]
    fault.seen("no failure: " + ", ".join(dict.fromkeys(stages)), "the server, ready")


def test_stall(host: t.Any, fault: Fault) -> None:
    fault.name = "start that stalls (limit 2 s)"
    server = host.server()
    host.run(server)
    fault.begins()
    error = host.refused({**server, "stall_seconds": 2, "env": {"STAND_IN_STALL_AT": "engine"}})
    fault.ends()
    (failure,) = error.details["failures"]
    assert failure["kind"] == "stalled" and "nothing moved for" in failure["reason"]
    assert served(server)
    fault.seen(error, "the former container serves again")


def test_port_taken_between_plan_and_run(host: t.Any, fault: Fault) -> None:
    fault.name = "port taken between plan and run"
    server = host.server()
    with socket.socket() as other:
        other.bind(("127.0.0.1", server["listen"]["port"]))
        other.listen()
        fault.begins()
        error = host.refused(server)
        fault.ends()
    assert f"port {server['listen']['port']} on 127.0.0.1 is in use by another program" in str(error)
    assert host.containers() == {}
    fault.seen(error, NOTHING)


def test_port_taken_between_check_and_start(host: t.Any, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.name = "port taken in the moment before the start"
    server = host.server()
    host.run(server)
    port = host.server()["listen"]["port"]
    create, other = Engine.create, socket.socket()

    def taken(self: Engine, spec: t.Any) -> str:
        made = create(self, spec)
        other.bind(("127.0.0.1", port))
        other.listen()
        return made

    monkeypatch.setattr(Engine, "create", taken)
    fault.begins()
    with other:
        error = host.refused({**server, "listen": {"address": "127.0.0.1", "port": port}})
    fault.ends()
    assert "address already in use" in str(error) and "listen.port" in str(error)
    assert served(server) and set(host.containers()) == {"a"}
    fault.seen(error, "the former container serves")


def test_image_missing(host: t.Any, fault: Fault) -> None:
    fault.name = "image missing on the host"
    server = host.server()
    host.run(server)
    before = host.look()
    fault.begins()
    error = host.refused({**server, "image": "gpufleet-test/no-such:1"})
    fault.ends()
    assert "this host does not have gpufleet-test/no-such:1" in str(error)
    assert host.look() == before
    fault.seen(error, FORMER)


def test_digest_changed_under_the_same_tag(host: t.Any, fault: Fault) -> None:
    fault.name = "digest changed under the same tag after the plan"
    name = f"gpufleet-test/moving-{random.randrange(16**8):08x}"
    planned = host.docker.images.get(IMAGE)
    planned.tag(name, "1")
    server = host.server(image=f"{name}:1", image_id=planned.id)
    try:
        host.run(server)
        before = host.look()
        made = host.containers()["a"].commit(repository=name, tag="1")
        fault.begins()
        error = host.refused(server)
        fault.ends()
        assert f"{name}:1 is now {made.id} on this host, and the plan was made for {planned.id}" in str(error)
        assert "Plan again" in str(error)
        assert host.look() == before and served(server)
        fault.seen(str(error).replace(name, "IMAGE"), FORMER)
    finally:
        for one in host.containers().values():
            one.remove(force=True)
        host.docker.images.remove(f"{name}:1", force=True)


@pytest.fixture
def small_disk(host: t.Any, tmp_path: pathlib.Path) -> t.Iterator[t.Callable[[int], pathlib.Path]]:
    """Mounts a file system of so many MiB as the state folder."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = []

    def mount(mib: int) -> pathlib.Path:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(place)], check=True)
        mounted.append(place)
        return place

    yield mount
    for one in host.containers().values():
        one.remove(force=True)
    for _one in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_disk_full_before_the_run(host: t.Any, fault: Fault, small_disk: t.Any) -> None:
    fault.name = "disk of the cache full before the run"
    host.state_dir = small_disk(64)
    server = host.server()
    fault.begins()
    error = host.refused(server)
    fault.ends()
    assert "has 64 MiB free, and at least 256 MiB are needed" in str(error)
    assert host.containers() == {}
    fault.seen(str(error).replace(str(host.state_dir), "STATE_DIR"), NOTHING)


def test_disk_full_during_the_run(
    host: t.Any, fault: Fault, small_disk: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.name = "disk of the cache full in the middle of a run"
    host.state_dir = small_disk(320)
    server = host.server()
    host.run(server, secrets={"a": {"api_key": "one"}})
    create = Engine.create

    def fill(self: Engine, spec: t.Any) -> str:
        made = create(self, spec)
        with open(host.state_dir / "filler", "wb") as filler, pytest.raises(OSError, match="No space left"):
            while True:
                filler.write(bytes(2**22))
                filler.flush()
        return made

    monkeypatch.setattr(Engine, "create", fill)
    died_env = {"STAND_IN_DIE_AT": "weights", "STAND_IN_DIE_TEXT": "OSError: [Errno 28] No space left on device"}
    with Deaths(host.fleet) as deaths:
        error = host.refused({**server, "env": died_env}, secrets={"a": {"api_key": "one"}})
        fault.seconds = reported(host, deaths.of(server["name"]))
    assert "No space left on device" in "\n".join(error.details["failures"][0]["log"])
    assert served(server) and set(host.containers()) == {"a"}
    (host.state_dir / "filler").unlink()
    monkeypatch.undo()
    assert host.run(server, secrets={"a": {"api_key": "one"}})["changed"] is False
    fault.seen(error, "the former container serves again; the next run succeeds when there is room")


FLOODED = """
import json, resource, sys
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.converge import Converger, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store

fleet, server, state_dir = json.loads(sys.argv[1])
first = resource.getrusage(resource.RUSAGE_SELF)
done = Converger(Wish(fleet, [server], {}, "started", False), Store(state_dir), lambda *event: None).run(False)
last = resource.getrusage(resource.RUSAGE_SELF)
mib = (last.ru_maxrss - first.ru_maxrss) / 1024
print(json.dumps([done["servers"][0]["state"], mib, last.ru_utime + last.ru_stime]))
"""


def test_log_flood(host: t.Any, fault: Fault) -> None:
    fault.name = "100 MiB of log while it starts"
    server = host.server(env={"STAND_IN_START_SECONDS": "0.3", "STAND_IN_LOG_BURST": "100"}, deadline_seconds=1200)
    arguments = json.dumps([host.fleet, server, str(host.state_dir)])
    fault.begins()
    run = subprocess.run(
        [sys.executable, "-c", FLOODED, arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    fault.ends()
    assert run.returncode == 0, run.stderr
    state, mib, seconds = json.loads(run.stdout)
    assert state == "ready"
    # A tenth of what was written; Python and its libraries are counted before.
    assert mib < 64, f"the run took {mib:.0f} MiB for 100 MiB of log"
    fault.seen(f"ready; watching took {mib:.0f} MiB of memory and {seconds:.1f} s of one core", "the server, ready")
