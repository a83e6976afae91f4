# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Network interfaces and InfiniBand (or RoCE) devices from /sys."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host

# RoCE ports have 256 places for a GID, and those in use are the first ones.
_GIDS = 16
_NO_GID = re.compile(r"[0:]*")
_IPV4_GID = "0000:0000:0000:0000:0000:ffff:"


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
