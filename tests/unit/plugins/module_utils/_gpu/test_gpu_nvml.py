# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPU facts through the real nvidia-ml-py over a stand-in libnvidia-ml.so.1 that plays machines."""

from __future__ import annotations

import sys

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host, nvml, nvml_health, nvml_links
from support.nvml import stand_in

GIB = 2**30
MIB = 2**20


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The folder with the stand-in library."""
    return stand_in.compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def root(tmp_path):
    """A host with 64 GiB, 4 CPUs, one NVIDIA card on NUMA node 1, its audio function, and another maker's card."""
    write(tmp_path / "proc/meminfo", "MemTotal:       67108864 kB\nMemFree: 1 kB\nMemAvailable:   33554432 kB\n")
    write(tmp_path / "proc/stat", "cpu  1 2 3\ncpu0 1\ncpu1 1\ncpu2 1\ncpu3 1\nintr 5\nbtime 1763800000\n")
    write(tmp_path / "proc/4242/comm", "VLLM::EngineCor\n")
    for node in (0, 1):
        write(tmp_path / f"sys/devices/system/node/node{node}/cpulist", f"{2 * node}-{2 * node + 1}\n")
        write(tmp_path / f"sys/devices/system/node/node{node}/meminfo", f"Node {node} MemTotal:  33554432 kB\n")
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


def matrix(size, value):
    return [["X" if row == column else value for column in range(size)] for row in range(size)]


# --- absence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "profile, words",
    [
        ("no-module", ["kernel module is not loaded", "Driver Not Loaded", "0000:18:00.0", "modprobe nvidia"]),
        ("mismatch", ["different driver versions", "570.86.15", "restart the host"]),
        ("no-permission", ["may not open", "/dev/nvidiactl", "become"]),
        ("broken", ["NVML did not start", "Unknown Error", "nvidia-smi"]),
        ("no-card", ["sees no card"]),
        ("no-count", ["number of cards cannot be read", "Unknown Error"]),
        ("all-lost", ["No card is usable", "GPU 0", "fell off the bus"]),
    ],
)
def test_absence_is_a_fact_with_a_reason(root, library, profile, words):
    write(
        root / "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12.2.0\n",
    )
    result = stand_in.gpu_facts(root, library, profile)
    assert not result["available"]
    assert result["vendor"] == "nvidia"
    for word in words:
        assert word in result["reason"]
    assert result["topology"]["link_islands"] == [] and result["topology"]["p2p_islands"] == []
    facts = result["host"]
    assert (facts["memory_total_bytes"], facts["memory_available_bytes"], facts["cpu_count"]) == (64 * GIB, 32 * GIB, 4)
    assert facts["numa_nodes"] == [
        {"id": 0, "cpus": "0-1", "memory_total_bytes": 32 * GIB},
        {"id": 1, "cpus": "2-3", "memory_total_bytes": 32 * GIB},
    ]


def test_no_driver_library(root):
    result = stand_in.gpu_facts(root)
    assert (result["available"], result["gpus"], result["vendor"]) == (False, [], "nvidia")
    assert "libnvidia-ml.so.1 was not found" in result["reason"]
    assert "Install the NVIDIA driver" in result["reason"]


def test_a_host_without_anything(tmp_path):
    result = stand_in.gpu_facts(tmp_path)
    assert result["vendor"] is None and result["gpus"] == []
    assert "no NVIDIA card is on the PCI bus" in result["reason"]
    assert result["host"] == {
        "memory_total_bytes": None,
        "memory_available_bytes": None,
        "cpu_count": None,
        "numa_nodes": [],
    }
    assert result["kernel_log"]["readable"] is None and result["interfaces"] == [] and result["infiniband"] == []


@pytest.mark.parametrize("with_card, words", [(True, "that interpreter."), (False, "if this is a GPU host")])
def test_no_binding(root, tmp_path, with_card, words):
    result = stand_in.gpu_facts(root if with_card else tmp_path / "empty", missing="binding")
    assert not result["available"] and words in result["reason"] and sys.executable in result["reason"]


def test_without_a_compiler_the_stand_in_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="install gcc"):
        stand_in.compile_library(tmp_path)


# --- cards ----------------------------------------------------------------------------------------------------------


