# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Keeping a cache: what is in it, and what may go.

A revision stays when somebody declares it, when a running server's arguments or mounts name it, and while it is young.
Blobs that other revisions share stay with these.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.listing import COMMIT
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.lock import RepoLock
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import LOCKS, OWN, Access, Repo

_FOLDER = re.compile(r"models--(.+)")
_LOCK_SECONDS = 5
# Another host may be at it.
_PRUNE_SECONDS = 600
_GB = 10**9
# Beginnings of the types of file systems that one host has for itself.
_LOCAL = (
    "ext",
    "xfs",
    "btrfs",
    "zfs",
    "f2fs",
    "bcachefs",
    "jfs",
    "reiserfs",
    "overlay",
    "tmpfs",
    "ramfs",
    "vfat",
    "ntfs",
)
# Partial files of downloads that nobody goes on with.
_PARTIAL = (".incomplete", ".segments")


class Kept(t.NamedTuple):
    """What somebody needs: a repo at a revision, None for main. elsewhere: another host may."""

    repo: str
    revision: str | None
    elsewhere: bool = False


class User(t.NamedTuple):
    """A running container that mounts the cache. words: its arguments, and the folders that it mounts."""

    name: str
    words: tuple[str, ...]


class Limits(t.NamedTuple):
    """min_age: seconds since the last use, below which a revision stays.

    quota: bytes that the cache may have; None removes all that may go, whatever its size.
    """

    min_age: float
    quota: int | None


class Revision(t.NamedTuple):
    """One commit in the cache. last_used: seconds; as good as the times that the file system keeps of reading."""

    repo: str
    commit: str
    path: str
    refs: tuple[str, ...]
    blob_sizes: tuple[tuple[str, int], ...]
    last_used: float

    @property
    def blobs(self) -> dict[str, int]:
        """Path and bytes of the content of each file."""
        return dict(self.blob_sizes)


def is_remote(folder: str, mounts: str = "/proc/self/mountinfo") -> bool:
    """Whether other hosts may share a folder: it is, or would be, on a file system that is not known to be local."""
    # A file system that is mounted when it is needed is not in the list before.
    _listed(folder)
    place, found = os.path.realpath(folder), ("", "")
    with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            # proc(5): ID PARENT DEVICE ROOT POINT OPTIONS [TAGS] - TYPE SOURCE OPTIONS. A later one hides an earlier.
            mount, _dash, system = line.partition(" - ")
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), mount.split()[4])
            if os.path.commonpath([place, point]) == point and len(point) >= len(found[0]):
                found = (point, system.split()[0])
    return not found[1].startswith(_LOCAL)


def revisions(hub_cache: str) -> list[Revision]:
    """Every revision of every model in the cache, sorted."""
    found = []
    for name in _listed(hub_cache):
        match = _FOLDER.fullmatch(name)
        if match:
            found += _revisions_of(os.path.join(hub_cache, name), match[1].replace("--", "/", 1))
    return sorted(found)


def _revisions_of(path: str, repo: str) -> list[Revision]:
    """Every revision of the repo whose folder this is."""
    refs = _refs(os.path.join(path, "refs"))
    found = []
    for commit in _listed(os.path.join(path, "snapshots")):
        if COMMIT.fullmatch(commit):
            named = tuple(sorted(ref for ref, target in refs.items() if target == commit))
            try:
                found.append(_revision(repo, os.path.join(path, "snapshots", commit), named))
            except FileNotFoundError:
                continue  # another host has just removed it
    return found


def _revision(repo: str, path: str, refs: tuple[str, ...]) -> Revision:
    blobs: dict[str, int] = {}
    used = 0.0
    for folder, folders, files in os.walk(path):
        for name in files + [one for one in folders if os.path.islink(os.path.join(folder, one))]:
            entry = os.path.join(folder, name)
            # The first link only: a blob may itself be a link into the store of all repos.
            blob = os.path.normpath(os.path.join(folder, os.readlink(entry))) if os.path.islink(entry) else entry
            try:
                status = os.stat(entry)
            except OSError:
                continue  # a link to nothing takes no room
            blobs[blob] = status.st_size
            used = max(used, status.st_atime, status.st_mtime)
    return Revision(
        repo, os.path.basename(path), path, refs, tuple(sorted(blobs.items())), used or os.stat(path).st_mtime
    )


