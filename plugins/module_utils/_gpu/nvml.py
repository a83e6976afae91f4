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
import sys
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host

MINIMUM_BINDING = "nvidia-ml-py>=11.525.150"

T = t.TypeVar("T")


def gpu_facts(pynvml: t.Any = None, root: str = "/") -> dict[str, t.Any]:
    """All GPU facts of this host as plain data; never raises.

    pynvml: the binding; imported here when None. root: where /proc and /sys are.
    """
    facts: dict[str, t.Any] = {
        "available": False,
        "reason": None,
        "vendor": None,
        "driver_version": host.kernel_module_version(root),
        "cuda_version": None,
        "gpus": [],
        "host": host.host_facts(root),
    }
    cards = host.nvidia_cards_on_pci(root)
    if cards or facts["driver_version"]:
        facts["vendor"] = "nvidia"
    if pynvml is None:
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
        reader = _Reader(pynvml, {})
        facts["driver_version"] = _text(reader.read("driver_version", pynvml.nvmlSystemGetDriverVersion))
        facts["cuda_version"] = _cuda_version(reader.read("cuda_version", pynvml.nvmlSystemGetCudaDriverVersion))
        count = reader.read("count", pynvml.nvmlDeviceGetCount) or 0
        facts["gpus"] = [_gpu(pynvml, index, root) for index in range(count)]
        if count:
            facts["vendor"] = "nvidia"
        facts["available"] = any(gpu["error"] is None for gpu in facts["gpus"])
        if not facts["available"]:
            facts["reason"] = _no_usable_gpu(facts["gpus"], reader.errors)
    finally:
        # Everything has been read by now; a lost card can make the shutdown fail too.
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return facts


class _Reader:
    """Calls NVML functions, one field each, and keeps each error with its field."""

    def __init__(self, pynvml: t.Any, errors: dict[str, str]) -> None:
        self._pynvml = pynvml
        self.errors = errors
        self.fatal: str | None = None

    def read(self, field: str, function: t.Callable[..., T], *args: t.Any) -> T | None:
        """The function's value; None when the card does not support the query or the query failed."""
        pynvml = self._pynvml
        try:
            return function(*args)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_NOT_SUPPORTED:
                return None
            if error.value in (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED):
                self.fatal = _card_is_gone(error)
            self.errors[field] = str(error)
        except Exception as error:
            # The binding wraps a symbol that the driver lacks in NVMLLibraryMismatchError, a bare Exception subclass
            # that not all versions have, and lets the decoding error of a broken name through.
            self.errors[field] = str(error)
        return None

    def call(self, field: str, name: str, *args: t.Any) -> t.Any:
        """As read, for a function that older bindings lack."""
        function = getattr(self._pynvml, name, None)
        if function is None:
            self.errors[field] = f"the installed nvidia-ml-py has no {name}; install {MINIMUM_BINDING}"
            return None
        return self.read(field, function, *args)


def _gpu(pynvml: t.Any, index: int, root: str) -> dict[str, t.Any]:
    """Facts of one card; a card that cannot be used is listed with its error."""
    reader = _Reader(pynvml, {})
    gpu: dict[str, t.Any] = {
        "index": index,
        "uuid": None,
        "name": None,
        "memory_total_bytes": None,
        "memory_free_bytes": None,
        "memory_used_bytes": None,
        "compute_capability": None,
        "pci_bus_id": None,
        "numa_node": None,
        "persistence_mode": None,
        "ecc_enabled": None,
        "mig_enabled": False,
        "mig_devices": [],
        "processes": None,
        "field_errors": reader.errors,
        "error": None,
    }
    handle = reader.call("handle", "nvmlDeviceGetHandleByIndex", index)
    if handle is None:
        reason = reader.errors.pop("handle", "not supported")
        gpu["error"] = reader.fatal or f"NVML gives no access to this card: {reason}. Read the kernel log (NVRM lines)."
        return gpu
    gpu["uuid"] = _text(reader.call("uuid", "nvmlDeviceGetUUID", handle))
    gpu["name"] = _text(reader.call("name", "nvmlDeviceGetName", handle))
    gpu.update(_memory(reader, handle))
    capability = reader.call("compute_capability", "nvmlDeviceGetCudaComputeCapability", handle)
    if capability is not None:
        gpu["compute_capability"] = "{}.{}".format(*capability)
    pci = reader.call("pci_bus_id", "nvmlDeviceGetPciInfo", handle)
    if pci is not None:
        gpu["pci_bus_id"] = _text(pci.busId)
        gpu["numa_node"] = host.numa_node(gpu["pci_bus_id"], root)
    persistence = reader.call("persistence_mode", "nvmlDeviceGetPersistenceMode", handle)
    gpu["persistence_mode"] = None if persistence is None else bool(persistence)
    ecc = reader.call("ecc_enabled", "nvmlDeviceGetEccMode", handle)  # [current, after the next reset]
    gpu["ecc_enabled"] = None if ecc is None else bool(ecc[0])
    mig = reader.call("mig_enabled", "nvmlDeviceGetMigMode", handle)  # [current, after the next reset]
    gpu["mig_enabled"] = bool(mig and mig[0])
    if gpu["mig_enabled"]:
        gpu["mig_devices"] = _mig_devices(pynvml, reader, handle)
    gpu["processes"] = _processes(reader, handle)
    if reader.fatal:
        gpu["error"] = reader.fatal
    elif not gpu["uuid"] or not gpu["memory_total_bytes"]:
        gpu["error"] = "its UUID or memory size cannot be read: {}".format(
            "; ".join(reader.errors.get(field, "") for field in ("uuid", "memory") if field in reader.errors)
            or "the driver does not tell"
        )
    return gpu


