# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be done is said in one error that names field, value and fix, before anything is touched."""

from __future__ import annotations

import os
import pathlib
import socket
import ssl
import subprocess
import threading
import time
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.fleet import ports_in_use
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.images import image_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineUnreachable
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.servers import Depth, fleet_servers

SOCKET = "/var/run/docker.sock"


def elsewhere(port: int = 18999, **changes: t.Any) -> dict[str, t.Any]:
    return {"listen": {"address": "127.0.0.1", "port": port, **changes}}


REFUSALS: list[tuple[str, dict[str, t.Any], list[str]]] = [
    ("image absent", {"image": "no/such:1"}, ["image of a", "no/such:1", "docker pull no/such:1"]),
    ("image changed", {"image_id": "sha256:0"}, ["image of a", "sha256:0", "Plan again"]),
    (
        "mount absent",
        {"mounts": [{"source": "/no/such", "target": "/x", "read_only": True}]},
        ["/no/such", "Create it"],
    ),
    ("no such address", elsewhere(address="203.0.113.1"), ["listen.address", "203.0.113.1", "ip addr"]),
    ("no address at all", elsewhere(address="nowhere"), ["listen of", "nowhere:18999", "Give an IP address"]),
    ("name of no container", {"name": "a/../b"}, ["a/../b' cannot be the name of a container"]),
    ("no listen", {"listen": None}, ["image and listen are needed"]),
]


