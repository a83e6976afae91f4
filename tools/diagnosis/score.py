# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How often the diagnosis ranks the right cause first, over messages whose cause is known.

A file of samples is a JSON list of {"id": cause, "samples": [{"text": log}, ...]}; further fields are ignored. An id of
null, "healthy" or one that begins with "healthy-", or a true "healthy", marks logs of starts that go well, in which
nothing may be found. Without a file the samples of the known causes themselves are scored.
"""

from __future__ import annotations

import argparse
import json
import sys
import typing as t
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.explain import causes
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.signatures import signatures

# Characters of a missed message that are shown.
SHOWN = 160


def own_samples() -> list[dict[str, t.Any]]:
    """The samples that the known causes bring along, in the form of a file."""
    return [{"id": one.id, "samples": [{"text": one.sample}]} for one in signatures() if one.sample]


def is_healthy(entry: t.Mapping[str, t.Any]) -> bool:
    """Whether the logs of this entry are of starts that go well."""
    name = entry.get("id")
    return bool(entry.get("healthy")) or name is None or name == "healthy" or name.startswith("healthy-")


def score(entries: t.Iterable[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """The result as data: totals, figures of each id, and what was missed."""
    ids: dict[str, dict[str, int]] = {}
    missed, false, healthy, total, right = [], [], 0, 0, 0
    for entry in entries:
        for sample in entry["samples"]:
            text = sample if isinstance(sample, str) else sample["text"]
            found = [cause.id for cause in causes(text.splitlines(), {})]
            if is_healthy(entry):
                healthy += 1
                if found:
                    false.append({"found": found, "text": text[:SHOWN]})
                continue
            figures = ids.setdefault(entry["id"], {"samples": 0, "first": 0, "found": 0})
            hit = found[:1] == [entry["id"]]
            figures["samples"] += 1
            figures["first"] += hit
            figures["found"] += entry["id"] in found
            total += 1
            right += hit
            if not hit:
                missed.append({"id": entry["id"], "found": found, "text": text[:SHOWN]})
    return {
        "samples": total,
        "first": right,
        "share": round(right / total, 4) if total else None,
        "healthy": healthy,
        "false": false,
        "missed": missed,
        "ids": ids,
    }


def shown(result: t.Mapping[str, t.Any]) -> str:
    """The result as text, an id a line."""
    lines = [f"{'id':36} samples  first  found"]
    lines += [
        f"{name:36} {figures['samples']:7} {figures['first']:6} {figures['found']:6}"
        for name, figures in sorted(result["ids"].items())
    ]
    lines += [
        f"missed: {miss['id']}, found {miss['found'] or 'nothing'}: {miss['text']!r}" for miss in result["missed"]
    ]
    lines += [f"false: found {false['found']} in {false['text']!r}" for false in result["false"]]
    share = "" if result["share"] is None else f" ({result['share']:.1%})"
    lines.append(f"right cause first: {result['first']} of {result['samples']}{share}")
    lines.append(f"false matches: {len(result['false'])} of {result['healthy']} healthy logs")
    return "\n".join(lines)


def main() -> int:
    """Print the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, help="JSON file; the known causes' own samples without it")
    parser.add_argument("--json", type=Path, help="where to write the result as JSON")
    arguments = parser.parse_args()
    entries = json.loads(arguments.samples.read_text(encoding="utf-8")) if arguments.samples else own_samples()
    result = score(entries)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(shown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
