# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What a host has of repos and folders that an engine will read: names of files, and what is wrong with them.

Reads no content but that of small JSON files, and asks nobody.
"""

from __future__ import annotations

import fnmatch
import json
import os
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.cache import (
    HubCacheError,
    default_hub_cache,
    resolve,
    validate_repo_id,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.selection import SCOPES, code_repos
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access, Repo

_FILES = 5000
_DEPTH = 4
_JSON_BYTES = 1 << 24
# 384 experts in 60 layers make an index of 19 MiB.
_INDEX_BYTES = 1 << 28
_INDEXES = (".safetensors.index.json", ".bin.index.json")
_CONFIGS = ("config.json", "tokenizer_config.json", "generation_config.json", "adapter_config.json")


class Asked(t.NamedTuple):
    """One source: repo id or absolute path; scope: what of it is read (config, tokenizer, model)."""

    source: str
    revision: str | None
    scope: str


def source_facts(asked: t.Iterable[Asked], hub_cache: str | None) -> list[dict[str, t.Any]]:
    """One entry for each different source. Never raises for one: what cannot be used has found false and a reason."""
    folder = hub_cache or default_hub_cache(os.environ)
    return [_one(one, folder) for one in dict.fromkeys(asked)]


def _one(asked: Asked, hub_cache: str) -> dict[str, t.Any]:
    entry: dict[str, t.Any] = {**asked._asdict(), "found": False, "reason": None}
    problems: list[dict[str, str]] = []
    commit = None
    try:
        if asked.source.startswith("/"):
            path = asked.source
            if not os.path.exists(path):
                return {**entry, "reason": f"{path} is not there. Correct the path, or bring it to the host."}
        else:
            validate_repo_id(asked.source)
            path, commit, dangling = _snapshot(hub_cache, asked)
            problems += dangling
    except HubCacheError as error:
        return {**entry, "reason": str(error)}
    files = _files(path)
    if commit:
        named = {problem["file"] for problem in problems}
        listed = _against_listing(Repo(hub_cache, asked.source, Access()), commit, asked)
        problems += [one for one in listed if one["file"] not in named]
    if asked.scope == "model":
        named = {problem["file"] for problem in problems}
        problems += [one for one in _lacking_shards(path, files) if one["file"] not in named]
    broken = {problem["file"] for problem in problems}
    problems += [one for one in _unreadable_configs(path, files) if one["file"] not in broken]
    needed = _code(path, files) - {asked.source}
    missing = [repo for repo in sorted(needed) if not _is_cached(hub_cache, repo)]
    return {
        **entry,
        "found": True,
        "path": path,
        "commit": commit,
        "files": files,
        "problems": problems,
        "code_repos": sorted(needed),
        "missing_code_repos": missing,
    }


def _snapshot(hub_cache: str, asked: Asked) -> tuple[str, str, list[dict[str, str]]]:
    """The folder and commit, and a problem for each file whose content is not there."""
    try:
        found = resolve(hub_cache, asked.source, asked.revision)
    except HubCacheError as error:
        if error.details["kind"] != "dangling":
            raise
        path = str(error.details["path"])
        names = [name for name in _files(path, dangling=True) if not os.path.exists(os.path.join(path, name))]
        message = "its link points at content that is not there"
        return path, os.path.basename(path), [_problem(path, name, "missing", message) for name in names]
    return found.path, found.commit, []


def _files(path: str, dangling: bool = False) -> list[str]:
    """Names of the files in a folder, sorted; of a file its own name."""
    if not os.path.isdir(path):
        return [os.path.basename(path)]
    names = []
    for folder, folders, files in os.walk(path):
        inside = os.path.relpath(folder, path)
        if inside.count("/") >= _DEPTH or len(names) > _FILES:
            folders.clear()
        entries = files + [name for name in folders if os.path.islink(os.path.join(folder, name))]
        names += [
            os.path.normpath(os.path.join(inside, name))
            for name in entries
            if dangling or os.path.exists(os.path.join(folder, name))
        ]
    return sorted(names)[:_FILES]


def _against_listing(repo: Repo, commit: str, asked: Asked) -> list[dict[str, str]]:
    """Files of another size than the hub lists, and those that were asked for once and are gone."""
    listing = repo.listing(commit)
    if listing is None:
        return []
    wanted = repo.wanted(commit)
    # What is there of it may be a part that was chosen by patterns; whether that is enough is not for the list to say.
    patterns = SCOPES.get(asked.scope, ("*",))
    problems = []
    for file in listing.files:
        if not any(fnmatch.fnmatchcase(file.name, pattern) for pattern in patterns):
            continue
        path = os.path.join(repo.snapshot(commit), file.name)
        try:
            size = os.path.getsize(path)
        except OSError:
            if file.name in wanted:
                problems.append(_problem(repo.snapshot(commit), file.name, "missing", "it is missing"))
            continue
        if size != file.size:
            message = f"it has {size} bytes, not {file.size}"
            problems.append(_problem(repo.snapshot(commit), file.name, "size", message))
    return problems


def _lacking_shards(path: str, files: t.Sequence[str]) -> list[dict[str, str]]:
    """Files of weights that an index names beside others that are there. An index of which nothing is there is of a
    second copy of the weights in another form, which was not wanted."""
    there, found = set(files), []
    for index in files:
        if index.endswith(_INDEXES):
            folder = os.path.dirname(index)
            shards = (_json(os.path.join(path, index), _INDEX_BYTES) or {}).get("weight_map")
            names = {os.path.join(folder, str(one)) for one in shards.values()} if isinstance(shards, dict) else set()
            if names & there:
                found += [_problem(path, name, "missing", f"{index} lists it") for name in sorted(names - there)]
    return found


def _unreadable_configs(path: str, files: t.Sequence[str]) -> list[dict[str, str]]:
    found = []
    for name in _CONFIGS:
        if name in files and _json(os.path.join(path, name)) is None:
            found.append(_problem(path, name, "invalid", "it cannot be read as JSON"))
    return found


def _code(path: str, files: t.Sequence[str]) -> set[str]:
    """Other repos whose code the configurations ask for."""
    needed: set[str] = set()
    for name in _CONFIGS[:2]:
        if name in files:
            needed.update(code_repos(_json(os.path.join(path, name)) or {}))
    return needed


def _json(path: str, at_most: int = _JSON_BYTES) -> dict[str, t.Any] | None:
    try:
        with open(path, "rb") as handle:
            value = json.loads(handle.read(at_most))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_cached(hub_cache: str, repo: str) -> bool:
    try:
        resolve(hub_cache, repo)
    except HubCacheError:
        return False
    return True


def _problem(folder: str, name: str, kind: str, message: str) -> dict[str, str]:
    return {"file": name, "path": os.path.join(folder, name), "kind": kind, "message": message}
