# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vllm_info tells of GPUs, through the real nvidia-ml-py over the stand-in library."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from support.nvml import stand_in

SCRIPT = """
import json
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import servers
print(json.dumps(servers._cards()))
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder with the stand-in library."""
    return stand_in.compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.mark.parametrize(
    ("profile", "busy"), [("v100", {"GPU": 97}), ("a100-mig", {"GPU": None, "MIG": None}), ("no-module", {})]
)
def test_use_of_each_card_and_mig_device(library: pathlib.Path, profile: str, busy: dict[str, t.Any]) -> None:
    variables = dict(stand_in.environment(library, profile), PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=variables, check=True, capture_output=True, text=True, timeout=120
    )
    found = json.loads(done.stdout)
    assert {uuid[:3]: one["utilization_percent"] for uuid, one in found.items()} == busy
    for one in found.values():
        assert one["memory_total_bytes"] > 0
