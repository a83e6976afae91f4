# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""One at a time for a repo of a cache or for the whole of it, also where several hosts share it.

The lock is a POSIX lock (fcntl), which NFS carries to its server and the kernel releases with the process, however that
ends. Where a mount does not carry locks, two hosts may write the same partial files at once: they write the same bytes
to the same places, and nothing gets its final name before its hash was right, so that this costs time only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import LOCKS, Access, Repo

_POLL_SECONDS = 0.25
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_WHO_BYTES = 200


class RepoLock:
    """Held from entering to leaving; waits for others as long as it takes, or limit_seconds at most.

    waiting: called about once a second with the words "HOST, process PID" while another one holds the lock.
    """

    def __init__(self, hub_cache: str, path: str, waiting: t.Callable[[str], None], limit_seconds: float) -> None:
        self.path = path
        self._hub_cache = hub_cache
        self._waiting = waiting
        self._limit = limit_seconds
        self._handle = -1

    def __enter__(self) -> RepoLock:
        try:
            self._handle = self._open()
        except PermissionError as error:
            raise FleetError(
                f"{error.filename or self.path} cannot be written by user id {os.geteuid()}, and without the lock two "
                "runs could change the cache at once. Run this as the user whose cache it is (become), or give that "
                f"user the folder {os.path.join(self._hub_cache, LOCKS)} with all that is in it.",
                kind="unwritable",
            ) from None
        begin = time.monotonic()
        polls = 0
        while not self._try():
            holder = self._holder()
            if time.monotonic() - begin > self._limit:
                os.close(self._handle)
                raise FleetError(
                    f"{self.path} has been held by {holder} for more than {self._limit:.0f} s. Wait for it, or end it, "
                    "and run this again.",
                    kind="locked",
                )
            if polls % 4 == 0:
                self._waiting(holder)
            polls += 1
            time.sleep(_POLL_SECONDS)
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{socket.gethostname()}, process {os.getpid()}".encode()[:_WHO_BYTES], 0)
        return self

    def __exit__(self, *_error: object) -> None:
        # Closing releases it. The file stays: removing it would let two hold different files of one name.
        os.close(self._handle)

    def _open(self) -> int:
        """The file, whose it is whose cache it is: root must not lock out the cache's owner, nor the hub's client."""
        cache = os.stat(self._hub_cache)
        owner = Access(cache.st_uid, cache.st_gid) if os.geteuid() == 0 else Access()
        Repo(self._hub_cache, "", owner).make_folder(os.path.dirname(self.path))
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if os.geteuid() == 0:
            os.fchown(handle, cache.st_uid, cache.st_gid)
        return handle

    def _try(self) -> bool:
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in _NO_LOCKS
        return True

    def _holder(self) -> str:
        who = os.pread(self._handle, _WHO_BYTES, 0).decode("utf-8", "replace")
        return who if who.isprintable() and who else "another process"
