# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Which GPUs and network devices are near each other: matrices and islands. Pure, but for the paths in /sys."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host

SELF = "X"
Matrix = t.List[t.List[t.Any]]


def square(size: int, value: t.Any = None) -> Matrix:
    """A matrix of GPU by GPU with SELF on its diagonal."""
    return [[SELF if row == column else value for column in range(size)] for row in range(size)]


def pairs(size: int) -> t.Iterator[tuple[int, int]]:
    """Every ordered pair of two different places."""
    return ((one, other) for one in range(size) for other in range(size) if one != other)


def nearness(
    first: t.Sequence[str], second: t.Sequence[str], first_node: int | None = None, second_node: int | None = None
) -> str | None:
    """How two PCI devices reach each other, in the words of nvidia-smi topo; None where the way is unknown.

    PIX: through one PCIe switch at most; PXB: through several; PHB: through a host bridge; NODE: through several host
    bridges of one NUMA node; SYS: through the link between NUMA nodes. first, second: of host.pci_path.
    """
    if not first or not second:
        return None
    shared = 0
    for one, other in zip(first, second):
        if one != other:
            break
        shared += 1
    if shared > 1:
        # What is left below the shared bridge: the ports of the switch and the devices themselves.
        below = max(len(first), len(second)) - shared
        return "PIX" if below <= 2 else "PXB"
    if shared == 1:
        return "PHB"
    return "NODE" if first_node == second_node else "SYS"


def near(gpus: t.Sequence[dict[str, t.Any]], devices: t.Sequence[dict[str, t.Any]], root: str) -> Matrix:
    """One row a GPU, one column a network device."""
    there = [(host.pci_path(device["pci_bus_id"], root), device["numa_node"]) for device in devices]
    rows = []
    for gpu in gpus:
        path = host.pci_path(gpu["pci_bus_id"], root)
        rows.append([nearness(path, other, gpu["numa_node"], node) for other, node in there])
    return rows


def islands(members: t.Sequence[int], joined: t.Callable[[int, int], bool]) -> list[list[int]]:
    """Sets of which every two members are joined; every member is in one of them, perhaps alone."""
    found: list[list[int]] = []
    for member in members:
        home = next((island for island in found if all(joined(member, other) for other in island)), None)
        if home is None:
            found.append([member])
        else:
            home.append(member)
    return found


def topology(
    gpus: t.Sequence[dict[str, t.Any]],
    link: Matrix,
    link_count: Matrix,
    p2p: t.Mapping[str, Matrix],
    field_errors: t.Mapping[str, str],
) -> dict[str, t.Any]:
    """The matrices and the islands that follow from them, over the cards that can be used.

    link_count: direct links of every two GPUs (NVLink, XGMI). p2p: read, write and link; "OK" where it works.
    """
    usable = [at for at, gpu in enumerate(gpus) if gpu["error"] is None]

    def linked(one: int, other: int) -> bool:
        # A link that the driver does not use is no link: without Fabric Manager the links to the switches are up too.
        return bool(link_count[one][other]) and p2p["link"][one][other] in ("OK", None)

    def peers(one: int, other: int) -> bool:
        return all(p2p[way][a][b] == "OK" for way in ("read", "write") for a, b in ((one, other), (other, one)))

    return {
        "link": link,
        "link_count": link_count,
        "p2p_read": p2p["read"],
        "p2p_write": p2p["write"],
        "p2p_link": p2p["link"],
        "link_islands": islands(usable, linked),
        "p2p_islands": islands(usable, peers),
        "field_errors": dict(field_errors),
    }
