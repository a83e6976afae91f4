# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Reading, hashing and writing files: nothing is read through a link, and nothing is half written under its name."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import names
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

# hashlib lets other threads run while it works on a buffer, so a few threads with large buffers fill all cores.
BUFFER_BYTES = 1 << 20
# Files that are being written; what is left of a run that was killed is removed by the next.
PARTIAL = ".gpufleet-partial-"

Receipt = t.Tuple[int, int, int, int, int, str]


class Unusable(FleetError):
    """A file is not what it has to be."""


class Receipts:
    """What was hashed before: a file whose size, times, inode and device are as they were is not read again.

    The change time of the inode is among them, which no program can set. Damage of the medium itself does not show in
    it: rehash finds that.
    """

    def __init__(self, path: str | None, rehash: bool = False) -> None:
        """path: where they are kept, None for nowhere. A file of receipts that cannot be read counts as none."""
        self.path = path
        self._rehash = rehash
        self._known: dict[str, Receipt] = {}
        self._fresh: set[str] = set()
        self.other: dict[str, t.Any] = {}
        self._changed = False
        if path:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError), open(path, encoding="utf-8") as handle:
                document = json.load(handle)
                self._known = {key: _receipt(value) for key, value in document["receipts"].items()}
                self.other = dict(document["other"])

    def get(self, path: str, status: os.stat_result) -> str | None:
        """The SHA-256 of a file, when it is known to be as it was; not with rehash, until it was hashed in this run."""
        known = self._known.get(path)
        if known and known[:5] == _identity(status):
            return None if self._rehash and path not in self._fresh else known[5]
        return None

    def put(self, path: str, status: os.stat_result, sha256: str) -> None:
        """Keep what was hashed. status: of the file before it was read."""
        new = (*_identity(status), sha256)
        self._changed = self._changed or self._known.get(path) != new
        self._known[path] = t.cast(Receipt, new)
        self._fresh.add(path)

    def note(self, key: str, value: t.Any) -> None:
        """Keep something else that is known."""
        self._changed = self._changed or self.other.get(key) != value
        self.other[key] = value

    def save(self) -> None:
        """Write them, when there is something new; files that are gone are forgotten."""
        if self.path and self._changed:
            known = {path: list(receipt) for path, receipt in self._known.items() if os.path.lexists(path)}
            try:
                remove_partials(os.path.dirname(os.path.abspath(self.path)))
                write_whole(self.path, json.dumps({"receipts": known, "other": self.other}).encode("utf-8"), 0o600)
            except OSError as error:
                raise Unusable(
                    f"state_path {names.shown(self.path)} cannot be written: {error.strerror}. Give a file in a folder "
                    "that is there.",
                    path=self.path,
                ) from error
            self._changed = False


def _receipt(value: t.Any) -> Receipt:
    size, modified, changed, inode, device, sha256 = value
    return int(size), int(modified), int(changed), int(inode), int(device), str(sha256)


def _identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


@contextlib.contextmanager
def opened(path: str, follow: bool = False) -> t.Iterator[tuple[int, os.stat_result]]:
    """A plain file for reading: its descriptor and status. Raises Unusable for links, devices and what is not there."""
    try:
        # O_NONBLOCK: opening a named pipe would wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        link = " It is a link, which is not followed." if os.path.islink(path) and not follow else ""
        raise Unusable(f"{names.shown(path)} cannot be read: {error.strerror}.{link}", path=path) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Unusable(f"{names.shown(path)} is no plain file", path=path)
        yield handle, status
    finally:
        os.close(handle)


def chunks(handle: int, size: int, path: str, offset: int = 0) -> t.Iterator[memoryview]:
    """Exactly size bytes of a file from an offset on, in views that are valid until the next one."""
    buffer = memoryview(bytearray(min(BUFFER_BYTES, max(size, 1))))
    done = 0
    while done < size:
        try:
            count = os.preadv(handle, [buffer[: min(len(buffer), size - done)]], offset + done)
        except OSError as error:
            raise Unusable(f"{names.shown(path)} cannot be read: {error.strerror}", path=path) from error
        if not count:
            raise Unusable(f"{names.shown(path)} ends after {offset + done} bytes", path=path)
        done += count
        yield buffer[:count]


