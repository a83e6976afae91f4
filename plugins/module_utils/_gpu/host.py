# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What surely can be read of the host from /proc and /sys, without any library."""

from __future__ import annotations

import os
import re
import typing as t

# PCI vendors of GPUs, and the PCI classes (first byte) of display controllers and of processing accelerators, which is
# what AMD's Instinct cards are.
_VENDORS = {"0x10de": "nvidia", "0x1002": "amd"}
_GPU_CLASSES = {"nvidia": ("0x03",), "amd": ("0x03", "0x12")}
_KERNEL_MODULE_VERSION = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)")
_HOST_BRIDGE = re.compile(r"pci[0-9a-f]{4,}:[0-9a-f]{2}")
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def read_text(path: str) -> str | None:
    """The text of a small kernel file, None when it is not there or not readable."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read(1 << 20).strip()
    except OSError:
        return None


def read_int(path: str) -> int | None:
    """The number in a kernel file, None when there is none."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None


def names(path: str) -> list[str]:
    """The entries of a folder in order; none when it is not there."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def host_facts(root: str = "/") -> dict[str, t.Any]:
    """Memory (bytes), logical CPUs and NUMA nodes of the host; null for what the kernel does not tell."""
    memory = _memory(os.path.join(root, "proc/meminfo"))
    cpus = re.findall(r"^cpu\d+ ", read_text(os.path.join(root, "proc/stat")) or "", re.MULTILINE)
    return {
        "memory_total_bytes": memory.get("MemTotal"),
        "memory_available_bytes": memory.get("MemAvailable"),
        "cpu_count": len(cpus) or None,
        "numa_nodes": _numa_nodes(root),
    }


def _memory(path: str) -> dict[str, int]:
    """Bytes by name, of the kernel's lines "Name: 123 kB" and "Node 0 Name: 123 kB"."""
    found = re.findall(r"^(?:Node \d+ )?(\w+):\s+(\d+) kB$", read_text(path) or "", re.MULTILINE)
    return {name: int(size) * 1024 for name, size in found}  # the kernel's kB are KiB


def _numa_nodes(root: str) -> list[dict[str, t.Any]]:
    base = os.path.join(root, "sys/devices/system/node")
    nodes = sorted(int(name[4:]) for name in names(base) if re.fullmatch(r"node\d+", name))
    return [
        {
            "id": node,
            "cpus": read_text(os.path.join(base, f"node{node}/cpulist")),
            "memory_total_bytes": _memory(os.path.join(base, f"node{node}/meminfo")).get("MemTotal"),
        }
        for node in nodes
    ]


def cards_on_pci(root: str = "/") -> dict[str, list[str]]:
    """PCI addresses of GPUs by vendor, which show whether or not a driver is installed."""
    base = os.path.join(root, "sys/bus/pci/devices")
    cards: dict[str, list[str]] = {vendor: [] for vendor in _VENDORS.values()}
    for address in names(base):
        vendor = _VENDORS.get(read_text(os.path.join(base, address, "vendor")) or "")
        if vendor and (read_text(os.path.join(base, address, "class")) or "").startswith(_GPU_CLASSES[vendor]):
            cards[vendor].append(address)
    return cards


def kernel_module_version(root: str = "/") -> str | None:
    """Version of the NVIDIA kernel module that is loaded, None when there is none."""
    found = _KERNEL_MODULE_VERSION.search(read_text(os.path.join(root, "proc/driver/nvidia/version")) or "")
    return found.group(1) if found else None


def pci_address(bus_id: str | None) -> str | None:
    """A PCI address as the kernel writes it, None for anything else.

    NVML writes the domain with 8 hexadecimal digits in capitals, the kernel with 4; its log leaves the function out.
    """
    address = (bus_id or "").strip().lower()
    if "." not in address:
        address += ".0"
    if not _PCI_ADDRESS.fullmatch(address):
        return None
    domain, _colon, rest = address.partition(":")
    return f"{int(domain, 16):04x}:{rest}"


def numa_node(bus_id: str | None, root: str = "/") -> int | None:
    """NUMA node of the host that a PCI device hangs on; None on hosts without NUMA (the kernel says -1)."""
    address = pci_address(bus_id)
    node = read_int(os.path.join(root, "sys/bus/pci/devices", address, "numa_node")) if address else None
    return node if node is not None and node >= 0 else None


def pci_path(bus_id: str | None, root: str = "/") -> tuple[str, ...]:
    """The way from the host bridge to a PCI device: ("pci0000:17", port, ..., device); empty when unknown."""
    address = pci_address(bus_id)
    link = os.path.join(root, "sys/bus/pci/devices", address or "")
    if not address or not os.path.exists(link):
        return ()
    parts = os.path.realpath(link).split(os.sep)
    bridge = next((at for at, part in enumerate(parts) if _HOST_BRIDGE.fullmatch(part)), None)
    return () if bridge is None else tuple(parts[bridge:])


def pci_of(device: str) -> str | None:
    """PCI address of the device that a folder of /sys stands for, which may be a function below it (virtio0)."""
    parts = os.path.realpath(device).split(os.sep)
    return next((part for part in reversed(parts) if _PCI_ADDRESS.fullmatch(part)), None)


def process_name(pid: int, root: str = "/") -> str | None:
    """The kernel's name of a process (15 characters), never its command line, which may hold secrets."""
    return read_text(os.path.join(root, "proc", str(pid), "comm"))
