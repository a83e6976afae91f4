# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NCCL, Gloo and vLLM are told of networks, and that nothing is ever switched off."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gpufleet.vllm.plugins.filter.nccl_ranks import FilterModule, nccl_ranks
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.catalogue import releases
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.communication import one_host, several_hosts
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Invalid

NEW = load("0.33.0")


def address(interface: str, place: str, speed: int | None = None) -> dict[str, t.Any]:
    return {"interface": interface, "address": place, "speed_mbps": speed}


def port(
    device: str, layer: str = "InfiniBand", rate: float = 400.0, state: str = "ACTIVE", gids: t.Any = (3,)
) -> dict[str, t.Any]:
    return {
        "device": device,
        "port": 1,
        "state": state,
        "link_layer": layer,
        "rate_gbps": rate,
        "roce_v2_ipv4_gids": list(gids),
    }


def host(*addresses: dict[str, t.Any], ports: t.Any = (), gpus: t.Any = ()) -> dict[str, t.Any]:
    return {"addresses": list(addresses), "infiniband": list(ports), "gpus": list(gpus)}


def two(ports: t.Any = (), **other: t.Any) -> dict[str, t.Any]:
    return {
        "a": host(address("eth0", "192.168.1.5/24", 1000), address("ens1", "10.0.0.5/24", 100000), ports=ports),
        "b": host(
            address("eno1", "10.0.0.6/24", 100000),
            address("eth0", "192.168.1.6/24", 1000),
            ports=other.get("others", ports),
        ),
    }


@pytest.mark.parametrize("version", releases())
def test_one_host_is_told_nothing_but_to_the_nccl_that_fails_in_containers(version: str) -> None:
    fails = version in ("0.9.0", "0.9.0.1", "0.9.1", "0.9.2", "0.10.0", "0.10.1", "0.10.1.1")
    assert one_host(load(version), 2) == ({"NCCL_CUMEM_HOST_ENABLE": "0"} if fails else {})
    assert one_host(load(version), 1) == {}


def test_several_hosts_meet_in_the_fastest_common_network() -> None:
    links = several_hosts(two(), NEW)
    assert dict(links["a"].env) == {
        "VLLM_HOST_IP": "10.0.0.5",
        "NCCL_SOCKET_IFNAME": "=ens1",
        "GLOO_SOCKET_IFNAME": "ens1",
    }
    assert links["b"].env["NCCL_SOCKET_IFNAME"] == "=eno1"
    assert set(links["a"].because) == set(links["a"].env)
    assert several_hosts(two(), NEW, network="192.168.1.0/24")["b"].address == "192.168.1.6"


def test_link_local_addresses_are_no_meeting_place_and_ipv4_comes_first() -> None:
    facts = {
        name: host(
            address("eth0", f"fe80::{at}/64"),
            address("eth0", f"169.254.0.{at}/16"),
            address("eth0", f"fd00::{at}/64"),
            address("eth1", f"10.0.0.{at}/24"),
        )
        for at, name in enumerate("ab", 1)
    }
    assert several_hosts(facts, NEW)["a"].address == "10.0.0.1"


def test_hosts_that_share_no_network_are_told_with_their_addresses() -> None:
    facts = {"a": host(address("eth0", "10.0.0.5/24")), "b": host(address("eth0", "10.1.0.5/24")), "c": host()}
    with pytest.raises(Invalid) as caught:
        several_hosts(facts, NEW)
    assert "10.1.0.5 (eth0, 10.1.0.0/24)" in str(caught.value) and "its addresses are none" in str(caught.value)
    with pytest.raises(Invalid, match="b: network: has no address in 10.0.0.0/24"):
        several_hosts(facts, NEW, network="10.0.0.0/24")
    given_ = several_hosts(facts, NEW, addresses={"a": "10.0.0.5", "b": "10.1.0.5", "c": "10.2.0.5"})
    assert given_["b"].interface == "eth0"
    assert dict(given_["c"].env) == {"VLLM_HOST_IP": "10.2.0.5"}
    with pytest.raises(Invalid, match="Give one for every host"):
        several_hosts(facts, NEW, addresses={"a": "10.0.0.5"})


def test_ports_are_named_only_where_nccl_would_take_others_too() -> None:
    same = [port("mlx5_0"), port("mlx5_1"), port("mlx5_2", state="DOWN")]
    link = several_hosts(two(same), NEW)["a"]
    assert "NCCL_IB_HCA" not in link.env and link.infiniband
    mixed = [*same, port("mlx5_bond_0", "Ethernet", 25.0), port("mlx5_4", rate=100.0)]
    link = several_hosts(two(mixed), NEW)["a"]
    assert link.env["NCCL_IB_HCA"] == "=mlx5_0:1,mlx5_1:1"
    assert "mlx5_bond_0:1, mlx5_4:1" in link.because["NCCL_IB_HCA"]