def table(result: t.Mapping[str, t.Any], hub_cache: str) -> list[str]:
    """The revisions as lines that people read, the largest first."""
    gone = {(one["repo"], one["commit"]) for one in result.get("removed", ())}
    lines = [f"{result['total_bytes'] / _GB:.2f} GB in {hub_cache}"]
    for one in sorted(result["revisions"], key=lambda row: -row["bytes"]):
        day = time.strftime("%Y-%m-%d", time.localtime(one["last_used"]))
        why = "removed" if (one["repo"], one["commit"]) in gone else "; ".join(one["needed_by"]) or "nobody needs it"
        lines.append(f"{one['bytes'] / _GB:9.2f} GB | used {day} | {one['repo']} at {one['commit'][:12]} | {why}")
    return lines


def report(hub_cache: str, kept: t.Sequence[Kept], users: t.Sequence[User]) -> dict[str, t.Any]:
    """Sizes, last uses and who needs what; changes nothing."""
    if not os.path.isdir(hub_cache):
        return {"revisions": [], "total_bytes": 0, "partial_bytes": 0}
    found = revisions(hub_cache)
    needs = _needs(found, kept, users)
    return {
        "revisions": [
            {
                "repo": one.repo,
                "commit": one.commit,
                "path": one.path,
                "refs": list(one.refs),
                "bytes": sum(one.blobs.values()),
                "freed_bytes": _freed(found, [one]),
                "last_used": int(one.last_used),
                "needed_by": needs[one],
            }
            for one in found
        ],
        "total_bytes": _size(found),
        "partial_bytes": sum(size for _path, size in _partials(hub_cache, 0)),
    }


def prune(
    hub_cache: str, kept: t.Sequence[Kept], users: t.Sequence[User], limits: Limits, check: bool
) -> dict[str, t.Any]:
    """Remove what nobody needs. Raises FleetError when the quota cannot be kept; then nothing was removed."""
    if check or not os.path.isdir(hub_cache):
        return _pruned(hub_cache, kept, users, limits, check)
    whole = os.path.join(hub_cache, LOCKS, f"{OWN}-prune.lock")
    # Of several hosts that share the cache the second finds nothing left to do.
    with RepoLock(hub_cache, whole, lambda holder: None, _PRUNE_SECONDS):
        return _pruned(hub_cache, kept, users, limits, check)


def _pruned(
    hub_cache: str, kept: t.Sequence[Kept], users: t.Sequence[User], limits: Limits, check: bool
) -> dict[str, t.Any]:
    before = report(hub_cache, kept, users)
    found = revisions(hub_cache) if before["revisions"] else []
    now = time.time()
    needs = _needs(found, kept, users)
    loose = [one for one in found if not needs[one] and now - one.last_used >= max(limits.min_age, 0.0)]
    loose.sort(key=lambda one: one.last_used)
    going = loose
    if limits.quota is not None:
        going = []
        while loose and _size(found) - _freed(found, going) > limits.quota:
            going = [*going, loose.pop(0)]
        left = _size(found) - _freed(found, going)
        if left > limits.quota:
            raise FleetError(
                f"{hub_cache} has {_size(found) / _GB:.2f} GB, and at most {_freed(found, going) / _GB:.2f} GB of it "
                f"may go: the {left / _GB:.2f} GB that are needed, or were used lately, are more than the quota of "
                f"{limits.quota / _GB:.2f} GB. Nothing was removed. Raise the quota, or take models from the host.",
                kind="over_quota",
                revisions=before["revisions"],
            )
    # A download that runs touches its files all the time.
    partials = dict(_partials(hub_cache, now - max(limits.min_age, 3600)))
    freed = _freed(found, going) + sum(partials.values())
    if not check:
        for one in going:
            _remove(hub_cache, one)
        for path in partials:
            _unlink(path)
    stays = {f"{one.repo} {one.commit}": sum(one.blobs.values()) for one in found}
    gone = {f"{one.repo} {one.commit}" for one in going}
    return {
        "changed": bool(going or partials),
        "removed": [{"repo": one.repo, "commit": one.commit, "bytes": sum(one.blobs.values())} for one in going],
        "removed_partials": list(partials),
        "freed_bytes": freed,
        "total_bytes": before["total_bytes"],
        "revisions": before["revisions"],
        "diff": {
            "before": {"revisions": stays},
            "after": {"revisions": {name: size for name, size in stays.items() if name not in gone}},
        },
    }