def _memory(reader: _Reader, handle: t.Any) -> dict[str, int | None]:
    """Total, free and used bytes. Used includes what the driver keeps for itself."""
    memory = reader.call("memory", "nvmlDeviceGetMemoryInfo", handle)
    return {
        "memory_total_bytes": None if memory is None else int(memory.total),
        "memory_free_bytes": None if memory is None else int(memory.free),
        "memory_used_bytes": None if memory is None else int(memory.used),
    }


def _mig_devices(pynvml: t.Any, parent: _Reader, handle: t.Any) -> list[dict[str, t.Any]]:
    """The MIG devices of a card. Slots without a device answer NOT_FOUND and are left out."""
    devices = []
    for slot in range(parent.call("mig_devices", "nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        try:
            device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_NOT_FOUND:
                parent.errors["mig_devices"] = f"slot {slot}: {error}"
            continue
        reader = _Reader(pynvml, {})
        entry: dict[str, t.Any] = {
            "uuid": _text(reader.call("uuid", "nvmlDeviceGetUUID", device)),
            "name": _text(reader.call("name", "nvmlDeviceGetName", device)),
            "gpu_instance_id": reader.call("gpu_instance_id", "nvmlDeviceGetGpuInstanceId", device),
            "compute_instance_id": reader.call("compute_instance_id", "nvmlDeviceGetComputeInstanceId", device),
            "field_errors": reader.errors,
        }
        entry.update(_memory(reader, device))
        devices.append(entry)
    return devices


def _processes(reader: _Reader, handle: t.Any) -> list[dict[str, t.Any]] | None:
    """Processes that hold memory of the card; None when the driver does not tell.

    A process that computes and draws is in both of NVML's lists with the same figure. Process ids are the host's.
    """
    compute = reader.call("processes", "nvmlDeviceGetComputeRunningProcesses", handle)
    graphics = reader.call("processes", "nvmlDeviceGetGraphicsRunningProcesses", handle)
    if compute is None and graphics is None:
        return None
    used = {process.pid: process.usedGpuMemory for process in (graphics or []) + (compute or [])}
    return [{"pid": pid, "used_bytes": used[pid]} for pid in sorted(used)]


def _text(value: str | bytes | None) -> str | None:
    """Bindings before 11.515 return bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _cuda_version(value: int | None) -> str | None:
    """NVML's 1000 * major + 10 * minor as "major.minor"; the newest CUDA that the driver supports."""
    return None if value is None else f"{value // 1000}.{value % 1000 // 10}"


def _card_is_gone(error: Exception) -> str:
    return (
        f"{error}: the card fell off the bus or needs a reset. Stop what uses it, look for Xid lines in the kernel "
        "log, and reset it or restart the host."
    )


def _seen(cards: list[str]) -> str:
    if not cards:
        return "no NVIDIA card is on the PCI bus"
    return f"{len(cards)} NVIDIA card(s) are on the PCI bus ({', '.join(cards)})"


def _no_binding(cards: list[str]) -> str:
    advice = f"Install {MINIMUM_BINDING} for that interpreter"
    return (
        f"The Python library nvidia-ml-py is not installed for {sys.executable}; {_seen(cards)}. "
        f"{advice}{'.' if cards else ' if this is a GPU host.'}"
    )


def _no_nvml(pynvml: t.Any, error: t.Any, cards: list[str], kernel_module: str | None) -> str:
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


def _no_usable_gpu(gpus: list[dict[str, t.Any]], errors: dict[str, str]) -> str:
    if gpus:
        return "No card is usable: {}".format("; ".join(f"GPU {gpu['index']}: {gpu['error']}" for gpu in gpus))
    if "count" in errors:
        return f"The NVIDIA driver runs, but the number of cards cannot be read: {errors['count']}."
    return "The NVIDIA driver runs, but sees no card: check the slot, the power, and what a container is given."
