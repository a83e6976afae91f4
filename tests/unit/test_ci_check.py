# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/ci_check.py must see each way in which a green run can be empty."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CI = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools/ci_check.py"))


def results(folder: Path) -> Path:
    """A results folder as a run leaves it in which everything passed."""
    folder.mkdir(parents=True)
    (folder.parents[1] / "roles").mkdir()
    (folder / "stages.tsv").write_text("".join(f"{stage}\tpassed\t1\n" for stage in CI["STAGES"]), encoding="utf-8")
    for report in CI["REPORTS"]:
        write(folder, report, "")
    return folder


def write(folder: Path, report: str, inside: str) -> None:
    """A JUnit file with one test that passed and one with these elements in it."""
    (folder / f"{report}.xml").write_text(
        f'<testsuites><testsuite><testcase classname="t" name="good"/>'
        f'<testcase classname="t" name="other">{inside}</testcase></testsuite></testsuites>',
        encoding="utf-8",
    )


OPTIONAL = '<properties><property name="optional" value="true"/></properties>'


def stages_without(stage: str) -> Callable[[Path], Any]:
    def spoil(folder: Path) -> None:
        table = folder / "stages.tsv"
        lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
        table.write_text("".join(line for line in lines if not line.startswith(stage)), encoding="utf-8")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: None, ""),
        (lambda folder: write(folder, "unit-2.19", f"{OPTIONAL}<skipped message='no GPU here'/>"), ""),
        (lambda folder: write(folder, "sanity-2.20", "<skipped>No tests applicable.</skipped>"), ""),
        (
            lambda folder: write(folder, "unit-2.19", "<skipped message='no GPU here'/>"),
            "unit-2.19: t::other is essential and was skipped: no GPU here",
        ),
        (
            lambda folder: write(folder, "unit-2.19", f"{OPTIONAL}<skipped message=''/>"),
            "unit-2.19: t::other was skipped without a reason",
        ),
        (lambda folder: write(folder, "e2e", "<failure/>"), "e2e: t::other failed"),
        (lambda folder: write(folder, "e2e", "<error/>"), "e2e: t::other failed"),
        (stages_without("sanity-2.20"), "stage sanity-2.20: was not run"),
        (lambda folder: (folder / "stages.tsv").unlink(), "stage lint: was not run"),
        (lambda folder: (folder / "integration-2.19.xml").unlink(), "report integration-2.19: no test in it passed"),
    ],
)
def test_verdict(
    spoil: Callable[[Path], Any], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(results(tmp_path / ".build" / "results"))
    status = CI["main"](tmp_path)
    output = capsys.readouterr().out
    assert status == (1 if sentence else 0)
    assert sentence in output
    assert output.splitlines()[-1].split()[1::2] == ["passed,", "failed,", "skipped"]


def test_a_role_whose_scenario_was_not_run_is_named(tmp_path: Path) -> None:
    for role in ("host", "server", "store"):
        (tmp_path / "roles" / role).mkdir(parents=True)
    log = tmp_path / "molecule.log"
    log.write_text(
        "\x1b[32mhost \x1b[0m: \x1b[33mactions=5\x1b[0m  \x1b[32msuccessful=5\x1b[0m  missing=0  failed=0\n"
        "server : actions=5  successful=4  disabled=0  missing=0  failed=1\n",
        encoding="utf-8",
    )
    found = CI["untried_roles"](tmp_path / "roles", log)
    assert [sentence.split("role ")[1].split()[0] for sentence in found] == ["server", "store"]
    assert len(CI["untried_roles"](tmp_path / "roles", tmp_path / "none.log")) == 3
