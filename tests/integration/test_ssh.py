# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is reached over ssh, as most are: the terminal of the connection is between us and the host."""

from __future__ import annotations

import getpass
import pathlib
import pwd
import shutil
import socket
import subprocess
import time
import typing as t

import pytest

from support.fleet import ROOT, Fleet

START_SECONDS = 10
SSH_OPTIONS = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ControlPath=none")


@pytest.fixture
def ssh_port(tmp_path: pathlib.Path) -> t.Iterator[int]:
    """The port of an sshd on loopback that lets this user in with the key tmp_path/key."""
    found = subprocess.run([str(ROOT / "tools/sshd.sh")], capture_output=True, text=True, check=False)
    if found.returncode or not shutil.which("ssh"):
        pytest.skip(f"no ssh here: {found.stderr.strip() or 'the client is missing'}")
    for name in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pathlib.Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it, and the package that makes it is not installed
    options = {
        "ListenAddress": "127.0.0.1",
        "HostKey": tmp_path / "host_key",
        "AuthorizedKeysFile": tmp_path / "key.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "Subsystem": "sftp internal-sftp",
    }
    command = [*found.stdout.split(), "-D", "-e", "-f", "/dev/null", "-p", str(port)]
    command += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    try:
        pwd.getpwnam("sshd")
    except KeyError:
        # sshd drops its privileges to this user, whom the package would make: here only sshd itself sees it.
        users = tmp_path / "passwd"
        users.write_text(pathlib.Path("/etc/passwd").read_text() + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
        command = ["unshare", "--mount", "sh", "-c", f'mount --bind {users} /etc/passwd && exec "$@"', "sh", *command]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            deadline = time.monotonic() + START_SECONDS
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert server.poll() is None and time.monotonic() < deadline, "sshd did not start"
                time.sleep(0.1)
            yield port
        finally:
            server.terminate()


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
    fleet.models = [fleet.model("far")]
    played = fleet.deploy()
    assert played.rc == 0, played.output
    assert "far | vllm-far-0 |" in played.output
    assert "loading weights 1/1" in played.output and "answers requests" in played.output
    assert fleet.deploy().unchanged
