# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""GPU facts through NVML, by way of NVIDIA's own binding (nvidia-ml-py, import name pynvml).

Absence of a GPU, of the driver or of the binding is a fact with a reason. A query that a card does not support is null.
Any other error of a query stays with its field (field_errors); only what makes the card unusable is its `error`.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host, nvml_health, nvml_links, reader
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.reader import Reader, as_bool, text

MINIMUM_BINDING = "nvidia-ml-py>=11.525.150"

# What NVML says where a process does not belong to a MIG instance.
_NO_INSTANCE = 0xFFFFFFFF
# nvmlMemory_v2 of nvml.h: size of the structure, and 2 in the highest byte.
_MEMORY_V2 = 0x02000028


def read(cards: t.Sequence[str], root: str = "/") -> dict[str, t.Any]:
    """NVIDIA's part of the facts: reason, driver_version, cuda_version, gpus and topology; never raises.

    cards: PCI addresses of NVIDIA's cards. root: where /proc and /sys are.
    """
    facts: dict[str, t.Any] = {
        "reason": None,
        "driver_version": host.kernel_module_version(root),
        "cuda_version": None,
        "gpus": [],
        "topology": None,
    }
    try:
        pynvml = importlib.import_module("pynvml")
    except ImportError:
        facts["reason"] = _no_binding(cards)
        return facts
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        facts["reason"] = _no_nvml(pynvml, error, cards, facts["driver_version"])
        return facts
    try:
        system = new_reader(pynvml)
        facts["driver_version"] = text(system.call("driver_version", "nvmlSystemGetDriverVersion"))
        facts["cuda_version"] = _cuda_version(system.call("cuda_version", "nvmlSystemGetCudaDriverVersion"))
        count = system.call("count", "nvmlDeviceGetCount") or 0
        handles, links = [], []
        for index in range(count):
            gpu, handle, wires = _gpu(pynvml, index, root)
            facts["gpus"].append(gpu)
            handles.append(handle)
            links.append(wires)
        facts["topology"] = nvml_links.topology(new_reader(pynvml), facts["gpus"], handles, links)
        if all(gpu["error"] for gpu in facts["gpus"]):
            facts["reason"] = _no_usable_gpu(facts["gpus"], system.errors)
    finally:
        # Everything has been read by now; a lost card can make the shutdown fail too.
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return facts


def new_reader(pynvml: t.Any) -> Reader:
    """One that asks NVML."""
    lost = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED)

    def judge(error: Exception) -> str:
        value = getattr(error, "value", None)
        if value == pynvml.NVML_ERROR_NOT_SUPPORTED:
            return reader.UNSUPPORTED
        return reader.LOST if value in lost else reader.FAILED

    return Reader(pynvml, MINIMUM_BINDING, judge)


