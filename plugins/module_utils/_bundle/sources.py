# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What goes into a bundle, as it lies on the side where it is made: snapshots of the hub's cache and plain files."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
import stat
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import files, manifest, names
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError, Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.selection import SCOPES
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.sources import Asked, source_facts

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_NAMED = 5
# What goes along of a repo that only has the code of another: all but its weights. Nobody asks for this scope.
_CODE = "code"
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Found(t.NamedTuple):
    """A file that goes into the bundle. sha256: what it is known or named to be, which is verified when it is
    copied."""

    path: str
    size: int
    sha256: str


class Gathered(t.NamedTuple):
    """Everything but images. paths: where each content lies. notes: which code does not go along, and why."""

    snapshots: list[manifest.Snapshot]
    files: list[manifest.File]
    paths: dict[str, Found]
    notes: list[str]


class _Entry(t.NamedTuple):
    path: str
    source: str
    etag: str


def gather(
    hub_cache: str,
    snapshots: t.Sequence[t.Mapping[str, t.Any]],
    plain: t.Sequence[t.Mapping[str, t.Any]],
    receipts: files.Receipts,
    workers: int,
) -> Gathered:
    """Snapshots (repo_id, revision, scope), the repos that have their code, and files (src, kind, prefix). Raises
    Refused with everything that is not there."""
    faults: list[str] = []
    found = Gathered([], [], {}, [])
    code: dict[str, str] = {}
    for wanted in _one_each(snapshots):
        try:
            snapshot, needed = _snapshot(hub_cache, wanted, receipts, workers, found.paths)
        except FleetError as error:
            faults.append(str(error))
            continue
        found.snapshots.append(snapshot)
        if wanted.get("scope") != "config":
            code.update((repo, snapshot.repo_id) for repo in needed if repo not in code)
    for repo, user in sorted(code.items()):
        own: dict[str, Found] = {}
        try:
            snapshot, _needed = _snapshot(hub_cache, {"repo_id": repo, "scope": _CODE}, receipts, workers, own)
        except FleetError as error:
            # No fault: the model may be served without this code.
            found.notes.append(
                f"The code of {user} lies in {names.shown(repo)}, which does not go along, so that it cannot be "
                f"served with trust_remote_code on the far side: {error}"
            )
            continue
        found.snapshots.append(snapshot)
        found.paths.update({sha256: one for sha256, one in own.items() if sha256 not in found.paths})
    merged: dict[tuple[str, str], manifest.Snapshot] = {}
    for one in found.snapshots:
        same = merged.setdefault((one.repo_id, one.commit), one)
        parts = {file.path: file for file in (*same.files, *one.files)}
        merged[one.repo_id, one.commit] = dataclasses.replace(same, files=tuple(parts.values()))
    found.snapshots[:] = merged.values()
    for wanted in plain:
        try:
            found.files.extend(_files(wanted, receipts, workers, found.paths))
        except FleetError as error:
            faults.append(str(error))
    for kind in manifest.KINDS:
        paths = [file.path for file in found.files if file.kind == kind]
        faults += [f"{kind} {fault}" for fault in names.set_faults(paths)]
    if faults:
        raise Refused(f"The bundle cannot be made, and nothing was written: {' '.join(faults)}", faults=faults)
    return found


def _one_each(snapshots: t.Sequence[t.Mapping[str, t.Any]]) -> list[t.Mapping[str, t.Any]]:
    return list({(one["repo_id"], one.get("revision") or "", one.get("scope")): one for one in snapshots}.values())


def _snapshot(
    hub_cache: str,
    wanted: t.Mapping[str, t.Any],
    receipts: files.Receipts,
    workers: int,
    paths: dict[str, Found],
) -> tuple[manifest.Snapshot, list[str]]:
    """A snapshot, and the other repos that have its code."""
    repo_id = str(wanted["repo_id"])
    scope = wanted.get("scope")
    folder, commit, code = _whole(hub_cache, Asked(repo_id, wanted.get("revision") or None, scope or "model"))
    entries = [
        entry for entry in _entries(folder, os.path.realpath(hub_cache)) if _belongs(entry.path, scope or "model")
    ]
    if not entries or (scope == "model" and not _has_weights(entries)):
        what = "weights" if entries else f"file of the scope {scope or 'model'}"
        raise Refused(f"{repo_id}: {folder} has no {what}. Pre-stage it with scope {scope or 'model'}.")
    faults = names.set_faults([entry.path for entry in entries])
    if faults:
        raise Refused(f"{repo_id}: {'; '.join(faults)}")
    results = files.in_parallel(lambda entry: _known(entry, receipts), entries, workers)
    contents = []
    for entry, result in zip(entries, results):
        if isinstance(result, FleetError):
            faults.append(str(result))
            continue
        paths.setdefault(result.sha256, result)
        contents.append(manifest.SnapshotFile(entry.path, result.sha256, entry.etag or result.sha256))
    if faults:
        raise Refused(f"{repo_id}: {'; '.join(faults)}. Pre-stage it again.")
    return manifest.Snapshot(repo_id, commit, tuple(_refs(folder, commit)), tuple(contents)), code


