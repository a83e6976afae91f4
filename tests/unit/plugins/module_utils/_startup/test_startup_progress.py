# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs of life beside the log: what a silent start reads, receives, holds and computes."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.progress import Progress, Usage

MIB = 2**20
STALL = 60
# A look every 20 s for 400 s: what is used at the n-th look, and at which second it counts as stalled (None: never).
LOOKS = [
    ("does nothing", lambda n: Usage(1.0, 0, 0, MIB), 80),
    ("reads", lambda n: Usage(1.0, n * 2 * MIB, 0, MIB), None),
    ("downloads", lambda n: Usage(1.0, 0, n * 2 * MIB, MIB), None),
    ("takes memory", lambda n: Usage(1.0, 0, 0, n * 2 * MIB), None),
    ("takes and gives back the same memory", lambda n: Usage(1.0, 0, 0, (n % 2) * 9 * MIB), 80),
    ("beats its heart", lambda n: Usage(n * 0.1, n * 2000, n * 9000, MIB), 80),
    ("spins for ever", lambda n: Usage(n * 20.0, 0, 0, MIB), 200),
    ("was restarted", lambda n: Usage(100.0 - n, 0, 0, MIB), 80),
]


@pytest.mark.parametrize(("used", "stalled_at"), [row[1:] for row in LOOKS], ids=[row[0] for row in LOOKS])
def test_usage(used: object, stalled_at: int | None) -> None:
    progress = Progress(STALL, 0.0)
    found = None
    for number in range(1, 21):
        progress.usage(used(number), 20.0 * number)  # type: ignore[operator]
        if found is None and progress.stall(20.0 * number) is not None:
            found = 20 * number
    assert found == stalled_at


def test_a_stall_of_what_computes_says_so() -> None:
    progress = Progress(STALL, 0.0)
    for number in range(20):
        progress.usage(Usage(number * 20.0, 0, 0, 0), 20.0 * number)
    assert "its processes compute" in str(progress.stall(380.0))


def test_computing_long_ago_does_not_help() -> None:
    progress = Progress(STALL, 0.0)
    progress.usage(Usage(0.0, 0, 0, 0), 1.0)
    progress.usage(Usage(20.0, 0, 0, 0), 21.0)
    assert (progress.stall(70.0), progress.stall(90.0)) == (None, "")
