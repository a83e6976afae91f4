# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Tokenizer and configuration of a snapshot, copied beside weights that came without them.

A file gpufleet-provenance.json beside them tells where each copy is from. It also tells what may be replaced later:
only what is still as it was copied. Everything else that differs is somebody's own, and stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access

PROVENANCE = "gpufleet-provenance.json"
_NAMED = 8
_LIMIT_BYTES = 1 << 30


class Copies(t.NamedTuple):
    """What has to be done in a folder; names of files."""

    new: list[str]
    changed: list[str]
    same: list[str]
    access: list[str]


def materialize(
    snapshot: t.Mapping[str, t.Any], dest: str, access: Access, overwrite: bool, check: bool
) -> dict[str, t.Any]:
    """Copy the files of a snapshot (a result of present) into a folder. Raises FleetError before anything is changed.

    overwrite: replace also what differs and was not copied by us.
    """
    if os.path.exists(dest) and not os.path.isdir(dest):
        raise FleetError(f"{dest} is no folder. Give the folder of the weights as dest.", kind="not_a_folder")
    earlier = _read_provenance(dest)
    absent = [name for name in snapshot["files"] if name in snapshot["fetched"]] if check else []
    if absent:
        # What they hold is not known before they are fetched; what is in their way is.
        return _foreseen(snapshot, dest, earlier, overwrite)
    contents = {name: _read(os.path.join(snapshot["path"], name)) for name in snapshot["files"]}
    wanted = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    copies = _compare(dest, wanted, earlier.get("files", {}), access, overwrite)
    provenance = {
        "repo": snapshot["repo"],
        "commit": snapshot["commit"],
        "files": {**_still_there(dest, earlier.get("files", {})), **wanted},
    }
    todo = [*copies.new, *copies.changed]
    changed = bool(todo or copies.access) or provenance != earlier
    if changed and not check:
        _make_folder(dest, access)
        for name in todo:
            path = os.path.join(dest, name)
            _make_folder(os.path.dirname(path), access)
            _write(path, contents[name], access)
        for name in copies.access:
            access.apply(os.path.join(dest, name))
        _write(os.path.join(dest, PROVENANCE), (json.dumps(provenance, indent=2) + "\n").encode(), access)
    return {
        "changed": changed,
        "dest": dest,
        "copied": sorted(todo),
        "diff": {
            "before": {"files": {name: None for name in copies.new}, "commit": earlier.get("commit")},
            "after": {"files": {name: wanted[name] for name in todo}, "commit": snapshot["commit"]},
        },
    }


def _foreseen(
    snapshot: t.Mapping[str, t.Any], dest: str, earlier: t.Mapping[str, t.Any], overwrite: bool
) -> dict[str, t.Any]:
    """What would be done with files that would first have to be fetched."""
    for name in snapshot["files"]:
        _refuse_links(dest, name)
    names = sorted(
        name
        for name in snapshot["files"]
        if overwrite or name in earlier.get("files", {}) or not os.path.lexists(os.path.join(dest, name))
    )
    return {
        "changed": True,
        "dest": dest,
        "copied": names,
        "diff": {
            "before": {"files": {}, "commit": earlier.get("commit")},
            "after": {"files": dict.fromkeys(names), "commit": snapshot["commit"]},
        },
    }


def _compare(
    dest: str, wanted: t.Mapping[str, str], ours: t.Mapping[str, str], access: Access, overwrite: bool
) -> Copies:
    """What is to be done for each file. Raises FleetError that names all files that are somebody's own."""
    copies = Copies([], [], [], [])
    foreign = []
    for name in sorted(wanted):
        path = os.path.join(dest, name)
        _refuse_links(dest, name)
        if not os.path.lexists(path):
            copies.new.append(name)
            continue
        found = "" if os.path.isdir(path) or not os.path.exists(path) else hashlib.sha256(_read(path)).hexdigest()
        if found == wanted[name]:
            copies.same.append(name)
            if not os.path.islink(path) and access.differs(path, False):
                copies.access.append(name)
        elif not os.path.isdir(path) and (overwrite or found == ours.get(name) and not os.path.islink(path)):
            copies.changed.append(name)
        else:
            foreign.append(name)
    if foreign:
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        raise FleetError(
            f"{dest} has files of its own that differ from those of the repo: {', '.join(foreign[:_NAMED])}{more}. "
            "They were not copied by this module, or were changed since, and nothing was replaced. Move them away, or "
            "allow it with overwrite.",
            kind="foreign",
            files=foreign,
        )
    return copies


def _refuse_links(dest: str, name: str) -> None:
    """Raises FleetError when a folder on the way to a file is a link, which could lead out of dest."""
    folder = dest
    for part in name.split("/")[:-1]:
        folder = os.path.join(folder, part)
        if os.path.islink(folder):
            raise FleetError(f"{folder} is a link, and nothing is written through it. Remove it.", kind="link")


def _still_there(dest: str, files: t.Mapping[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if os.path.lexists(os.path.join(dest, name))}


def _read_provenance(dest: str) -> dict[str, t.Any]:
    """What was copied before; nothing where there is no such file."""
    try:
        value = json.loads(_read(os.path.join(dest, PROVENANCE)))
    except (FleetError, ValueError, RecursionError):
        return {}
    is_ours = isinstance(value, dict) and isinstance(value.get("files"), dict)
    return value if is_ours else {}


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read(_LIMIT_BYTES)
    except OSError as error:
        raise FleetError(f"{path} cannot be read: {error.strerror}.", kind="unreadable") from None


def _make_folder(path: str, access: Access) -> None:
    if not os.path.isdir(path):
        _make_folder(os.path.dirname(path), access)
        os.mkdir(path)
        access.apply(path, is_folder=True)


def _write(path: str, content: bytes, access: Access) -> None:
    """A file that is there as a whole or not at all."""
    fresh = f"{path}.{os.getpid()}.new"
    try:
        with open(fresh, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        access.apply(fresh)
        os.replace(fresh, path)
    except OSError as error:
        raise FleetError(f"{path} cannot be written: {error.strerror}.", kind="unwritable") from error
