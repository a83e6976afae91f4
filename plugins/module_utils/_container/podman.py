# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What is otherwise with Podman, which answers in the Docker Engine's words on a socket of its own.

Found on Podman 4.3.1 of Debian 12; requests and answers of its own API are those of pkg/api and pkg/specgen there.

- It cannot change a restart policy. So its containers are made with the one they need in the end, and which of them
  were ready once is kept in the state folder; one that restarts and never was ready counts as one whose start failed.
- Its Docker-compatible API takes no CDI devices, tears the words of a health check apart and adds file systems in
  memory to a read-only root. So containers are made through its own API.
- It shows beside what was asked for what it, its settings and CDI specifications add: variables, limits, devices,
  mounts. So a label of the container names what was asked for; the values are read from the container itself.
"""

from __future__ import annotations

import json
import re
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import LABEL_PREFIX, ContainerSpec

LABEL_ASKED = LABEL_PREFIX + "podman"
# The first release that this has been tried with.
FIRST = (4, 3)
# Of the policies, the one whose containers podman-restart.service starts when the host boots.
_POLICY = "always"
_API = "v4.0.0/libpod"
_ANSWER_SECONDS = 120
# Seconds in which what follows a container's end is done.
_SETTLE_SECONDS = 30
_NANO = 1000000000
# Microseconds of the period of a limit of cores.
_PERIOD = 100000
_RLIMIT = "RLIMIT_"

Inspect = t.Dict[str, t.Any]


class Podman:
    """Its own API, on the socket where it answers as a Docker Engine."""

    def __init__(self, api: t.Any, version: str) -> None:
        """api: the client of the Docker SDK, whose errors are not translated here; version: as podman_version found."""
        self._api = api
        self._version = version

    def create(self, spec: ContainerSpec) -> str:
        """Create the container, not started; its ID."""
        answer = self._api.post(self._url("containers/create"), json=created(spec), timeout=_ANSWER_SECONDS)
        return str(self._json(answer)["Id"])

    def processes(self, container: str) -> list[int]:
        """The processes of a container by their numbers on the host; none when it does not run."""
        query = {"ps_args": "hpid", "stream": "false"}
        answer = self._api.get(self._url(f"containers/{container}/top"), params=query, timeout=_ANSWER_SECONDS)
        # It ends the answer to a container that does not run after its head.
        if answer.status_code != 200 or not answer.text.strip():
            return []
        return [int(row[0]) for row in answer.json()["Processes"] or ()]

    def read(self, inspect: t.Mapping[str, t.Any], was_ready: bool | None) -> Inspect:
        """An inspection in the Docker Engine's words. was_ready: None where that is not known."""
        whole = self._json(self._api.get(self._url(f"containers/{inspect['Id']}/json"), timeout=_ANSWER_SECONDS))
        found = as_docker(inspect, whole.get("BoundingCaps") or (), was_ready)
        if found["State"].get("Restarting"):
            found["State"]["ExitCode"] = self._last_exit_code(found["Id"], found["Created"])
        return found

    def stop(self, container: str, seconds: int) -> None:
        """Stop it, also when it is paused, and see that it stays so.

        One that has just ended by itself is not stopped by that, and starts again a moment later.
        """
        self._api.post(self._url(f"containers/{container}/unpause"), timeout=_ANSWER_SECONDS)
        until = time.monotonic() + _SETTLE_SECONDS
        while True:
            self._api.stop(container, timeout=seconds)
            answer = self._api.get(self._url(f"containers/{container}/json"), timeout=_ANSWER_SECONDS)
            status = self._json(answer)["State"]["Status"] if answer.status_code == 200 else None
            if status not in ("running", "stopping", "stopped") or time.monotonic() > until:
                return
            time.sleep(0.1)

    def problems(self) -> list[str]:
        """What speaks against this Podman, in sentences."""
        number = tuple(int(part) for part in re.findall(r"\d+", self._version)[:2])
        if number < FIRST:
            first = ".".join(map(str, FIRST))
            return [
                f"the engine of this host is Podman {self._version}, older than {first}, the first that this has been "
                "tried with. Update it, or use the Docker Engine."
            ]
        security = self._json(self._api.get(self._url("info"), timeout=_ANSWER_SECONDS))["host"]["security"]
        if security.get("rootless"):
            return [
                f"the engine of this host is Podman {self._version} of a user other than root, in whose containers "
                "files belong to other users than on the host, secrets included. Use root's (systemctl enable --now "
                "podman.socket podman-restart.service, and DOCKER_HOST=unix:///run/podman/podman.sock), or the Docker "
                "Engine."
            ]
        return []

    def _last_exit_code(self, container: str, since: str) -> int:
        """Exit code of the last run that has ended; its state shows the present run's. 0 where no event tells it."""
        filters = json.dumps({"container": [container], "event": ["died"], "type": ["container"]})
        query = {"stream": "false", "since": since, "filters": filters}
        answer = self._api.get(self._url("events"), params=query, timeout=_ANSWER_SECONDS)
        if answer.status_code != 200:
            return 0
        events = [json.loads(line) for line in answer.text.splitlines() if line.strip()]
        codes = [((event.get("Actor") or {}).get("Attributes") or {}).get("containerExitCode") for event in events]
        told = [int(code) for code in codes if code is not None]
        return told[-1] if told else 0

    def _url(self, path: str) -> str:
        return f"{self._api.base_url}/{_API}/{path}"

    def _json(self, answer: t.Any) -> t.Any:
        self._api._raise_for_status(answer)
        return answer.json()


