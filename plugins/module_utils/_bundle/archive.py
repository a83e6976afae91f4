# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The tar stream in which an Engine saves and loads images: taken apart, and put together again. No copy is made of it.

Both layouts of `docker save` are read: that up to Docker 24 (<id>/layer.tar) and that since Docker 25
(blobs/sha256/<digest>, an OCI layout); moby 20.10.24 and 28.2.2, image/tarexport/save.go. manifest.json is in both and
names configuration and layers. The OCI manifest of Docker 25 to 27 lists no layers (ib., `Layers: foreign`), so it is
kept only where it is whole. What is written is an OCI layout with that manifest.json: image/tarexport/load.go reads
the one, containerd's importer the other. load.go asks for a layer's file only when it does not have the layer, so
layers that it has can be left out.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tarfile
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import manifest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

BUFFER_BYTES = 1 << 20
# Members up to this size are kept in memory until it is known what they are.
SMALL_BYTES = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # gzip, zstd
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


class BadArchive(FleetError):
    """What the Engine sent is no image that can be kept."""


class Part(t.NamedTuple):
    """A member that was kept. start: its first bytes."""

    sha256: str
    size: int
    start: bytes


Keep = t.Callable[[int, t.Iterator[bytes]], str]


def take_apart(stream: t.BinaryIO, keep: Keep, names: t.Sequence[str], image: str) -> manifest.Image:
    """The image of a stream that holds one; its contents are given to keep(size, chunks), which returns their SHA-256.

    image: what it is called in messages. Raises BadArchive for a stream that ends early or does not match itself.
    """
    small: dict[str, bytes] = {}
    large: dict[str, Part] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=BUFFER_BYTES) as archive:
            for member in archive:
                name = posixpath.normpath(member.name)
                if member.issym():
                    links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                elif member.islnk():
                    links[name] = posixpath.normpath(member.linkname)
                elif member.isreg():
                    content = t.cast(t.IO[bytes], archive.extractfile(member))  # None for what is no file only
                    if member.size <= SMALL_BYTES:
                        small[name] = content.read()
                    else:
                        first = content.read(4)
                        sha256 = keep(member.size, _chunks(first, content))
                        large[name] = Part(sha256, member.size, first)
    except (tarfile.TarError, EOFError) as error:
        raise BadArchive(f"The Engine's archive of {image} broke off: {error}. Run it again.") from error
    taken = _Taken(small, large, links, keep, image)
    return taken.image(tuple(names))


class _Taken:
    """The members of a stream by name."""

    def __init__(
        self, small: dict[str, bytes], large: dict[str, Part], links: dict[str, str], keep: Keep, image: str
    ) -> None:
        self._small, self._large, self._links, self._keep, self._image = small, large, links, keep, image

    def image(self, names: tuple[str, ...]) -> manifest.Image:
        try:
            (listed,) = json.loads(self._text("manifest.json"))
            config_text = self._text(listed["Config"])
            config = json.loads(config_text)
            diff_ids = [str(one) for one in config["rootfs"]["diff_ids"]]
            paths = [str(one) for one in listed["Layers"]]
            architecture = str(config.get("architecture", ""))
        except (ValueError, KeyError, TypeError) as error:
            raise BadArchive(
                f"The Engine's archive of {self._image} is not of a known layout: {type(error).__name__}: {error}"
            ) from error
        if len(diff_ids) != len(paths) or not all(one.startswith("sha256:") for one in diff_ids):
            raise BadArchive(f"The Engine's archive of {self._image} has layers other than its configuration says")
        layers = []
        for path, diff_id in zip(paths, diff_ids):
            part = self._part(path)
            if "sha256:" + part.sha256 != diff_id and not part.start.startswith(_COMPRESSED):
                raise BadArchive(
                    f"The Engine's archive of {self._image} has a layer {path} whose SHA-256 is {part.sha256}, its "
                    f"configuration says {diff_id}: the Engine's store is damaged. Remove the image and pull it again."
                )
            layers.append(manifest.Layer(part.sha256, diff_id[7:]))
        kept = self._keep(len(config_text), iter([config_text]))
        return manifest.Image(kept, self._manifest(kept, layers), names, tuple(layers), architecture)

    def _manifest(self, config: str, layers: t.Sequence[manifest.Layer]) -> str | None:
        """The image's own OCI manifest, when the archive has it and it is whole."""
        try:
            described = json.loads(self._text("index.json"))["manifests"]
            for one in described:
                text = self._text("blobs/sha256/" + one["digest"][7:])
                found = json.loads(text)
                digests = [layer["digest"] for layer in found.get("layers", ())]
                if found.get("config", {}).get("digest") == "sha256:" + config and digests == [
                    "sha256:" + layer.content for layer in layers
                ]:
                    return self._keep(len(text), iter([text]))
        except (ValueError, KeyError, TypeError, BadArchive):
            return None  # the older layout has none, and the image is whole without it
        return None

    def _resolved(self, name: str) -> str:
        name = posixpath.normpath(name)
        for _step in range(len(self._links) + 1):
            if name not in self._links:
                return name
            name = self._links[name]
        raise BadArchive(f"The Engine's archive of {self._image} has links in a circle at {name}")

    def _text(self, name: str) -> bytes:
        resolved = self._resolved(name)
        if resolved not in self._small:
            raise BadArchive(f"The Engine's archive of {self._image} lacks {name}")
        return self._small[resolved]

    def _part(self, name: str) -> Part:
        resolved = self._resolved(name)
        if resolved not in self._large:
            text = self._text(name)
            sha256 = self._keep(len(text), iter([text]))
            self._large[resolved] = Part(sha256, len(text), text[:4])
        return self._large[resolved]


