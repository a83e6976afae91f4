# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Transport to the Docker Engine: plain calls with plain data, errors of the SDK translated once. No decisions here."""

from __future__ import annotations

import collections
import contextlib
import json
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import connect, translated
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import NANO
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.podman import Podman, podman_version
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import (
    LABEL_FLEET,
    LABEL_SERVER,
    ContainerSpec,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.streams import (
    Stream,
    docker_time,
    observed_usage,
    read_json,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineRefused
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.progress import Usage

with contextlib.suppress(ImportError):  # told by DOCKER_IMPORT_ERROR
    import docker
    import docker.errors
    import docker.types

# Seconds for one answer of the Engine. Removing a container whose memory is large can take tens of seconds.
ANSWER_SECONDS = 120
# Bytes of a container's output that are taken at once; a line can have any length.
TAIL_BYTES = 16 * 2**20
# Seconds for them: a driver of logs can be slow, and what waits for the log may be a server that is to serve again.
TAIL_SECONDS = 30
# How a network is named that is another container's.
JOINS = "container:"


def rehearsal_of(fleet: str) -> str:
    """What the containers of a fleet's rehearsals have as their fleet: no name of a fleet has blanks."""
    return f"rehearsal of {fleet}"


class Engine:
    """The Docker Engine of this host, found as the docker command finds it: DOCKER_HOST, else the local socket.

    Podman may answer in its place; what is otherwise then is in podman.py.
    """

    def __init__(self, store: Store | None = None) -> None:
        """Raises EngineUnreachable when no Engine answers.

        store: where it is kept which containers were ready once, for an engine that cannot keep that itself; None for
        who does not ask.
        """
        self._store = store
        self._api = connect(ANSWER_SECONDS)
        with translated("ask the Docker Engine who it is"):
            podman = podman_version(self._api)
        self.podman = Podman(self._api, podman) if podman is not None else None

    def version(self) -> str:
        """Version of the Engine."""
        with translated("read the version of the Docker Engine"):
            return str(self._api.version()["Version"])

    def problems(self) -> list[str]:
        """What speaks against an engine of this kind, in sentences."""
        if self.podman is None:
            return []
        with translated("read the facts of Podman"):
            return self.podman.problems()

    def info(self) -> dict[str, t.Any]:
        """What the Engine says of itself and its host."""
        with translated("read the facts of the Docker Engine"):
            return dict(self._api.info())

    def inspect_image(self, name: str) -> dict[str, t.Any] | None:
        """The Engine's whole answer about an image, or None when the host does not have it."""
        with translated(f"inspect the image {name}"):
            try:
                return dict(self._api.inspect_image(name))
            except docker.errors.ImageNotFound:
                return None

    def fleet_containers(self, fleet: str | None) -> list[dict[str, t.Any]]:
        """Inspections of all containers of a fleet, or of every fleet; one that vanishes meanwhile is left out."""
        label = LABEL_FLEET if fleet is None else f"{LABEL_FLEET}={fleet}"
        with translated(f"list the containers of {'all fleets' if fleet is None else 'the fleet ' + fleet}"):
            listed = self._api.containers(all=True, filters={"label": label})
        found = [self.inspect(container["Id"]) for container in listed]
        return [inspect for inspect in found if inspect is not None]

    def servers_of_others(self, fleet: str) -> set[str]:
        """The servers of which other fleets have containers."""
        with translated("list the containers of all fleets"):
            listed = self._api.containers(all=True, filters={"label": LABEL_FLEET})
        labels = [container.get("Labels") or {} for container in listed]
        own = (fleet, rehearsal_of(fleet))
        return {one[LABEL_SERVER] for one in labels if one.get(LABEL_FLEET) not in own and LABEL_SERVER in one}

    def mounted(self) -> set[str]:
        """The paths of this host that containers of any fleet mount."""
        with translated("list the containers of all fleets"):
            listed = self._api.containers(all=True, filters={"label": LABEL_FLEET})
        return {mount.get("Source") or "" for container in listed for mount in container.get("Mounts") or ()}

    def inspect(self, container: str) -> dict[str, t.Any] | None:
        """The Engine's whole answer about a container (name or ID), or None when there is none."""
        with translated(f"inspect the container {container}"):
            try:
                inspect = dict(self._api.inspect_container(container))
                if self.podman is None:
                    return inspect
                ready = self._store.was_confirmed(inspect["Id"]) if self._store is not None else None
                return self.podman.read(inspect, ready)
            except docker.errors.NotFound:
                return None

    def create(self, spec: ContainerSpec) -> str:
        """Create the container, not started and with restart policy "no"; its ID.

        A failed create leaves nothing behind. One that joins the network of another container ("container:ID") shares
        that one's processes too, and has no ports of its own.
        """
        if self.podman is not None:
            if self._store is None:
                raise EngineRefused(
                    f"Failed to create the container {spec.name}: the engine of this host is Podman, with which only "
                    "vllm_servers has been tried. Do this on a host with the Docker Engine."
                )
            with translated(f"create the container {spec.name}"):
                return self.podman.create(spec)
        key = f"{spec.container_port}/tcp"
        joins = spec.network.startswith(JOINS)
        host_config = self._api.create_host_config(
            port_bindings=None if joins else {key: [spec.listen]},
            pid_mode=spec.network if joins else None,
            mounts=[docker.types.Mount(m.target, m.source, type="bind", read_only=m.read_only) for m in spec.mounts],
            tmpfs=dict(spec.tmpfs),
            device_requests=_device_requests(spec),
            shm_size=spec.shm_bytes,
            mem_limit=spec.memory_bytes or None,
            nano_cpus=round(spec.cpus * NANO) or None,
            read_only=spec.read_only_root,
            cap_drop=list(spec.cap_drop),
            cap_add=list(spec.cap_add),
            security_opt=list(spec.security_opt),
            devices=[f"{path}:{path}:rwm" for path in spec.devices],
            group_add=list(spec.groups),
            ulimits=[
                docker.types.Ulimit(name=name, soft=soft, hard=hard) for name, (soft, hard) in spec.ulimits.items()
            ],
            pids_limit=spec.pids or None,
            ipc_mode=spec.ipc_mode,
            network_mode=spec.network,
            init=spec.init,
            restart_policy={"Name": "no"},
        )
        config = self._api.create_container_config(
            image=spec.image,
            # An entrypoint of the image would be put before the command, so the whole argv is given as entrypoint and
            # command.
            entrypoint=list(spec.argv[:1]),
            command=list(spec.argv[1:]),
            environment=dict(spec.env),
            labels=dict(spec.labels),
            user=spec.user or None,
            ports=None if joins else [(spec.container_port, "tcp")],
            healthcheck=_healthcheck(spec),
            host_config=host_config,
        )
        config["StopTimeout"] = spec.stop_seconds
        with translated(f"create the container {spec.name}"):
            return str(self._api.create_container_from_config(config, spec.name)["Id"])

    def start(self, container: str) -> None:
        """Start a container."""
        with translated(f"start the container {container}"):
            self._api.start(container)

    def stop(self, container: str, seconds: int) -> None:
        """Ask it to end with SIGTERM, and end it after so many seconds."""
        with translated(f"stop the container {container}"):
            if self.podman is not None:
                self.podman.stop(container, seconds)
            else:
                self._api.stop(container, timeout=seconds)

    def processes(self, container: str) -> list[int]:
        """The processes of a container by their numbers on the Engine's host; none when it does not run."""
        with translated(f"list the processes of the container {container}"):
            if self.podman is not None:
                return self.podman.processes(container)
            try:
                table = self._api.top(container)
            except docker.errors.APIError:  # it does not run, or is gone
                return []
        column = list(table["Titles"]).index("PID")
        return [int(row[column]) for row in table["Processes"] or ()]

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        with translated(f"rename the container {container} to {name}"):
            self._api.rename(container, name)

    def remove(self, container: str) -> None:
        """Remove a container and its anonymous volumes; one that is gone already is no error."""
        there = self.inspect(container) if self.podman is not None and self._store is not None else None
        with translated(f"remove the container {container}"), contextlib.suppress(docker.errors.NotFound):
            self._api.remove_container(container, v=True, force=True)
        if there is not None and self._store is not None:
            self._store.note_confirmed(there["Id"], False)

    def forget_removed(self) -> None:
        """Drop what is kept of containers that somebody else has removed; called under the lock of the store."""
        if self.podman is None or self._store is None:
            return
        with translated("list all containers"):
            listed = self._api.containers(all=True)
        self._store.keep_confirmed({container["Id"] for container in listed})

    def set_restart_policy(self, container: str, policy: str) -> None:
        """Change the restart policy in place."""
        if self.podman is not None and self._store is not None:
            there = self.inspect(container)
            if there is not None:
                self._store.note_confirmed(there["Id"], policy != "no")
            return
        with translated(f"set the restart policy of the container {container}"):
            self._api.update_container(container, restart_policy={"Name": policy})

    def log(self, container: str, since: str | None) -> Stream:
        """The container's output as it is written, without the frames around it; ends with the container.

        since: the Engine's time (RFC 3339) from which on it is given; None for its beginning.
        """
        query = {"follow": "1", "stdout": "1", "stderr": "1", **({"since": docker_time(since)} if since else {})}
        with translated(f"read the log of the container {container}"):
            return Stream(self._api, f"containers/{container}/logs", query, True, translated)

    def whole_log(self, container: str, framed: bool) -> Stream:
        """What the container has put out until now. framed: whether it has no terminal, which does without frames."""
        with translated(f"read the log of the container {container}"):
            return Stream(self._api, f"containers/{container}/logs", {"stdout": "1", "stderr": "1"}, framed, translated)

    def events(self, container: str, actions: t.Sequence[str]) -> Stream:
        """What happens to a container from now on, of these actions: one JSON object a line."""
        filters = json.dumps({"type": ["container"], "container": [container], "event": list(actions)})
        # The Engine may subscribe us a moment after it has answered, so the last second is asked for too; what it holds
        # of that is nothing that a look at the container's state would not tell.
        query = {"filters": filters, "since": f"{time.time() - 1:.3f}"}
        with translated(f"listen to the events of the container {container}"):
            return Stream(self._api, "events", query, False, translated)

    def usage(self, container: str) -> Usage | None:
        """What a container has used since its start; None when the Engine does not tell."""
        with translated(f"read what the container {container} uses"):
            return observed_usage(
                read_json(self._api, f"containers/{container}/stats", {"stream": "0", "one-shot": "1"})
            )

    def log_tail(self, container: str, lines: int) -> list[str]:
        """The last lines of the container's output, at most TAIL_BYTES of them; takes no longer than TAIL_SECONDS."""
        query = {"stdout": "1", "stderr": "1", "tail": str(lines)}
        with translated(f"read the log of the container {container}"):
            stream = Stream(self._api, f"containers/{container}/logs", query, True, translated, TAIL_SECONDS)
        kept: collections.deque[bytes] = collections.deque()
        size, is_whole = 0, True
        for piece in stream:
            kept.append(piece)
            size += len(piece)
            while size > TAIL_BYTES and len(kept) > 1:
                size -= len(kept.popleft())
                is_whole = False
        text = b"".join(kept).decode("utf-8", "replace")
        # What was cut off began in the middle of a line.
        found = text.splitlines() if is_whole else text.splitlines()[1:]
        return [line for line in found if line.strip()]

    def run_once(self, image: str, argv: t.Sequence[str]) -> tuple[int, str]:
        """Run a program in a fresh container without network, and remove it; exit status and output (both streams)."""
        with translated(f"run {argv[0]} in the image {image}"):
            container = self._api.create_container(
                image,
                entrypoint=list(argv[:1]),
                command=list(argv[1:]),
                host_config=self._api.create_host_config(
                    network_mode="none", cap_drop=["ALL"], security_opt=["no-new-privileges"], read_only=True
                ),
            )["Id"]
            try:
                self._api.start(container)
                status = int(self._api.wait(container)["StatusCode"])
                return status, self._api.logs(container).decode("utf-8", "replace")
            finally:
                self._api.remove_container(container, v=True, force=True)


def _device_requests(spec: ContainerSpec) -> list[t.Any] | None:
    """Docker's form of the GPUs. Driver and count are given in full, for the Engine keeps them as they were sent."""
    if spec.gpus is None or spec.gpus.runtime == "amd":
        return None
    return [
        docker.types.DeviceRequest(
            driver=spec.gpus.runtime, count=0, device_ids=list(spec.gpus.ids), capabilities=[["gpu"]], options={}
        )
    ]


def _healthcheck(spec: ContainerSpec) -> t.Any | None:
    if spec.health is None:
        return None
    return docker.types.Healthcheck(
        test=list(spec.health.test),
        interval=spec.health.interval * NANO,
        timeout=spec.health.timeout * NANO,
        retries=spec.health.retries,
        start_period=spec.health.start_period * NANO,
    )
