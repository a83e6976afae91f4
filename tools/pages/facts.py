# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue read along the releases: what one name was in all of them."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.catalogue import Facts, Life


def states(section: str, name: str) -> list[Facts]:
    """The spans of a name, the oldest first."""
    found = [catalogue.facts(section, version).get(name) for version in catalogue.releases()]
    return list({id(span): span for span in found if span is not None}.values())


def life(section: str, name: str) -> Life:
    """The releases that have a name of the section."""
    found = catalogue.life(section, name)
    if found is None:
        raise LookupError(f"{section}: {name}")
    return found