def _gpu(pynvml: t.Any, index: int, root: str) -> tuple[dict[str, t.Any], t.Any, list[nvml_links.Link]]:
    """Facts of one card, its handle and its links; a card that cannot be used is listed with its error."""
    ask = new_reader(pynvml)
    gpu = reader.new_gpu(index, ask.errors)
    handle = ask.call("handle", "nvmlDeviceGetHandleByIndex", index)
    if handle is None:
        reason = ask.errors.pop("handle", "not supported")
        gpu["error"] = (
            _card_is_gone(ask.lost)
            if ask.lost
            else f"NVML gives no access to this card: {reason}. Read the kernel log (NVRM lines)."
        )
        return gpu, None, []
    gpu["uuid"] = text(ask.call("uuid", "nvmlDeviceGetUUID", handle))
    gpu["name"] = text(ask.call("name", "nvmlDeviceGetName", handle))
    gpu.update(_memory(ask, handle))
    # On GPUs that share the host's memory (GB10, Jetson) NVML does not support the query.
    gpu["memory_shared_with_host"] = gpu["memory_total_bytes"] is None and "memory" not in ask.errors
    capability = ask.call("compute_capability", "nvmlDeviceGetCudaComputeCapability", handle)
    if capability is not None:
        gpu["compute_capability"] = "{}.{}".format(*capability)
    pci = ask.call("pci_bus_id", "nvmlDeviceGetPciInfo", handle)
    if pci is not None:
        gpu["pci_bus_id"] = text(pci.busId)
        gpu["numa_node"] = host.numa_node(gpu["pci_bus_id"], root)
    gpu["persistence_mode"] = as_bool(ask.call("persistence_mode", "nvmlDeviceGetPersistenceMode", handle))
    ecc = ask.call("ecc_enabled", "nvmlDeviceGetEccMode", handle)  # [current, after the next reset]
    gpu["ecc_enabled"] = None if ecc is None else bool(ecc[0])
    mig = ask.call("mig_enabled", "nvmlDeviceGetMigMode", handle)  # [current, after the next reset]
    if mig is not None:
        gpu["mig_enabled"], gpu["mig_enabled_after_reset"] = bool(mig[0]), bool(mig[1])
    if gpu["mig_enabled"]:
        gpu["mig_devices"] = _mig_devices(pynvml, ask, handle)
    gpu["processes"] = _processes(ask, handle, root)
    gpu["health"].update(nvml_health.health(ask, handle))
    gpu["nvlink"], links = nvml_links.links(ask, handle)
    gpu["fabric"] = nvml_links.fabric(pynvml, ask, handle)
    if ask.lost:
        gpu["error"] = _card_is_gone(ask.lost)
    elif not gpu["uuid"] or (not gpu["memory_total_bytes"] and not gpu["memory_shared_with_host"]):
        gpu["error"] = "its UUID or memory size cannot be read: {}".format(
            "; ".join(ask.errors.get(field, "") for field in ("uuid", "memory") if field in ask.errors)
            or "the driver does not tell"
        )
    return gpu, handle, links


def _memory(ask: Reader, handle: t.Any) -> dict[str, int | None]:
    """Total, free and used bytes, what the driver keeps for itself (part of used), and what is left of the total.

    nvmlDeviceGetMemoryInfo counts the reserved bytes as used, its second version shows them apart; CUDA never has them.
    """
    memory = ask.call("memory", "nvmlDeviceGetMemoryInfo", handle)
    detail = None
    if memory is not None:
        detail = ask.call("memory_reserved", "nvmlDeviceGetMemoryInfo", handle, _MEMORY_V2)
    return {
        "memory_total_bytes": None if memory is None else int(memory.total),
        "memory_free_bytes": None if memory is None else int(memory.free),
        "memory_used_bytes": None if memory is None else int(memory.used),
        "memory_reserved_bytes": None if detail is None else int(detail.reserved),
        "memory_cuda_total_bytes": None if detail is None else int(detail.total) - int(detail.reserved),
    }


def _mig_devices(pynvml: t.Any, parent: Reader, handle: t.Any) -> list[dict[str, t.Any]]:
    """The MIG devices of a card."""
    devices = []
    for device in mig_handles(pynvml, parent, handle):
        ask = new_reader(pynvml)
        name = text(ask.call("name", "nvmlDeviceGetName", device))
        profile = re.search(r"\bMIG (\S+)", name or "")
        slices = ask.call("slices", "nvmlDeviceGetAttributes", device)
        devices.append(
            {
                "uuid": text(ask.call("uuid", "nvmlDeviceGetUUID", device)),
                "name": name,
                "profile": profile.group(1) if profile else None,
                "gpu_instance_id": ask.call("gpu_instance_id", "nvmlDeviceGetGpuInstanceId", device),
                "compute_instance_id": ask.call("compute_instance_id", "nvmlDeviceGetComputeInstanceId", device),
                "gpu_slices": None if slices is None else slices.gpuInstanceSliceCount,
                "compute_slices": None if slices is None else slices.computeInstanceSliceCount,
                "multiprocessors": None if slices is None else slices.multiprocessorCount,
                **_memory(ask, device),
                "field_errors": ask.errors,
            }
        )
    return devices


