# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The answers that the unit tests take for vLLM's: its own code is asked again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "unit" / "fixtures" / "capacity"
# One of the time when windows were counted in full, and the newest.
RELEASES = ("0.8.5", "0.33.0")
# Of which the first run makes an environment with PyTorch.
SECONDS = 1500


def test_the_answers_are_those_of_vllm(tmp_path: Path) -> None:
    (tmp_path / "layouts.json").write_bytes((FIXTURES / "layouts.json").read_bytes())
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "memory" / "capacity_cases.py", "--releases", *RELEASES, "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    fresh = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    kept = json.loads((FIXTURES / "answers.json").read_text(encoding="utf-8"))
    assert fresh == {release: kept[release] for release in RELEASES}
