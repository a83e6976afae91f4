# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container library against the real Docker Engine: a host with a fleet of the test's own, always cleaned up.

These tests import what travels to the targets, so they run on every Python and Docker SDK that a target may have.
"""

from __future__ import annotations

import copy
import pathlib
import random
import typing as t

import docker
import docker.errors
import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.converge import Converger, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from support.ports import free_port

IMAGE = "gpufleet-test/stand-in:0.32.0"
LABEL_FLEET = "gpufleet.vllm.fleet"
# Seconds that the stand-in takes to start.
START_SECONDS = "0.05"


class Host:
    """This machine's Docker Engine with one fleet of the test's own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.fleet = f"library-{random.randrange(16**8):08x}"
        self.state_dir = folder / "state"
        self.events: list[tuple[str, t.Any]] = []
        self.docker = docker.from_env()

    def server(self, name: str = "a", **changes: t.Any) -> dict[str, t.Any]:
        """A server on the stand-in as the module's arguments have it after their defaults."""
        server: dict[str, t.Any] = {
            "name": f"{self.fleet}-{name}",
            "model": name,
            "image": IMAGE,
            "image_id": "",
            "entrypoint": [],
            "command": ["some/model", "--served-model-name", name, "--max-model-len", "512"],
            "env": {"STAND_IN_START_SECONDS": START_SECONDS},
            "mounts": [],
            "tmpfs": {"/tmp": "rw,mode=1777"},
            "listen": {"address": "127.0.0.1", "port": free_port()},
            "container_port": 8000,
            "gpus": None,
            "shm_bytes": 2**26,
            "memory_bytes": 0,
            "cpus": 0,
            "user": "",
            "read_only_root": True,
            # Far more than a loaded machine needs.
            "stop_seconds": 30,
            "deadline_seconds": 600,
            "stall_seconds": 120,
            "probe": {"kind": "generate", "served_names": [name], "max_model_len": 512},
            "secrets": {"target": "/run/secrets/vllm"},
        }
        return {**server, **changes}

    def held(self, gate: pathlib.Path, name: str = "a", **changes: t.Any) -> dict[str, t.Any]:
        """A server whose engine says nothing until the folder `gate` holds a file named go."""
        gate.mkdir(exist_ok=True)
        program = ["/bin/sh", "-c", 'until [ -e /gate/go ]; do sleep 0.1; done; exec vllm serve "$@"', "sh"]
        mount = {"source": str(gate), "target": "/gate", "read_only": True}
        return self.server(name, **{"entrypoint": program, "mounts": [mount], "stall_seconds": 600, **changes})

    def run(
        self,
        *servers: dict[str, t.Any],
        state: str = "started",
        prune: bool = False,
        secrets: t.Any = None,
        check: bool = False,
        **more: t.Any,
    ) -> dict[str, t.Any]:
        """One run of the module's library; raises FleetError as it does. more: other fields of Wish."""
        wish = Wish(self.fleet, copy.deepcopy(servers), secrets or {}, state, prune, **more)
        return Converger(wish, Store(str(self.state_dir)), lambda *event: self.events.append(event)).run(check)

    def refused(self, *servers: dict[str, t.Any], **arguments: t.Any) -> FleetError:
        """The error of a run that must fail."""
        with pytest.raises(FleetError) as caught:
            self.run(*servers, **arguments)
        return caught.value

    def containers(self) -> dict[str, t.Any]:
        """The fleet's containers by the last part of their names."""
        found = self.docker.containers.list(
            all=True, filters={"label": f"{LABEL_FLEET}={self.fleet}"}, ignore_removed=True
        )
        return {one.name.replace(self.fleet + "-", ""): one for one in found}

    def look(self) -> dict[str, t.Any]:
        """What must not change where nothing is touched: ID, start and state of each container."""
        return {
            name: (one.id, one.attrs["State"]["StartedAt"], one.status)
            for name, one in sorted(self.containers().items())
        }

    def clean(self) -> None:
        """Remove what is left of the fleet."""
        for one in self.containers().values():
            try:
                one.remove(force=True, v=True)
            except docker.errors.NotFound:
                continue
        self.docker.close()


def steps(result: t.Mapping[str, t.Any]) -> list[str]:
    """The kinds of the actions of a run."""
    return [action["action"] for action in result["actions"]]


@pytest.fixture
def host(tmp_path: pathlib.Path) -> t.Iterator[Host]:
    """A host; its fleet is gone afterwards."""
    made = Host(tmp_path)
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture
def kinds() -> t.Callable[[t.Mapping[str, t.Any]], list[str]]:
    """The kinds of the actions of a run, as a function."""
    return steps
