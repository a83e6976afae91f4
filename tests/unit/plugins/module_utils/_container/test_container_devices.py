# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host lacks for its containers, said in one sentence each, with what to do."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.devices import device_problems
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.runtimes import (
    HostRuntimes,
    amd_devices,
    cdi_devices,
    hard_limits,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec, Gpus
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import (
    NO_DEVICES,
    Devices,
    Image,
    wanted_container,
)

ALL = HostRuntimes(False, (28, 3, 0), True, ("/etc/cdi",), frozenset({"nvidia.com/gpu=GPU-1"}), {})


def spec(devices: Devices = NO_DEVICES, **changes: t.Any) -> ContainerSpec:
    server: dict[str, t.Any] = {
        "name": "a",
        "model": "a",
        "image": "i",
        "entrypoint": ["vllm", "serve"],
        "command": [],
        "env": {},
        "mounts": [],
        "tmpfs": {},
        "listen": {"address": "127.0.0.1", "port": 1},
        "container_port": 8000,
        "shm_bytes": 0,
        "memory_bytes": 0,
        "cpus": 0,
        "user": "",
        "read_only_root": True,
        "stop_seconds": 1,
        "deadline_seconds": 1,
    }
    return wanted_container({**server, **changes}, Image("x", (), {}, {}, ""), "f", "", None, devices)


def told(host: HostRuntimes, exists: bool = True, **changes: t.Any) -> str:
    return " | ".join(device_problems([spec(**changes)], lambda: host, lambda path: exists))


NVIDIA = {"gpus": {"runtime": "nvidia", "ids": ["GPU-1"]}}
CDI = {"gpus": {"runtime": "cdi", "ids": ["nvidia.com/gpu=GPU-1"]}}


@pytest.mark.parametrize(
    ("host", "changes", "words"),
    [
        (ALL, NVIDIA, []),
        (ALL, CDI, []),
        (ALL._replace(nvidia=False, cdi=frozenset()), NVIDIA, ["Install nvidia-container-toolkit", "nvidia-ctk"]),
        (ALL._replace(nvidia=False), NVIDIA, ["set host_gpu_runtime to cdi"]),
        (ALL._replace(podman=True), NVIDIA, ["is Podman", "Set host_gpu_runtime to cdi"]),
        (ALL._replace(version=(20, 10, 24)), CDI, ["Docker Engine 20.10.24", "older than 25.0"]),
        (ALL._replace(podman=True, version=(4, 3, 1)), CDI, []),
        (ALL._replace(cdi_folders=(), cdi=frozenset()), CDI, ["switched off", "/etc/docker/daemon.json"]),
        (ALL._replace(cdi=frozenset()), CDI, ["name no nvidia.com/gpu=GPU-1", "there are none", "nvidia-ctk cdi"]),
        (ALL._replace(cdi=frozenset({"nvidia.com/gpu=0"})), CDI, ["what they name is nvidia.com/gpu"]),
    ],
)
def test_gpus(host: HostRuntimes, changes: dict[str, t.Any], words: list[str]) -> None:
    text = told(host, **changes)
    assert bool(text) == bool(words)
    for word in words:
        assert word in text


def test_the_engine_is_asked_only_for_what_needs_it() -> None:
    def never() -> HostRuntimes:
        raise AssertionError

    amd = spec(gpus={"runtime": "amd", "ids": ["x"]}, container={"devices": ["/dev/kfd"]})
    assert device_problems([spec(), amd], never, lambda path: True) == []


@pytest.mark.parametrize(
    ("gpus", "path", "words"),
    [
        ({"runtime": "amd", "ids": ["x"]}, "/dev/kfd", "Load the amdgpu module"),
        ({"runtime": "amd", "ids": ["x"]}, "/dev/dri/by-path/pci-1-render", "Plan again"),
        (None, "/dev/infiniband/uverbs0", "container.devices of a: this host has no /dev/infiniband/uverbs0."),
    ],
)
def test_devices(gpus: t.Any, path: str, words: str) -> None:
    assert words in told(ALL, exists=False, gpus=gpus, container={"devices": [path]})


@pytest.mark.parametrize(
    ("wanted", "most", "is_refused"),
    [(-1, 2**23, True), (2**23, 2**23, False), (2**24, 2**23, True), (-1, -1, False), (-1, None, False)],
)
def test_limits_that_nobody_may_raise(wanted: int, most: int | None, is_refused: bool) -> None:
    host = ALL._replace(hard_limits={} if most is None else {"memlock": most})
    text = told(host, container={"ulimits": {"memlock": wanted}})
    assert ("set container.ulimits.memlock to null" in text) is is_refused


def test_hard_limits_count_where_the_first_process_cannot_raise_them(tmp_path: pathlib.Path) -> None:
    assert hard_limits(str(tmp_path)) == {}
    (tmp_path / "proc" / "1").mkdir(parents=True)
    status = tmp_path / "proc" / "1" / "status"
    status.write_text("Name:\tinit\nCapBnd:\t000001ffffffffff\n")
    assert hard_limits(str(tmp_path)) == {}
    status.write_text("Name:\tinit\nCapBnd:\t000001fffeffffff\n")
    assert set(hard_limits(str(tmp_path))) == {"memlock", "nofile", "stack"}


# As `nvidia-ctk cdi generate` writes it, shortened.
CDI_YAML = """---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidia-uvm
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: GPU-1
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- name: all
  containerEdits: {}
kind: nvidia.com/gpu
"""


def test_cdi_specifications_are_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / "nvidia.yaml").write_text(CDI_YAML)
    devices = [{"name": "render-128", "containerEdits": {}}]
    (tmp_path / "amd.json").write_text(json.dumps({"cdiVersion": "0.6.0", "kind": "amd.com/gpu", "devices": devices}))
    (tmp_path / "notes.txt").write_text("kind: x/y\nname: no\n")
    found = cdi_devices([str(tmp_path), str(tmp_path / "none")])
    assert found == {"nvidia.com/gpu=GPU-1", "nvidia.com/gpu=0", "nvidia.com/gpu=all", "amd.com/gpu=render-128"}


def test_devices_of_amd(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sys/bus/pci/devices/0000:c1:00.0/drm/renderD129").mkdir(parents=True)
    (tmp_path / "dev/dri").mkdir(parents=True)
    (tmp_path / "dev/kfd").touch()
    (tmp_path / "dev/dri/renderD129").touch()
    found = amd_devices(["0000:c1:00.0", "0000:c2:00.0"], str(tmp_path))
    assert found.nodes == ("/dev/kfd", "/dev/dri/renderD129", "/dev/dri/by-path/pci-0000:c2:00.0-render")
    assert found.groups == tuple({(tmp_path / "dev/kfd").stat().st_gid} - {0})
    made = spec(found, gpus={"runtime": "amd", "ids": ["u2", "u1"]})
    assert made.devices == tuple(sorted(found.nodes))
    assert (made.gpus, made.labels["gpufleet.vllm.gpus"]) == (Gpus("amd", ("u1", "u2")), "u1,u2")
