# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The Hugging Face cache, write side: blobs, snapshots, refs, and what is kept beside them to know a whole one again.

    models--<org>--<name>/gpufleet/<commit>.json    the listing of that commit
                                   receipts.json    size and time of each blob whose hash was right
                                   lock

The hub's own client looks at none of these. Its file trees/<commit>.json is not written: with it, the client refuses a
snapshot of which only a part was wanted (IncompleteSnapshotError; _snapshot_download.py of huggingface_hub 2.4.0).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.listing import (
    COMMIT,
    File,
    Listing,
    from_data,
    from_tree,
)

OWN = "gpufleet"
# Below the cache; as in huggingface_hub 1.x, file_download.py.
LOCKS = ".locks"
_BOOT = "/proc/sys/kernel/random/boot_id"
_JSON_BYTES = 1 << 28


class Access(t.NamedTuple):
    """Owner, group and mode of what is written; None leaves them to the process. dir_mode: x where file_mode has r."""

    uid: int | None = None
    gid: int | None = None
    file_mode: int = 0o644

    @property
    def dir_mode(self) -> int:
        """The mode of folders: who may read may enter, and the owner may write."""
        return self.file_mode | (self.file_mode & 0o444) >> 2 | 0o300

    def differs(self, path: str, is_folder: bool) -> bool:
        """Whether a file or folder is not as it should be."""
        status = os.stat(path)
        mode = self.dir_mode if is_folder else self.file_mode
        return (
            status.st_mode & 0o777 != mode
            or self.uid not in (None, status.st_uid)
            or self.gid not in (None, status.st_gid)
        )

    def apply(self, path: str, is_folder: bool = False) -> None:
        """Make a file or folder so."""
        if self.uid is not None or self.gid is not None:
            os.chown(path, -1 if self.uid is None else self.uid, -1 if self.gid is None else self.gid)
        os.chmod(path, self.dir_mode if is_folder else self.file_mode)


