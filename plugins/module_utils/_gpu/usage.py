# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What is in use of a few NVIDIA GPUs right now, and by which processes: what is cheap to ask again and again."""

from __future__ import annotations

import contextlib
import importlib
import os
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host, nvml
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.reader import text


class Usage(t.NamedTuple):
    """Of one GPU or MIG device.

    used_bytes: as NVML counts, None when it does not tell. processes: bytes by process id of the host, None for a
    process whose bytes are not known; None when NVML lists no processes.
    """

    used_bytes: int | None
    processes: dict[int, int | None] | None


def usage(ids: t.Collection[str]) -> dict[str, Usage]:
    """The usage of the GPUs and MIG devices of these UUIDs; what NVML does not find is left out. Never raises."""
    try:
        pynvml = importlib.import_module("pynvml")
        pynvml.nvmlInit()
    except ImportError:
        return {}
    except pynvml.NVMLError:
        return {}
    try:
        return dict(_found(pynvml, set(ids)))
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def others(ids: t.Collection[str], container: str, root: str = "/") -> list[dict[str, t.Any]]:
    """The processes that hold memory of these GPUs and are not of this container, the largest first.

    container: its ID. used_bytes is None where the driver does not tell it; one that is gone by now is left out.
    """
    found = []
    for uuid, one in sorted(usage(ids).items()):
        for pid, size in sorted((one.processes or {}).items()):
            name = host.process_name(pid, root)
            # The kernel names the container in the path of the group that its processes are in.
            group = host.read_text(os.path.join(root, "proc", str(pid), "cgroup")) or ""
            if name is not None and not (container and container in group):
                found.append({"gpu": uuid, "pid": pid, "name": name, "used_bytes": size})
    return sorted(found, key=lambda one: -(one["used_bytes"] or 0))


def _found(pynvml: t.Any, ids: set[str]) -> t.Iterator[tuple[str, Usage]]:
    ask = nvml.new_reader(pynvml)
    for index in range(ask.call("count", "nvmlDeviceGetCount") or 0):
        card = ask.call("handle", "nvmlDeviceGetHandleByIndex", index)
        if card is None:
            continue
        uuid = text(ask.call("uuid", "nvmlDeviceGetUUID", card))
        if uuid in ids:
            yield uuid, _usage(ask, card)
        for part in nvml.mig_handles(pynvml, ask, card) if any(name.startswith("MIG-") for name in ids) else ():
            uuid = text(ask.call("uuid", "nvmlDeviceGetUUID", part))
            if uuid in ids:
                yield uuid, _usage(ask, part)


def _usage(ask: nvml.Reader, handle: t.Any) -> Usage:
    memory = ask.call("memory", "nvmlDeviceGetMemoryInfo", handle)
    listed = ask.call("processes", "nvmlDeviceGetComputeRunningProcesses", handle)
    return Usage(
        None if memory is None else int(memory.used),
        None if listed is None else {int(entry.pid): entry.usedGpuMemory for entry in listed},
    )
