# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The manifest of a bundle: what a bundle holds, as data. Pure; docs/bundle.schema.json tells the format to others.

Content is named by its SHA-256. `blobs` are the files of the bundle, `cut` are contents that were too large for one
file and are the concatenation of blobs. Images, snapshots and files refer to either. A blob whose medium is null is
not in the bundle: it is a delta's, and the far side has it.

The text of a manifest follows from what it says: keys are sorted, and `digest` is the SHA-256 of the text without it.
So a bundle made twice is the same, and a changed bit is found even where nothing is signed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import names
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub import cache

FORMAT = "gpufleet-bundle"
VERSION = 1
FILE = "manifest.json"
SIGNATURE = "manifest.json.sig"
# A bundle of 100 000 files has a manifest of about 30 MB.
MANIFEST_BYTES = 1 << 26
KINDS = ("collection", "dashboard", "file", "wheel")

_HEX = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAMED_FAULTS = 10


class BadManifest(FleetError):
    """The manifest cannot be used. details["faults"]: one sentence for each thing that is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Blob:
    """A file of the bundle. size: bytes. medium: number from 1, or None when the far side has it."""

    size: int
    medium: int | None


@dataclasses.dataclass(frozen=True)
class Cut:
    """Content that lies in several blobs. size: bytes. pieces: their SHA-256, in order."""

    size: int
    pieces: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of an image: the content as it was saved, and the SHA-256 of it unpacked, by which an Engine knows it."""

    content: str
    diff_id: str


@dataclasses.dataclass(frozen=True)
class Image:
    """An image of containers. manifest: content that is its OCI manifest, where the Engine gave one."""

    config: str
    manifest: str | None
    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    architecture: str

    def ids(self) -> tuple[str, ...]:
        """The IDs that Engines may give it: of the configuration, or of the manifest with containerd's store."""
        return tuple("sha256:" + one for one in (self.config, self.manifest) if one)

    def diff_ids(self) -> list[str]:
        """Its layers as an Engine lists them."""
        return ["sha256:" + layer.diff_id for layer in self.layers]


@dataclasses.dataclass(frozen=True)
class SnapshotFile:
    """A file of a snapshot. etag: the name of its blob in the Hugging Face cache."""

    path: str
    content: str
    etag: str


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One commit of a repo of the hub."""

    repo_id: str
    commit: str
    refs: tuple[str, ...]
    files: tuple[SnapshotFile, ...]


@dataclasses.dataclass(frozen=True)
class File:
    """A file that is neither of an image nor of a snapshot. path: below the folder of its kind."""

    kind: str
    path: str
    content: str
    executable: bool


@dataclasses.dataclass(frozen=True)
class Manifest:
    """All that a bundle holds."""

    name: str
    media: int
    blobs: t.Mapping[str, Blob]
    cut: t.Mapping[str, Cut]
    images: tuple[Image, ...]
    snapshots: tuple[Snapshot, ...]
    files: tuple[File, ...]

    def pieces(self, content: str) -> tuple[str, ...]:
        """The blobs of a content, in order."""
        return self.cut[content].pieces if content in self.cut else (content,)

    def size(self, content: str) -> int:
        """Bytes of a content."""
        return self.cut[content].size if content in self.cut else self.blobs[content].size

    def elsewhere(self, content: str) -> bool:
        """Whether a content is not in the bundle, because the far side has it."""
        return any(self.blobs[piece].medium is None for piece in self.pieces(content))

    def users(self) -> dict[str, list[str]]:
        """For each content, what it is of, in words."""
        found: dict[str, list[str]] = {}
        for image in self.images:
            label = image.names[0] if image.names else image.ids()[0]
            for content in image_contents(image):
                found.setdefault(content, []).append(f"image {label}")
        for snapshot in self.snapshots:
            for file in snapshot.files:
                found.setdefault(file.content, []).append(f"{file.path} of {snapshot.repo_id}")
        for plain in self.files:
            found.setdefault(plain.content, []).append(f"{plain.kind} {plain.path}")
        return found

    def users_of_blobs(self) -> dict[str, list[str]]:
        """For each blob, what it is of, in words."""
        found: dict[str, list[str]] = {}
        for content, users in self.users().items():
            for number, piece in enumerate(self.pieces(content), 1):
                part = f" (piece {number})" if content in self.cut else ""
                found.setdefault(piece, []).extend(user + part for user in users)
        return found


def image_contents(image: Image) -> list[str]:
    """The contents of an image: configuration, manifest, layers; each once."""
    found = [image.config, *([image.manifest] if image.manifest else []), *(layer.content for layer in image.layers)]
    return list(dict.fromkeys(found))


def encode(manifest: Manifest) -> bytes:
    """The text of a manifest."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "name": manifest.name,
        "media": manifest.media,
        "blobs": {key: dataclasses.asdict(blob) for key, blob in manifest.blobs.items()},
        "cut": {key: {"size": cut.size, "pieces": list(cut.pieces)} for key, cut in manifest.cut.items()},
        "images": [dataclasses.asdict(one) for one in sorted(manifest.images, key=lambda one: (one.config, one.names))],
        "snapshots": [
            {**dataclasses.asdict(one), "files": sorted(map(dataclasses.asdict, one.files), key=lambda f: f["path"])}
            for one in sorted(manifest.snapshots, key=lambda one: (one.repo_id, one.commit))
        ],
        "files": [dataclasses.asdict(one) for one in sorted(manifest.files, key=lambda one: (one.kind, one.path))],
    }
    document["digest"] = hashlib.sha256(_text(document)).hexdigest()
    return _text(document)


