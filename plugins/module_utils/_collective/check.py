# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""A collective check on one host: one container of the engine's image under the policy of servers, always removed."""

from __future__ import annotations

import dataclasses
import inspect
import json
import random
import threading
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._collective import rank
from ansible_collections.gpufleet.vllm.plugins.module_utils._collective.report import Report, trouble
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import observed_image
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import LABEL_PREFIX, ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import wanted_container
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError, Refused

LABEL_CHECK = LABEL_PREFIX + "check"
# Seconds beyond the ranks' own time: importing PyTorch from a slow disk, and their last words.
OVERTIME_SECONDS = 60
_LOOK_SECONDS = 0.2
_LAST_LINES_SECONDS = 5.0
# Of a line that does not end no more is kept.
_LINE_BYTES = 65536


class CheckFailed(FleetError):
    """The check ran, and did not succeed."""


def container(params: t.Mapping[str, t.Any], image: t.Any, name: str) -> ContainerSpec:
    """The container of the check: a server's, but for what it runs, its network, and that nobody is to find a "
    "server in it."""
    server = {
        "name": name,
        "model": "",
        "image": params["image"],
        "image_id": "",
        "entrypoint": ["python3"],
        # A rank's program is text, so that nothing has to be written on the host.
        "command": ["-c", inspect.getsource(rank), json.dumps(task(params), sort_keys=True)],
        "env": environment(params),
        "mounts": [],
        "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},
        "listen": {"address": "127.0.0.1", "port": 0},
        "container_port": 8000,
        "gpus": params["gpus"],
        "shm_bytes": params["shm_bytes"],
        "memory_bytes": 0,
        "cpus": 0,
        "user": params["user"],
        "read_only_root": True,
        "stop_seconds": 1,
        "deadline_seconds": params["timeout_seconds"] + OVERTIME_SECONDS,
        "secrets": {"target": "/run/secrets/vllm"},
    }
    spec = wanted_container(server, image, "", "", None)
    return dataclasses.replace(spec, network=params["network"], health=None, labels={LABEL_CHECK: name})


def task(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What the program in the image is told."""
    count = processes(params)
    return {
        "backend": "nccl" if has_gpus(params) else "gloo",
        "address": params["master_address"],
        "port": params["master_port"],
        "world_size": params["world_size"] or count,
        "first_rank": params["first_rank"],
        "processes": count,
        "sizes": params["sizes"],
        "repeat": params["repeat"],
        "timeout_seconds": params["timeout_seconds"],
    }


def has_gpus(params: t.Mapping[str, t.Any]) -> bool:
    """Whether the check is of GPUs."""
    return bool(params["gpus"] and params["gpus"]["ids"])


def processes(params: t.Mapping[str, t.Any]) -> int:
    """The ranks of this host: one a GPU."""
    return len(set(params["gpus"]["ids"])) if has_gpus(params) else params["processes"]


def environment(params: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The user's variables, and what the check needs."""
    own = {"HOME": "/tmp", "OMP_NUM_THREADS": "1"}
    if params["network"] == "none":
        # Without a network the container's name has no address, and Gloo would look it up.
        own["GLOO_SOCKET_IFNAME"] = "lo"
    if has_gpus(params):
        # At this level NCCL tells the ways that it chose.
        own["NCCL_DEBUG"] = "INFO"
    return {**own, **{name: str(value) for name, value in params["env"].items()}}


def refusals(params: t.Mapping[str, t.Any]) -> list[str]:
    """What cannot work, before anything is made."""
    found = []
    count, world = processes(params), params["world_size"] or processes(params)
    if count < 1:
        found.append("processes is less than 1, and no GPUs are named.")
    if world < 2:
        found.append(
            "An all-reduce needs two ranks: name two GPUs, set processes to 2 for the CPU, or give world_size of "
            "several hosts."
        )
    if params["first_rank"] < 0 or params["first_rank"] + count > world:
        found.append(
            f"first_rank {params['first_rank']} and {count} ranks here do not fit into a world_size of {world}."
        )
    if world > count and params["network"] == "none":
        found.append(
            "Several hosts need a network: set network to host, or to the name of a Docker network that all of "
            "them share."
        )
    if any(size < 4 for size in params["sizes"]) or not params["sizes"]:
        found.append("sizes are bytes, 4 at least, one size at least.")
    if params["timeout_seconds"] < 1 or params["repeat"] < 1:
        found.append("timeout_seconds and repeat are 1 at least.")
    return found


def check(params: t.Mapping[str, t.Any], dry: bool) -> dict[str, t.Any]:
    """The result of the check; dry looks only whether it could be run. Raises Refused, CheckFailed and the "
    "Engine's errors."""
    problems = refusals(params)
    if problems:
        raise Refused(" ".join(problems), problems=problems)
    engine = Engine()
    found = engine.inspect_image(params["image"])
    if found is None:
        raise Refused(
            f"The image {params['image']} is not on this host. Bring it with docker pull, or with docker load when "
            "offline."
        )
    spec = container(params, observed_image(found), f"gpufleet-check-{random.randrange(16**8):08x}")
    told: dict[str, t.Any] = {"task": task(params), "env": dict(spec.env), "sizes": [], "ranks": [], "transports": []}
    if dry:
        return told
    began = time.monotonic()
    made = engine.create(spec)
    report = Report()
    try:
        engine.start(made)
        code = _follow(engine, made, report, began + params["timeout_seconds"] + OVERTIME_SECONDS)
    finally:
        engine.remove(made)
    told.update(
        sizes=report.sizes(),
        ranks=report.ranks(),
        transports=sorted(report.transports),
        seconds=round(time.monotonic() - began, 1),
    )
    reason = trouble(report, told["task"], code)
    if reason:
        raise CheckFailed(reason, **told, log=report.others)
    return told


def _follow(engine: Engine, made: str, report: Report, until: float) -> int | None:
    """Read the container's lines until it ends; its exit code, None when its time was over."""
    reader = threading.Thread(target=_read, args=(engine, made, report), daemon=True)
    reader.start()
    while time.monotonic() < until:
        seen = engine.inspect(made)
        if seen is None:
            raise CheckFailed("The container of the check was removed by somebody while it ran. Run the check again.")
        if not seen["State"]["Running"]:
            # The stream ends with the container; what is still on its way is waited for.
            reader.join(_LAST_LINES_SECONDS)
            return int(seen["State"]["ExitCode"])
        time.sleep(_LOOK_SECONDS)
    return None


def _read(engine: Engine, made: str, report: Report) -> None:
    try:
        rest = b""
        for piece in engine.log(made, None):
            *lines, rest = (rest + piece).split(b"\n")
            rest = rest[-_LINE_BYTES:]
            for line in lines:
                report.line(line.decode("utf-8", "replace").rstrip("\r"))
        report.line(rest.decode("utf-8", "replace"))
    except FleetError:
        # The stream breaks when the container is removed, which whoever looks at its state sees as well.
        return
