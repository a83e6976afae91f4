# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet as it is: one line a server. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.table import table

# States in which a server answers requests, or will by itself.
_SERVING = ("ready", "saturated", "loading")
# The Docker Engine's time of what never was.
_NEVER = "0001-01-01"


def fleet_text(servers: t.Mapping[str, t.Sequence[t.Mapping[str, t.Any]]]) -> list[str]:
    """Lines of the table, and below it why a server does not serve. servers: what vllm_info returned for each host."""
    rows = [
        [
            server["name"],
            host,
            server["state"],
            server["url"],
            server["version"] or "-",
            _figure(server, "requests_running"),
            _figure(server, "requests_waiting"),
            _figure(server, "kv_cache_usage_ratio", 100),
            _figure(server, "generation_tokens_total"),
            _figure(server, "time_to_first_token_p95_seconds", 1000),
            _gpu_use(server),
            _time(server["started_at"]),
        ]
        for host, found in sorted(servers.items())
        for server in found
    ]
    if not rows:
        return ["No server of the fleet runs on any host."]
    heads = [
        "server",
        "host",
        "state",
        "url",
        "vLLM",
        "running",
        "waiting",
        "KV used %",
        "tokens made",
        "first token p95 ms",
        "GPU used %",
        "started (UTC)",
    ]
    whys = [
        f"{server['name']} on {host} is {server['state']}: {server['why']}"
        for host, found in sorted(servers.items())
        for server in found
        if server["state"] not in _SERVING and server.get("why")
    ]
    return table(heads, rows) + (["", *whys] if whys else [])


def _figure(server: t.Mapping[str, t.Any], name: str, scale: float = 1) -> str:
    value = (server.get("metrics") or {}).get(name)
    return "-" if value is None else f"{value * scale:.0f}"


def _gpu_use(server: t.Mapping[str, t.Any]) -> str:
    """Memory in use of the server's GPUs, of the fullest."""
    shares = [
        100 * one["memory_used_bytes"] / one["memory_total_bytes"]
        for one in server.get("gpu_use") or ()
        if one["memory_total_bytes"] and one["memory_used_bytes"] is not None
    ]
    return f"{max(shares):.0f}" if shares else "-"


def _time(text: str) -> str:
    return "-" if not text or text.startswith(_NEVER) else text[:19].replace("T", " ")
