# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A side where bundles are made, and one where they are loaded, for tests of bundles."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import create, engine, load

REPO = "acme/tiny"
COMMIT = "0123456789" * 4
# Files above this size are named by their SHA-256, as the hub does with what it keeps in its storage.
STORED_BYTES = 2000


def no_engine() -> engine.ImageStore:
    """For bundles without images: nobody may ask."""
    raise AssertionError("the Engine was asked for")


def etag(content: bytes) -> str:
    """What the hub names this content by."""
    if len(content) > STORED_BYTES:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def add_snapshot(
    hub_cache: pathlib.Path,
    contents: t.Mapping[str, bytes],
    repo_id: str = REPO,
    commit: str = COMMIT,
    refs: t.Sequence[str] = ("main",),
) -> pathlib.Path:
    """Put a snapshot into a cache, as the hub client does; its folder."""
    repo = hub_cache / ("models--" + repo_id.replace("/", "--"))
    snapshot = repo / "snapshots" / commit
    for name, content in contents.items():
        blob = repo / "blobs" / etag(content)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    for ref in refs:
        path = repo / "refs" / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(commit)
    return snapshot


def keys(folder: pathlib.Path, *people: str) -> pathlib.Path:
    """A key for each name, and a file of allowed signers with the first of them."""
    for who in people:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", folder / who], check=True)
    allowed = folder / "allowed_signers"
    allowed.write_text(f"{people[0]} {(folder / people[0]).with_suffix('.pub').read_text()}")
    return allowed


def tree(folder: pathlib.Path) -> dict[str, t.Any]:
    """What lies below a folder: links with their targets, files with content, mode and inode."""
    found: dict[str, t.Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            status = path.stat()
            found[name] = (path.read_bytes(), status.st_mode, status.st_ino, status.st_mtime_ns)
    return found


class Sides:
    """A near side with a cache and files, and an empty far side."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.near, self.far = folder / "near/hub", folder / "far/hub"
        self.files, self.far_files = folder / "near/files", folder / "far/files"
        self.bundle = folder / "bundle"
        self.near.mkdir(parents=True)
        self.files.mkdir(parents=True)

    def create(self, check: bool = False, store: t.Any = None, **changes: t.Any) -> dict[str, t.Any]:
        """Make the bundle."""
        given: dict[str, t.Any] = {
            "dest": str(self.bundle),
            "name": "test",
            "images": [],
            "snapshots": [{"repo_id": REPO}],
            "files": [],
            "hub_cache": str(self.near),
            "inventory": None,
            "media_bytes": 0,
            "file_bytes": 0,
            "sign_key": None,
            "state_path": None,
            "reserve_bytes": 0,
            "workers": 2,
            "rehash": False,
        }
        return create.create(create.Order(**{**given, **changes}), store, check)

    def load(self, check: bool = False, connect: t.Any = no_engine, **changes: t.Any) -> dict[str, t.Any]:
        """Load the bundle on the far side; unsigned ones are taken unless allowed_signers is given."""
        given: dict[str, t.Any] = {
            "src": [str(self.bundle)],
            "allowed_signers": None,
            "signer": None,
            "unsigned": not changes.get("allowed_signers"),
            "digest": None,
            "parts": list(load.PARTS),
            "hub_cache": str(self.far),
            "files_dir": str(self.far_files),
            "owner": None,
            "group": None,
            "mode": "0644",
            "state_path": str(self.folder / "far.state.json"),
            "reserve_bytes": 0,
            "workers": 2,
            "rehash": False,
        }
        return load.load(load.order_of({**given, **changes}), connect, check)