def mig_handles(pynvml: t.Any, parent: Reader, handle: t.Any) -> t.Iterator[t.Any]:
    """The handles of the MIG devices of a card. Slots without a device answer NOT_FOUND and are left out."""
    for slot in range(parent.call("mig_devices", "nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        try:
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_NOT_FOUND:
                parent.errors["mig_devices"] = f"slot {slot}: {error}"


def _processes(ask: Reader, handle: t.Any, root: str) -> list[dict[str, t.Any]] | None:
    """Processes that hold memory of the card; None when the driver does not tell.

    A process that computes and draws is in both of NVML's lists with the same figure. Process ids are the host's.
    """
    compute = ask.call("processes", "nvmlDeviceGetComputeRunningProcesses", handle)
    graphics = ask.call("processes", "nvmlDeviceGetGraphicsRunningProcesses", handle)
    if compute is None and graphics is None:
        return None
    # Drivers before 510 know no instances.
    found = {(entry.pid, getattr(entry, "gpuInstanceId", None)): entry for entry in (graphics or []) + (compute or [])}
    return [
        {
            "pid": pid,
            "name": host.process_name(pid, root),
            "used_bytes": found[pid, instance].usedGpuMemory,
            "gpu_instance_id": None if instance == _NO_INSTANCE else instance,
        }
        for pid, instance in sorted(found, key=lambda key: (key[0], -1 if key[1] is None else key[1]))
    ]


def _cuda_version(value: int | None) -> str | None:
    """NVML's 1000 * major + 10 * minor as "major.minor"; the newest CUDA that the driver supports."""
    return None if value is None else f"{value // 1000}.{value % 1000 // 10}"


def _card_is_gone(error: Exception) -> str:
    return (
        f"{error}: the card fell off the bus or needs a reset. Stop what uses it, look for Xid lines in the kernel "
        "log, and reset it or restart the host."
    )


def _seen(cards: t.Sequence[str]) -> str:
    if not cards:
        return "no NVIDIA card is on the PCI bus"
    return f"{len(cards)} NVIDIA card(s) are on the PCI bus ({', '.join(cards)})"


def _no_binding(cards: t.Sequence[str]) -> str:
    advice = f"Install {MINIMUM_BINDING} for that interpreter"
    return (
        f"The Python library nvidia-ml-py is not installed for {sys.executable}; {_seen(cards)}. "
        f"{advice}{'.' if cards else ' if this is a GPU host.'}"
    )


def _no_nvml(pynvml: t.Any, error: t.Any, cards: t.Sequence[str], kernel_module: str | None) -> str:
    """Why NVML did not start, and what to do."""
    advice = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
            "libnvidia-ml.so.1 was not found",
            "Install the NVIDIA driver; in a container, run it with the NVIDIA runtime."
            if cards or kernel_module
            else "This is a host without an NVIDIA GPU, or a container that sees none.",
        ),
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "the NVIDIA kernel module is not loaded",
            "Load it (modprobe nvidia) and read the kernel log if that fails: Secure Boot and a kernel update without "
            "a rebuilt module are the usual causes.",
        ),
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            f"the loaded kernel module ({kernel_module or 'unknown version'}) and libnvidia-ml.so.1 are of different "
            "driver versions",
            "The driver was updated while it was in use: restart the host, or unload and load the nvidia modules.",
        ),
        pynvml.NVML_ERROR_NO_PERMISSION: (
            "this user may not open the NVIDIA devices",
            "Check the mode and group of /dev/nvidia* and /dev/nvidiactl, or run the task with become.",
        ),
    }
    what, now = advice.get(error.value, ("NVML did not start", "Run nvidia-smi on this host and read the kernel log."))
    return f"{what} (NVML: {error}); {_seen(cards)}. {now}"


def _no_usable_gpu(gpus: t.Sequence[dict[str, t.Any]], errors: dict[str, str]) -> str:
    if gpus:
        return "No card is usable: {}".format("; ".join(f"GPU {gpu['index']}: {gpu['error']}" for gpu in gpus))
    if "count" in errors:
        return f"The NVIDIA driver runs, but the number of cards cannot be read: {errors['count']}."
    return "The NVIDIA driver runs, but sees no card: check the slot, the power, and what a container is given."
