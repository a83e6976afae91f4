# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many servers at once on a real Docker Engine: who waits for whom, and what a failure takes along."""

from __future__ import annotations

import pathlib
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.converge import Converger, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint
from support.faults import beside, until

DIES = {"STAND_IN_DIE_AT": "config"}


def moved(server: dict[str, t.Any], port: int, **env: str) -> dict[str, t.Any]:
    """The same server on another port."""
    return {**server, "listen": {**server["listen"], "port": port}, "env": {**server["env"], **env}}


def test_a_failure_stops_no_unrelated_server(host: t.Any) -> None:
    """The second takes the port that the first one leaves; the others have nothing to do with them."""
    present = host.server("a")
    host.run(present)
    good = host.server("c", env={"STAND_IN_START_SECONDS": "1"})
    leaving = moved(present, host.server()["listen"]["port"], **DIES)
    error = host.refused(leaving, host.server("b", listen=present["listen"]), good, host.server("d", env=DIES))
    assert {failure["server"] for failure in error.details["failures"]} == {f"{host.fleet}-a", f"{host.fleet}-d"}
    assert error.details["not_attempted"] == [f"{host.fleet}-b"]
    assert f"{host.fleet}-b, which waits for what {host.fleet}-a leaves or has" in str(error)
    states = {server["name"][-1]: server["state"] for server in error.details["servers"]}
    assert states == {"a": "ready", "b": "absent", "c": "ready", "d": "absent"}
    assert set(host.containers()) == {"a", "c"}
    assert host.run(present, good)["changed"] is False


def test_a_server_waits_for_the_one_that_is_in_its_place(host: t.Any) -> None:
    old, other = host.server("old"), host.server("other")
    host.run(old)
    heir = host.server("heir", listen=old["listen"])
    done = host.run(heir, other, prune=True)
    assert [server["state"] for server in done["servers"]] == ["ready", "ready"]
    assert set(host.containers()) == {"heir", "other"}


def test_the_former_serves_until_its_replacement_is_ready_where_both_have_room(host: t.Any) -> None:
    """Another port, and a limit of memory that the host has free."""
    server = host.server()
    host.run(server)
    seen: list[tuple[str, str, bool]] = []

    def note(name: str, event: t.Any) -> None:
        there = host.containers()
        former = endpoint.Server("127.0.0.1", server["listen"]["port"])
        seen.append((event.stage, there["a.previous"].status, endpoint.healthy(former, 60)))

    other = {**moved(server, host.server()["listen"]["port"]), "memory_bytes": 2**27}
    Converger(Wish(host.fleet, [other], {}, "started", False), Store(str(host.state_dir)), note).run(False)
    assert [entry for entry in seen if entry[1:] != ("running", True)] == []
    assert {"created", "ready"} <= {stage for stage, *_rest in seen}
    assert set(host.containers()) == {"a"}
    before = host.look()
    error = host.refused({**moved(other, server["listen"]["port"], **DIES)})
    assert error.details["failures"][0]["restored"] == "the former container was not stopped"
    assert host.look() == before


def test_two_servers_that_swap_their_ports(host: t.Any) -> None:
    one, two = host.server("a"), host.server("b")
    host.run(one, two)
    ports = one["listen"]["port"], two["listen"]["port"]
    swapped = moved(one, ports[1]), moved(two, ports[0])
    done = host.run(*swapped)
    assert [server["state"] for server in done["servers"]] == ["ready", "ready"]
    assert set(host.containers()) == {"a", "b"}
    assert host.run(*swapped)["changed"] is False


def test_a_swap_that_comes_to_nothing_leaves_both_serving(host: t.Any) -> None:
    one, two = host.server("a"), host.server("b")
    host.run(one, two)
    before = {name: container.id for name, container in host.containers().items()}
    ports = one["listen"]["port"], two["listen"]["port"]
    error = host.refused(moved(one, ports[1], **DIES), moved(two, ports[0]))
    assert error.details["failures"][0]["restored"] == "the former container serves again"
    assert error.details["not_attempted"] == [two["name"]]
    assert "and was stopped for it: the former container serves again" in str(error)
    assert {name: container.id for name, container in host.containers().items()} == before
    done = host.run(one, two)
    assert [server["state"] for server in done["servers"]] == ["ready", "ready"]
    assert {name: container.id for name, container in host.containers().items()} == before


def test_servers_that_have_nothing_to_do_with_each_other_start_at_the_same_time(
    host: t.Any, tmp_path: pathlib.Path
) -> None:
    """None gets on before all of them run; how long many take is measured (benchmarks/)."""
    gate = tmp_path / "gate"
    servers = [host.held(gate, f"s{number}") for number in range(6)]
    run, done = beside(lambda: host.run(*servers))
    assert until(lambda: [one.status for one in host.containers().values()] == ["running"] * 6)
    (gate / "go").touch()
    run.join()
    assert {server["state"] for server in done[0]["servers"]} == {"ready"}