def _needs(found: t.Sequence[Revision], kept: t.Sequence[Kept], users: t.Sequence[User]) -> dict[Revision, list[str]]:
    """Why each revision stays; an empty list when it may go."""
    needs: dict[Revision, list[str]] = {one: [] for one in found}
    for one in found:
        for need in kept:
            revision = need.revision or "main"
            is_told = need.elsewhere and needs[one]
            if need.repo == one.repo and (revision == one.commit or revision in one.refs) and not is_told:
                whose = " for other hosts, which may share the cache" if need.elsewhere else ""
                needs[one].append(f"{need.repo} at {revision} is declared{whose}")
    for user in users:
        named = [one for one in found if _is_named(one, user.words)]
        # Of a repo that is named, the commits that are named; else all.
        exact = [one for one in named if any(one.commit in word for word in user.words)]
        exact_repos = {one.repo for one in exact}
        read = exact + [one for one in named if one.repo not in exact_repos]
        reason = f"the running container {user.name} reads it"
        if not read:
            # Such as one that serves a model of another name by a mechanism of its own.
            read, reason = (
                list(found),
                f"the running container {user.name} mounts the cache and does not say what it reads",
            )
        for one in read:
            needs[one].append(reason)
    return {one: list(dict.fromkeys(reasons)) for one, reasons in needs.items()}


def _is_named(one: Revision, words: t.Sequence[str]) -> bool:
    folder = "models--" + one.repo.replace("/", "--")
    return any(word == one.repo or one.commit in word or folder in word for word in words)


def _size(found: t.Sequence[Revision]) -> int:
    blobs: dict[str, int] = {}
    for one in found:
        blobs.update(one.blobs)
    return sum(blobs.values())


def _freed(found: t.Sequence[Revision], going: t.Sequence[Revision]) -> int:
    """Bytes that go with these revisions: of blobs that none of the others has."""
    return _size(found) - _size([one for one in found if one not in going])


def _remove(hub_cache: str, one: Revision) -> None:
    """Remove a revision; refs first, for the hub's client takes a ref without a snapshot for a broken cache."""
    repo = Repo(hub_cache, one.repo, Access())
    with RepoLock(hub_cache, repo.lock_path, lambda holder: None, _LOCK_SECONDS):
        # A download may have brought another revision since, which shares blobs with this one and took its ref.
        now = {other.commit: other for other in _revisions_of(repo.path, one.repo)}
        one = now.pop(one.commit, one)
        for ref in one.refs:
            _unlink(os.path.join(repo.path, "refs", *ref.split("/")))
        for path in (
            os.path.join(repo.path, OWN, f"{one.commit}.json"),
            os.path.join(repo.path, "trees", f"{one.commit}.json"),
        ):
            _unlink(path)
        shutil.rmtree(one.path)
        shared = {blob for other in now.values() for blob in other.blobs}
        for blob in one.blobs:
            if blob not in shared:
                _unlink_blob(hub_cache, blob)
        if not now and not _listed(os.path.join(repo.path, "snapshots")):
            shutil.rmtree(repo.path)


def _unlink_blob(hub_cache: str, blob: str) -> None:
    """Remove a blob, and its content in the store of all repos when no other repo links to it."""
    store = os.path.join(hub_cache, "blobs")
    target = os.path.realpath(blob) if os.path.islink(blob) else ""
    _unlink(blob)
    if target.startswith(os.path.realpath(store) + os.sep) and not _is_linked(hub_cache, target):
        _unlink(target)


def _is_linked(hub_cache: str, target: str) -> bool:
    for name in _listed(hub_cache):
        blobs = os.path.join(hub_cache, name, "blobs")
        if "--" in name and any(os.path.realpath(os.path.join(blobs, blob)) == target for blob in _listed(blobs)):
            return True
    return False


def _partials(hub_cache: str, before: float) -> t.Iterator[tuple[str, int]]:
    """Path and bytes of partial files; of those last written before a time, or of all when that is 0."""
    for name in _listed(hub_cache):
        blobs = os.path.join(hub_cache, name, "blobs")
        for blob in _listed(blobs) if _FOLDER.fullmatch(name) else ():
            path = os.path.join(blobs, blob)
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue  # it has just become whole, or another host has removed it
            if blob.endswith(_PARTIAL) and stat.S_ISREG(status.st_mode) and (not before or status.st_mtime < before):
                yield path, status.st_size


def _refs(folder: str) -> dict[str, str]:
    """The commit of each ref."""
    found = {}
    for place, _folders, files in os.walk(folder):
        for name in files:
            path = os.path.join(place, name)
            try:
                with open(path, encoding="utf-8", errors="replace") as handle:
                    found[os.path.relpath(path, folder)] = handle.read(100).strip()
            except FileNotFoundError:
                continue  # another host has just removed it
    return found


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