def _belongs(path: str, scope: str) -> bool:
    if scope == _CODE:
        return not _is_weights(path)
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in SCOPES.get(scope, ("*",)))


def _whole(hub_cache: str, asked: Asked) -> tuple[str, str, list[str]]:
    """Folder, commit, and the other repos that have the code of a snapshot. Raises Refused when files that were asked
    for once are missing, such as after a download that was interrupted."""
    (entry,) = source_facts([asked], hub_cache)
    if not entry["found"]:
        raise Refused(str(entry["reason"]))
    problems = [
        f"{one['file']}: {one['message']}"
        for one in entry["problems"]
        if asked.scope != _CODE or not _is_weights(one["file"])
    ]
    if problems:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise Refused(
            f"{asked.source}: {entry['path']} is not whole: {'; '.join(problems[:_NAMED])}{more}. Pre-stage it again."
        )
    return str(entry["path"]), str(entry["commit"]), list(entry["code_repos"])


def _has_weights(entries: t.Sequence[_Entry]) -> bool:
    return any(_is_weights(entry.path) for entry in entries)


def _is_weights(path: str) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in _WEIGHTS)


def _entries(folder: str, root: str) -> list[_Entry]:
    """The files of a snapshot."""
    found = []
    for place, folders, inside in os.walk(folder):
        for name in [one for one in folders if os.path.islink(os.path.join(place, one))]:
            raise Refused(f"{os.path.join(place, name)} is a link to a folder, which no snapshot has")
        for name in inside:
            path = os.path.join(place, name)
            source = os.path.realpath(path)
            if os.path.islink(path) and not source.startswith(root + os.sep):
                raise Refused(f"{path} is a link out of the cache, to {names.shown(source)}")
            blob = os.path.basename(os.readlink(path)) if os.path.islink(path) else ""
            etag = blob if _ETAG.fullmatch(blob) else ""
            found.append(_Entry(os.path.relpath(path, folder), source, etag))
    return sorted(found)


def _known(entry: _Entry, receipts: files.Receipts) -> Found:
    """What a file of a snapshot is. The hub names weights by their SHA-256, so they are not read here."""
    with files.opened(entry.source) as (_handle, status):
        if len(entry.etag) == 64:
            return Found(entry.source, status.st_size, entry.etag)
        known = receipts.get(entry.source, status)
    if known:
        return Found(entry.source, status.st_size, known)
    if entry.etag and files.git_hash(entry.source) != entry.etag:
        raise Refused(f"{entry.path} is not what its name in the cache says ({entry.etag}): it is damaged")
    sha256, size = files.hash_file(entry.source, receipts)
    return Found(entry.source, size, sha256)


def _refs(folder: str, commit: str) -> list[str]:
    """The branches, tags and private refs that stand for this commit."""
    root = os.path.join(os.path.dirname(os.path.dirname(folder)), "refs")
    found = []
    for place, _folders, inside in os.walk(root):
        for name in inside:
            path = os.path.join(place, name)
            with open(path, "rb") as handle:
                if handle.read(64) == commit.encode():
                    found.append(os.path.relpath(path, root))
    return sorted(found)


def _files(
    wanted: t.Mapping[str, t.Any], receipts: files.Receipts, workers: int, paths: dict[str, Found]
) -> list[manifest.File]:
    src = os.path.abspath(wanted["src"])
    prefix = (wanted.get("prefix") or "").strip("/")
    if os.path.isdir(src):
        inside = [
            os.path.relpath(os.path.join(place, name), src)
            for place, _folders, names_there in os.walk(src)
            for name in names_there
        ]
        sources = [(os.path.join(src, path), path) for path in sorted(inside)]
    elif os.path.lexists(src):
        sources = [(src, os.path.basename(src))]
    else:
        raise Refused(f"There is no {src} to put into the bundle as {wanted['kind']}.")
    root = os.path.realpath(src) if os.path.isdir(src) else os.path.realpath(os.path.dirname(src))
    for source, _path in sources:
        real = os.path.realpath(source)
        if not real.startswith(root + os.sep) or not stat.S_ISREG(os.stat(real).st_mode if os.path.exists(real) else 0):
            raise Refused(f"{names.shown(source)} is no plain file, or a link out of {root}.")
    results = files.in_parallel(lambda pair: files.hash_file(os.path.realpath(pair[0]), receipts), sources, workers)
    found = []
    for (source, path), result in zip(sources, results):
        if isinstance(result, FleetError):
            raise result
        real = os.path.realpath(source)
        paths.setdefault(result[0], Found(real, result[1], result[0]))
        executable = bool(os.stat(real).st_mode & 0o100)
        found.append(manifest.File(wanted["kind"], f"{prefix}/{path}" if prefix else path, result[0], executable))
    return found
