# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""From models as a user names them to their profiles: where a model lies, and what is there."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint import shards
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import CheckpointError, Files, Folder
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.profile import profile
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.remote import HubError, open_repo
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.cache import (
    HubCacheError,
    default_hub_cache,
    is_local_path,
    resolve,
)

# Why the cache does not have a model. Other kinds are mistakes that a look at the hub would only hide.
_ABSENT = ("no_cache", "no_repo", "no_ref", "no_snapshot")
# A GGUF model of the hub by its quantization, or by its file (vLLM 0.23.0, transformers_utils/gguf_utils.py:
# is_remote_gguf, and model_executor/model_loader/gguf_loader.py: GGUFModelLoader._prepare_weights).
_WITH_QUANT = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*):([A-Za-z0-9_+-]+)", re.ASCII)
_WITH_FILE = re.compile(r"([^/]+/[^/]+)/([^/]+\.gguf)")


def model_facts(
    requests: t.Iterable[tuple[str, str | None]], hub_cache: str | None, online: bool = False
) -> list[dict[str, t.Any]]:
    """One entry for each different (model, revision), in the order of their first mention; never raises for a model.

    A model that cannot be used here has found false and a reason, and no profile.

    hub_cache: a folder; what the environment says when None. online: whether the hub may be asked for what the cache
    does not have. Raises ClientMissing when it has to be asked and cannot be.
    """
    folder = hub_cache or default_hub_cache(os.environ)
    return [_one(model, revision, folder, online) for model, revision in dict.fromkeys(requests)]


def _one(model: str, revision: str | None, hub_cache: str, online: bool) -> dict[str, t.Any]:
    entry: dict[str, t.Any] = {"model": model, "revision": revision, "found": False, "reason": None}
    try:
        found = _local(model) if is_local_path(model) else _from_hub(model, revision, hub_cache, online)
    except (HubCacheError, HubError, CheckpointError) as error:
        entry["reason"] = str(error)
        return entry
    return {**entry, "found": True, **found}


def _local(model: str) -> dict[str, t.Any]:
    """The profile of a folder of this host, or of a GGUF file."""
    if model.endswith(".gguf") and not os.path.isdir(model):
        folder, name = os.path.split(model)
        names = shards.family(name)
        return {"source": "file", "path": model, "commit": None, **profile(Folder(folder), names)}
    return {"source": "folder", "path": model, "commit": None, **profile(Folder(model))}


def _from_hub(model: str, revision: str | None, hub_cache: str, online: bool) -> dict[str, t.Any]:
    """The profile of a repo of the hub: from the cache, or else, when that is allowed, from the hub itself."""
    match = _WITH_QUANT.fullmatch(model) or _WITH_FILE.fullmatch(model)
    repo, part = (match[1], match[2]) if match else (model, "")
    try:
        snapshot = resolve(hub_cache, repo, revision)
    except HubCacheError as error:
        if not online or error.details["kind"] not in _ABSENT:
            raise
        remote = open_repo(repo, revision)
        return {"source": "hub", "path": None, "commit": remote.commit, **profile(remote, _gguf_names(remote, part))}
    files = Folder(snapshot.path)
    names = _gguf_names(files, part)
    path = files.where(names[0]) if names else snapshot.path
    return {"source": "cache", "path": path, "commit": snapshot.commit, **profile(files, names)}


def _gguf_names(files: Files, part: str) -> list[str]:
    """The GGUF files that a quantization or the name of one stands for; none for neither."""
    if not part:
        return []
    return shards.family(part) if part.endswith(".gguf") else shards.gguf_files(files, part)
