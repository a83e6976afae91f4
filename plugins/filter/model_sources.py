# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that takes from model specifications what has to be looked for on hosts."""

from __future__ import annotations

import typing as t


def model_sources(models: t.Any) -> list[dict[str, t.Any]]:
    """Model and revision of each specification that has a model; what is malformed is left for the plan to report."""
    found = []
    for model in models if isinstance(models, list) else ():
        if isinstance(model, dict) and isinstance(model.get("model"), str):
            revision = model.get("revision")
            source = {"model": model["model"], "revision": None if revision is None else str(revision)}
            if source not in found:
                found.append(source)
    return found


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"model_sources": model_sources}