def test_a_consumer_card(root, library):
    result = stand_in.gpu_facts(root, library, "rtx4090")
    assert (result["available"], result["reason"], result["cuda_version"]) == (True, None, "12.8")
    assert result["driver_version"] == "570.124.06"
    (gpu,) = result["gpus"]
    assert gpu["name"] == "NVIDIA GeForce RTX 4090"
    assert gpu["compute_capability"] == "8.9" and gpu["gfx_target"] is None
    assert gpu["memory_total_bytes"] == 24564 * MIB
    assert gpu["memory_reserved_bytes"] == 367 * MIB
    assert gpu["memory_used_bytes"] == 1367 * MIB
    assert gpu["memory_free_bytes"] + gpu["memory_used_bytes"] == 24564 * MIB
    assert gpu["ecc_enabled"] is None and gpu["persistence_mode"] is False
    assert gpu["mig_enabled"] is False and gpu["mig_enabled_after_reset"] is None
    assert gpu["nvlink"] is None and gpu["fabric"] is None
    # 4242 computes and draws: once.
    assert gpu["processes"] == [
        {"pid": 1200, "name": None, "used_bytes": 300 * MIB, "gpu_instance_id": None},
        {"pid": 4242, "name": "VLLM::EngineCor", "used_bytes": 700 * MIB, "gpu_instance_id": None},
    ]
    assert gpu["health"]["remapped_rows"] is None and gpu["health"]["ecc_uncorrected_volatile"] is None
    assert gpu["field_errors"] == {} and gpu["error"] is None
    assert result["topology"]["link"] == [["X"]]
    assert result["topology"]["link_islands"] == [[0]] == result["topology"]["p2p_islands"]


# What CUDA called the total in recorded starts of vLLM on these cards, in GiB; None: no record.
@pytest.mark.parametrize(
    "profile, name, count, total_mib, least, most",
    [
        ("rtx3060-laptop", "NVIDIA GeForce RTX 3060 Laptop GPU", 1, 6144, 5.7, 5.9),
        ("rtx4090", "NVIDIA GeForce RTX 4090", 1, 24564, 23.62, 23.64),
        ("rtx3090x2", "NVIDIA GeForce RTX 3090", 2, 24576, 23.55, 23.57),
        ("l4", "NVIDIA L4", 1, 23034, 22.15, 22.17),
        ("l40sx4", "NVIDIA L40S", 4, 46068, 44.31, 44.33),
        ("v100", "Tesla V100-SXM2-32GB", 1, 32768, 31.72, 31.74),
        ("a100-40x8", "NVIDIA A100-SXM4-40GB", 8, 40960, 39.38, 39.56),
        ("a100-80x4", "NVIDIA A100-SXM4-80GB", 4, 81920, 79.14, 79.25),
        ("h100x8", "NVIDIA H100 80GB HBM3", 8, 81559, 79.18, 79.22),
        ("h200x8", "NVIDIA H200", 8, 143771, 139.72, 139.81),
        ("b200x8", "NVIDIA B200", 8, 183359, 178.0, 179.0),
    ],
)
def test_what_cuda_reports_as_the_total(root, library, profile, name, count, total_mib, least, most):
    result = stand_in.gpu_facts(root, library, profile)
    assert [gpu["index"] for gpu in result["gpus"]] == list(range(count))
    assert len({gpu["uuid"] for gpu in result["gpus"]}) == len({gpu["pci_bus_id"] for gpu in result["gpus"]}) == count
    for gpu in result["gpus"]:
        assert gpu["name"] == name and gpu["error"] is None and gpu["field_errors"] == {}
        assert gpu["memory_total_bytes"] == total_mib * MIB
        assert least <= gpu["memory_cuda_total_bytes"] / GIB <= most


def test_two_datacentre_cards(root, library):
    first, second = stand_in.gpu_facts(root, library, "h100x2")["gpus"]
    assert [first["index"], second["index"]] == [0, 1]
    assert first["numa_node"] == 1 and second["numa_node"] is None
    assert first["pci_bus_id"] == "00000000:18:00.0"
    assert first["ecc_enabled"] is True and first["persistence_mode"] is True
    assert [(entry["pid"], entry["used_bytes"]) for entry in first["processes"]] == [(100, 69000 * MIB), (101, None)]
    # One query that is refused does not take the card away.
    assert second["processes"] is None and second["error"] is None
    assert second["field_errors"] == {"processes": "Insufficient Permissions"}


