# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of the fault table with real vLLM (its CPU build): starts that fail beside a server that serves on, and "
"its life."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import shutil
import signal
import time
import typing as t

import pytest
from integration.library.conftest import Host

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.metrics import figures
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.explain import explain_failures
from support.faults import Deaths, Fault, beside, served, until
from support.fleet import BUILD, engine

MODEL = "gpufleet/tiny-qwen3"
ENGINE = "vLLM 0.32.0 (CPU)"
HUB = "/var/hub"
# Seconds. With both cores busy a start takes minutes.
STARTS = 600
DRAIN = 240
LENGTH = 1024
SEQUENCES = 8
ROUNDS = 4


class Watched(Host):
    """A host that notes when the failure of each server was told."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self.told: dict[str, float] = {}
        self.hub = BUILD / "tests" / "hub"
        self.image = engine("real")
        engine("model", str(self.hub))
        told = self.told

        class Events(list[t.Any]):
            def append(self, entry: t.Any) -> None:
                if entry[1].text.startswith("failed"):
                    told[entry[0]] = time.time()
                super().append(entry)

        self.events = Events()

    def real(
        self, name: str, model: str = MODEL, *arguments: str, length: int = LENGTH, **changes: t.Any
    ) -> dict[str, t.Any]:
        """A server of the real engine as the plan would render it."""
        command = [model, "--served-model-name", name, "--host", "0.0.0.0", "--port", "8000"]
        command += [
            "--dtype",
            "float32",
            "--enforce-eager",
            "--max-num-seqs",
            str(SEQUENCES),
            "--kv-cache-memory-bytes",
            str(2**27),
        ]
        command += ["--shutdown-timeout", str(DRAIN), "--max-model-len", str(length), *arguments]
        env = {
            "HOME": "/tmp",
            "HF_HUB_CACHE": HUB,
            "HF_HUB_OFFLINE": "1",
            "VLLM_CACHE_ROOT": "/tmp/vllm",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
        given = {
            "image": self.image,
            "command": command,
            "env": env,
            "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},
            "mounts": [{"source": str(self.hub), "target": HUB, "read_only": True}],
            "shm_bytes": 2**29,
            "stop_seconds": DRAIN + 15,
            "deadline_seconds": STARTS,
            "stall_seconds": STARTS,
            "probe": {"kind": "generate", "served_names": [name], "max_model_len": length},
        }
        return self.server(name, **{**given, **changes})


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Watched]:
    """One host for all tests of this file, which follow each other."""
    made = Watched(tmp_path_factory.mktemp("faults"))
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture(scope="module")
def server(host: Watched) -> dict[str, t.Any]:
    """The server that serves, whatever happens beside it."""
    made = host.real("a")
    done = host.run(made)
    assert done["servers"][0]["state"] == "ready"
    return made


@pytest.fixture(scope="module")
def failures(
    host: Watched, server: dict[str, t.Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, t.Any]]:
    """Four starts that cannot succeed, at the same time and in one run; how each failed, by its server."""
    bare = tmp_path_factory.mktemp("bare") / "model"
    snapshot = next((host.hub / f"models--{MODEL.replace('/', '--')}/snapshots").iterdir())
    shutil.copytree(snapshot, bare, ignore=shutil.ignore_patterns("*token*", "*chat_template*"))
    bare_mounts = [{"source": str(bare), "target": "/models/bare", "read_only": True}]
    with Deaths(host.fleet) as deaths:
        error = host.refused(
            server,
            host.real("flag", MODEL, "--no-such-flag"),
            host.real("path", "/no/such/model"),
            host.real("length", length=100000),
            host.real("bare", "/models/bare", mounts=bare_mounts),
        )
        ends = {one["server"]: deaths.of(one["server"]) for one in error.details["failures"]}
    found = {}
    for failure in error.details["failures"]:
        name = failure["server"]
        text, _data = explain_failures(f"{name} did not become ready: {failure['reason']}.", [failure])
        # The container of a start that does not end by itself is ended after the report.
        seconds = max(0.0, host.told[name] - ends[name])
        found[name.rpartition("-")[2]] = {**failure, "text": text, "seconds": round(seconds, 2)}
    return found


ROWS = [
    ("flag", "wrong flag, that only the engine refuses", "exited", "--no-such-flag"),
    ("path", "bad model path", "exited", "/no/such/model"),
    ("length", "length that the model does not have", "exited", "100000"),
    ("bare", "no tokenizer, offline: it starts, and refuses every request", "wrong", "400"),
]


@pytest.mark.parametrize(("name", "title", "kind", "word"), ROWS, ids=[row[0] for row in ROWS])
def test_starts_that_fail(
    host: Watched,
    server: dict[str, t.Any],
    failures: dict[str, t.Any],
    fault: Fault,
    name: str,
    title: str,
    kind: str,
    word: str,
) -> None:
    fault.name, fault.engine = title, ENGINE
    failure = failures[name]
    assert failure["kind"] == kind, failure["text"]
    assert word in failure["text"] or word in "\n".join(failure["log"]), failure["text"]
    fault.seconds = failure["seconds"]
    # From the container's end to the report, while the other starts take all there is of the processors: it comes. How
    # soon stands in the table.
    assert failure["seconds"] <= 300
    assert set(host.containers()) == {"a"} and served(server, timeout=120)
    fault.seen(failure["text"], "the other server serves on; nothing is left of this one")


def complete(server: dict[str, t.Any], tokens: int, times: int = 1) -> tuple[int, int]:
    """Status of a request for so many tokens so many times, and how many came in all."""
    connection = http.client.HTTPConnection("127.0.0.1", server["listen"]["port"], timeout=STARTS)
    body = {"model": "a", "prompt": "Hello", "max_tokens": tokens, "n": times, "ignore_eos": True, "seed": 1}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    return answer.status, content.get("usage", {}).get("completion_tokens", 0)


def running(server: dict[str, t.Any]) -> bool:
    """Whether the engine works on a request."""
    answer = endpoint.get(endpoint.Server("127.0.0.1", server["listen"]["port"]), "/metrics", timeout=30)
    return bool(figures(answer.body)["requests_running"])


def test_engine_killed(host: Watched, server: dict[str, t.Any], fault: Fault) -> None:
    fault.name, fault.engine = "engine process killed after ready (the server then ends with exit code 0)", ENGINE
    container = host.containers()["a"]
    top = container.top()
    pid, command = top["Titles"].index("PID"), top["Titles"].index("CMD")
    core = next(int(row[pid]) for row in top["Processes"] if "EngineCore" in row[command])
    fault.begins()
    os.kill(core, signal.SIGKILL)
    assert until(lambda: not served(server, timeout=5), STARTS)
    assert until(lambda: served(server, timeout=5), STARTS)
    fault.ends()
    restarts = host.containers()["a"].attrs["RestartCount"]
    assert restarts == 1
    assert host.run(server)["changed"] is False
    fault.seen(f"vllm_info: ready, restarts {restarts}", "the server, restarted by the Docker Engine")


def test_drift_and_rollback(host: Watched, server: dict[str, t.Any], fault: Fault) -> None:
    fault.name, fault.engine = "limit changed by hand, then a shorter length deployed, then rolled back", ENGINE
    host.containers()["a"].update(mem_limit=2**33, memswap_limit=2**33)
    shorter = host.real("a", length=512, listen=server["listen"])
    (foreseen,) = host.run(shorter, check=True)["actions"]
    done = host.run(shorter)
    assert done["actions"] == [foreseen]
    assert set(foreseen["because"]) >= {"argv", "memory_bytes"}
    assert complete(server, 600)[0] == 400
    fault.begins()
    back = host.run(server, state="rolled_back")
    fault.ends()
    assert back["servers"][0]["state"] == "ready"
    assert complete(server, 600) == (200, 600)
    fault.seen(f"replace ({', '.join(foreseen['because'])}); rolled back", "the former generation, ready")


def test_stopped_while_a_request_runs(host: Watched, server: dict[str, t.Any], fault: Fault) -> None:
    fault.name, fault.engine = "stopped while a request runs", ENGINE
    # Long enough to be seen and to be stopped on any machine, for it is done in as many rounds as the engine has room.
    thread, found = beside(lambda: complete(server, 900, SEQUENCES * ROUNDS))
    assert until(lambda: running(server)), found
    fault.begins()
    done = host.run(server, state="stopped")
    fault.ends()
    thread.join()
    assert found == [(200, 900 * SEQUENCES * ROUNDS)], found
    container = host.containers()["a"]
    assert container.status == "exited" and not container.attrs["State"]["OOMKilled"]
    assert [one["action"] for one in done["actions"]] == ["stop"]
    with pytest.raises((FleetError, OSError)):
        complete(server, 1)
    fault.seen("stop; the request was answered in full before", "nothing; the container is kept, stopped")
