# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making and verifying a bundle, beside sha256sum over the same bytes on as many cores, and a small delta of 100 GB.

    PYTHONPATH=.build/collections:tests python benchmarks/bundle.py [GIGABYTES]

The files lie in the page cache, so that hashing is measured and not the disk. Prints bytes a second, medians of five
turns that take turns, and fails below 0.8 times sha256sum or when a delta writes more than the changed file.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import files, inventory, verify
from support import bundle

FILES = 8
ROUNDS = 5
LEAST = 0.8


def main(gigabytes: float) -> None:
    """Measure and print."""
    cores = len(os.sched_getaffinity(0))
    size = int(gigabytes * 10**9 / FILES)
    with tempfile.TemporaryDirectory(prefix="gpufleet-bench-", dir="/dev/shm") as name:
        sides = bundle.Sides(pathlib.Path(name))
        contents = {f"model-{number}.safetensors": os.urandom(size) for number in range(FILES)}
        bundle.add_snapshot(sides.near, contents)
        contents.clear()
        made = []
        for _round in range(ROUNDS):
            shutil.rmtree(sides.bundle, ignore_errors=True)
            pathlib.Path(f"{sides.bundle}.state.json").unlink(missing_ok=True)
            began = time.monotonic()
            sides.create(workers=cores)
            made.append(time.monotonic() - began)
        paths = sorted(str(path) for path in sides.bundle.rglob("blobs/*/*/*"))
        copied, verified, peer = [], [], []
        for _round in range(ROUNDS):
            began = time.monotonic()
            verify.verify([str(sides.bundle)], verify.Trust(None, None, True), files.Receipts(None), cores)
            verified.append(time.monotonic() - began)
            began = time.monotonic()
            listed = "\0".join(paths).encode()
            subprocess.run(
                ["xargs", "-0", "-n", "1", "-P", str(cores), "sha256sum"],
                input=listed,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            peer.append(time.monotonic() - began)
            target = sides.folder / "copy"
            began = time.monotonic()
            shutil.copytree(sides.bundle, target)
            copied.append(time.monotonic() - began)
            shutil.rmtree(target)
        total = FILES * size
        times = {"sha256sum": peer, "bundle_verify": verified, "bundle_create": made, "cp (for scale)": copied}
        reference = statistics.median(peer)
        print(f"{total / 1e9:.1f} GB in {FILES} files, {cores} cores; median of {ROUNDS}")
        for label, taken in times.items():
            middle = statistics.median(taken)
            print(f"{label:16} {total / middle / 1e9:6.2f} GB/s {reference / middle:6.2f} x sha256sum")
        huge = sides.near / "models--acme--tiny/blobs" / ("9" * 64)
        with open(huge, "wb") as handle:
            handle.truncate(100 * 10**9)
        snapshot = bundle.add_snapshot(sides.near, {"config.json": b"{}"}, commit="9" * 40)
        (snapshot / "model.safetensors").symlink_to(f"../../blobs/{'9' * 64}")
        far = sides.folder / "far.json"
        far.write_bytes(inventory.encode(inventory.Inventory({"9" * 64: 100 * 10**9}, [])))
        began = time.monotonic()
        delta = sides.create(
            dest=str(sides.folder / "delta"),
            snapshots=[{"repo_id": bundle.REPO, "revision": "9" * 40}],
            inventory=str(far),
        )
        print(f"delta of 2 bytes in 100 GB: {time.monotonic() - began:.3f} s, {delta['written_bytes']} bytes written")
        assert delta["written_bytes"] == 2
        assert reference / statistics.median(verified) >= LEAST, "bundle_verify is too slow"
        assert reference / statistics.median(made) >= LEAST, "bundle_create is too slow"


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
