# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker Engine of the tests' own, which may be stopped, started and killed: no other test sees it.

It has its own folders, socket and network name space, so that it shares neither containers nor bridges nor ports with
the Engine of the machine. Needs root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import typing as t

import docker

# Seconds; only what hangs takes them.
START_SECONDS = 300
# netdevice(7)
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


class OwnEngine:
    """folder: where all its files are, on a disk that overlay2 can use."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        # A path of a socket has 108 characters at most.
        self.socket = f"/run/gpufleet-{os.getpid()}.sock"
        self.url = f"unix://{self.socket}"
        self._dockerd: subprocess.Popen[bytes] | None = None
        # Holds the network name space open.
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self._holder.pid}/ns/net") == own:
            time.sleep(0.01)
        self.inside(_loopback_up)

    def inside(self, run: t.Callable[[], t.Any]) -> t.Any:
        """Run something in the Engine's network name space, in a thread; its threads are in it too."""
        found: list[t.Any] = []
        failed: list[BaseException] = []

        def body() -> None:
            try:
                with open(f"/proc/{self._holder.pid}/ns/net", "rb") as space:
                    os.setns(space.fileno(), os.CLONE_NEWNET)
                found.append(run())
            except BaseException as error:  # handed to the caller as it is
                failed.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    def command(self, *words: str) -> list[str]:
        """A command in the Engine's network name space."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *words]

    def start(self) -> None:
        """Start dockerd and wait until it answers."""
        (self.folder / "dockerd.pid").unlink(missing_ok=True)
        command = [
            *self.command("dockerd"),
            *("--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec")),
            *("--pidfile", str(self.folder / "dockerd.pid"), "--host", self.url),
            # Where the machine has a containerd of its own, dockerd uses that.
            *("--containerd-namespace", "gpufleet-faults", "--containerd-plugins-namespace", "gpufleet-faults-plugins"),
        ]
        with open(self.folder / "dockerd.log", "ab") as log:
            self._dockerd = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._dockerd.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / "dockerd.log").read_text(encoding="utf-8")[-3000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it as a service manager does; it ends its containers."""
        if self._dockerd is not None:
            self._dockerd.terminate()
            self._dockerd.wait(START_SECONDS)

    def lose_power(self) -> None:
        """End the Engine, its containers and all their processes at once."""
        client = self.client()
        # One that is about to be started again has the process ID 0.
        pids = [pid for one in client.containers.list() if (pid := one.attrs["State"]["Pid"])]
        client.close()
        mine = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._is_mine(pid)]
        for pid in [*mine, *pids]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._dockerd is not None:
            self._dockerd.wait()
        # /run is empty after a boot.
        self._unmount(self.folder / "exec")
        shutil.rmtree(self.folder / "exec", ignore_errors=True)

    def client(self) -> docker.DockerClient:
        """A client of it."""
        return docker.DockerClient(base_url=self.url)

    def take_image(self, name: str) -> None:
        """Copy an image out of the machine's Engine."""
        save = subprocess.Popen(["docker", "save", name], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "--host", self.url, "load", "--quiet"], stdin=save.stdout, check=True, capture_output=True
        )
        assert save.wait() == 0

    def remove(self) -> None:
        """End it and remove all that is its."""
        with contextlib.suppress(docker.errors.DockerException):
            client = self.client()
            for one in client.containers.list(all=True):
                one.remove(force=True)
            client.close()
        self.stop()
        self._holder.kill()
        self._holder.wait()
        self._unmount(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _unmount(self, folder: pathlib.Path) -> None:
        mounts = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
        for place in sorted(mounts, reverse=True):
            if place.startswith(str(folder)):
                subprocess.run(["umount", "--lazy", place], check=False)

    def _answers(self) -> bool:
        try:
            client = self.client()
            client.ping()
            client.close()
        except (docker.errors.DockerException, OSError):
            return False
        return True

    def _is_mine(self, pid: int) -> bool:
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        return str(self.folder).encode() in words and b"pytest" not in words


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
