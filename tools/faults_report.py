# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault table out of what the tests have recorded: docs/faults.md, and its figures on standard output.

    faults_report.py [--records .build/results/faults.jsonl] [--out docs/faults.md]

Records are those of `make faults`, and of `make e2e` for real vLLM. A row of the table that no record replaces stays,
so that a run of one stage does not remove what another has shown.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEAD = """<!--
Copyright (c) 2026, the gpufleet.vllm contributors
SPDX-License-Identifier: GPL-3.0-or-later
-->

# What happens when something goes wrong

Each row is a test against a real Docker Engine (`make faults`, `make e2e`), written by `make faults-report` from what
these tests recorded. The engine is the stand-in (it starts within a second and has faults at will) or real vLLM in its
build for the CPU. Seconds are those from the fault to its report (from the end of the container to the report, where a
start fails), or until the server serves again. Measured on 2 cores that other work shared.

"""
COLUMNS = ("fault", "engine", "seconds", "what is reported", "what runs afterwards")
ROW = re.compile(r"^\| (?!fault \||-)(.+) \|$")


def cell(text: Any) -> str:
    """A cell of a table in Markdown."""
    return str(text).replace("|", "\\|").replace("\n", " ").strip()


def row_of(record: dict[str, Any]) -> tuple[str, ...]:
    """The cells of a record."""
    seconds = "" if record["seconds"] is None else f"{record['seconds']:.1f}"
    return tuple(cell(one) for one in (record["name"], record["engine"], seconds, record["reported"], record["left"]))


def read_rows(page: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """The rows of a page as it is, by fault and engine."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.is_file() else []
    rows = [re.split(r" (?<!\\)\| ", found[1]) for line in lines if (found := ROW.match(line))]
    return {(row[0], row[1]): tuple(row) for row in rows if len(row) == len(COLUMNS)}


def table(rows: dict[tuple[str, str], tuple[str, ...]]) -> str:
    """All rows as Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows.values())]) + "\n"


def figures(rows: dict[tuple[str, str], tuple[str, ...]]) -> dict[str, Any]:
    """What the README says of the table."""
    seconds = [float(row[2]) for row in rows.values() if row[2]]
    return {
        "faults": len(rows),
        "real_vllm": sum(engine != "stand-in" for _fault, engine in rows),
        "median_seconds": round(statistics.median(seconds), 2) if seconds else None,
        "longest_seconds": max(seconds, default=None),
    }


def main(arguments: list[str]) -> int:
    """Write the page and print the figures."""
    parser = argparse.ArgumentParser(description="the fault table")
    parser.add_argument("--records", type=Path, default=ROOT / ".build/results/faults.jsonl")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/faults.md")
    options = parser.parse_args(arguments)
    if not options.records.is_file():
        print(f"there are no records at {options.records}: run make faults first", file=sys.stderr)
        return 1
    rows = read_rows(options.out)
    for line in options.records.read_text(encoding="utf-8").splitlines():
        row = row_of(json.loads(line))
        rows[row[0], row[1]] = row
    rows = dict(sorted(rows.items(), key=lambda item: (item[0][1] != "stand-in", item[0][0])))
    options.out.write_text(HEAD + table(rows), encoding="utf-8")
    print(json.dumps(figures(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
