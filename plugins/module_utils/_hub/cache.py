# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The Hugging Face cache, read side: from a repo id and a revision to the folder of a snapshot, without network.

The layout and the rules are those of huggingface_hub 2.4.0 (constants.py, utils/_validators.py, file_download.py):

    <hub cache>/models--<org>--<name>/refs/<revision>        a commit, 40 hexadecimal digits, read verbatim
                                      snapshots/<commit>/... links to ../../blobs/<etag>
                                      blobs/<etag>           a file, or a link into the shared store <hub cache>/blobs
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

DEFAULT_REVISION = "main"

_REPO_ID = re.compile(r"(\b[\w\-.]{1,96}\b/)?\b[\w\-.]{1,96}\b", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REF_BYTES = 4096
_NAMED_FILES = 5


class HubCacheError(FleetError):
    """A snapshot cannot be used.

    details["kind"]: invalid_repo_id, invalid_revision, no_cache, no_repo, no_ref, bad_ref, no_snapshot, dangling,
    unreadable. details["path"]: where, when it is about a path.
    """


class Snapshot(t.NamedTuple):
    """A folder of the cache that holds one commit of a repo."""

    path: str
    commit: str


def is_local_path(model: str) -> bool:
    """Whether a model is a folder of the host. Only absolute paths are: a relative one looks like a repo id."""
    return model.startswith("/")


def validate_repo_id(repo_id: str) -> None:
    """Raises HubCacheError(invalid_repo_id) for what the hub client would refuse."""
    reason = None
    if not _REPO_ID.fullmatch(repo_id):
        reason = (
            "it must be NAME or ORGANISATION/NAME of letters, digits, '-', '_' and '.', 96 characters each at most, "
            "not beginning or ending with '-' or '.'"
        )
    elif "--" in repo_id or ".." in repo_id:
        reason = "'--' and '..' are not allowed in it"
    elif repo_id.endswith(".git"):
        reason = "it must not end with '.git'"
    if reason:
        raise HubCacheError(
            f"'{repo_id}' is no repo id of the Hugging Face hub: {reason}. Give a repo id, or the absolute path of a "
            "folder.",
            kind="invalid_repo_id",
        )


def default_hub_cache(environ: t.Mapping[str, str]) -> str:
    """Where the hub client keeps repos: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub,
    XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub; the first that is set."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(name):
            return _expand(environ[name])
    if environ.get("HF_HOME"):
        return os.path.join(_expand(environ["HF_HOME"]), "hub")
    return os.path.join(_expand(environ.get("XDG_CACHE_HOME") or "~/.cache"), "huggingface", "hub")


def resolve(hub_cache: str, repo_id: str, revision: str | None = None) -> Snapshot:
    """The snapshot that the hub client would take offline. Raises HubCacheError that says exactly what is missing.

    revision: a commit (40 hexadecimal digits), or a branch, tag or private ref; "main" when None.
    """
    validate_repo_id(repo_id)
    revision = revision or DEFAULT_REVISION
    if revision.startswith("/") or any(part in ("", ".", "..") for part in revision.split("/")) or "\0" in revision:
        raise HubCacheError(
            f"'{revision}' is no revision of {repo_id}. Give a commit, a branch or a tag.", kind="invalid_revision"
        )
    repo = os.path.join(hub_cache, "models--" + repo_id.replace("/", "--"))
    _need_folder(
        hub_cache,
        "no_cache",
        f"The Hugging Face cache {hub_cache} is not there. Pre-stage {repo_id}, or give the right cache.",
    )
    _need_folder(
        repo, "no_repo", f"{repo_id} is not in the Hugging Face cache {hub_cache}: {repo} is missing. Pre-stage it."
    )
    commit = revision if _COMMIT.fullmatch(revision) else _read_ref(repo, repo_id, revision)
    path = os.path.join(repo, "snapshots", commit)
    _need_folder(
        path,
        "no_snapshot",
        f"Commit {commit} of {repo_id} is not in the Hugging Face cache: {path} is missing. Pre-stage that commit; "
        f"here are: {_names(os.path.join(repo, 'snapshots'))}.",
    )
    _need_whole_links(path, repo_id)
    return Snapshot(path, commit)


def _expand(path: str) -> str:
    return os.path.abspath(os.path.expandvars(os.path.expanduser(path)))


def _need_folder(path: str, kind: str, message: str) -> None:
    """Raises HubCacheError when path is no folder that can be listed; being kept out is another kind than absence."""
    try:
        os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        raise HubCacheError(message, kind=kind, path=path) from None
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> HubCacheError:
    return HubCacheError(
        f"{path} cannot be read by user id {os.geteuid()}: {error.strerror}. Let that user read files and enter "
        "folders of the cache; the engine needs the same.",
        kind="unreadable",
        path=path,
    )


def _read_ref(repo: str, repo_id: str, revision: str) -> str:
    """The commit that refs/<revision> names."""
    path = os.path.join(repo, "refs", *revision.split("/"))
    try:
        with open(path, "rb") as handle:
            content = handle.read(_REF_BYTES)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        short = ""
        if re.fullmatch(r"[0-9a-f]{7,39}", revision):
            short = " A short commit is not resolved offline: give all 40 digits."
        raise HubCacheError(
            f"The Hugging Face cache does not know revision '{revision}' of {repo_id}: {path} is missing.{short} "
            "Pre-stage that revision, or give one of the commits here as revision: "
            f"{_names(os.path.join(repo, 'snapshots'))}.",
            kind="no_ref",
            path=path,
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    commit = content.decode("utf-8", "replace")
    if _COMMIT.fullmatch(commit):
        return commit
    if _COMMIT.fullmatch(commit.strip()):
        raise HubCacheError(
            f"{path} has white space around the commit. The hub client reads it verbatim and would not find the "
            f"snapshot: write it without a newline (printf %s {commit.strip()}), or give the commit as revision.",
            kind="bad_ref",
            path=path,
        )
    raise HubCacheError(
        f"{path} holds no commit of 40 hexadecimal digits. Pre-stage {repo_id} again.", kind="bad_ref", path=path
    )


def _names(folder: str) -> str:
    """What lies in a folder, for a message."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    return ", ".join(names[:_NAMED_FILES]) or "none"


def _need_whole_links(path: str, repo_id: str) -> None:
    """Raises HubCacheError(dangling) when files of the snapshot point at content that is not there."""
    dangling: list[str] = []
    shared = False

    def keep_error(error: OSError) -> None:
        raise _unreadable(error.filename, error) from error

    for folder, folders, files in os.walk(path, onerror=keep_error):
        for name in sorted(folders + files):
            file = os.path.join(folder, name)
            try:
                os.stat(file)
            except FileNotFoundError:
                dangling.append(os.path.relpath(file, path))
                # A blob that is itself a dangling link points into the store that all repos share.
                blob = os.path.join(folder, os.readlink(file))
                shared = shared or os.path.islink(blob)
            except OSError as error:
                raise _unreadable(file, error) from error
    if dangling:
        dangling.sort()
        why = "The blobs folder is incomplete"
        if shared:
            why = "Their content was in the store that repos share (<hub cache>/blobs), which a copy of the repo lacks"
        raise HubCacheError(
            f"{len(dangling)} file(s) of the snapshot {path} point at content that is not there: "
            f"{', '.join(dangling[:_NAMED_FILES])}{', ...' if len(dangling) > _NAMED_FILES else ''}. "
            f"{why}. Pre-stage {repo_id} again, or copy it with the links followed.",
            kind="dangling",
            path=path,
        )
