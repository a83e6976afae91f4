# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Network interfaces, their addresses, and InfiniBand (or RoCE) devices from /sys, /proc and the kernel's "
"interface list."""

from __future__ import annotations

import array
import ctypes
import fcntl
import ipaddress
import os
import re
import socket
import struct
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host

# RoCE ports have 256 places for a GID, and those in use are the first ones.
_GIDS = 16
_NO_GID = re.compile(r"[0:]*")
_IPV4_GID = "0000:0000:0000:0000:0000:ffff:"
# netdevice(7): requests, and the size of struct ifreq, which is a name of 16 bytes and a union with pointers.
_SIOCGIFCONF, _SIOCGIFNETMASK = 0x8912, 0x891B
_IFREQ_BYTES = 40 if ctypes.sizeof(ctypes.c_void_p) == 8 else 32
_MOST_ADDRESSES = 512

# (interface, address/prefix) of every IPv4 address.
Addresses = t.Callable[[], t.List[t.Tuple[str, str]]]


def interfaces(root: str = "/") -> list[dict[str, t.Any]]:
    """Network interfaces that are a device or a bond of some; bridges and a container's ends are left out."""
    base = os.path.join(root, "sys/class/net")
    found = []
    for name in host.names(base):
        folder = os.path.join(base, name)
        device = os.path.join(folder, "device")
        is_bond = os.path.isdir(os.path.join(folder, "bonding"))
        if not is_bond and not os.path.exists(device):
            continue
        speed = host.read_int(os.path.join(folder, "speed"))  # -1, or an error, while there is no link
        address = None if is_bond else host.pci_of(device)
        found.append(
            {
                "name": name,
                "kind": "bond" if is_bond else "device",
                "driver": _driver(device),
                "state": host.read_text(os.path.join(folder, "operstate")),
                "speed_mbps": speed if speed is not None and speed > 0 else None,
                "mtu": host.read_int(os.path.join(folder, "mtu")),
                "members": (host.read_text(os.path.join(folder, "bonding/slaves")) or "").split(),
                "pci_bus_id": address,
                "numa_node": host.numa_node(address, root),
            }
        )
    return found


def addresses(root: str = "/", ipv4: Addresses | None = None) -> list[dict[str, t.Any]]:
    """Addresses at which other hosts may reach this one: of devices, and of bonds, VLANs and bridges over a device.

    A container engine's own bridges are left out, for every host has them with the same addresses, and nobody is there.
    """
    base = os.path.join(root, "sys/class/net")
    found = []
    for name, address in [*(ipv4 or _ipv4)(), *_ipv6(root)]:
        interface = name.partition(":")[0]  # eth0:1 is a second address of eth0
        if not _stands_on_device(base, interface):
            continue
        speed = host.read_int(os.path.join(base, interface, "speed"))
        found.append({"interface": interface, "address": address, "speed_mbps": speed if speed and speed > 0 else None})
    return found


def _stands_on_device(base: str, interface: str, depth: int = 4) -> bool:
    """Whether a device of the host is at the bottom of the interface."""
    folder = os.path.join(base, interface)
    if os.path.exists(os.path.join(folder, "device")):
        return True
    lower = [name[len("lower_") :] for name in host.names(folder) if name.startswith("lower_")]
    return depth > 0 and any(_stands_on_device(base, one, depth - 1) for one in lower)


def _ipv4() -> list[tuple[str, str]]:
    """What SIOCGIFCONF and SIOCGIFNETMASK tell; nothing where the kernel has no IPv4."""
    room = array.array("B", bytes(_IFREQ_BYTES * _MOST_ADDRESSES))
    place, size = room.buffer_info()
    found = []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            answer = fcntl.ioctl(handle, _SIOCGIFCONF, struct.pack("iP", size, place))
            used = struct.unpack("iP", answer)[0]
            for start in range(0, used, _IFREQ_BYTES):
                entry = room[start : start + _IFREQ_BYTES].tobytes()
                mask = fcntl.ioctl(handle, _SIOCGIFNETMASK, entry)
                prefix = bin(int.from_bytes(mask[20:24], "big")).count("1")
                found.append((entry[:16].split(b"\0")[0].decode(), f"{socket.inet_ntoa(entry[20:24])}/{prefix}"))
    except OSError:
        return found
    return found


def _ipv6(root: str) -> list[tuple[str, str]]:
    """Global addresses of /proc/net/if_inet6: address, index, prefix, scope, flags, name."""
    found = []
    for line in (host.read_text(os.path.join(root, "proc/net/if_inet6")) or "").splitlines():
        parts = line.split()
        if len(parts) == 6 and parts[3] == "00":
            found.append((parts[5], f"{ipaddress.IPv6Address(int(parts[0], 16))}/{int(parts[2], 16)}"))
    return found


def infiniband(root: str = "/") -> list[dict[str, t.Any]]:
    """The ports of RDMA devices, one entry each."""
    base = os.path.join(root, "sys/class/infiniband")
    found = []
    for name in host.names(base):
        device = os.path.join(base, name, "device")
        address = host.pci_of(device)
        ports = os.path.join(base, name, "ports")
        for port in sorted(filter(str.isdigit, host.names(ports)), key=int):
            folder = os.path.join(ports, port)
            gids = _gids(folder)
            found.append(
                {
                    "device": name,
                    "port": int(port),
                    "driver": _driver(device),
                    "state": _after_colon(host.read_text(os.path.join(folder, "state"))),
                    "rate_gbps": _rate(host.read_text(os.path.join(folder, "rate"))),
                    "link_layer": host.read_text(os.path.join(folder, "link_layer")),
                    "gid_present": bool(gids),
                    "roce_v2_ipv4_gids": [at for at, gid in gids.items() if _is_roce_v2_ipv4(folder, at, gid)],
                    "interfaces": host.names(os.path.join(device, "net")),
                    "pci_bus_id": address,
                    "numa_node": host.numa_node(address, root),
                }
            )
    return found


def _driver(device: str) -> str | None:
    link = os.path.join(device, "driver")
    return os.path.basename(os.path.realpath(link)) if os.path.exists(link) else None


def _after_colon(state: str | None) -> str | None:
    """ACTIVE of "4: ACTIVE"."""
    return None if state is None else state.rpartition(":")[2].strip()


def _rate(rate: str | None) -> float | None:
    """400 of "400 Gb/sec (4X NDR)"."""
    found = re.match(r"(\d+(?:\.\d+)?) Gb/sec", rate or "")
    return float(found.group(1)) if found else None


def _gids(port: str) -> dict[int, str]:
    """The GIDs of a port that are set, by place."""
    read = {at: host.read_text(os.path.join(port, "gids", str(at))) for at in range(_GIDS)}
    return {at: gid for at, gid in read.items() if gid and not _NO_GID.fullmatch(gid)}


def _is_roce_v2_ipv4(port: str, at: int, gid: str) -> bool:
    kind = host.read_text(os.path.join(port, "gid_attrs/types", str(at)))
    return kind == "RoCE v2" and gid.startswith(_IPV4_GID)
