# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as text: where each server goes, and the memory ledger of its device. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.table import table

GIB = 2**30
_BAR_CELLS = 50
# One letter a term in the bar; the KV cache is what the terms leave.
_LETTERS = {"weights": "W", "activation": "A", "runtime": "R", "graphs": "G", "kv cache": "K", "context": "C"}


def plan_text(placements: t.Sequence[t.Mapping[str, t.Any]], removals: t.Sequence[t.Mapping[str, str]]) -> list[str]:
    """Lines of the whole report. placements, removals: those of the plan."""
    lines = ["PLAN", *_placements(placements)]
    for placement in placements:
        if placement["ledger"]:
            lines += ["", *ledger_text(placement["server"], placement["ledger"])]
        else:
            lines += ["", f"MEMORY of {placement['server']}: unknown, for {placement['memory_unknown']}"]
    if removals:
        lines += ["", "Run with prune to remove: " + ", ".join(f"{one['server']} on {one['host']}" for one in removals)]
    return lines


def ledger_text(server: str, ledger: t.Mapping[str, t.Any]) -> list[str]:
    """The ledger of one server: a bar, the terms with their error, and what they leave. GiB."""
    terms = [*ledger["terms"], ledger["kv"], *ledger["outside"]]
    rows = [[term["name"], *(f"{term[column] / GIB:.3f}" for column in ("low", "expected", "high"))] for term in terms]
    found = (
        f"{ledger['verdict']}: {ledger['tokens']:,} tokens of KV cache, {ledger['concurrency']:g} requests of "
        f"{ledger['max_model_len']:,} tokens at once; "
        f"the longest request that model and memory allow has {ledger['largest_length']:,} tokens"
    )
    return [
        f"MEMORY of {server} on {ledger['device']}: {ledger['total'] / GIB:.2f} GiB, "
        f"of which the engine takes {ledger['budget'] / GIB:.2f}",
        _bar(terms, ledger["total"]),
        *table(["GiB", "low", "expected", "high"], rows),
        found,
        *(f"note: {note}" for note in ledger["notes"]),
    ]


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


def _bar(terms: t.Sequence[t.Mapping[str, t.Any]], total: int) -> str:
    """The device from end to end; a dot is memory that the engine leaves."""
    cells = ""
    for term in terms:
        cells += _LETTERS.get(term["name"], "?") * round(max(0, term["expected"]) / total * _BAR_CELLS)
    key = ", ".join(f"{_LETTERS.get(term['name'], '?')} {term['name']}" for term in terms)
    return f"[{cells[:_BAR_CELLS]:.<{_BAR_CELLS}}] {key}"
