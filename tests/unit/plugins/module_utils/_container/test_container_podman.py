# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Podman shows of a container is what was asked for, and each property that differs is seen."""

from __future__ import annotations

import copy
import dataclasses
import types
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import (
    observed_container,
    observed_state,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.podman import Podman, as_docker, created
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import (
    ContainerSpec,
    Gpus,
    HealthCheck,
    Mount,
    differences,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import Image

SPEC = ContainerSpec(
    name="a",
    image="localhost/x:1",
    image_id="sha256:1",
    argv=("vllm", "serve", "m"),
    env={"A": 'a=b "c"\n', "HOME": "/x"},
    mounts=(Mount("/data", "/models", True), Mount("/cache", "/var/cache/vllm", False)),
    tmpfs={"/tmp": "rw,exec,nosuid,nodev,mode=1777"},
    listen=("127.0.0.1", 8001),
    container_port=8000,
    gpus=Gpus("cdi", ("nvidia.com/gpu=GPU-1",)),
    shm_bytes=2**26,
    memory_bytes=2**28,
    cpus=0.333,
    user="1000:1000",
    read_only_root=True,
    cap_drop=("ALL",),
    cap_add=("CHOWN", "SYS_NICE"),
    security_opt=("no-new-privileges",),
    ipc_mode="private",
    network="bridge",
    init=True,
    stop_seconds=5,
    health=HealthCheck(("CMD", "python3", "-c", "import a; b"), 30, 10, 3, 60),
    labels={"gpufleet.vllm.fleet": "f"},
    devices=("/dev/infiniband/uverbs0",),
    groups=("109",),
    ulimits={"memlock": (-1, -1)},
    pids=32768,
)
IMAGE = Image("sha256:1", (), {"PATH": "/bin"}, {}, "")
BOUNDING = ["CAP_CHOWN", "CAP_SYS_NICE"]


def shown(spec: ContainerSpec) -> dict[str, t.Any]:
    """What Podman 4.3.1 shows of a running container that was made so, with what it and a CDI specification add."""
    body = created(spec)
    added = ["PATH=/bin", "TERM=xterm", "container=podman", "HOSTNAME=0123", "NVIDIA_VISIBLE_DEVICES=void"]
    return {
        "Id": "0123",
        "Name": "/a",
        "Image": "sha256:1",
        "RestartCount": 0,
        "State": {"Status": "running", "Running": True, "Health": {"Status": ""}, "ExitCode": 0},
        "HostConfig": {
            "Binds": ["/data:/models:rbind,rprivate,ro", "/cache:/var/cache/vllm:rbind,rprivate,rw", "/l:/l:ro"],
            "NetworkMode": "bridge",
            "PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8001"}]},
            "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
            "CapAdd": ["SYS_NICE"],
            "CapDrop": ["AUDIT_WRITE", "KILL"],
            "GroupAdd": ["109"],
            "IpcMode": "shareable",
            "PidMode": "private",
            "ReadonlyRootfs": True,
            "SecurityOpt": ["no-new-privileges"],
            "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777,rprivate,tmpcopyup"},
            "ShmSize": 2**26,
            "Memory": 2**28,
            "NanoCpus": 333000000,
            "Devices": [{"PathOnHost": "/dev/infiniband/uverbs0"}, {"PathOnHost": "/dev/nvidia0"}],
            "PidsLimit": 32768,
            "Ulimits": [
                {"Name": "RLIMIT_NOFILE", "Soft": 1048576, "Hard": 1048576},
                {"Name": "RLIMIT_MEMLOCK", "Soft": -1, "Hard": -1},
            ],
            "Init": True,
        },
        "Config": {
            "User": "1000:1000",
            "Env": [*added, *(f"{name}={value}" for name, value in spec.env.items())],
            "Cmd": body["command"],
            "Entrypoint": body["entrypoint"],
            "Healthcheck": body["healthconfig"],
            "Image": "localhost/x:1",
            "Labels": {**body["labels"], "other": "x"},
            "StopTimeout": 5,
        },
    }


