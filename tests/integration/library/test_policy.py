# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container policy on a real engine: what is asked for is what the processes inside find, and drift is mended."""

from __future__ import annotations

import os
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import runtimes
from support.faults import until

RELAXED: dict[str, t.Any] = {
    "cap_add": ["SYS_NICE"],
    "devices": ["/dev/fuse"],
    "groups": [4711],
    "ipc": "host",
    "pids": 4096,
    "ulimits": {"stack": 2**26},
}
# Prints what the process finds of its own rights.
LOOK = """
import os, resource
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
def tried(path):
    try:
        open(path, "w").close()
        return "written"
    except OSError as error:
        return error.strerror
print(status["CapEff"].strip(), status["CapBnd"].strip(), status["NoNewPrivs"].strip(), status["Seccomp"].strip())
print(tried("/usr/x"), "|", tried("/etc/x"), "|", tried("/tmp/x"))
print(os.getuid(), sorted(set(os.getgroups()) - {0}), resource.getrlimit(resource.RLIMIT_STACK)[1])
print(os.path.exists("/var/run/docker.sock"), os.path.exists("/dev/fuse"))
"""


def look(host: t.Any) -> list[str]:
    """The lines that LOOK prints in the fleet's container."""
    done = host.containers()["a"].exec_run(["python3", "-c", LOOK])
    assert done.exit_code == 0, done.output
    return done.output.decode().splitlines()


@pytest.mark.parametrize("user", ["", "1000:1000"])
def test_a_process_has_no_more_than_it_needs(host: t.Any, user: str) -> None:
    server = host.server(user=user)
    host.run(server)
    kernel, files, who, seen = look(host)
    assert kernel.split() == ["0000000000000000", "0000000000000000", "1", "2"]
    assert files == "Read-only file system | Read-only file system | written"
    assert who.startswith("1000 [1000]" if user else "0 []")
    assert seen == "False False"
    config = host.containers()["a"].attrs["HostConfig"]
    assert (config["Privileged"], config["PidMode"], config["PidsLimit"]) == (False, "", 32768)
    assert config["IpcMode"] == "private" and config["NetworkMode"] in ("default", "bridge")
    assert config["RestartPolicy"]["Name"] == "unless-stopped"
    assert host.run(server)["changed"] is False


@pytest.mark.optional
@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="this kernel has no /dev/fuse to hand out")
def test_what_is_relaxed_is_what_was_asked_for(host: t.Any) -> None:
    server = host.server(container=RELAXED, read_only_root=False)
    host.run(server)
    kernel, files, who, seen = look(host)
    # CAP_SYS_NICE is number 23 (include/uapi/linux/capability.h).
    assert kernel.split() == ["0000000000800000", "0000000000800000", "1", "2"]
    assert files == "written | written | written"
    assert who == f"0 [4711] {2**26}"
    assert seen == "False True"
    assert host.containers()["a"].attrs["HostConfig"]["IpcMode"] == "host"
    assert host.run(server)["changed"] is False


@pytest.mark.parametrize(("name", "value"), sorted(RELAXED.items()))
def test_each_property_is_drift(host: t.Any, name: str, value: t.Any) -> None:
    """Made with it and wanted without it, and the other way round: replaced for that one reason, then left alone."""
    reason = {"ipc": "ipc_mode"}.get(name, name)
    plain = host.server()
    relaxed = {**plain, "container": {name: value}}
    host.run(relaxed, state="present")
    for server in (plain, relaxed):
        done = host.run(server, state="present")
        assert [(one["action"], one["because"]) for one in done["actions"]] == [("replace", [reason])]
        assert host.run(server, state="present")["changed"] is False


def test_a_limit_that_nobody_here_may_raise_is_refused(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "hard_limits", lambda: {"memlock": 2**20})
    error = host.refused(host.server(container={"ulimits": {"memlock": -1}}))
    assert "memlock shall be unlimited" in str(error)
    assert host.containers() == {}


def test_a_server_that_ends_with_0_after_its_engine_died_is_started_again(host: t.Any) -> None:
    """As vLLM ends when its engine process died: restart policies that look at the exit code would leave it dead."""
    # After its start was seen to succeed, for which a loaded machine takes seconds.
    server = host.server(env={"STAND_IN_START_SECONDS": "0.1", "STAND_IN_EXIT_AFTER": "12"})
    before = host.run(server)["servers"][0]["started_at"]

    def again() -> bool:
        attrs = host.containers()["a"].attrs
        return attrs["RestartCount"] >= 1 and attrs["State"]["StartedAt"] != before

    assert until(again)


def test_caches_that_nobody_uses_are_named_and_stay(host: t.Any) -> None:
    old, new = (str(host.state_dir / "cache" / image / "cpu") for image in ("0123456789ab", "ba9876543210"))
    server = host.server(mounts=[{"source": old, "target": "/var/cache/vllm", "read_only": False}])
    assert host.run(server)["unused_caches"] == []
    moved = {**server, "mounts": [{**server["mounts"][0], "source": new}]}
    # The former definition is kept for a rollback, which is to be warm.
    assert host.run(moved, keep_generations=2)["unused_caches"] == []
    assert host.run(moved, keep_generations=1)["unused_caches"] == []
    assert host.run({**moved, "env": {}}, keep_generations=1)["unused_caches"] == [old]
    assert os.path.isdir(old)
    assert sorted(host.run(state="absent", prune=True)["unused_caches"]) == [old, new]
