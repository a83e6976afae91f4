# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that takes from model specifications the snapshots that a bundle needs."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.sources import bundled


def bundle_snapshots(models: t.Any) -> list[dict[str, t.Any]]:
    """The snapshots that a bundle for these models needs, as bundle_create takes them."""
    return bundled(models)


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"bundle_snapshots": bundle_snapshots}
