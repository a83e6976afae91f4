# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle from one host to eight others in the waves of the role bundle, beside one copy.

    PYTHONPATH=.build/collections:tests python benchmarks/fan_out.py [MEGABYTES]

Hosts are folders; each copy is a process of rsync with the options of the role, over a link that --bwlimit makes as
fast as all others. A host serves one copy at a time, so that no link is shared. Each copy is verified before it is
passed on, and the one copy is too. What Ansible takes between waves is not in it, for it does not grow with the bundle.
Fails above log2(8) + 1 times the time of one copy, with a tenth for what two cores take to start and verify four at
once.
"""

from __future__ import annotations

import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import files, verify
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.waves import wave
from support import bundle

HOSTS = 8
# KiB a second of each link, in rsync's own unit.
LIMIT = 8 * 1024
ALLOWED = (math.log2(HOSTS) + 1) * 1.1


def copy(folder: pathlib.Path, pairs: dict[str, str]) -> float:
    """Seconds in which all targets have copied from their sources and verified what they have."""
    began = time.monotonic()
    running = [
        subprocess.Popen(
            [
                "rsync",
                "-a",
                "--partial",
                "--inplace",
                f"--bwlimit={LIMIT}",
                f"{folder / source}/",
                f"{folder / target}/",
            ]
        )
        for target, source in pairs.items()
    ]
    assert not any(one.wait() for one in running), "rsync failed"
    for target in pairs:
        verify.verify([str(folder / target)], verify.Trust(None, None, True), files.Receipts(None), 2)
    return time.monotonic() - began


def main(megabytes: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="gpufleet-bench-", dir="/dev/shm") as name:
        folder = pathlib.Path(name)
        sides = bundle.Sides(folder / "sides")
        content = random.Random(1).randbytes(megabytes * 10**6 // 4)
        shards = {f"model-{number}.safetensors": content[:-1] + bytes([number]) for number in range(4)}
        bundle.add_snapshot(sides.near, shards)
        sides.create(dest=str(folder / "seed"))
        one = copy(folder, {"one": "seed"})
        wanting, holders, taken = [f"h{number}" for number in range(HOSTS)], ["seed"], []
        while wanting:
            pairs = wave(wanting, holders)
            taken.append(copy(folder, pairs))
            holders += pairs
            wanting = [host for host in wanting if host not in pairs]
        total, speed = sum(taken), LIMIT * 1024 / 1e6
        print(f"{megabytes} MB to {HOSTS} hosts, links of {speed:.1f} MB/s, {len(os.sched_getaffinity(0))} cores")
        print(f"one copy                  {one:6.2f} s")
        print(f"{HOSTS} hosts in {len(taken)} waves        {total:6.2f} s {total / one:5.2f} x one copy")
        print(f"one after the other       {one * HOSTS:6.2f} s {HOSTS:5.2f} x (from the one copy)")
        print("again, nothing to do      ", end="")
        print(f"{copy(folder, {'h0': 'seed'}):6.2f} s")
        assert total / one <= ALLOWED, f"more than {ALLOWED:.2f} times one copy"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
