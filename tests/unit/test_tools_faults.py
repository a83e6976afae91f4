# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault table is written from records, and keeps what a later run does not replace."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

MAIN = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools/faults_report.py"))["main"]


def record(name: str, seconds: float | None, reported: str = "it failed", engine: str = "stand-in") -> str:
    return json.dumps(
        {"name": name, "engine": engine, "seconds": seconds, "reported": reported, "left": "nothing", "test": "t"}
    )


def test_rows_are_kept_replaced_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, page = tmp_path / "faults.jsonl", tmp_path / "faults.md"
    arguments = ["--records", str(records), "--out", str(page)]
    assert MAIN(arguments) == 1
    capsys.readouterr()
    records.write_text(record("b", 1.0, "one | two") + "\n" + record("a", None) + "\n")
    assert MAIN(arguments) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == 2
    records.write_text(record("c", 3.0, engine="vLLM 0.32.0") + "\n" + record("b", 2.0, "one | two") + "\n")
    assert MAIN(arguments) == 0
    figures = {"faults": 3, "real_vllm": 1, "median_seconds": 2.5, "longest_seconds": 3.0}
    assert json.loads(capsys.readouterr().out) == figures
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| fault", "| a", "| b", "| c"]
    assert rows[2] == "| b | stand-in | 2.0 | one \\| two | nothing |"
