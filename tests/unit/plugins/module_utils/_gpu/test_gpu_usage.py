# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in use of GPUs, through the real nvidia-ml-py over the stand-in library."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from support.nvml import stand_in

MIB = 2**20
H100 = "GPU-h1000000-0000-0000-0000-00000000000{}"
SCRIPT = """
import json, sys
if sys.argv[2] == "no binding":
    sys.modules["pynvml"] = None
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.usage import usage
print(json.dumps(usage(json.loads(sys.argv[1]))))
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder with the stand-in library."""
    return stand_in.compile_library(tmp_path_factory.mktemp("nvml"))


def usage(library: pathlib.Path, profile: str, *ids: str, binding: str = "binding") -> dict[str, t.Any]:
    command = [sys.executable, "-c", SCRIPT, json.dumps(ids), binding]
    variables = dict(stand_in.environment(library, profile), PYTHONPATH=os.pathsep.join(sys.path))
    return json.loads(subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout)


def test_memory_and_processes_of_the_named_gpus(library: pathlib.Path) -> None:
    assert usage(library, "h100x2", H100.format(0), "GPU-none") == {
        H100.format(0): [(469 + 69531) * MIB, {"100": 69000 * MIB, "101": None}]
    }
    # The second one refuses to list its processes.
    assert usage(library, "h100x2", H100.format(1)) == {H100.format(1): [(469 + 131) * MIB, None]}


def test_mig_devices(library: pathlib.Path) -> None:
    text = (stand_in.PROFILES / "a100-mig.txt").read_text()
    uuid = next(word for word in text.split() if word.startswith("MIG-"))
    (found,) = usage(library, "a100-mig", uuid).values()
    assert found[0] > 0


@pytest.mark.parametrize("profile", ["no-module", "no-card", "all-lost"])
def test_where_nvml_tells_nothing(library: pathlib.Path, profile: str) -> None:
    assert usage(library, profile, H100.format(0)) == {}
    assert usage(library, "h100x2", H100.format(0), binding="no binding") == {}


OTHERS = """
import json, sys
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.usage import others
print(json.dumps(others(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3])))
"""


def test_who_else_holds_memory(library: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def others(container: str) -> list[dict[str, t.Any]]:
        command = [sys.executable, "-c", OTHERS, json.dumps([H100.format(0), H100.format(1)]), container, str(tmp_path)]
        variables = dict(stand_in.environment(library, "h100x2"), PYTHONPATH=os.pathsep.join(sys.path))
        return json.loads(subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout)

    # Nobody is there any more.
    assert others("c0ffee") == []
    for pid, name, group in ((100, "python3", "/user.slice"), (101, "VLLM::EngineCor", "/docker/c0ffee")):
        folder = tmp_path / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "comm").write_text(name + "\n")
        (folder / "cgroup").write_text(f"0::{group}\n")
    one = {"gpu": H100.format(0), "pid": 100, "name": "python3", "used_bytes": 69000 * MIB}
    assert others("c0ffee") == [one]
    assert others("") == [one, {**one, "pid": 101, "name": "VLLM::EngineCor", "used_bytes": None}]
