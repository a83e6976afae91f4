# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearsals on a real Docker Engine: what an engine without network asks for is named, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal import stage
from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal.rehearse import NotClean, Rehearsal, Wish

IMAGE = "gpufleet-test/stand-in:0.32.0"
LABEL_FLEET = "gpufleet.vllm.fleet"
# Before the engine: each word is an address to connect to, by TCP, or by UDP with udp: before it, or only to look up.
ASK = """
import os, socket, sys
for word in sys.argv[1].split():
    kind, word = ("udp", word[4:]) if word.startswith("udp:") else ("tcp", word)
    name, _colon, port = word.partition(":")
    try:
        if not port:
            print(word, socket.gethostbyname(name), flush=True)
        elif kind == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
                plain.sendto(b"x", (name, int(port)))
        else:
            socket.create_connection((name, int(port)), timeout=60).close()
            raise SystemExit(f"{word} took a connection")
    except OSError as error:
        print(word, error, flush=True)
os.execvp(sys.argv[2], sys.argv[2:])
"""
# vLLM's way to its own address (get_ip in vllm/utils/network_utils.py of 0.32.0), and what engines do among themselves.
OWN = """
import os, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
    plain.connect(("8.8.8.8", 80))
    own = plain.getsockname()[0]
assert own == "127.0.0.1", own
assert socket.gethostbyname(socket.gethostname()) == "127.0.0.1"
with socket.create_server(("0.0.0.0", 0)) as listener:
    for name in (own, "localhost", socket.gethostname(), "127.8.8.8"):
        socket.create_connection((name, listener.getsockname()[1])).close()
os.execvp(sys.argv[1], sys.argv[1:])
"""


def asking(host, words: str, name: str = "a", **changes: t.Any) -> dict[str, t.Any]:
    """A server that asks for these before it starts."""
    return host.server(name, entrypoint=["python3", "-c", ASK, words, "vllm", "serve"], **changes)


def rehearse(host, *servers: dict[str, t.Any], check: bool = False, **more: t.Any) -> dict[str, t.Any]:
    wish = {"secrets": {}, "only": [], "listen_seconds": 0, **more}
    return Rehearsal(Wish(servers=servers, fleet=host.fleet, **wish), Store(str(host.state_dir))).run(check)


@pytest.fixture
def nothing_left(host) -> t.Iterator[None]:
    """After the test there is no container of a rehearsal and no folder of one."""
    yield
    found = left(host)
    for name in found:
        host.docker.containers.get(name).remove(force=True)
    assert found == []
    assert not (host.state_dir / "rehearsal").exists()


def left(host) -> list[str]:
    filters = {"label": f"gpufleet.vllm.fleet=rehearsal of {host.fleet}"}
    return sorted(one.name for one in host.docker.containers.list(all=True, filters=filters, ignore_removed=True))


@pytest.mark.usefixtures("nothing_left")
def test_a_server_that_asks_for_nothing(host) -> None:
    """The real fleet runs meanwhile on the same port, and is left alone."""
    server = host.server("a", secrets={"target": "/run/secrets/vllm"})
    host.run(server)
    before = host.look()
    foreseen = rehearse(host, server, check=True)
    assert (foreseen["changed"], foreseen["rehearsals"]) == (False, [])
    assert foreseen["msg"] == f"To be rehearsed: {server['name']}."
    assert foreseen["planned"] == [{"server": server["name"], "model": "a"}]
    done = rehearse(host, server)
    (one,) = done["rehearsals"]
    assert (done["changed"], one["verdict"], one["started"], one["attempts"]) == (False, "clean", True, [])
    assert one["seconds"] > 0
    assert done["msg"].startswith(f"{server['name']}: starts without network; ")
    assert done["msg"].endswith(" seconds; nothing was asked for.")
    assert host.look() == before
    assert host.run(server)["changed"] is False


@pytest.mark.usefixtures("nothing_left")
def test_what_engines_do_among_themselves_is_nothing(host) -> None:
    server = host.server("a", entrypoint=["python3", "-c", OWN, "vllm", "serve"])
    assert rehearse(host, server)["rehearsals"][0]["attempts"] == []


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("user", ["", "1234:1234"])
def test_each_attempt_is_named(host, user: str) -> None:
    words = "huggingface.co:443 huggingface.co:443 nothing.example 10.9.8.7:6379 udp:statistics.example:8125"
    with pytest.raises(NotClean) as caught:
        rehearse(host, asking(host, words, user=user))
    (one,) = caught.value.details["rehearsals"]
    assert (one["verdict"], one["started"]) == ("asked", True)
    assert [(a["host"], a["port"], a["protocol"], a["times"]) for a in one["attempts"]] == [
        ("huggingface.co", 443, "tcp", 2),
        ("nothing.example", None, "dns", 1),
        ("10.9.8.7", 6379, "tcp", 1),
        ("statistics.example", 8125, "udp", 1),
    ]
    # Whose socket a refused connection was cannot be seen any more; whose a look-up is can.
    assert [a["process"] for a in one["attempts"]] == ["python3", "python3", None, "python3"]
    hub, other = one["attempts"][0], one["attempts"][1]
    assert "Set offline: true" in hub["source"] and other["source"] is None
    text = str(caught.value)
    assert "asked for huggingface.co:443 (from the process python3, at second " in text
    assert "asked for the address of nothing.example (" in text
    assert "asked for statistics.example:8125 (udp)" in text


