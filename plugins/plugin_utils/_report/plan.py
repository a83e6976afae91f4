# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as text: where each server goes, and the memory of its device. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.memory import advice_text, ledger_text
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.table import table


def plan_text(placements: t.Sequence[t.Mapping[str, t.Any]], removals: t.Sequence[t.Mapping[str, str]]) -> list[str]:
    """Lines of the whole report. placements, removals: those of the plan."""
    lines = ["PLAN", *_placements(placements)]
    for placement in placements:
        if placement["ledger"]:
            lines += ["", *ledger_text(placement["server"], placement["ledger"]), *advice_text(placement["advice"])]
        else:
            lines += ["", f"MEMORY of {placement['server']}: unknown, for {placement['memory_unknown']}"]
    if removals:
        lines += ["", "Run with prune to remove: " + ", ".join(f"{one['server']} on {one['host']}" for one in removals)]
    return lines


def _placements(placements: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    rows = [
        [
            placement["server"],
            placement["host"],
            ",".join(str(gpu["index"] if gpu["index"] is not None else gpu["uuid"]) for gpu in placement["gpus"])
            or "CPU",
            placement["listen"],
            placement["vllm"],
            placement["ledger"]["verdict"] if placement["ledger"] else "unknown",
            "runs" if placement["runs_already"] else "new",
        ]
        for placement in placements
    ]
    return table(["server", "host", "GPUs", "listens on", "vLLM", "memory", "now"], rows)
