# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Makes a bundle: what is asked for is gathered, what is lacking is written, then the manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import (
    archive,
    disk,
    engine,
    files,
    inventory,
    manifest,
    media,
    names,
    report,
    signature,
    sources,
    writer,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError, Refused


@dataclasses.dataclass(frozen=True)
class Order:
    """What a bundle is to hold, and where. images: names or IDs. inventory: file of the far side, for a delta."""

    dest: str
    name: str
    images: t.Sequence[str]
    snapshots: t.Sequence[t.Mapping[str, t.Any]]
    files: t.Sequence[t.Mapping[str, t.Any]]
    hub_cache: str
    inventory: str | None
    media_bytes: int
    file_bytes: int
    sign_key: str | None
    state_path: str | None
    reserve_bytes: int
    workers: int
    rehash: bool


class _Asked(t.NamedTuple):
    """An image of the Engine, and the names by which it was asked for."""

    known: engine.Known
    names: tuple[str, ...]

    @property
    def label(self) -> str:
        return self.names[0] if self.names else self.known.id


def create(order: Order, store: engine.ImageStore | None, check: bool) -> dict[str, t.Any]:
    """Make the bundle, or tell what would be done. store: needed when images are asked for. Raises FleetError."""
    state = order.state_path or order.dest.rstrip("/") + ".state.json"
    return _Maker(order, store, files.Receipts(state, order.rehash)).run(check)


