# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers onto hosts: first fit in a stable order, each refusal with its reason. Pure.

Order of servers: those that name their GPUs, those that select among them, those that run already, those that need more
GPUs, those that may run on fewer hosts. Order of hosts for a server: where it runs already, fewer replicas of its model
(with spread: host), where its files are, and then the order of the inventory. GPUs that other servers run on come last.
So a new plan moves nothing that still fits.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Ledger
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.offer import Gpu, Offer
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.fields import GpuSelector, show_gpus

# The share of its nominal memory that a card reports at least: an A10 of 24 GB reports 22.5 GiB with ECC, an H100 of
# 80 GB 79.6 GiB.
_NOMINAL = 0.92


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why a host cannot take a replica: the field that decides and its value, the reason, and what to write instead.

    misfit: whether it is for want of memory, and on which GPU (None: on the CPU); more can be said then of what to do.
    """

    field: str
    value: t.Any
    reason: str
    fix: str
    misfit: tuple[Gpu | None] | None = None


@dataclasses.dataclass(frozen=True)
class Demand:
    """One replica that wants a place.

    gpus: indices and UUIDs of exactly these GPUs, or what selects among them; device: gpu, cpu or any (an engine that
    runs on either); gpu_count: GPUs when on GPUs, and workers on a CPU.

    ledger gives the memory of one device of an offer, or None when it cannot be computed there; refusal says why the
    offer cannot run it at all, or None; has_files: whether the model's files are on a host.
    """

    server: str
    model: str
    hosts: tuple[str, ...] | None
    gpus: tuple[int | str, ...] | GpuSelector | None
    spread: str
    port: int | str
    device: str
    gpu_count: int
    ledger: t.Callable[[Offer, Gpu | None], Ledger | None]
    refusal: t.Callable[[Offer], Refusal | None]
    has_files: t.Callable[[Offer], bool]


@dataclasses.dataclass(frozen=True)
class Assignment:
    """Where a replica goes; gpus is empty on a CPU."""

    demand: Demand
    host: str
    gpus: tuple[Gpu, ...]
    port: int
    ledger: Ledger | None


@dataclasses.dataclass(frozen=True)
class Unplaced:
    """A replica without a place, and why on each host."""

    demand: Demand
    refusals: t.Mapping[str, Refusal]


class _Room:
    """What is left of one host while servers are placed."""

    def __init__(self, offer: Offer, demands: t.Sequence[Demand]) -> None:
        self.offer = offer
        # Ports that a model names are never given away as automatic ones.
        self.fixed_ports = {
            int(demand.port) for demand in demands if demand.port != "auto" and offer.matches(demand.hosts)
        }
        self.gpus: dict[str, Demand] = {}
        self.used_memory = 0
        self.ports: dict[int, str] = {}
        self.models: list[str] = []

    def own(self, demand: Demand) -> t.Mapping[str, t.Any]:
        """What runs here under the server's name."""
        return self.offer.servers.get(demand.server, {})

    def take(self, one: Assignment) -> None:
        """Book what the assignment takes."""
        self.models.append(one.demand.model)
        self.ports[one.port] = one.demand.server
        self.gpus.update({gpu.uuid: one.demand for gpu in one.gpus})
        if not one.gpus and one.ledger:
            self.used_memory += host_bytes(one.demand, one.ledger)


def place(demands: t.Sequence[Demand], offers: t.Sequence[Offer]) -> tuple[list[Assignment], list[Unplaced]]:
    """Assign every demand that fits; the others with their reasons."""
    rooms = [_Room(offer, demands) for offer in offers]
    assigned: list[Assignment] = []
    unplaced: list[Unplaced] = []

    def rank(demand: Demand) -> tuple[t.Any, ...]:
        runs = any(demand.server in offer.servers for offer in offers)
        hosts = sum(offer.matches(demand.hosts) for offer in offers)
        freedom = 2 if demand.gpus is None else int(isinstance(demand.gpus, GpuSelector))
        return freedom, not runs, -demand.gpu_count, hosts, demand.server

    for demand in sorted(demands, key=rank):
        refusals: dict[str, Refusal] = {}
        for room in _preferred(demand, rooms):
            result = _try(demand, room)
            if isinstance(result, Assignment):
                room.take(result)
                assigned.append(result)
                break
            refusals[room.offer.host] = result
        else:
            unplaced.append(Unplaced(demand, refusals))
    return sorted(assigned, key=lambda one: one.demand.server), sorted(unplaced, key=lambda one: one.demand.server)


