# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What torch's allocator takes beyond a tensor's bytes."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.allocator import allocator
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import MIB

UNSLOTH = "expandable_segments:True,roundup_power2_divisions:[32:256,64:128,256:64,>:32]"


def waste(size: float, conf: str = "", times: int = 1) -> float:
    """MiB lost on tensors of so many MiB."""
    return allocator({"PYTORCH_CUDA_ALLOC_CONF": conf}).waste((size * MIB,), times) / MIB


@pytest.mark.parametrize(
    ("size", "conf", "lost"),
    [
        # Large blocks are rounded up to 2 MiB; more than 1 MiB left over is given back.
        (95.0, "", 1.0),
        (94.5, "", 0.0),
        (96.0, "", 0.0),
        # 19.5 of a shared block of 20.
        (0.5, "", 0.0),
        (95.0, "expandable_segments:True", 0.0),
        (95.0, "expandable_segments: False", 1.0),
        # 753 MiB in steps of 512 / 32, 33 MiB in steps of 32 / 256, 100 MiB in steps of 64 / 128.
        (753.0, UNSLOTH, 15.0),
        (32.01, UNSLOTH, 0.115),
        (100.25, UNSLOTH, 0.25),
        # No entry for 128 MiB.
        (129.3, UNSLOTH, 0.0),
        (0.7, UNSLOTH, 0.0),
        (5.0, "roundup_power2_divisions:4", 0.0),
        (5.5, "expandable_segments:True,roundup_power2_divisions:4", 0.5),
        # What cannot be read changes nothing.
        (95.0, "roundup_power2_divisions:[x", 1.0),
        (95.0, "roundup_power2_divisions:[]", 1.0),
    ],
)
def test_what_is_lost(size: float, conf: str, lost: float) -> None:
    assert waste(size, conf) == pytest.approx(lost, abs=1e-6)


def test_small_tensors_share_blocks() -> None:
    # Two of 9.5 MiB fill a block but for 1 MiB, which stays with the second.
    assert waste(9.5, times=2) == pytest.approx(1.0)
    assert waste(9.5, "expandable_segments:True", 2) == 0


def test_the_newer_name_counts_first() -> None:
    both = {"PYTORCH_CUDA_ALLOC_CONF": "", "PYTORCH_ALLOC_CONF": "expandable_segments:true"}
    assert allocator(both).expandable
    assert allocator({}) is allocator({"HOME": "/"})