def decode(text: bytes, where: str) -> Manifest:
    """The manifest of a text, checked. Raises BadManifest with everything that is wrong with it."""
    try:
        document = json.loads(text.decode("ascii"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _bad(where, [f"it is no JSON of ASCII: {error}"]) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _bad(where, [f"it is not of the format {FORMAT}: this is no bundle"])
    if document.get("version") != VERSION:
        raise _bad(
            where,
            [f"its version is {str(document.get('version'))[:40]}, this collection reads {VERSION}: use a newer one"],
        )
    digest = document.pop("digest", None)
    if digest != hashlib.sha256(_text(document)).hexdigest():
        raise _bad(where, ["it does not match its own digest: it was damaged or changed"])
    if _text({**document, "digest": digest}) != text:
        raise _bad(where, ["it is not written as the format says: it was damaged or changed"])
    reader = _Reader()
    manifest = reader.manifest(document)
    if not reader.faults:
        reader.faults += _inner_faults(manifest)
    if reader.faults:
        raise _bad(where, reader.faults)
    return manifest


def _text(document: t.Mapping[str, t.Any]) -> bytes:
    return (json.dumps(document, sort_keys=True, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def _bad(where: str, faults: list[str]) -> BadManifest:
    more = f" and {len(faults) - _NAMED_FAULTS} more" if len(faults) > _NAMED_FAULTS else ""
    return BadManifest(
        f"The manifest {where} cannot be used, and nothing was changed: {'; '.join(faults[:_NAMED_FAULTS])}{more}. "
        "Get the bundle again from where it was made.",
        faults=faults,
    )


def _unique(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


class _Reader:
    """Reads a document into a Manifest, and collects what is wrong with its form."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def manifest(self, document: t.Mapping[str, t.Any]) -> Manifest:
        """The manifest; only to be used when there are no faults."""
        self._keys(document, "blobs cut files format images media name snapshots version", "it")
        return Manifest(
            name=self._match(_NAME, document.get("name"), "name"),
            media=self._number(document.get("media"), "media", least=1),
            blobs={
                self._hex(key, "a key of blobs"): self._blob(value, f"blob {names.shown(key)}")
                for key, value in self._dict(document.get("blobs"), "blobs").items()
            },
            cut={
                self._hex(key, "a key of cut"): self._cut(value, f"cut {names.shown(key)}")
                for key, value in self._dict(document.get("cut"), "cut").items()
            },
            images=tuple(self._image(one) for one in self._list(document.get("images"), "images")),
            snapshots=tuple(self._snapshot(one) for one in self._list(document.get("snapshots"), "snapshots")),
            files=tuple(self._file(one) for one in self._list(document.get("files"), "files")),
        )

    def _blob(self, value: t.Any, where: str) -> Blob:
        self._keys(value, "medium size", where)
        value = self._dict(value, where)
        medium = value.get("medium")
        return Blob(
            self._number(value.get("size"), f"the size of {where}"),
            None if medium is None else self._number(medium, f"the medium of {where}", least=1),
        )

    def _cut(self, value: t.Any, where: str) -> Cut:
        self._keys(value, "pieces size", where)
        value = self._dict(value, where)
        pieces = self._list(value.get("pieces"), f"the pieces of {where}")
        return Cut(
            self._number(value.get("size"), f"the size of {where}"),
            tuple(self._hex(one, f"a piece of {where}") for one in pieces),
        )

    def _image(self, value: t.Any) -> Image:
        self._keys(value, "architecture config layers manifest names", "an image")
        value = self._dict(value, "an image")
        given = [self._string(one, "a name of an image") for one in self._list(value.get("names"), "names")]
        self.faults += [
            f"image '{names.shown(one)}': {names.reference_fault(one)}" for one in given if names.reference_fault(one)
        ]
        layers = []
        for layer in self._list(value.get("layers"), "the layers of an image"):
            self._keys(layer, "content diff_id", "a layer")
            layer = self._dict(layer, "a layer")
            layers.append(Layer(self._hex(layer.get("content"), "a layer"), self._hex(layer.get("diff_id"), "a layer")))
        manifest = value.get("manifest")
        return Image(
            config=self._hex(value.get("config"), "the configuration of an image"),
            manifest=None if manifest is None else self._hex(manifest, "the manifest of an image"),
            names=tuple(given),
            layers=tuple(layers),
            architecture=self._string(value.get("architecture"), "the architecture of an image"),
        )

    def _snapshot(self, value: t.Any) -> Snapshot:
        self._keys(value, "commit files refs repo_id", "a snapshot")
        value = self._dict(value, "a snapshot")
        repo_id = self._string(value.get("repo_id"), "a repo id")
        try:
            cache.validate_repo_id(repo_id)
        except cache.HubCacheError as error:
            self.faults.append(str(error))
        refs = [self._string(one, "a ref") for one in self._list(value.get("refs"), "the refs of a snapshot")]
        files = []
        for file in self._list(value.get("files"), f"the files of {names.shown(repo_id)}"):
            self._keys(file, "content etag path", f"a file of {names.shown(repo_id)}")
            file = self._dict(file, "a file of a snapshot")
            path = self._string(file.get("path"), "a path")
            where = f"'{names.shown(path)}' of {names.shown(repo_id)}"
            files.append(
                SnapshotFile(
                    path,
                    self._hex(file.get("content"), f"the content of {where}"),
                    self._match(_ETAG, file.get("etag"), f"the etag of {where}"),
                )
            )
        where = f"snapshot {names.shown(repo_id)}: "
        self.faults += [where + fault for fault in names.set_faults([file.path for file in files])]
        self.faults += [where + "ref " + fault for fault in names.set_faults(refs)]
        commit = self._match(_COMMIT, value.get("commit"), f"the commit of {names.shown(repo_id)}")
        return Snapshot(repo_id, commit, tuple(refs), tuple(files))

    def _file(self, value: t.Any) -> File:
        self._keys(value, "content executable kind path", "a file")
        value = self._dict(value, "a file")
        kind, path = self._string(value.get("kind"), "a kind"), self._string(value.get("path"), "a path")
        if kind not in KINDS:
            self.faults.append(f"'{names.shown(path)}' is of the kind '{names.shown(kind)}'")
        executable = value.get("executable")
        if not isinstance(executable, bool):
            self.faults.append(f"executable of '{names.shown(path)}' is neither true nor false")
            executable = False
        return File(kind, path, self._hex(value.get("content"), f"the content of '{names.shown(path)}'"), executable)

    def _keys(self, value: t.Any, wanted: str, where: str) -> None:
        if isinstance(value, dict) and sorted(value) != wanted.split():
            self.faults.append(f"{where} has the keys {names.shown(' '.join(sorted(value)))}, not {wanted}")

    def _dict(self, value: t.Any, where: str) -> dict[str, t.Any]:
        return self._typed(value, dict, {}, where)

    def _list(self, value: t.Any, where: str) -> list[t.Any]:
        return self._typed(value, list, [], where)

    def _string(self, value: t.Any, where: str) -> str:
        return self._typed(value, str, "", where)

    def _number(self, value: t.Any, where: str, least: int = 0) -> int:
        number = self._typed(value, int, least, where)
        if isinstance(value, bool) or number < least:
            self.faults.append(f"{where} is {names.shown(str(value))}, {least} is the least")
        return number

    def _typed(self, value: t.Any, kind: type, instead: t.Any, where: str) -> t.Any:
        if isinstance(value, kind):
            return value
        self.faults.append(f"{where} is no {kind.__name__}")
        return instead

    def _hex(self, value: t.Any, where: str) -> str:
        return self._match(_HEX, value, where)

    def _match(self, pattern: re.Pattern[str], value: t.Any, where: str) -> str:
        text = self._string(value, where)
        if not pattern.fullmatch(text):
            self.faults.append(f"{where} is '{names.shown(text)}', not of the form {pattern.pattern}")
        return text


def _inner_faults(manifest: Manifest) -> list[str]:
    """What does not fit together in a manifest of the right form."""
    found = []
    for content, cut in manifest.cut.items():
        gone = [piece for piece in cut.pieces if piece not in manifest.blobs]
        if gone or not cut.pieces:
            found.append(f"cut {content} has pieces that are no blobs, or none")
        elif sum(manifest.blobs[piece].size for piece in cut.pieces) != cut.size:
            found.append(f"the pieces of {content} do not add up to its size")
        if content in manifest.blobs:
            found.append(f"{content} is cut and a blob")
    users = manifest.users()
    found += [
        f"{user[0]} refers to {content}, which is not in the bundle"
        for content, user in users.items()
        if content not in manifest.blobs and content not in manifest.cut
    ]
    if found:
        return found
    needed = {piece for content in users for piece in manifest.pieces(content)}
    found += [f"blob {blob} belongs to nothing" for blob in sorted(set(manifest.blobs) - needed)]
    found += [f"cut {content} belongs to nothing" for content in sorted(set(manifest.cut) - set(users))]
    found += [
        f"blob {key} is on medium {blob.medium} of {manifest.media}"
        for key, blob in manifest.blobs.items()
        if blob.medium is not None and blob.medium > manifest.media
    ]
    for what, values in (
        ("snapshot", [(one.repo_id, one.commit) for one in manifest.snapshots]),
        ("image", [one.config for one in manifest.images]),
        ("name of an image", [name for one in manifest.images for name in one.names]),
        ("ref", [(one.repo_id, ref) for one in manifest.snapshots for ref in one.refs]),
    ):
        if len(set(values)) != len(values):
            found.append(f"a {what} is there twice")
    for kind in KINDS:
        paths = [file.path for file in manifest.files if file.kind == kind]
        found += [f"{kind} {fault}" for fault in names.set_faults(paths)]
    repos = {one.repo_id.casefold(): one.repo_id for one in manifest.snapshots}
    found += [
        f"repo {one.repo_id} collides with {repos[one.repo_id.casefold()]}"
        for one in manifest.snapshots
        if repos[one.repo_id.casefold()] != one.repo_id
    ]
    etags: dict[tuple[str, str], str] = {}
    for snapshot in manifest.snapshots:
        for file in snapshot.files:
            if etags.setdefault((snapshot.repo_id, file.etag), file.content) != file.content:
                found.append(f"etag {file.etag} of {snapshot.repo_id} stands for two contents")
            if len(file.etag) == len(file.content) and file.etag != file.content:
                found.append(f"{file.path} of {snapshot.repo_id} has another SHA-256 than its etag says")
    return found
