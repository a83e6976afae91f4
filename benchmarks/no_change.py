# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment of four servers on one host in which nothing has changed, beside what one would use instead.

    python benchmarks/no_change.py PEERS

PEERS is a folder with ansible_collections/community/docker. Four stand-in engines are deployed, then three playbooks
that change nothing are timed in turn: an empty one (the floor), vllm_servers with a plan made before, and
docker_container four times with the same containers. The whole playbook deploy (inspect, plan, apply) is timed too.
Prints medians in seconds and fails when something was changed.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
import tempfile
import time

import yaml

from support.fleet import BUILD, Fleet, engine

SERVERS = 4
ROUNDS = 5


def write(folder: pathlib.Path, name: str, tasks: list[dict]) -> str:
    """A playbook of these tasks on all hosts; its path."""
    path = folder / name
    path.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    return str(path)


def peer_tasks(servers: list[dict]) -> list[dict]:
    """docker_container with the same containers under names of its own and ports beside ours."""
    return [
        {
            "community.docker.docker_container": {
                "name": "peer-" + server["name"],
                "image": server["image"],
                "command": server["command"],
                "env": server["env"],
                "published_ports": [f"127.0.0.1:{server['listen']['port'] + 20}:8000"],
                "mounts": [
                    {"source": m["source"], "target": m["target"], "type": "bind", "read_only": m["read_only"]}
                    for m in server["mounts"]
                ],
                "cap_drop": ["ALL"],
                "security_opts": ["no-new-privileges"],
                "shm_size": str(server["shm_bytes"]),
            }
        }
        for server in servers
    ]


def main(peers: str) -> None:
    """Deploy, time, print, remove."""
    hub = BUILD / "tests" / "hub"
    image = engine("stand-in")
    engine("model", str(hub))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        fleet = Fleet(folder, "2.20", image, hub)
        fleet.collections = f"{BUILD / 'collections'}:{peers}"
        fleet.models = [fleet.model("bench", replicas=SERVERS)]
        try:
            deployed = fleet.deploy()
            assert deployed.rc == 0, deployed.output
            servers = deployed.results("fleet_plan")[0]["hosts"]["one"]
            ours = {"servers": servers, "fleet": fleet.name, "state_dir": str(fleet.state_dir)}
            plays = {
                "empty play": write(folder, "empty.yml", [{"ansible.builtin.meta": "noop"}]),
                "vllm_servers, 4 servers": write(folder, "ours.yml", [{"gpufleet.vllm.vllm_servers": ours}]),
                "docker_container, 4 in turn": write(folder, "peer.yml", peer_tasks(servers)),
            }
            assert fleet.play(plays["docker_container, 4 in turn"]).rc == 0
            times: dict[str, list[float]] = {label: [] for label in [*plays, "playbook deploy, whole"]}
            for _round in range(ROUNDS):
                for label, play in [*plays.items(), ("playbook deploy, whole", None)]:
                    began = time.monotonic()
                    played = fleet.play(play) if play else fleet.deploy()
                    times[label].append(time.monotonic() - began)
                    assert played.rc == 0 and not played.changed, played.output
            floor = statistics.median(times["empty play"])
            print(f"{'no change, median of ' + str(ROUNDS):32} {'wall s':>7} {'above the empty play':>21}")
            for label, taken in times.items():
                print(f"{label:32} {statistics.median(taken):7.2f} {statistics.median(taken) - floor:21.2f}")
            print(json.dumps({label: [round(one, 3) for one in taken] for label, taken in times.items()}))
        finally:
            fleet.remove()
            for container in fleet.docker.containers.list(all=True, filters={"name": "peer-vllm-bench-"}):
                container.remove(force=True)


if __name__ == "__main__":
    main(sys.argv[1])
