# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both sides of the comparison: what is wanted, and what the Docker Engine says of the container made from it.

The inspections were recorded from Docker Engine 20.10.24; what 28 and 29 say otherwise follows their API documents.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.address import endpoint_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import (
    observed_container,
    observed_image,
    observed_state,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import (
    ContainerSpec,
    Gpus,
    Mount,
    differences,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import secrets_mark, wanted_container

FIXTURES = pathlib.Path(__file__).parents[3] / "fixtures" / "inspect"
INSPECT = json.loads((FIXTURES / "container-20.10.json").read_text())
IMAGE = observed_image(json.loads((FIXTURES / "image-20.10.json").read_text()))
MARK = INSPECT["Config"]["Labels"]["gpufleet.vllm.secrets"]
STATE_DIR = "/tmp/gpufleet-recording"

# What the recorded container was made from.
SERVER: dict[str, t.Any] = {
    "name": "vllm-a-0",
    "model": "a",
    "image": "gpufleet-test/stand-in:0.32.0",
    "entrypoint": [],
    "command": ["some/model", "--served-model-name", "a", "--max-model-len", "512"],
    "env": {"HOME": "/tmp", "N": 5},
    "mounts": [
        {"source": STATE_DIR + "/cache", "target": "/var/cache/vllm", "read_only": False},
        {"source": "/usr/share", "target": "/models/a", "read_only": True},
    ],
    "tmpfs": {"/tmp": "rw,mode=1777"},
    "listen": {"address": "127.0.0.1", "port": 8001},
    "container_port": 8000,
    "gpus": {"runtime": "nvidia", "ids": ["GPU-2", "GPU-1"]},
    "shm_bytes": 2**26,
    "memory_bytes": 2**30,
    "cpus": 1.5,
    "user": "1000:1000",
    "read_only_root": True,
    "container": {
        "ulimits": {"memlock": -1},
        "groups": [109],
        "devices": ["/dev/infiniband/uverbs0"],
        "ipc": "private",
    },
    "stop_seconds": 5,
    "deadline_seconds": 60,
    "secrets": {"target": "/run/secrets/vllm"},
}


def wanted(mark: str | None = MARK, **changes: t.Any) -> ContainerSpec:
    folder = f"{STATE_DIR}/secrets/vllm-a-0/{(mark or '')[:16]}"
    return wanted_container({**SERVER, **changes}, IMAGE, "lab", folder, mark)


def changed(path: str, value: t.Any) -> dict[str, t.Any]:
    """The recorded inspection with one value changed; the path's parts are joined by dots."""
    inspect = copy.deepcopy(INSPECT)
    *folders, last = path.split(".")
    place = inspect
    for name in folders:
        place = place[name]
    place[last] = value
    return inspect


def test_a_container_is_what_it_was_made_from() -> None:
    assert differences(observed_container(INSPECT, IMAGE), wanted()) == []


REQUEST = INSPECT["HostConfig"]["DeviceRequests"][0]
SAME = [
    ("network of 28", "HostConfig.NetworkMode", "bridge"),
    ("network of 20.10 by default", "HostConfig.NetworkMode", "default"),
    ("option with a value", "HostConfig.SecurityOpt", ["no-new-privileges:true"]),
    ("capability with prefix", "HostConfig.CapDrop", ["CAP_ALL"]),
    ("capability in small letters", "HostConfig.CapDrop", ["all"]),
    ("nothing added", "HostConfig.CapAdd", []),
    ("driver and count as null", "HostConfig.DeviceRequests", [{**REQUEST, "Driver": None, "Count": None}]),
    ("driver empty", "HostConfig.DeviceRequests", [{**REQUEST, "Driver": "", "Options": None}]),
    (
        "GPUs in another order, twice",
        "HostConfig.DeviceRequests",
        [{**REQUEST, "DeviceIDs": ["GPU-2", "GPU-1", "GPU-2"]}],
    ),
    (
        "GPUs one by one",
        "HostConfig.DeviceRequests",
        [{**REQUEST, "DeviceIDs": ["GPU-2"]}, {**REQUEST, "DeviceIDs": ["GPU-1"]}],
    ),
    ("label of somebody else", "Config.Labels", {**INSPECT["Config"]["Labels"], "com.example": "x"}),
    ("variables in another order", "Config.Env", INSPECT["Config"]["Env"][::-1]),
    ("mounts in another order", "HostConfig.Mounts", INSPECT["HostConfig"]["Mounts"][::-1]),
    ("another name of the image", "Config.Image", "other:tag"),
    ("digest of another store", "Image", "sha256:manifest"),
    ("start interval of 25", "Config.Healthcheck", {**INSPECT["Config"]["Healthcheck"], "StartInterval": 0}),
]


@pytest.mark.parametrize(("path", "value"), [s[1:] for s in SAME], ids=[s[0] for s in SAME])
def test_what_engines_write_differently_is_the_same(path: str, value: t.Any) -> None:
    assert differences(observed_container(changed(path, value), IMAGE), wanted()) == []


DRIFT = [
    ("Config.Cmd", [*INSPECT["Config"]["Cmd"], "--seed"], "argv"),
    ("Config.Entrypoint", ["python3"], "argv"),
    ("Config.Env", [*INSPECT["Config"]["Env"], "MORE=1"], "env"),
    ("Config.Env", [e for e in INSPECT["Config"]["Env"] if not e.startswith("HOME")], "env"),
    ("Config.User", "0", "user"),
    ("Config.StopTimeout", None, "stop_seconds"),
    ("Config.Healthcheck", {"Test": ["NONE"]}, "health"),
    ("HostConfig.Memory", 2**29, "memory_bytes"),
    ("HostConfig.NanoCpus", 0, "cpus"),
    ("HostConfig.ShmSize", 2**20, "shm_bytes"),
    ("HostConfig.ReadonlyRootfs", False, "read_only_root"),
    ("HostConfig.CapDrop", None, "cap_drop"),
    ("HostConfig.CapAdd", ["SYS_ADMIN"], "cap_add"),
    ("HostConfig.SecurityOpt", None, "security_opt"),
    ("HostConfig.Privileged", True, "security_opt"),
    ("HostConfig.PidMode", "host", "security_opt"),
    ("HostConfig.IpcMode", "host", "ipc_mode"),
    ("HostConfig.NetworkMode", "host", "network"),
    ("HostConfig.Init", None, "init"),
    ("HostConfig.Tmpfs", None, "tmpfs"),
    ("HostConfig.Mounts", INSPECT["HostConfig"]["Mounts"][1:], "mounts"),
    ("HostConfig.Binds", ["/etc:/host:ro"], "mounts"),
    ("HostConfig.PortBindings", {"8000/tcp": [{"HostIp": "", "HostPort": "8001"}]}, "listen"),
    ("HostConfig.DeviceRequests", None, "gpus"),
    ("HostConfig.DeviceRequests", [{**REQUEST, "DeviceIDs": None, "Count": -1}], "gpus"),
    ("HostConfig.DeviceRequests", [{**REQUEST, "Driver": "cdi"}], "gpus"),
    ("HostConfig.PidsLimit", None, "pids"),
    ("HostConfig.Ulimits", None, "ulimits"),
    ("HostConfig.Ulimits", [{"Name": "memlock", "Soft": -1, "Hard": 65536}], "ulimits"),
    ("HostConfig.GroupAdd", None, "groups"),
    ("HostConfig.Devices", [], "devices"),
    ("Config.Labels", {**INSPECT["Config"]["Labels"], "gpufleet.vllm.secrets": "other"}, "labels"),
]


@pytest.mark.parametrize(("path", "value", "name"), DRIFT, ids=[f"{d[2]}-{n}" for n, d in enumerate(DRIFT)])
def test_drift_is_found_by_its_name(path: str, value: t.Any, name: str) -> None:
    assert differences(observed_container(changed(path, value), IMAGE), wanted()) == [name]


def test_another_image_is_drift_and_one_that_is_gone_too() -> None:
    other = IMAGE._replace(id="sha256:other")
    assert differences(observed_container(INSPECT, other), wanted()) == ["image_id"]
    assert differences(observed_container(INSPECT, None), wanted()) == ["env", "labels"]


WANTED = [
    (
        {"gpus": {"runtime": "cdi", "ids": ["nvidia.com/gpu=b", "nvidia.com/gpu=a"]}},
        "gpus",
        Gpus("cdi", ("nvidia.com/gpu=a", "nvidia.com/gpu=b")),
    ),
    ({"gpus": {"runtime": "nvidia", "ids": []}}, "gpus", None),
    ({"gpus": None}, "gpus", None),
    ({"entrypoint": ["python3", "-m", "x"], "command": ["y"]}, "argv", ("python3", "-m", "x", "y")),
    ({"env": {"A": 1, "B": True, "LANG": "C.UTF-8"}}, "env", {"A": "1", "B": "True"}),
    ({"cpus": 1 / 3}, "cpus", 0.333),
    ({"cpus": None}, "cpus", 0.0),
    ({"shm_bytes": 0}, "shm_bytes", 2**26),
    ({"user": ""}, "user", IMAGE.user),
    ({"tmpfs": {"/x": None}}, "tmpfs", {"/x": ""}),
]


@pytest.mark.parametrize(("changes", "name", "value"), WANTED)
def test_what_is_written_is_normalised_once(changes: dict[str, t.Any], name: str, value: t.Any) -> None:
    assert getattr(wanted(**changes), name) == value


def test_least_privilege() -> None:
    spec = wanted()
    assert (spec.cap_drop, spec.cap_add, spec.security_opt) == (("ALL",), (), ("no-new-privileges",))
    assert (spec.ipc_mode, spec.network, spec.init, spec.read_only_root) == ("private", "bridge", True, True)
    assert Mount(f"{STATE_DIR}/secrets/vllm-a-0/{MARK[:16]}", "/run/secrets/vllm", True) in spec.mounts
    assert wanted(None).secrets_mark is None
    assert not [mount for mount in wanted(None).mounts if "secrets" in mount.source]


def test_amd_gpus_are_read_back_from_the_label() -> None:
    server = {"gpus": {"runtime": "amd", "ids": ["u2", "u1"]}}
    made = wanted(**server)
    inspect = changed("Config.Labels", {**INSPECT["Config"]["Labels"], "gpufleet.vllm.gpus": "u1,u2"})
    inspect["HostConfig"]["DeviceRequests"] = None
    assert observed_container(inspect, IMAGE).gpus == made.gpus
    assert differences(observed_container(inspect, IMAGE), made) == []


def test_what_the_engine_adds_to_a_shared_ipc_is_no_drift() -> None:
    inspect = changed("HostConfig.IpcMode", "host")
    inspect["HostConfig"]["SecurityOpt"] = ["no-new-privileges", "label=disable"]
    made = wanted(container={**SERVER["container"], "ipc": "host"})
    assert differences(observed_container(inspect, IMAGE), made) == []


def test_a_server_with_tls_is_asked_by_tls() -> None:
    plain = wanted()
    assert plain.tls_certificate is None and "HTTPSConnection" not in str(plain.health)
    made = wanted(command=["m", "--ssl-keyfile", "/run/secrets/vllm/tls_key", "--ssl-certfile", "/run/secrets/vllm/c"])
    assert made.tls_certificate == "/run/secrets/vllm/c"
    assert made.on_host("/run/secrets/vllm/c") == f"{STATE_DIR}/secrets/vllm-a-0/{MARK[:16]}/c"
    assert made.on_host("/elsewhere/c") is None
    assert made.health is not None and "HTTPSConnection" in made.health.test[-1]
    compile(made.health.test[-1], "health", "exec")
    server = endpoint_of(made)
    assert (server.url, server.certificate) == ("https://127.0.0.1:8001", made.on_host("/run/secrets/vllm/c"))
    assert endpoint_of(plain, "k").url == "http://127.0.0.1:8001"


def test_a_diff_shows_no_mark_and_is_plain_data() -> None:
    shown = json.dumps(wanted().as_diff())
    assert MARK[:16] not in shown
    assert shown == json.dumps(wanted("0" * 64).as_diff())
    assert '"listen": "127.0.0.1:8001"' in shown


def test_marks_differ_by_value_name_user_and_key() -> None:
    base = ({"a": "1"}, "1000", b"salt")
    others = [
        ({"a": "2"}, "1000", b"salt"),
        ({"b": "1"}, "1000", b"salt"),
        ({"a": "1"}, "0", b"salt"),
        ({"a": "1"}, "1000", b"x"),
    ]
    assert len({secrets_mark(*arguments) for arguments in [base, *others]}) == 5
    assert secrets_mark({}, "1000", b"salt") is None
    assert secrets_mark({"a": "1", "b": "2"}, "", b"") == secrets_mark({"b": "2", "a": "1"}, "", b"")


STATES = [
    ({"Status": "running", "Running": True}, ("running", True, None)),
    ({"Status": "restarting", "Running": True, "Restarting": True}, ("restarting", False, None)),
    ({"Status": "running", "Running": True, "Health": {"Status": "healthy"}}, ("running", True, "healthy")),
    ({"Status": "created"}, ("created", False, None)),
]


@pytest.mark.parametrize(("state", "expected"), STATES)
def test_state(state: dict[str, t.Any], expected: t.Any) -> None:
    found = observed_state(changed("State", state))
    assert (found.status, found.running, found.health) == expected
    assert found.restart_policy == "no"


def test_every_property_is_compared() -> None:
    """A property that is added to ContainerSpec has its drift in the table."""
    compared = {field.name for field in dataclasses.fields(ContainerSpec)} - {
        "name",
        "image",
        "image_id",
        "container_port",
    }
    assert compared == {name for _path, _value, name in DRIFT}