class Repo:
    """One repo of a cache."""

    def __init__(self, hub_cache: str, repo_id: str, access: Access) -> None:
        self.hub_cache = hub_cache
        self.repo_id = repo_id
        self.access = access
        self.path = os.path.join(hub_cache, "models--" + repo_id.replace("/", "--"))
        self.blobs = os.path.join(self.path, "blobs")
        self._receipts: dict[str, list[t.Any]] | None = None

    # ---- where things are

    def blob(self, file: File) -> str:
        """The content of a file."""
        return os.path.join(self.blobs, file.etag)

    def partial(self, file: File) -> str:
        """Where the content grows; the name that clients before release 1.18 continue, too."""
        return self.blob(file) + ".incomplete"

    def snapshot(self, commit: str) -> str:
        """The folder of a commit."""
        return os.path.join(self.path, "snapshots", commit)

    @property
    def lock_path(self) -> str:
        """The file that is locked while something changes.

        It lies where the hub's client has its locks, for a repo's own folder goes with its last revision.
        """
        return os.path.join(self.hub_cache, LOCKS, os.path.basename(self.path), f"{OWN}.lock")

    # ---- reading

    def commit_of(self, revision: str) -> str | None:
        """The commit of a revision as far as the cache knows it."""
        return revision if COMMIT.fullmatch(revision) else self.commit_of_ref(revision)

    def commit_of_ref(self, name: str) -> str | None:
        """The commit that a ref names, exactly as the hub's client writes it."""
        try:
            with open(os.path.join(self.path, "refs", *name.split("/")), "rb") as handle:
                commit = handle.read(100).decode("ascii", "replace")
        except OSError:
            return None
        return commit if COMMIT.fullmatch(commit) else None

    def listing(self, commit: str) -> Listing | None:
        """The list of a commit's files that was kept: ours, or the one of the hub's client."""
        data = _read_json(os.path.join(self.path, OWN, f"{commit}.json"))
        kept = from_data(data) if data is not None else None
        if kept and (kept.commit, kept.repo) == (commit, self.repo_id):
            return kept
        data = _read_json(os.path.join(self.path, "trees", f"{commit}.json"))
        return from_tree(self.repo_id, commit, data) if data is not None else None

    def is_whole(self, commit: str, file: File) -> bool:
        """Whether a file of a snapshot is there with the right size, and as it was when its hash was right."""
        entry = os.path.join(self.snapshot(commit), file.name)
        try:
            status = os.stat(entry)
        except OSError:
            return False
        return status.st_size == file.size and self._receipt_fits(file, status)

    def has_blob(self, file: File) -> bool:
        """Whether the content is there, and as it was when its hash was right."""
        try:
            status = os.stat(self.blob(file))
        except OSError:
            return False
        return status.st_size == file.size and self._receipt_fits(file, status)

    def _receipt_fits(self, file: File, status: os.stat_result) -> bool:
        receipt = self.receipts().get(file.etag)
        return receipt == [status.st_size, status.st_mtime_ns]

    def receipts(self) -> dict[str, list[t.Any]]:
        """Size (bytes) and time (ns) of each blob whose hash was right, by its etag.

        What was not yet known to be on the disk when this host last went down is no longer trusted.
        """
        if self._receipts is None:
            data = _read_json(os.path.join(self.path, OWN, "receipts.json")) or {}
            lost = data.get("host") == socket.gethostname() and data.get("boot") != boot_id()
            found = data.get("flushed") or {}
            waiting = {} if lost else data.get("waiting") or {}
            self._receipts = {**found, **waiting}
            self._waiting = set(waiting)
        return self._receipts

    # ---- writing

    def prepare(self, commit: str) -> None:
        """Make the folders."""
        for folder in (self.hub_cache, self.path, self.blobs, os.path.join(self.path, OWN), self.snapshot(commit)):
            self.make_folder(folder)

    def make_folder(self, folder: str) -> None:
        """Make a folder below (or with) the cache; one that is there stays as it is."""
        missing = []
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for one in reversed(missing):
            try:
                os.mkdir(one)
            except FileExistsError:
                continue
            self.access.apply(one, is_folder=True)

    def content(self, commit: str, file: File) -> str:
        """Where the content of a file is: its blob, or what lies in the snapshot of a cache without links."""
        blob = self.blob(file)
        return blob if os.path.exists(blob) else os.path.join(self.snapshot(commit), file.name)

    def add_receipt(self, commit: str, file: File) -> None:
        """Note that the content of a file has the right hash as it is now; see write_receipts."""
        status = os.stat(self.content(commit, file))
        self.receipts()[file.etag] = [status.st_size, status.st_mtime_ns]
        self._waiting.add(file.etag)

    def write_receipts(self, is_flushed: bool = False) -> None:
        """Keep the receipts. is_flushed: the blobs are known to be on the disk."""
        receipts = self.receipts()
        if is_flushed:
            self._waiting.clear()
        data = {
            "host": socket.gethostname(),
            "boot": boot_id(),
            "flushed": {etag: receipt for etag, receipt in receipts.items() if etag not in self._waiting},
            "waiting": {etag: receipts[etag] for etag in sorted(self._waiting)},
        }
        self._write(os.path.join(self.path, OWN, "receipts.json"), json.dumps(data))

    def flush(self) -> bool:
        """Have the disk take what was written in an earlier run; whether there was something to take.

        Soon after its writing that costs as much as the writing itself; after half a minute, which is when the kernel
        writes by itself, nothing.
        """
        self.receipts()
        if not self._waiting:
            return False
        for etag in sorted(self._waiting):
            try:
                handle = os.open(os.path.join(self.blobs, etag), os.O_RDONLY)
            except FileNotFoundError:
                continue  # a cache without links
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self.write_receipts(is_flushed=True)
        return True

    def wanted(self, commit: str) -> set[str]:
        """The files of a commit that were asked for by any run; none where that is not known."""
        names = (_read_json(os.path.join(self.path, OWN, f"{commit}.json")) or {}).get("wanted")
        return {str(name) for name in names} if isinstance(names, list) else set()

    def write_listing(self, listing: Listing, wanted: t.Iterable[str]) -> None:
        """Keep the list of a commit's files, and which of them were asked for."""
        data = {**listing.as_data(), "wanted": sorted(wanted)}
        self._write(os.path.join(self.path, OWN, f"{listing.commit}.json"), json.dumps(data))

    def link(self, commit: str, file: File) -> None:
        """Let a snapshot's file be the blob, as the hub's client does it, by a relative link."""
        entry = os.path.join(self.snapshot(commit), file.name)
        self.make_folder(os.path.dirname(entry))
        if not os.path.exists(self.blob(file)):
            return  # a cache without links, in which the content is the entry itself
        target = os.path.relpath(self.blob(file), os.path.dirname(entry))
        if os.path.islink(entry) and os.readlink(entry) == target:
            return
        fresh = self._fresh(os.path.basename(entry))
        os.symlink(target, fresh)
        os.replace(fresh, entry)

    def write_ref(self, name: str, commit: str) -> bool:
        """Let a revision be a commit; whether that is news. A ref holds 40 digits and no newline, read verbatim."""
        path = os.path.join(self.path, "refs", *name.split("/"))
        try:
            with open(path, encoding="ascii") as handle:
                if handle.read() == commit:
                    return False
        except (OSError, ValueError):
            pass  # absent or of another content: written below
        self.make_folder(os.path.dirname(path))
        self._write(path, commit)
        return True

    def _fresh(self, name: str) -> str:
        """Where something is made before it gets its place: in our folder, for what a killed run leaves among refs or
        in a snapshot would be taken for one of them. Containers have few process ids: one may have been here before."""
        self.make_folder(os.path.join(self.path, OWN))
        path = os.path.join(self.path, OWN, f".{name[-100:]}.{socket.gethostname()}.{os.getpid()}.new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return path

    def _write(self, path: str, text: str) -> None:
        """A small file that is there as a whole or not at all."""
        fresh = self._fresh(os.path.basename(path))
        try:
            with open(fresh, "w", encoding="utf-8") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            self.access.apply(fresh)
            os.replace(fresh, path)
        except OSError as error:
            raise FleetError(f"{path} cannot be written: {error.strerror}.", kind="unwritable") from error


def boot_id() -> str:
    """What is another one after each start of this host."""
    try:
        with open(_BOOT, encoding="ascii") as handle:
            return handle.read().strip()
    except OSError:
        return ""


def _read_json(path: str) -> t.Any:
    """The object of a JSON file; None when it is not there or none."""
    try:
        if os.path.getsize(path) > _JSON_BYTES:
            return None
        with open(path, encoding="utf-8") as handle:
            data = json.load(handle)
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
