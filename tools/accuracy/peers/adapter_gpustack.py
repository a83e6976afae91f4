# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUStack's rule on the jobs of stdin (JSON, see run.py), its answers as JSON on stdout.

estimate_model_vram in gpustack/policies/utils.py of gpustack/gpustack at 47277d79 (Apache-2.0): 1.2 times the bytes of
the weights, and 2 GiB for the framework; the GPUs of a server are pooled.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """The rule, and what it leaves of a GPU."""
    gpus = job["tp"] * job["pp"]
    needed = (1.2 * job["weights_gib"] + 2) / gpus
    left = job["gpu_gib"] * job["utilization"] - needed
    return {"kv_gib": left, "fits": left >= 0}


def main() -> None:
    """Answer every job."""
    said = {job["id"]: answer(job) for job in json.load(sys.stdin)}
    json.dump({"version": "47277d79", "records": said}, sys.stdout)


if __name__ == "__main__":
    main()
