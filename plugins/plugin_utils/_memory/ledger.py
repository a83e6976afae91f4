# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one server takes on one device: terms with their error, and what they leave for the KV cache."""

from __future__ import annotations

import dataclasses
import math
import typing as t

Confidence = t.Literal["calibrated", "fitted", "low"]


@dataclasses.dataclass(frozen=True)
class Term:
    """Bytes on one device: at best, expected, at worst."""

    name: str
    low: int
    expected: int
    high: int


@dataclasses.dataclass(frozen=True)
class Ledger:
    """The memory of one GPU, or of the host for an engine on the CPU. With a pipeline, the GPU that holds least.

    total: the device's bytes; budget: what the engine may take of them; terms: what stands inside the budget beside the
    KV cache; outside: what the engine takes beyond its budget; kv: what is left for the KV cache (low is the worst
    case); room: what stays free on the device when everything is there (below 0: it cannot be there).
    kv_needed: bytes of one request of max_model_len tokens; block_tokens, blocks, tokens and concurrency: what the
    release makes of the expected kv and reports. max_positions: the longest request in tokens that the model itself
    allows. largest_length, safe_length: the longest request that the expected KV cache holds, and that it holds also
    in the worst case, at most what the model allows; 0 where none fits.
    confidence: calibrated where the terms were fitted to starts of this release on this kind of GPU, fitted where they
    were to neighbours, low where something about the model, device or release is not known; notes say what.
    """

    device: str
    total: int
    budget: int
    terms: tuple[Term, ...]
    outside: tuple[Term, ...]
    kv: Term
    room: Term
    kv_needed: int
    max_model_len: int
    max_positions: int
    block_tokens: int
    blocks: int
    tokens: int
    concurrency: float
    largest_length: int
    safe_length: int
    confidence: Confidence
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """fits: also in the worst case; tight: expected to fit, not in the worst case; misfit: not expected to fit."""
        if self.largest_length < self.max_model_len or self.room.expected < 0:
            return "misfit"
        return "fits" if self.safe_length >= self.max_model_len and self.room.low >= 0 else "tight"

    @property
    def safe_utilization(self) -> float:
        """The greatest gpu_memory_utilization, in steps of 0.01, that leaves what stands outside its room at worst."""
        return max(0.0, math.floor((self.budget + self.room.low) / self.total * 100) / 100)

    def as_data(self) -> dict[str, object]:
        """Plain data for the plan."""
        return {**dataclasses.asdict(self), "verdict": self.verdict}


def left(name: str, whole: int, terms: t.Iterable[Term]) -> Term:
    """What terms leave of so many bytes.

    Their errors are taken as independent, so they add in quadrature: low is where they are all together worse than
    expected.
    """
    parts = tuple(terms)
    expected = whole - sum(term.expected for term in parts)
    worse = math.sqrt(sum((term.high - term.expected) ** 2 for term in parts))
    better = math.sqrt(sum((term.expected - term.low) ** 2 for term in parts))
    return Term(name, int(expected - worse), expected, int(expected + better))
