# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that takes the secrets out of model specifications."""

from __future__ import annotations

import typing as t


def model_secrets(models: t.Any, servers: t.Any) -> dict[str, dict[str, str]]:
    """The secrets that these servers need, by the name of their model; the plan reports what is malformed.

    servers: those of one host, so that no host is sent another one's secrets.
    """
    needed = [server["model"] for server in servers]
    found = {}
    for model in models if isinstance(models, list) else ():
        declared = model.get("secrets") if isinstance(model, dict) else None
        if isinstance(declared, dict) and model.get("name") in needed:
            secrets = {name: str(value) for name, value in declared.items() if value is not None}
            if secrets:
                found[model["name"]] = secrets
    return found


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"model_secrets": model_secrets}
