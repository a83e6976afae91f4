# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""From what the recorder told to what was asked for, by whom, when, and why. Pure."""

from __future__ import annotations

import json
import typing as t
from urllib.parse import urlsplit

from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal.recorder import MARK

# ENDPOINT and HF_HUB_OFFLINE in constants.py of huggingface_hub 2.4.0
_HUB = "https://huggingface.co"
_HUB_DOMAINS = (".huggingface.co", ".hf.co")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = ("1", "ON", "YES", "TRUE")
# VLLM_USAGE_STATS_SERVER in vllm/envs.py of 0.32.0
_STATISTICS = "https://stats.vllm.ai"
# FLASHINFER_CUBINS_REPOSITORY in vllm/utils/flashinfer.py of 0.32.0
_KERNELS = "https://edge.urm.nvidia.com"


class Moment(t.NamedTuple):
    """What the engine was seen to do from a second on."""

    second: float
    stage: str
    text: str


def read(log: str) -> list[dict[str, t.Any]]:
    """The recorder's lines as data; what else is in its log is passed over."""
    return [json.loads(line[len(MARK) :]) for line in log.splitlines() if line.startswith(MARK)]


def attempts(
    told: t.Sequence[t.Mapping[str, t.Any]], began: float, moments: t.Sequence[Moment], env: t.Mapping[str, str]
) -> list[dict[str, t.Any]]:
    """What was asked for, in the order of the first time; what was only looked up has no port.

    began: seconds since the epoch of the engine's start; moments: in their order; env: the engine's own variables.
    """
    lookups: dict[str, t.Mapping[str, t.Any]] = {}
    for event in told:
        if event["event"] == "lookup":
            known = lookups.setdefault(event["address"], event)
            if known["process"] is None and event["process"] is not None:
                lookups[event["address"]] = dict(known, process=event["process"])
    found: dict[tuple[str, str, int], dict[str, t.Any]] = {}
    connected = {event["address"] for event in told if event["event"] == "connect"}
    for event in told:
        if event["event"] == "connect":
            looked_up = lookups.get(event["address"])
            host = looked_up["name"] if looked_up else event["address"]
            protocol, port = event["protocol"], event["port"] or None
        elif event["event"] == "lookup" and event["address"] not in connected:
            looked_up, host, protocol, port = lookups[event["address"]], event["name"], "dns", None
        else:
            continue
        second = round(max(0.0, event["at"] - began), 1)
        one = found.setdefault(
            (host, protocol, port or 0),
            {
                "host": host,
                "port": port,
                "protocol": protocol,
                "times": 0,
                "second": second,
                "process": looked_up["process"] if looked_up else None,
                "during": _during(second, moments),
                "source": source(host, env),
            },
        )
        one["times"] += 1
    return list(found.values())


def _during(second: float, moments: t.Sequence[Moment]) -> str | None:
    before = [moment for moment in moments if moment.second <= second]
    return "{1}: {2}".format(*before[-1]) if before else None


def source(host: str, env: t.Mapping[str, str]) -> str | None:
    """Who asks this host and what to do about it; None when that is not known."""
    if host == urlsplit(env.get("HF_ENDPOINT") or _HUB).hostname or host.endswith(_HUB_DOMAINS):
        if any(env.get(name, "").upper() in _TRUE for name in _OFFLINE):
            return (
                "That is the Hugging Face hub, and HF_HUB_OFFLINE is set, which its client obeys: the model's own "
                "code, a plugin, or a program beside the engine asks by itself. Bring what it wants and give its path."
            )
        return (
            "That is the Hugging Face hub, whose client asks it even for files that are in the cache unless "
            "HF_HUB_OFFLINE is set. Set offline: true for the model; the playbook check then names what is missing, "
            "and the playbook prestage or a bundle brings it."
        )
    if host == urlsplit(env.get("VLLM_USAGE_STATS_SERVER") or _STATISTICS).hostname:
        return "That is where vLLM sends its usage statistics. Leave VLLM_NO_USAGE_STATS=1 in the model's env."
    if host == urlsplit(env.get("FLASHINFER_CUBINS_REPOSITORY") or _KERNELS).hostname:
        return (
            "That is where FlashInfer finds its compiled kernels. Use an image that has them, or choose another "
            "attention backend."
        )
    return None


def target(one: t.Mapping[str, t.Any]) -> str:
    """What an attempt was made for, in words."""
    if one["protocol"] == "dns":
        return f"the address of {one['host']}"
    kind = "" if one["protocol"] == "tcp" else f" ({one['protocol']})"
    return f"{one['host']}{':' + str(one['port']) if one['port'] else ''}{kind}"


def sentence(one: t.Mapping[str, t.Any]) -> str:
    """An attempt in words, with its source."""
    facts = [f"from the process {one['process']}"] if one["process"] else []
    facts.append(f"at second {one['second']}")
    if one["times"] > 1:
        facts.append(f"{one['times']} times")
    if one["during"]:
        facts.append(f"during {one['during']}")
    why = one["source"] or "Who asks is not known here; its process and the engine's log at that second tell."
    return f"asked for {target(one)} ({', '.join(facts)}). {why}"
