# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What torch's allocator takes for a tensor beyond its bytes: c10/cuda/CUDACachingAllocator.cpp of torch 2.6. Pure.

Blocks of 10 MiB and more are rounded up to 2 MiB, smaller ones share blocks of 20 MiB; what is left over stays with the
tensor unless it is more than 1 MiB (kMinLargeAlloc, kRoundLarge, should_split). PYTORCH_CUDA_ALLOC_CONF changes that:
expandable segments leave nothing over, and roundup_power2_divisions rounds large sizes up.
"""

from __future__ import annotations

import functools
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import MIB

# The second name is of torch 2.9 and later.
VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
# kRoundUpPowerOfTwoIntervals: one for each power of two from 1 MiB on.
_INTERVALS = 16
_DIVISIONS = re.compile(r"roundup_power2_divisions:(\[[^\]]{0,200}\]|\d{1,9})")
_ENTRY = re.compile(r"(\d{1,9}|>):(\d{1,9})", re.ASCII)


class Allocator:
    """The allocator as variables set it up."""

    def __init__(self, expandable: bool = False, divisions: t.Sequence[int] = ()) -> None:
        self.expandable = expandable
        self.divisions = divisions

    def rounded(self, size: float) -> float:
        """Bytes that a tensor of so many is given."""
        if not self.divisions or size < MIB:
            return size
        whole = int(size)
        divisions = self.divisions[min(_INTERVALS - 1, (whole // MIB).bit_length() - 1)]
        if divisions < 2:
            return size
        step = max(1, (1 << (whole.bit_length() - 1)) // divisions)
        return float(-(-whole // step) * step)

    def waste(self, sizes: t.Sequence[float], times: int = 1) -> float:
        """Bytes of tensors' blocks that stay unused. sizes: of one layer's tensors; times: such layers."""
        given = [self.rounded(size) for size in sizes] if self.divisions else sizes
        lost = times * (sum(given) - sum(sizes))
        if self.expandable:
            return lost
        for size in given:
            left = -size % (2 * MIB)
            lost += times * left if size >= 10 * MIB and left <= MIB else 0.0
        shared = [size for size in given if MIB < size < 10 * MIB]
        free: list[float] = []
        # A few layers tell what all of them lose.
        tried = min(times, 8)
        for size in shared * tried:
            fitting = min((block for block in free if block >= size), default=0.0)
            if fitting:
                free.remove(fitting)
            left = (fitting or 20.0 * MIB) - size
            if left <= MIB:
                lost += left * times / tried
            elif left >= min(shared):
                free.append(left)
        return lost


_PLAIN = Allocator()


def allocator(env: t.Mapping[str, str]) -> Allocator:
    """The allocator that these variables ask for."""
    return _read(next((str(env[name]) for name in reversed(VARIABLES) if name in env), ""))


@functools.lru_cache(maxsize=16)
def _read(text: str) -> Allocator:
    if not text:
        return _PLAIN
    text = text.replace(" ", "")
    found = _DIVISIONS.search(text)
    return Allocator("expandable_segments:true" in text.lower(), _divisions(found[1]) if found else ())


def _divisions(text: str) -> tuple[int, ...]:
    """parseRoundUpPower2Divisions of CUDAAllocatorConfig.cpp: one number for all, or one from each size in MiB on."""
    if not text.startswith("["):
        return (int(text),) * _INTERVALS
    kept = [0] * _INTERVALS
    last = -1
    for size, number in _ENTRY.findall(text):
        if size == ">":
            kept[last + 1 :] = [int(number)] * (_INTERVALS - last - 1)
            continue
        place = min(_INTERVALS - 1, max(0, int(size).bit_length() - 1))
        if last < 0:
            kept[:place] = [int(number)] * place
        kept[place] = int(number)
        last = place
    return tuple(kept)