def hash_file(path: str, receipts: Receipts, follow: bool = False) -> tuple[str, int]:
    """SHA-256 and size of a file, from its receipt where there is one."""
    with opened(path, follow) as (handle, status):
        known = receipts.get(path, status)
        if known:
            return known, status.st_size
        digest = hashlib.sha256()
        for chunk in chunks(handle, status.st_size, path):
            digest.update(chunk)
        if _identity(os.fstat(handle)) != _identity(status):
            raise Unusable(f"{names.shown(path)} was changed while it was read", path=path)
    receipts.put(path, status, digest.hexdigest())
    return digest.hexdigest(), status.st_size


def git_hash(path: str) -> str:
    """What git names a file's content by; the hub client names small files in its cache so."""
    with opened(path, follow=True) as (handle, status):
        digest = hashlib.sha1(b"blob %d\0" % status.st_size)  # noqa: S324 - git's name of it, not a protection
        for chunk in chunks(handle, status.st_size, path):
            digest.update(chunk)
    return digest.hexdigest()


Item = t.TypeVar("Item")
Result = t.TypeVar("Result")


def in_parallel(work: t.Callable[[Item], Result], items: t.Sequence[Item], workers: int) -> list[Result | FleetError]:
    """The result of work for each item, or the FleetError that it raised; any other error ends all."""

    def guarded(item: Item) -> Result | FleetError:
        try:
            return work(item)
        except FleetError as error:
            return error

    if workers < 2 or len(items) < 2:
        return [guarded(item) for item in items]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(guarded, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            # What has not begun is not begun any more: an error must not wait for terabytes.
            for future in futures:
                future.cancel()
            raise


@contextlib.contextmanager
def written(path: str, mode: int, owner: tuple[int, int] = (-1, -1)) -> t.Iterator[t.BinaryIO]:
    """A file to be written that stands under its name when all of it is on the disk, and not before.

    owner: user and group id, -1 for what the process has.
    """
    handle, partial = _partial(os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            yield t.cast(t.BinaryIO, file)
            os.fchmod(handle, mode)
            if owner != (-1, -1):
                os.fchown(handle, *owner)
            os.fsync(handle)
            # Before it is closed, which ends the lock.
            os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def _partial(folder: str) -> tuple[int, str]:
    """A new locked file: its descriptor and path."""
    while True:
        path = os.path.join(folder, PARTIAL + secrets.token_hex(8))
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with _without_locks():
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, path
        # Another run took it for one that was left behind, before it was locked.
        os.close(handle)


def write_whole(path: str, content: bytes, mode: int = 0o644, owner: tuple[int, int] = (-1, -1)) -> None:
    """Write a small file at once."""
    with written(path, mode, owner) as file:
        write_all(file, content)


def write_changed(path: str, content: bytes, check: bool) -> bool:
    """Write a small file when it holds something else; whether it did."""
    try:
        with open(path, "rb") as handle:
            if handle.read(len(content) + 1) == content:
                return False
    except FileNotFoundError:
        pass  # it is made below
    except OSError as error:
        raise Unusable(f"{names.shown(path)} cannot be read: {error.strerror}", path=path) from error
    if not check:
        try:
            write_whole(path, content)
        except OSError as error:
            raise Unusable(f"{names.shown(path)} cannot be written: {error.strerror}", path=path) from error
    return True


def write_all(file: t.BinaryIO, content: bytes | memoryview) -> None:
    """Write all of it: an unbuffered file may take less than it is given."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def make_folder(root: str, relative: str, mode: int = 0o755, owner: tuple[int, int] = (-1, -1)) -> str:
    """The folder root/relative, made where it is missing; raises Unusable when a link or a file is in the way."""
    path = root
    for part in relative.split("/") if relative else []:
        path = os.path.join(path, part)
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise Unusable(
                    f"{names.shown(path)} is no folder (a link is none either), so nothing is written below it. "
                    "Remove it.",
                    path=path,
                ) from None
            continue
        os.chmod(path, mode)
        if owner != (-1, -1):
            os.chown(path, *owner)
    return path


def remove_partials(folder: str) -> None:
    """Remove what runs that were killed left in a folder; what another run is writing now is locked, and stays."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if name.startswith(PARTIAL):
                _remove_unlocked(os.path.join(folder, name))


def _remove_unlocked(path: str) -> None:
    # A link that was not renamed is a partial as well, and cannot be opened.
    if os.path.islink(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    # For writing, without which NFS gives no exclusive lock (flock(2)); another user's is left to that one.
    gone_or_anothers = contextlib.suppress(FileNotFoundError, BlockingIOError, PermissionError)
    with gone_or_anothers, _without_locks(), open(path, "r+b") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)


@contextlib.contextmanager
def _without_locks() -> t.Iterator[None]:
    """Some file systems of a network give no locks: then nothing is kept from others, and nothing of others removed."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