def _preferred(demand: Demand, rooms: t.Sequence[_Room]) -> list[_Room]:
    candidates = [room for room in rooms if room.offer.matches(demand.hosts)]
    return sorted(
        candidates,
        key=lambda room: (
            not room.own(demand),
            room.models.count(demand.model) if demand.spread == "host" else 0,
            not demand.has_files(room.offer),
        ),
    )


def _try(demand: Demand, room: _Room) -> Assignment | Refusal:
    """The assignment to this host, or why not."""
    offer = room.offer
    refused = demand.refusal(offer)
    if refused:
        return refused
    port = _port(demand, room)
    if isinstance(port, Refusal):
        return port
    if demand.device == "cpu" or (demand.device == "any" and not offer.gpus and demand.gpus is None):
        ledger = demand.ledger(offer, None)
        refused = _no_memory(demand, room, ledger) if ledger else None
        return refused or Assignment(demand, offer.host, (), port, ledger)
    chosen = _choose_gpus(demand, room)
    if isinstance(chosen, Refusal):
        return chosen
    return Assignment(demand, offer.host, chosen, port, demand.ledger(offer, min(chosen, key=lambda gpu: gpu.total)))


def _no_memory(demand: Demand, room: _Room, ledger: Ledger) -> Refusal | None:
    if ledger.verdict == "misfit":
        return describe_misfit(ledger, None)
    needed, left = host_bytes(demand, ledger), room.offer.memory - room.used_memory
    if needed <= left:
        return None
    return Refusal(
        "engine.kv_cache_memory_bytes",
        None,
        f"needs {needed / GIB:.1f} GiB of host memory, and {left / GIB:.1f} of "
        f"{room.offer.memory / GIB:.1f} GiB are left",
        "Lower it, so that the other servers of this host keep theirs",
    )


def _choose_gpus(demand: Demand, room: _Room) -> tuple[Gpu, ...] | Refusal:
    offer = room.offer
    if not offer.gpus:
        fix = "Choose a host with GPUs, or an image of vLLM's build for the CPU"
        return Refusal(
            "image", None, f"needs a GPU, and the host has none that can be used: {offer.no_gpu_reason}", fix
        )
    refusals: list[Refusal] = []
    if isinstance(demand.gpus, tuple):
        wanted = _named_gpus(demand, demand.gpus, room)
    elif demand.gpus is not None:
        wanted = _selected_gpus(demand, demand.gpus, room, refusals)
    else:
        wanted = [gpu for gpu in offer.gpus if gpu.uuid not in room.gpus]
    if isinstance(wanted, Refusal):
        return wanted
    own = set(room.own(demand).get("gpus") or ())
    held = {uuid for server in offer.servers.values() for uuid in server.get("gpus") or ()}
    usable: list[Gpu] = []
    for gpu in wanted:
        ledger = demand.ledger(offer, gpu)
        if ledger is not None and ledger.verdict == "misfit":
            refusals.append(describe_misfit(ledger, gpu))
        elif ledger is not None and gpu.uuid not in held and gpu.free < ledger.budget:
            refusals.append(_not_free(gpu, ledger))
        else:
            usable.append(gpu)
    if len(usable) >= demand.gpu_count:
        return tuple(sorted(usable, key=lambda gpu: (gpu.uuid not in own, gpu.uuid in held))[: demand.gpu_count])
    if refusals:
        reasons = "; ".join(dict.fromkeys(refusal.reason for refusal in refusals))
        short_of = f"{demand.gpu_count} GPUs are needed and {len(usable)} can be used: " if demand.gpu_count > 1 else ""
        # Where GPUs were selected and do not fit, more can be done about the fit than about the selection.
        decisive = next((refusal for refusal in refusals if refusal.field != "placement.gpus"), refusals[0])
        return dataclasses.replace(decisive, reason=short_of + reasons)
    return Refusal(
        "engine.tensor_parallel_size",
        None,
        f"too few GPUs are left: {demand.gpu_count} needed, "
        f"{len(usable)} of {len(offer.gpus)} not taken by other servers",
        "Lower replicas or the parallel sizes, or add a host",
    )


