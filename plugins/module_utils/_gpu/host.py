# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What surely can be read of the host from /proc and /sys, without any library."""

from __future__ import annotations

import os
import re
import typing as t

# PCI vendor of NVIDIA, and the PCI class (first byte) of display controllers.
_NVIDIA_PCI_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"
_KERNEL_MODULE_VERSION = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)")


def read_text(path: str) -> str | None:
    """The text of a small kernel file, None when it is not there or not readable."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read(1 << 20).strip()
    except OSError:
        return None


def host_facts(root: str = "/") -> dict[str, t.Any]:
    """Memory (bytes) and logical CPUs of the host; null for what /proc does not tell."""
    memory: dict[str, int] = {}
    for line in (read_text(os.path.join(root, "proc/meminfo")) or "").splitlines():
        name, _colon, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            memory[name] = int(words[0]) * 1024  # the kernel's kB are KiB
    cpus = re.findall(r"^cpu\d+ ", read_text(os.path.join(root, "proc/stat")) or "", re.MULTILINE)
    return {
        "memory_total_bytes": memory.get("MemTotal"),
        "memory_available_bytes": memory.get("MemAvailable"),
        "cpu_count": len(cpus) or None,
    }


def nvidia_cards_on_pci(root: str = "/") -> list[str]:
    """PCI addresses of NVIDIA display controllers, which show whether or not a driver is installed."""
    base = os.path.join(root, "sys/bus/pci/devices")
    try:
        addresses = sorted(os.listdir(base))
    except OSError:
        return []
    return [
        address
        for address in addresses
        if read_text(os.path.join(base, address, "vendor")) == _NVIDIA_PCI_VENDOR
        and (read_text(os.path.join(base, address, "class")) or "").startswith(_DISPLAY_CLASS)
    ]


def kernel_module_version(root: str = "/") -> str | None:
    """Version of the NVIDIA kernel module that is loaded, None when there is none."""
    found = _KERNEL_MODULE_VERSION.search(read_text(os.path.join(root, "proc/driver/nvidia/version")) or "")
    return found.group(1) if found else None


def numa_node(pci_bus_id: str | None, root: str = "/") -> int | None:
    """NUMA node of the host that a card hangs on; None on hosts without NUMA (the kernel says -1).

    NVML writes the PCI domain with 8 hexadecimal digits, the kernel with 4.
    """
    parts = (pci_bus_id or "").lower().split(":")
    try:
        address = f"{int(parts[0], 16):04x}:{parts[1]}:{parts[2]}"
        node = int(read_text(os.path.join(root, "sys/bus/pci/devices", address, "numa_node")) or "-1")
    except (ValueError, IndexError):
        return None
    return node if node >= 0 else None
