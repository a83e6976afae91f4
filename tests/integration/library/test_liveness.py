# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How running servers are told to be: the states of the stand-in, each against the real Docker Engine."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import signal
import threading
import time
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import liveness, look
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.servers import Depth, fleet_servers

KEYED = 'VLLM_API_KEY="$(cat /run/secrets/vllm/api_key)" && export VLLM_API_KEY && exec "$@"'


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in's steps take milliseconds, so a standstill is seen sooner."""
    monkeypatch.setattr(liveness, "STILL_SECONDS", 3.0)
    monkeypatch.setattr(look, "ASK_SECONDS", 5.0)


def tell(host: t.Any, probe: bool = True) -> list[dict[str, t.Any]]:
    """What is told of the fleet's servers."""
    return fleet_servers(Engine(), host.fleet, Store(str(host.state_dir)), Depth(True, probe))


def until(host: t.Any, word: str, true: t.Callable[[dict[str, t.Any]], bool] = lambda one: True) -> dict[str, t.Any]:
    """The first server when it is in this state and what is told of it is so."""
    end = time.monotonic() + 300
    while True:
        one = tell(host)[0]
        if one["state"] == word and true(one):
            return one
        assert time.monotonic() < end, one


def post(server: dict[str, t.Any], path: str, body: dict[str, t.Any], wait: bool = True) -> None:
    """Send a request; without wait its answer is waited for by nobody."""

    def send() -> None:
        asked = http.client.HTTPConnection("127.0.0.1", server["listen"]["port"], timeout=600)
        try:
            asked.request("POST", path, json.dumps(body))
            asked.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    if wait:
        thread.join()


def freeze(container: t.Any) -> None:
    """Stop the server's process, the one that is not the init, where it stands."""
    top = container.top()
    pid, command = top["Titles"].index("PID"), top["Titles"].index("CMD")
    rows = [row for row in top["Processes"] if "vllm" in row[command] and "docker-init" not in row[command]]
    os.kill(int(rows[0][pid]), signal.SIGSTOP)


def test_a_start_and_an_end(host: t.Any, tmp_path: pathlib.Path) -> None:
    run = threading.Thread(target=host.run, args=(host.held(tmp_path / "gate"),))
    run.start()
    seen: list[str] = []
    end = time.monotonic() + 300
    while "loading" not in seen and time.monotonic() < end:
        seen += [one["state"] for one in tell(host)]
    (tmp_path / "gate/go").touch()
    while run.is_alive():
        seen += [one["state"] for one in tell(host)]
    seen += [one["state"] for one in tell(host)]
    assert {"loading", "ready"} <= set(seen) <= {"created", "loading", "ready"}
    assert seen[-1] == "ready"
    host.containers()["a"].stop()
    (one,) = tell(host)
    assert (one["state"], one["why"]) == ("exited", "its container is exited with exit code 0")
    assert (one["metrics"], one["served"], one["version"]) == (None, None, None)


def test_an_idle_server_is_ready_because_it_answers(host: t.Any) -> None:
    host.run(host.server())
    (one,) = tell(host)
    assert (one["state"], one["why"]) == ("ready", "it answers a request")
    assert one["served"] == [{"name": "a", "max_model_len": 512, "adapter_of": None}]
    assert one["metrics"]["time_to_first_token_p50_seconds"] <= 0.001
    # Looking costs a token, unless it must not.
    before = tell(host, probe=False)[0]["metrics"]["generation_tokens_total"]
    assert tell(host, probe=False)[0]["metrics"]["generation_tokens_total"] == before >= 2


def test_a_key_is_read_where_the_host_keeps_it(host: t.Any) -> None:
    server = host.server(entrypoint=["/bin/sh", "-c", KEYED, "sh", "vllm", "serve"])
    host.run(server, secrets={"a": {"api_key": "sk-1234-end"}})
    (one,) = tell(host)
    assert (one["state"], one["why"]) == ("ready", "it answers a request")
    assert "sk-1234-end" not in json.dumps(one)


def test_saturated_is_not_dead(host: t.Any) -> None:
    server = host.server(env={"STAND_IN_SEATS": "1", "STAND_IN_TOKEN_SECONDS": "0.1"})
    host.run(server)
    for _request in range(3):
        post(server, "/v1/completions", {"max_tokens": 5000}, wait=False)
    # They come one after the other.
    one = until(host, "saturated", lambda one: one["metrics"]["requests_waiting"] == 2)
    assert one["metrics"]["requests_running"] == 1
    assert "2 requests wait" in one["why"]


@pytest.mark.parametrize("busy", [True, False])
def test_a_frozen_engine_behind_a_200_is_found(host: t.Any, busy: bool) -> None:
    # After its start was seen to succeed, for which a loaded machine takes seconds.
    server = host.server(env={"STAND_IN_FREEZE_AFTER": "12", "STAND_IN_TOKEN_SECONDS": "0.1"})
    host.run(server)
    if busy:
        post(server, "/v1/completions", {"max_tokens": 5000}, wait=False)
    one = until(host, "stalled")
    assert "no counter moved" in one["why"]
    assert one["version"] == "0.32.0+standin"


def test_a_dead_engine_behind_a_server_that_stays(host: t.Any) -> None:
    host.run(host.server(env={"STAND_IN_DEAD_AFTER": "12"}))
    assert "503" in until(host, "engine_dead")["why"]


def test_what_freezes_or_dies_just_after_it_was_ready_is_not_loading(host: t.Any) -> None:
    """The Docker Engine's own check, of which the first comes after half a minute, has not seen it yet."""
    server = host.server()
    host.run(server)
    freeze(host.containers()["a"])
    (one,) = tell(host)
    assert (one["state"], one["why"]) == ("unreachable", "nothing answers /health")
    assert host.run(server, check=True)["servers"][0]["state"] == "unhealthy"


def test_sleep_is_no_illness(host: t.Any) -> None:
    server = host.server(env={"VLLM_SERVER_DEV_MODE": "1"})
    host.run(server)
    post(server, "/sleep", {})
    assert tell(host)[0]["state"] == "sleeping"
    post(server, "/wake_up", {})
    assert tell(host)[0]["state"] == "ready"


def test_one_sick_server_hides_no_other(host: t.Any) -> None:
    host.run(host.server("a", env={"STAND_IN_FREEZE_AFTER": "15"}), host.server("b"))
    assert until(host, "stalled")["model"] == "a"
    assert {one["model"]: one["state"] for one in tell(host)} == {"a": "stalled", "b": "ready"}
