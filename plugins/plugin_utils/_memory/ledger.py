# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one server takes on one device: terms with their error, and what they leave for the KV cache."""

from __future__ import annotations

import dataclasses

GIB = 2**30
# vLLM's default block: config/cache.py of 0.32.0. Backends that use larger ones round a little coarser.
BLOCK_TOKENS = 16


@dataclasses.dataclass(frozen=True)
class Term:
    """Bytes on one device: at best, expected, at worst."""

    name: str
    low: int
    expected: int
    high: int


@dataclasses.dataclass(frozen=True)
class Ledger:
    """The memory of one GPU, or of the host for an engine on the CPU.

    total: the device's bytes; budget: what the engine may take of them; terms: what stands inside the budget beside the
    KV cache; outside: what the engine takes beyond its budget; kv: what is left for the KV cache (low is the worst
    case); kv_needed: bytes of one request of max_model_len tokens; tokens and concurrency: from the expected kv;
    max_positions: the longest request in tokens that the model itself allows.
    """

    device: str
    total: int
    budget: int
    terms: tuple[Term, ...]
    outside: tuple[Term, ...]
    kv: Term
    kv_bytes_per_token: int
    kv_needed: int
    max_model_len: int
    max_positions: int
    tokens: int
    concurrency: float
    calibrated: bool
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """fits: also in the worst case; tight: expected to fit, not in the worst case; misfit: not expected to fit."""
        if self.kv.expected < self.kv_needed or self.budget + sum(term.low for term in self.outside) > self.total:
            return "misfit"
        return "fits" if self.kv.low >= self.kv_needed else "tight"

    @property
    def largest_length(self) -> int:
        """The longest request, in tokens, that the expected KV cache holds and the model allows."""
        return self._length(self.kv.expected)

    @property
    def safe_length(self) -> int:
        """The longest request, in tokens, that the KV cache holds also in the worst case."""
        return self._length(self.kv.low)

    def as_data(self) -> dict[str, object]:
        """Plain data for the plan."""
        return {**dataclasses.asdict(self), "verdict": self.verdict, "largest_length": self.largest_length}

    def _length(self, kv: int) -> int:
        # A user may ask for more than the model's own limit, and says so to vLLM.
        return min(block_tokens(kv, self.kv_bytes_per_token), max(self.max_positions, self.max_model_len))


def block_tokens(kv: int, bytes_per_token: int) -> int:
    """Tokens that so many bytes of KV cache hold in whole blocks."""
    return max(0, kv) // (BLOCK_TOKENS * bytes_per_token) * BLOCK_TOKENS
