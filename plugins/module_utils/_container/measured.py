# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What starts on this host have told of their memory, kept for the next plan.

<state_dir>/measured.jsonl holds one start a line, the latest last: its key (all that decides about memory), what was
predicted and what was measured. It holds no secret, no argument and no address.
"""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

# Starts that are kept; with the plan's keys a line has about 1.5 KB.
KEPT = 100
# As much is read. Lines of engines with many GPUs are longer, and fewer of them are then kept.
_MOST_BYTES = 2**20

FILE = "measured.jsonl"

Measurement = t.Dict[str, t.Any]


def compared(expected: t.Mapping[str, t.Any] | None, measured: t.Mapping[str, t.Any] | None) -> dict[str, t.Any] | None:
    """What a start has told beside what was predicted: {predicted, measured, difference}; None when it told nothing.

    expected: the option servers[].expected_memory of vllm_servers.
    difference: measured less predicted, of the figures that both have.
    """
    if not measured:
        return None
    told = (expected or {}).get("predicted")
    predicted = dict(told) if isinstance(told, dict) else {}
    difference = {
        name: round(measured[name] - value, 4)
        for name, value in predicted.items()
        if _is_number(value) and _is_number(measured.get(name))
    }
    return {"predicted": predicted or None, "measured": dict(measured), "difference": difference}


def measurement(
    server: t.Mapping[str, t.Any], memory: t.Mapping[str, t.Any] | None, version: str | None, at: str
) -> Measurement | None:
    """What is kept of a start, or None when it says nothing of the budget or nobody knows what it was a start of.

    memory: what compared() returns; version: the release that the engine told; at: time of the start in UTC.
    """
    expected = server.get("expected_memory") or {}
    if memory is None or not isinstance(expected.get("key"), dict) or memory["measured"]["available_kv_gib"] is None:
        return None
    return {
        "at": at,
        "server": server["name"],
        "version": version,
        "key": expected["key"],
        "predicted": memory["predicted"],
        "measured": memory["measured"],
    }


def kept(folder: str) -> list[Measurement]:
    """The measurements of this host, the latest last; none where the file is missing, unreadable or not ours."""
    try:
        with open(os.path.join(folder, FILE), encoding="utf-8") as handle:
            lines = handle.read(_MOST_BYTES).splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [entry for entry in map(_read, lines) if entry is not None][-KEPT:]


def keep(folder: str, news: t.Sequence[Measurement]) -> None:
    """Add measurements; each replaces an earlier one of the same key, and the latest that have room are kept.

    Called by the one run that holds the host's lock. A start is not failed for want of room for its figures.
    """
    if not news:
        return
    entries = {json.dumps(entry["key"], sort_keys=True): entry for entry in kept(folder)}
    for entry in news:
        name = json.dumps(entry["key"], sort_keys=True)
        entries.pop(name, None)
        entries[name] = entry
    lines = [json.dumps(entry, sort_keys=True) + "\n" for entry in list(entries.values())[-KEPT:]]
    while sum(map(len, lines)) > _MOST_BYTES:
        del lines[0]
    path = os.path.join(folder, FILE)
    temporary = path + ".new"
    try:
        # Links that somebody put there are not followed: the name is taken anew, and then moved over the old one.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as handle:
            # Whoever inspects the host may read it, whatever the umask of the run.
            os.fchmod(handle.fileno(), 0o644)
            handle.writelines(lines)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _read(line: str) -> Measurement | None:
    """A line of the file; None when it is torn or of another form."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), dict) for name in ("key", "measured")):
        return None
    return entry


def _is_number(value: t.Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
