# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of metrics that the targets read, held against the catalogue of every release."""

from __future__ import annotations

import json
import pathlib

import pytest
from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import metrics

DATA = pathlib.Path(__file__).parents[5] / "plugins" / "plugin_utils" / "data" / "catalogue"
CATALOGUE = json.loads((DATA / "metrics.json").read_text(encoding="utf-8"))
RELEASES = sorted(json.loads((DATA / "releases.json").read_text(encoding="utf-8")), key=Version)
ROWS = {
    **metrics.FIGURES,
    **metrics.HISTOGRAMS,
    "prefix_cache": tuple(name for pair in metrics.PREFIX_CACHE for name in pair) + (metrics.PREFIX_CACHE_RATIO,),
    "moving": tuple(name.removesuffix("_count") for name in metrics.MOVING),
    "sleep": (metrics.SLEEP,),
}
# Figures that some releases do not have under any name.
FIRST = {"queue_time": "0.6.4", "sleep": "0.11.1"}


def has(name: str, release: str) -> bool:
    """Whether a release registers a metric without being asked for hidden ones."""
    return any(
        Version(one["since"]) <= Version(release)
        and (one["until"] is None or Version(release) <= Version(one["until"]))
        and not one.get("hidden")
        for one in CATALOGUE[name]
    )


@pytest.mark.parametrize("figure", ROWS)
def test_every_release_has_the_figure_under_one_of_its_names(figure: str) -> None:
    since = Version(FIRST.get(figure, "0.6.0"))
    assert RELEASES
    lacking = [
        release
        for release in RELEASES
        if Version(release) >= since and not any(has(name, release) for name in ROWS[figure])
    ]
    assert lacking == []


@pytest.mark.parametrize("figure", ROWS)
def test_every_name_is_of_some_release(figure: str) -> None:
    assert [name for name in ROWS[figure] if not any(has(name, release) for release in RELEASES)] == []
