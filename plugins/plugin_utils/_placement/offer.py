# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host offers, read from its inspection: GPUs or its CPU, images, models, ports, and what runs there already."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One GPU or MIG device; sizes in bytes, as CUDA tells them where that is known.

    A MIG device has no index, for nothing takes one.

    compute_capability: (major, minor); None where the driver does not tell. pci: address on the PCI bus.
    """

    index: int | None
    uuid: str
    name: str
    total: int
    free: int
    compute_capability: tuple[int, int] | None = None
    pci: str | None = None

    def __str__(self) -> str:
        return self.uuid if self.index is None else f"{self.index} ({self.uuid})"


@dataclasses.dataclass(frozen=True)
class Offer:
    """One host. memory is its RAM in bytes; settings are the options of the role host that the plan needs.

    driver: version of NVIDIA's driver, None without one. measured: what earlier starts there have told of their memory.
    """

    host: str
    groups: frozenset[str]
    gpus: tuple[Gpu, ...]
    no_gpu_reason: str
    memory: int
    images: t.Mapping[str, t.Mapping[str, t.Any]]
    models: t.Mapping[tuple[str, str | None], t.Mapping[str, t.Any]]
    servers: t.Mapping[str, t.Mapping[str, t.Any]]
    ports_in_use: frozenset[int]
    settings: t.Mapping[str, t.Any]
    driver: str | None = None
    measured: tuple[t.Any, ...] = ()
    # What source_info said, by source, revision and scope; empty where it was not asked.
    sources: t.Mapping[tuple[str, str | None, str], t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)

    def matches(self, selectors: t.Sequence[str] | None) -> bool:
        """Whether the host is one of these hosts or in one of these groups; None selects every host."""
        return selectors is None or any(name == self.host or name in self.groups for name in selectors)


class Unread(Exception):
    """An inspection is not what the role host finds out; the text says what is wrong with it."""


def read_offer(host: str, inspection: t.Any) -> Offer:
    """The offer of a host from what the role host has inspected (its fact vllm_inspection). Raises Unread."""
    try:
        gpu = inspection["gpu"]
        memory = gpu["host"]["memory_total_bytes"]
        return Offer(
            host=str(host),
            groups=frozenset(inspection["groups"]),
            gpus=tuple(found for card in gpu["gpus"] if not card.get("error") for found in _devices(card, gpu["host"])),
            no_gpu_reason="; ".join(filter(None, [gpu["reason"], *(card.get("error") for card in gpu["gpus"])])),
            memory=int(memory),
            images={image["image"]: image for image in inspection["images"]},
            models={(model["model"], model["revision"]): model for model in inspection["models"]},
            servers={server["name"]: server for server in inspection["servers"]},
            ports_in_use=frozenset(inspection["ports_in_use"]),
            settings=_settings(inspection["settings"]),
            driver=gpu.get("driver_version"),
            measured=tuple(inspection.get("measured") or ()),
            sources={(one["source"], one["revision"], one["scope"]): one for one in inspection.get("sources") or ()},
        )
    except KeyError as error:
        raise Unread(f"lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise Unread(f"is of another form: {error}") from error


def _devices(card: t.Mapping[str, t.Any], host: t.Mapping[str, t.Any]) -> t.Iterator[Gpu]:
    """What a container can get of a card: the card, or each MIG device of it."""
    major, _dot, minor = str(card.get("compute_capability") or "").partition(".")
    capability = (int(major), int(minor or 0)) if major else None
    for device in card["mig_devices"] if card.get("mig_enabled") else [card]:
        # GPUs that share the host's memory (GB10, GH200) tell no size of their own; vLLM counts the host's there.
        # CUDA, and so vLLM, sees what the driver leaves of the card.
        total = device.get("memory_cuda_total_bytes") or device["memory_total_bytes"] or host["memory_total_bytes"]
        free = device["memory_free_bytes"]
        if free is None:
            free = host.get("memory_available_bytes") or total
        yield Gpu(
            index=device.get("index"),
            uuid=device["uuid"],
            name=device["name"],
            total=int(total),
            free=int(free),
            compute_capability=capability,
            pci=card.get("pci_bus_id"),
        )


def _settings(settings: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    first, last = (int(port) for port in settings["port_range"])
    return {
        "state_dir": str(settings["state_dir"]),
        "hub_cache": str(settings["hub_cache"]),
        "gpu_runtime": str(settings["gpu_runtime"]),
        "port_range": (first, last),
    }