def selectable(offer: Offer, selection: t.Sequence[int | str] | GpuSelector | None) -> list[Gpu]:
    """The GPUs of a host among which placement.gpus leaves a choice, whatever else runs there."""
    if selection is None:
        return list(offer.gpus)
    if isinstance(selection, GpuSelector):
        return [gpu for gpu in offer.gpus if _mismatch(gpu, selection) is None]
    return [gpu for gpu in offer.gpus if gpu.index in selection or gpu.uuid in selection]


def _mismatch(gpu: Gpu, selector: GpuSelector) -> str | None:
    """Why the selector does not take this GPU; None if it does, its count aside."""
    reasons = []
    if selector.name is not None and not fnmatch.fnmatchcase(gpu.name.lower(), selector.name.lower()):
        reasons.append(f"its name is {gpu.name}")
    if selector.memory is not None and gpu.total < selector.memory * _NOMINAL:
        reasons.append(f"its memory is {gpu.total / GIB:.1f} GiB")
    wanted, capability = selector.compute_capability, gpu.compute_capability
    if wanted is not None and capability is None:
        reasons.append("its compute capability is unknown")
    elif wanted is not None and capability is not None and capability < wanted:
        reasons.append("its compute capability is {}.{}".format(*capability))
    return " and ".join(reasons) or None


def _selected_gpus(demand: Demand, selector: GpuSelector, room: _Room, refusals: list[Refusal]) -> list[Gpu] | Refusal:
    """The GPUs that the selector takes and no other server has; the reasons of the others are added to the refusals."""
    shown = show_gpus(selector)
    if selector.count not in (None, demand.gpu_count):
        return Refusal(
            "placement.gpus",
            shown,
            f"asks for {selector.count} and the parallel sizes need {demand.gpu_count}",
            f"Leave count out, or set engine.tensor_parallel_size to {selector.count}",
        )
    taken = []
    for gpu in room.offer.gpus:
        reason = _mismatch(gpu, selector)
        if reason is None and gpu.uuid in room.gpus:
            reason = f"it is taken by {room.gpus[gpu.uuid].server}"
        if reason is None:
            taken.append(gpu)
        else:
            refusals.append(Refusal("placement.gpus", shown, f"GPU {gpu}: {reason}", "Select others, or add a host"))
    return taken


def _named_gpus(demand: Demand, names: tuple[int | str, ...], room: _Room) -> list[Gpu] | Refusal:
    """The GPUs that placement.gpus names."""

    def refuse(reason: str, fix: str) -> Refusal:
        return Refusal("placement.gpus", ", ".join(map(str, names)), reason, fix)

    found = {name: next((gpu for gpu in room.offer.gpus if name in (gpu.index, gpu.uuid)), None) for name in names}
    missing = [str(name) for name, gpu in found.items() if gpu is None]
    if missing:
        return refuse(
            f"has no GPU {', '.join(missing)}; it has {', '.join(map(str, room.offer.gpus))}", "Write one of these"
        )
    gpus = [gpu for gpu in found.values() if gpu is not None]
    if len({gpu.uuid for gpu in gpus}) < len(gpus):
        return refuse("names a GPU twice, by its index and by its UUID", "Write each once")
    if len(gpus) != demand.gpu_count:
        return refuse(
            f"names {len(gpus)} and the parallel sizes need {demand.gpu_count}",
            f"Name {demand.gpu_count}, or set engine.tensor_parallel_size to {len(gpus)}",
        )
    others = {str(gpu): room.gpus[gpu.uuid] for gpu in gpus if gpu.uuid in room.gpus}
    if others:
        taken = ", ".join(f"GPU {gpu} is taken by {other.server}" for gpu, other in others.items())
        if any(other.model == demand.model for other in others.values()):
            return refuse(f"{taken}, a replica of the same model", "Write replicas: 1, or leave placement.gpus out")
        return refuse(taken, "Name other GPUs in one of the two models")
    return gpus


