# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the stand-in for NVIDIA's libnvidia-ml.so.1, and runs gpu_facts over it as on a machine with that library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROFILES = HERE / "profiles"
LIBRARY = "libnvidia-ml.so.1"

# In a process of its own, for the binding loads the library once. The second argument removes functions from the
# binding, as an old release lacks them, or hides the binding altogether; the third one is what journalctl answers.
_SCRIPT = """
import json, sys
root, missing, journal = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
if missing == "binding":
    sys.modules["pynvml"] = None
else:
    import pynvml
    for name in missing:
        delattr(pynvml, name)
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.facts import gpu_facts
print(json.dumps(gpu_facts(journal and (lambda command: journal), root)))
"""


def compile_library(folder: Path, *options: str) -> Path:
    """The folder, with the library in it; raises RuntimeError without a compiler. options: of the compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise RuntimeError("The stand-in for NVIDIA's library needs a C compiler: install gcc and libc6-dev.")
    command = [compiler, "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC", *options]
    subprocess.run([*command, "-o", str(folder / LIBRARY), str(HERE / "nvml.c")], check=True)
    return folder


def environment(library: Path | None, profile: str) -> dict[str, str]:
    """The environment of a process that finds the library, or none, and plays the machine of this name."""
    return dict(os.environ, STAND_IN_NVML=str(PROFILES / f"{profile}.txt"), LD_LIBRARY_PATH=str(library or ""))


def gpu_facts(
    root: Path, library: Path | None = None, profile: str = "", missing: Any = (), journal: Any = None
) -> dict[str, Any]:
    """gpu_facts of the machine of this profile. root: where its /proc, /sys and /dev are."""
    command = [sys.executable, "-c", _SCRIPT, str(root), json.dumps(missing), json.dumps(journal)]
    variables = dict(environment(library, profile), PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)
