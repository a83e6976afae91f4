# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A log of 100 MB: what travels to the controller is small, and neither time nor memory grow without bound.

The process that reads has a limit on its memory, which ends it where it would take more.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

MIB = 2**20
# Read in a process of its own, so that its memory can be told.
READ = """
import json, resource, sys, time
from ansible_collections.gpufleet.vllm.plugins.module_utils._incident import collect, reading
from ansible_collections.gpufleet.vllm.plugins.module_utils._redact import Redactor
began = time.monotonic()
(source,) = collect.files([sys.argv[1]])
lines = reading.excerpt(reading.lines_of(source.pieces()), Redactor(["a-secret-value"]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({"lines": lines, "seconds": time.monotonic() - began, "peak_mib": peak}))
"""


# The controller's half on the whole log, as where it is given one uncut.
JUDGE = """
import json, resource, sys, time
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.explain import causes
began = time.monotonic()
with open(sys.argv[1], encoding="utf-8") as handle:
    found = [(cause.id, cause.line) for cause in causes((line.rstrip() for line in handle), {})]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({"found": found, "seconds": time.monotonic() - began, "peak_mib": peak}))
"""
# The line before which the cause stands in the flood.
CAUSE_LINE = 51 * 5000 + 1


def run(program: str, log: pathlib.Path) -> tuple[dict[str, Any], int]:
    """What a program of its own prints of the log, and how much that is."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(log)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), len(done.stdout)


@pytest.fixture(scope="module")
def flood(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A log of 100 MB with one line that tells the cause."""
    log = tmp_path_factory.mktemp("flood") / "flood.log"
    line = "(APIServer pid=1) INFO 11-20 10:00:00 [loggers.py:1] Engine 000: Avg prompt: {} tokens/s, a-secret-value\n"
    block = "".join(line.format(number) for number in range(5000))
    with log.open("w", encoding="utf-8") as handle:
        for number in range(100 * MIB // len(block) + 1):
            handle.write(block)
            if number == 50:
                handle.write("ERROR 11-20 10:00:00 [x.py:1] OSError: [Errno 28] No space left on device\n")
    assert log.stat().st_size > 100 * MIB
    return log


def test_excerpt_of_100_mb(flood: pathlib.Path) -> None:
    result, size = run(READ, flood)
    assert size < 2 * MIB and "a-secret-value" not in json.dumps(result)
    assert [number for number, text in result["lines"] if "No space" in text] == [CAUSE_LINE]
    assert result["peak_mib"] < 200
    # Some seconds on a quiet machine; without a bound on what is kept it would be hours.
    assert result["seconds"] < 1000


def test_diagnosis_of_100_mb(flood: pathlib.Path) -> None:
    result, _size = run(JUDGE, flood)
    assert result["found"] == [["disk-full", CAUSE_LINE]]
    assert result["peak_mib"] < 200
    # Some seconds on a quiet machine; without a bound on what is kept it would be hours.
    assert result["seconds"] < 1000
