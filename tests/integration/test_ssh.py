# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is reached over ssh, as most are: the terminal of the connection is between us and the host."""

from __future__ import annotations

import getpass
import pathlib
import subprocess
import typing as t

import pytest

from support.fleet import Fleet
from support.ssh import sshd

SSH_OPTIONS = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ControlPath=none")


@pytest.fixture
def ssh_port(tmp_path: pathlib.Path) -> t.Iterator[int]:
    """The port of an sshd on loopback that lets this user in with the key tmp_path/key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    with sshd(tmp_path, tmp_path / "key.pub") as port:
        yield port


@pytest.mark.optional
def test_progress_and_result_come_over_ssh(fleet: Fleet, tmp_path: pathlib.Path, ssh_port: int) -> None:
    fleet.host_vars = {
        "far": {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": ssh_port,
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(tmp_path / "key"),
            "ansible_ssh_common_args": " ".join(f"-o {option}" for option in SSH_OPTIONS),
        }
    }
    # Slow enough that its stages are read before the server answers.
    fleet.models = [fleet.model("far", env={"STAND_IN_START_SECONDS": "4"})]
    played = fleet.deploy()
    assert played.rc == 0, played.output
    assert "far | vllm-far-0 |" in played.output
    assert "loading weights 1/1" in played.output and "answers requests" in played.output
    assert fleet.deploy().unchanged
