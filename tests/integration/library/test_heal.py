# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run brings back servers that were ready and do not serve any more, and leaves all others alone."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import StartFailed
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import liveness, look, sick
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.servers import Depth, fleet_servers

KEYED = 'VLLM_API_KEY="$(cat /run/secrets/vllm/api_key)" && export VLLM_API_KEY && exec "$@"'


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is sick. The stand-in's steps take milliseconds, so a standstill is seen sooner."""
    monkeypatch.setattr(liveness, "STILL_SECONDS", 3.0)
    monkeypatch.setattr(look, "ASK_SECONDS", 2.0)
    monkeypatch.setattr(sick, "PATIENCE_SECONDS", 2.0)
    monkeypatch.setattr(sick, "STANDSTILL_SECONDS", 2.0)
    monkeypatch.setattr(sick, "DEAD_SECONDS", 1.0)


def send(server: dict[str, t.Any], path: str, body: dict[str, t.Any] | None = None) -> None:
    """Send a request, and wait for its answer."""
    asked = http.client.HTTPConnection("127.0.0.1", server["listen"]["port"], timeout=120)
    try:
        asked.request("POST", path, json.dumps(body or {}))
        asked.getresponse().read()
    except (OSError, http.client.HTTPException):
        # A frozen server answers nobody, and is ended by the test.
        return
    finally:
        asked.close()


def busy(server: dict[str, t.Any], tokens: int) -> threading.Thread:
    """Keep it busy with a request that nobody waits for."""
    thread = threading.Thread(target=send, args=(server, "/v1/completions", {"max_tokens": tokens}), daemon=True)
    thread.start()
    return thread


def metric(host: t.Any, name: str) -> float:
    """A figure of the one server, read without a request to its engine."""
    (one,) = fleet_servers(Engine(), host.fleet, Store(str(host.state_dir)), Depth(True, False))
    return t.cast("float", one["metrics"][name])


def eventually(true: t.Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def process(container: t.Any) -> int:
    """The server's process on this host, the one that is not the init."""
    top = container.top()
    pid, command = top["Titles"].index("PID"), top["Titles"].index("CMD")
    rows = [row for row in top["Processes"] if "vllm" in row[command] and "docker-init" not in row[command]]
    return int(rows[0][pid])


def stop_process(container: t.Any) -> None:
    os.kill(process(container), signal.SIGSTOP)


def freeze(container: t.Any) -> None:
    container.kill(signal="SIGUSR1")
    eventually(lambda: b"stand-in: frozen" in container.logs(tail=20))


def break_engine(container: t.Any) -> None:
    container.kill(signal="SIGUSR2")
    eventually(lambda: b"stand-in: dead" in container.logs(tail=20))


SICK = [
    (freeze, "its engine stands still"),
    (break_engine, "its engine process is dead"),
    (stop_process, "nothing answers /health any more"),
]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("harm", "why"), SICK)
def test_a_sick_server_is_restarted_once(
    host: t.Any, monkeypatch: pytest.MonkeyPatch, harm: t.Callable[[t.Any], None], why: str
) -> None:
    server = host.server(stop_seconds=600)
    host.run(server)
    before = host.look()["a"]
    harm(host.containers()["a"])
    planned = host.run(server, check=True)
    assert host.look()["a"] == before
    began = time.monotonic()
    done = host.run(server)
    # The requests of a sick engine are not waited for; where the process stands still, SIGTERM is in vain.
    assert time.monotonic() - began < 300
    assert planned["actions"] == done["actions"] and planned["diff"] == done["diff"]
    (action,) = done["actions"]
    assert (action["server"], action["action"]) == (server["name"], "restart")
    assert action["because"][0].startswith(why)
    assert done["diff"]["after"] == {server["name"]: {"state": "ready"}}
    assert done["diff"]["before"][server["name"]]["state"].startswith(why)
    assert done["servers"][0]["state"] == "ready"
    assert done["servers"][0]["timeline"][-1]["stage"] == "ready"
    # The same container and generation, started again.
    assert host.look()["a"][0] == before[0] and len(done["servers"][0]["generations"]) == 1
    healed = host.look()
    # What is well must be found so on a slow machine too.
    monkeypatch.undo()
    assert host.run(server)["changed"] is False
    assert host.look() == healed


