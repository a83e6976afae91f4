# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a failed start to its cause and what mends it. Pure but for reading the signatures once."""

from __future__ import annotations

import dataclasses
import typing as t

import yaml

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.rank import Cause, ranked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.scan import scan

# Causes that are told beside the first, and processes on a GPU.
_TOLD = 3
# Causes for want of memory of a GPU, which other processes on it may be the reason for.
_WANT_OF_GPU_MEMORY = {
    "mem-free-less-than-requested",
    "mem-no-cache-blocks",
    "mem-kv-too-small-v1",
    "mem-kv-too-small-v0",
    "mem-oom-sampler-warmup",
    "mm-profiling-oom",
    "mem-cuda-oom",
    "mem-graph-capture-oom",
}
# Bytes of a GPU that a process may hold without being the reason for anything, as a display does.
_HARMLESS_BYTES = 256 * 2**20

Lines = t.Iterable[str] | t.Iterable[tuple[int, str]]


def causes(lines: Lines, facts: t.Mapping[str, t.Any]) -> list[Cause]:
    """All causes that the lines of one log and the facts of the failure show, the root first; see ranked()."""
    return ranked([scan("", lines)], facts)


def causes_of_logs(logs: t.Mapping[str, Lines], facts: t.Mapping[str, t.Any]) -> list[Cause]:
    """The same over the logs of several processes or nodes of one server, by their names."""
    return ranked([scan(name, lines) for name, lines in logs.items()], facts)


def as_data(found: t.Sequence[Cause]) -> list[dict[str, t.Any]]:
    """The causes as plain data."""
    return [{**dataclasses.asdict(cause), "processes": list(cause.processes)} for cause in found]


def headline(server: str, found: t.Sequence[Cause], whole: bool = True) -> list[str]:
    """What a person reads: cause, remedy, change and evidence of the first, and what else was found.

    whole: whether the logs were, so that the numbers of their lines say where to look.
    """
    if not found:
        return []
    first = found[0]
    lines = [f"{server}: {first.cause} {first.remedy}"]
    if first.change:
        shown = yaml.safe_dump(first.change, default_flow_style=True, sort_keys=False, width=1000).strip()
        lines.append(f"  change: {shown}")
    if first.remove:
        lines.append(f"  take out: {', '.join(first.remove)}")
    if first.evidence:
        source = f" in {first.source}" if first.source else ""
        place = f"{source}, line {first.line}" if whole else ""
        lines.append(f"  evidence{place}: {first.evidence}")
    if first.link:
        lines.append(f"  see {first.link}")
    others = [cause.id for cause in found[1:] if cause.rank in ("cause", "symptom")][:_TOLD]
    if others:
        lines.append(f"  found too: {', '.join(others)}")
    return lines


def explain_failures(message: str, failures: t.Sequence[t.Mapping[str, t.Any]]) -> tuple[str, list[dict[str, t.Any]]]:
    """The module's message with causes and remedies first, and the causes of each failed server as data.

    failures: the return value of the same name of vllm_servers.
    """
    heads, data = [], []
    for failure in failures:
        found = causes([*failure["log"], failure["reason"]], {**failure, "failed": True})
        data.append({"server": failure["server"], "causes": as_data(found)})
        if any(cause.id in _WANT_OF_GPU_MEMORY for cause in found):
            heads += _others(failure["server"], failure.get("gpu_processes") or ())
        heads += headline(failure["server"], found, whole=False)
    return "\n".join([*heads, message]), data


def _others(server: str, processes: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """The line that names who else holds memory of a server's GPUs, or none."""
    large = [one for one in processes if one["used_bytes"] is None or one["used_bytes"] >= _HARMLESS_BYTES]
    if not large:
        return []
    named = [
        f"{one['name']} (PID {one['pid']}) "
        + ("some memory" if one["used_bytes"] is None else f"{one['used_bytes'] / 2**30:.1f} GiB")
        + f" of {one['gpu']}"
        for one in large[:_TOLD]
    ]
    more = f", and {len(large) - _TOLD} more" if len(large) > _TOLD else ""
    return [
        f"{server}: other processes hold memory of its GPUs: {', '.join(named)}{more}. End what is not needed, or "
        "choose other GPUs under placement.gpus."
    ]


def diagnose_all(
    subjects: t.Sequence[t.Mapping[str, t.Any]], release: str | None = None
) -> tuple[str, list[dict[str, t.Any]]]:
    """What is wrong with each server, for a person and as data.

    subjects: server (name), logs (name to [number, line] each), containers (name to what is known of it) and xids, as
    vllm_diagnose reads them.
    """
    texts, data = [], []
    for subject in subjects:
        states = list(subject["containers"].values())
        facts: dict[str, t.Any] = {
            "oom_killed": any(state.get("oom_killed") for state in states),
            # A container that ended with 0 has not failed; of several the first that did tells.
            "exit_code": next((state["exit_code"] for state in states if state.get("exit_code")), None),
            "xids": subject["xids"],
            "engine": next((state["engine"] for state in states if state.get("engine")), {}),
            "release": release,
        }
        logs = {name: [(int(number), line) for number, line in lines] for name, lines in subject["logs"].items()}
        found = causes_of_logs(logs, facts)
        data.append({"server": subject["server"], "causes": as_data(found)})
        texts += headline(subject["server"], found) or [f"{subject['server']}: nothing known is wrong"]
    return "\n".join(texts) if texts else "There is nothing to look at.", data
