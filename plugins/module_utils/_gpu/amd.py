# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""GPU facts of AMD's cards, by way of AMD's own binding (amdsmi, of ROCm).

Signatures, units and enumerations are those of amdsmi 7.0.2 (amdsmi_interface.py): memory in bytes, power in watts,
temperatures in degrees Celsius.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host, reader
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import topology as near
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.reader import Reader

_PACKAGE = "the amdsmi of this host's ROCm"
# AMDSMI_STATUS_NOT_SUPPORTED and AMDSMI_STATUS_NOT_YET_IMPLEMENTED of amdsmi_wrapper.py
_UNSUPPORTED = (2, 3)


def read(cards: t.Sequence[str], root: str = "/") -> dict[str, t.Any]:
    """AMD's part of the facts, in the form of nvml.read; never raises. cards: PCI addresses of AMD's cards."""
    facts: dict[str, t.Any] = {
        "reason": None,
        "driver_version": None,
        "cuda_version": None,
        "gpus": [],
        "topology": None,
    }
    seen = f"{len(cards)} AMD card(s) are on the PCI bus ({', '.join(cards)})"
    try:
        # Without libamd_smi.so the import prints to the output, which is the module's, and raises a KeyError.
        with contextlib.redirect_stdout(io.StringIO()):
            amdsmi = importlib.import_module("amdsmi")
        amdsmi.amdsmi_init()
    except ImportError:
        facts["reason"] = (
            f"The Python library amdsmi is not installed for {sys.executable}; {seen}. If vLLM shall use them, install "
            f"ROCm and {_PACKAGE} for that interpreter."
        )
        return facts
    except Exception as error:
        facts["reason"] = (
            f"amdsmi did not start ({error}); {seen}. Check that the amdgpu module is loaded and that ROCm's "
            "libamd_smi.so is of the same version as the Python library (amd-smi list)."
        )
        return facts
    try:
        system = _reader(amdsmi)
        handles = system.call("count", "amdsmi_get_processor_handles") or []
        if handles:
            driver = system.call("driver_version", "amdsmi_get_gpu_driver_info", handles[0])
            facts["driver_version"] = _known(_table(driver).get("driver_version"))
        facts["gpus"] = [_gpu(amdsmi, index, handle, root) for index, handle in enumerate(handles)]
        facts["topology"] = _topology(amdsmi, facts["gpus"], handles, root)
        if all(gpu["error"] for gpu in facts["gpus"]):
            problems = [gpu["error"] for gpu in facts["gpus"]] or [system.errors.get("count", "amdsmi sees no card")]
            facts["reason"] = f"No card is usable: {'; '.join(problems)}. {seen}."
    finally:
        with contextlib.suppress(Exception):
            amdsmi.amdsmi_shut_down()
    return facts


def _reader(amdsmi: t.Any) -> Reader:
    def judge(error: Exception) -> str:
        return reader.UNSUPPORTED if getattr(error, "err_code", None) in _UNSUPPORTED else reader.FAILED

    return Reader(amdsmi, _PACKAGE, judge)


def _gpu(amdsmi: t.Any, index: int, handle: t.Any, root: str) -> dict[str, t.Any]:
    ask = _reader(amdsmi)
    gpu = reader.new_gpu(index, ask.errors)
    try:
        _fill(gpu, amdsmi, ask, handle, root)
    except Exception as error:
        # Whatever another release of amdsmi answers costs this card only; half of its facts would not be facts.
        gpu = reader.new_gpu(index, ask.errors)
        gpu["error"] = f"amdsmi answers in an unknown form ({type(error).__name__}: {error}); install {_PACKAGE}"
    return gpu


