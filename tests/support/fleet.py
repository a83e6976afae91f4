# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets of the tests: an inventory of their own, the collection's playbooks, the real Docker Engine."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys
import typing as t

import docker
import docker.errors
import yaml

from support.ports import RUN, free_run

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
LABEL_FLEET = "gpufleet.vllm.fleet"
# Seconds. It only ends what hangs: a start of real vLLM takes minutes where everything else runs beside it.
PLAY_SECONDS = 1800


@dataclasses.dataclass(frozen=True)
class Played:
    """What one ansible-playbook run gave."""

    rc: int
    output: str
    records: list[dict[str, t.Any]]

    def results(self, action: str) -> list[dict[str, t.Any]]:
        """The results of all tasks of a module, in order."""
        return [record["result"] for record in self.records if record["action"] == f"gpufleet.vllm.{action}"]

    @property
    def changed(self) -> bool:
        """Whether any task changed something."""
        return any(record["result"].get("changed") for record in self.records)

    @property
    def unchanged(self) -> bool:
        """Whether the run succeeded and changed nothing."""
        assert self.rc == 0, self.output
        return not self.changed

    @property
    def failure(self) -> str:
        """The message of the first failed task."""
        return next(str(record["result"].get("msg")) for record in self.records if record["outcome"] == "failed")


class Fleet:
    """One inventory with a name space of its own on the Docker Engine."""

    def __init__(self, folder: pathlib.Path, core: str, stand_in: str, hub: pathlib.Path) -> None:
        self.name = f"test-{random.randrange(16**8):08x}"
        self.core = core
        self.stand_in = stand_in
        self.hub = hub
        self.folder = folder
        self.state_dir = folder / "state"
        self.models: t.Any = []
        self.first_port = free_run()
        self.host_vars: dict[str, t.Any] = {}
        self.planned: dict[str, t.Any] = {}
        self.collections = BUILD / "collections"
        self.docker = docker.from_env()

    def model(self, name: str = "probe", **changes: t.Any) -> dict[str, t.Any]:
        """A model on the stand-in that starts within half a second."""
        spec = {
            "name": name,
            "model": "gpufleet/tiny-qwen3",
            "image": self.stand_in,
            "engine": {"max_model_len": 1024, "kv_cache_memory_bytes": 2**28},
            "env": {"STAND_IN_START_SECONDS": "0.3"},
            "offline": True,
        }
        return {**spec, **changes}

    def play(self, playbook: str, *arguments: str, **extra: t.Any) -> Played:
        """Run a playbook of the collection by its short name, any other by its path or full name."""
        self._write_inventory()
        record = self.folder / "record.jsonl"
        record.unlink(missing_ok=True)
        path = playbook if os.sep in playbook or "." in playbook else str(ROOT / "playbooks" / f"{playbook}.yml")
        binaries = BUILD / f"venv-core-{self.core}" / "bin"
        run = subprocess.run(
            [
                str(binaries / "ansible-playbook"),
                "-i",
                str(self.folder / "hosts.yml"),
                path,
                "-e",
                json.dumps(extra),
                *arguments,
            ],
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
                "ANSIBLE_HOME": str(BUILD / "ansible"),
                "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/support/callbacks"),
                "ANSIBLE_CALLBACKS_ENABLED": "recorder",
                "ANSIBLE_INJECT_FACT_VARS": "false",
                "ANSIBLE_PIPELINING": "true",
                "GPUFLEET_RECORD": str(record),
            },
            capture_output=True,
            text=True,
            timeout=PLAY_SECONDS,
            check=False,
        )
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        return Played(run.returncode, run.stdout + run.stderr, [json.loads(line) for line in lines])

    def deploy(self, *arguments: str, **extra: t.Any) -> Played:
        """Run the playbook deploy with the stand-in allowed."""
        return self.play("deploy", *arguments, server_allow_stand_in=True, **extra)

    def containers(self) -> dict[str, t.Any]:
        """The fleet's containers by name, on every host of the inventory."""
        listed = self.docker.api.containers(all=True, filters={"label": LABEL_FLEET})
        found = {}
        for one in listed:
            # Those of others may vanish meanwhile, so they are not looked at.
            if one["Labels"][LABEL_FLEET].startswith(self.name):
                with contextlib.suppress(docker.errors.NotFound):
                    container = self.docker.containers.get(one["Id"])
                    found[container.name] = container
        return found

    def identities(self) -> dict[str, tuple[str, str]]:
        """ID and start time of each container: equal before and after means that nothing was touched."""
        return {name: (one.id, one.attrs["State"]["StartedAt"]) for name, one in self.containers().items()}

    def remove(self) -> None:
        """Remove what is left."""
        for one in self.containers().values():
            one.remove(force=True)

    def _write_inventory(self) -> None:
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "host_fleet": self.name,
            "host_state_dir": str(self.state_dir),
            "host_hub_cache": str(self.hub),
            "host_port_range": [self.first_port, self.first_port + RUN - 1],
            "vllm_models": self.models,
        }
        hosts = self.host_vars or {"one": {}}
        inventory = {
            "all": {"hosts": hosts, "vars": {key: value for key, value in common.items() if value is not None}}
        }
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")


def engine(*arguments: str) -> str:
    """Run tests/engine/engine.sh; the last line that it prints."""
    # The engine's build needs a python3 with pip: that of the tests' environment comes first.
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [str(ROOT / "tests/engine/engine.sh"), *arguments]
    run = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip().splitlines()[-1]
