# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a failed start to its cause and what mends it. Pure but for reading the signatures once."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
import typing as t

import yaml

# The most characters of a line that are shown.
_SHOWN = 300


@dataclasses.dataclass(frozen=True)
class Cause:
    """id: the signature's; cause and remedy: one sentence each; evidence: the line that showed it; None for a fact."""

    id: str
    cause: str
    remedy: str
    evidence: str | None


@functools.cache
def signatures() -> tuple[dict[str, t.Any], ...]:
    """The signatures in the order of their rank, patterns compiled."""
    path = pathlib.Path(__file__).with_name("signatures.yml")
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple({**entry, "pattern": re.compile(entry["pattern"]) if "pattern" in entry else None} for entry in loaded)


def causes(lines: t.Sequence[str], facts: t.Mapping[str, t.Any]) -> list[Cause]:
    """All causes that the log's lines and the facts of the failure (oom_killed) show, most telling first."""
    text = "\n".join(lines)
    found = []
    for entry in signatures():
        if entry["pattern"] is None:
            if facts.get(entry["state"]):
                found.append(Cause(entry["id"], entry["cause"], entry["remedy"], None))
            continue
        match = entry["pattern"].search(text)
        if match:
            groups = {name: (value or "").strip()[:_SHOWN] for name, value in match.groupdict().items()}
            start, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.start())
            evidence = text[start : end if end >= 0 else None].strip()[:_SHOWN]
            found.append(
                Cause(entry["id"], entry["cause"].format(**groups), entry["remedy"].format(**groups), evidence)
            )
    return found


def explain_failures(message: str, failures: t.Sequence[t.Mapping[str, t.Any]]) -> tuple[str, list[dict[str, t.Any]]]:
    """The module's message with causes and remedies first, and the causes of each failed server as data.

    failures: the return value of the same name of vllm_servers.
    """
    heads, data = [], []
    for failure in failures:
        found = causes([*failure["log"], failure["reason"]], failure)
        data.append({"server": failure["server"], "causes": [dataclasses.asdict(cause) for cause in found]})
        if found:
            heads.append(f"{failure['server']}: {found[0].cause} {found[0].remedy}")
            if found[0].evidence:
                heads.append(f"  evidence: {found[0].evidence}")
    return "\n".join([*heads, message]), data
