# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of servers on a real Docker Engine: what a run does, what a second one leaves alone, what is mended."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import converge
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.runtimes import HostRuntimes
from support.faults import until


def same(one: dict[str, t.Any], other: dict[str, t.Any]) -> bool:
    return all(one[key] == other[key] for key in ("changed", "actions", "diff"))


def test_life(host, kinds) -> None:
    """Created, left alone, changed, stopped, started, restarted, removed; check mode foresees each."""
    one, two = host.server("a"), host.server("b")
    name = one["name"]

    def both(*servers: dict[str, t.Any], **arguments: t.Any) -> dict[str, t.Any]:
        before = host.look()
        foreseen = host.run(*servers, check=True, **arguments)
        assert host.look() == before
        done = host.run(*servers, **arguments)
        assert same(foreseen, done)
        again = host.run(*servers, check=True, **arguments)
        assert (again["changed"], again["actions"], again["diff"]) == (False, [], {}) or arguments.get(
            "state"
        ) == "restarted"
        return done

    done = both(one, two)
    assert kinds(done) == ["create", "create"]
    assert [server["state"] for server in done["servers"]] == ["ready", "ready"]
    assert [entry["stage"] for entry in done["servers"][0]["timeline"]][-1] == "ready"
    policy = host.containers()["a"].attrs["HostConfig"]["RestartPolicy"]["Name"]
    assert policy == "unless-stopped"

    before = host.look()
    assert host.run(one, two)["changed"] is False
    assert host.look() == before

    changed = {**one, "command": [*one["command"], "--seed", "7"]}
    done = both(changed, two)
    assert [(a["server"], a["action"], a["because"]) for a in done["actions"]] == [(name, "replace", ["argv"])]
    assert done["diff"]["before"][name]["argv"] != done["diff"]["after"][name]["argv"]
    assert (host.look()["b"], host.look()["a"] != before["a"]) == (before["b"], True)
    assert set(host.containers()) == {"a", "b"}

    done = both({**changed, "env": {}}, two)
    assert [a["because"] for a in done["actions"]] == [["env"]]
    changed = {**changed, "env": {}}

    assert kinds(both(changed, state="stopped")) == ["stop"]
    assert host.containers()["a"].status == "exited"
    assert kinds(both(changed, two)) == ["start"]
    assert kinds(host.run(changed, state="restarted", check=True)) == ["restart"]
    ids = host.containers()["a"].id
    assert kinds(both(changed, state="restarted")) == ["restart"]
    assert host.containers()["a"].id == ids
    assert host.containers()["a"].attrs["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"

    assert kinds(both(changed, prune=True)) == ["remove"]
    assert set(host.containers()) == {"a"}
    assert kinds(both(state="absent", prune=True)) == ["remove"]
    assert host.containers() == {}


@pytest.mark.parametrize(
    ("by_hand", "expected"),
    [
        ("memory", ("replace", ["memory_bytes"])),
        ("stop", ("start", ["it is exited"])),
        ("remove", ("create", ["there is none"])),
        ("pause", ("restart", ["it is paused"])),
        ("rename", ("rename", ["it is named {fleet}-else"])),
        ("restart policy", ("confirm", ["its restart policy is no, as before the first time that it is ready"])),
    ],
)
def test_what_was_changed_by_hand_is_mended(host, by_hand: str, expected: t.Any) -> None:
    server = host.server(stop_seconds=1)
    host.run(server)
    container = host.containers()["a"]
    {
        "memory": lambda: container.update(mem_limit="300m", memswap_limit="600m"),
        "stop": lambda: container.stop(timeout=1),
        "remove": lambda: container.remove(force=True),
        "pause": container.pause,
        "rename": lambda: container.rename(f"{host.fleet}-else"),
        "restart policy": lambda: container.update(restart_policy={"Name": "no"}),
    }[by_hand]()
    foreseen = host.run(server, check=True)
    done = host.run(server)
    assert same(foreseen, done)
    kind, why = expected
    assert [(a["action"], a["because"]) for a in done["actions"]] == [(kind, [w.format(fleet=host.fleet) for w in why])]
    assert done["servers"][0]["state"] == "ready"
    assert set(host.containers()) == {"a"}
    assert host.run(server)["changed"] is False


def test_a_server_that_the_engine_starts_over_and_over_is_stopped(host, kinds) -> None:
    server = host.server(env={"STAND_IN_DIE_AT": "config"})
    host.run(server, state="present")
    container = host.containers()["a"]
    container.update(restart_policy={"Name": "unless-stopped"})
    container.start()
    # Its pause before the next start grows with each, so that it is found in one.
    assert until(lambda: host.containers()["a"].attrs["RestartCount"] > 4)
    assert until(lambda: host.containers()["a"].status == "restarting")
    assert kinds(host.run(server, state="present")) == []
    assert kinds(host.run(server, state="stopped")) == ["stop"]
    container.reload()
    assert (container.status, kinds(host.run(server, state="stopped"))) == ("exited", [])


@pytest.fixture
def with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the library believe that this host can give GPUs to containers."""
    names = frozenset(f"nvidia.com/gpu=GPU-{number}" for number in (1, 2))
    facts = HostRuntimes(False, (28, 3, 0), True, ("/etc/cdi",), names, {})
    monkeypatch.setattr(converge, "read_runtimes", lambda engine: facts)


@pytest.mark.usefixtures("with_gpus")
def test_gpu_requests_are_idempotent_where_they_are_made(host, kinds) -> None:
    """Docker keeps a request as it was sent; it is looked at before anything starts, so no GPU is needed."""
    gpus = {"runtime": "nvidia", "ids": ["GPU-2", "GPU-1", "GPU-2"]}
    server = host.server(gpus=gpus)
    assert kinds(host.run(server, state="present")) == ["create"]
    request = host.containers()["a"].attrs["HostConfig"]["DeviceRequests"][0]
    assert request["DeviceIDs"] == ["GPU-1", "GPU-2"]
    assert host.containers()["a"].status == "created"
    before = host.look()
    for ids in (["GPU-1", "GPU-2"], ["GPU-2", "GPU-1"]):
        same_gpus = {**server, "gpus": {"runtime": "nvidia", "ids": ids}}
        assert host.run(same_gpus, state="present")["changed"] is False
    assert host.look() == before
    other = {**server, "gpus": {"runtime": "nvidia", "ids": ["GPU-1"]}}
    done = host.run(other, state="present")
    assert [(a["action"], a["because"]) for a in done["actions"]] == [("replace", ["gpus"])]
    assert set(host.containers()) == {"a"}
    assert host.run(other, state="present")["changed"] is False
    cdi = {**server, "gpus": {"runtime": "cdi", "ids": ["nvidia.com/gpu=GPU-1"]}}
    assert kinds(host.run(cdi, state="present")) == ["replace"]
    assert host.run(cdi, state="present")["changed"] is False


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ({"runtime": "nvidia", "ids": ["GPU-1"]}, "Install nvidia-container-toolkit"),
        ({"runtime": "cdi", "ids": ["nvidia.com/gpu=GPU-1"]}, "host_gpu_runtime is cdi"),
        ({"runtime": "amd", "ids": ["1"], "pci": ["0000:c1:00.0"]}, "this host has no /dev/kfd"),
    ],
)
def test_a_host_without_gpus_says_so_before_anything_is_touched(host, gpus: dict[str, t.Any], words: str) -> None:
    server = host.server()
    host.run(server)
    before = host.look()
    error = host.refused({**server, "gpus": gpus})
    assert words in str(error)
    assert host.look() == before


@pytest.mark.usefixtures("with_gpus")
def test_an_engine_that_cannot_give_gpus_and_the_former_server_serves_again(host) -> None:
    """The real refusal of an Engine that has no NVIDIA runtime, where the host looked as if it had."""
    server = host.server()
    host.run(server)
    before = host.containers()["a"]
    error = host.refused({**server, "gpus": {"runtime": "nvidia", "ids": ["GPU-1"]}})
    assert "could not select device driver" in str(error)
    assert "NVIDIA Container Toolkit" in str(error)
    after = host.containers()
    assert set(after) == {"a"}
    assert (after["a"].id, after["a"].status) == (before.id, "running")
    assert host.run(server)["changed"] is False


def test_limits_and_other_properties_are_kept_as_they_were_asked_for(host) -> None:
    """Everything that can differ from its default, twice: what the Engine makes of it is read back as the same."""
    folder = host.state_dir / "cache" / "x"
    server = host.server(
        cpus=0.3333333,
        memory_bytes=2**28,
        shm_bytes=0,
        user="1000:1000",
        stop_seconds=0,
        mounts=[{"source": str(folder), "target": "/cache", "read_only": False}],
        listen={"address": "0.0.0.0", "port": host.server()["listen"]["port"]},
        env={"STAND_IN_START_SECONDS": 0.1, "NUMBER": 5, "EMPTY": "", "TEXT": 'a=b "c" $d\n'},
    )
    done = host.run(server)
    assert done["servers"][0]["state"] == "ready"
    assert (folder.stat().st_uid, folder.stat().st_gid) == (1000, 1000)
    again = host.run(server)
    assert (again["changed"], again["actions"]) == (False, [])
    assert json.dumps(done)
