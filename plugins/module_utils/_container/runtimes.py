# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What this host and its engine have of what containers need to get at GPUs and devices. Reads only."""

from __future__ import annotations

import glob
import os
import re
import resource
import shutil
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import Devices

# The program by whose presence the Docker Engine knows that it can give NVIDIA's GPUs (daemon/nvidia_linux.go of moby).
NVIDIA_HOOK = "nvidia-container-runtime-hook"
_PROGRAM_FOLDERS = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")
# Where Podman looks; the Docker Engine tells its own folders.
_PODMAN_CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
# A CDI specification is YAML or JSON (SPEC.md of container-device-interface); the lines that matter are alike in both,
# and a reader of YAML is not on every host. What is found is a name too many at worst.
_KIND = re.compile(r"""^\s*["']?kind["']?\s*:\s*["']?(?P<kind>[\w.-]+/[\w.-]+)""", re.MULTILINE)
_DEVICE = re.compile(r"""(?:^|[{,\s-])["']?name["']?\s*:\s*["']?(?P<name>[\w.:-]+)""")
# include/uapi/linux/capability.h
_CAP_SYS_RESOURCE = 24
_LIMITS = {"memlock": resource.RLIMIT_MEMLOCK, "nofile": resource.RLIMIT_NOFILE, "stack": resource.RLIMIT_STACK}


class HostRuntimes(t.NamedTuple):
    """What is there.

    version: of the engine; nvidia: it can give NVIDIA's GPUs by their UUIDs; cdi_folders: where it looks for CDI
    specifications, none when it does not; cdi: the devices in them; hard_limits: what a process can have at most, by
    name, -1 for no limit; empty where the engine may raise them.
    """

    podman: bool
    version: tuple[int, ...]
    nvidia: bool
    cdi_folders: tuple[str, ...]
    cdi: frozenset[str]
    hard_limits: t.Mapping[str, int]


def read_runtimes(engine: Engine) -> HostRuntimes:
    """Ask the engine and look at the host."""
    info = engine.info()
    version = tuple(int(part) for part in re.findall(r"\d+", engine.version())[:3])
    folders = _PODMAN_CDI_FOLDERS if engine.podman is not None else tuple(info.get("CDISpecDirs") or ())
    path = os.pathsep.join([os.environ.get("PATH", ""), *_PROGRAM_FOLDERS])
    return HostRuntimes(
        podman=engine.podman is not None,
        version=version,
        nvidia="nvidia" in (info.get("Runtimes") or {}) or shutil.which(NVIDIA_HOOK, path=path) is not None,
        cdi_folders=folders,
        cdi=cdi_devices(folders),
        hard_limits=hard_limits(),
    )


def cdi_devices(folders: t.Iterable[str]) -> frozenset[str]:
    """The names of all devices of the CDI specifications in these folders, as in nvidia.com/gpu=all."""
    found = set()
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(folder, "*"))):
            if not path.endswith((".yaml", ".yml", ".json")):
                continue
            try:
                with open(path, encoding="utf-8", errors="replace") as handle:
                    text = handle.read()
            except OSError:
                continue
            kind = _KIND.search(text) or re.search(r"[\"']kind[\"']\s*:\s*[\"'](?P<kind>[^\"']+)", text)
            if kind:
                found.update("{}={}".format(kind["kind"], match["name"]) for match in _DEVICE.finditer(text))
    return frozenset(found)


def amd_devices(addresses: t.Iterable[str], root: str = "/") -> Devices:
    """The device files of AMD's GPUs at these PCI addresses, and the groups that may use them.

    As ROCm's guide for containers has them (--device /dev/kfd --device /dev/dri/renderD128 --group-add); files that
    are not there are named all the same, so that they are missed by name.
    """
    nodes = ["/dev/kfd"]
    for address in addresses:
        drm = glob.glob(os.path.join(root, "sys/bus/pci/devices", address, "drm", "renderD*"))
        nodes.extend("/dev/dri/" + os.path.basename(path) for path in sorted(drm))
        if not drm:
            nodes.append(f"/dev/dri/by-path/pci-{address}-render")
    groups = set()
    for node in nodes:
        try:
            groups.add(os.stat(os.path.join(root, node.lstrip("/"))).st_gid)
        except OSError:
            continue
    return Devices(tuple(nodes), tuple(sorted(groups - {0})))


def hard_limits(root: str = "/") -> dict[str, int]:
    """The limits above which no process of this host can go; none where the first process may raise limits."""
    try:
        with open(os.path.join(root, "proc/1/status"), encoding="ascii", errors="replace") as handle:
            bounding = re.search(r"^CapBnd:\s*([0-9a-f]+)$", handle.read(), re.MULTILINE)
    except OSError:
        return {}
    if bounding is None or int(bounding[1], 16) >> _CAP_SYS_RESOURCE & 1:
        return {}
    return {name: resource.getrlimit(number)[1] for name, number in _LIMITS.items()}
