# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The servers of a fleet on this host as vllm_info tells of them. Reads only; a sick server delays no other."""

from __future__ import annotations

import concurrent.futures
import os
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.address import endpoint_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import PREVIOUS, Observed
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.fleet import observe
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import LABEL_MODEL, ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host, nvml
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint, liveness, metrics
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.look import Look, look

# Servers that are looked at at the same time.
_LOOKED_AT_ONCE = 16
# The file of a server's secrets that holds its API key.
_KEY_FILE = "api_key"


class Depth(t.NamedTuple):
    """How much is looked at: the figures of the metrics; the liveness of the engine, which may cost one token."""

    metrics: bool
    probe: bool


def fleet_servers(engine: Engine, fleet: str, store: Store, depth: Depth) -> list[dict[str, t.Any]]:
    """Every server of the fleet, sorted by name. A container kept from a replacement is no server."""
    servers = [
        one._replace(seen_ready=store.was_ready(one.spec.server, one.state.start))
        for one in observe(engine, fleet)
        if not one.spec.name.endswith(PREVIOUS)
    ]
    cards = _cards() if depth.metrics and any(one.spec.gpus for one in servers) else {}
    with concurrent.futures.ThreadPoolExecutor(max_workers=_LOOKED_AT_ONCE) as pool:
        described = pool.map(lambda one: _describe(one, store, depth, cards), servers)
        return sorted(described, key=lambda one: one["name"])


def _describe(one: Observed, store: Store, depth: Depth, cards: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    spec, state = one.spec, one.state
    server = endpoint_of(spec)._replace(api_key=_api_key(spec, store))
    seen = _look(one, server, depth)
    answers = seen.state.word in (liveness.READY, liveness.SATURATED, liveness.STALLED, liveness.SLEEPING)
    gpus = [gpu.rpartition("=")[2] for gpu in spec.gpus.ids] if spec.gpus else []
    return {
        "name": spec.name,
        "model": spec.labels.get(LABEL_MODEL, ""),
        "state": seen.state.word,
        "why": seen.state.why,
        "url": server.url,
        "address": server.host,
        "port": server.port,
        "served": endpoint.cards(server) if answers and depth.metrics else None,
        "image": spec.image,
        "image_id": spec.image_id,
        "gpus": gpus,
        "gpu_use": [cards[gpu] for gpu in gpus if gpu in cards],
        "container_id": state.id,
        "started_at": state.started_at,
        "exit_code": None if state.running else state.exit_code,
        "oom_killed": state.oom_killed,
        "restarts": state.restart_count,
        "version": _version(server) if answers else None,
        "metrics": metrics.figures(seen.metrics) if answers and depth.metrics else None,
    }


def _look(one: Observed, server: endpoint.Server, depth: Depth) -> Look:
    state = one.state
    # A paused container takes connections and never answers.
    if state.status != "running":
        killed = ", killed for want of memory" if state.oom_killed else ""
        ended = "" if state.running else f" with exit code {state.exit_code}{killed}"
        return Look(liveness.State(state.status, f"its container is {state.status}{ended}"), "")
    if one.healthy and not (depth.probe or depth.metrics):
        return Look(liveness.State(liveness.READY, "/health answers"), "")
    return look(server, one.was_ready, one.spec.argv, depth.probe)


def _api_key(spec: ContainerSpec, store: Store) -> str | None:
    """The key that the server wants, from its secret files, when this user may read them."""
    if spec.secrets_mark is None:
        return None
    try:
        path = os.path.join(store.secrets_folder(spec.server, spec.secrets_mark), _KEY_FILE)
        with open(path, encoding="utf-8") as handle:
            return handle.read().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _version(server: endpoint.Server) -> str | None:
    answer = endpoint.get(server, "/version")
    return str(endpoint.decoded(answer).get("version")) if answer.status == 200 else None


def _cards() -> dict[str, dict[str, t.Any]]:
    """What is used of each NVIDIA GPU and MIG device of this host, by UUID."""
    found: dict[str, dict[str, t.Any]] = {}
    for card in nvml.read(host.cards_on_pci()["nvidia"])["gpus"]:
        for device in [card, *(card.get("mig_devices") or ())]:
            if device.get("uuid"):
                found[device["uuid"]] = {
                    "uuid": device["uuid"],
                    "memory_used_bytes": device.get("memory_used_bytes"),
                    "memory_total_bytes": device.get("memory_total_bytes"),
                    "temperature_celsius": (card.get("health") or {}).get("temperature_celsius"),
                    "power_watts": (card.get("health") or {}).get("power_watts"),
                    "utilization_percent": (card.get("health") or {}).get("utilization_percent"),
                }
    return found
