# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""One container as we want it or as it is: the closed set of properties that we set and compare.

Both sides of the comparison are the same type, so that drift is found by comparing what runs with what is wanted, not
by trusting a label. Whatever the Docker Engine adds or rewrites by itself is normalised away where a ContainerSpec is
made.
"""

from __future__ import annotations

import dataclasses
import typing as t

LABEL_PREFIX = "gpufleet.vllm."
LABEL_FLEET = LABEL_PREFIX + "fleet"
LABEL_SERVER = LABEL_PREFIX + "server"
LABEL_MODEL = LABEL_PREFIX + "model"
LABEL_SECRETS = LABEL_PREFIX + "secrets"
# UUIDs of GPUs of which the container itself shows device nodes only (AMD's).
LABEL_GPUS = LABEL_PREFIX + "gpus"

# The option of vLLM (0.6.0 on) by which a server speaks HTTPS.
TLS_OPTION = "--ssl-certfile"

# Digits of the mark of a server's secrets that stand in the path of their folder.
MARK_IN_PATH = 16


@dataclasses.dataclass(frozen=True)
class Mount:
    """A bind mount of a path of the host."""

    source: str
    target: str
    read_only: bool = True


@dataclasses.dataclass(frozen=True)
class Gpus:
    """The GPUs that a container gets.

    By the NVIDIA runtime ("nvidia", UUIDs), by CDI device names ("cdi"), or AMD's by their devices ("amd", UUIDs).
    """

    runtime: str
    ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class HealthCheck:
    """Docker's own health check; times in seconds."""

    test: tuple[str, ...]
    interval: int
    timeout: int
    retries: int
    start_period: int


@dataclasses.dataclass(frozen=True)
class ContainerSpec:
    """All that makes a container ours; sizes in bytes, times in seconds, cpus in cores.

    devices: paths on the host; groups: numbers; ulimits: (soft, hard) by name, -1 for no limit; pids: 0 for no limit.
    """

    name: str
    image: str
    image_id: str
    argv: tuple[str, ...]
    env: t.Mapping[str, str]
    mounts: tuple[Mount, ...]
    tmpfs: t.Mapping[str, str]
    listen: tuple[str, int]
    container_port: int
    gpus: Gpus | None
    shm_bytes: int
    memory_bytes: int
    cpus: float
    user: str
    read_only_root: bool
    cap_drop: tuple[str, ...]
    cap_add: tuple[str, ...]
    security_opt: tuple[str, ...]
    ipc_mode: str
    network: str
    init: bool
    stop_seconds: int
    health: HealthCheck | None
    labels: t.Mapping[str, str]
    devices: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    ulimits: t.Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    pids: int = 0

    @property
    def server(self) -> str:
        """The server that the container is of. Its own name may differ: it has a suffix, or somebody renamed it."""
        return self.labels.get(LABEL_SERVER, self.name)

    @property
    def tls_certificate(self) -> str | None:
        """Path in the container of the certificate that it shows; None when it speaks plain HTTP."""
        for option, value in zip(self.argv, self.argv[1:]):
            if option == TLS_OPTION:
                return value
        return None

    def on_host(self, path: str) -> str | None:
        """Where on the host a path of the container lies; None when it is in no mount."""
        for mount in self.mounts:
            if path == mount.target or path.startswith(mount.target + "/"):
                return mount.source + path[len(mount.target) :]
        return None

    @property
    def secrets_mark(self) -> str | None:
        """The keyed hash of the values of its secrets; None when it has none."""
        return self.labels.get(LABEL_SECRETS)

    def as_diff(self) -> dict[str, t.Any]:
        """The properties under the names that a diff shows, as plain JSON data.

        The mark of the secrets is left out wherever it stands: its key is made by the first run, so check mode cannot
        foresee it.
        """
        data = dataclasses.asdict(self)
        data.pop("name")
        data["listen"] = "{}:{}".format(*self.listen)
        mark = self.secrets_mark
        if mark is not None:
            data["labels"] = {key: value for key, value in self.labels.items() if key != LABEL_SECRETS}
            for mount in data["mounts"]:
                mount["source"] = mount["source"].replace(mark[:MARK_IN_PATH], "...")
        return data


def differences(before: ContainerSpec, after: ContainerSpec) -> list[str]:
    """The names of the properties in which two specs differ, in the order of the declaration.

    The image's name alone is no difference: the same content under another tag is the same image.
    """
    names = [field.name for field in dataclasses.fields(ContainerSpec) if field.name not in ("name", "image")]
    return [name for name in names if getattr(before, name) != getattr(after, name)]