def _not_free(gpu: Gpu, ledger: Ledger) -> Refusal:
    share = math.floor(gpu.free / ledger.total * 100) / 100
    return Refusal(
        "engine.gpu_memory_utilization",
        None,
        f"GPU {gpu} has {gpu.free / GIB:.1f} GiB free, "
        f"less than the {ledger.budget / GIB:.1f} GiB that the server takes",
        f"End what holds its memory, choose another GPU, or set it to {share:.2f} at most",
    )


def _port(demand: Demand, room: _Room) -> int | Refusal:
    offer = room.offer
    if demand.port != "auto":
        port = int(demand.port)
        if port in room.ports:
            return Refusal("listen.port", port, f"is taken by {room.ports[port]}", "Choose another, or auto")
        if port in offer.ports_in_use:
            return Refusal(
                "listen.port", port, "is in use by another program", "Choose another, or auto, or end that program"
            )
        return port
    taken = offer.ports_in_use | room.fixed_ports | room.ports.keys()
    own = room.own(demand).get("port")
    if own and own not in taken:
        return int(own)
    # Ports that servers of the fleet have stay theirs, or two servers would exchange theirs from run to run.
    kept = {server.get("port") for server in offer.servers.values()}
    first, last = offer.settings["port_range"]
    free = next((port for port in range(first, last + 1) if port not in taken and port not in kept), None)
    return free or Refusal(
        "listen.port", "auto", f"no port from {first} to {last} is free", "Widen host_port_range, or name a port"
    )


def host_bytes(demand: Demand, ledger: Ledger) -> int:
    """Host memory that an engine on the CPU takes: terms and KV cache of each worker."""
    return demand.gpu_count * (ledger.kv.expected + sum(term.expected for term in (*ledger.terms, *ledger.outside)))


def describe_misfit(ledger: Ledger, gpu: Gpu | None) -> Refusal:
    """Why it does not fit, in numbers. gpu: the GPU that the ledger is of."""
    terms = ", ".join(f"{term.name} {term.expected / GIB:.2f}" for term in ledger.terms)
    if ledger.largest_length >= ledger.max_model_len:
        outside = sum(term.expected for term in ledger.outside)
        return Refusal(
            "engine.gpu_memory_utilization",
            None,
            f"does not fit {ledger.device}: the engine takes {ledger.budget / GIB:.2f} GiB "
            f"and {outside / GIB:.2f} beside them, "
            f"and the device has {ledger.total / GIB:.2f}",
            f"Set it to {ledger.safe_utilization:.2f} at most",
            (gpu,),
        )
    fix = (
        f"Set it to {ledger.largest_length}, or less"
        if ledger.largest_length
        else "No length fits: use more GPUs or smaller weights"
    )
    return Refusal(
        "engine.max_model_len",
        ledger.max_model_len,
        f"does not fit {ledger.device}: of {ledger.total / GIB:.2f} GiB the engine takes "
        f"{ledger.budget / GIB:.2f} ({terms}), which leaves "
        f"{max(0, ledger.kv.expected) / GIB:.2f} GiB for the KV cache, "
        f"and one request of {ledger.max_model_len} tokens needs "
        f"{ledger.kv_needed / GIB:.2f}",
        fix,
        (gpu,),
    )