def seen(inspect: dict[str, t.Any], bounding: list[str] | None = None, ready: bool | None = True) -> ContainerSpec:
    return observed_container(as_docker(inspect, BOUNDING if bounding is None else bounding, ready), IMAGE)


def test_a_container_is_what_it_was_made_from() -> None:
    inspect = shown(SPEC)
    before = copy.deepcopy(inspect)
    assert differences(seen(inspect), SPEC) == []
    assert inspect == before


def test_the_ipc_of_the_host_is_told_by_the_label() -> None:
    spec = dataclasses.replace(SPEC, ipc_mode="host")
    assert "shm_size" not in created(spec)
    inspect = shown(spec)
    inspect["HostConfig"]["ShmSize"] = 65536000
    assert differences(seen(inspect), spec) == []


@pytest.mark.parametrize(
    ("part", "key", "value", "name"),
    [
        ("HostConfig", "Memory", 2**29, "memory_bytes"),
        ("HostConfig", "Binds", ["/else:/models:rbind,ro", "/cache:/var/cache/vllm:rw"], "mounts"),
        ("HostConfig", "Binds", ["/data:/models:rbind,rw", "/cache:/var/cache/vllm:rw"], "mounts"),
        ("HostConfig", "Tmpfs", {"/tmp": "rw,noexec,nosuid,nodev,mode=1777"}, "tmpfs"),
        ("HostConfig", "Ulimits", [{"Name": "RLIMIT_MEMLOCK", "Soft": 1, "Hard": 1}], "ulimits"),
        ("HostConfig", "Devices", [], "devices"),
        ("HostConfig", "Privileged", True, "security_opt"),
        ("HostConfig", "PidMode", "host", "security_opt"),
        ("HostConfig", "SecurityOpt", [], "security_opt"),
        ("HostConfig", "PidsLimit", 2048, "pids"),
        ("Config", "Env", ["A=other", "HOME=/x"], "env"),
        ("Config", "Labels", {"gpufleet.vllm.fleet": "g"}, "labels"),
    ],
)
def test_what_differs_is_seen(part: str, key: str, value: t.Any, name: str) -> None:
    inspect = shown(SPEC)
    inspect[part][key] = value
    assert name in differences(seen(inspect), SPEC)


def test_more_capabilities_than_were_asked_for_are_seen() -> None:
    assert differences(seen(shown(SPEC), [*BOUNDING, "CAP_KILL"]), SPEC) == ["cap_add"]


@pytest.mark.parametrize("text", ["no JSON", "[]"])
def test_a_label_that_somebody_else_wrote_is_not_followed(text: str) -> None:
    inspect = shown(SPEC)
    inspect["Config"]["Labels"]["gpufleet.vllm.podman"] = text
    assert "env" in differences(seen(inspect), SPEC)


def state(ready: bool | None, restarts: int, status: str = "running") -> t.Any:
    inspect = {**shown(SPEC), "RestartCount": restarts}
    inspect["State"] = {"Status": status, "Running": status == "running"}
    return observed_state(as_docker(inspect, BOUNDING, ready))


def test_its_state_in_the_docker_engines_words() -> None:
    assert (state(True, 0).restart_policy, state(False, 0).restart_policy) == ("unless-stopped", "no")
    assert (state(True, 3).running, state(None, 3).running, state(False, 0).running) == (True, True, True)
    # It never was ready, and Podman starts it again and again.
    assert (state(False, 1).running, state(False, 1).status) == (False, "restarting")
    assert state(False, 1, "stopped").status == "exited"


def test_podman_that_is_too_old_or_of_another_user_is_refused() -> None:
    answer = types.SimpleNamespace(json=lambda: {"host": {"security": {"rootless": True}}})
    api = types.SimpleNamespace(base_url="", get=lambda *_args, **_more: answer, _raise_for_status=lambda _answer: None)
    assert "older than 4.3" in Podman(api, "4.2.1").problems()[0]
    assert "other than root" in Podman(api, "5.4.2").problems()[0]
