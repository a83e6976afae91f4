# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""From what the Docker Engine says of a container to a ContainerSpec. Pure.

Everything the Engine rewrites is normalised here, once for each property: network mode "default" for "bridge", security
options with and without ":true", driver None for "" and count None for 0 in GPU requests, environment of the image
merged in.
"""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import (
    LABEL_GPUS,
    LABEL_PREFIX,
    ContainerSpec,
    Gpus,
    HealthCheck,
    Mount,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import (
    CPU_DIGITS,
    Image,
    own_environment,
)

NANO = 1000000000


class ContainerState(t.NamedTuple):
    """What changes in the life of a container; times are the Engine's RFC 3339 texts."""

    id: str
    status: str
    running: bool
    exit_code: int
    oom_killed: bool
    error: str
    started_at: str
    restart_count: int
    restart_policy: str
    health: str | None

    @property
    def start(self) -> str:
        """What tells this start of this container from every other one."""
        return f"{self.id} {self.started_at}"


def observed_image(inspect: t.Mapping[str, t.Any]) -> Image:
    """What a container inherits from the image of this inspection."""
    config = inspect.get("Config") or {}
    return Image(
        id=inspect["Id"],
        entrypoint=tuple(config.get("Entrypoint") or ()),
        env=environment(config.get("Env")),
        labels=dict(config.get("Labels") or {}),
        user=config.get("User") or "",
    )


def observed_container(inspect: t.Mapping[str, t.Any], image: Image | None) -> ContainerSpec:
    """The container of this inspection.

    image: what the Engine says of the image that the inspection names; None when that is gone, then every variable
    counts as the container's own. Its ID is taken from there, for Engines with a containerd store know one image by
    several digests.
    """
    config = inspect["Config"]
    host = inspect["HostConfig"]
    container_port, listen = _listen(host.get("PortBindings") or {})
    return ContainerSpec(
        name=inspect["Name"].lstrip("/"),
        image=config["Image"],
        image_id=image.id if image else inspect["Image"],
        argv=tuple(config.get("Entrypoint") or ()) + tuple(config.get("Cmd") or ()),
        env=own_environment(environment(config.get("Env")), image.env if image else {}),
        mounts=_mounts(host),
        tmpfs=dict(host.get("Tmpfs") or {}),
        listen=listen,
        container_port=container_port,
        gpus=_gpus(host.get("DeviceRequests") or [], config.get("Labels") or {}),
        shm_bytes=int(host.get("ShmSize") or 0),
        memory_bytes=int(host.get("Memory") or 0),
        cpus=round(int(host.get("NanoCpus") or 0) / NANO, CPU_DIGITS),
        user=config.get("User") or "",
        read_only_root=bool(host.get("ReadonlyRootfs")),
        cap_drop=_capabilities(host.get("CapDrop")),
        cap_add=_capabilities(host.get("CapAdd")),
        security_opt=_security_options(host),
        devices=tuple(sorted(device["PathOnHost"] for device in host.get("Devices") or ())),
        groups=tuple(sorted(str(group) for group in host.get("GroupAdd") or ())),
        ulimits={
            str(limit["Name"]).lower(): (int(limit["Soft"]), int(limit["Hard"]))
            for limit in sorted(host.get("Ulimits") or (), key=lambda limit: str(limit["Name"]))
        },
        # The Engine writes "no limit" as null, 0 or -1.
        pids=max(int(host.get("PidsLimit") or 0), 0),
        ipc_mode=host.get("IpcMode") or "",
        network="bridge" if host.get("NetworkMode") in ("default", "bridge") else host.get("NetworkMode") or "",
        init=bool(host.get("Init")),
        stop_seconds=10 if config.get("StopTimeout") is None else int(config["StopTimeout"]),
        health=_health(config.get("Healthcheck")),
        labels=_own_labels(config.get("Labels") or {}, image.labels if image else {}),
    )


