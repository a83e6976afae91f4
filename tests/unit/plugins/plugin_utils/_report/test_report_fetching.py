# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people read while a snapshot is fetched."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.fetching import fetching_line


@pytest.mark.parametrize(
    "event, expected",
    [
        (
            {"stage": "fetching", "done": 5 * 10**9, "total": 20 * 10**9, "bytes_per_second": 10**9},
            "gpu1 | a/b |    3.5 s | fetching  | 5.00 of 20.00 GB, 1000 MB/s, 15 s left [#####...............]",
        ),
        (
            {"stage": "verifying", "done": 0, "total": 0, "bytes_per_second": 0},
            "gpu1 | a/b |    3.5 s | verifying | 0.00 of 0.00 GB, 0 MB/s [####################]",
        ),
        (
            {"stage": "waiting", "holder": "gpu2, process 5"},
            "gpu1 | a/b |    3.5 s | waiting   | for gpu2, process 5",
        ),
        ({"stage": "wrong", "file": "x.json"}, "gpu1 | a/b |    3.5 s | wrong     | x.json"),
    ],
)
def test_lines(event: dict[str, t.Any], expected: str) -> None:
    assert fetching_line("gpu1", {"subject": "a/b", "seconds": 3.5, **event}) == expected
