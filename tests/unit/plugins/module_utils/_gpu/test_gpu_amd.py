# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AMD's cards through a small module in the place of amdsmi.

AMD's library cannot be had without ROCm, so the module stands in for the Python library itself, with the signatures and
results of amdsmi 7.0.2.
"""

from __future__ import annotations

import enum
import sys
import types

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import facts

GIB = 2**30
BUSES = ("0000:0c:00.0", "0000:22:00.0")


class Refused(Exception):
    def __init__(self, err_code):
        super().__init__(f"Error code: {err_code}")
        self.err_code = err_code


class AmdSmiMemoryType(enum.IntEnum):
    VRAM = 0


class AmdSmiTemperatureType(enum.IntEnum):
    HOTSPOT = 1


class AmdSmiTemperatureMetric(enum.IntEnum):
    CURRENT = 0


class AmdSmiLinkType(enum.IntEnum):
    AMDSMI_LINK_TYPE_PCIE = 1
    AMDSMI_LINK_TYPE_XGMI = 2


def smi(**changes):
    """amdsmi on a host with two MI300X; the handles are 0 and 1. changes: functions or errors by name."""

    def process_list(handle):
        usage = {"gtt_mem": 1, "cpu_mem": 2, "vram_mem": 5 * GIB}
        return [{"name": "python3", "pid": 4242, "mem": 0, "memory_usage": usage}] if handle == 0 else []

    members = {
        "AmdSmiMemoryType": AmdSmiMemoryType,
        "AmdSmiTemperatureType": AmdSmiTemperatureType,
        "AmdSmiTemperatureMetric": AmdSmiTemperatureMetric,
        "AmdSmiLinkType": AmdSmiLinkType,
        "amdsmi_init": lambda: None,
        "amdsmi_shut_down": lambda: None,
        "amdsmi_get_processor_handles": lambda: [0, 1],
        "amdsmi_get_gpu_driver_info": lambda handle: {"driver_name": "amdgpu", "driver_version": "6.14.14"},
        "amdsmi_get_gpu_device_uuid": lambda handle: f"{handle}aff74a1-0000-1000-80e9-c9a9c7f5b0a4",
        "amdsmi_get_gpu_asic_info": lambda handle: {
            "market_name": "AMD Instinct MI300X",
            "target_graphics_version": "gfx942",
        },
        "amdsmi_get_gpu_device_bdf": lambda handle: BUSES[handle],
        "amdsmi_get_gpu_memory_total": lambda handle, kind: 192 * GIB,
        "amdsmi_get_gpu_memory_usage": lambda handle, kind: 6 * GIB,
        "amdsmi_get_temp_metric": lambda handle, sensor, metric: 47,
        "amdsmi_get_power_info": lambda handle: {
            "socket_power": "N/A",
            "current_socket_power": 140,
            "average_socket_power": "N/A",
        },
        "amdsmi_get_gpu_total_ecc_count": lambda handle: {"correctable_count": 4, "uncorrectable_count": 1},
        "amdsmi_get_gpu_process_list": process_list,
        "amdsmi_topo_get_link_type": lambda one, other: {"hops": 1, "type": 2},
        "amdsmi_is_P2P_accessible": lambda one, other: True,
        **changes,
    }
    module = types.ModuleType("amdsmi")
    for name, member in members.items():
        setattr(module, name, member)
    return module


def refusing(code):
    def refuse(*args):
        raise Refused(code)

    return refuse


@pytest.fixture
def root(tmp_path):
    """A host with two accelerators of AMD, whose class is not that of a display."""
    for node, address in enumerate(BUSES):
        folder = tmp_path / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        for name, text in (("vendor", "0x1002"), ("class", "0x120000"), ("numa_node", str(node))):
            (folder / name).write_text(text + "\n")
    return str(tmp_path)


def read(monkeypatch, root, module):
    monkeypatch.setitem(sys.modules, "amdsmi", module)
    return facts.gpu_facts(None, root)


def test_two_cards(monkeypatch, root):
    result = read(monkeypatch, root, smi())
    assert (result["available"], result["reason"], result["vendor"]) == (True, None, "amd")
    assert (result["driver_version"], result["cuda_version"]) == ("6.14.14", None)
    first, second = result["gpus"]
    assert first["name"] == "AMD Instinct MI300X" and first["gfx_target"] == "gfx942"
    assert first["compute_capability"] is None and first["memory_cuda_total_bytes"] is None
    sizes = [first[f"memory_{name}_bytes"] for name in ("total", "free", "used")]
    assert sizes == [192 * GIB, 186 * GIB, 6 * GIB]
    assert (first["pci_bus_id"], first["numa_node"], second["numa_node"]) == ("0000:0c:00.0", 0, 1)
    assert [(entry["pid"], entry["used_bytes"]) for entry in first["processes"]] == [(4242, 5 * GIB)]
    assert second["processes"] == []
    health = first["health"]
    assert (health["temperature_celsius"], health["power_watts"], health["ecc_uncorrected_volatile"]) == (47, 140, 1)
    assert health["xids"] is None and result["kernel_log"]["readable"] is None
    assert first["field_errors"] == {} and first["error"] is None
    topology = result["topology"]
    assert topology["link"] == [["X", "XGMI"], ["XGMI", "X"]] and topology["link_count"] == [["X", 1], [1, "X"]]
    assert topology["link_islands"] == topology["p2p_islands"] == [[0, 1]] and topology["field_errors"] == {}


def test_over_pcie_without_peer_access(monkeypatch, root):
    module = smi(
        amdsmi_topo_get_link_type=lambda one, other: {"hops": 2, "type": 1},
        amdsmi_is_P2P_accessible=lambda one, other: False,
    )
    topology = read(monkeypatch, root, module)["topology"]
    # The made-up devices have no path in /sys.
    assert topology["link"] == [["X", None], [None, "X"]] and topology["p2p_read"] == [["X", "NS"], ["NS", "X"]]
    assert topology["link_islands"] == topology["p2p_islands"] == [[0], [1]]


def test_a_release_of_rocm_without_names_of_links(monkeypatch, root):
    result = read(monkeypatch, root, smi(AmdSmiLinkType=None))
    assert result["available"] and result["topology"]["link_count"] == [["X", 0], [0, "X"]]


def test_what_a_card_does_not_support_is_null(monkeypatch, root):
    module = smi(amdsmi_get_temp_metric=refusing(2), amdsmi_get_gpu_process_list=refusing(10))
    gpu = read(monkeypatch, root, module)["gpus"][0]
    assert gpu["health"]["temperature_celsius"] is None and gpu["processes"] is None
    assert gpu["field_errors"] == {"processes": "Error code: 10"} and gpu["error"] is None


NOT_TOLD = {"amdsmi_get_gpu_memory_usage": lambda handle, kind: "N/A", "amdsmi_get_power_info": lambda handle: "N/A"}


def test_a_card_that_does_not_tell_all_is_usable(monkeypatch, root):
    module = smi(
        amdsmi_get_gpu_process_list=lambda handle: [{"pid": 1}, {"pid": 2, "memory_usage": {"vram_mem": "N/A"}}],
        amdsmi_topo_get_link_type=lambda one, other: {},
        amdsmi_get_gpu_driver_info=lambda handle: "N/A",
        **NOT_TOLD,
    )
    result = read(monkeypatch, root, module)
    gpu = result["gpus"][0]
    assert result["available"] and gpu["error"] is None and gpu["memory_total_bytes"] == 192 * GIB
    assert gpu["memory_free_bytes"] is None and gpu["health"]["power_watts"] is None
    assert [(entry["pid"], entry["used_bytes"]) for entry in gpu["processes"]] == [(1, None), (2, None)]


@pytest.mark.parametrize(
    "changes",
    [
        {"amdsmi_get_gpu_memory_usage": lambda handle, kind: "6 GiB" if handle == 0 else 0},
        {"amdsmi_get_gpu_process_list": lambda handle: [{"name": "python3"}] if handle == 0 else []},
        {"amdsmi_get_gpu_device_bdf": lambda handle: 12 if handle == 0 else BUSES[1]},
    ],
)
def test_an_answer_in_an_unknown_form_costs_one_card(monkeypatch, root, changes):
    result = read(monkeypatch, root, smi(**changes))
    first, second = result["gpus"]
    assert "unknown form" in first["error"] and first["memory_total_bytes"] is None
    assert result["available"] and second["error"] is None


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"amdsmi_init": refusing(34)}, ["amdsmi did not start", "Error code: 34", "2 AMD card(s)", BUSES[0]]),
        ({"amdsmi_get_processor_handles": lambda: []}, ["sees no card"]),
        ({"amdsmi_get_processor_handles": refusing(7)}, ["No card is usable", "Error code: 7"]),
        ({"amdsmi_get_gpu_memory_total": refusing(7)}, ["UUID or memory size cannot be read: Error code: 7"]),
    ],
)
def test_absence_is_a_fact_with_a_reason(monkeypatch, root, changes, words):
    result = read(monkeypatch, root, smi(**changes))
    assert not result["available"] and result["vendor"] == "amd"
    for word in words:
        assert word in result["reason"]


def test_no_binding(monkeypatch, root):
    result = read(monkeypatch, root, None)
    assert "amdsmi is not installed" in result["reason"] and sys.executable in result["reason"]


def test_the_real_package_without_its_library_prints_and_breaks(monkeypatch, root, tmp_path, capsys):
    """What amdsmi_wrapper.py of amdsmi 7.0.2 does where libamd_smi.so is missing."""
    (tmp_path / "amdsmi.py").write_text("print('Unable to find libamd_smi.so library')\n{}['libamd_smi.so']\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    result = facts.gpu_facts(None, root)
    assert "amdsmi did not start" in result["reason"] and "libamd_smi.so" in result["reason"]
    # The module's output is JSON and nothing else.
    assert capsys.readouterr().out == ""
