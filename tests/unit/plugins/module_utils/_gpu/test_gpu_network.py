# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network interfaces and InfiniBand ports from a made-up /sys."""

from __future__ import annotations

import os

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import network


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.fixture
def root(tmp_path):
    """Two ports of a ConnectX card, one InfiniBand and one RoCE; a virtio card; a bond, a bridge and a veth."""
    sys = tmp_path / "sys"
    drivers = {name: sys / "bus/drivers" / name for name in ("mlx5_core", "virtio_net")}
    for folder in drivers.values():
        folder.mkdir(parents=True)
    for address, node in (("0000:5e:00.0", "0"), ("0000:5e:00.1", "0"), ("0000:00:03.0", "-1")):
        device = sys / "devices/pci0000:5d" / address
        write(device / "numa_node", node)
        (device / "driver").symlink_to(drivers["mlx5_core"])
        link = sys / "bus/pci/devices" / address
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(device)
    virtio = sys / "devices/pci0000:5d/0000:00:03.0/virtio0"
    virtio.mkdir()
    (virtio / "driver").symlink_to(drivers["virtio_net"])
    card = sys / "devices/pci0000:5d"

    interface(sys, "ens1f1np1", card / "0000:5e:00.1", operstate="up", speed="100000", mtu="9000")
    interface(sys, "eth0", virtio, operstate="up", speed="-1", mtu="1500")
    interface(sys, "eth1", card / "0000:5e:00.0", operstate="down", mtu="1500")
    interface(sys, "veth12ab", None, operstate="up", speed="10000", mtu="1500")
    interface(sys, "bond0", None, operstate="up", speed="200000", mtu="9000")
    write(sys / "class/net/bond0/bonding/slaves", "ens1f1np1 eth1")

    port(sys, "mlx5_0", card / "0000:5e:00.0", "4: ACTIVE", "400 Gb/sec (4X NDR)", "InfiniBand")
    write(sys / "class/infiniband/mlx5_0/ports/1/gids/0", "fe80:0000:0000:0000:0002:c903:00ea:3a51")
    port(sys, "mlx5_1", card / "0000:5e:00.1", "4: ACTIVE", "100 Gb/sec (4X EDR)", "Ethernet")
    (card / "0000:5e:00.1/net/ens1f1np1").mkdir(parents=True)
    for at, gid, kind in (
        (0, "fe80:0000:0000:0000:0ac0:ebff:fe12:3456", "IB/RoCE v1"),
        (1, "fe80:0000:0000:0000:0ac0:ebff:fe12:3456", "RoCE v2"),
        (2, "0000:0000:0000:0000:0000:ffff:0a00:0005", "IB/RoCE v1"),
        (3, "0000:0000:0000:0000:0000:ffff:0a00:0005", "RoCE v2"),
        (4, "0000:0000:0000:0000:0000:0000:0000:0000", "RoCE v2"),
    ):
        write(sys / f"class/infiniband/mlx5_1/ports/1/gids/{at}", gid)
        write(sys / f"class/infiniband/mlx5_1/ports/1/gid_attrs/types/{at}", kind)
    port(sys, "mlx5_10", card / "0000:5e:00.0", "1: DOWN", "2.5 Gb/sec (1X SDR)", "InfiniBand")
    write(sys / "class/infiniband/mlx5_10/ports/1/gids/0", "0000:0000:0000:0000:0000:0000:0000:0000")
    return str(tmp_path)


def interface(sys, name, device, **values):
    folder = sys / "class/net" / name
    for value, text in values.items():
        write(folder / value, text)
    if device:
        (folder / "device").symlink_to(device)


def port(sys, name, device, state, rate, layer):
    folder = sys / "class/infiniband" / name
    write(folder / "ports/1/state", state)
    write(folder / "ports/1/rate", rate)
    write(folder / "ports/1/link_layer", layer)
    (folder / "device").symlink_to(device)


def test_interfaces(root):
    bond, fast, virtual, down = network.interfaces(root)
    assert [entry["name"] for entry in (bond, fast, virtual, down)] == ["bond0", "ens1f1np1", "eth0", "eth1"]
    assert fast == {
        "name": "ens1f1np1",
        "kind": "device",
        "driver": "mlx5_core",
        "state": "up",
        "speed_mbps": 100000,
        "mtu": 9000,
        "members": [],
        "pci_bus_id": "0000:5e:00.1",
        "numa_node": 0,
    }
    assert (bond["kind"], bond["members"], bond["speed_mbps"]) == ("bond", ["ens1f1np1", "eth1"], 200000)
    assert (bond["pci_bus_id"], bond["driver"], bond["numa_node"]) == (None, None, None)
    # A virtio device is a function below its PCI device.
    assert (virtual["driver"], virtual["pci_bus_id"]) == ("virtio_net", "0000:00:03.0")
    assert virtual["speed_mbps"] is None and virtual["numa_node"] is None
    assert (down["state"], down["speed_mbps"]) == ("down", None)


def test_infiniband(root):
    ib, roce, down = network.infiniband(root)
    assert roce == {
        "device": "mlx5_1",
        "port": 1,
        "driver": "mlx5_core",
        "state": "ACTIVE",
        "rate_gbps": 100.0,
        "link_layer": "Ethernet",
        "gid_present": True,
        "roce_v2_ipv4_gids": [3],
        "interfaces": ["ens1f1np1"],
        "pci_bus_id": "0000:5e:00.1",
        "numa_node": 0,
    }
    assert (ib["device"], ib["link_layer"], ib["rate_gbps"]) == ("mlx5_0", "InfiniBand", 400.0)
    assert ib["gid_present"] is True and ib["roce_v2_ipv4_gids"] == []
    assert (down["device"], down["state"], down["rate_gbps"], down["gid_present"]) == ("mlx5_10", "DOWN", 2.5, False)


def test_a_host_without_a_network(tmp_path):
    assert network.interfaces(str(tmp_path)) == [] == network.infiniband(str(tmp_path))


def test_addresses_stand_on_a_device(root):
    sys = root + "/sys/class/net/"
    for name, lower in (("bond0", "ens1f1np1"), ("bond0.12", "bond0"), ("br0", "bond0.12"), ("docker0", "veth12ab")):
        os.makedirs(sys + name, exist_ok=True)
        os.symlink("../" + lower, f"{sys}{name}/lower_{lower}")
    os.makedirs(root + "/proc/net")
    with open(root + "/proc/net/if_inet6", "w") as table:
        table.write("fd000000000000000000000000000002 02 40 00 80     eth0\n")
        table.write("fe800000000000000000000000000002 02 40 20 80     eth0\n")
    given = [
        ("lo", "127.0.0.1/8"),
        ("br0", "10.0.0.5/24"),
        ("docker0", "172.17.0.1/16"),
        ("ens1f1np1", "10.1.0.5/24"),
        ("ens1f1np1:1", "10.1.0.6/24"),
    ]
    assert network.addresses(root, lambda: given) == [
        {"interface": "br0", "address": "10.0.0.5/24", "speed_mbps": None},
        {"interface": "ens1f1np1", "address": "10.1.0.5/24", "speed_mbps": 100000},
        {"interface": "ens1f1np1", "address": "10.1.0.6/24", "speed_mbps": 100000},
        {"interface": "eth0", "address": "fd00::2/64", "speed_mbps": None},
    ]


def test_this_machine_has_a_loopback_address():
    assert ("lo", "127.0.0.1/8") in network._ipv4()
