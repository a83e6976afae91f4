# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The servers of a fleet on this host as they are, and the ports that others use. Reads only."""

from __future__ import annotations

import concurrent.futures
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.address import endpoint_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import Observed
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import (
    observed_container,
    observed_image,
    observed_state,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import Image
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint

# Kernel tables of TCP sockets; state 0A is LISTEN (include/net/tcp_states.h of Linux).
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTEN = "0A"
# Servers that are asked at the same time, so that one that does not answer delays no other.
_ASKED_AT_ONCE = 16


def observe(engine: Engine, fleet: str) -> list[Observed]:
    """Every container of the fleet. Those that run are asked for their health at the same time."""
    images: dict[str, Image | None] = {}
    found = []
    for inspect in engine.fleet_containers(fleet):
        name = inspect["Image"]
        if name not in images:
            image = engine.inspect_image(name)
            images[name] = observed_image(image) if image else None
        found.append(Observed(observed_container(inspect, images[name]), observed_state(inspect), False))
    with concurrent.futures.ThreadPoolExecutor(max_workers=_ASKED_AT_ONCE) as pool:
        return list(pool.map(_with_health, found))


def ports_in_use(servers: t.Sequence[t.Mapping[str, t.Any]]) -> list[int]:
    """TCP ports of this host on which something listens that is none of these servers."""
    ours = {server["port"] for server in servers if server["exit_code"] is None}
    ports = set()
    for table in _TABLES:
        try:
            with open(table, encoding="ascii") as handle:
                rows = [line.split() for line in handle.readlines()[1:]]
        except FileNotFoundError:
            continue
        ports.update(int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _LISTEN)
    return sorted(ports - ours)


def _with_health(one: Observed) -> Observed:
    # A paused container takes connections and never answers.
    return one._replace(healthy=one.state.status == "running" and endpoint.healthy(endpoint_of(one.spec)))
