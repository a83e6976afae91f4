# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""All GPU facts of a host, whoever made its cards."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import amd, host, kernel_log, network, nvml, topology


def gpu_facts(run: kernel_log.Run | None = None, root: str = "/") -> dict[str, t.Any]:
    """GPUs, how they are joined, network devices and the host as plain data; never raises.

    run: how a command is run, for the journal; None for never. root: where /proc, /sys and /dev are.
    """
    cards = host.cards_on_pci(root)
    # NVML is asked first and always: a container may see a card and no PCI bus.
    found = nvml.read(cards["nvidia"], root)
    vendor = "nvidia" if cards["nvidia"] or found["driver_version"] or found["gpus"] else None
    if vendor is None and cards["amd"]:
        vendor, found = "amd", amd.read(cards["amd"], root)
    gpus = found["gpus"]
    interfaces, infiniband = network.interfaces(root), network.infiniband(root)
    joined = found["topology"] or topology.topology([], [], [], {"read": [], "write": [], "link": []}, {})
    joined["interfaces"] = topology.near(gpus, interfaces, root)
    joined["infiniband"] = topology.near(gpus, infiniband, root)
    return {
        "available": any(gpu["error"] is None for gpu in gpus),
        "reason": found["reason"],
        "vendor": vendor,
        "driver_version": found["driver_version"],
        "cuda_version": found["cuda_version"],
        "gpus": gpus,
        "topology": joined,
        "kernel_log": _kernel_log(vendor, gpus, run, root),
        "interfaces": interfaces,
        "addresses": network.addresses(root),
        "infiniband": infiniband,
        "host": host.host_facts(root),
    }


def _kernel_log(
    vendor: str | None, gpus: t.Sequence[dict[str, t.Any]], run: kernel_log.Run | None, root: str
) -> dict[str, t.Any]:
    """Gives each card its Xid errors; the others, of cards that NVML does not list, stay here."""
    if vendor != "nvidia":
        return {"readable": None, "reason": "no NVIDIA card, and no other driver writes Xid errors", "other_xids": []}
    xids, reason = kernel_log.read(run, root)
    if xids is None:
        return {"readable": False, "reason": reason, "other_xids": []}
    own: set[str | None] = set()
    for gpu in gpus:
        address = host.pci_address(gpu["pci_bus_id"])
        if address:
            own.add(address)
            gpu["health"]["xids"] = [
                {name: entry[name] for name in ("code", "count", "last", "text")}
                for entry in xids
                if entry["pci_bus_id"] == address
            ]
    others = [entry for entry in xids if entry["pci_bus_id"] not in own]
    return {"readable": True, "reason": None, "other_xids": others}
