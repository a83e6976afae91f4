# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One placed replica as the server that vllm_servers makes: arguments, environment, mounts, port, secrets, deadlines.

Pure.
"""

from __future__ import annotations

import math
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import render_option
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.communication import one_host
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.options import option_arguments
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.probe import probe
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec

# Paths inside the container.
HUB = "/var/hub"
CACHE = "/var/cache/vllm"
MODELS = "/models"
SECRETS = "/run/secrets/vllm"
PORT = 8000

GIB = 2**30

# Limits of a process on GPUs. Memory that is registered for GPUs and networks is locked, and 8 MiB, the limit of most
# hosts, are little of both: NVIDIA's images are run with `--ulimit memlock=-1 --ulimit stack=67108864`. vLLM itself
# raises its open files to 65535 where it may (set_ulimit() in vllm/utils/system_utils.py of 0.33.0).
GPU_ULIMITS = {"memlock": -1, "nofile": 65536, "stack": 2**26}

# Where compiled kernels are kept, so that the second start finds those of the first one. Everything is below one
# folder; what is read there is named beside each.
CACHES = {
    # vllm/envs.py: graphs of torch.compile, with those of Inductor and Triton below them, and DeepGEMM's kernels.
    "VLLM_CACHE_ROOT": "",
    # triton/knobs.py: kernels that are compiled outside of torch.compile.
    "TRITON_CACHE_DIR": "/triton",
    # torch/_inductor/runtime/cache_dir_utils.py
    "TORCHINDUCTOR_CACHE_DIR": "/inductor",
    # flashinfer/jit/env.py: the folder below which it makes .cache/flashinfer.
    "FLASHINFER_WORKSPACE_BASE": "/flashinfer",
    # CUDA C++ Programming Guide, environment variables: what the driver makes of PTX. Its limit is 1 GiB by default.
    "CUDA_CACHE_PATH": "/cuda",
}
# Seconds. A start gets its base and what reading the weights from a slow disk takes; without any progress it is over
# sooner.
BASE_SECONDS = 900
SLOW_DISK_BYTES_PER_SECOND = 100 * 2**20
STALL_SECONDS = 600
# With these a start is much slower (docs/usage/troubleshooting.md of vLLM: "significant delays in startup").
TRACING = ("VLLM_TRACE_FUNCTION", "CUDA_LAUNCH_BLOCKING")
TRACED_TIMES = 4
# A model that is not on the host is fetched by the engine, which may take hours and shows no progress within a file.
FETCH_SECONDS = 24 * 3600
# At the end running requests are waited for, and then the engine needs some time for itself before Docker kills it.
# Releases without the option (up to 0.17.1) abort the requests.
DRAIN_SECONDS = 45
AFTER_DRAIN_SECONDS = 15

# An API key must be in the process's environment, for vLLM reads it from there or from its arguments; docker inspect
# shows both when they are set from outside, so a program inside the container puts it there. python3 is what every
# engine has, a shell is not. It replaces itself, so the engine gets the signals.
_KEY_PROGRAM = (
    "import os, sys; "
    "os.environb[b'VLLM_API_KEY'] = open('{secrets}/api_key', 'rb').read().rstrip(b'\\n'); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
_KEY_WRAPPER = ["python3", "-I", "-c", _KEY_PROGRAM.format(secrets=SECRETS)]
# A snapshot in a hub cache holds links to ../../blobs, and these may be links into the store that all repositories of
# the cache share (utils/_shared_blobs.py of huggingface_hub 2.4.0), so the whole cache has to be there.
_SNAPSHOT = re.compile(r"(?P<cache>/.*[^/])/+(?P<inside>models--[^/]+/snapshots/[^/]+(?:/[^/]+)*)/*")


class Gpu(t.NamedTuple):
    """A GPU that a server gets: UUID, product name, address on the PCI bus."""

    uuid: str
    name: str
    pci: str | None = None


def deadline_seconds(profile: t.Mapping[str, t.Any] | None, env: t.Mapping[str, str]) -> int:
    """How long a start may take, from what model_info said of the files; None when they are not there."""
    if profile is None:
        return FETCH_SECONDS
    weights = profile["weights"]["total_bytes"] if profile["weights"] else 0
    return (BASE_SECONDS + weights // SLOW_DISK_BYTES_PER_SECOND) * slowdown(env)


def slowdown(env: t.Mapping[str, str]) -> int:
    """How many times longer everything takes with what the variables record or serialize."""
    traces = any(env.get(name, "0").strip().lower() not in ("", "0", "false") for name in TRACING)
    return TRACED_TIMES if traces else 1


def render_server(
    spec: ModelSpec,
    name: str,
    gpus: t.Sequence[Gpu],
    port: int,
    release: Release,
    image: t.Mapping[str, t.Any],
    profile: t.Mapping[str, t.Any] | None,
    settings: t.Mapping[str, t.Any],
) -> dict[str, t.Any]:
    """The server as plain data, in the form of the option servers of vllm_servers.

    name: the server's; gpus: what it gets, none for a CPU; port: of the host.
    image, profile: what image_info and model_info said on the assigned host; profile is None when the files are not
    there.
    """
    entrypoint = list(spec.entrypoint or image["entrypoint"])
    return {
        "name": name,
        "model": spec.name,
        "image": spec.image,
        "image_id": image["id"],
        "entrypoint": (_KEY_WRAPPER if spec.secrets.api_key is not None else []) + entrypoint,
        "command": command(spec, release, entrypoint, profile),
        "env": {**one_host(release, len(gpus)), **environment(spec, release, profile)},
        "mounts": _mounts(spec, image, gpus, profile, settings),
        "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},
        "listen": {"address": str(spec.listen.address), "port": port},
        "container_port": PORT,
        "gpus": _gpus(gpus, settings["gpu_runtime"]),
        "shm_bytes": spec.limits.shm or shm_bytes(spec, release, len(gpus)),
        "memory_bytes": spec.limits.memory or 0,
        "cpus": spec.limits.cpus or 0,
        "user": spec.user or "",
        "read_only_root": spec.container.read_only_root,
        "container": _container(spec, on_gpus=bool(gpus)),
        "stop_seconds": int(spec.engine.get("shutdown_timeout", DRAIN_SECONDS)) + AFTER_DRAIN_SECONDS,
        "deadline_seconds": deadline_seconds(profile, spec.env),
        "stall_seconds": STALL_SECONDS * slowdown(spec.env) if profile else FETCH_SECONDS,
        "probe": probe(spec, release, profile),
        "secrets": {"target": SECRETS},
    }


def command(
    spec: ModelSpec, release: Release, entrypoint: t.Sequence[str], profile: t.Mapping[str, t.Any] | None
) -> list[str]:
    """The arguments behind the entrypoint. The options must have no problem."""
    name = _path_mount(spec)[2] if spec.is_path else spec.model
    # `vllm serve` takes the model as its first argument, the module entrypoint of older images as --model.
    model = [name] if entrypoint[-1:] == ["serve"] else ["--model", name]
    # What was inspected is what is served: the commit, not a branch that moves. Offline it also needs no refs file in
    # the cache.
    commit = (profile or {}).get("commit") or spec.revision
    revision = ["--revision", commit] if commit and not spec.is_path else []
    drain = []
    if "shutdown_timeout" in release.options and "shutdown_timeout" not in spec.engine:
        # Its default of 0 aborts the requests that run when the server is stopped.
        drain = render_option(release.options["shutdown_timeout"], DRAIN_SECONDS)
    tls = []
    if spec.secrets.tls_key is not None:
        tls = ["--ssl-keyfile", f"{SECRETS}/tls_key", "--ssl-certfile", f"{SECRETS}/tls_cert"]
    return [
        *model,
        "--served-model-name",
        spec.name,
        *revision,
        "--host",
        "0.0.0.0",  # inside the container; the host's side is listen.address
        "--port",
        str(PORT),
        *drain,
        *tls,
        *option_arguments(spec, release),
    ]


def environment(spec: ModelSpec, release: Release, profile: t.Mapping[str, t.Any] | None) -> dict[str, str]:
    """The variables of the container."""
    env = {
        # Everything that is written goes to the cache mount or to /tmp; the root file system is read-only.
        "HOME": "/tmp",
        "HF_HOME": "/tmp/huggingface",
        "HF_HUB_CACHE": HUB,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        **{variable: CACHE + folder for variable, folder in CACHES.items()},
        # vLLM ends its own start after 600 s, however far it is; this variable exists from 0.14.0 on.
        "VLLM_ENGINE_READY_TIMEOUT_S": str(deadline_seconds(profile, spec.env)),
    }
    if spec.offline:
        env["HF_HUB_OFFLINE"] = "1"
    if spec.secrets.hub_token is not None:
        env["HF_TOKEN_PATH"] = f"{SECRETS}/hub_token"
    known = {name: value for name, value in env.items() if not name.startswith("VLLM_") or name in release.environment}
    return {**known, **spec.env}


def shm_bytes(spec: ModelSpec, release: Release, gpus: int) -> int:
    """Shared memory: what NCCL and the queues between the processes of each GPU take, and the cache of images.

    NCCL's guide asks for 1 GiB (Troubleshooting, Shared Memory: --shm-size=1g); vLLM's queues take up to 240 MiB each
    (measured with 0.32.0). vllm/config/multimodal.py: mm_processor_cache_type shm keeps mm_processor_cache_gb there.
    """
    total = (1 + gpus) * GIB
    if spec.engine.get("mm_processor_cache_type") == "shm":
        size = spec.engine.get("mm_processor_cache_gb", release.options["mm_processor_cache_gb"].default)
        total += math.ceil(float(size)) * GIB
    return total


def _container(spec: ModelSpec, on_gpus: bool) -> dict[str, t.Any]:
    asked = spec.container
    ulimits = {**(GPU_ULIMITS if on_gpus else {}), **asked.ulimits}
    return {
        "cap_add": sorted(asked.cap_add),
        "devices": sorted(asked.devices),
        "groups": sorted(asked.groups),
        "ipc": asked.ipc,
        "pids": asked.pids or 0,
        "ulimits": {name: value for name, value in sorted(ulimits.items()) if value is not None},
    }


def _mounts(
    spec: ModelSpec,
    image: t.Mapping[str, t.Any],
    gpus: t.Sequence[Gpu],
    profile: t.Mapping[str, t.Any] | None,
    settings: t.Mapping[str, t.Any],
) -> list[dict[str, t.Any]]:
    # Compiled kernels fit one image and one kind of GPU, and who runs as another user can't write to the same folder.
    user = spec.user or image.get("user") or ""
    kind = _slug("-".join([gpus[0].name if gpus else "cpu", *([f"user {user}"] if user else [])]))
    cache = f"{settings['state_dir']}/cache/{image['id'].removeprefix('sha256:')[:12]}/{kind}"
    mounts = [{"source": cache, "target": CACHE, "read_only": False}]
    if spec.is_path:
        source, target, _inside = _path_mount(spec)
        mounts.append({"source": source, "target": target, "read_only": True})
    else:
        # The engine writes there only what it has to fetch.
        mounts.append(
            {"source": settings["hub_cache"], "target": HUB, "read_only": spec.offline or profile is not None}
        )
    return mounts


def _path_mount(spec: ModelSpec) -> tuple[str, str, str]:
    """(folder of the host to mount, where, the model's path inside) for a model that is a path."""
    target = f"{MODELS}/{spec.name}"
    snapshot = _SNAPSHOT.fullmatch(spec.model)
    if snapshot:
        return snapshot["cache"], target, f"{target}/{snapshot['inside']}"
    return spec.model, target, target


def _slug(text: str) -> str:
    """The text as the name of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _gpus(gpus: t.Sequence[Gpu], runtime: str) -> dict[str, t.Any]:
    uuids = [gpu.uuid for gpu in gpus]
    if runtime == "cdi":
        return {"runtime": "cdi", "ids": [f"nvidia.com/gpu={uuid}" for uuid in uuids]}
    if runtime == "amd":
        return {"runtime": "amd", "ids": uuids, "pci": [gpu.pci for gpu in gpus]}
    return {"runtime": "nvidia", "ids": uuids}
