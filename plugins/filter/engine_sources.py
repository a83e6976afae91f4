# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that takes from model specifications everything that their engines read on hosts."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.sources import look_for


def engine_sources(models: t.Any) -> list[dict[str, t.Any]]:
    """Everything that engines of these models read, as sources of source_info."""
    return look_for(models)


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"engine_sources": engine_sources}
