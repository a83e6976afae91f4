# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that lays the ranks of an all-reduce over hosts, with the environment that follows from their networks."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.communication import one_host, several_hosts
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Invalid


def nccl_ranks(
    facts: t.Mapping[str, t.Mapping[str, t.Any]],
    counts: t.Mapping[str, int],
    version: str | None = None,
    network: str | None = None,
    addresses: t.Mapping[str, str] | None = None,
) -> dict[str, dict[str, t.Any]]:
    """Options of nccl_check for every host, and why each variable is set."""
    if not facts or set(facts) != set(counts):
        raise AnsibleFilterError("nccl_ranks needs the facts and the number of ranks of the same hosts, one at least")
    release = load(version) if version else None
    try:
        links = several_hosts(facts, release, network or None, addresses or None)
    except (Invalid, ValueError) as error:
        raise AnsibleFilterError(str(error)) from error
    master = next(iter(links.values())).address
    world, first, ranks = sum(counts.values()), 0, {}
    for host, link in links.items():
        own = one_host(release, counts[host]) if release else {}
        ranks[host] = {
            "world_size": world,
            "first_rank": first,
            "master_address": master,
            "network": "none" if len(links) == 1 else "host",
            "env": {**own, **link.env},
            "because": dict(link.because),
            "notes": list(link.notes),
        }
        first += counts[host]
    return ranks


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"nccl_ranks": nccl_ranks}