@pytest.mark.usefixtures("short")
def test_a_frozen_engine_with_requests_is_restarted(host: t.Any) -> None:
    server = host.server(env={"STAND_IN_TOKEN_SECONDS": "0.05"})
    host.run(server)
    busy(server, 100000)
    eventually(lambda: metric(host, "requests_running") == 1)
    freeze(host.containers()["a"])
    assert host.run(server)["actions"][0]["because"] == [sick.WHYS["stalled"]]


def test_a_server_with_a_key_is_asked_with_it(host: t.Any, request: pytest.FixtureRequest) -> None:
    server = host.server(entrypoint=["/bin/sh", "-c", KEYED, "sh", "vllm", "serve"])
    secrets = {"a": {"api_key": "sk-1234-end"}}
    host.run(server, secrets=secrets)
    assert host.run(server, secrets=secrets)["changed"] is False
    freeze(host.containers()["a"])
    request.getfixturevalue("short")
    done = host.run(server, secrets=secrets)
    assert [one["action"] for one in done["actions"]] == ["restart"] and "sk-1234" not in json.dumps(done)


def test_without_heal_a_200_is_taken_for_well(host: t.Any) -> None:
    server = host.server()
    host.run(server)
    before = metric(host, "generation_tokens_total")
    assert host.run(server, heal=False)["changed"] is False
    assert metric(host, "generation_tokens_total") == before
    freeze(host.containers()["a"])
    assert host.run(server, heal=False)["changed"] is False


def test_the_saturated_the_sleeping_and_the_loading_are_left_alone(host: t.Any) -> None:
    full = host.server("full", env={"STAND_IN_SEATS": "1", "STAND_IN_TOKEN_SECONDS": "0.05"})
    asleep = host.server("asleep", env={"VLLM_SERVER_DEV_MODE": "1"})
    host.run(full, asleep)
    for _request in range(3):
        busy(full, 100000)
    send(asleep, "/sleep")
    before = host.look()
    done = host.run(full, asleep)
    assert (done["changed"], done["pending"]) == (False, False)
    # One that the Docker Engine has started again, and that takes long, is waited for as ever.
    loading = host.server("loading", env={"STAND_IN_START_SECONDS": "3"})
    host.run(full, asleep, loading)
    host.containers()["loading"].restart(timeout=1)
    done = host.run(full, asleep, loading)
    assert done["changed"] is False and {one["state"] for one in done["servers"]} == {"ready"}
    assert {name: seen for name, seen in host.look().items() if name != "loading"} == before


def test_what_moves_again_is_left_alone(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stood still for a moment, as under a debugger, is no longer sick when it is looked at again."""
    server = host.server()
    host.run(server)
    number = process(host.containers()["a"])
    os.kill(number, signal.SIGSTOP)
    looked: list[bool] = []
    stays = sick._stays

    def thawed(*arguments: t.Any) -> bool:
        looked.append(True)
        os.kill(number, signal.SIGCONT)
        return stays(*arguments)

    monkeypatch.setattr(sick, "_stays", thawed)
    assert host.run(server)["changed"] is False
    assert looked == [True]


def test_many_well_servers_are_looked_at_at_the_same_time(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a", "b", "c", "d"]
    # Nobody passes before all are there: looks that follow each other would break it.
    barrier = threading.Barrier(len(names), timeout=120)
    looks = look.look

    def meet(*arguments: t.Any, **named: t.Any) -> t.Any:
        barrier.wait()
        return looks(*arguments, **named)

    servers = [host.server(name) for name in names]
    host.run(*servers)
    monkeypatch.setattr(look, "look", meet)
    assert host.run(*servers)["changed"] is False
    assert not barrier.broken


@pytest.mark.usefixtures("short")
def test_a_restart_that_fails_is_told(host: t.Any) -> None:
    server = host.server()
    host.run(server)
    freeze(host.containers()["a"])
    with pytest.raises(StartFailed) as caught:
        host.run({**server, "probe": {**server["probe"], "served_names": ["other"]}})
    assert caught.value.details["actions"][0]["because"] == [sick.WHYS["stalled"]]
    assert caught.value.details["failures"][0]["kind"] == "wrong"
