# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of servers on a real Podman, through its Docker-compatible socket: the same as on the Docker Engine."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import subprocess
import time
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.servers import Depth, fleet_servers
from tests.integration.library.conftest import IMAGE, Host

ROOT = pathlib.Path(__file__).parents[3]
SOCKET = ROOT / ".build" / "podman" / "podman.sock"
# Generous, for the machine may be busy with other tests.
WAIT_SECONDS = 120
# Where any is given, Podman raises the first two as far as the kernel lets root: too far for a root that may not.
LIMITS = {"nofile": 4096, "nproc": 16384, "stack": 2**24}
# Prints what the process finds of its own rights.
LOOK = """
import os, resource
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
def tried(path):
    try:
        open(path, "w").close()
        return "written"
    except OSError as error:
        return error.strerror
print(status["CapEff"].strip(), status["CapBnd"].strip(), status["NoNewPrivs"].strip(), status["Seccomp"].strip())
print(tried("/usr/x"), "|", tried("/run/x"), "|", tried("/tmp/x"))
print(os.getuid(), os.getgid(), sorted(set(os.getgroups()) - {os.getgid()}))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.getrlimit(resource.RLIMIT_STACK)[1])
"""


@pytest.fixture(scope="session")
def podman() -> str:
    """The address of the tests' own Podman, which has the stand-in's image."""
    script = ROOT / "tools" / "podman_engine.sh"
    for words in (["ensure"], ["load", IMAGE]):
        done = subprocess.run([script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return f"unix://{SOCKET}"


@pytest.fixture
def host(podman: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    """A host whose engine is Podman; its fleet is gone afterwards."""
    monkeypatch.setenv("DOCKER_HOST", podman)
    made = Host(tmp_path)
    try:
        yield made
    finally:
        made.clean()


def eventually(true: t.Callable[[], t.Any]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < until, "did not become true"
        time.sleep(0.2)


def test_it_is_podman(host: Host) -> None:
    engine = Engine()
    assert engine.podman is not None
    assert engine.problems() == []


def test_life(host: Host, kinds: t.Any) -> None:
    """Created, left alone, changed, stopped, started, restarted, removed; check mode foresees each."""
    server = host.server()

    def both(*servers: dict[str, t.Any], **arguments: t.Any) -> list[str]:
        before = host.look()
        foreseen = host.run(*servers, check=True, **arguments)
        assert host.look() == before
        done = host.run(*servers, **arguments)
        assert all(foreseen[key] == done[key] for key in ("changed", "actions", "diff"))
        return list(kinds(done))

    assert both(server) == ["create"]
    before = host.look()
    done = host.run(server)
    assert (done["changed"], done["servers"][0]["state"]) == (False, "ready")
    assert host.look() == before
    told = fleet_servers(Engine(), host.fleet, Store(str(host.state_dir)), Depth(metrics=True, probe=True))
    assert [(one["name"], one["state"]) for one in told] == [(server["name"], "ready")]

    server = {**server, "command": [*server["command"], "--seed", "7"]}
    done = host.run(server)
    assert [(one["action"], one["because"]) for one in done["actions"]] == [("replace", ["argv"])]
    assert done["ended"][0]["exit_code"] == 0
    assert set(host.containers()) == {"a"}
    assert host.run(server)["changed"] is False

    assert both(server, state="stopped") == ["stop"]
    assert host.containers()["a"].status == "exited"
    assert both(server) == ["start"]
    assert both(server, state="restarted") == ["restart"]
    assert host.run(server)["changed"] is False
    assert both(state="absent", prune=True) == ["remove"]
    assert host.containers() == {}
    assert os.listdir(host.state_dir / "confirmed") == []


@pytest.mark.parametrize(
    ("by_hand", "expected"),
    [
        ("stop", ("start", "it is exited")),
        ("remove", ("create", "there is none")),
        ("pause", ("restart", "it is paused")),
        ("rename", ("rename", "it is named {fleet}-else")),
    ],
)
def test_what_was_changed_by_hand_is_mended(host: Host, by_hand: str, expected: tuple[str, str]) -> None:
    server = host.server(stop_seconds=1)
    host.run(server)
    container = host.containers()["a"]
    {
        "stop": lambda: container.stop(timeout=1),
        "remove": lambda: container.remove(force=True),
        "pause": container.pause,
        "rename": lambda: container.rename(f"{host.fleet}-else"),
    }[by_hand]()
    done = host.run(server)
    kind, why = expected
    assert [(one["action"], one["because"]) for one in done["actions"]] == [(kind, [why.format(fleet=host.fleet)])]
    assert done["servers"][0]["state"] == "ready"
    assert set(host.containers()) == {"a"}
    # Of a container that was removed by hand nothing is kept.
    assert os.listdir(host.state_dir / "confirmed") == [host.containers()["a"].id]
    assert host.run(server)["changed"] is False


@pytest.mark.parametrize(
    ("env", "changes", "kind", "reason"),
    [
        ({"STAND_IN_DIE_AT": "weights", "STAND_IN_DIE_CODE": "3"}, {}, "exited", "exit code 3"),
        ({"STAND_IN_STALL_AT": "engine"}, {"stall_seconds": 15}, "stalled", "nothing moved for"),
    ],
    ids=["dies", "stalls"],
)
def test_a_failed_replacement_is_put_back(
    host: Host, env: dict[str, str], changes: dict[str, t.Any], kind: str, reason: str
) -> None:
    server = host.server()
    host.run(server)
    before = host.containers()["a"].id
    error = host.refused({**server, **changes, "env": {**server["env"], **env, "CHANGED": "1"}})
    failure = error.details["failures"][0]
    assert (failure["kind"], reason in failure["reason"]) == (kind, True), failure["reason"]
    assert failure["restored"] == "the former container serves again"
    after = host.containers()
    assert {name: (one.id, one.status) for name, one in after.items()} == {"a": (before, "running")}
    assert host.run(server)["changed"] is False


def test_a_start_that_fails_is_not_tried_for_ever(host: Host) -> None:
    """Podman starts again what has ended from its first second on, for its policy cannot be changed later."""
    broken = host.server(env={"STAND_IN_DIE_AT": "config", "STAND_IN_DIE_CODE": "7"})
    host.run(broken, state="present")
    container = host.containers()["a"]
    assert container.attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"
    # As after a run that was cut off: it ends and is started again, over and over.
    container.start()
    eventually(lambda: host.containers()["a"].attrs["RestartCount"] >= 2)
    failure = host.refused(broken).details["failures"][0]
    assert (failure["kind"], failure["exit_code"]) == ("exited", 7)
    started = host.containers()["a"].attrs["State"]["StartedAt"]
    time.sleep(3)
    container = host.containers()["a"]
    assert (container.status, container.attrs["State"]["StartedAt"]) == ("exited", started)


def test_a_server_whose_engine_was_killed_is_started_again(host: Host) -> None:
    """Also by an end with exit code 0, as that of vLLM after its engine process died."""
    server = host.server(env={"STAND_IN_START_SECONDS": "0.1"})
    before = host.run(server)["servers"][0]["started_at"]
    os.kill(host.containers()["a"].attrs["State"]["Pid"], signal.SIGKILL)
    eventually(lambda: host.containers()["a"].attrs["State"]["StartedAt"] != before)
    eventually(lambda: host.run(server, check=True)["pending"] is False)
    assert host.run(server)["changed"] is False


def test_what_a_stop_ends_has_its_time_to_drain(host: Host) -> None:
    server = host.server(stop_seconds=30)
    host.run(server)
    done = host.run(server, state="stopped")
    ended = done["ended"][0]
    assert (ended["exit_code"], ended["killed"], ended["notes"]) == (0, False, [])


def test_a_secret_is_in_no_inspection(host: Host) -> None:
    server = host.server(user="1000:1000")
    secret = "s3cret $(id) ' \" \\"
    arguments = {"secrets": {"a": {"api_key": secret}}}
    host.run(server, **arguments)
    container = host.containers()["a"]
    assert "s3cret" not in json.dumps(container.attrs)
    answer = container.exec_run(["cat", "/run/secrets/vllm/api_key"], user="1000:1000")
    assert answer.output.decode() == secret
    assert host.run(server, **arguments)["changed"] is False
    done = host.run(server, secrets={"a": {"api_key": "other"}})
    assert [one["action"] for one in done["actions"]] == ["replace"]


def test_a_process_has_no_more_than_it_needs(host: Host) -> None:
    folder = host.state_dir / "cache" / "x"
    server = host.server(
        user="1000:1000",
        cpus=0.75,
        memory_bytes=2**28,
        tmpfs={"/tmp": "rw,exec,nosuid,nodev,mode=1777"},
        mounts=[{"source": str(folder), "target": "/cache", "read_only": False}],
        env={"STAND_IN_START_SECONDS": 0.1, "NUMBER": 5, "EMPTY": "", "TEXT": 'a=b "c" $d\n'},
        container={"groups": [4711], "ulimits": LIMITS},
    )
    host.run(server)
    answer = host.containers()["a"].exec_run(["python3", "-c", LOOK])
    kernel, files, who, limits = answer.output.decode().splitlines()
    assert kernel.split() == ["0000000000000000", "0000000000000000", "1", "2"]
    assert files == "Read-only file system | Read-only file system | written"
    assert who == "1000 1000 [4711]"
    assert limits == f"4096 {2**24}"
    config = host.containers()["a"].attrs["HostConfig"]
    assert (config["Privileged"], config["PidsLimit"], config["NetworkMode"]) == (False, 32768, "bridge")
    assert host.run(server)["changed"] is False


def test_each_property_is_drift(host: Host) -> None:
    """Made with them and wanted without, and the other way round: replaced for these reasons, then left alone."""
    plain = host.server()
    # CHOWN is one of those that Podman gives where nothing is asked for.
    relaxed = {"cap_add": ["CHOWN", "SYS_NICE"], "groups": [4711], "ipc": "host", "pids": 4096, "ulimits": LIMITS}
    asking = {**plain, "container": relaxed}
    host.run(asking, state="present")
    for server in (plain, asking):
        done = host.run(server, state="present")
        reasons = ["cap_add", "ipc_mode", "groups", "ulimits", "pids"]
        assert [(one["action"], one["because"]) for one in done["actions"]] == [("replace", reasons)]
        assert host.run(server, state="present")["changed"] is False


@pytest.fixture
def cdi_device() -> t.Iterator[str]:
    """A device that a CDI specification names as nvidia-ctk does, with a mount and a variable that come along."""
    uuid = f"GPU-{random.randrange(16**12):012x}"
    edits = {
        "deviceNodes": [{"path": "/dev/gpufleet0", "hostPath": "/dev/null"}],
        "env": ["NVIDIA_VISIBLE_DEVICES=void"],
        "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/driver", "options": ["ro", "rbind"]}],
    }
    spec = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{"name": uuid, "containerEdits": edits}]}
    # One of the two folders in which Podman looks; it is empty after a boot.
    path = pathlib.Path(f"/var/run/cdi/gpufleet-{uuid}.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(spec), encoding="utf-8")
    try:
        yield f"nvidia.com/gpu={uuid}"
    finally:
        path.unlink()


def test_gpus_by_cdi(host: Host, cdi_device: str) -> None:
    server = host.server(gpus={"runtime": "cdi", "ids": [cdi_device]})
    host.run(server)
    container = host.containers()["a"]
    look = "ls /dev/gpufleet0 /driver && tr '\\0' '\\n' </proc/1/environ | grep NVIDIA"
    seen = container.exec_run(["sh", "-c", look]).output.decode().split()
    assert seen == ["/dev/gpufleet0", "/driver", "NVIDIA_VISIBLE_DEVICES=void"]
    assert host.run(server)["changed"] is False
    done = host.run({**server, "gpus": None}, state="present", check=True)
    assert [(one["action"], one["because"]) for one in done["actions"]] == [("replace", ["gpus"])]


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ({"runtime": "nvidia", "ids": ["GPU-1"]}, "Set host_gpu_runtime to cdi"),
        ({"runtime": "cdi", "ids": ["nvidia.com/gpu=GPU-none"]}, "nvidia-ctk cdi generate"),
    ],
)
def test_gpus_that_podman_cannot_give_are_refused_beforehand(host: Host, gpus: dict[str, t.Any], words: str) -> None:
    assert words in str(host.refused(host.server(gpus=gpus)))
    assert host.containers() == {}
