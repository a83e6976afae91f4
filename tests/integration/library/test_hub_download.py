# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads whose process is killed, and several processes in one cache: what cannot be seen within one process."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import typing as t

import pytest

from support.hub import Hub

ROOT = pathlib.Path(__file__).resolve().parents[3]
MIB = 1 << 20
# Seconds; far more than a loaded machine needs.
LONG = 1200
RUN = """
import json, sys
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.selection import Wanted
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.snapshot import Request, present
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access
cache, endpoint, segment = sys.argv[1:]
request = Request("acme/big", "main", Wanted("model"), endpoint=endpoint, segment_bytes=int(segment), connections=4)
print(json.dumps(present(cache, Access(), request, False, lambda *told, **more: None)))
"""


class Site:
    """A hub with one repo, and a cache."""

    def __init__(self, folder: pathlib.Path, hub: Hub, content: bytes) -> None:
        self.hub, self.content, self.cache = hub, content, folder / "cache"
        self.blobs = self.cache / "models--acme--big/blobs"
        self.etag = hashlib.sha256(content).hexdigest()

    def start(self, segment_bytes: int) -> subprocess.Popen[str]:
        """A process that fetches the repo."""
        path = os.pathsep.join([str(ROOT / ".build/collections"), *sys.path])
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(self.cache), self.hub.endpoint, str(segment_bytes)],
            env={**environment, "PYTHONPATH": path, "HF_HOME": str(self.cache.parent / "home")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> dict[str, t.Any]:
        """Its result."""
        output, errors = process.communicate(timeout=LONG)
        assert process.returncode == 0, errors
        return t.cast("dict[str, t.Any]", json.loads(output))

    def sent(self) -> int:
        """Bytes of the weights that were sent."""
        return sum(one.sent for one in self.hub.requests if one.origin == "storage")

    def have(self) -> int:
        """Bytes of the weights that are on the disk; a file with holes counts what is in it."""
        try:
            return (self.blobs / f"{self.etag}.incomplete").stat().st_blocks * 512
        except FileNotFoundError:
            return 0


@pytest.fixture
def site(tmp_path: pathlib.Path) -> t.Iterator[Site]:
    content = random.Random(1).randbytes(32 * MIB)
    repo = tmp_path / "hub/acme/big"
    repo.mkdir(parents=True)
    (repo / "model.safetensors").write_bytes(content)
    (repo / "config.json").write_text("{}")
    with Hub(tmp_path / "hub") as hub:
        yield Site(tmp_path, hub, content)


@pytest.mark.parametrize(
    ("segment_bytes", "connections"), [(64 * MIB, 1), (4 * MIB, 4)], ids=["one segment", "eight segments"]
)
def test_killed_again_and_again(site: Site, segment_bytes: int, connections: int) -> None:
    """Each run goes on where the one before was killed, wherever that was."""
    # Each connection writes a MiB at a time, so a run that is killed a second late has written 8 MiB.
    site.hub.fail("model.safetensors", times=1000, bytes_per_second=4 * MIB // connections)
    killed = 0
    generator = random.Random(2)
    while killed < 10:
        process = site.start(segment_bytes)
        target = site.have() + generator.randrange(200_000, MIB)
        end = time.monotonic() + LONG
        while site.have() < target and process.poll() is None:
            assert time.monotonic() < end, "no progress"
            time.sleep(0.005)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += 1
    assert killed >= 4
    result = site.finish(site.start(segment_bytes))
    snapshot = pathlib.Path(result["path"])
    assert (snapshot / "model.safetensors").read_bytes() == site.content
    assert sorted(path.name for path in site.blobs.iterdir() if "incomplete" in path.name) == []
    # What was on its way to a process when it was killed is lost: its buffers and those of the sockets.
    assert result["fetched_bytes"] < len(site.content) * 7 // 8


def test_two_processes_in_one_cache(site: Site) -> None:
    """As two hosts that share it: one fetches, the other waits, and both end well."""
    site.hub.fail("model.safetensors", times=1000, bytes_per_second=8 * MIB)
    processes = [site.start(2 * MIB) for _process in range(3)]
    results = [site.finish(process) for process in processes]
    assert sorted(result["changed"] for result in results) == [False, False, True]
    assert site.sent() == len(site.content)
    assert (pathlib.Path(results[0]["path"]) / "model.safetensors").read_bytes() == site.content


def test_one_goes_on_where_another_was_killed(site: Site) -> None:
    """A lock does not outlive its holder."""
    # The first four connections only.
    site.hub.fail("model.safetensors", times=4, bytes_per_second=MIB // 8)
    first = site.start(8 * MIB)
    end = time.monotonic() + LONG
    while site.have() < MIB // 2:
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.01)
    second = site.start(8 * MIB)
    time.sleep(1.5)
    assert second.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate()
    result = site.finish(second)
    assert result["changed"] and result["resumed_bytes"] > 0
    assert (pathlib.Path(result["path"]) / "model.safetensors").read_bytes() == site.content
