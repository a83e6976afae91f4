# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Writes the blobs of a bundle into its folders: each once, those of before kept, no medium fuller than it may be."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import files, manifest, media
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError, Refused

# Of a medium, this share is left for the manifest and its signature, which lie on each; of a small one up to a quarter.
_MANIFEST_SHARE = 32
_MANIFEST_BYTES = 1 << 20
LEAST_MEDIUM = 1 << 16
_FILE_SYSTEM_BLOCK = 4096


class Writer:
    """The folders of a bundle while it is made.

    media_bytes: bytes of a medium, 0 for one folder without bound. file_bytes: of the largest file, 0 for no bound.
    skipped: contents that are not kept, because the far side has them.
    """

    def __init__(self, dest: str, media_bytes: int, file_bytes: int, receipts: files.Receipts) -> None:
        if media_bytes and media_bytes < LEAST_MEDIUM:
            raise Refused(f"media_bytes is {media_bytes}; a medium has {LEAST_MEDIUM} bytes at least")
        self.dest = dest
        self._media_bytes = media_bytes
        self._kept_free = max(media_bytes // _MANIFEST_SHARE, min(_MANIFEST_BYTES, media_bytes // 4))
        self._room = (media_bytes - self._kept_free) // _FILE_SYSTEM_BLOCK * _FILE_SYSTEM_BLOCK
        self._file_bytes = min(one for one in (file_bytes, self._room, 1 << 62) if one)
        self._receipts = receipts
        self._lock = threading.Lock()
        self._paths: dict[str, str] = {}
        self._used: dict[int, int] = {}
        self.skipped: frozenset[str] = frozenset()
        self.sizes: dict[str, int] = dict(receipts.other.get("sizes", {}))
        self.cut: dict[str, list[str]] = dict(receipts.other.get("cut", {}))
        self.written_blobs = 0
        self.written_bytes = 0

    def look(self, workers: int) -> None:
        """Find the blobs that are there and good; what does not fit the bounds does not count."""
        found: dict[str, str] = {}
        for number, root in self.roots().items():
            for sha256, path in media.blobs_of(root)[0].items():
                size = os.lstat(path).st_size
                fits = not self._media_bytes or self._used.get(number, 0) + _taken(size) <= self._room
                if sha256 not in found and fits and size <= self._file_bytes:
                    found[sha256] = path
                    self._used[number] = self._used.get(number, 0) + _taken(size)
        jobs = list(found)
        results = files.in_parallel(lambda one: files.hash_file(found[one], self._receipts), jobs, workers)
        for sha256, result in zip(jobs, results):
            if not isinstance(result, FleetError) and result[0] == sha256:
                self._paths[sha256] = found[sha256]
                self.sizes[sha256] = result[1]

    def roots(self) -> dict[int, str]:
        """The folders of the media that are there, by number."""
        if not self._media_bytes:
            return {1: self.dest}
        inside = [root for root in media.roots_below(self.dest) if root != self.dest]
        return {int(os.path.basename(root)[6:]): root for root in inside}

    def has(self, content: str) -> bool:
        """Whether a content is in the bundle, whole."""
        if content in self._paths:
            return True
        pieces = self.cut.get(content)
        return bool(pieces) and all(piece in self._paths for piece in pieces or ())

    def blobs(self, content: str) -> dict[str, manifest.Blob]:
        """The blobs of a content that is in the bundle."""
        pieces = [content] if content in self._paths else self.cut[content]
        return {piece: manifest.Blob(self.sizes[piece], self._medium(piece)) for piece in pieces}

    def is_cut(self, content: str) -> bool:
        """Whether a content that is in the bundle lies in pieces."""
        return content not in self._paths

    def keep(self, size: int, chunks: t.Iterator[bytes | memoryview], expected: str | None = None) -> str:
        """Put a content into the bundle; its SHA-256. Raises Refused when it is not what is expected."""
        if size <= self._file_bytes:
            return self._keep_blob(size, chunks, expected, self.skipped)
        whole, pieces, rest = hashlib.sha256(), [], _Rest(chunks)
        while size > 0:
            length = min(size, self._file_bytes)
            pieces.append(self._keep_blob(length, rest.take(length, whole), None, frozenset()))
            size -= length
        content = whole.hexdigest()
        if expected and content != expected:
            raise _changed(content, expected)
        with self._lock:
            self.cut[content] = pieces
            self.sizes[content] = rest.taken
        return content

    def keep_file(self, path: str, expected: str) -> None:
        """Put a file into the bundle."""
        with files.opened(path, follow=True) as (handle, status):
            try:
                self.keep(status.st_size, files.chunks(handle, status.st_size, path), expected)
            except Refused as error:
                raise Refused(f"{path}: {error}") from error

    def _keep_blob(
        self, size: int, chunks: t.Iterator[bytes | memoryview], expected: str | None, skipped: frozenset[str]
    ) -> str:
        number, root = self._place(size)
        folder = files.make_folder(root, media.BLOBS)
        partial = os.path.join(folder, files.PARTIAL + secrets.token_hex(8))
        digest = hashlib.sha256()
        kept = False
        try:
            with open(partial, "xb", buffering=0) as file:
                for chunk in chunks:
                    digest.update(chunk)
                    files.write_all(t.cast(t.BinaryIO, file), chunk)
                os.fsync(file.fileno())
            sha256 = digest.hexdigest()
            if expected and sha256 != expected:
                raise _changed(sha256, expected)
            with self._lock:
                self.sizes[sha256] = size
                if sha256 not in self._paths and sha256 not in skipped:
                    path = os.path.join(files.make_folder(root, media.blob_folder(sha256)), sha256)
                    os.replace(partial, path)
                    self._paths[sha256] = path
                    self._receipts.put(path, os.stat(path), sha256)
                    self.written_blobs += 1
                    self.written_bytes += size
                    kept = True
            return sha256
        finally:
            if not kept:
                with self._lock:
                    self._used[number] -= _taken(size)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(partial)

    def _place(self, size: int) -> tuple[int, str]:
        """The first medium with room."""
        with self._lock:
            number = 1
            while self._media_bytes and self._used.get(number, 0) + _taken(size) > self._room:
                number += 1
            self._used[number] = self._used.get(number, 0) + _taken(size)
            root = os.path.join(self.dest, media.medium_name(number)) if self._media_bytes else self.dest
            os.makedirs(root, exist_ok=True)
            return number, root

    def _medium(self, blob: str) -> int:
        folder = self._paths[blob][len(self.dest) + 1 :].split(os.sep)[0]
        return int(folder[6:]) if self._media_bytes else 1

    def note(self) -> None:
        """Keep what is known for the next run."""
        self._receipts.note("sizes", dict(sorted(self.sizes.items())))
        self._receipts.note("cut", dict(sorted(self.cut.items())))

    def finish(self, text: bytes, signature: bytes | None, wanted: manifest.Manifest) -> None:
        """Write manifest and signature into every folder. Raises Refused when they do not fit."""
        length = len(text) + len(signature or b"")
        if self._media_bytes and length + 2 * _FILE_SYSTEM_BLOCK > self._kept_free:
            raise Refused(
                f"media_bytes is {self._media_bytes}, of which {self._kept_free} are for the "
                f"manifest, but that has {length}: choose larger media"
            )
        for number in range(1, wanted.media + 1):
            root = os.path.join(self.dest, media.medium_name(number)) if self._media_bytes else self.dest
            os.makedirs(root, exist_ok=True)
            files.remove_partials(root)
            # The old signature goes first: at no time does one stand beside a manifest that it is not of.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(root, manifest.SIGNATURE))
            files.write_whole(os.path.join(root, manifest.FILE), text)
            if signature is not None:
                files.write_whole(os.path.join(root, manifest.SIGNATURE), signature)

    def stale(self, wanted: manifest.Manifest) -> list[str]:
        """Files of the bundle's folders that are of no use any more: of earlier states and of runs that were killed."""
        used = {self._paths[sha256] for sha256, blob in wanted.blobs.items() if blob.medium is not None}
        current = {
            os.path.join(self.dest, media.medium_name(number)) if self._media_bytes else self.dest
            for number in range(1, wanted.media + 1)
        }
        found = []
        for root in media.roots_below(self.dest):
            paths, foreign = media.blobs_of(root)
            found += [path for path in paths.values() if path not in used]
            found += [path for path in foreign if os.path.basename(path).startswith(files.PARTIAL)]
            if root not in current:
                texts = [os.path.join(root, name) for name in (manifest.FILE, manifest.SIGNATURE)]
                found += [path for path in texts if os.path.lexists(path)]
        return sorted(found)

    def remove(self, paths: t.Sequence[str]) -> None:
        """Remove files, and the folders of the bundle that are then empty."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            folder = os.path.dirname(path)
            while folder.startswith(self.dest + os.sep):
                try:
                    os.rmdir(folder)
                except OSError:
                    break  # it is not empty
                folder = os.path.dirname(folder)


class _Rest:
    """Chunks of a content, taken piece by piece."""

    def __init__(self, chunks: t.Iterator[bytes | memoryview]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")
        self.taken = 0

    def take(self, length: int, whole: t.Any) -> t.Iterator[memoryview]:
        """The next bytes; they are hashed into whole as well."""
        while length:
            if not self._left:
                more = next(self._chunks, None)
                if more is None:
                    raise Refused(f"it ended {length} bytes early")
                self._left = memoryview(more)
            chunk, self._left = self._left[:length], self._left[length:]
            length -= len(chunk)
            self.taken += len(chunk)
            whole.update(chunk)
            yield chunk


def _taken(size: int) -> int:
    """What a file takes of a medium: whole blocks."""
    return -(-size // _FILE_SYSTEM_BLOCK) * _FILE_SYSTEM_BLOCK


def _changed(found: str, expected: str) -> Refused:
    return Refused(
        f"its SHA-256 is {found} instead of {expected}: the file is damaged, or was changed while it was read. Fetch "
        "it again."
    )
