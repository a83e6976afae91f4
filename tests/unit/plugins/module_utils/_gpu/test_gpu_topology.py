# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Islands and nearness of GPUs and network devices."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host, topology

# A GPU and a NIC at one switch, a device behind a second switch under it, one on a port of its own, and one elsewhere.
BRIDGE, PORT, UP = "pci0000:17", "0000:17:01.0", "0000:18:00.0"
GPU = (BRIDGE, PORT, UP, "0000:19:00.0", "0000:1a:00.0")
NIC = (BRIDGE, PORT, UP, "0000:19:01.0", "0000:1b:00.0")
NIC_PORT = (BRIDGE, PORT, UP, "0000:19:01.0", "0000:1b:00.1")
BEHIND = (BRIDGE, PORT, UP, "0000:19:02.0", "0000:1c:00.0", "0000:1d:00.0", "0000:1e:00.0")
ALONE = (BRIDGE, "0000:17:03.0", "0000:1f:00.0")
ELSEWHERE = ("pci0000:30", "0000:30:01.0", "0000:31:00.0")


@pytest.mark.parametrize(
    "first, second, nodes, expected",
    [
        (GPU, NIC, (0, 0), "PIX"),
        (NIC, NIC_PORT, (0, 0), "PIX"),
        (GPU, BEHIND, (0, 0), "PXB"),
        (GPU, ALONE, (0, 0), "PHB"),
        (GPU, ELSEWHERE, (0, 0), "NODE"),
        (GPU, ELSEWHERE, (None, None), "NODE"),
        (GPU, ELSEWHERE, (0, 1), "SYS"),
        (GPU, (), (0, 0), None),
        ((), NIC, (0, 0), None),
    ],
)
def test_nearness(first, second, nodes, expected):
    assert topology.nearness(first, second, *nodes) == expected
    assert topology.nearness(second, first, *reversed(nodes)) == expected


# The eight V100 of a DGX-1: each has links to four of the others.
CUBE = {(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 5), (2, 3), (2, 6), (3, 7)}
CUBE |= {(4, 5), (4, 6), (4, 7), (5, 6), (5, 7), (6, 7)}


@pytest.mark.parametrize(
    "members, joined, expected",
    [
        ([], set(), []),
        ([0, 1], set(), [[0], [1]]),
        ([0, 1, 2, 3], {(0, 2), (1, 3)}, [[0, 2], [1, 3]]),
        # Joined in a row is not joined every two.
        ([0, 1, 2], {(0, 1), (1, 2)}, [[0, 1], [2]]),
        (range(8), CUBE, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        # A lost card is no member.
        ([0, 2], {(0, 1), (1, 2), (0, 2)}, [[0, 2]]),
    ],
)
def test_islands(members, joined, expected):
    assert topology.islands(members, lambda one, other: tuple(sorted((one, other))) in joined) == expected


def square(value):
    return [["X", value], [value, "X"]]


@pytest.mark.parametrize(
    "count, link_status, read, write, link_islands, p2p_islands",
    [
        (4, "OK", "OK", "OK", [[0, 1]], [[0, 1]]),
        # A driver that does not tell about its links.
        (4, None, "OK", "OK", [[0, 1]], [[0, 1]]),
        (4, "NS", "NS", "NS", [[0], [1]], [[0], [1]]),
        (0, "NS", "OK", "CNS", [[0], [1]], [[0], [1]]),
        (0, None, None, None, [[0], [1]], [[0], [1]]),
    ],
)
def test_what_makes_an_island(count, link_status, read, write, link_islands, p2p_islands):
    gpus = [{"error": None}, {"error": None}]
    p2p = {"read": square(read), "write": square(write), "link": square(link_status)}
    found = topology.topology(gpus, square("?"), square(count), p2p, {"link": "why"})
    assert found["link_islands"] == link_islands and found["p2p_islands"] == p2p_islands
    assert found["field_errors"] == {"link": "why"}


def test_access_in_one_direction_is_no_island():
    p2p = {"read": [["X", "OK"], ["CNS", "X"]], "write": square("OK"), "link": square("NS")}
    found = topology.topology([{"error": None}] * 2, square("PHB"), square(0), p2p, {})
    assert found["p2p_islands"] == [[0], [1]]


def test_paths_of_sys(tmp_path):
    """Addresses become paths by way of the links in /sys/bus/pci/devices."""
    bus = tmp_path / "sys/bus/pci/devices"
    bus.mkdir(parents=True)
    for path in (GPU, NIC):
        folder = tmp_path.joinpath("sys/devices", *path)
        folder.mkdir(parents=True)
        (bus / path[-1]).symlink_to(folder)
    assert host.pci_path("00000000:1A:00.0", str(tmp_path)) == GPU
    assert host.pci_path("0000:77:00.0", str(tmp_path)) == () == host.pci_path(None, str(tmp_path))
    gpus = [{"pci_bus_id": "00000000:1A:00.0", "numa_node": 0}, {"pci_bus_id": None, "numa_node": None}]
    devices = [{"pci_bus_id": "0000:1b:00.0", "numa_node": 0}, {"pci_bus_id": None, "numa_node": None}]
    assert topology.near(gpus, devices, str(tmp_path)) == [["PIX", None], [None, None]]
