# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download of a model from a local hub, beside the hub's own client on the same hub.

    PYTHONPATH=.build/collections:tests python benchmarks/hub_download.py [FOLDER]

Each contender runs in a process of its own, turn by turn, imports included. Ours hashes every byte while it is written;
the client, over HTTP, looks at sizes only (huggingface_hub 2.4.0, file_download.py, http_get). FOLDER should be in
memory, as /dev/shm, which is the default where there is one: otherwise the disk is what is measured.
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from support.hub import Hub

RUNS = 5
MIB = 1 << 20
# Shards, and bytes of each.
MODELS = {"large": (4, 256 * MIB), "one file": (1, 1024 * MIB), "many small": (200, 64 << 10)}
OURS = """
import sys
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.selection import Wanted
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.snapshot import Request, present
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access
present(sys.argv[1], Access(), Request(sys.argv[2], "main", Wanted("model")), False, lambda *told, **more: None)
"""
THEIRS = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[2], cache_dir=sys.argv[1])
"""
CONTENDERS = {"hf_snapshot": OURS, "huggingface_hub": THEIRS}


def seconds(code: str, cache: pathlib.Path, repo: str, endpoint: str) -> tuple[float, float]:
    """Wall time and CPU time of a process that fetches a repo, and what it left is removed."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, str(cache), repo], env=environment, check=True, capture_output=True)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(cache)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    where = sys.argv[1] if len(sys.argv) > 1 else memory
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = pathlib.Path(name)
        noise = os.urandom(MIB)
        for model, (count, size) in MODELS.items():
            repo = folder / "hub/bench" / model.replace(" ", "-")
            repo.mkdir(parents=True)
            (repo / "config.json").write_text(json.dumps({}))
            for number in range(count):
                with open(repo / f"model-{number:05}.safetensors", "wb") as handle:
                    # Each differs in its first bytes, so that no two have the same blob.
                    handle.write(number.to_bytes(8, "little"))
                    while handle.tell() < size:
                        handle.write(noise[: size - handle.tell()])
        with Hub(folder / "hub", hashed_bytes=1 << 40) as hub:
            for model, (count, size) in MODELS.items():
                repo_id = "bench/" + model.replace(" ", "-")
                # The hub hashes what it lists at the first time.
                hub.warm(repo_id)
                times: dict[str, list[tuple[float, float]]] = {contender: [] for contender in CONTENDERS}
                for _run in range(RUNS):
                    for contender, code in CONTENDERS.items():
                        times[contender].append(seconds(code, folder / "cache", repo_id, hub.endpoint))
                print(f"{model}: {count} x {size / MIB:g} MiB, median of {RUNS}")
                walls = {}
                for contender, measured in times.items():
                    walls[contender] = statistics.median(wall for wall, _cpu in measured)
                    cpu = statistics.median(cpu for _wall, cpu in measured)
                    rate = count * size / walls[contender] / 10**6
                    print(f"  {contender:<16} {walls[contender]:6.2f} s  {rate:7.0f} MB/s  {cpu:6.2f} s of CPU")
                print(f"  {walls['huggingface_hub'] / walls['hf_snapshot']:.2f} times as fast")


if __name__ == "__main__":
    main()