@pytest.mark.usefixtures("nothing_left")
def test_a_server_that_does_not_start(host) -> None:
    """Each model once; the others are rehearsed all the same; only tells which."""
    dead = host.server("dead", env={"STAND_IN_DIE_AT": "weights", "STAND_IN_DIE_TEXT": "no way, hunter2 said"})
    twin = host.server("twin", model="dead")
    good = host.server("good")
    secrets = {"dead": {"api_key": "hunter2"}}
    with pytest.raises(NotClean) as caught:
        rehearse(host, dead, twin, good, secrets=secrets)
    details = caught.value.details
    assert [(one["server"], one["verdict"]) for one in details["rehearsals"]] == [
        (dead["name"], "not_started"),
        (good["name"], "clean"),
    ]
    (failure,) = details["failures"]
    assert (failure["kind"], failure["exit_code"]) == ("exited", 1)
    assert {"release", "engine", "gpu_processes"} <= set(failure)
    assert any("no way" in line for line in failure["log"])
    assert "hunter2" not in str(caught.value) + str(details)
    assert "does not start without network, in the stage" in str(caught.value)
    assert rehearse(host, dead, twin, good, only=["good"])["planned"] == [{"server": good["name"], "model": "good"}]


@pytest.mark.usefixtures("nothing_left")
def test_a_server_with_a_key(host) -> None:
    """The key is in a file that its user alone can read, and its request is made with it."""
    wrapper = "import os, sys; os.environ['VLLM_API_KEY'] = open('/run/secrets/vllm/api_key').read(); "
    wrapper += "os.execvp('vllm', ['vllm', 'serve', *sys.argv[1:]])"
    server = host.server("a", entrypoint=["python3", "-c", wrapper], user="1234:1234")
    done = rehearse(host, server, secrets={"a": {"api_key": "hunter2"}})
    assert done["rehearsals"][0]["verdict"] == "clean"


@pytest.mark.usefixtures("nothing_left")
def test_refused_with_everything_at_once(host) -> None:
    gone = host.server("gone", image="gpufleet-test/none:1")
    path = host.server("path", mounts=[{"source": "/nowhere/at/all", "target": "/x", "read_only": True}])
    for check in (True, False):
        with pytest.raises(Refused) as caught:
            rehearse(host, gone, path, check=check)
        assert len(caught.value.details["problems"]) == 2, caught.value
    with pytest.raises(Refused, match="no server or model of this host"):
        rehearse(host, path, only=["other"])
    with pytest.raises(Refused, match="lacks image"):
        rehearse(host, {"name": "a", "model": "a"})


@pytest.mark.usefixtures("nothing_left")
def test_gpus_that_a_running_server_has_are_refused(host) -> None:
    """Also those of a server of another fleet."""
    uuid = "b4ff29cd-0000-1000-80a5-a8a2ad37ff11"
    other = host.docker.containers.run(
        IMAGE,
        entrypoint=["sleep", "3600"],
        name=f"{host.fleet}-other",
        labels={LABEL_FLEET: f"{host.fleet}-other", "gpufleet.vllm.gpus": uuid},
        init=True,
        detach=True,
    )
    try:
        server = host.server("a", gpus={"runtime": "amd", "ids": [uuid], "pci": []})
        with pytest.raises(Refused) as caught:
            rehearse(host, server)
        (problem,) = [text for text in caught.value.details["problems"] if "runs on" in text]
        assert problem.startswith(
            f"GPUs of {server['name']}: {other.name} runs on {uuid}. Rehearse where they are free"
        )
        other.stop(timeout=0)
        with pytest.raises(Refused) as caught:
            rehearse(host, server)
        assert not any("runs on" in text for text in caught.value.details["problems"])
    finally:
        other.remove(force=True)


