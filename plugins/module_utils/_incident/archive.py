# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The incident folder as one archive that only its owner can read, from its first byte on."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import tempfile
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Refused

# Bytes of a log that are written before only its last lines are kept, and how many those are.
LOG_BYTES = 256 * 2**20
LAST_LINES = 20000
# What is said when there is no room (errno).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Archive:
    """A tar.gz file under construction. Texts are added whole, logs as they are read."""

    def __init__(self, path: str) -> None:
        """Raises Refused when it cannot be written, or is there already."""
        self.path = path
        self._folder = os.path.basename(path)[: -len(".tar.gz")]
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise Refused(f"The incident cannot be written to {path}: {error.strerror}. Set dest.") from error
        self._raw = os.fdopen(descriptor, "wb")
        # closed by __exit__
        self._tar = tarfile.open(fileobj=self._raw, mode="w:gz", compresslevel=6)  # noqa: SIM115 - see above
        self.names: list[str] = []

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: t.Any, error: t.Any, trace: t.Any) -> None:
        failed = error
        try:
            # Closing writes what was buffered, which does not fit on a full disk either.
            with self._raw:
                if error is None:
                    self._tar.close()
        except OSError as late:
            failed = error or late
        if failed is not None:
            os.unlink(self.path)
        if isinstance(failed, OSError) and failed.errno in _FULL:
            raise Refused(
                f"The incident cannot be written to {self.path}: {failed.strerror}. Nothing was left of it. Make room, "
                "or set dest."
            ) from failed
        if failed is not None and error is None:
            raise failed

    def text(self, name: str, text: str) -> None:
        """Add a file."""
        content = text.encode()
        self._add(name, io.BytesIO(content), len(content))

    def log(self, name: str, lines: t.Iterable[str]) -> None:
        """Add a log; of a very long one the beginning and the last lines."""
        with tempfile.TemporaryFile() as handle:
            size, left_out, last = 0, 0, []
            for line in lines:
                content = line.encode("utf-8", "replace") + b"\n"
                if size < LOG_BYTES:
                    size += handle.write(content)
                    continue
                last.append(content)
                if len(last) > 2 * LAST_LINES:
                    left_out += len(last) - LAST_LINES
                    del last[:-LAST_LINES]
            if left_out:
                size += handle.write(f"... {left_out} lines left out\n".encode())
            for content in last:
                size += handle.write(content)
            handle.seek(0)
            self._add(name, handle, size)

    def _add(self, name: str, content: t.IO[bytes], size: int) -> None:
        member = tarfile.TarInfo(f"{self._folder}/{name}")
        member.size, member.mode, member.mtime = size, 0o600, int(time.time())
        self._tar.addfile(member, content)
        self.names.append(name)


def path_in(folder: str, name: str, now: float) -> str:
    """Where the archive of an incident lies."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return os.path.join(os.path.abspath(folder), f"incident-{name}-{stamp}.tar.gz")
