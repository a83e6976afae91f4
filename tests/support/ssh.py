# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ssh server for tests, on loopback."""

from __future__ import annotations

import contextlib
import pathlib
import pwd
import shutil
import socket
import subprocess
import time
import typing as t

import pytest

from support.fleet import ROOT
from support.ports import free_port

# Seconds; only what hangs takes them.
START_SECONDS = 120


@contextlib.contextmanager
def sshd(folder: pathlib.Path, authorized: pathlib.Path) -> t.Iterator[int]:
    """The port of an sshd that lets this user in with the keys of a file; skips the test where there is no ssh.

    folder: gets the server's key host_key, unless it is there.
    """
    found = subprocess.run([str(ROOT / "tools/sshd.sh")], capture_output=True, text=True, check=False)
    if found.returncode or not shutil.which("ssh"):
        pytest.skip(f"no ssh here: {found.stderr.strip() or 'the client is missing'}")
    if not (folder / "host_key").exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key")], check=True)
    port = free_port()
    pathlib.Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it, and the package that makes it is not installed
    options = {
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": authorized,
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        # By default it turns some away while ten have not yet shown their key.
        "MaxStartups": "100",
        "Subsystem": "sftp internal-sftp",
    }
    command = [*found.stdout.split(), "-D", "-e", "-f", "/dev/null", "-p", str(port)]
    command += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    try:
        pwd.getpwnam("sshd")
    except KeyError:
        # sshd drops its privileges to this user, whom the package would make: here only sshd itself sees it.
        users = folder / "passwd"
        users.write_text(pathlib.Path("/etc/passwd").read_text() + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
        command = ["unshare", "--mount", "sh", "-c", f'mount --bind {users} /etc/passwd && exec "$@"', "sh", *command]
    # Into a file: nobody reads it meanwhile, and a full pipe would stop the server.
    log = folder / f"sshd-{port}.log"
    with log.open("wb") as errors, subprocess.Popen(command, stderr=errors) as server:
        try:
            deadline = time.monotonic() + START_SECONDS
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert server.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield port
        finally:
            server.terminate()