@pytest.mark.usefixtures("nothing_left")
def test_a_recorder_that_sees_nothing_is_no_rehearsal(host, monkeypatch) -> None:
    """Nobody is told that nothing was asked for by one who could not have seen it; the next model is rehearsed."""
    capabilities, made = stage.CAPABILITIES, stage.Stage.__init__

    def blind_at_first(self, engine, spec, folder) -> None:
        less = ("DAC_READ_SEARCH", "NET_BIND_SERVICE", "SYS_PTRACE")
        monkeypatch.setattr(stage, "CAPABILITIES", less if spec.server == first["name"] else capabilities)
        made(self, engine, spec, folder)

    first = host.server("a", expected_memory={"key": {"same": {"release": "0.32.0"}}})
    second = host.server("b")
    monkeypatch.setattr(stage.Stage, "__init__", blind_at_first)
    with pytest.raises(NotClean, match="Operation not permitted") as caught:
        rehearse(host, first, second)
    details = caught.value.details
    assert [(one["server"], one["verdict"]) for one in details["rehearsals"]] == [
        (first["name"], "not_started"),
        (second["name"], "clean"),
    ]
    (failure,) = details["failures"]
    assert (failure["kind"], failure["release"], failure["gpu_processes"]) == ("refused", "0.32.0", [])
    text = str(caught.value)
    assert "What it asks for was not seen." in text and text.count("nothing was asked for") == 1


@pytest.mark.usefixtures("nothing_left")
def test_what_the_engine_refuses_is_one_outcome(host) -> None:
    """What is found out only when the container is started costs the next model nothing. The reason has no secrets."""
    server = host.server("a", entrypoint=["/hunter2/nowhere"])
    with pytest.raises(NotClean, match="start the container") as caught:
        rehearse(host, server, host.server("b"), secrets={"a": {"api_key": "hunter2"}})
    assert [one["verdict"] for one in caught.value.details["rehearsals"]] == ["not_started", "clean"]
    assert "hunter2" not in str(caught.value) + str(caught.value.details)


def test_what_could_not_be_removed_is_named(host) -> None:
    """As what the container's root has left is for who is not root: here a link, which is not followed."""
    folder = host.state_dir / "rehearsal"
    host.state_dir.mkdir(exist_ok=True)
    folder.symlink_to("elsewhere")
    with pytest.raises(Refused, match="Remove it as root") as caught:
        rehearse(host, host.server("a"))
    assert str(folder) in str(caught.value)
    folder.unlink()


def test_podman_is_refused_beforehand(host) -> None:
    wish = Wish([host.server("a")], {}, [], 0, host.fleet)
    rehearsal = Rehearsal(wish, Store(str(host.state_dir)))
    # What is asked is whether there is one.
    rehearsal._engine.podman = object()
    for check in (True, False):
        with pytest.raises(Refused, match="it is Podman"):
            rehearsal.run(check)


# A rehearsal in a process of its own, of a server that never becomes ready.
KILLED = """
import json, sys
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal.rehearse import Rehearsal, Wish
server, fleet, state_dir = json.loads(sys.argv[1])
Rehearsal(Wish([server], {}, [], 0, fleet), Store(state_dir)).run(False)
"""


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("by", ["the next one", "the fleet's end"])
def test_a_rehearsal_that_was_killed(host, by: str) -> None:
    """Its engine ends with it, and the next one removes what is left, or the teardown of the fleet."""
    stuck = host.server("a", env={"STAND_IN_STALL_AT": "weights"}, stall_seconds=600)
    arguments = json.dumps([stuck, host.fleet, str(host.state_dir)])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, arguments], env=environment)
    both = [f"{stuck['name']}.rehearsal", f"{stuck['name']}.rehearsal.recorder"]
    try:
        wait_for(lambda: process.poll() is not None or running(host) == both)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: running(host) == [])
    assert len(left(host)) == 2 and (host.state_dir / "rehearsal").exists()
    if by == "the next one":
        assert rehearse(host, host.server("a"))["rehearsals"][0]["verdict"] == "clean"
        return
    # What is kept of a server whose container is gone is the fleet's own though its rehearsal is there.
    host.run(host.server("a"))
    host.docker.containers.get(stuck["name"]).remove(force=True)
    assert Store(str(host.state_dir)).servers() == [stuck["name"]]
    assert host.run(state="absent", prune=True, check=True)["changed"] and len(left(host)) == 2
    assert host.run(state="absent", prune=True)["changed"] is True
    assert Store(str(host.state_dir)).servers() == []
    assert left(host) == [] and not (host.state_dir / "rehearsal").exists()
    assert host.run(state="absent", prune=True)["changed"] is False


def running(host) -> list[str]:
    filters = {"label": f"gpufleet.vllm.fleet=rehearsal of {host.fleet}", "status": "running"}
    return sorted(one.name for one in host.docker.containers.list(filters=filters, ignore_removed=True))


def wait_for(true: t.Callable[[], bool]) -> None:
    until = time.monotonic() + 240
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)