def test_mig(root, library):
    (gpu,) = stand_in.gpu_facts(root, library, "a100-mig")["gpus"]
    assert gpu["mig_enabled"] is True and gpu["mig_enabled_after_reset"] is True and gpu["field_errors"] == {}
    known = ("profile", "gpu_instance_id", "compute_instance_id", "gpu_slices", "compute_slices", "multiprocessors")
    assert [tuple(device[name] for name in known) for device in gpu["mig_devices"]] == [
        ("3g.20gb", 2, 0, 3, 3, 42),
        ("1g.5gb", 9, 0, 1, 1, 14),
        ("1c.2g.10gb", 4, 1, 2, 1, 14),
    ]
    assert gpu["mig_devices"][0]["uuid"].startswith("MIG-")
    assert gpu["mig_devices"][1]["memory_total_bytes"] == 4864 * MIB
    assert gpu["mig_devices"][1]["memory_cuda_total_bytes"] == 4864 * MIB
    assert [device["field_errors"] for device in gpu["mig_devices"]] == [{}, {}, {}]
    # One process on two of them.
    assert [(entry["pid"], entry["gpu_instance_id"]) for entry in gpu["processes"]] == [(777, 2), (777, 9)]


def test_lost_cards_stand_beside_the_others(root, library):
    result = stand_in.gpu_facts(root, library, "one-lost")
    good, no_handle, silent = result["gpus"]
    assert result["available"] and good["error"] is None and good["memory_total_bytes"] == 81559 * MIB
    for card in (no_handle, silent):
        assert "GPU is lost" in card["error"] and card["memory_total_bytes"] is None
    assert silent["field_errors"]["memory"] == "GPU is lost"
    assert good["fabric"] == {"state": "completed", "error": "Unknown Error"}
    # A lost card is not one that shares the host's memory.
    assert silent["memory_shared_with_host"] is False
    assert result["topology"]["link_islands"] == [[0]]
    assert result["topology"]["p2p_read"] == matrix(3, None) and result["topology"]["link"] == matrix(3, None)


def test_memory_that_is_the_hosts(root, library):
    (gpu,) = stand_in.gpu_facts(root, library, "gb10")["gpus"]
    assert gpu["memory_shared_with_host"] is True and gpu["memory_total_bytes"] is None
    assert gpu["error"] is None and gpu["field_errors"] == {}


def test_a_name_that_is_no_text(root, library):
    (gpu,) = stand_in.gpu_facts(root, library, "odd-name")["gpus"]
    assert gpu["name"] is None and "utf-8" in gpu["field_errors"]["name"] and gpu["error"] is None


