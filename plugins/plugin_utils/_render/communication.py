# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NCCL, Gloo and vLLM must be told of a host's GPUs and networks, only where they don't find it themselves. Pure.

NCCL finds NVLink, peer access over PCIe and InfiniBand by itself, and passes to shared memory or sockets where the
driver reports none, so that on one host almost nothing is set. Nothing that switches one of them off is ever set here.
What each variable is for stands beside it, with the place where its reader reads it; names are those of the release's
own NCCL.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Invalid, Problem

_Fact = t.Mapping[str, t.Any]
_ACTIVE = "ACTIVE"


@dataclasses.dataclass(frozen=True)
class Link:
    """How a host of several is reached by the others.

    env: variables of every process there; because: what each is for, by name; infiniband: whether RDMA devices are to
    be given to the container; notes: what a person should know of the host's network.
    """

    address: str
    interface: str | None
    env: t.Mapping[str, str]
    because: t.Mapping[str, str]
    infiniband: bool = False
    notes: tuple[str, ...] = ()


def one_host(release: Release, gpu_count: int) -> dict[str, str]:
    """Variables of a server whose GPUs are all of one host."""
    known = release.facts("nccl")
    if gpu_count > 1 and "NCCL_CUMEM_HOST_ENABLE" in known and "NCCL_CTA_POLICY" not in known:
        # NCCL's user guide, Troubleshooting, "cuMem host allocations": on by default from 2.24 on, they need NUMA calls
        # that Docker denies without CAP_SYS_NICE; from 2.26.5 on NCCL falls back to /dev/shm itself, before it fails
        # without this. 2.27 brought NCCL_CTA_POLICY; of the releases with neither fallback, 0.9.0 to 0.10.1, the images
        # hold 2.26.2.
        return {"NCCL_CUMEM_HOST_ENABLE": "0"}
    return {}


def several_hosts(
    facts: t.Mapping[str, _Fact],
    release: Release | None = None,
    network: str | None = None,
    addresses: t.Mapping[str, str] | None = None,
) -> dict[str, Link]:
    """How each host is reached by the others. Raises Invalid with what keeps them apart.

    facts: vllm_gpu of every host, in the order of the ranks; release: of the engine, its newest where unknown; network:
    in which they are to meet (10.0.0.0/24), else the fastest that all of them have; addresses: of hosts that are known
    to be reached there, in place of both.
    """
    if len(facts) == 1:
        ((host, fact),) = facts.items()
        return {host: Link((addresses or {}).get(host) or "127.0.0.1", None, {}, {}, False, tuple(_notes(host, fact)))}
    met = _given(facts, addresses) if addresses else _common(facts, network)
    layer = _layer(facts)
    return {host: _link(host, facts[host], place, layer, release) for host, place in met.items()}


@dataclasses.dataclass(frozen=True)
class _Place:
    """An address of a host. interface: None where the facts do not know the address."""

    address: str
    interface: str | None
    network: str | None
    speed: int


def _places(fact: _Fact) -> list[_Place]:
    """Every address of the host, as gpu_facts has them."""
    found = []
    for one in fact.get("addresses") or ():
        interface = ipaddress.ip_interface(one["address"])
        if interface.ip.is_link_local or interface.ip.is_loopback:
            continue
        found.append(_Place(str(interface.ip), one["interface"], str(interface.network), one.get("speed_mbps") or 0))
    return found


def _given(facts: t.Mapping[str, _Fact], addresses: t.Mapping[str, str]) -> dict[str, _Place]:
    missing = [host for host in facts if not addresses.get(host)]
    if missing:
        raise Invalid(
            [Problem(host, "address", "is not given", "Give one for every host, or for none") for host in missing]
        )
    known = {host: {place.address: place for place in _places(fact)} for host, fact in facts.items()}
    return {host: known[host].get(addresses[host]) or _Place(addresses[host], None, None, 0) for host in facts}


def _common(facts: t.Mapping[str, _Fact], network: str | None) -> dict[str, _Place]:
    """The fastest network in which every host has an address; the slowest host counts, IPv4 comes first among "
    "equals."""
    by_host = {host: {place.network: place for place in reversed(_places(fact))} for host, fact in facts.items()}
    shared = set.intersection(*(set(places) for places in by_host.values()))
    if network is not None:
        wanted = str(ipaddress.ip_network(network, strict=False))
        lacking = [host for host, places in by_host.items() if wanted not in places]
        if lacking:
            raise Invalid([_apart(host, by_host[host], f"has no address in {wanted}") for host in lacking])
        return {host: places[wanted] for host, places in by_host.items()}
    if not shared:
        raise Invalid(
            [_apart(host, places, "shares no network with the other hosts") for host, places in by_host.items()]
        )
    best = max(
        sorted(filter(None, shared)),
        key=lambda one: (min(places[one].speed for places in by_host.values()), ":" not in one),
    )
    return {host: places[best] for host, places in by_host.items()}


def _apart(host: str, places: t.Mapping[str | None, _Place], reason: str) -> Problem:
    has = ", ".join(f"{place.address} ({place.interface}, {network})" for network, place in places.items()) or "none"
    fix = "Connect the hosts by a network, or give the address of each by which the others reach it"
    return Problem(host, "network", f"{reason}; its addresses are {has}", fix)