def observed_state(inspect: t.Mapping[str, t.Any]) -> ContainerState:
    """How this container is."""
    state = inspect["State"]
    return ContainerState(
        id=inspect["Id"],
        status=state["Status"],
        running=bool(state.get("Running")) and not state.get("Restarting"),
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        started_at=state.get("StartedAt") or "",
        restart_count=int(inspect.get("RestartCount") or 0),
        restart_policy=(inspect["HostConfig"].get("RestartPolicy") or {}).get("Name") or "no",
        health=(state.get("Health") or {}).get("Status"),
    )


def environment(entries: t.Iterable[str] | None) -> dict[str, str]:
    """Docker's list of NAME=value as a mapping."""
    return dict(entry.split("=", 1) for entry in entries or () if "=" in entry)


def _own_labels(labels: t.Mapping[str, str], image_labels: t.Mapping[str, str]) -> dict[str, str]:
    """Our labels but for those that the container has from its image."""
    return {
        key: value for key, value in labels.items() if key.startswith(LABEL_PREFIX) and image_labels.get(key) != value
    }


def _listen(bindings: t.Mapping[str, t.Any]) -> tuple[int, tuple[str, int]]:
    """Container port and (address, host port) of the one published TCP port; zeros when none is published."""
    for key, hosts in sorted(bindings.items()):
        for host in hosts or ():
            return int(key.split("/")[0]), (host.get("HostIp") or "0.0.0.0", int(host.get("HostPort") or 0))
    return 0, ("", 0)


def _mounts(host: t.Mapping[str, t.Any]) -> tuple[Mount, ...]:
    found = [
        Mount(mount.get("Source") or "", mount["Target"], bool(mount.get("ReadOnly")))
        for mount in host.get("Mounts") or ()
    ]
    for bind in host.get("Binds") or ():
        parts = bind.split(":")
        found.append(Mount(parts[0], parts[1], "ro" in parts[2].split(",") if len(parts) > 2 else False))
    return tuple(sorted(found, key=lambda mount: mount.target))


def _gpus(requests: t.Sequence[t.Mapping[str, t.Any]], labels: t.Mapping[str, str]) -> Gpus | None:
    """Docker's device requests; one by count (-1 is "all") is kept as such, for it is drift from any list of IDs.

    AMD's GPUs are devices, which are compared as such; only their UUIDs are in the label.
    """
    if not requests:
        return Gpus("amd", tuple(labels[LABEL_GPUS].split(","))) if labels.get(LABEL_GPUS) else None
    runtime = "cdi" if any(request.get("Driver") == "cdi" for request in requests) else "nvidia"
    ids = set()
    for request in requests:
        ids.update(request.get("DeviceIDs") or ["count={}".format(request.get("Count") or 0)])
    return Gpus(runtime, tuple(sorted(ids)))


def _capabilities(names: t.Iterable[str] | None) -> tuple[str, ...]:
    return tuple(sorted(name.upper()[4:] if name.upper().startswith("CAP_") else name.upper() for name in names or ()))


def _security_options(host: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    """The options, and what the Engine keeps elsewhere of what we never ask for."""
    options = {
        "no-new-privileges" if option in ("no-new-privileges:true", "no-new-privileges=true") else option
        for option in host.get("SecurityOpt") or ()
    }
    if host.get("IpcMode") == "host":
        # The Engine adds it by itself, for labels of SELinux would hinder what is shared.
        options.discard("label=disable")
    if host.get("Privileged"):
        options.add("privileged")
    if host.get("PidMode"):
        options.add("pid=" + host["PidMode"])
    return tuple(sorted(options))


def _health(check: t.Mapping[str, t.Any] | None) -> HealthCheck | None:
    if not check or not check.get("Test") or check["Test"] == ["NONE"]:
        return None
    return HealthCheck(
        test=tuple(check["Test"]),
        interval=int(check.get("Interval") or 0) // NANO,
        timeout=int(check.get("Timeout") or 0) // NANO,
        retries=int(check.get("Retries") or 0),
        start_period=int(check.get("StartPeriod") or 0) // NANO,
    )