class _Maker:
    def __init__(self, order: Order, store: engine.ImageStore | None, receipts: files.Receipts) -> None:
        self._order = order
        self._store = store
        self._receipts = receipts
        self._writer = writer.Writer(os.path.abspath(order.dest), order.media_bytes, order.file_bytes, receipts)
        self._far = inventory.read(order.inventory) if order.inventory else inventory.Inventory({}, [])

    def run(self, check: bool) -> dict[str, t.Any]:
        asked = self._asked()
        gathered = sources.gather(
            self._order.hub_cache, self._order.snapshots, self._order.files, self._receipts, self._order.workers
        )
        if not (asked or gathered.snapshots or gathered.files):
            raise Refused("The bundle would be empty: give images, snapshots or files.")
        self._writer.look(self._order.workers)
        lacking = [
            one
            for sha256, one in sorted(gathered.paths.items(), key=lambda pair: -pair[1].size)
            if sha256 not in self._far.blobs and not self._writer.has(sha256)
        ]
        images = {one.known.id: self._remembered(one) for one in asked}
        unsaved = [one for one in asked if images[one.known.id] is None]
        old = self._old_text()
        self._check_disk(lacking, unsaved)
        if self._order.sign_key and (lacking or unsaved):
            # A key that is not there, or that asks for a passphrase, is found before terabytes are copied.
            signature.sign(b"trial", self._order.sign_key)
        result: dict[str, t.Any] = {
            "notes": gathered.notes,
            "to_write": [{"path": one.path, "bytes": one.size} for one in lacking]
            + [{"path": f"image {one.label}", "bytes": one.known.size} for one in unsaved],
        }
        if check and (lacking or unsaved):
            after = report.plan_lines(gathered, [one.label for one in asked])
            self._receipts_saved(check)
            return {**result, "changed": True, "written_bytes": 0, "diff": _diff(report.lines_of(old), after)}
        try:
            self._write(lacking)
            for one in unsaved:
                images[one.known.id] = self._saved(one)
        finally:
            self._receipts_saved(check)
        wanted = self._manifest(
            gathered,
            [dataclasses.replace(t.cast(manifest.Image, images[one.known.id]), names=one.names) for one in asked],
        )
        text = manifest.encode(wanted)
        manifest.decode(text, "to be written")
        stale = self._writer.stale(wanted)
        signed, resign = self._signature(text, old)
        rewrite = old is None or text != old or resign or self._lacks_manifest(wanted)
        if not check:
            if rewrite:
                self._writer.finish(text, signed, wanted)
            self._writer.remove(stale)
            self._receipts_saved(check)
        return {
            **result,
            **report.summary(wanted),
            "changed": bool(lacking or unsaved or rewrite or stale),
            "digest": hashlib.sha256(text).hexdigest(),
            "signed": signed is not None or bool(check and self._order.sign_key),
            "written_blobs": self._writer.written_blobs,
            "written_bytes": self._writer.written_bytes,
            "removed": stale,
            "diff": _diff(report.lines_of(old), report.lines(wanted)),
        }

    def _asked(self) -> list[_Asked]:
        """The images at the Engine, each once. Raises Refused with all that it does not have."""
        faults = []
        found: dict[str, _Asked] = {}
        for name in dict.fromkeys(self._order.images):
            is_id = name.startswith("sha256:")
            fault = None if is_id else names.reference_fault(name)
            known = None if fault or self._store is None else self._store.find(name)
            if fault or known is None:
                faults.append(f"{names.shown(name)}: {fault or 'the Docker Engine of this host does not have it'}")
                continue
            last = name.rpartition("/")[2]
            full = name if ":" in last or "@" in last else name + ":latest"
            before = found.get(known.id, _Asked(known, ()))
            found[known.id] = _Asked(known, before.names + (() if is_id or full in before.names else (full,)))
        if faults:
            raise Refused(
                f"The bundle cannot be made, and nothing was written: {'; '.join(faults)}. Pull them first (docker "
                "pull).",
                faults=faults,
            )
        return list(found.values())

    def _remembered(self, asked: _Asked) -> manifest.Image | None:
        """The image as it was saved before, when all that the bundle needs of it is there."""
        known = dict(self._receipts.other.get("images", {})).get(asked.known.id)
        if not known:
            return None
        image = manifest.Image(
            known["config"],
            known["manifest"],
            asked.names,
            tuple(manifest.Layer(*pair) for pair in known["layers"]),
            known["architecture"],
        )
        there = self._elsewhere(image)
        needed = manifest.image_contents(image)
        whole = all(one in self._writer.sizes if one in there else self._writer.has(one) for one in needed)
        return image if whole else None

    def _elsewhere(self, image: manifest.Image) -> set[str]:
        """The contents of an image that the far side has."""
        count = self._far.shared(image.diff_ids())
        return {layer.content for layer in image.layers[:count]} - {layer.content for layer in image.layers[count:]}

    def _check_disk(self, lacking: t.Sequence[sources.Found], unsaved: t.Sequence[_Asked]) -> None:
        need = sum(one.size for one in lacking) + sum(one.known.size for one in unsaved)
        if need:
            disk.need([disk.Need(self._order.dest, need, "the bundle")], self._order.reserve_bytes)

    def _write(self, lacking: t.Sequence[sources.Found]) -> None:
        results = files.in_parallel(
            lambda one: self._writer.keep_file(one.path, one.sha256), lacking, self._order.workers
        )
        faults = [str(one) for one in results if isinstance(one, FleetError)]
        if faults:
            raise Refused(
                f"The bundle was not finished: {'; '.join(faults)}. What was written is used by the next run.",
                faults=faults,
            )

    def _saved(self, asked: _Asked) -> manifest.Image:
        store = t.cast(engine.ImageStore, self._store)  # _asked found the image there
        count = self._far.shared(asked.known.diff_ids)
        base, rest = asked.known.diff_ids[:count], asked.known.diff_ids[count:]
        self._writer.skipped = frozenset(one[7:] for one in base if one not in rest)
        with store.save(asked.known.id) as stream:
            image = archive.take_apart(stream, self._writer.keep, asked.names, asked.label)
        found = tuple(image.diff_ids())
        if found != asked.known.diff_ids:
            raise Refused(f"The Engine saved another image than {asked.label}: its layers differ. Run it again.")
        kept = dict(self._receipts.other.get("images", {}))
        kept[asked.known.id] = {
            "config": image.config,
            "manifest": image.manifest,
            "layers": [[layer.content, layer.diff_id] for layer in image.layers],
            "architecture": image.architecture,
        }
        self._receipts.note("images", kept)
        return image

    def _receipts_saved(self, check: bool) -> None:
        if not check:
            self._writer.note()
            self._receipts.save()

    def _manifest(self, gathered: sources.Gathered, images: t.Sequence[manifest.Image]) -> manifest.Manifest:
        blobs: dict[str, manifest.Blob] = {}
        cut: dict[str, manifest.Cut] = {}
        kept: set[str] = set()
        elsewhere: set[str] = set()
        for image in images:
            there = self._elsewhere(image)
            elsewhere |= there
            kept |= set(manifest.image_contents(image)) - there
        elsewhere -= kept
        contents = [*gathered.paths, *(one for image in images for one in manifest.image_contents(image))]
        for content in dict.fromkeys(contents):
            if content in elsewhere or (
                content in self._far.blobs and content in gathered.paths and content not in kept
            ):
                size = gathered.paths[content].size if content in gathered.paths else self._writer.sizes[content]
                blobs[content] = manifest.Blob(size, None)
                continue
            blobs.update(self._writer.blobs(content))
            if self._writer.is_cut(content):
                cut[content] = manifest.Cut(self._writer.sizes[content], tuple(self._writer.cut[content]))
        return manifest.Manifest(
            name=self._order.name,
            media=max([blob.medium for blob in blobs.values() if blob.medium is not None], default=1),
            blobs=blobs,
            cut=cut,
            images=tuple(images),
            snapshots=tuple(gathered.snapshots),
            files=tuple(gathered.files),
        )

    def _old_text(self) -> bytes | None:
        """The manifest that is there, if there is a good one."""
        try:
            opened = media.open_bundle([self._order.dest])
            manifest.decode(opened.text, self._order.dest)
        except FleetError:
            return None  # what is there is no whole bundle: it is made new
        return opened.text

    def _signature(self, text: bytes, old: bytes | None) -> tuple[bytes | None, bool]:
        """(signature, whether it is another one than is there)."""
        there = media.open_bundle([self._order.dest]).signature if old is not None else None
        key = self._order.sign_key
        if not key:
            return None, there is not None
        if text == old and there is not None and signature.is_by(text, there, key):
            return there, False
        return signature.sign(text, key), True

    def _lacks_manifest(self, wanted: manifest.Manifest) -> bool:
        """Whether a medium is without its manifest."""
        roots = self._writer.roots()
        numbers = range(1, wanted.media + 1)
        return not all(os.path.isfile(os.path.join(roots.get(number, ""), manifest.FILE)) for number in numbers)


def _diff(before: str, after: str) -> dict[str, str]:
    return {"before": before, "after": after}
