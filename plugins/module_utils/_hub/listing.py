# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The files of a commit of a repo with sizes and hashes: as the hub lists them, and as a cache keeps the list. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

COMMIT = re.compile(r"[0-9a-f]{40}")
FORMAT = 1

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Longer names no file system takes.
_PART_BYTES = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


class File(t.NamedTuple):
    """A file of a repo.

    size: bytes. etag: what names its content in a cache, which is 64 digits of SHA-256 for what the hub's storage
    keeps. Small files lie in git itself, and all that the hub tells of them is git's own SHA-1 of "blob SIZE\\0" and
    the content: 40 digits. That is weak against who can make collisions, who would have to have written the repo.
    """

    name: str
    size: int
    etag: str


class Listing(t.NamedTuple):
    """All files of a commit."""

    repo: str
    commit: str
    files: tuple[File, ...]

    def as_data(self) -> dict[str, t.Any]:
        """What is kept beside a snapshot."""
        files = {file.name: [file.size, file.etag] for file in self.files}
        return {"format": FORMAT, "repo": self.repo, "commit": self.commit, "files": files}


def listing(repo: str, commit: str, files: t.Iterable[File]) -> Listing:
    """A listing whose names and hashes are harmless. Raises FleetError(kind=hostile) that names what is not."""
    if not COMMIT.fullmatch(commit):
        raise FleetError(f"The hub tells no commit of {repo}: {commit[:80]!r}.", kind="no_commit")
    sorted_files = tuple(sorted(files))
    names = {file.name for file in sorted_files}
    for file in sorted_files:
        parts = file.name.split("/")
        reason = _hostile(file.name, parts)
        if not reason and not _HASH.fullmatch(file.etag):
            reason = "it has no hash of 40 or 64 hexadecimal digits, so that its content cannot be verified"
        if not reason and file.size < 0:
            reason = "it has no size"
        folders = ("/".join(parts[:count]) for count in range(1, len(parts)))
        if not reason and any(folder in names for folder in folders):
            reason = "its folder is a file as well"
        if reason:
            raise FleetError(
                f"{repo} at {commit} is refused: it has a file named {file.name[:200]!r}, and {reason}. Nothing was "
                "written.",
                kind="hostile",
            )
    return Listing(repo, commit, sorted_files)


def _hostile(name: str, parts: t.Sequence[str]) -> str:
    if name.startswith("/"):
        return "an absolute path would leave the snapshot's folder"
    if any(part in ("", ".", "..") for part in parts):
        return "a path with '..', '.' or an empty part could leave the snapshot's folder"
    if _CONTROL.search(name):
        return "control characters and backslashes are not allowed in names"
    try:
        too_long = any(len(part.encode()) > _PART_BYTES for part in parts)
    except UnicodeEncodeError:
        return "it is no text"
    return f"a part of it is longer than {_PART_BYTES} bytes" if too_long else ""


def from_data(data: t.Any) -> Listing | None:
    """The listing that as_data made; None for anything else, such as that of a later format."""
    try:
        if data["format"] != FORMAT:
            return None
        files = [File(name, int(size), str(etag)) for name, (size, etag) in data["files"].items()]
        return listing(data["repo"], data["commit"], files)
    except (TypeError, ValueError, KeyError, AttributeError, FleetError):
        return None


def from_tree(repo: str, commit: str, data: t.Any) -> Listing | None:
    """The listing that the hub's client keeps as trees/<commit>.json (_tree_cache.py of huggingface_hub 2.4.0)."""
    try:
        if data["format_version"] != 1:
            return None
        files = [
            File(name, int(entry["size"]), entry.get("lfs_sha256") or entry["blob_id"])
            for name, entry in data["files"].items()
        ]
        return listing(repo, commit, files)
    except (TypeError, ValueError, KeyError, AttributeError, FleetError):
        return None
