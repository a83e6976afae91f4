# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Files from the hub into blobs: several connections, hashed while written, resumed at the byte where they ended.

A file of one segment grows from its beginning, so its size tells how far it is. A larger one is fetched by several
connections, each in a segment of its own; beside it lies a table with how far each is. A count is written after the
bytes that it counts, so a process that is killed at any point leaves a true table.
"""

from __future__ import annotations

import concurrent.futures
import email.utils
import hashlib
import os
import struct
import threading
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.listing import File
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Repo
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.transport import Answer, Connections, TransportError

SEGMENT_BYTES = 128 << 20
_CHUNK_BYTES = 1 << 20
_TRIES = 6
_WAIT_SECONDS = (0.5, 1, 2, 4, 8)
_COUNT = struct.Struct("<Q")
# An address of the storage is signed for a limited time; after this the hub is asked again.
_ADDRESS_SECONDS = 240
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class Source(t.NamedTuple):
    """Where files come from. address: of a file by its name. headers: with the token, which is never to be shown."""

    name: str
    address: t.Callable[[str], str]
    headers: t.Mapping[str, str]
    retry_after_limit: int


class FetchError(FleetError):
    """A file cannot be fetched. details["kind"]: gated, not_there, refused, unreachable, wrong_content, too_many."""


def hasher(etag: str, size: int) -> t.Any:
    """What computes the hash that an etag is: SHA-256, or git's SHA-1 over a header and the content."""
    if len(etag) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size)  # noqa: S324 git's own hash, the only one that the hub tells


def hash_of(path: str, etag: str, size: int, progress: t.Callable[[int], None] = lambda count: None) -> str:
    """The hash of a file on this host, in the form of the etag."""
    digest = hasher(etag, size)
    buffer = bytearray(_CHUNK_BYTES)
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as handle:
        while count := handle.readinto(buffer):
            digest.update(view[:count])
            progress(count)
    return str(digest.hexdigest())


