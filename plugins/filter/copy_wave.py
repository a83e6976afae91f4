# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that say who copies from whom when hosts take something from each other."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.waves import wave


def copy_wave(wanting: list[str], holders: list[str], failures: t.Sequence[t.Sequence[str]] = ()) -> dict[str, str]:
    """The source of each host that copies in the next wave."""
    return wave(wanting, holders, [(str(source), str(target)) for source, target in failures])


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"copy_wave": copy_wave}
