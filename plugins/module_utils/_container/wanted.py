# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""From a server of the plan to the container that should run, with the container policy applied. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import (
    LABEL_FLEET,
    LABEL_GPUS,
    LABEL_MODEL,
    LABEL_SECRETS,
    LABEL_SERVER,
    TLS_OPTION,
    ContainerSpec,
    Gpus,
    HealthCheck,
    Mount,
)

# The image's own python3 is used because every vLLM image has it and not every one has curl; image_info has run it
# before. The address is the container's own loopback, so the check needs no published port and no API key (/health
# never asks for one).
_HEALTH_PROGRAM = (
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', {port}, timeout=5); c.request('GET', '/health'); "
    "raise SystemExit(c.getresponse().status != 200)"
)
# Whose certificate it is need not be verified: nobody else listens on the container's own loopback.
_HEALTH_PROGRAM_TLS = _HEALTH_PROGRAM.replace("import http.client as h;", "import http.client as h, ssl;").replace(
    "HTTPConnection('127.0.0.1', {port}, timeout=5)",
    "HTTPSConnection('127.0.0.1', {port}, timeout=5, context=ssl._create_unverified_context())",
)
# What the Docker Engine makes of 0 (daemon/config of moby, DefaultShmSize).
_ENGINE_SHM_BYTES = 64 * 2**20
# The Engine keeps cores in units of 1e-9; what a person writes has no more digits than these.
CPU_DIGITS = 3


# What a server is not asked for otherwise. Threads are counted as processes; engines of eight GPUs have some thousands.
POLICY: dict[str, t.Any] = {"cap_add": (), "devices": (), "groups": (), "ipc": "private", "pids": 32768, "ulimits": {}}


class Devices(t.NamedTuple):
    """Device files of the host, and the numbers of the groups that may use them."""

    nodes: tuple[str, ...]
    groups: tuple[int, ...]


NO_DEVICES = Devices((), ())


class Image(t.NamedTuple):
    """What a container inherits from its image."""

    id: str
    entrypoint: tuple[str, ...]
    env: t.Mapping[str, str]
    labels: t.Mapping[str, str]
    user: str


def wanted_container(
    server: t.Mapping[str, t.Any],
    image: Image,
    fleet: str,
    secrets_folder: str,
    mark: str | None,
    devices: Devices = NO_DEVICES,
) -> ContainerSpec:
    """The container of one server of the plan.

    server: one element of the option `servers` of vllm_servers.
    secrets_folder: where on the host this server's secret files lie.
    mark: keyed hash of the secrets (secrets_mark), or None when the server has none.
    devices: the device files of AMD's GPUs on this host.
    """
    listen = (server["listen"]["address"], int(server["listen"]["port"]))
    port = int(server["container_port"])
    mounts = [Mount(m["source"], m["target"], bool(m["read_only"])) for m in server["mounts"]]
    labels = {
        LABEL_FLEET: fleet,
        LABEL_SERVER: server["name"],
        LABEL_MODEL: server["model"],
    }
    if mark is not None:
        mounts.append(Mount(secrets_folder, server["secrets"]["target"], True))
        labels[LABEL_SECRETS] = mark
    argv = tuple(server["entrypoint"] or image.entrypoint) + tuple(server["command"])
    gpus = _gpus(server.get("gpus"))
    policy = {**POLICY, **(server.get("container") or {})}
    if gpus is not None and gpus.runtime == "amd":
        labels[LABEL_GPUS] = ",".join(gpus.ids)
    return ContainerSpec(
        name=server["name"],
        image=server["image"],
        image_id=image.id,
        argv=argv,
        env=own_environment(server["env"], image.env),
        mounts=tuple(sorted(mounts, key=lambda mount: mount.target)),
        tmpfs={path: str(options or "") for path, options in server["tmpfs"].items()},
        listen=listen,
        container_port=port,
        gpus=gpus,
        shm_bytes=int(server["shm_bytes"]) or _ENGINE_SHM_BYTES,
        memory_bytes=int(server["memory_bytes"] or 0),
        cpus=round(float(server["cpus"] or 0), CPU_DIGITS),
        user=container_user(server, image),
        read_only_root=bool(server["read_only_root"]),
        # Least privilege: an engine needs no capability, no new privilege, no other container's IPC and no host
        # network.
        cap_drop=("ALL",),
        cap_add=tuple(sorted(policy["cap_add"])),
        security_opt=("no-new-privileges",),
        devices=tuple(sorted({*policy["devices"], *devices.nodes})),
        groups=tuple(sorted({*map(str, policy["groups"]), *map(str, devices.groups)})),
        ulimits={name: (int(value), int(value)) for name, value in sorted(policy["ulimits"].items())},
        pids=int(policy["pids"]),
        ipc_mode=policy["ipc"],
        network="bridge",
        # Without an init as PID 1 the import phase of vLLM ignores SIGTERM and zombies of its workers stay.
        init=True,
        stop_seconds=int(server["stop_seconds"]),
        health=HealthCheck(
            test=(
                "CMD",
                "python3",
                "-c",
                (_HEALTH_PROGRAM_TLS if TLS_OPTION in argv else _HEALTH_PROGRAM).format(port=port),
            ),
            interval=30,
            timeout=10,
            retries=3,
            start_period=int(server["deadline_seconds"]),
        ),
        labels=labels,
    )


def _gpus(asked: t.Mapping[str, t.Any] | None) -> Gpus | None:
    return Gpus(asked["runtime"], tuple(sorted(set(asked["ids"])))) if asked and asked["ids"] else None


def own_environment(env: t.Mapping[str, t.Any], image_env: t.Mapping[str, str]) -> dict[str, str]:
    """The variables that differ from what the image sets by itself."""
    return {name: str(value) for name, value in sorted(env.items()) if image_env.get(name) != str(value)}


def container_user(server: t.Mapping[str, t.Any], image: Image) -> str:
    """The user that the container runs as: the server's, else the image's."""
    return str(server["user"] or image.user)


def secrets_mark(values: t.Mapping[str, str], user: str, salt: bytes) -> str | None:
    """A keyed hash of one server's secrets and of the user who may read them, or None when there is none.

    It makes a changed secret visible as drift without showing it: the key (salt) never leaves the host.
    """
    if not values:
        return None
    return hmac.new(salt, json.dumps([dict(values), user], sort_keys=True).encode(), hashlib.sha256).hexdigest()
