# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Transport of images to and from the Docker Engine. No decisions here."""

from __future__ import annotations

import contextlib
import io
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import connect, translated
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineRefused

with contextlib.suppress(ImportError):  # told by DOCKER_IMPORT_ERROR
    import docker.errors

# Seconds for one answer. An Engine writes a whole image to its disk before it sends or takes it.
ANSWER_SECONDS = 3600
_CHUNK_BYTES = 1 << 20


class Known(t.NamedTuple):
    """An image that an Engine has."""

    id: str
    names: tuple[str, ...]
    diff_ids: tuple[str, ...]
    architecture: str
    size: int


class ImageStore:
    """The images of this host's Docker Engine."""

    def __init__(self) -> None:
        """Raises EngineUnreachable when no Engine answers."""
        self._api = connect(ANSWER_SECONDS)
        with translated("read the facts of the Docker Engine"):
            self._info = dict(self._api.info())

    @property
    def root(self) -> str:
        """Where the Engine keeps its data, as a path of the Engine's host."""
        return str(self._info.get("DockerRootDir") or "/var/lib/docker")

    @property
    def shares_layers(self) -> bool:
        """Whether layers that the Engine has may be left out of what it loads: not with containerd's image store."""
        status = self._info.get("DriverStatus") or []
        return not any("io.containerd.snapshotter" in str(value) for pair in status for value in pair)

    def find(self, name: str) -> Known | None:
        """An image by name or ID, or None."""
        with translated(f"inspect the image {name}"):
            try:
                return _known(self._api.inspect_image(name))
            except docker.errors.ImageNotFound:
                return None

    def all(self) -> list[Known]:
        """All images that have a name or are built upon."""
        with translated("list the images"):
            listed = {str(one["Id"]) for one in self._api.images(all=True)}
        found = [self.find(one) for one in sorted(listed)]
        return [one for one in found if one is not None]

    def save(self, image: str) -> t.BinaryIO:
        """The archive of an image, as a stream that is read once."""
        with translated(f"save the image {image}"):
            chunks = self._api.get_image(image, chunk_size=_CHUNK_BYTES)
        return t.cast(t.BinaryIO, io.BufferedReader(_Stream(chunks, f"save the image {image}"), _CHUNK_BYTES))

    def load(self, stream: t.Iterator[bytes], image: str) -> None:
        """Have the Engine load an image from a stream."""
        with translated(f"load the image {image}"):
            for line in self._api.load_image(stream, quiet=True) or ():
                if isinstance(line, dict) and line.get("error"):
                    raise EngineRefused(f"Failed to load the image {image}: {line['error']}", reason=line["error"])

    def tag(self, image: str, name: str) -> None:
        """Give an image a name, which is taken from another image that has it."""
        repository, _colon, tag = name.rpartition(":")
        with translated(f"tag the image {image} as {name}"):
            self._api.tag(image, repository, tag, force=True)


class _Stream(io.RawIOBase):
    """Chunks of an answer as a file that is read once."""

    def __init__(self, chunks: t.Iterator[bytes], attempt: str) -> None:
        super().__init__()
        self._chunks = chunks
        self._attempt = attempt
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        while not self._rest:
            with translated(self._attempt):
                chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _known(inspect: t.Mapping[str, t.Any]) -> Known:
    return Known(
        str(inspect["Id"]),
        tuple(str(one) for one in [*(inspect.get("RepoTags") or ()), *(inspect.get("RepoDigests") or ())]),
        tuple(str(one) for one in (inspect.get("RootFS") or {}).get("Layers") or ()),
        str(inspect.get("Architecture") or ""),
        int(inspect.get("Size") or 0),
    )
