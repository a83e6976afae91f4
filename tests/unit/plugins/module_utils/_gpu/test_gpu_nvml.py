# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPU facts through the real nvidia-ml-py over a stand-in libnvidia-ml.so.1 that is compiled from fake_nvml.c."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host, nvml

GIB = 2**30
MIB = 2**20

# Removes the named functions from the binding, as an old release lacks them, or hides the binding altogether.
SCRIPT = """
import json, sys
root, missing = sys.argv[1], json.loads(sys.argv[2])
if missing == "binding":
    sys.modules["pynvml"] = None
else:
    import pynvml
    for name in missing:
        delattr(pynvml, name)
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.nvml import gpu_facts
print(json.dumps(gpu_facts(root=root)))
"""


@pytest.fixture(scope="session")
def library_dir(tmp_path_factory):
    """The folder with the stand-in library."""
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run(["gcc", "-Wall", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


@pytest.fixture
def root(tmp_path):
    """A host with 64 GiB, 4 CPUs, one NVIDIA card on NUMA node 1, its audio function, and another maker's card."""
    write(tmp_path / "proc/meminfo", "MemTotal:       67108864 kB\nMemFree: 1 kB\nMemAvailable:   33554432 kB\n")
    write(tmp_path / "proc/stat", "cpu  1 2 3\ncpu0 1\ncpu1 1\ncpu2 1\ncpu3 1\nintr 5\n")
    for address, vendor, pci_class, node in (
        ("0000:18:00.0", "0x10de", "0x030200", "1"),
        ("0000:18:00.1", "0x10de", "0x040300", "1"),
        ("0000:00:02.0", "0x1a03", "0x030000", "-1"),
        ("0000:2a:00.0", "0x8086", "0x020000", "-1"),
    ):
        folder = tmp_path / "sys/bus/pci/devices" / address
        write(folder / "vendor", vendor + "\n")
        write(folder / "class", pci_class + "\n")
        write(folder / "numa_node", node + "\n")
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def facts(root, library_dir=None, profile="", missing=()):
    environment = dict(os.environ, FAKE_NVML_PROFILE=profile, LD_LIBRARY_PATH=str(library_dir or ""))
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", SCRIPT, str(root), json.dumps(missing)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "profile, words",
    [
        ("no_module", ["kernel module is not loaded", "Driver Not Loaded", "0000:18:00.0", "modprobe nvidia"]),
        ("mismatch", ["different driver versions", "570.86.15", "restart the host"]),
        ("no_permission", ["may not open", "/dev/nvidiactl", "become"]),
        ("broken", ["NVML did not start", "Unknown Error", "nvidia-smi"]),
        ("no_card", ["sees no card"]),
        ("all_lost", ["No card is usable", "GPU 0", "fell off the bus"]),
    ],
)
def test_absence_is_a_fact_with_a_reason(root, library_dir, profile, words):
    write(
        root / "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12.2.0\n",
    )
    result = facts(root, library_dir, profile)
    assert not result["available"]
    assert result["vendor"] == "nvidia"
    for word in words:
        assert word in result["reason"]
    assert result["host"] == {"memory_total_bytes": 64 * GIB, "memory_available_bytes": 32 * GIB, "cpu_count": 4}


def test_no_driver_library(root):
    result = facts(root)
    assert (result["available"], result["gpus"], result["vendor"]) == (False, [], "nvidia")
    assert "libnvidia-ml.so.1 was not found" in result["reason"]
    assert "Install the NVIDIA driver" in result["reason"]


def test_a_host_without_anything(tmp_path):
    result = facts(tmp_path)
    assert result["vendor"] is None and result["gpus"] == []
    assert "no NVIDIA card is on the PCI bus" in result["reason"]
    assert set(result["host"].values()) == {None}


@pytest.mark.parametrize("with_card, words", [(True, "that interpreter."), (False, "if this is a GPU host")])
def test_no_binding(root, tmp_path, with_card, words):
    result = facts(root if with_card else tmp_path / "empty", missing="binding")
    assert not result["available"] and words in result["reason"] and sys.executable in result["reason"]


def test_a_consumer_card(root, library_dir):
    result = facts(root, library_dir, "rtx4090")
    assert (result["available"], result["reason"], result["cuda_version"]) == (True, None, "12.8")
    assert result["driver_version"] == "570.124.06"
    (gpu,) = result["gpus"]
    assert gpu["name"] == "NVIDIA GeForce RTX 4090"
    assert gpu["compute_capability"] == "8.9"
    assert gpu["memory_total_bytes"] == 24564 * MIB
    assert gpu["memory_free_bytes"] + gpu["memory_used_bytes"] == 24564 * MIB
    assert gpu["ecc_enabled"] is None and gpu["mig_enabled"] is False and gpu["persistence_mode"] is False
    # 4242 computes and draws: once.
    assert gpu["processes"] == [
        {"pid": 1200, "used_bytes": 300 * MIB},
        {"pid": 4242, "used_bytes": 700 * MIB},
    ]
    assert gpu["field_errors"] == {} and gpu["error"] is None


def test_two_datacentre_cards(root, library_dir):
    first, second = facts(root, library_dir, "h100x2")["gpus"]
    assert [first["index"], second["index"]] == [0, 1]
    assert first["numa_node"] == 1 and second["numa_node"] is None
    assert first["pci_bus_id"] == "00000000:18:00.0"
    assert first["ecc_enabled"] is True and first["persistence_mode"] is True
    assert first["processes"] == [{"pid": 100, "used_bytes": 69000 * MIB}, {"pid": 101, "used_bytes": None}]
    # One query that is refused does not take the card away.
    assert second["processes"] is None and second["error"] is None
    assert second["field_errors"] == {"processes": "Insufficient Permissions"}


def test_mig(root, library_dir):
    (gpu,) = facts(root, library_dir, "a100_mig")["gpus"]
    assert gpu["mig_enabled"] is True and gpu["field_errors"] == {}
    assert [(device["name"].split()[-1], device["gpu_instance_id"]) for device in gpu["mig_devices"]] == [
        ("3g.20gb", 2),
        ("1g.5gb", 9),
    ]
    assert gpu["mig_devices"][0]["uuid"].startswith("MIG-")
    assert gpu["mig_devices"][1]["memory_total_bytes"] == 4864 * MIB


def test_lost_cards_stand_beside_the_others(root, library_dir):
    result = facts(root, library_dir, "one_lost")
    good, no_handle, silent = result["gpus"]
    assert result["available"] and good["error"] is None and good["memory_total_bytes"] == 81559 * MIB
    for card in (no_handle, silent):
        assert "GPU is lost" in card["error"] and card["memory_total_bytes"] is None
    assert silent["field_errors"]["memory"] == "GPU is lost"


def test_a_name_that_is_no_text(root, library_dir):
    (gpu,) = facts(root, library_dir, "odd_name")["gpus"]
    assert gpu["name"] is None and "utf-8" in gpu["field_errors"]["name"] and gpu["error"] is None


def test_an_old_binding_degrades(root, library_dir):
    missing = ["nvmlDeviceGetMigMode", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"]
    (gpu,) = facts(root, library_dir, "h100x2", missing)["gpus"][:1]
    assert gpu["error"] is None and gpu["mig_enabled"] is False and gpu["processes"] is None
    assert set(gpu["field_errors"]) == {"mig_enabled", "processes"}
    assert nvml.MINIMUM_BINDING in gpu["field_errors"]["mig_enabled"]


@pytest.mark.parametrize(
    "address, node",
    [("00000000:18:00.0", 1), ("00000000:2A:00.0", None), ("00000000:99:00.0", None), ("odd", None), (None, None)],
)
def test_numa_node(root, address, node):
    assert host.numa_node(address, str(root)) == node
