# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What lies on a host of what a bundle wants there, and the steps from the one to the other. Decides, changes
nothing."""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import files, manifest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

FOLDERS = {"collection": "collections", "dashboard": "dashboards", "file": "files", "wheel": "wheels"}


class Attributes(t.NamedTuple):
    """Of what is written. mode: of files. owner: user and group id, -1 for what the process has."""

    mode: int
    owner: tuple[int, int]

    @property
    def folder_mode(self) -> int:
        """Who may read files may enter folders."""
        return self.mode | (self.mode & 0o444) >> 2 | 0o700


class Step(t.NamedTuple):
    """Something to do. kind: blob, file, folder, attributes, link, ref. root and path: where. before: what is there.

    content: of a blob or file; target: of a link; commit: of a ref.
    """

    kind: str
    root: str
    path: str
    what: str
    before: str
    value: str
    executable: bool = False


def repo_folder(repo_id: str) -> str:
    """The folder of a repo in a Hugging Face cache."""
    return "models--" + repo_id.replace("/", "--")


def snapshot_steps(
    snapshot: manifest.Snapshot, hub_cache: str, wish: Attributes, receipts: files.Receipts, workers: int
) -> list[Step]:
    """What a snapshot lacks: its blobs, then the links, then the refs, which make it visible."""
    repo = repo_folder(snapshot.repo_id)
    unique = {file.etag: file for file in snapshot.files}
    states = files.in_parallel(
        lambda file: content_state(os.path.join(hub_cache, repo, "blobs", file.etag), file.content, receipts, True),
        list(unique.values()),
        workers,
    )
    steps = folder_steps(
        hub_cache,
        [f"{repo}/blobs/x", *(f"{repo}/snapshots/{snapshot.commit}/{file.path}" for file in snapshot.files)]
        + [f"{repo}/refs/{ref}" for ref in snapshot.refs],
        wish,
    )
    for file, state in zip(unique.values(), states):
        path = f"{repo}/blobs/{file.etag}"
        what = f"{file.path} of {snapshot.repo_id}"
        word = "unreadable" if isinstance(state, FleetError) else state
        if word != "good":
            steps.append(Step("blob", hub_cache, path, what, word, file.content))
        elif _attributes_differ(os.path.join(hub_cache, path), wish, False):
            steps.append(Step("attributes", hub_cache, path, what, "other owner or mode", ""))
    for file in snapshot.files:
        path = f"{repo}/snapshots/{snapshot.commit}/{file.path}"
        target = "../" * (2 + file.path.count("/")) + f"blobs/{file.etag}"
        there = _link(os.path.join(hub_cache, path))
        if there != target:
            what = f"{file.path} of {snapshot.repo_id} at {snapshot.commit}"
            steps.append(Step("link", hub_cache, path, what, there, target))
    for ref in snapshot.refs:
        path = f"{repo}/refs/{ref}"
        there = _ref(os.path.join(hub_cache, path))
        if there != snapshot.commit:
            steps.append(Step("ref", hub_cache, path, f"{ref} of {snapshot.repo_id}", there, snapshot.commit))
    return steps


def folder_steps(root: str, paths: t.Sequence[str], wish: Attributes) -> list[Step]:
    """Folders on the way to these paths that those who may read the files cannot enter, such as those of a run that
    was killed just after it had made one. Folders that let more in are left so."""
    parts = [path.split("/") for path in paths]
    folders = {"/".join(one[:count]) for one in parts for count in range(1, len(one))}
    steps = []
    for folder in sorted(folders):
        try:
            status = os.lstat(os.path.join(root, folder))
        except OSError:
            continue  # it is made with the rest
        owner = (status.st_uid, status.st_gid)
        is_right = status.st_mode & wish.folder_mode == wish.folder_mode and all(
            wanted in (-1, there) for wanted, there in zip(wish.owner, owner)
        )
        if stat.S_ISDIR(status.st_mode) and not is_right:
            steps.append(Step("folder", root, folder, f"folder {folder}", "other owner or mode", ""))
    return steps


def file_step(file: manifest.File, files_dir: str, wish: Attributes, receipts: files.Receipts) -> Step | None:
    """What a plain file lacks."""
    path = f"{FOLDERS[file.kind]}/{file.path}"
    try:
        state = content_state(os.path.join(files_dir, path), file.content, receipts, False)
    except FleetError:
        state = "unreadable"
    what = f"{file.kind} {file.path}"
    if state != "good":
        return Step("file", files_dir, path, what, state, file.content, file.executable)
    if _attributes_differ(os.path.join(files_dir, path), wish, file.executable):
        return Step("attributes", files_dir, path, what, "other owner or mode", "", file.executable)
    return None


def content_state(path: str, content: str, receipts: files.Receipts, follow: bool) -> str:
    """absent, damaged or good. follow: the hub client keeps large blobs in a store that repos share, behind links."""
    if not os.path.lexists(path) or (follow and not os.path.exists(path)):
        return "absent"
    real = os.path.realpath(path) if follow else path
    if not stat.S_ISREG(os.lstat(real).st_mode):
        return "no plain file"
    return "good" if files.hash_file(real, receipts)[0] == content else "damaged"


def mode_of(wish: Attributes, executable: bool) -> int:
    """The mode of a file."""
    return wish.mode | (wish.mode & 0o444) >> 2 if executable else wish.mode


def _attributes_differ(path: str, wish: Attributes, executable: bool) -> bool:
    status = os.stat(path)
    owner = (status.st_uid, status.st_gid)
    right_owner = all(wanted in (-1, there) for wanted, there in zip(wish.owner, owner))
    return stat.S_IMODE(status.st_mode) != mode_of(wish, executable) or not right_owner


def _link(path: str) -> str:
    """Where a link leads, or what is there instead."""
    if os.path.islink(path):
        return os.readlink(path)
    return "another file" if os.path.lexists(path) else "absent"


def _ref(path: str) -> str:
    try:
        with open(path, "rb") as handle:
            return handle.read(41).decode("ascii", "replace")
    except OSError:
        return "absent"