def _fill(gpu: dict[str, t.Any], amdsmi: t.Any, ask: Reader, handle: t.Any, root: str) -> None:
    """The facts of one card. Raises whatever comes of an answer in an unknown form."""
    gpu["uuid"] = _known(ask.call("uuid", "amdsmi_get_gpu_device_uuid", handle))
    asic = _table(ask.call("name", "amdsmi_get_gpu_asic_info", handle))
    gpu["name"] = _known(asic.get("market_name"))
    gpu["gfx_target"] = _known(asic.get("target_graphics_version"))
    gpu["pci_bus_id"] = _known(ask.call("pci_bus_id", "amdsmi_get_gpu_device_bdf", handle))
    gpu["numa_node"] = host.numa_node(gpu["pci_bus_id"], root)
    vram = amdsmi.AmdSmiMemoryType.VRAM
    total = _known(ask.call("memory", "amdsmi_get_gpu_memory_total", handle, vram))
    used = _known(ask.call("memory", "amdsmi_get_gpu_memory_usage", handle, vram))
    gpu["memory_total_bytes"], gpu["memory_used_bytes"] = total, used
    gpu["memory_free_bytes"] = None if total is None or used is None else total - used
    gpu["health"].update(_health(amdsmi, ask, handle))
    found = ask.call("processes", "amdsmi_get_gpu_process_list", handle)
    if found is not None:
        gpu["processes"] = [
            {
                "pid": entry["pid"],
                "name": host.process_name(entry["pid"], root),
                "used_bytes": _known(_table(entry.get("memory_usage")).get("vram_mem")),
                "gpu_instance_id": None,
            }
            for entry in sorted(found, key=lambda entry: entry["pid"])
        ]
    if not gpu["uuid"] or not total:
        gpu["error"] = "its UUID or memory size cannot be read: {}".format(
            "; ".join(ask.errors.get(field, "") for field in ("uuid", "memory") if field in ask.errors)
            or "the driver does not tell"
        )


def _health(amdsmi: t.Any, ask: Reader, handle: t.Any) -> dict[str, t.Any]:
    power = _table(ask.call("power", "amdsmi_get_power_info", handle))
    # Which of them a card fills depends on its generation; the others are "N/A" or 0.
    watts = [_known(power.get(name)) for name in ("socket_power", "current_socket_power", "average_socket_power")]
    ecc = _table(ask.call("ecc_uncorrected_volatile", "amdsmi_get_gpu_total_ecc_count", handle))
    hotspot, current = amdsmi.AmdSmiTemperatureType.HOTSPOT, amdsmi.AmdSmiTemperatureMetric.CURRENT
    return {
        "temperature_celsius": _known(ask.call("temperature", "amdsmi_get_temp_metric", handle, hotspot, current)),
        "power_watts": next(filter(None, watts), None),
        "ecc_uncorrected_volatile": _known(ecc.get("uncorrectable_count")),
    }


def _topology(
    amdsmi: t.Any, gpus: t.Sequence[dict[str, t.Any]], handles: t.Sequence[t.Any], root: str
) -> dict[str, t.Any]:
    """XGMI or the way over PCIe, and whether peer access works; amdsmi tells one answer for reading and writing."""
    ask = _reader(amdsmi)
    # By name, for the numbers have changed between releases of ROCm; the first ones had other names.
    xgmi = getattr(getattr(amdsmi, "AmdSmiLinkType", None), "AMDSMI_LINK_TYPE_XGMI", None)
    size = len(gpus)
    link, count = near.square(size), near.square(size, 0)
    p2p = {way: near.square(size) for way in ("read", "write", "link")}
    paths = [host.pci_path(gpu["pci_bus_id"], root) for gpu in gpus]
    for one, other in near.pairs(size):
        if gpus[one]["error"] or gpus[other]["error"]:
            continue
        pair = (handles[one], handles[other])
        joint = _table(ask.call("link", "amdsmi_topo_get_link_type", *pair))
        accessible = ask.call("p2p", "amdsmi_is_P2P_accessible", *pair)
        status = None if accessible is None else "OK" if accessible else "NS"
        p2p["read"][one][other] = p2p["write"][one][other] = status
        if xgmi is not None and joint.get("type") == xgmi:
            link[one][other], count[one][other], p2p["link"][one][other] = "XGMI", 1, status
        else:
            nodes = (gpus[one]["numa_node"], gpus[other]["numa_node"])
            link[one][other] = near.nearness(paths[one], paths[other], *nodes)
            p2p["link"][one][other] = "NS"
    return near.topology(gpus, link, count, p2p, ask.errors)


def _table(value: t.Any) -> t.Mapping[str, t.Any]:
    """An answer with several values; none in anything else, as in None or "N/A"."""
    return value if isinstance(value, dict) else {}


def _known(value: t.Any) -> t.Any:
    """amdsmi writes "N/A" for what a card does not tell."""
    return None if value == "N/A" else value
