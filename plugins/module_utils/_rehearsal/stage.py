# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The place of a rehearsal: a container without network in which the recorder waits for the engine to join it."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import socket
import threading
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import JOINS, Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec, Mount
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal import recorder
from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal.attempts import read

# What the recorder may do beyond the engine: make routes, see packets, answer at port 53, and read whose a socket is.
CAPABILITIES = ("DAC_READ_SEARCH", "NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW", "SYS_PTRACE")
# Seconds in which the recorder is set up, on however busy a host, and between two looks.
READY_SECONDS = 180
LOOK_SECONDS = 0.1
_MEMORY_BYTES = 2**28


class RecorderFailed(FleetError):
    """What the engine asks for cannot be told on this host."""


class Stage:
    """A context: the recorder runs in it, and the engine's port is reached from the host by another one.

    network: what an engine joins; address: where it is asked from the host.
    """

    def __init__(self, engine: Engine, spec: ContainerSpec, folder: str) -> None:
        """spec: the container of the engine that is to join; folder: of the host, for this stage alone."""
        self._engine, self._folder = engine, folder
        self._spec = dataclasses.replace(
            spec,
            name=spec.name + ".recorder",
            argv=("python3", "-I", "-c", inspect.getsource(recorder), str(spec.container_port)),
            env={},
            mounts=(Mount(folder, recorder.FOLDER, False),),
            tmpfs={},
            listen=("127.0.0.1", 0),
            gpus=None,
            devices=(),
            groups=(),
            ulimits={},
            memory_bytes=_MEMORY_BYTES,
            user="0",
            # It writes the resolv.conf and hosts that both containers read.
            read_only_root=False,
            cap_add=CAPABILITIES,
            network="none",
            init=True,
            health=None,
        )
        self._closing = contextlib.ExitStack()
        self._recorder = ""
        self.network = ""
        self.address = ("127.0.0.1", 0)

    def __enter__(self) -> Stage:
        with self._closing:
            os.makedirs(self._folder, exist_ok=True)
            # The recorder's root has no right to write into folders of others; nobody else comes through the one above.
            os.chmod(self._folder, 0o777)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._folder, recorder.SOCKET))
            self._recorder = self._engine.create(self._spec)
            self._closing.callback(self._engine.remove, self._recorder)
            self._engine.start(self._recorder)
            self._await_ready()
            # The recorder ends, and all that runs with it, when this process does.
            self._closing.enter_context(self._connected())
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._closing.enter_context(listener)
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            self._closing.callback(listener.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=self._lead, args=(listener,), daemon=True).start()
            self.network = JOINS + self._recorder
            self.address = ("127.0.0.1", int(listener.getsockname()[1]))
            self._closing = self._closing.pop_all()
        return self

    def __exit__(self, *_error: t.Any) -> None:
        self._closing.close()

    def told(self) -> list[dict[str, t.Any]]:
        """What was recorded. Raises RecorderFailed when that is not everything."""
        state = self._state()
        if not state.get("Running"):
            raise self._failed(f"it ended with exit code {state.get('ExitCode')}")
        found = read(self._log())
        if len(found) >= recorder.MOST_LINES:
            found = found[: recorder.MOST_LINES]
        return [event for event in found if event["event"] in ("lookup", "connect")]

    def _await_ready(self) -> None:
        until = time.monotonic() + READY_SECONDS
        while True:
            state = self._state()
            for event in read(self._log()):
                if event["event"] == "failed":
                    raise self._failed(event["why"])
                if event["event"] == "ready":
                    return
            if not state.get("Running"):
                raise self._failed(f"it ended with exit code {state.get('ExitCode')}")
            if time.monotonic() > until:
                raise self._failed(f"it was not ready within {READY_SECONDS} s")
            time.sleep(LOOK_SECONDS)

    def _failed(self, why: str) -> RecorderFailed:
        others = [line for line in self._log().splitlines() if not line.startswith(recorder.MARK)][-20:]
        return RecorderFailed(
            f"The recorder of {self._spec.server}, which sees what the engine asks for, failed: {why}. It needs a "
            f"Linux kernel with packet sockets, the image's python3, and the capabilities {', '.join(CAPABILITIES)} "
            "in a container of its own.",
            log=others,
        )

    def _state(self) -> dict[str, t.Any]:
        return dict((self._engine.inspect(self._recorder) or {}).get("State") or {})

    def _log(self) -> str:
        return b"".join(self._engine.whole_log(self._recorder, framed=True)).decode("utf-8", "replace")

    def _connected(self) -> socket.socket:
        """A new connection to the recorder. The path of a socket is short, that of the folder need not be."""
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{recorder.SOCKET}")
        except OSError:
            connection.close()
            raise
        finally:
            os.close(folder)
        return connection

    def _lead(self, listener: socket.socket) -> None:
        """Join what connects on the host to the engine's port, until the listener is shut down."""
        while True:
            try:
                outer = listener.accept()[0]
            except OSError:
                return
            try:
                inner = self._connected()
            except OSError:
                outer.close()
                continue
            threading.Thread(target=recorder.pump, args=(outer, inner), daemon=True).start()
