# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""From models as a user names them to their profiles: where a model lies, and what is there."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import CheckpointError
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.profile import read_profile
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.cache import HubCacheError, is_local_path, resolve


def model_facts(requests: t.Iterable[tuple[str, str | None]], hub_cache: str) -> list[dict[str, t.Any]]:
    """One entry for each different (model, revision), in the order of their first mention; never raises for a model.

    A model that cannot be used here has found false and a reason, and no profile.
    """
    return [_one(model, revision, hub_cache) for model, revision in dict.fromkeys(requests)]


def _one(model: str, revision: str | None, hub_cache: str) -> dict[str, t.Any]:
    entry: dict[str, t.Any] = {"model": model, "revision": revision, "found": False, "reason": None}
    try:
        if is_local_path(model):
            profile = read_profile(model)
        else:
            snapshot = resolve(hub_cache, model, revision)
            profile = read_profile(snapshot.path, snapshot.commit)
    except (HubCacheError, CheckpointError) as error:
        entry["reason"] = str(error)
        return entry
    entry["found"] = True
    entry.update(profile)
    return entry