def podman_version(api: t.Any) -> str | None:
    """The version of the Podman that answers, or None. Its answer to "which version are you" takes a second."""
    head = api.get(f"{api.base_url}/_ping", timeout=_ANSWER_SECONDS).headers
    return str(head["Libpod-API-Version"]) if "Libpod-API-Version" in head else None


def created(spec: ContainerSpec) -> dict[str, t.Any]:
    """The container as Podman's own API takes it (SpecGenerator in pkg/specgen)."""
    gpus = spec.gpus.ids if spec.gpus is not None and spec.gpus.runtime == "cdi" else ()
    limits: dict[str, t.Any] = {}
    if spec.memory_bytes:
        limits["memory"] = {"limit": spec.memory_bytes}
    if spec.cpus:
        limits["cpu"] = {"period": _PERIOD, "quota": round(spec.cpus * _PERIOD)}
    # Without one it would be Podman's own limit; 0 is none.
    limits["pids"] = {"limit": spec.pids}
    mounts = [
        {
            "destination": mount.target,
            "source": mount.source,
            "type": "bind",
            "options": ["rbind", "rprivate", "ro" if mount.read_only else "rw"],
        }
        for mount in spec.mounts
    ]
    mounts += [
        {"destination": path, "source": "tmpfs", "type": "tmpfs", "options": [one for one in text.split(",") if one]}
        for path, text in spec.tmpfs.items()
    ]
    body: dict[str, t.Any] = {
        "name": spec.name,
        "image": spec.image,
        "entrypoint": list(spec.argv[:1]),
        "command": list(spec.argv[1:]),
        "env": dict(spec.env),
        "labels": {**spec.labels, LABEL_ASKED: _asked(spec)},
        "user": spec.user,
        "mounts": mounts,
        "portmappings": [
            {
                "container_port": spec.container_port,
                "host_ip": spec.listen[0],
                "host_port": spec.listen[1],
                "protocol": "tcp",
            }
        ],
        "devices": [{"path": path} for path in (*gpus, *spec.devices)],
        "resource_limits": limits,
        "read_only_filesystem": spec.read_only_root,
        "cap_drop": list(spec.cap_drop),
        "cap_add": list(spec.cap_add),
        "no_new_privileges": "no-new-privileges" in spec.security_opt,
        "groups": list(spec.groups),
        "r_limits": [{"type": name, "soft": soft, "hard": hard} for name, (soft, hard) in spec.ulimits.items()],
        "ipcns": {"nsmode": spec.ipc_mode},
        "netns": {"nsmode": spec.network},
        "init": spec.init,
        "restart_policy": _POLICY,
        "stop_timeout": spec.stop_seconds,
    }
    if spec.ipc_mode != "host":
        body["shm_size"] = spec.shm_bytes
    if spec.health is not None:
        body["healthconfig"] = {
            "Test": list(spec.health.test),
            "Interval": spec.health.interval * _NANO,
            "Timeout": spec.health.timeout * _NANO,
            "Retries": spec.health.retries,
            "StartPeriod": spec.health.start_period * _NANO,
        }
    return body


