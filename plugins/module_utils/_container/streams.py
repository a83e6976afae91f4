# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Answers of the Docker Engine that go on: logs and events, read as they come and without much work for each line.

The SDK reads a log frame by frame, with four system calls and much Python for each line; a flooded log then costs a
whole core. Here a piece is what the Engine has sent at once.
"""

from __future__ import annotations

import datetime
import struct
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.progress import Usage

# Bytes asked for at once, and seconds for the Engine's answer to begin.
_PIECE_BYTES = 65536
_BEGIN_SECONDS = 30
# The head of a frame of a log: stream, three zeros, length (Docker Engine API 1.41, ContainerAttach).
_HEAD = 8
_NANO = 1000000000

Translated = t.Callable[[str], t.ContextManager[None]]


class Stream:
    """An answer that goes on; iterating gives its pieces as bytes."""

    def __init__(
        self,
        api: t.Any,
        path: str,
        query: t.Mapping[str, str],
        framed: bool,
        translated: Translated,
        at_most: float | None = None,
    ) -> None:
        """
        api: the SDK's client; framed: whether its pieces are frames of a log; translated: for errors while reading.
        at_most: seconds for the whole answer, after which reading it is an error; None for one that has no end.

        Raises what the SDK raises when the Engine refuses.
        """
        self._path = path
        self._framed = framed
        self._translated = translated
        self._until = None if at_most is None else time.monotonic() + at_most
        self._response = api.get(
            f"{api.base_url}/v{api.api_version}/{path}", params=query, stream=True, timeout=(_BEGIN_SECONDS, at_most)
        )
        self._response.raise_for_status()

    def __iter__(self) -> t.Iterator[bytes]:
        with self._translated(f"read {self._path}"):
            pieces = self._bounded(self._response.raw.stream(_PIECE_BYTES, decode_content=False))
            yield from _unframed(pieces) if self._framed else pieces

    def _bounded(self, pieces: t.Iterable[bytes]) -> t.Iterator[bytes]:
        """The pieces, while there is time; between two of them the connection itself waits no longer than at_most."""
        for piece in pieces:
            if self._until is not None and time.monotonic() > self._until:
                raise TimeoutError("it takes too long")
            yield piece

    def close(self) -> None:
        """End it; one who waits for its next piece in another thread is let go where the libraries can do that."""
        # urllib3 2.3 and later
        shutdown = getattr(self._response.raw, "shutdown", None)
        if shutdown is not None:
            try:
                shutdown()
            # it has ended already
            except (OSError, ValueError, RuntimeError):
                return


def _unframed(pieces: t.Iterable[bytes]) -> t.Iterator[bytes]:
    """What the frames of a log hold. A piece is nearly always one whole frame."""
    rest = b""
    for piece in pieces:
        if not rest and len(piece) == _HEAD + _length(piece):
            yield piece[_HEAD:]
            continue
        rest += piece
        found = []
        while len(rest) >= _HEAD and len(rest) >= _HEAD + _length(rest):
            size = _HEAD + _length(rest)
            found.append(rest[_HEAD:size])
            rest = rest[size:]
        if found:
            yield b"".join(found)


def _length(frame: bytes) -> int:
    """The length that the head of a frame tells; -1 when the head is not there yet."""
    return int(struct.unpack_from(">I", frame, 4)[0]) if len(frame) >= _HEAD else -1


def read_json(api: t.Any, path: str, query: t.Mapping[str, str]) -> t.Any:
    """One answer of the Engine as data; None when it refuses."""
    answer = api.get(f"{api.base_url}/v{api.api_version}/{path}", params=query, timeout=_BEGIN_SECONDS)
    return answer.json() if answer.status_code == 200 else None


def docker_time(text: str) -> str:
    """The Engine's RFC 3339 time as the seconds that it takes in queries, to its nanosecond."""
    whole, _point, fraction = text.rstrip("Z").partition(".")
    seconds = datetime.datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)
    return f"{int(seconds.timestamp())}.{fraction or '0':0<9}"


def observed_usage(stats: t.Any) -> Usage | None:
    """The Engine's statistics of a container, of cgroup v1 or v2, as what counts for progress. Pure."""
    if not isinstance(stats, dict):
        return None
    cpu = ((stats.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage") or 0
    disk = (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    networks = (stats.get("networks") or {}).values()
    return Usage(
        cpu_seconds=cpu / _NANO,
        io_bytes=sum(int(row.get("value") or 0) for row in disk if str(row.get("op")).lower() in ("read", "write")),
        received_bytes=sum(int(network.get("rx_bytes") or 0) for network in networks),
        memory_bytes=int((stats.get("memory_stats") or {}).get("usage") or 0),
    )
