# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What watching a start costs, and how soon its end is reported, quiet and with a flooded log.

    PYTHONPATH=.build/collections:tests/integration/library:tests python benchmarks/start_watch.py [ROUNDS]

Stand-in engines on this machine's Docker Engine, through the library that vllm_servers calls. The first 200 of /health
is seen by a process of its own that asks every 5 ms; the death is the Docker Engine's own time of it; the report is the
event that the task shows.
"""

from __future__ import annotations

import datetime
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t

from conftest import Host

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.converge import Converger, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

QUIET: dict[str, str] = {}
FLOOD = {"STAND_IN_LOG_FLOOD": "50000"}
BURST = {"STAND_IN_LOG_BURST": "100"}
# Prints the time of the first 200 of /health at a port.
ASKER = """
import http.client, sys, time
while True:
    try:
        asked = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=2)
        asked.request("GET", "/health")
        if asked.getresponse().status == 200:
            print(time.time())
            break
    except OSError:
        pass
    time.sleep(0.005)
"""


def run(host: Host, servers: list[dict[str, t.Any]], report: t.Callable[..., None]) -> FleetError | None:
    """One run of the library; its error."""
    try:
        Converger(Wish(host.fleet, servers, {}, "started", False), Store(str(host.state_dir)), report).run(False)
    except FleetError as error:
        return error
    return None


def until_ready(host: Host, env: dict[str, str]) -> float:
    """Seconds from the first 200 of /health to the event that says ready."""
    server = host.server(env={"STAND_IN_START_SECONDS": "1", **env})
    asker = subprocess.Popen(
        [sys.executable, "-c", ASKER, str(server["listen"]["port"])], stdout=subprocess.PIPE, text=True
    )
    told: list[float] = []
    error = run(host, [server], lambda _name, event: told.append(time.time()) if event.stage == "ready" else None)
    assert error is None, error
    return told[0] - float(asker.communicate(timeout=60)[0])


def until_told(host: Host, env: dict[str, str]) -> float:
    """Seconds from the death of a container to the event that reports it."""
    server = host.server(env={"STAND_IN_START_SECONDS": "1", "STAND_IN_DIE_AT": "serve", **env})
    found: list[float] = []

    def report(name: str, event: t.Any) -> None:
        if event.text.startswith("failed"):
            now = time.time()
            at = host.docker.api.inspect_container(name)["State"]["FinishedAt"]
            died = datetime.datetime.strptime(at[:26].rstrip("Z"), "%Y-%m-%dT%H:%M:%S.%f")
            found.append(now - died.replace(tzinfo=datetime.UTC).timestamp())

    assert run(host, [server], report) is not None
    return found[0]


def cost(host: Host, seconds: int) -> float:
    """Share of one core that watching takes over a start of so many seconds."""
    server = host.server(env={"STAND_IN_START_SECONDS": str(seconds)})
    cpu, wall = time.process_time(), time.monotonic()
    assert run(host, [server], lambda *_event: None) is None
    return (time.process_time() - cpu) / (time.monotonic() - wall)


def together(host: Host, count: int, seconds: float) -> float:
    """Seconds until so many servers that each start in some seconds are ready."""
    servers = [host.server(str(number), env={"STAND_IN_START_SECONDS": str(seconds)}) for number in range(count)]
    began = time.monotonic()
    assert run(host, servers, lambda *_event: None) is None
    return time.monotonic() - began


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:

        def one(measure: t.Callable[..., float], *arguments: t.Any) -> float:
            host = Host(pathlib.Path(folder))
            try:
                return measure(host, *arguments)
            finally:
                host.clean()

        print(f"{'watching one quiet start of 20 s':52} {one(cost, 20):6.1%} of one core (bar 2 %)")
        for name, env in (("quiet", QUIET), ("50 000 lines a second", FLOOD), ("burst of 100 MiB", BURST)):
            for words, measure, most in (
                ("first 200 of /health to the result", until_ready, 0.5),
                ("death of the container to its report", until_told, 1.0),
            ):
                found = [one(measure, env) for _round in range(rounds)]
                line = f"{words}, {name}"
                print(f"{line:60} median {statistics.median(found):.2f} s, worst {max(found):.2f} s (bar {most} s)")
        print(f"{'six servers that each start in 3 s':52} ready after {one(together, 6, 3):.1f} s")
        print(f"largest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
