# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Who reads a cache now: the running containers that mount it."""

from __future__ import annotations

import os
import traceback

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineUnreachable
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.keep import User

DOCKER_IMPORT_ERROR = None
try:
    import docker
    import docker.errors
except ImportError:
    docker = None
    DOCKER_IMPORT_ERROR = traceback.format_exc()


def users_of(hub_cache: str) -> list[User]:
    """Running containers with a mount in, of or around the cache. Raises EngineUnreachable."""
    if docker is None:
        raise EngineUnreachable("Which containers read the cache is not known", exception=DOCKER_IMPORT_ERROR)
    cache = os.path.realpath(hub_cache)
    users = []
    try:
        client = docker.from_env()
        try:
            for container in client.containers.list(ignore_removed=True):
                attributes = container.attrs
                sources = [os.path.realpath(one["Source"]) for one in attributes["Mounts"] if one.get("Source")]
                if any(_overlap(cache, source) for source in sources):
                    words = [*(attributes.get("Args") or []), *sources, *(attributes["Config"].get("Env") or [])]
                    users.append(User(container.name, tuple(words)))
        finally:
            client.close()
    except (docker.errors.DockerException, OSError) as error:
        raise EngineUnreachable(
            f"The Docker Engine cannot be asked which containers read {hub_cache}: {type(error).__name__}. Start it, "
            "or let this user reach it; on a host without one set engine to false.",
            kind="no_engine",
        ) from error
    return users


def _overlap(first: str, second: str) -> bool:
    common = os.path.commonpath([first, second])
    return common in (first, second) and common != "/"