def test_without_a_common_kind_of_port_there_are_sockets_and_a_note() -> None:
    link = several_hosts(two([port("mlx5_0")], others=[port("mlx5_0", "Ethernet")]), NEW)["a"]
    assert not link.infiniband and "sockets" in link.notes[0]
    assert several_hosts(two([port("mlx5_0")], others=[]), NEW)["b"].notes == ()
    down = several_hosts(two([port("mlx5_0", state="DOWN")]), NEW)["a"]
    assert "mlx5_0:1 are not active" in down.notes[0]


def test_the_gid_is_looked_up_where_nccl_does_not() -> None:
    roce = [port("mlx5_0", "Ethernet", gids=(3, 5)), port("mlx5_1", "Ethernet", gids=(5,))]
    assert "NCCL_IB_GID_INDEX" not in several_hosts(two(roce), NEW)["a"].env
    old = several_hosts(two(roce), load("0.6.3"))["a"]
    assert old.env["NCCL_IB_GID_INDEX"] == "5"
    apart = [port("mlx5_0", "Ethernet", gids=(3,)), port("mlx5_1", "Ethernet", gids=(5,))]
    assert "by hand" in several_hosts(two(apart), load("0.6.3"))["a"].notes[0]


def test_switches_without_fabric_manager_are_noted_on_one_host_too() -> None:
    gpu = {"index": 0, "fabric": {"state": "not started"}}
    link = several_hosts({"a": host(gpus=[gpu])}, NEW)["a"]
    assert "nvidia-fabricmanager" in link.notes[0] and link.env == {}


WORDS = st.sampled_from(["ens1", "ib0", "eth0", "bond0.12"])
PLACES = st.builds(
    address, WORDS, st.sampled_from(["10.0.0.5/24", "10.0.0.6/24", "fd00::1/64"]), st.none() | st.integers(1, 400000)
)
PORTS = st.builds(
    port,
    st.sampled_from(["mlx5_0", "mlx5_1"]),
    st.sampled_from(["InfiniBand", "Ethernet", None]),
    st.sampled_from([None, 25.0, 400.0]),
    st.sampled_from(["ACTIVE", "DOWN", None]),
    st.lists(st.integers(0, 15), max_size=3),
)
FACTS = st.builds(
    lambda places, ports: host(*places, ports=ports), st.lists(PLACES, max_size=3), st.lists(PORTS, max_size=3)
)


@settings(max_examples=100)
@given(st.lists(FACTS, min_size=1, max_size=3), st.sampled_from(["0.6.0", "0.9.2", "0.33.0"]))
def test_whatever_the_facts_nothing_is_switched_off_and_every_variable_is_read(facts: t.Any, version: str) -> None:
    release = load(version)
    try:
        links = several_hosts({str(at): fact for at, fact in enumerate(facts)}, release)
    except Invalid:
        return
    known = {*release.facts("nccl"), "VLLM_HOST_IP", "GLOO_SOCKET_IFNAME"}
    for link in links.values():
        env = {**one_host(release, 2), **link.env}
        assert set(env) <= known
        assert not any("DISABLE" in name or name == "NCCL_P2P_LEVEL" for name in env)
        assert not env.get("GLOO_SOCKET_IFNAME", "").startswith("=")


def test_the_filter_lays_the_ranks_over_the_hosts() -> None:
    ranks = nccl_ranks(two(), {"a": 8, "b": 4}, version="0.33.0")
    assert [(one["first_rank"], one["world_size"], one["network"]) for one in ranks.values()] == [
        (0, 12, "host"),
        (8, 12, "host"),
    ]
    assert {one["master_address"] for one in ranks.values()} == {"10.0.0.5"}
    alone = nccl_ranks({"a": host()}, {"a": 2}, version="0.9.2")["a"]
    assert (alone["network"], alone["env"]) == ("none", {"NCCL_CUMEM_HOST_ENABLE": "0"})
    for wrong in (({}, {}), (two(), {"a": 1})):
        with pytest.raises(AnsibleFilterError):
            nccl_ranks(*wrong)
    with pytest.raises(AnsibleFilterError, match="shares no network"):
        nccl_ranks({"a": host(), "b": host()}, {"a": 1, "b": 1})
    assert FilterModule().filters() == {"nccl_ranks": nccl_ranks}
