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
    LABEL_MODEL,
    LABEL_SECRETS,
    LABEL_SERVER,
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
# What the Docker Engine makes of 0 (daemon/config of moby, DefaultShmSize).
_ENGINE_SHM_BYTES = 64 * 2**20
# The Engine keeps cores in units of 1e-9; what a person writes has no more digits than these.
CPU_DIGITS = 3


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
) -> ContainerSpec:
    """The container of one server of the plan.

    server: one element of the option `servers` of vllm_servers.
    secrets_folder: where on the host this server's secret files lie.
    mark: keyed hash of the secrets (secrets_mark), or None when the server has none.
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
    entrypoint = tuple(server["entrypoint"] or image.entrypoint)
    gpus = server.get("gpus")
    return ContainerSpec(
        name=server["name"],
        image=server["image"],
        image_id=image.id,
        argv=entrypoint + tuple(server["command"]),
        env=own_environment(server["env"], image.env),
        mounts=tuple(sorted(mounts, key=lambda mount: mount.target)),
        tmpfs={path: str(options or "") for path, options in server["tmpfs"].items()},
        listen=listen,
        container_port=port,
        gpus=Gpus(gpus["runtime"], tuple(sorted(set(gpus["ids"])))) if gpus and gpus["ids"] else None,
        shm_bytes=int(server["shm_bytes"]) or _ENGINE_SHM_BYTES,
        memory_bytes=int(server["memory_bytes"] or 0),
        cpus=round(float(server["cpus"] or 0), CPU_DIGITS),
        user=container_user(server, image),
        read_only_root=bool(server["read_only_root"]),
        # Least privilege: an engine needs no capability, no new privilege, no other container's IPC and no host
        # network.
        cap_drop=("ALL",),
        cap_add=(),
        security_opt=("no-new-privileges",),
        ipc_mode="private",
        network="bridge",
        # Without an init as PID 1 the import phase of vLLM ignores SIGTERM and zombies of its workers stay.
        init=True,
        stop_seconds=int(server["stop_seconds"]),
        health=HealthCheck(
            test=("CMD", "python3", "-c", _HEALTH_PROGRAM.format(port=port)),
            interval=30,
            timeout=10,
            retries=3,
            start_period=int(server["deadline_seconds"]),
        ),
        labels=labels,
    )


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
