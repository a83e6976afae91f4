# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of Python as JSON."""

from __future__ import annotations

import enum
from typing import Any


def plain(value: Any) -> Any:
    """A value as JSON; null for an object that has no such form."""
    if isinstance(value, enum.Enum):
        return plain(value.value) if isinstance(value.value, str | int) else value.name
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    return value if isinstance(value, str | int | float | bool | None) else None
