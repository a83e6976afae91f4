# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""A snapshot of a repo as it should be in a cache: decide what is missing, then fetch, verify, link.

Nothing of the network is touched, nor imported, when everything is there.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.cache import validate_repo_id
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.listing import COMMIT, File, Listing
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.selection import (
    Selected,
    Wanted,
    require_consent,
    select,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access, Repo

_NAMED = 8
_GB = 10**9
_PROGRESS_SECONDS = 2
# Refs of the hub's client are in the way of its "hf cache prune", which removes every snapshot that no ref names.
KEPT_REFS = "gpufleet"

Tell = t.Callable[..., None]


class Request(t.NamedTuple):
    """What to have of which repo.

    update: ask the hub what a branch or tag is now, though the cache has one. verify: hash what is there again.
    min_free: bytes that stay free on the cache's file system. connections: at once.
    """

    repo: str
    revision: str
    wanted: Wanted
    update: bool = False
    verify: bool = False
    min_free: int = 0
    connections: int = 8
    endpoint: str | None = None
    token: str | None = None
    retry_after_limit: int = 300
    lock_seconds: float = 24 * 3600
    segment_bytes: int = 128 << 20


class State(t.NamedTuple):
    """What a cache has of a selection."""

    listing: Listing
    selected: Selected
    absent: list[File]  # neither linked nor among the blobs
    unlinked: list[File]  # a blob whose hash was right is there
    unproven: list[File]  # of the right size, but nobody has hashed it yet
    access: list[str]  # files with another owner or mode

    @property
    def is_whole(self) -> bool:
        """Whether nothing has to be done."""
        return not (self.absent or self.unlinked or self.unproven or self.access)


def check_request(request: Request) -> None:
    """Raises FleetError for what cannot be asked for."""
    validate_repo_id(request.repo)
    parts = request.revision.split("/")
    if any(part in ("", ".", "..") for part in parts) or not request.revision.isprintable():
        raise FleetError(
            f"'{request.revision}' is no revision of {request.repo}. Give a commit, a branch or a tag.",
            kind="invalid_revision",
        )
    require_consent(request.wanted, request.repo, request.revision)


def known(repo: Repo, request: Request) -> State | None:
    """The state by what the cache itself knows; None when the hub has to be asked."""
    if request.update and not COMMIT.fullmatch(request.revision):
        return None
    commit = repo.commit_of(request.revision)
    listing = repo.listing(commit) if commit else None
    return look(repo, listing, request.wanted) if listing else None


def look(repo: Repo, listing: Listing, wanted: Wanted) -> State:
    """What the cache has of a selection; reads no content."""
    selected = select(listing, wanted)
    state = State(listing, selected, [], [], [], [])
    folders = set()
    for file in selected.files:
        entry = os.path.join(repo.snapshot(listing.commit), file.name)
        if repo.is_whole(listing.commit, file):
            if repo.access.differs(entry, False):
                state.access.append(entry)
        elif repo.has_blob(file):
            state.unlinked.append(file)
        elif _size(repo.blob(file)) == file.size or _size(entry) == file.size:
            state.unproven.append(file)
        else:
            state.absent.append(file)
        folder = os.path.dirname(entry)
        while folder not in folders and len(folder) > len(repo.hub_cache):
            folders.add(folder)
            if os.path.isdir(folder) and repo.access.differs(folder, True):
                state.access.append(folder)
            folder = os.path.dirname(folder)
    return state


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def present(hub_cache: str, access: Access, request: Request, check: bool, tell: Tell) -> dict[str, t.Any]:
    """Have the snapshot. check: only say what would be done. Raises FleetError."""
    check_request(request)
    repo = Repo(hub_cache, request.repo, access)
    state = known(repo, request)
    if state and state.is_whole and not request.verify and _refs_fit(repo, request, state.listing.commit):
        if not check and os.access(repo.path, os.W_OK):
            repo.flush()
        return result_of(repo, state, changed=False)
    from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.change import bring

    return bring(repo, request, state, check, tell)


def _refs_fit(repo: Repo, request: Request, commit: str) -> bool:
    return all(repo.commit_of_ref(name) == commit for name in refs_of(request, commit))


def refs_of(request: Request, commit: str) -> list[str]:
    """The refs that a snapshot gets: its branch or tag, or one of ours that keeps a commit from being pruned."""
    return [f"{KEPT_REFS}/{commit}"] if COMMIT.fullmatch(request.revision) else [request.revision]


def verified(hub_cache: str, request: Request, tell: Tell) -> dict[str, t.Any]:
    """Hash everything of the selection that is here. Never asks the hub, changes nothing. Raises FleetError."""
    check_request(request)
    repo = Repo(hub_cache, request.repo, Access())
    commit = repo.commit_of(request.revision)
    listing = repo.listing(commit) if commit else None
    if commit is None or not os.path.isdir(repo.snapshot(commit)):
        raise FleetError(
            f"{request.repo} at {request.revision} is not in the cache {hub_cache}. Bring it with hf_snapshot, state "
            "present.",
            kind="absent",
        )
    is_listed = listing is not None
    listing = listing or _listing_by_names(repo, commit)
    selected = select(listing, request.wanted)
    problems: list[dict[str, t.Any]] = []
    pool = concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 2))
    with pool, Meter(tell, "verifying", selected.size) as meter:
        found = pool.map(lambda file: problem_of(repo, commit, file, meter.add), selected.files)
        problems.extend(problem for problem in found if problem)
    state = State(listing, selected, [], [], [], [])
    result = {**result_of(repo, state, changed=False), "problems": problems, "listed": is_listed}
    if problems:
        shown = "; ".join(f"{one['file']}: {one['message']}" for one in problems[:_NAMED])
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise FleetError(
            f"{len(problems)} of the {len(selected.files)} files of {request.repo} at {commit} in {hub_cache} are not "
            f"what they should be: {shown}{more}. Bring them with hf_snapshot, state present and verify true.",
            kind="broken",
            **{key: value for key, value in result.items() if key != "changed"},
        )
    return result