def test_an_old_binding_degrades(root, library):
    missing = ["nvmlDeviceGetMigMode", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"]
    missing += ["nvmlDeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v2_t", "nvmlMemory_v2", "NVML_NVLINK_MAX_LINKS"]
    gpu = stand_in.gpu_facts(root, library, "h100x2", missing)["gpus"][0]
    assert gpu["error"] is None and gpu["mig_enabled"] is False and gpu["processes"] is None
    assert set(gpu["field_errors"]) == {"mig_enabled", "processes"}
    assert nvml.MINIMUM_BINDING in gpu["field_errors"]["mig_enabled"]


def test_an_old_driver_degrades(root, tmp_path):
    """A library without the symbols that came with 510 and later."""
    old = stand_in.compile_library(tmp_path, "-DDRIVER_470")
    (gpu,) = stand_in.gpu_facts(root, old, "v100")["gpus"]
    assert gpu["error"] is None and gpu["memory_total_bytes"] == 32768 * MIB
    assert gpu["memory_reserved_bytes"] is None and gpu["memory_cuda_total_bytes"] is None
    assert gpu["field_errors"]["memory_reserved"] == "Function Not Found"
    assert set(gpu["field_errors"]) == {"memory_reserved", "processes"}


# --- health ---------------------------------------------------------------------------------------------------------


def test_health(root, library):
    (gpu,) = stand_in.gpu_facts(root, library, "v100")["gpus"]
    assert gpu["health"] == {
        "temperature_celsius": 84,
        "utilization_percent": 97,
        "power_watts": 300,
        "power_limit_watts": 300,
        "throttle_reasons": ["sw_power_cap", "sw_thermal_slowdown"],
        "ecc_uncorrected_volatile": 3,
        "ecc_uncorrected_aggregate": 7,
        "remapped_rows": None,
        "retired_pages": {"single_bit": 2, "double_bit": 1, "pending": True},
        "xids": None,
    }
    rows = stand_in.gpu_facts(root, library, "one-lost")["gpus"][0]["health"]["remapped_rows"]
    assert rows == {"correctable": 1, "uncorrectable": 2, "pending": True, "failed": True}


def test_a_card_that_is_divided_does_not_tell_how_busy_it_is(root, library):
    card = stand_in.gpu_facts(root, library, "a100-mig")["gpus"][0]
    assert card["mig_enabled"] and card["health"]["utilization_percent"] is None
    assert "utilization" not in card["field_errors"]


@pytest.mark.parametrize(
    "bits, expected",
    [(0, []), (1, ["gpu_idle"]), (0x480, ["hw_power_brake_slowdown", "reliability"]), (1 << 11, ["bit_11"])],
)
def test_throttle_reasons(bits, expected):
    assert nvml_health.throttle_reasons(bits) == expected


# --- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile, version", [("h100x8", "5.0"), ("h200x8", "4.0"), ("b200x8", "5.0")])
def test_nvswitch(root, library, profile, version):
    result = stand_in.gpu_facts(root, library, profile)
    topology = result["topology"]
    assert topology["link"] == matrix(8, "NV18") and topology["link_count"] == matrix(8, 18)
    assert topology["p2p_read"] == topology["p2p_write"] == topology["p2p_link"] == matrix(8, "OK")
    assert topology["link_islands"] == topology["p2p_islands"] == [list(range(8))]
    assert topology["field_errors"] == {}
    for gpu in result["gpus"]:
        assert gpu["nvlink"] == {"version": version, "links": 18, "active": 18, "switch": True}
        assert gpu["fabric"] == {"state": "completed", "error": None}


def test_links_without_fabric_manager_join_nothing(root, library):
    result = stand_in.gpu_facts(root, library, "h100x8-no-fabric-manager")
    assert result["gpus"][0]["fabric"] == {"state": "in progress", "error": None}
    assert result["topology"]["link"] == matrix(8, "NV18")
    assert result["topology"]["p2p_link"] == matrix(8, "NS")
    assert result["topology"]["link_islands"] == result["topology"]["p2p_islands"] == [[index] for index in range(8)]


def test_links_straight_from_card_to_card(root, library):
    result = stand_in.gpu_facts(root, library, "a100-80x4")
    assert result["topology"]["link"] == matrix(4, "NV4")
    assert result["topology"]["link_islands"] == [[0, 1, 2, 3]]
    assert result["gpus"][3]["nvlink"] == {"version": "3.0", "links": 12, "active": 12, "switch": False}


def test_two_cards_without_peer_access(root, library):
    result = stand_in.gpu_facts(root, library, "rtx3090x2")
    assert result["gpus"][0]["nvlink"] == {"version": None, "links": 4, "active": 0, "switch": False}
    topology = result["topology"]
    assert topology["link"] == matrix(2, "NODE") and topology["link_count"] == matrix(2, 0)
    assert topology["p2p_read"] == topology["p2p_write"] == matrix(2, "CNS") and topology["p2p_link"] == matrix(2, "NS")
    assert topology["link_islands"] == topology["p2p_islands"] == [[0], [1]]


def test_two_cards_with_a_bridge(root, library):
    topology = stand_in.gpu_facts(root, library, "rtx3090x2-bridge")["topology"]
    assert topology["link"] == matrix(2, "NV4")
    assert topology["link_islands"] == topology["p2p_islands"] == [[0, 1]]


def test_the_way_over_pcie(root, library):
    topology = stand_in.gpu_facts(root, library, "l40sx4")["topology"]
    assert topology["link"] == [
        ["X", "PIX", "SYS", "SYS"],
        ["PIX", "X", "SYS", "SYS"],
        ["SYS", "SYS", "X", "PIX"],
        ["SYS", "SYS", "PIX", "X"],
    ]
    assert topology["link_islands"] == [[0], [1], [2], [3]] and topology["p2p_islands"] == [[0, 1, 2, 3]]


SWITCH, CARD, UNKNOWN = 2, 0, 0xFF


@pytest.mark.parametrize(
    "ends, expected",
    [
        # A card with fewer links to the switch than the other.
        ([[(SWITCH, None)] * 18, [(SWITCH, None)] * 17], 17),
        # In a virtual machine the far end tells nothing: a switch.
        ([[(UNKNOWN, None)] * 6, [(None, "ffff:ff:ff.f")] * 6], 6),
        # An unknown end with the other card's address is that card.
        ([[(None, "0000:02:00.0")] * 4, [(None, "0000:01:00.0")] * 4], 4),
        # A bridge to a card that this container does not see is no switch.
        ([[(CARD, "0000:09:00.0")] * 4, [(CARD, "0000:0a:00.0")] * 4], 0),
        ([[], [(SWITCH, None)] * 18], 0),
    ],
)
def test_link_count(ends, expected):
    found = [[nvml_links.Link(*end) for end in wires] for wires in ends]
    counts = nvml_links.link_count(["0000:01:00.0", "0000:02:00.0"], found)
    assert counts == [["X", expected], [expected, "X"]]


# --- the kernel log -------------------------------------------------------------------------------------------------

XID = "NVRM: Xid (PCI:0000:%s:00): %d, pid=4242, name=python3, Ch 00000008"


def test_xids_are_with_their_card(root, library):
    write(
        root / "dev/kmsg",
        f"6,1,1000000,-;Linux version 6.1\n4,2,60000000,-;{XID % ('18', 31)}\n SUBSYSTEM=pci\n"
        f"4,3,120000000,-;{XID % ('18', 31)}\n4,4,180000000,-;{XID % ('9a', 79)}\n",
    )
    result = stand_in.gpu_facts(root, library, "h100x2")
    assert result["kernel_log"]["readable"] is True and result["kernel_log"]["reason"] is None
    first, second = (gpu["health"]["xids"] for gpu in result["gpus"])
    assert first == [
        {"code": 31, "count": 2, "last": "2025-11-22T08:28:40Z", "text": "pid=4242, name=python3, Ch 00000008"}
    ]
    assert second == []
    (other,) = result["kernel_log"]["other_xids"]
    assert (other["pci_bus_id"], other["code"], other["count"]) == ("0000:9a:00.0", 79, 1)


def test_the_journal_where_the_kernels_buffer_is_closed(root, library):
    line = f"1763800060.500000 host kernel: {XID % ('18', 79)}\n"
    result = stand_in.gpu_facts(root, library, "h100x2", journal=[0, line, ""])
    assert [entry["code"] for entry in result["gpus"][0]["health"]["xids"]] == [79]


def test_no_kernel_log_is_null_with_a_reason(root, library):
    result = stand_in.gpu_facts(root, library, "h100x2", journal=[1, "", "No journal files were opened"])
    assert result["gpus"][0]["health"]["xids"] is None and result["available"]
    assert result["kernel_log"]["readable"] is False
    for word in ("/dev/kmsg: No such file", "No journal files were opened", "become"):
        assert word in result["kernel_log"]["reason"]


# --- the host -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address, node",
    [("00000000:18:00.0", 1), ("00000000:2A:00.0", None), ("00000000:99:00.0", None), ("odd", None), (None, None)],
)
def test_numa_node(root, address, node):
    assert host.numa_node(address, str(root)) == node


@pytest.mark.parametrize(
    "text, address",
    [
        ("00000000:18:00.0", "0000:18:00.0"),
        ("0000000F:01:00.0", "000f:01:00.0"),
        ("00010000:DB:00.1", "10000:db:00.1"),
        ("0000:3b:00", "0000:3b:00.0"),
        ("FFFFFFFF:FFFF:FF.F", None),
        ("../../etc", None),
        ("", None),
    ],
)
def test_pci_address(text, address):
    assert host.pci_address(text) == address