def _chunks(first: bytes, content: t.IO[bytes]) -> t.Iterator[bytes]:
    chunk = first
    while chunk:
        yield chunk
        chunk = content.read(BUFFER_BYTES)


class Content(t.NamedTuple):
    """A content that is put into a stream. size: bytes. chunks: makes its bytes."""

    sha256: str
    size: int
    chunks: t.Callable[[], t.Iterator[bytes | memoryview]]


def put_together(
    image: manifest.Image, tags: t.Sequence[str], size: t.Callable[[str], int], contents: t.Sequence[Content]
) -> t.Iterator[bytes]:
    """The stream that makes an Engine load an image. contents: those of the image that go along, each once.

    size: bytes of any content of the image. Whole OCI layouts need all layers among the contents; what an Engine reads
    of a stream without some is manifest.json.
    """
    oci = None if image.manifest else _oci_manifest(image, size)
    digest = image.manifest or hashlib.sha256(oci or b"").hexdigest()
    length = len(oci) if oci is not None else size(digest)
    described = {"mediaType": _OCI_MANIFEST, "digest": f"sha256:{digest}", "size": length}
    index = {
        "schemaVersion": 2,
        "mediaType": _OCI_INDEX,
        "manifests": [{**described, "annotations": {"io.containerd.image.name": _full_name(tag)}} for tag in tags]
        or [described],
    }
    listed = {
        "Config": _place(image.config),
        "RepoTags": list(tags),
        "Layers": [_place(layer.content) for layer in image.layers],
    }
    texts = {"oci-layout": {"imageLayoutVersion": "1.0.0"}, "index.json": index, "manifest.json": [listed]}
    for name, value in texts.items():
        yield from _member(name, json.dumps(value).encode("utf-8"))
    if oci is not None:
        yield from _member(_place(digest), oci)
    for content in contents:
        yield _header(_place(content.sha256), content.size)
        for chunk in content.chunks():
            yield bytes(chunk)
        yield bytes(-content.size % _BLOCK)
    yield bytes(2 * _BLOCK)


def _oci_manifest(image: manifest.Image, size: t.Callable[[str], int]) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": _OCI_MANIFEST,
        "config": {"mediaType": _OCI_CONFIG, "digest": f"sha256:{image.config}", "size": size(image.config)},
        "layers": [
            {
                "mediaType": _OCI_LAYER + ("" if layer.content == layer.diff_id else "+gzip"),
                "digest": f"sha256:{layer.content}",
                "size": size(layer.content),
            }
            for layer in image.layers
        ],
    }
    return json.dumps(document, sort_keys=True).encode("ascii")


def _full_name(tag: str) -> str:
    """A name with its registry, as containerd wants it (distribution/reference, normalize.go)."""
    first, slash, _rest = tag.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return tag
    return "docker.io/" + (tag if slash else f"library/{tag}")


def _place(sha256: str) -> str:
    return f"blobs/sha256/{sha256}"


def _member(name: str, content: bytes) -> t.Iterator[bytes]:
    yield _header(name, len(content)) + content + bytes(-len(content) % _BLOCK)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)
