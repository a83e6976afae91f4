# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Bringing a snapshot: what is missing is fetched, what nobody has hashed is hashed, what is there is linked."""

from __future__ import annotations

import concurrent.futures
import json
import os
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.api import Hub
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.cache import HubCacheError, resolve
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.fetch import Fetcher, Partial, Source, hash_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.listing import File, Listing
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.lock import RepoLock
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.selection import code_repos
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.snapshot import (
    Meter,
    Request,
    State,
    Tell,
    look,
    refs_of,
    result_of,
    shown_bytes,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Repo
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.transport import Connections, TransportError

# Files whose auto_map may name code of other repos.
_WITH_AUTO_MAP = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
_CONFIG_BYTES = 1 << 24


def bring(repo: Repo, request: Request, state: State | None, check: bool, tell: Tell) -> dict[str, t.Any]:
    """Have the snapshot. state: what the cache knows, None when the hub has to be asked. Raises FleetError."""
    hub: Hub | None = None
    if state is None or state.absent:
        hub = Hub(request.endpoint, request.token, request.retry_after_limit)
        if state is None:
            state = look(repo, hub.list_files(request.repo, request.revision), request.wanted)
    source = hub.source(request.repo, state.listing.commit) if hub else None
    if request.wanted.allow_code:
        _require_code_repos(repo, state, source)
    _require_room(repo, state, request)
    if check:
        return _foreseen(repo, request, state)
    if not os.access(_nearest(repo.path), os.W_OK):
        raise FleetError(
            f"{_nearest(repo.path)} cannot be written by user id {os.geteuid()}, and {request.repo} is not whole in "
            f"the cache {repo.hub_cache}. Run this as a user who may write there (become).",
            kind="unwritable",
        )
    repo.make_folder(repo.hub_cache)

    def waiting(holder: str) -> None:
        tell("waiting", holder=holder)

    with RepoLock(repo.hub_cache, repo.lock_path, waiting, request.lock_seconds):
        # Who held the lock may have brought it, or removed the repo.
        fresh = Repo(repo.hub_cache, repo.repo_id, repo.access)
        fresh.prepare(state.listing.commit)
        return _Bringing(fresh, request, look(fresh, state.listing, request.wanted), hub, tell).run()


class _Bringing:
    """One run, alone with the repo."""

    def __init__(self, repo: Repo, request: Request, state: State, hub: Hub | None, tell: Tell) -> None:
        self._repo, self._request, self._state, self._hub, self._tell = repo, request, state, hub, tell
        self._commit = state.listing.commit
        self._is_before = state_before(repo, request, state)

    def run(self) -> dict[str, t.Any]:
        repo, state = self._repo, self._state
        # Before anything else, so that an interrupted run knows the commit's files without the hub.
        wanted = repo.wanted(self._commit)
        names = {file.name for file in state.selected.files}
        if not names <= wanted:
            repo.write_listing(state.listing, names | wanted)
        mended = bool(state.unlinked) or bool(state.access)
        files = state.selected.files
        hashed = [file for file in files if file not in state.absent] if self._request.verify else state.unproven
        wrong = self._prove(hashed)
        absent = [*state.absent, *wrong]
        for file in files:
            if file not in absent:
                repo.link(self._commit, file)
        result = result_of(repo, state, changed=False)
        if absent:
            result.update(self._fetch(absent))
        for path in state.access:
            if os.path.exists(path):
                repo.access.apply(path, is_folder=os.path.isdir(path))
        repo.write_receipts()
        news = [repo.write_ref(name, self._commit) for name in refs_of(self._request, self._commit)]
        result["changed"] = bool(absent) or mended or any(news)
        result["diff"] = {
            "before": self._is_before,
            "after": state_after(self._request, state),
        }
        return result

    def _prove(self, files: t.Sequence[File]) -> list[File]:
        """Hash what is there; what is wrong is removed and returned."""
        if not files:
            return []
        repo, wrong = self._repo, []
        with Meter(self._tell, "verifying", sum(file.size for file in files)) as meter:

            def is_right(file: File) -> bool:
                try:
                    return hash_of(repo.content(self._commit, file), file.etag, file.size, meter.add) == file.etag
                except OSError:
                    return False

            with concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
                for file, right in zip(files, pool.map(is_right, files)):
                    if right:
                        repo.add_receipt(self._commit, file)
                    else:
                        wrong.append(file)
        for file in wrong:
            self._tell("wrong", file=file.name)
            os.unlink(repo.content(self._commit, file))
        return wrong

    def _fetch(self, files: t.Sequence[File]) -> dict[str, t.Any]:
        request, repo = self._request, self._repo
        hub = self._hub or Hub(request.endpoint, request.token, request.retry_after_limit)
        # Files of the same content have one blob.
        by_etag: dict[str, list[File]] = {}
        for file in files:
            by_etag.setdefault(file.etag, []).append(file)
        blobs = [same[0] for same in by_etag.values()]
        have = sum(Partial(repo, file, request.segment_bytes).have() for file in blobs)
        total = sum(file.size for file in blobs)
        fetched: list[str] = []

        def finished(file: File) -> None:
            repo.add_receipt(self._commit, file)
            for same in by_etag[file.etag]:
                repo.link(self._commit, same)
                fetched.append(same.name)

        with Meter(self._tell, "fetching", total, have) as meter:
            fetcher = Fetcher(
                repo, hub.source(request.repo, self._commit), request.connections, meter.add, request.segment_bytes
            )
            try:
                fetcher.fetch(blobs, finished)
            finally:
                # Also of an error: what is whole needs no further look.
                repo.write_receipts()
        return {"fetched": sorted(fetched), "fetched_bytes": meter.moved, "resumed_bytes": have}


def state_before(repo: Repo, request: Request, state: State) -> dict[str, t.Any]:
    """The snapshot as it is, for a diff."""
    missing = {*state.absent, *state.unlinked}
    refs = {name: repo.commit_of_ref(name) for name in refs_of(request, state.listing.commit)}
    files = {file.name: file.size for file in state.selected.files if file not in missing}
    return {"refs": refs, "files": files}


def state_after(request: Request, state: State) -> dict[str, t.Any]:
    """The snapshot as it should be, for a diff."""
    refs = {name: state.listing.commit for name in refs_of(request, state.listing.commit)}
    return {"refs": refs, "files": {file.name: file.size for file in state.selected.files}}


def _foreseen(repo: Repo, request: Request, state: State) -> dict[str, t.Any]:
    """What a run would do, as far as it can be told without reading content."""
    before, after = state_before(repo, request, state), state_after(request, state)
    size, have = _to_fetch(repo, state, request)
    result = result_of(repo, state, changed=before != after or bool(state.access))
    result.update(
        fetched=[file.name for file in state.absent],
        fetched_bytes=size - have,
        resumed_bytes=have,
        pending=bool(state.unproven) or request.verify,
        diff={"before": before, "after": after},
    )
    return result


def _to_fetch(repo: Repo, state: State, request: Request) -> tuple[int, int]:
    """Bytes of the blobs that are missing, and how many of them are there from an earlier run."""
    blobs = {file.etag: file for file in state.absent}.values()
    return sum(file.size for file in blobs), sum(Partial(repo, file, request.segment_bytes).have() for file in blobs)


def _require_room(repo: Repo, state: State, request: Request) -> None:
    """Raises FleetError when the disk is too small for what is missing."""
    size, have = _to_fetch(repo, state, request)
    needed = size - have
    if not needed:
        return
    place = _nearest(repo.path)
    disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize
    if needed + request.min_free > free:
        short = needed + request.min_free - free
        raise FleetError(
            f"{place} has {shown_bytes(free)} free. {request.repo} needs {shown_bytes(needed)} more there, and "
            f"{shown_bytes(request.min_free)} are to stay free (min_free): {shown_bytes(short)} are lacking. Nothing "
            "was fetched. Make room (hf_cache removes what no model needs), or keep the cache elsewhere.",
            kind="no_room",
            needed_bytes=needed,
            free_bytes=free,
        )


def _nearest(path: str) -> str:
    """The path, or the folder above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _require_code_repos(repo: Repo, state: State, source: Source | None) -> None:
    """Raises FleetError when the code that is wanted lies in another repo that the cache does not have."""
    needed: set[str] = set()
    for file in state.selected.files:
        if file.name in _WITH_AUTO_MAP and file.size <= _CONFIG_BYTES:
            needed.update(code_repos(_config(repo, state.listing, file, source)))
    missing = []
    for name in sorted(needed - {repo.repo_id}):
        try:
            resolve(repo.hub_cache, name)
        except HubCacheError:
            missing.append(name)
    if missing:
        raise FleetError(
            f"The code of {repo.repo_id} lies in other repos, which the cache {repo.hub_cache} does not have: "
            f"{', '.join(missing)}. An engine without network would not start. Read their code, and bring each at a "
            "pinned commit with hf_snapshot and allow_code first; then let their revision main be that commit.",
            kind="other_code",
            repos=missing,
        )


def _config(repo: Repo, listing: Listing, file: File, source: Source | None) -> dict[str, t.Any]:
    """A small JSON file, from the cache or else from the hub; empty when it is none."""
    content = b""
    try:
        with open(repo.content(listing.commit, file), "rb") as handle:
            content = handle.read(_CONFIG_BYTES)
    except OSError:
        if source is not None:
            connections = Connections()
            try:
                answer = connections.get(source.address(file.name), source.headers)
                content = answer.read(_CONFIG_BYTES) if answer.status == 200 else b""
            except TransportError:
                content = b""  # fetching it will tell
            finally:
                connections.close()
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
