# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real vLLM with the network cut: from a whole cache it asks for nothing, and what it asks for otherwise is named."""

from __future__ import annotations

import pathlib
import random
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal.rehearse import NotClean, Rehearsal, Wish
from support.fleet import BUILD, engine

HUB = BUILD / "tests" / "hub"
# What the plan renders (plugin_utils/_render/server.py) of a model with offline: true.
ENVIRONMENT = {
    "HOME": "/tmp",
    "HF_HOME": "/tmp/huggingface",
    "HF_HUB_CACHE": "/hub",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CACHE_ROOT": "/tmp/vllm",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


@pytest.fixture(scope="module")
def image() -> str:
    engine("model", str(HUB))
    return engine("real")


def server(name: str, image: str, model: str, env: t.Mapping[str, str], *more: str) -> dict[str, t.Any]:
    command = [model, "--served-model-name", "m", "--host", "0.0.0.0", "--port", "8000", "--dtype", "float32"]
    command += ["--max-model-len", "512", "--enforce-eager", "--kv-cache-memory-bytes", "268435456", *more]
    return {
        "name": name,
        "model": name,
        "image": image,
        "image_id": "",
        "entrypoint": [],
        "command": command,
        "env": dict(env),
        "mounts": [{"source": str(HUB), "target": "/hub", "read_only": True}],
        "tmpfs": {"/tmp": "rw,exec,mode=1777"},
        "listen": {"address": "127.0.0.1", "port": 1},
        "container_port": 8000,
        "gpus": None,
        "shm_bytes": 2**30,
        "memory_bytes": 0,
        "cpus": 0,
        "user": "",
        "read_only_root": True,
        "stop_seconds": 30,
        "deadline_seconds": 900,
        "stall_seconds": 600,
        "probe": {"kind": "generate", "served_names": ["m"], "max_model_len": 512},
        "secrets": {"target": "/run/secrets/vllm"},
    }


def rehearse(folder: pathlib.Path, *servers: dict[str, t.Any]) -> dict[str, t.Any]:
    fleet = f"e2e-{random.randrange(16**8):08x}"
    for one in servers:
        one["name"] = f"{fleet}-{one['name']}"
    return Rehearsal(Wish(servers, {}, [], 5, fleet), Store(str(folder / "state"))).run(False)


def test_a_whole_cache(tmp_path: pathlib.Path, image: str) -> None:
    done = rehearse(tmp_path, server("whole", image, "gpufleet/tiny-qwen3", ENVIRONMENT))
    (one,) = done["rehearsals"]
    assert (one["verdict"], one["attempts"]) == ("clean", [])


def test_what_is_asked_for_is_named(tmp_path: pathlib.Path, image: str) -> None:
    """A model that is not there, and that its hub client is not kept from asking for."""
    env = {name: value for name, value in ENVIRONMENT.items() if name != "HF_HUB_OFFLINE"}
    with pytest.raises(NotClean) as caught:
        rehearse(tmp_path, server("missing", image, "gpufleet/not-there", env))
    (missing,) = caught.value.details["rehearsals"]
    assert (missing["verdict"], missing["started"]) == ("asked", False)
    hub = next(one for one in missing["attempts"] if one["host"] == "huggingface.co")
    assert (hub["port"], hub["protocol"]) == (443, "tcp")
    assert hub["process"], hub
    assert "asked for huggingface.co:443 (from the process " in str(caught.value)