def _layer(facts: t.Mapping[str, _Fact]) -> str | None:
    """InfiniBand or Ethernet (RoCE): what every host has an active port of, InfiniBand before Ethernet."""
    layers = [{port["link_layer"] for port in _active(fact)} for fact in facts.values()]
    shared = set.intersection(*layers)
    return next((layer for layer in ("InfiniBand", "Ethernet") if layer in shared), None)


def _active(fact: _Fact) -> list[_Fact]:
    return [port for port in fact.get("infiniband") or () if port["state"] == _ACTIVE]


def _link(host: str, fact: _Fact, place: _Place, layer: str | None, release: Release | None) -> Link:
    env = {"VLLM_HOST_IP": place.address}
    # get_ip in vllm/utils/network_utils.py of 0.32.0
    because = {"VLLM_HOST_IP": "else vLLM takes the address of the default route, or 0.0.0.0 where there is none"}
    if place.interface is not None:
        # ncclFindInterfaces in src/misc/socket.cc of NCCL 2.28: interfaces named ib come first, then any other; without
        # "=" a name is the beginning of one (eth1 of eth10).
        env["NCCL_SOCKET_IFNAME"] = f"={place.interface}"
        because["NCCL_SOCKET_IFNAME"] = f"else NCCL takes the first interface; the hosts meet in {place.network}"
        # CreateProcessGroupGloo in torch/csrc/distributed/c10d: a list of plain names, no "=".
        env["GLOO_SOCKET_IFNAME"] = place.interface
        because["GLOO_SOCKET_IFNAME"] = "else Gloo takes the address of the host's name, often a loopback one"
    ports, notes = _ports(fact, layer), _notes(host, fact)
    _rdma(env, because, notes, host, fact, ports, release)
    return Link(place.address, place.interface, env, because, bool(ports), tuple(notes))


def _ports(fact: _Fact, layer: str | None) -> list[_Fact]:
    """The ports to use: the fastest active ones of the link layer that all hosts have."""
    ports = [port for port in _active(fact) if port["link_layer"] == layer]
    fastest = max((port["rate_gbps"] or 0 for port in ports), default=0)
    return [port for port in ports if (port["rate_gbps"] or 0) == fastest]


def _rdma(
    env: dict[str, str],
    because: dict[str, str],
    notes: list[str],
    host: str,
    fact: _Fact,
    ports: t.Sequence[_Fact],
    release: Release | None,
) -> None:
    """What NCCL must be told of InfiniBand and RoCE."""
    active = _active(fact)
    if not ports:
        if active:
            notes.append(
                f"{host}: not every host has an active port of one kind (InfiniBand or RoCE), so NCCL uses sockets"
            )
        return
    if len(ports) < len(active):
        # ncclIbInitDevices in src/transport/net_ib/init.cc of NCCL 2.28 takes every active port, of any rate and either
        # link layer; "=" is for exact names, as above.
        names = ",".join(f"{port['device']}:{port['port']}" for port in ports)
        env["NCCL_IB_HCA"] = f"={names}"
        because["NCCL_IB_HCA"] = (
            f"else NCCL also uses {_named(active, ports)}, which are slower or of another link layer"
        )
    if ports[0]["link_layer"] != "Ethernet" or release is None or "NCCL_IB_ADDR_FAMILY" in release.facts("nccl"):
        return
    # NCCL_PARAM(IbGidIndex, "IB_GID_INDEX", 0) before 2.21, which brought NCCL_IB_ADDR_FAMILY and the look-up: place 0
    # is an address of RoCE v1, which no router passes.
    common = set.intersection(*(set(port["roce_v2_ipv4_gids"]) for port in ports))
    if common:
        env["NCCL_IB_GID_INDEX"] = str(min(common))
        because["NCCL_IB_GID_INDEX"] = "this NCCL takes the GID of RoCE v1 otherwise"
    else:
        notes.append(
            f"{host}: its RoCE ports have no GID of RoCE v2 over IPv4 in the same place; set NCCL_IB_GID_INDEX by hand"
        )


def _named(active: t.Sequence[_Fact], ports: t.Sequence[_Fact]) -> str:
    return ", ".join(f"{port['device']}:{port['port']}" for port in active if port not in ports)


def _notes(host: str, fact: _Fact) -> list[str]:
    """What is not as it should be, of which no variable is the cure."""
    notes = []
    down = [f"{port['device']}:{port['port']}" for port in fact.get("infiniband") or () if port["state"] != _ACTIVE]
    if down and not _active(fact):
        notes.append(
            f"{host}: {', '.join(down)} are not active, so NCCL uses sockets; see ibstat, cables and subnet manager"
        )
    for gpu in fact.get("gpus") or ():
        fabric = gpu.get("fabric")
        if fabric and fabric["state"] != "completed":
            notes.append(
                f"{host}: NVSwitch is there and Fabric Manager has not set it up (GPU {gpu['index']}: "
                f"{fabric['state']}), so CUDA "
                "fails with error 802; start nvidia-fabricmanager of the driver's version"
            )
            break
    return notes
