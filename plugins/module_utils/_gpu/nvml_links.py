# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""NVLink, NVSwitch and peer-to-peer access between NVIDIA's cards."""

from __future__ import annotations

import ctypes
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import topology as near
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.reader import Reader, text

# Constants of nvml.h. The binding's NVML_P2P_CAPS_INDEX_READ is a tuple by a slip, so none of them is taken from there.
_P2P_WAYS = {"read": 0, "write": 1, "link": 2}
# nvmlGpuP2PStatus_t in the words of nvidia-smi topo -p2p: OK, chipset / GPU / topology not supported, disabled by
# registry key, not supported, unknown.
_P2P_STATUS = ("OK", "CNS", "GNS", "TNS", "DR", "NS", "U")
# nvmlGpuTopologyLevel_t in the words of nvidia-smi topo -m.
_ANCESTOR = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
_TYPE_SWITCH, _TYPE_UNKNOWN = 2, 0xFF  # nvmlIntNvLinkDeviceType_t
# NVML_NVLINK_MAX_LINKS; of links past its last one a card says what its driver likes.
_MOST_LINKS = 36
# nvmlNvlinkVersion_t
_VERSIONS = {1: "1.0", 2: "2.0", 3: "2.2", 4: "3.0", 5: "3.1", 6: "4.0", 7: "5.0", 8: "6.0"}
# nvmlGpuFabricState_t; a card of state 0 has no fabric.
_FABRIC_STATES = {1: "not started", 2: "in progress", 3: "completed"}


class Link(t.NamedTuple):
    """The far end of an active NVLink: its type as NVML numbers it and its PCI address, None where unknown."""

    type: int | None
    address: str | None


def links(ask: Reader, handle: t.Any) -> tuple[dict[str, t.Any] | None, list[Link]]:
    """What a card tells of its NVLinks, None without any, and the far ends of the active ones."""
    states = [ask.probe("nvmlDeviceGetNvLinkState", handle, link) for link in range(_MOST_LINKS)]
    active = [link for link, state in enumerate(states) if state]
    ends = []
    for link in active:
        pci = ask.call("nvlink", "nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
        kind = ask.call("nvlink", "nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
        ends.append(Link(kind, host.pci_address(text(pci.busId)) if pci else None))
    total = sum(state is not None for state in states)
    if not total:
        return None, []
    version = ask.call("nvlink", "nvmlDeviceGetNvLinkVersion", handle, active[0]) if active else None
    facts = {
        "version": None if version is None else _VERSIONS.get(version, f"version {version} of NVML"),
        "links": total,
        "active": len(active),
        "switch": any(end.type == _TYPE_SWITCH for end in ends),
    }
    return facts, ends


def fabric(pynvml: t.Any, ask: Reader, handle: t.Any) -> dict[str, t.Any] | None:
    """How far Fabric Manager has got with the card; None for a card without NVSwitch."""
    # Asked for by version: the unversioned structure has changed its layout between drivers.
    structure = getattr(pynvml, "c_nvmlGpuFabricInfo_v2_t", None)
    if structure is None:
        return None
    info = structure()
    if ask.probe("nvmlDeviceGetGpuFabricInfoV", handle, ctypes.byref(info)) is None or not info.state:
        return None
    return {
        "state": _FABRIC_STATES.get(info.state, f"state {info.state} of NVML"),
        "error": str(pynvml.NVMLError(info.status)) if info.status else None,
    }


def topology(
    ask: Reader, gpus: t.Sequence[dict[str, t.Any]], handles: t.Sequence[t.Any], ends: t.Sequence[t.Sequence[Link]]
) -> dict[str, t.Any]:
    """Every two cards: what joins them, by how many NVLinks, and whether peer access works. Lost cards stay null."""
    size = len(gpus)
    link, p2p = near.square(size), {way: near.square(size) for way in _P2P_WAYS}
    count = link_count([host.pci_address(gpu["pci_bus_id"]) for gpu in gpus], ends)
    for one, other in near.pairs(size):
        if gpus[one]["error"] or gpus[other]["error"]:
            continue
        pair = (handles[one], handles[other])
        for way, number in _P2P_WAYS.items():
            status = ask.call(f"p2p_{way}", "nvmlDeviceGetP2PStatus", *pair, number)
            p2p[way][one][other] = None if status is None else _P2P_STATUS[min(status, len(_P2P_STATUS) - 1)]
        if count[one][other]:
            link[one][other] = f"NV{count[one][other]}"
        else:
            link[one][other] = _ANCESTOR.get(ask.call("link", "nvmlDeviceGetTopologyCommonAncestor", *pair))
    return near.topology(gpus, link, count, p2p, ask.errors)


def link_count(addresses: t.Sequence[str | None], ends: t.Sequence[t.Sequence[Link]]) -> near.Matrix:
    """NVLinks between every two cards; through NVSwitch each card reaches every other one with all its links.

    A far end that tells neither its type nor an address of these cards is a switch that a virtual machine does not
    see, as NCCL takes it.
    """
    known = {address for address in addresses if address}

    def is_switch(end: Link) -> bool:
        return end.type == _TYPE_SWITCH or (end.type in (None, _TYPE_UNKNOWN) and end.address not in known)

    switched = [sum(is_switch(end) for end in wires) for wires in ends]
    counts = near.square(len(addresses), 0)
    for one, other in (
        (one, other) for one in range(len(addresses)) for other in range(len(addresses)) if one != other
    ):
        direct = sum(end.address == addresses[other] for end in ends[one] if end.address in known)
        counts[one][other] = direct + min(switched[one], switched[other])
    return counts
