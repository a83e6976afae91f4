# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Loads a bundle: everything is verified, then decided, then there must be room, and only then something is written.

Blobs come first, then links, then refs, so that no reader of the cache sees a snapshot that is not whole; each is
written beside its place and renamed. A run that was ended anywhere is completed by the next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import hashlib
import os
import pwd
import re
import secrets
import stat
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import (
    archive,
    disk,
    engine,
    files,
    inventory,
    manifest,
    names,
    parameters,
    target,
    verify,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError, Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.lock import RepoLock
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access, Repo

PARTS = ("files", "images", "snapshots")
_NAMED = 10
_LINK_TRIES = 10
# Another load of terabytes may be under way.
_LOCK_SECONDS = 24 * 3600.0


@dataclasses.dataclass(frozen=True)
class Order:
    """What is loaded whereto. src: folders of the bundle. parts: of PARTS."""

    src: t.Sequence[str]
    trust: verify.Trust
    parts: t.Sequence[str]
    hub_cache: str
    files_dir: str | None
    attributes: target.Attributes
    state_path: str | None
    reserve_bytes: int
    workers: int
    rehash: bool


class _ImagePlan(t.NamedTuple):
    """What is done for an image. contents: those to be sent, None when the Engine has it. tags: names it lacks."""

    image: manifest.Image
    contents: list[str] | None
    tags: list[str]
    before: str

    @property
    def label(self) -> str:
        return self.image.names[0] if self.image.names else self.image.ids()[0]


def local_name(name: str) -> str:
    """The name under which an image is known after loading. An Engine gives digests only to what came from a
    registry."""
    repository, _at, digest = name.partition("@")
    if not digest:
        return name
    last = repository.rpartition("/")[2]
    return repository if ":" in last else f"{repository}:sha256-{digest[7:19]}"


def order_of(given: t.Mapping[str, t.Any]) -> Order:
    """The order of a module's arguments. Raises Refused for an owner, a group or a mode that does not exist."""
    faults = []
    ids = []
    for key, find in (
        ("owner", lambda name: pwd.getpwnam(name).pw_uid),
        ("group", lambda name: grp.getgrnam(name).gr_gid),
    ):
        value = given[key]
        try:
            ids.append(-1 if value is None else int(value) if value.isdigit() else find(value))
        except KeyError:
            faults.append(f"{key} '{names.shown(value)}' does not exist on this host")
    if not re.fullmatch(r"0?[0-7]{3}", given["mode"]):
        faults.append(f"mode is '{names.shown(given['mode'])}', it has to be like '0644'")
    if faults:
        raise Refused(f"Nothing was changed: {'; '.join(faults)}.", faults=faults)
    return Order(
        src=given["src"],
        trust=verify.Trust(given["allowed_signers"], given["signer"], given["unsigned"], given["digest"]),
        parts=given["parts"],
        hub_cache=given["hub_cache"],
        files_dir=given["files_dir"],
        attributes=target.Attributes(int(given["mode"], 8), (ids[0], ids[1])),
        state_path=given["state_path"],
        reserve_bytes=given["reserve_bytes"],
        workers=parameters.workers_of(given["workers"]),
        rehash=given["rehash"],
    )


def load(order: Order, connect: t.Callable[[], engine.ImageStore], check: bool) -> dict[str, t.Any]:
    """Load the bundle, or tell what would be done. connect: called when there are images. Raises FleetError."""
    receipts = files.Receipts(order.state_path, order.rehash)
    try:
        return _Loader(order, connect, receipts).run(check)
    finally:
        if not check:
            receipts.save()


class _Loader:
    def __init__(self, order: Order, connect: t.Callable[[], engine.ImageStore], receipts: files.Receipts) -> None:
        self._order = order
        self._connect = connect
        self._store: engine.ImageStore | None = None
        self._receipts = receipts
        self._local: dict[str, str] = {}
        self._written = 0

    def run(self, check: bool) -> dict[str, t.Any]:
        order = self._order
        verified = verify.verify(order.src, order.trust, self._receipts, order.workers)
        self._bundle, self._paths = verified.wanted, verified.opened.paths
        plans = self._image_plans() if "images" in order.parts else []
        steps = self._possible(plans)
        with contextlib.ExitStack() as locks:
            if not check:
                if any(step.kind in ("blob", "link", "ref") for step in steps):
                    self._lock(locks)
                    # Who held a lock may have brought what was lacking, or removed what was there.
                    steps = self._possible(plans)
                self._act(steps, plans)
        changes = [(step.what, step.before, _after(step)) for step in steps]
        changes += [(f"image {p.label}", p.before, p.image.ids()[0]) for p in plans if p.contents is not None or p.tags]
        return {
            "changed": bool(changes),
            **verify.told(verified),
            "changes": [{"what": what, "before": before, "after": after} for what, before, after in changes],
            "written_bytes": self._written,
            "image_ids": {name: plan.image.ids()[0] for plan in plans for name in plan.image.names},
            "local_names": {name: local_name(name) for plan in plans for name in plan.image.names},
            "diff": {
                "before": "".join(f"{what}: {before}\n" for what, before, _after in changes),
                "after": "".join(f"{what}: {after}\n" for what, _before, after in changes),
            },
        }

    # --- what is to be done ---

    def _possible(self, plans: t.Sequence[_ImagePlan]) -> list[target.Step]:
        """The steps. Raises Refused where they cannot be done."""
        steps = self._steps()
        self._find_elsewhere(steps)
        self._check_room(steps, plans)
        return steps

    def _lock(self, locks: contextlib.ExitStack) -> None:
        """Keep downloads, pruning and other loads out of the repos, in one order, so that two loads do not wait for
        each other."""
        root, wish = os.path.realpath(self._order.hub_cache), self._order.attributes
        _make_root(root, wish)
        for repo_id in sorted({snapshot.repo_id for snapshot in self._bundle.snapshots}):
            path = Repo(root, repo_id, Access()).lock_path
            locks.enter_context(RepoLock(root, path, lambda holder: None, _LOCK_SECONDS))

    def _steps(self) -> list[target.Step]:
        order, steps = self._order, []
        if "snapshots" in order.parts:
            root = os.path.realpath(order.hub_cache)
            seen = set()
            for snapshot in self._bundle.snapshots:
                found = target.snapshot_steps(snapshot, root, order.attributes, self._receipts, order.workers)
                # Two commits of a repo share blobs and folders.
                steps += [step for step in found if step.kind in ("link", "ref") or step.path not in seen]
                seen |= {step.path for step in found}
        plain = self._bundle.files if "files" in order.parts else ()
        if plain and not order.files_dir:
            kinds = sorted({one.kind for one in plain})
            raise Refused(
                f"The bundle holds files ({', '.join(kinds)}), and it was not said where to: give files_dir, or leave "
                "'files' out of parts. Nothing was changed."
            )
        if plain:
            paths = [f"{target.FOLDERS[file.kind]}/{file.path}" for file in plain]
            steps += target.folder_steps(os.path.realpath(str(order.files_dir)), paths, order.attributes)
        for file in plain:
            step = target.file_step(file, os.path.realpath(str(order.files_dir)), order.attributes, self._receipts)
            steps += [step] if step else []
        rank = {"folder": 0, "blob": 1, "file": 1, "attributes": 2, "link": 3, "ref": 4}
        return sorted(steps, key=lambda step: rank[step.kind])

    def _image_plans(self) -> list[_ImagePlan]:
        if not self._bundle.images:
            return []
        self._store = self._connect()
        far = inventory.Inventory({}, inventory.chains(self._store))
        plans, faults = [], []
        for image in self._bundle.images:
            tags = [local_name(name) for name in image.names]
            named = {tag: self._store.find(tag) for tag in tags}
            there = self._known(image, named)
            lacking = [tag for tag, known in named.items() if known is None or not self._is(known, image)]
            before = "present" if there else "absent"
            if lacking:
                before += "".join(f", {tag} is {known.id}" for tag, known in named.items() if known and tag in lacking)
            if there:
                plans.append(_ImagePlan(image, None, lacking, before))
                continue
            shared = far.shared(image.diff_ids())
            base = {layer.content for layer in image.layers[:shared]}
            rest = {layer.content for layer in image.layers[shared:]}
            contents = [one for one in manifest.image_contents(image) if one in rest or one not in base]
            gone = [one for one in contents if self._bundle.elsewhere(one)]
            if gone:
                faults.append(f"{image.names[0] if image.names else image.ids()[0]} lacks {len(gone)} layer(s)")
            plans.append(_ImagePlan(image, contents, tags, before))
        if faults:
            raise Refused(
                "The bundle is a delta for a host whose Docker Engine has more than this one, and nothing was changed: "
                f"{'; '.join(faults)}. Make it against this host's inventory, or without one.",
                faults=faults,
            )
        return plans

    def _known(self, image: manifest.Image, named: t.Mapping[str, engine.Known | None]) -> engine.Known | None:
        store = t.cast(engine.ImageStore, self._store)
        for known in [*named.values(), *map(store.find, image.ids())]:
            if known and self._is(known, image):
                return known
        return None

    def _is(self, known: engine.Known, image: manifest.Image) -> bool:
        """Whether what the Engine has is this image. containerd's store names it by a manifest that it may have
        made."""
        made = not t.cast(engine.ImageStore, self._store).shares_layers and list(known.diff_ids) == image.diff_ids()
        return known.id in image.ids() or made

    def _find_elsewhere(self, steps: t.Sequence[target.Step]) -> None:
        """Where on this host the contents lie that a delta left out. Raises Refused when they are not here, or
        damaged."""
        lacking = {
            step.value: step.what
            for step in steps
            if step.kind in ("blob", "file") and self._bundle.elsewhere(step.value)
        }
        if not lacking:
            return
        order = self._order
        paths, _sizes = inventory.take(order.hub_cache, order.files_dir, self._receipts, order.workers, by_name=True)
        there = [one for one in lacking if one in paths]
        results = files.in_parallel(lambda one: files.hash_file(paths[one], self._receipts), there, order.workers)
        good = {one for one, result in zip(there, results) if not isinstance(result, FleetError) and result[0] == one}
        self._local = {one: paths[one] for one in good}
        faults = [
            f"{what}: " + (f"{paths[one]} is damaged" if one in paths else f"{one} is not on this host")
            for one, what in lacking.items()
            if one not in good
        ]
        if faults:
            more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
            raise Refused(
                "The bundle is a delta and leaves out what this host does not have, and nothing was changed: "
                f"{'; '.join(faults[:_NAMED])}{more}. Make it against this host's inventory, or without one.",
                faults=faults,
            )

    def _check_room(self, steps: t.Sequence[target.Step], plans: t.Sequence[_ImagePlan]) -> None:
        wanted = {}
        for step in steps:
            if step.kind in ("blob", "file"):
                wanted[step.root] = wanted.get(step.root, 0) + self._bundle.size(step.value)
        needs = [disk.Need(root, size, "files") for root, size in sorted(wanted.items())]
        layers = sum(self._bundle.size(one) for plan in plans for one in plan.contents or ())
        if layers and self._store is not None and os.path.isdir(self._store.root):
            # Docker writes the archive to its own disk before it unpacks the layers (image/tarexport/load.go).
            needs.append(disk.Need(self._store.root, 2 * layers, "images and Docker's copy while it loads them"))
        if any(one.size for one in needs):
            disk.need(needs, self._order.reserve_bytes)

    # --- doing it ---

    def _act(self, steps: t.Sequence[target.Step], plans: t.Sequence[_ImagePlan]) -> None:
        wish = self._order.attributes
        for root in sorted({step.root for step in steps}):
            _make_root(root, wish)
        for step in steps:
            files.make_folder(step.root, os.path.dirname(step.path), wish.folder_mode, wish.owner)
            if step.kind == "folder":
                folder = os.path.join(step.root, step.path)
                os.chown(folder, *wish.owner, follow_symlinks=False)
                os.chmod(folder, stat.S_IMODE(os.lstat(folder).st_mode) | wish.folder_mode)
        for folder in {os.path.dirname(os.path.join(step.root, step.path)) for step in steps}:
            files.remove_partials(folder)
        contents = [step for step in steps if step.kind in ("blob", "file")]
        results = files.in_parallel(self._write, contents, self._order.workers)
        faults = [str(one) for one in results if isinstance(one, FleetError)]
        if faults:
            raise Refused(
                f"The bundle was not loaded to the end: {'; '.join(faults[:_NAMED])}. No snapshot has become visible; "
                "run it again when that is mended.",
                faults=faults,
            )
        for plan in plans:
            self._load_image(plan)
        for step in steps:
            path = os.path.join(step.root, step.path)
            if step.kind == "attributes":
                real = os.path.realpath(path)
                os.chown(real, *wish.owner)
                os.chmod(real, target.mode_of(wish, step.executable))
            elif step.kind == "link":
                _make_link(path, step.value, wish.owner)
            elif step.kind == "ref":
                files.write_whole(path, step.value.encode("ascii"), wish.mode, wish.owner)

    def _write(self, step: target.Step) -> None:
        path = os.path.join(step.root, step.path)
        mode = target.mode_of(self._order.attributes, step.executable)
        try:
            with files.written(path, mode, self._order.attributes.owner) as file:
                for chunk in self._chunks(step.value):
                    files.write_all(file, chunk)
            self._receipts.put(path, os.stat(path), step.value)
        except OSError as error:
            raise Refused(f"{names.shown(path)} cannot be written: {error.strerror}", path=path) from error
        self._written += self._bundle.size(step.value)

    def _chunks(self, content: str) -> t.Iterator[memoryview]:
        """The bytes of a content; hashed once more on their way, for a medium can fail at any time."""
        sources = [(one, self._paths.get(one, "")) for one in self._bundle.pieces(content)]
        if self._bundle.elsewhere(content):
            sources = [(content, self._local[content])]
        for sha256, path in sources:
            digest = hashlib.sha256()
            with files.opened(path) as (handle, status):
                for chunk in files.chunks(handle, status.st_size, path):
                    digest.update(chunk)
                    yield chunk
            if digest.hexdigest() != sha256:
                raise Refused(f"{names.shown(path)} has changed since it was verified", path=path)

    def _load_image(self, plan: _ImagePlan) -> None:
        if plan.contents is None and not plan.tags:
            return
        store = t.cast(engine.ImageStore, self._store)
        if plan.contents is not None:
            parts = [
                archive.Content(one, self._bundle.size(one), lambda one=one: self._chunks(one)) for one in plan.contents
            ]
            store.load(archive.put_together(plan.image, plan.tags, self._bundle.size, parts), plan.label)
            self._written += sum(part.size for part in parts)
        there = self._known(plan.image, {tag: store.find(tag) for tag in plan.tags})
        if there is None:
            raise Refused(
                f"The Docker Engine took the image {plan.label} and does not have it under its ID "
                f"{plan.image.ids()[0]}. See the Engine's log; the image must not be used."
            )
        for tag in plan.tags:
            known = store.find(tag)
            if known is None or known.id != there.id:
                store.tag(there.id, tag)


def _make_root(root: str, wish: target.Attributes) -> None:
    os.makedirs(os.path.dirname(root), exist_ok=True)
    files.make_folder(os.path.dirname(root), os.path.basename(root), wish.folder_mode, wish.owner)


def _after(step: target.Step) -> str:
    return "right owner and mode" if step.kind in ("attributes", "folder") else step.value


def _make_link(path: str, value: str, owner: tuple[int, int]) -> None:
    for left in reversed(range(_LINK_TRIES)):
        partial = os.path.join(os.path.dirname(path), files.PARTIAL + secrets.token_hex(8))
        try:
            os.symlink(value, partial)
            os.chown(partial, *owner, follow_symlinks=False)
            os.replace(partial, path)
            return
        except OSError as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
            # A link cannot be locked: another run that loads into the same cache may have taken it for a left one.
            if not isinstance(error, FileNotFoundError) or not left:
                raise Refused(f"{names.shown(path)} cannot be made: {error.strerror}", path=path) from error