@pytest.mark.parametrize(("changes", "words"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_refusals(host: t.Any, changes: dict[str, t.Any], words: list[str]) -> None:
    for check in (True, False):
        message = str(host.refused(host.server(**changes), check=check))
        assert [word for word in words if word not in message] == [], message
    assert host.containers() == {}


def test_a_port_in_use_is_named_with_who_has_it(host: t.Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use by another program" in str(
            host.refused(host.server(**elsewhere(port)))
        )
    one = host.server("a")
    host.run(one)
    two = host.server("b", **elsewhere(one["listen"]["port"]))
    assert f"is in use by {one['name']}" in str(host.refused(two))
    three = host.server("c", **elsewhere(two["listen"]["port"], address="0.0.0.0"))
    assert f"{two['name']} and {three['name']} both want port" in str(host.refused(two, three))
    # A server that keeps its port while it is replaced, and one that is moved to another address of the same port.
    assert host.run({**one, **elsewhere(one["listen"]["port"], address="0.0.0.0")})["servers"][0]["state"] == "ready"


def test_all_problems_are_told_at_once(host: t.Any) -> None:
    """Of each kind one, also of a server whose image is missing."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        mounts = [{"source": "/no/such", "target": "/x", "read_only": True}]
        missing = host.server("a", image="no/such:1", mounts=mounts, **elsewhere(other.getsockname()[1]))
        stranger, changed = host.server("c"), host.server("d", image_id="sha256:0")
        foreign = host.docker.containers.create(stranger["image"], name=stranger["name"])
        try:
            error = host.refused(missing, host.server("b", listen=None), stranger, changed)
        finally:
            foreign.remove(force=True)
    told = error.details["problems"]
    words = ["no/such:1", "listen are needed", "another build", "in use", "/no/such, for", "not of this fleet"]
    assert [sum(word in problem for problem in told) for word in words] == [1] * len(words), told
    assert len(told) == len(words)


def test_two_servers_of_one_name_are_refused(host: t.Any) -> None:
    assert "is named 2 times" in str(host.refused(host.server(), host.server()))


def test_a_container_of_somebody_else_is_never_touched(host: t.Any) -> None:
    server = host.server()
    foreign = host.docker.containers.create(server["image"], name=server["name"])
    try:
        for check in (True, False):
            assert f"a container named {server['name']} that is not of this fleet" in str(
                host.refused(server, check=check)
            )
        foreign.reload()
        assert foreign.status == "created"
        assert host.run(server, state="absent", prune=True)["changed"] is False
        foreign.reload()
    finally:
        foreign.remove(force=True)


def test_a_full_disk_is_told_before_anything_is_touched(host: t.Any, tmp_path: pathlib.Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        host.state_dir = disk / "state"
        for check in (True, False):
            message = str(host.refused(host.server(), check=check))
            assert f"state_dir {host.state_dir}: its disk has 0 MiB free" in message
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    assert host.containers() == {}


@pytest.mark.parametrize("place", ["unix:///no/such.sock", "tcp://127.0.0.1:9"])
def test_an_engine_that_does_not_answer(host: t.Any, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", place)
    with pytest.raises(EngineUnreachable, match="does not answer at " + place) as caught:
        Engine()
    assert "systemctl start docker" in str(caught.value)


class Relay:
    """A socket that hands everything to the Docker Engine, and can be cut, as when the Engine restarts."""

    def __init__(self, path: pathlib.Path, tls: ssl.SSLContext | None = None) -> None:
        """With tls it listens on a TCP port of this machine instead, named by `port`."""
        self.path = str(path)
        self._tls = tls
        self._pairs: list[socket.socket] = []
        self.resume()

    def resume(self) -> None:
        if self._tls is None:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self.path)
            self._listener.listen(50)
        else:
            self._listener = self._tls.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
            self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        # shutdown wakes the accepting thread, close alone does not
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.unlink(self.path)
        for one in self._pairs:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _address = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(SOCKET)
            self._pairs += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


@pytest.mark.skipif(not os.path.exists(SOCKET), reason="the Docker Engine has no local socket to relay")
def test_a_start_survives_an_engine_that_is_away(
    host: t.Any, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    relay = Relay(tmp_path / "relay.sock")
    monkeypatch.setenv("DOCKER_HOST", "unix://" + relay.path)
    server = host.server(env={"STAND_IN_START_SECONDS": "7"})
    results: list[t.Any] = []
    run = threading.Thread(target=lambda: results.append(host.run(server)))
    run.start()
    while not [event for _name, event in host.events if event.stage == "starting"]:
        assert run.is_alive()
        time.sleep(0.05)
    relay.cut()
    time.sleep(1)
    relay.resume()
    run.join(600)
    assert results[0]["servers"][0]["state"] == "ready"


@pytest.mark.skipif(not os.path.exists(SOCKET), reason="the Docker Engine has no local socket to relay")
@pytest.mark.parametrize("method", ["rename", "create", "stop", "start", "set_restart_policy", "remove"])
def test_a_change_that_the_engine_made_and_did_not_answer(
    host: t.Any, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, method: str
) -> None:
    """The Engine goes away after it has made a change and before it says so, and is back after two seconds."""
    server = host.server()
    host.run(server)
    relay = Relay(tmp_path / "relay.sock")
    monkeypatch.setenv("DOCKER_HOST", "unix://" + relay.path)
    real, calls = getattr(Engine, method), []

    def cut(engine: Engine, *arguments: t.Any) -> t.Any:
        result = real(engine, *arguments)
        calls.append(method)
        if len(calls) > 1:
            return result
        relay.cut()
        try:
            engine.version()
        finally:
            threading.Timer(2, relay.resume).start()
        raise AssertionError("the Engine was to be away")

    monkeypatch.setattr(Engine, method, cut)
    changed = {**server, "env": {**server["env"], "CHANGED": "1"}}
    assert host.run(changed)["servers"][0]["state"] == "ready"
    monkeypatch.setattr(Engine, method, real)
    assert set(host.containers()) == {"a"}
    assert host.run(changed)["changed"] is False


@pytest.mark.skipif(not os.path.exists(SOCKET), reason="the Docker Engine has no local socket to relay")
def test_tls_by_the_environment(host: t.Any, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """As the docker command takes it: DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH; both show certificates."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*make.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    (tmp_path / "ca.pem").write_bytes(cert.read_bytes())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(cert))
    tls.load_cert_chain(cert, key)
    tls.verify_mode = ssl.CERT_REQUIRED
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{Relay(tmp_path / 'unused', tls).port}")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # requests, below the SDK, would trust these instead
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    assert host.run(host.server())["servers"][0]["state"] == "ready"
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "none"))
    with pytest.raises(EngineUnreachable, match="does not answer at tcp://127.0.0.1"):
        Engine()


def test_info(host: t.Any) -> None:
    ready = host.server("a")
    host.run(ready)
    host.run(host.server("b"), state="present")
    one, two = fleet_servers(Engine(), host.fleet, Store(str(host.state_dir)), Depth(True, True))
    assert (one["name"], one["state"], one["version"], one["port"]) == (
        ready["name"],
        "ready",
        "0.32.0+standin",
        ready["listen"]["port"],
    )
    assert one["metrics"]["generation_tokens_total"] >= 1
    assert (two["state"], two["metrics"], two["version"]) == ("created", None, None)
    assert ready["listen"]["port"] not in ports_in_use([one, two])
    assert ready["listen"]["port"] in ports_in_use([])


def test_images(host: t.Any) -> None:
    engine = Engine()
    facts = image_facts(engine, host.server()["image"])
    assert (facts["version"], facts["version_source"], facts["stand_in"]) == ("0.32.0+standin", "package", True)
    assert facts["entrypoint"] == ["vllm", "serve"]
    absent = image_facts(engine, "no/such:1.2.3")
    assert (absent["found"], absent["version"]) == (False, None)
