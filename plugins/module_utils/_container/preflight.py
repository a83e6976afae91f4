# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What would make the planned actions fail on this host, found before anything is touched; all problems at once."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import PREVIOUS, Action, Observed
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.order import clash
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store, numeric_user

# Bytes that must stay free where logs, caches and the containers' writable layers go.
MIN_FREE_BYTES = 256 * 1024 * 1024
# What the Docker Engine takes as a container's name (daemon/names of moby); it is also the name of a folder of ours.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_SECRET_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]*")
# Kinds of actions that end what runs under a name before anything starts, or before the same server starts.
_ENDING = ("remove", "stop", "replace", "restart", "put_back")


def name_problems(names: t.Sequence[str], secrets: t.Mapping[str, t.Mapping[str, str]]) -> t.Iterator[str]:
    """What is wrong with the names in a task. Names of secrets become names of files."""
    for name in sorted(set(names)):
        if names.count(name) > 1:
            yield f"servers: {name} is named {names.count(name)} times. Give each server a name of its own."
        if not _NAME.fullmatch(name) or name.endswith(PREVIOUS):
            yield (
                f"servers: {name!r} cannot be the name of a container. Use letters, digits, '_', '.' and '-', at least "
                f"two of them, and no {PREVIOUS!r} at the end."
            )
    for model, values in secrets.items():
        for name in values:
            if not _SECRET_NAME.fullmatch(name):
                yield (
                    f"secrets of {model}: {name!r} cannot be the name of a file. Use letters, digits, '_', '.' and '-'."
                )


def problems(
    actions: t.Sequence[Action],
    observed: t.Mapping[str, Observed],
    store: Store,
    is_foreign: t.Callable[[str], bool],
) -> list[str]:
    """One sentence a problem: what, where, why, and what to do.

    is_foreign: whether a container of this name exists that is not of the fleet.
    """
    found = []
    ended = {
        name
        for action in actions
        if action.kind in _ENDING
        for name in (action.name, action.before.name if action.before else action.name)
    }
    running = [one.spec for one in observed.values() if one.state.running]
    taken: list[ContainerSpec] = []
    for action in actions:
        found.extend(_foreign_problems(action, is_foreign))
        spec = action.after
        if spec is None or not action.starts:
            continue
        found.extend(
            f"listen.port: {other.name} and {spec.name} both want port {spec.listen[1]} on {spec.listen[0]}. Give one "
            "another port."
            for other in taken
            if clash(other.listen, spec.listen)
        )
        taken.append(spec)
        if action.kind in ("create", "replace", "start"):
            holders = [other.name for other in running if clash(other.listen, spec.listen)]
            if not ended.intersection(holders):
                found.extend(_port_problem(spec, holders[0] if holders else "another program"))
        if action.kind in ("create", "replace"):
            found.extend(_mount_problems(spec, store))
            found.extend(_secrets_problem(spec))
    if any(action.kind in ("create", "replace") for action in actions):
        found.extend(_disk_problem(store.folder))
    return found


def _foreign_problems(action: Action, is_foreign: t.Callable[[str], bool]) -> t.Iterator[str]:
    """A name that the action takes and that a container of somebody else has."""
    taken = {
        "create": [action.name],
        "rename": [action.name],
        "put_back": [action.name],
        "replace": [action.name + PREVIOUS],
    }
    for name in taken.get(action.kind, ()):
        if is_foreign(name):
            yield (
                f"{action.name}: this host has a container named {name} that is not of this fleet. Rename or remove "
                "it, or give the model another name."
            )


def _port_problem(spec: ContainerSpec, holder: str) -> t.Iterator[str]:
    """A port on which something listens, or an address that this host does not have."""
    address, port = spec.listen
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the Docker Engine does: connections of a former server that linger are no obstacle, a listener is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                yield (
                    f"listen.port of {spec.name}: port {port} on {address} is in use by {holder}. Choose another port, "
                    f"or port: auto, or end what listens there (ss -ltnp 'sport = :{port}' names it)."
                )
            elif error.errno == errno.EADDRNOTAVAIL:
                yield (
                    f"listen.address of {spec.name}: this host has no address {address}. Use one that `ip addr` lists, "
                    "or 127.0.0.1 or 0.0.0.0."
                )
            elif error.errno != errno.EACCES:  # a port below 1024 is for the Docker Engine, not for us
                yield (
                    f"listen of {spec.name}: cannot listen on {address}:{port}: {error}. Give an IP address and a port "
                    "of this host."
                )


def _mount_problems(spec: ContainerSpec, store: Store) -> t.Iterator[str]:
    for mount in spec.mounts:
        if not store.owns(mount.source) and not os.path.exists(mount.source):
            yield (
                f"mounts of {spec.name}: {mount.source}, for {mount.target} in the container, does not exist on this "
                "host. Create it, or correct the path in the inventory."
            )


def _secrets_problem(spec: ContainerSpec) -> t.Iterator[str]:
    """A user whose number is not known cannot be made the owner of files that nobody else may read."""
    if spec.secrets_mark is not None and spec.user and numeric_user(spec.user) is None:
        yield (
            f"user of {spec.name}: {spec.user!r} is a name, and secret files must belong to a number. Set the model's "
            "user to the uid and gid that it has in the image, as in '1000:1000'."
        )


def _disk_problem(folder: str) -> t.Iterator[str]:
    existing = folder
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing) or not os.access(existing, os.W_OK):
        yield (
            f"state_dir {folder}: {existing} is not a folder that the user of the task may write. Set state_dir to "
            "one, or use become."
        )
        return
    free = shutil.disk_usage(existing).free
    if free < MIN_FREE_BYTES:
        yield (
            f"state_dir {folder}: its disk has {free / 2**20:.0f} MiB free, and at least {MIN_FREE_BYTES / 2**20:.0f} "
            "MiB are needed for caches and logs. Free some space, or set state_dir to a folder on a larger disk."
        )
