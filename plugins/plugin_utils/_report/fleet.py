# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet as it is: one line a server. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.table import table


def fleet_text(servers: t.Mapping[str, t.Sequence[t.Mapping[str, t.Any]]]) -> list[str]:
    """Lines of the table. servers: what vllm_info returned for each host."""
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
            server["started_at"][:19].replace("T", " "),
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
        "started (UTC)",
    ]
    return table(heads, rows)


def _figure(server: t.Mapping[str, t.Any], name: str, scale: float = 1) -> str:
    value = (server.get("metrics") or {}).get(name)
    return "-" if value is None else f"{value * scale:.0f}"