def problem_of(repo: Repo, commit: str, file: File, progress: t.Callable[[int], None]) -> dict[str, t.Any] | None:
    """What is wrong with a file of a snapshot; None when its hash is right."""
    from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.fetch import hash_of

    entry = os.path.join(repo.snapshot(commit), file.name)
    base = {"file": file.name, "path": entry}
    try:
        size = os.stat(entry).st_size
        if size != file.size:
            return {**base, "kind": "size", "message": f"it has {size} bytes, not {file.size}"}
        found = hash_of(entry, file.etag, size, progress)
    except FileNotFoundError:
        what = "its link points at nothing" if os.path.islink(entry) else "it is missing"
        return {**base, "kind": "missing", "message": what}
    except OSError as error:
        return {**base, "kind": "unreadable", "message": f"user id {os.geteuid()} cannot read it: {error.strerror}"}
    if found != file.etag:
        return {**base, "kind": "content", "message": f"its hash is {found}, not {file.etag}"}
    return None


def _listing_by_names(repo: Repo, commit: str) -> Listing:
    """What is there, with the hashes that the names of the blobs tell: of a cache that others have filled."""
    from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.listing import listing

    root = repo.snapshot(commit)
    files = []
    for folder, folders, names in os.walk(root):
        for name in names + [one for one in folders if os.path.islink(os.path.join(folder, one))]:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                # Of a blob that lies in the store of all repos, this is the link there, and its name the etag.
                etag = os.path.basename(os.readlink(path))
                size = _size(path)
                files.append(File(os.path.relpath(path, root), max(size, 0), etag))
    if not files:
        raise FleetError(
            f"{root} holds no links to blobs, whose names would tell the hashes. Bring {repo.repo_id} with "
            "hf_snapshot, state present.",
            kind="unverifiable",
        )
    return listing(repo.repo_id, commit, files)


def result_of(repo: Repo, state: State, changed: bool) -> dict[str, t.Any]:
    """What a module returns of a snapshot."""
    return {
        "changed": changed,
        "repo": repo.repo_id,
        "commit": state.listing.commit,
        "path": repo.snapshot(state.listing.commit),
        "files": [file.name for file in state.selected.files],
        "total_bytes": state.selected.size,
        "fetched_bytes": 0,
        "resumed_bytes": 0,
        "fetched": [],
        "omitted": [one._asdict() for one in state.selected.omitted],
        "pending": False,
    }


def shown_bytes(count: int) -> str:
    """Bytes for a message."""
    return f"{count} bytes ({count / _GB:.2f} GB)"


class Meter:
    """Counts bytes, from several threads, and tells now and then how far it is."""

    def __init__(self, tell: Tell, stage: str, total: int, done: int = 0) -> None:
        self._tell, self._stage, self._total = tell, stage, total
        self._done = done
        self._lock = threading.Lock()
        self._begin = self._next = time.monotonic()
        self._first = done

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_error: object) -> None:
        self._say()

    def add(self, count: int) -> None:
        """So many bytes more; any thread may tell."""
        with self._lock:
            self._done += count
            is_time = time.monotonic() >= self._next
            if is_time:
                self._next = time.monotonic() + _PROGRESS_SECONDS
        if is_time:
            self._say()

    @property
    def moved(self) -> int:
        """Bytes since the beginning."""
        return self._done - self._first

    def _say(self) -> None:
        seconds = max(time.monotonic() - self._begin, 0.001)
        self._tell(self._stage, done=self._done, total=self._total, bytes_per_second=int(self.moved / seconds))
