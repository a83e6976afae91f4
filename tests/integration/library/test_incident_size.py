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


def test_excerpt_of_100_mb(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "flood.log"
    line = "(APIServer pid=1) INFO 11-20 10:00:00 [loggers.py:1] Engine 000: Avg prompt: {} tokens/s, a-secret-value\n"
    block = "".join(line.format(number) for number in range(5000))
    with log.open("w", encoding="utf-8") as handle:
        for number in range(100 * MIB // len(block) + 1):
            handle.write(block)
            if number == 50:
                handle.write("ERROR 11-20 10:00:00 [x.py:1] OSError: [Errno 28] No space left on device\n")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(log)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert log.stat().st_size > 100 * MIB
    assert len(done.stdout) < 2 * MIB and "a-secret-value" not in done.stdout
    assert [text for _number, text in result["lines"] if "No space" in text]
    assert result["peak_mib"] < 200
    assert result["seconds"] < 120