def as_docker(inspect: t.Mapping[str, t.Any], bounding: t.Iterable[str], was_ready: bool | None) -> Inspect:
    """An inspection through its Docker-compatible API as the Docker Engine would give it. Pure.

    bounding: all capabilities that its processes may ever have, as its own API tells them (CAP_CHOWN).
    """
    found = dict(inspect)
    state, host, config = dict(inspect["State"]), dict(inspect["HostConfig"]), dict(inspect["Config"])
    if state.get("Status") == "stopped":
        # Its process has ended, and nothing has been tidied up yet.
        state["Status"] = "exited"
    if was_ready is False and state.get("Running") and inspect.get("RestartCount"):
        state.update(Status="restarting", Restarting=True)
    health = state.get("Health") or {}
    state["Health"] = health if health.get("Status") else None
    host["RestartPolicy"] = {"Name": "unless-stopped" if was_ready else "no"}
    # It shows the difference from what a container gets for which nothing is asked, which is a setting.
    host["CapDrop"], host["CapAdd"] = ["ALL"], list(bounding)
    host["PidMode"] = "" if host.get("PidMode") == "private" else host.get("PidMode")
    host["Ulimits"] = [
        {**limit, "Name": str(limit["Name"]).replace(_RLIMIT, "").lower()} for limit in host.get("Ulimits") or ()
    ]
    labels = dict(config.get("Labels") or {})
    asked = _read_asked(labels.pop(LABEL_ASKED, None))
    config["Labels"] = labels
    if asked is not None:
        _only_asked(host, config, asked)
    found.update(State=state, HostConfig=host, Config=config)
    return found


def _asked(spec: ContainerSpec) -> str:
    """What the container was asked to have, where Podman shows more than that."""
    gpus = list(spec.gpus.ids) if spec.gpus is not None and spec.gpus.runtime == "cdi" else []
    return json.dumps(
        {
            "env": sorted(spec.env),
            "tmpfs": dict(spec.tmpfs),
            "ulimits": sorted(spec.ulimits),
            "devices": list(spec.devices),
            "mounts": [mount.target for mount in spec.mounts],
            "gpus": gpus,
            "ipc": spec.ipc_mode,
            "shm": spec.shm_bytes,
        },
        sort_keys=True,
    )


def _read_asked(text: str | None) -> dict[str, t.Any] | None:
    """None of a container that was not made here; all that it has is then taken for asked."""
    try:
        found = json.loads(text or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _only_asked(host: Inspect, config: Inspect, asked: t.Mapping[str, t.Any]) -> None:
    """Take out what Podman, its settings and the CDI specifications have added."""
    config["Env"] = [entry for entry in config.get("Env") or () if entry.partition("=")[0] in asked["env"]]
    host["Tmpfs"] = {
        path: asked["tmpfs"][path] if _holds(options, asked["tmpfs"].get(path)) else options
        for path, options in (host.get("Tmpfs") or {}).items()
    }
    host["Ulimits"] = [limit for limit in host["Ulimits"] if limit["Name"] in asked["ulimits"]]
    if asked["gpus"]:
        host["DeviceRequests"] = [{"Driver": "cdi", "DeviceIDs": asked["gpus"]}]
        host["Devices"] = [one for one in host.get("Devices") or () if one["PathOnHost"] in asked["devices"]]
        host["Binds"] = [one for one in host.get("Binds") or () if one.split(":")[1] in asked["mounts"]]
    # It is "shareable" whatever it is.
    host["IpcMode"] = asked["ipc"]
    if asked["ipc"] == "host":
        # No size was given, for it is the host's.
        host["ShmSize"] = asked["shm"]


def _holds(options: str, asked: str | None) -> bool:
    """Whether the options of a file system in memory are those that were asked for, and what Podman adds to them."""
    return asked is not None and {one for one in asked.split(",") if one} <= set(options.split(","))
