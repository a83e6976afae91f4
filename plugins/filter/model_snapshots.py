# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that takes from model specifications the snapshots that a host needs."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.sources import snapshots


def model_snapshots(models: t.Any, host: str | None = None, groups: t.Sequence[str] = ()) -> list[dict[str, t.Any]]:
    """The snapshots that a host, or without one the fleet, needs for its models, as arguments of hf_snapshot."""
    return snapshots(models, host, groups)


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"model_snapshots": model_snapshots}
