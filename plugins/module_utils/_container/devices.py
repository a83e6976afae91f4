# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What a host lacks so that its containers can get what they ask for: GPUs, devices, limits. Pure.

It is said before a container is made; the engine itself would say it when the former server is already stopped.
"""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.runtimes import HostRuntimes
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec

# The first Docker Engine that knows CDI (release notes of 25.0).
_DOCKER_CDI = 25


def device_problems(
    specs: t.Sequence[ContainerSpec],
    runtimes: t.Callable[[], HostRuntimes],
    exists: t.Callable[[str], bool],
) -> list[str]:
    """One sentence a problem: what, where, why, and what to do.

    runtimes: asked only when something needs it; exists: whether a path is on this host.
    """
    found = [_no_device(spec, path) for spec in specs for path in spec.devices if not exists(path)]
    asking = [spec for spec in specs if spec.ulimits or (spec.gpus is not None and spec.gpus.runtime != "amd")]
    if not asking:
        return found
    host = runtimes()
    for spec in asking:
        if spec.gpus is not None and spec.gpus.runtime == "cdi":
            found.extend(_cdi(spec, host))
        elif spec.gpus is not None and spec.gpus.runtime == "nvidia":
            found.extend(_nvidia(spec, host))
        found.extend(_limits(spec, host))
    return found


def _no_device(spec: ContainerSpec, path: str) -> str:
    if spec.gpus is not None and spec.gpus.runtime == "amd" and path == "/dev/kfd":
        return (
            f"GPUs of {spec.name}: this host has no {path}, so the kernel does not run AMD's GPUs for computing. Load "
            "the amdgpu module (modprobe amdgpu) and see `dmesg | grep -i kfd`; the GPU must be one that ROCm supports."
        )
    if spec.gpus is not None and spec.gpus.runtime == "amd" and path.startswith("/dev/dri/"):
        return (
            f"GPUs of {spec.name}: this host has no {path}. Plan again, for the GPUs have changed, or load the amdgpu "
            "module."
        )
    return (
        f"container.devices of {spec.name}: this host has no {path}. Load the driver that makes it, or take it out of "
        "the list."
    )


def _nvidia(spec: ContainerSpec, host: HostRuntimes) -> t.Iterator[str]:
    if host.podman:
        yield (
            f"GPUs of {spec.name}: host_gpu_runtime is nvidia, and the engine of this host is Podman, which gives GPUs "
            "by CDI only. Set host_gpu_runtime to cdi."
        )
    elif not host.nvidia:
        there = any(name.startswith("nvidia.com/gpu=") for name in host.cdi)
        yield (
            f"GPUs of {spec.name}: the Docker Engine of this host cannot give GPUs to containers: the NVIDIA Container "
            "Toolkit is not there (no runtime nvidia, no nvidia-container-runtime-hook). "
            + (
                "Its CDI specifications are, so set host_gpu_runtime to cdi."
                if there
                else "Install nvidia-container-toolkit, run `nvidia-ctk runtime configure --runtime=docker` and "
                "restart the Engine."
            )
        )


def _cdi(spec: ContainerSpec, host: HostRuntimes) -> t.Iterator[str]:
    what = f"GPUs of {spec.name}: host_gpu_runtime is cdi, and "
    if not host.podman and host.version < (_DOCKER_CDI,):
        yield (
            f"{what}the Docker Engine {'.'.join(map(str, host.version))} of this host is older than "
            f"{_DOCKER_CDI}.0, the first that knows CDI. Update it, or set host_gpu_runtime to nvidia."
        )
        return
    if not host.cdi_folders:
        yield (
            f"{what}CDI is switched off in the Docker Engine of this host. Set "
            '{"features": {"cdi": true}} in /etc/docker/daemon.json and restart the Engine.'
        )
        return
    missing = [name for name in (spec.gpus.ids if spec.gpus is not None else ()) if name not in host.cdi]
    if missing:
        kinds = ", ".join(sorted({name.partition("=")[0] for name in host.cdi}))
        yield (
            f"{what}the CDI specifications in {' and '.join(host.cdi_folders)} name no {', '.join(missing)} "
            f"({f'what they name is {kinds}' if kinds else 'there are none'}). Write "
            "them anew: `nvidia-ctk cdi generate --device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml`."
        )


def _limits(spec: ContainerSpec, host: HostRuntimes) -> t.Iterator[str]:
    for name, (_soft, wanted) in spec.ulimits.items():
        most = host.hard_limits.get(name, -1)
        if most != -1 and (wanted == -1 or wanted > most):
            yield (
                f"container.ulimits of {spec.name}: {name} shall be {'unlimited' if wanted == -1 else wanted}, and "
                f"no program of this host may have more than {most} (it lacks CAP_SYS_RESOURCE, as inside another "
                f"container). Raise that limit where this host is started, or set container.ulimits.{name} to null."
            )
