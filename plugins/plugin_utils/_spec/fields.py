# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of single fields: sizes as people write them, GPU selectors in the forms that AWX and inventories bring."""

from __future__ import annotations

import json
import re
import typing as t
from decimal import Decimal

from pydantic import BeforeValidator

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,15})?)\s*(?P<unit>[KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)


def parse_bytes(value: t.Any) -> int | None:
    """Bytes of 1073741824, "1GiB", "1G" or "512m"; units are binary, as Docker's are. Raises ValueError."""
    if value is None:
        return None
    match = None if isinstance(value, (bool, list, dict)) else _SIZE.fullmatch(str(value).strip())
    size = int(Decimal(match["number"]) * _UNITS[match["unit"].upper()]) if match else 0
    if size < 1:
        raise ValueError("is no size; write bytes or a number with KiB, MiB, GiB or TiB")
    return size


def parse_gpus(value: t.Any) -> list[int | str] | None:
    """Indices and UUIDs as a list, from a list, one value, a comma-separated text, or JSON (also encoded twice).

    Raises ValueError.
    """
    if value is None:
        return None
    for _depth in range(2):
        if isinstance(value, str) and value.strip().startswith(("[", '"')):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise ValueError("begins as JSON and is none; write a list of GPU indices and UUIDs") from error
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list) or not value:
        raise ValueError("is no list of GPU indices and UUIDs")
    gpus = [_gpu(item) for item in value]
    if len(set(gpus)) < len(gpus):
        raise ValueError("names a GPU twice")
    return gpus


def _gpu(value: t.Any) -> int | str:
    text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if re.fullmatch(r"\d{1,4}", text, re.ASCII):
        return int(text)
    if not re.fullmatch(r"(?:GPU|MIG)-[\w/-]{1,100}", text, re.ASCII):
        raise ValueError("holds something that is neither an index nor a UUID (GPU-... or MIG-...)")
    return text


def parse_port(value: t.Any) -> int | str:
    """A TCP port, or "auto". Raises ValueError."""
    text = str(value).strip()
    if text == "auto":
        return "auto"
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,5}", text, re.ASCII) or not 1 <= int(text) <= 65535:
        raise ValueError("is neither a port from 1 to 65535 nor auto")
    return int(text)


Bytes = t.Annotated[int | None, BeforeValidator(parse_bytes)]
GpuSelection = t.Annotated[list[int | str] | None, BeforeValidator(parse_gpus)]
Port = t.Annotated[int | t.Literal["auto"], BeforeValidator(parse_port)]
