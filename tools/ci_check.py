# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges what `make test` left in .build/results: was everything essential really run?

A green run proves nothing about a test that was skipped or a stage that was never started. This reads stages.tsv (from
tools/test.sh) and the JUnit files, prints one sentence for each thing missing, and ends with the totals.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CORES = ("2.19", "2.20", "2.21")
STAGES = (
    "lint",
    "unit",
    "catalogue",
    *(f"sanity-{core}" for core in CORES),
    "library",
    "faults",
    *(f"integration-{core}" for core in CORES),
    "molecule",
    "e2e",
)
# Stages whose JUnit files must show at least one test that ran: one file, or a folder of them.
REPORTS = (
    *("unit-2.19", "unit-2.21", "unit-target"),
    *(f"{kind}-{core}" for kind in ("sanity", "integration") for core in CORES),
    "catalogue",
    "library",
    "faults",
    "e2e",
)
# What colours a terminal's text.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Sanity tests that may have nothing to look at (pslint: the collection holds no PowerShell), or nothing to look with:
# Python 3.14 is not yet in the distributions that the tests run on, and 3.8 to 3.13 are looked for.
SANITY_NOT_APPLICABLE = "No tests applicable."
SANITY_OPTIONAL = ("pslint", "compile-python-3.14", "import-python-3.14")


@dataclass(frozen=True)
class Case:
    """One test of a JUnit file."""

    report: str
    name: str
    outcome: str  # passed, failed or skipped
    reason: str
    optional: bool


def read_cases(report: str, path: Path) -> Iterator[Case]:
    """Every test case of one JUnit file."""
    for element in ET.parse(path).getroot().iter("testcase"):
        skipped = element.find("skipped")
        bad = element.find("failure") is not None or element.find("error") is not None
        properties = {item.get("name") for item in element.iter("property")}
        name = element.get("name", "?")
        yield Case(
            report=report,
            name=f"{element.get('classname', '')}::{name}",
            outcome="failed" if bad else "passed" if skipped is None else "skipped",
            reason="" if skipped is None else (skipped.get("message") or skipped.text or "").strip(),
            optional="optional" in properties or name.startswith(SANITY_OPTIONAL),
        )


def read_reports(results: Path) -> list[Case]:
    """Every test case below the results folder, with the name of its stage as report."""
    return [
        case
        for path in sorted(results.rglob("*.xml"))
        for case in read_cases(path.relative_to(results).parts[0].removesuffix(".xml"), path)
    ]


def read_stages(results: Path) -> dict[str, str]:
    """Stage name -> "passed" or "FAILED", as tools/test.sh wrote them."""
    table = results / "stages.tsv"
    if not table.is_file():
        return {}
    rows = (line.split("\t") for line in table.read_text(encoding="utf-8").splitlines())
    return {row[0]: row[1] for row in rows}


def problems(stages: dict[str, str], cases: list[Case]) -> list[str]:
    """What keeps this run from counting, one sentence each."""
    found = [
        f"stage {stage}: {'failed, see .build/logs/' + stage + '.log' if stage in stages else 'was not run'}"
        for stage in STAGES
        if stages.get(stage) != "passed"
    ]
    for report in REPORTS:
        if not any(case.outcome == "passed" for case in cases if case.report == report):
            found.append(f"report {report}: no test in it passed, so nothing shows that it was tried")
    for case in cases:
        where = f"{case.report}: {case.name}"
        if case.outcome == "failed":
            found.append(f"{where} failed")
        elif case.outcome == "skipped" and case.reason in ("", "unconditional skip"):
            found.append(f"{where} was skipped without a reason")
        elif case.outcome == "skipped" and not case.optional and case.reason != SANITY_NOT_APPLICABLE:
            found.append(f"{where} is essential and was skipped: {case.reason}")
    return found


def untried_roles(roles: Path, log: Path) -> list[str]:
    """The roles whose molecule scenario did not come to its end by molecule's recap, one sentence each."""
    text = COLOURS.sub("", log.read_text(encoding="utf-8")) if log.is_file() else ""
    return [
        f"molecule: the scenario of the role {role.name} was not run to its end"
        for role in sorted(roles.iterdir())
        if not re.search(rf"^{role.name} *: +actions=(\d+) +successful=\1 .*failed=0$", text, re.MULTILINE)
    ]


def main(root: Path) -> int:
    """Print the verdict on what a run left below this folder; 0 if everything essential passed."""
    results = root / ".build" / "results"
    cases = read_reports(results)
    found = problems(read_stages(results), cases)
    found += untried_roles(root / "roles", root / ".build" / "logs" / "molecule.log")
    for sentence in found:
        print(f"ci: {sentence}")
    count = {outcome: sum(case.outcome == outcome for case in cases) for outcome in ("passed", "failed", "skipped")}
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