class Partial:
    """One file on its way: what is there, what is missing, and its hash as far as it is there without a gap."""

    def __init__(self, repo: Repo, file: File, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.file = file
        self.path = repo.partial(file)
        self._repo = repo
        self._begins = list(range(0, file.size, segment_bytes)) or [0]
        self._ends = [*self._begins[1:], file.size]
        self._table_path = self.path + ".segments"
        self._is_split = len(self._begins) > 1
        self._lock = threading.Lock()
        self._hashing = threading.Lock()
        self._at: list[int] = []
        self._reset_hash()
        self._handle = self._table = -1
        self.known_address: tuple[float, str] = (0.0, "")

    # ---- before, and how much is there

    def have(self) -> int:
        """Bytes that are there already. Changes nothing."""
        return sum(at - begin for at, begin in zip(self._read_positions(), self._begins))

    def _read_positions(self) -> list[int]:
        """Up to which byte each segment is there."""
        try:
            size = os.path.getsize(self.path)
        except OSError:
            return list(self._begins)
        if self._is_split:
            try:
                with open(self._table_path, "rb") as handle:
                    counts = [count for (count,) in _COUNT.iter_unpack(handle.read(_COUNT.size * len(self._begins)))]
            except (OSError, struct.error):
                counts = []
            if len(counts) == len(self._begins):
                # A table tells nothing of what the file has not.
                return [min(at, end, max(size, begin)) for at, end, begin in zip(counts, self._ends, self._begins)]
        # One that only grew, by this or by an older client of the hub.
        return [min(max(size, begin), end) for begin, end in zip(self._begins, self._ends)]

    def open(self) -> None:
        """Open the file, and what tells how far it is."""
        self._at = self._read_positions()
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._repo.access.apply(self.path)
        if self._is_split:
            # Before the file gets any byte beyond its first gap.
            self._table = os.open(self._table_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._table, b"".join(_COUNT.pack(at) for at in self._at), 0)
            os.ftruncate(self._table, _COUNT.size * len(self._at))
        elif os.path.getsize(self.path) > self.file.size:
            os.ftruncate(self._handle, self.file.size)

    def close(self) -> None:
        """Close what is open; the files stay."""
        for handle in (self._handle, self._table):
            if handle >= 0:
                os.close(handle)
        self._handle = self._table = -1

    # ---- writing

    def gaps(self) -> list[int]:
        """The segments that are not whole."""
        return [index for index, end in enumerate(self._ends) if self._at[index] < end]

    def span(self, segment: int) -> tuple[int, int]:
        """The bytes of a segment that are missing, from and to."""
        return self._at[segment], self._ends[segment]

    def write(self, segment: int, piece: memoryview) -> None:
        """The next bytes of a segment."""
        position = self._at[segment]
        # In order, so that a disk that is full keeps what fitted.
        written = 0
        while written < len(piece):
            written += os.pwrite(self._handle, piece[written:], position + written)
        self._at[segment] = position + written
        if self._is_split:
            os.pwrite(self._table, _COUNT.pack(self._at[segment]), _COUNT.size * segment)
        if self._hashing.acquire(blocking=False):
            try:
                if self._hashed == position:
                    self._digest.update(piece)
                    self._hashed += written
                else:
                    # The others' bytes, which are still in memory; little at a time, to keep the connection going.
                    self._hash_further(4)
            finally:
                self._hashing.release()

    def _hash_further(self, pieces: int) -> bool:
        """Hash on over what is there without a gap; whether there is more of it."""
        for _piece in range(pieces):
            end = self._gapless()
            if self._hashed >= end:
                return False
            piece = os.pread(self._handle, min(_CHUNK_BYTES, end - self._hashed), self._hashed)
            if not piece:
                return False
            self._digest.update(piece)
            self._hashed += len(piece)
        return True

    def _gapless(self) -> int:
        """Up to which byte everything is there, seen from where the hash is."""
        for at, end in zip(self._at, self._ends):
            if at < end:
                return at
        return self.file.size

    def _reset_hash(self) -> None:
        self._digest = hasher(self.file.etag, self.file.size)
        self._hashed = 0

    # ---- the end

    def finish(self) -> str:
        """Give the whole file its name when its hash is right. Otherwise nothing is left of it, and the hash told."""
        with self._hashing:
            while self._hash_further(64):
                continue
            found = str(self._digest.hexdigest())
        if found != self.file.etag:
            self.discard()
            return found
        self.close()
        os.replace(self.path, self._repo.blob(self.file))
        self._remove(self._table_path)
        return ""

    def discard(self) -> None:
        """Forget everything that is there."""
        self.close()
        self._remove(self.path)
        self._remove(self._table_path)
        self._reset_hash()
        self.known_address = (0.0, "")

    @staticmethod
    def _remove(path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return


class Fetcher:
    """Fetches files with several connections. progress: called with each number of bytes that arrived."""

    def __init__(
        self, repo: Repo, source: Source, connections: int, progress: t.Callable[[int], None], segment_bytes: int
    ) -> None:
        self._repo = repo
        self._source = source
        self._count = connections
        self._progress = progress
        self._segment_bytes = segment_bytes
        self._threads = threading.local()
        self._stop = threading.Event()
        self._every: list[Connections] = []

    def fetch(self, files: t.Sequence[File], finished: t.Callable[[File], None]) -> None:
        """All of these. Raises FetchError, the first that came up.

        finished: called in this thread for each file whose blob is there.
        """
        # The largest first: at the end, small ones keep all connections busy.
        partials = [Partial(self._repo, file, self._segment_bytes) for file in sorted(files, key=lambda one: -one.size)]
        with concurrent.futures.ThreadPoolExecutor(self._count) as pool:
            tasks = [pool.submit(self._file, partial, pool) for partial in partials]
            try:
                for task in concurrent.futures.as_completed(tasks):
                    finished(task.result())
            except BaseException:
                self._stop.set()
                for task in tasks:
                    task.cancel()
                raise
            finally:
                pool.shutdown(wait=True)
                for partial in partials:
                    partial.close()
                for connections in self._every:
                    connections.close()

    def _file(self, partial: Partial, pool: concurrent.futures.ThreadPoolExecutor) -> File:
        """One file to its end: twice when the hash was wrong the first time."""
        file, found = partial.file, ""
        for _time in range(2):
            self._go_on()
            partial.open()
            self._segments(partial, pool)
            self._go_on()
            found = partial.finish()
            if not found:
                return file
        raise FetchError(
            f"{self._source.name} gives {file.name} with a wrong content, twice: its hash is {found}, and by the hub's "
            f"list it must be {file.etag}. Nothing was kept of it. Ask another mirror, or look at what lies between.",
            kind="wrong_content",
            file=file.name,
        )

    def _go_on(self) -> None:
        """Raises FetchError when another file has failed, which is what the caller sees."""
        if self._stop.is_set():
            raise FetchError("Another file failed.", kind="stopped")

    def _segments(self, partial: Partial, pool: concurrent.futures.ThreadPoolExecutor) -> None:
        """All segments that are missing: this thread's share, and that of helpers as far as threads are free."""
        gaps = partial.gaps()
        taking = threading.Lock()

        def work() -> None:
            while not self._stop.is_set():
                with taking:
                    if not gaps:
                        return
                    segment = gaps.pop(0)
                self._segment(partial, segment)

        helpers = [pool.submit(work) for _helper in range(min(self._count, len(gaps)) - 1)]
        try:
            work()
        finally:
            # Helpers that did not get a thread are not waited for: the work is done.
            for helper in helpers:
                if not helper.cancel():
                    helper.result()

    def _segment(self, partial: Partial, segment: int) -> None:
        """The missing bytes of a segment, continued where an answer broke off."""
        tries = 0
        while not self._stop.is_set():
            begin, end = partial.span(segment)
            if begin >= end:
                return
            try:
                wait = self._once(partial, segment, begin, end)
                reason = "the answer ended early" if wait is None else f"it asks to wait {wait:.0f} s"
            except TransportError as error:
                wait, reason = None, str(error)
            if partial.span(segment)[0] > begin:
                tries = 0
                continue
            tries += 1
            if tries >= _TRIES:
                raise FetchError(
                    f"{partial.file.name} cannot be fetched from {self._source.name}: {reason}, {tries} times in a row "
                    f"without a further byte. Of its {partial.file.size} bytes {partial.have()} are kept; run this "
                    "again to go on from there.",
                    kind="unreachable",
                    file=partial.file.name,
                )
            self._stop.wait(_WAIT_SECONDS[min(tries, len(_WAIT_SECONDS)) - 1] if wait is None else wait)

    def _once(self, partial: Partial, segment: int, begin: int, end: int) -> float | None:
        """One answer, written as far as it goes. Seconds to wait when the hub asks for that."""
        asked, address = partial.known_address
        headers = {"Range": f"bytes={begin}-{end - 1}"} if end - begin < partial.file.size else {}
        if address and time.monotonic() - asked < _ADDRESS_SECONDS:
            answer = self._connections().get(address, headers)
            if answer.status not in (200, 206):
                partial.known_address = (0.0, "")
                answer = self._ask_hub(partial, headers)
        else:
            answer = self._ask_hub(partial, headers)
        if answer.status not in (200, 206):
            return self._refusal(answer, partial.file)
        skip = 0 if answer.status == 206 else begin
        if answer.status == 206 and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {begin}-"):
            raise TransportError("it gave other bytes than it was asked for")
        self._copy(partial, segment, answer, skip, end - begin)
        return None

    def _ask_hub(self, partial: Partial, headers: t.Mapping[str, str]) -> Answer:
        address = self._source.address(partial.file.name)
        asked = time.monotonic()
        answer = self._connections().get(address, {**self._source.headers, **headers})
        if answer.status in (200, 206) and answer.place != address:
            partial.known_address = (asked, answer.place)
        return answer

    def _copy(self, partial: Partial, segment: int, answer: Answer, skip: int, length: int) -> None:
        """The body without its first bytes, which a server sends that knows no ranges."""
        view = self._buffer()
        while length > 0 and not self._stop.is_set():
            count = answer.read_into(view[: min(len(view), skip or length)])
            if not count:
                return
            if skip:
                skip -= count
                continue
            try:
                partial.write(segment, view[:count])
            except OSError as error:
                raise FetchError(
                    f"{partial.path} cannot be written: {error.strerror}. What is there is kept; run this again to go "
                    "on from there.",
                    kind="unwritable",
                    file=partial.file.name,
                ) from error
            length -= count
            self._progress(count)

    def _refusal(self, answer: Answer, file: File) -> float:
        """Seconds to wait when a refusal may pass; raises FetchError otherwise."""
        answer.read(_CHUNK_BYTES)
        if answer.status in _PASSING:
            wait = retry_after(answer.headers.get("Retry-After"))
            if wait is None:
                raise TransportError(f"status {answer.status}")
            if wait > self._source.retry_after_limit:
                raise FetchError(
                    f"{self._source.name} asks to wait {wait:.0f} s before the next request (status {answer.status}), "
                    f"more than the {self._source.retry_after_limit} s of retry_after_limit. What is there is kept; "
                    "run this again later, or with a token, for which limits are higher.",
                    kind="too_many",
                )
            return wait
        raise refused(self._source.name, answer.status, answer.headers.get("X-Error-Code"), file.name)

    def _connections(self) -> Connections:
        if not hasattr(self._threads, "connections"):
            self._threads.connections = Connections()
            self._every.append(self._threads.connections)
        return t.cast(Connections, self._threads.connections)

    def _buffer(self) -> memoryview:
        if not hasattr(self._threads, "buffer"):
            self._threads.buffer = memoryview(bytearray(_CHUNK_BYTES))
        return t.cast(memoryview, self._threads.buffer)


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After: a number or a date (RFC 9110, 10.2.3). None for anything else."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def refused(hub: str, status: int, code: str | None, what: str) -> FetchError:
    """The error of a refusal that does not pass."""
    if status in (401, 403):
        return FetchError(
            f"{hub} gives {what} to none without the right token (status {status}). Ask for access on its page, and "
            "give a token that has it (token or token_file).",
            kind="gated",
        )
    if status == 404:
        kind = {"RevisionNotFound": "the revision", "EntryNotFound": "the file"}.get(code or "", "the repo")
        return FetchError(
            f"{hub} does not have {what} ({kind} is not there, status 404). Correct the name; a private repo needs a "
            "token.",
            kind="not_there",
        )
    return FetchError(f"{hub} refuses {what} with status {status}.", kind="refused", status=status)
