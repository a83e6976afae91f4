# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""From the lines of a collective check to its result, or to the reason why there is none. Pure."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._collective.rank import MARK

# "Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM", "... [send] via NET/IB/0/GDRDMA", "Channel 00..03 : ... via
# SHM/direct/direct" (p2p.cc, net.cc and shm.cc in src/transport of NCCL 2.28, with NCCL_DEBUG=INFO).
_TRANSPORT = re.compile(r"Channel .*? via ([A-Z0-9]+(?:/[A-Za-z0-9]+)*)")
_OTHER_LINES = 40
GIGA = 10**9

Event = t.Dict[str, t.Any]


class Report:
    """The lines of one host's container, as they come."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.others: list[str] = []
        self.transports: dict[str, int] = {}

    def line(self, line: str) -> None:
        """Take a line of the container's log."""
        if line.startswith(MARK):
            try:
                self.events.append(json.loads(line[len(MARK) :]))
                return
            except ValueError:
                pass  # of a rank that died while it wrote, or with another's line in it: shown with the others
        found = _TRANSPORT.search(line)
        if found:
            # NET/IB/0/GDRDMA: the third part is the device.
            kind = "/".join(part for part in found.group(1).split("/") if not part.isdigit())
            self.transports[kind] = self.transports.get(kind, 0) + 1
        elif line.strip() and not line.startswith("frame #"):  # PyTorch's stacks hide what it says
            self.others = [*self.others[-_OTHER_LINES + 1 :], line]

    def of(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event["event"] == kind]

    def sizes(self) -> list[dict[str, t.Any]]:
        """One entry a size: right when it was on every rank of this host, the time of the slowest."""
        found: dict[int, dict[str, t.Any]] = {}
        for event in self.of("reduced"):
            one = found.setdefault(
                event["bytes"], {"bytes": event["bytes"], "correct": True, "seconds": 0.0, "algorithm": 0.0, "bus": 0.0}
            )
            one["correct"] = one["correct"] and event["right"]
            if event["seconds"] >= one["seconds"]:
                one.update(seconds=event["seconds"], algorithm=event["algorithm"], bus=event["bus"])
        return [
            {
                "bytes": one["bytes"],
                "correct": one["correct"],
                "seconds": round(one["seconds"], 6),
                "algorithm_gb_per_second": round(one["algorithm"] / GIGA, 3),
                "bus_gb_per_second": round(one["bus"] / GIGA, 3),
            }
            for one in found.values()
        ]

    def ranks(self) -> list[dict[str, t.Any]]:
        """The ranks of this host and what they are on."""
        return [
            {"rank": event["rank"], "device": event["device"], "nccl": event["nccl"]}
            for event in sorted(self.of("grouped"), key=lambda event: event["rank"])
        ]


def trouble(report: Report, task: t.Mapping[str, t.Any], exit_code: int | None) -> str | None:
    """Why the check did not succeed, with what to do; None when it did. exit_code: None when its time was over."""
    wrong = [one["bytes"] for one in report.sizes() if not one["correct"]]
    if wrong:
        return (
            f"The sum of {wrong[0]} bytes is wrong on ranks {_own(task)}: data is damaged on its way. Look at ECC and "
            "Xid errors of the GPUs (gpu_facts), at cables, and whether an IOMMU translates peer access."
        )
    if exit_code == 0 and len(report.of("done")) == task["processes"]:
        return None
    for event in report.of("no_store"):
        return _no_store(event)
    # Who waited tells more than who failed, for one failure makes all others fail.
    for event in sorted(report.of("waited") + report.of("failed"), key=lambda event: event["event"], reverse=True):
        late = _late(event, task)
        if late:
            return late
    for event in report.of("failed"):
        return f"Rank {event['rank']} failed: {event['error']}."
    for event in report.of("killed"):
        return f"Rank {event['rank']} was ended by signal {event['signal']} (9 is also the end for want of memory)."
    if exit_code is None:
        return f"Nothing came to an end within {task['timeout_seconds']} s, and no rank of this host said why."
    return f"The image's python3 ended with exit code {exit_code} before all ranks of this host were through."


def _no_store(event: Event) -> str:
    """The ranks could not meet."""
    error = event["error"].partition("\n")[0].rstrip(".")
    if event["rank"] == 0:
        fix = "Choose another master_port, and an address that this host has."
        return f"Rank 0 cannot listen at {event['address']}: {error}. {fix}"
    return (
        f"Rank {event['rank']} did not reach rank 0 at {event['address']}: {error}. Rank 0 must run at the same time "
        "(as many forks as hosts), and every TCP port must be open between the hosts."
    )


def _late(event: Event, task: t.Mapping[str, t.Any]) -> str | None:
    """Who is behind, by what one rank saw of all."""
    at = {int(rank): where for rank, where in event.get("at", {}).items() if str(rank).isdigit()}
    world, limit = task["world_size"], task["timeout_seconds"]
    absent = [rank for rank in range(world) if rank in at and at[rank] is None]
    if absent:
        return (
            f"Rank {_numbers(absent)} of {world} did not come within {limit} s; rank {event['rank']} waited. Look at "
            f"its host: whether the check runs there at the same time and reaches {task['address']}:{task['port']}."
        )
    silent = [rank for rank in event.get("silent") or () if at.get(rank) != "done"]
    if silent:
        return (
            f"Rank {_numbers(silent)} of {world} was {at[silent[0]]} and gives no sign of life any more: its process "
            "is frozen or was ended. Look at the GPU (Xid errors in gpu_facts) and the host of that rank."
        )
    order = ["joined", "in the group", *(f"reducing {size} bytes" for size in task["sizes"]), "done"]
    steps = {rank: order.index(where) if where in order else 0 for rank, where in at.items()}
    if not steps:
        return None
    furthest, behind = max(steps.values()), min(steps.values())
    if furthest > behind:
        slow = [rank for rank, step in steps.items() if step == behind]
        return (
            f"Rank {_numbers(slow)} of {world} is still {order[behind]} while others are {order[furthest]}: it "
            "hangs in what it does. Look at the GPU and the host of that rank."
        )
    if event["event"] != "waited":
        return None
    return (
        f"All {world} ranks are {order[behind]} and nothing has come through between them for {limit} s: the way that "
        "they chose does not carry. Between GPUs of a host, look at IOMMU and ACS, which redirect peer access; between "
        "hosts, at the interface and the InfiniBand ports that the environment names."
    )


def _own(task: t.Mapping[str, t.Any]) -> str:
    first = task["first_rank"]
    return _numbers(range(first, first + task["processes"]))


def _numbers(ranks: t.Iterable[int]) -> str:
    return ", ".join(str(rank) for rank in ranks)
