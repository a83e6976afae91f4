# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue against vLLM itself: the packages of some releases are fetched, and their own code is asked."""

from __future__ import annotations

import filecmp
import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.catalogue import FOLDER, releases

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "catalogue"
# One of each kind of parser, and the newest; `make catalogue-verify` takes them all.
RELEASES = ("0.6.6", "0.8.5", "0.10.2", "0.11.2", "0.17.1", releases()[-1])
# Of which the first run makes an environment with PyTorch.
SECONDS = 3000


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A tool of tools/catalogue."""
    python = os.environ.get("CATALOGUE_PYTHON", "python3.11")
    return subprocess.run([python, *command], capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.fixture(scope="module")
def verified() -> str:
    """What verify.py prints: a line for each release, and one more for each problem."""
    done = run(TOOLS / "verify.py", "--releases", *RELEASES)
    assert "renderings" in done.stdout, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("release", RELEASES)
def test_what_we_render_is_taken_and_understood(release: str, verified: str) -> None:
    _before, found, rest = verified.partition(f"vLLM {release}: ")
    assert found, verified
    line, *problems = rest.partition("\nvLLM ")[0].partition("\nskipped")[0].splitlines()
    assert problems == []
    assert " 0 rejected, 0 mismatched," in line


def test_the_catalogue_is_what_the_newest_release_says(tmp_path: Path) -> None:
    sections = [path.name for path in FOLDER.glob("*.json")]
    for name in sections:
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    done = run(TOOLS / "extract.py", "--releases", releases()[-1], "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    _same, different, missing = filecmp.cmpfiles(FOLDER, tmp_path, sections, shallow=False)
    assert (different, missing) == ([], [])
