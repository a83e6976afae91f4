# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state folder, the refusals' advice, and the names in a task."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import threading
import types

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import preflight
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.refusals import explained
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store, numeric_user
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import (
    Image,
    secrets_mark,
    wanted_container,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Refused

# Holds the lock of the state folder for a minute.
HOLD = """
import fcntl, sys, time
handle = open(sys.argv[1], "a+")
fcntl.flock(handle, fcntl.LOCK_EX)
print(sys.argv[2], file=handle, flush=True)
print(flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (
            '{"pid": 77, "user": "ada", "from": "10.0.0.1", "since": "2026-11-30", "purpose": "state started"}',
            "process 77 of ada from 10.0.0.1, state started, since 2026-11-30",
        ),
        ("77", "process 77"),
        ("", "process unknown"),
        ("{}", "process unknown of unknown"),
        ("[1]", "process"),
    ],
)
def test_the_lock_tells_its_holder_and_is_freed_by_its_death(tmp_path: pathlib.Path, written: str, told: str) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock"), written], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(Refused) as caught, Store(str(tmp_path)).locked("a test"):
            pass
        assert told in str(caught.value)
    finally:
        holder.kill()
        holder.wait()
    with Store(str(tmp_path)).locked("a test"):
        mine = json.loads((tmp_path / "lock").read_text())
    assert (mine["pid"], mine["purpose"]) == (os.getpid(), "a test")


def test_the_salt_is_made_once_and_only_when_it_may_be(tmp_path: pathlib.Path) -> None:
    store = Store(str(tmp_path))
    assert store.salt(create=False) != store.salt(create=False)
    assert list(tmp_path.iterdir()) == []
    salt = store.salt(create=True)
    assert len(salt) == 32
    assert store.salt(create=False) == store.salt(create=True) == salt
    assert (tmp_path / "salt").stat().st_mode & 0o777 == 0o600


def test_what_the_file_system_refuses_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    told = pytest.raises(Refused, match="set state_dir to another folder")
    with told, Store(str(tmp_path / "file" / "x")).locked(""):
        pass
    assert Store(str(tmp_path / "file")).keep_failed_log("a", ["x"]) is None


def test_other_secrets_are_dropped_and_the_kept_ones_stay(tmp_path: pathlib.Path) -> None:
    store = Store(str(tmp_path))
    for mark in ("1" * 64, "2" * 64):
        pathlib.Path(store.secrets_folder("a", mark)).mkdir(parents=True)
    assert store.servers() == ["a"]
    store.drop_secrets("a", {"1" * 64})
    assert os.listdir(tmp_path / "secrets" / "a") == ["1" * 16]
    store.drop_secrets("a", ())
    store.drop_secrets("a", ())
    assert store.servers() == []


def test_folders_that_were_put_between_the_secrets_are_removed_and_links_not_followed(tmp_path: pathlib.Path) -> None:
    store = Store(str(tmp_path / "state"))
    mark = secrets_mark({"api_key": "k"}, "", store.salt(create=False)) or ""
    folder, elsewhere = pathlib.Path(store.secrets_folder("a", mark)), tmp_path / "elsewhere"
    (folder / "left").mkdir(parents=True)
    (folder / "left" / "file").write_text("")
    (folder / "api_key").mkdir()
    elsewhere.mkdir()
    (elsewhere / "file").write_text("")
    (folder / "link").symlink_to(elsewhere)
    (folder.parent / "link").symlink_to(elsewhere)
    (folder.parent / "file").write_text("")
    store.write_secrets(container(mark), {"api_key": "k"})
    store.drop_secrets("a", {mark})
    assert [one.name for one in folder.iterdir()] == ["api_key"]
    assert [one.name for one in folder.parent.iterdir()] == [folder.name]
    assert (elsewhere / "file").exists()


def test_only_the_start_that_was_seen_ready_was_ready(tmp_path: pathlib.Path) -> None:
    store = Store(str(tmp_path))
    assert not store.was_ready("a", "id then")
    store.note_ready("a", "id then")
    assert [store.was_ready("a", start) for start in ("id then", "id later", "other then")] == [True, False, False]
    store.forget("a")
    store.forget("a")
    assert not store.was_ready("a", "id then")


def test_of_containers_that_are_gone_nothing_is_kept(tmp_path: pathlib.Path) -> None:
    store = Store(str(tmp_path))
    store.keep_confirmed(())
    for name in ("1", "2"):
        store.note_confirmed(name, True)
    (tmp_path / "confirmed" / "folder").mkdir()
    store.keep_confirmed({"2", "3"})
    assert [store.was_confirmed(name) for name in ("1", "2", "3")] == [False, True, False]


def container(mark: str | None) -> ContainerSpec:
    """A container with secrets of this mark."""
    named = {"name": "a", "model": "a", "image": "i", "entrypoint": ["vllm"], "command": [], "env": {}, "mounts": []}
    place = {"tmpfs": {}, "listen": {"address": "127.0.0.1", "port": 1}, "container_port": 8000, "user": ""}
    sizes = {"shm_bytes": 0, "memory_bytes": 0, "cpus": 0, "stop_seconds": 1, "deadline_seconds": 1}
    server = {**named, **place, **sizes, "read_only_root": True, "secrets": {"target": "/run/secrets"}}
    return wanted_container(server, Image("x", (), {}, {}, ""), "f", "/s", mark)


@pytest.mark.parametrize(
    ("there", "is_whole"),
    [
        ({"api_key": "k", "hub_token": "h"}, True),
        ({"api_key": "k"}, False),
        ({"api_key": "k", "hub_token": "other"}, False),
        ({"api_key": "k", "hub_token": ""}, False),
        ({}, False),
    ],
)
def test_secrets_are_there_when_each_is_as_it_was_written(
    tmp_path: pathlib.Path, there: dict[str, str], is_whole: bool
) -> None:
    store = Store(str(tmp_path))
    mark = secrets_mark({"api_key": "k", "hub_token": "h"}, "", store.salt(create=True))
    spec = container(mark)
    assert store.has_secrets(container(None)) and not store.has_secrets(spec)
    folder = pathlib.Path(store.secrets_folder("a", mark or ""))
    folder.mkdir(parents=True)
    for name, value in there.items():
        (folder / name).write_text(value)
    assert store.has_secrets(spec) is is_whole


def test_a_path_is_owned_when_it_lies_inside(tmp_path: pathlib.Path) -> None:
    store = Store(str(tmp_path / "state"))
    inside, beside, out = store.folder + "/cache", store.folder + "2/cache", store.folder + "/../x"
    assert [store.owns(path) for path in (inside, beside, out)] == [True, False, False]


@pytest.mark.parametrize(
    ("user", "expected"),
    [("1000", (1000, 1000)), ("1000:5", (1000, 5)), ("0", (0, 0)), ("", None), ("vllm", None), ("vllm:5", None)],
)
def test_numeric_user(user: str, expected: object) -> None:
    assert numeric_user(user) == expected


# Recorded from Docker Engine 20.10.24.
REFUSALS = [
    ('could not select device driver "nvidia" with capabilities: [[gpu]]', "NVIDIA Container Toolkit"),
    (
        "driver failed programming external connectivity: Bind for 127.0.0.1:1 failed: port is already allocated",
        "ss -ltnp",
    ),
    ("Error starting userland proxy: listen tcp4 127.0.0.1:1: bind: address already in use", "ss -ltnp"),
    ('Conflict. The container name "/x" is already in use by container "0". You have to remove it.', "another name"),
    ('invalid mount config for type "bind": bind source path does not exist: /no', "Create the path"),
]


@pytest.mark.parametrize(("reason", "advice"), REFUSALS)
def test_refusals_say_what_to_do(reason: str, advice: str) -> None:
    assert explained(reason).startswith(reason.rstrip(".") + ". ")
    assert advice in explained(reason)
    assert explained("something else") == "something else."


NAMES = [
    (["vllm-a-0", "b_1.x"], {"m": {"api_key": ""}}, []),
    (["a1", "a1"], {}, ["a1 is named 2 times"]),
    (["a"], {}, ["'a' cannot"]),
    (["-x"], {}, ["'-x' cannot"]),
    (["a/b"], {}, ["'a/b' cannot"]),
    (["a1.previous"], {}, ["'a1.previous' cannot"]),
    (["a1\n"], {}, ["'a1\\n' cannot"]),
    ([], {"m": {"../x": ""}}, ["'../x' cannot"]),
    ([], {"m": {".": "", "ok": ""}}, ["'.' cannot"]),
]


@pytest.mark.parametrize(("names", "secrets", "expected"), NAMES)
def test_names(names: list[str], secrets: dict[str, dict[str, str]], expected: list[str]) -> None:
    found = list(preflight.name_problems(names, secrets))
    assert len(found) == len(expected)
    assert all(words in found[number] for number, words in enumerate(expected))


def test_servers_that_start_at_once_share_a_cache_that_is_not_there_yet(tmp_path: pathlib.Path) -> None:
    servers = 8
    gate = threading.Barrier(servers)

    def make(turn: int) -> None:
        store = Store(str(tmp_path / "state"))
        mount = types.SimpleNamespace(source=str(tmp_path / "state" / "cache" / str(turn)))
        gate.wait()
        store.make_own_mounts(types.SimpleNamespace(user="", mounts=[mount]))

    with concurrent.futures.ThreadPoolExecutor(servers) as pool:
        for turn in range(50):
            assert list(pool.map(make, [turn] * servers)) == [None] * servers
