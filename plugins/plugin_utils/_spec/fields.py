# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of single fields: sizes as people write them, GPU selectors in the forms that AWX and inventories bring."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
from decimal import Decimal

from pydantic import BeforeValidator, WithJsonSchema

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import did_you_mean

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,15})?)\s*(?P<unit>[KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_CAPABILITY = re.compile(r"(\d{1,2})(?:\.(\d))?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class GpuSelector:
    """Which GPUs of a host may be taken; None does not limit.

    count: how many; name: pattern of the product name with * and ?, in any case; memory: nominal bytes at least;
    compute_capability: at least.
    """

    count: int | None = None
    name: str | None = None
    memory: int | None = None
    compute_capability: tuple[int, int] | None = None


def show_gpus(selection: t.Sequence[int | str] | GpuSelector | None) -> str | None:
    """What placement.gpus asks for, as one line of text."""
    if not isinstance(selection, GpuSelector):
        return None if selection is None else ", ".join(map(str, selection))
    shown = {
        "count": selection.count,
        "name": selection.name,
        "memory": selection.memory and f"{selection.memory / 2**30:g}GiB",
        "compute_capability": selection.compute_capability and "{}.{}".format(*selection.compute_capability),
    }
    return ", ".join(f"{key}: {value}" for key, value in shown.items() if value is not None)


def parse_bytes(value: t.Any) -> int | None:
    """Bytes of 1073741824, "1GiB", "1G" or "512m"; units are binary, as Docker's are. Raises ValueError."""
    if value is None:
        return None
    match = None if isinstance(value, (bool, list, dict)) else _SIZE.fullmatch(str(value).strip())
    size = int(Decimal(match["number"]) * _UNITS[match["unit"].upper()]) if match else 0
    if size < 1:
        raise ValueError("is no size; write bytes or a number with KiB, MiB, GiB or TiB")
    return size


def parse_gpus(value: t.Any) -> list[int | str] | GpuSelector | None:
    """Indices and UUIDs as a list, or a selector.

    A list comes as a list, one value, a comma-separated text, or JSON (also encoded twice); a selector as a mapping or
    JSON. Raises ValueError.
    """
    if value is None or isinstance(value, GpuSelector):
        return value
    for _depth in range(2):
        if isinstance(value, str) and value.strip().startswith(("[", '"', "{")):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise ValueError("begins as JSON and is none; write a list of GPU indices and UUIDs") from error
    if isinstance(value, dict):
        return _selector(value)
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list) or not value:
        raise ValueError("is neither a list of GPU indices and UUIDs nor a mapping that selects GPUs")
    gpus = [_gpu(item) for item in value]
    if len(set(gpus)) < len(gpus):
        raise ValueError("names a GPU twice")
    return gpus


def _selector(value: dict[t.Any, t.Any]) -> GpuSelector:
    known = {field.name: None for field in dataclasses.fields(GpuSelector)}
    unknown = [str(key) for key in value if key not in known]
    if unknown:
        raise ValueError(f"{short(unknown[0])} is unknown. {did_you_mean(unknown[0], known)}")
    given = {key: item for key, item in value.items() if item is not None}
    if not given:
        raise ValueError("selects nothing; leave it out, or write count, name, memory or compute_capability")
    for key, item in given.items():
        try:
            known[key] = _SELECTS[key](item)
        except ValueError as error:
            raise ValueError(f"{key} {error}") from error
    return GpuSelector(**known)


def _count(value: t.Any) -> int:
    text = "" if isinstance(value, bool) else str(value).strip()
    if not re.fullmatch(r"\d{1,4}", text, re.ASCII) or int(text) < 1:
        raise ValueError("is no number of GPUs")
    return int(text)


def _pattern(value: t.Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError('is no pattern of a name; write for example "*H100*"')
    return value.strip()


def _capability(value: t.Any) -> tuple[int, int]:
    match = None if isinstance(value, bool) else _CAPABILITY.fullmatch(str(value).strip())
    if not match:
        raise ValueError("is no compute capability; write for example 9.0")
    return int(match[1]), int(match[2] or 0)


_SELECTS: dict[str, t.Callable[[t.Any], t.Any]] = {
    "count": _count,
    "name": _pattern,
    "memory": parse_bytes,
    "compute_capability": _capability,
}


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


# What the fields take, for the published JSON Schema; templates of numbers are texts.
_SIZE_FORMS = [
    {"type": "integer", "minimum": 1},
    {"type": "string", "pattern": r"^\s*(?=.*[1-9])\d{1,15}(\.\d{1,15})?\s*[KMGTkmgt]?([Ii]?[Bb])?\s*$"},
]
_WHOLE_FORMS = [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^\s*\d{1,4}\s*$"}]
_GPU = r"\s*(\d{1,4}|(GPU|MIG)-[\w/-]{1,100})\s*"
_GPU_FORMS = [{"type": "integer", "minimum": 0, "maximum": 9999}, {"type": "string", "pattern": f"^{_GPU}$"}]
_GPUS_SCHEMA = {
    "anyOf": [
        {"type": "array", "items": {"anyOf": _GPU_FORMS}, "minItems": 1},
        {
            "type": "object",
            "properties": {
                "count": {"anyOf": _WHOLE_FORMS},
                "name": {"type": "string"},
                "memory": {"anyOf": _SIZE_FORMS},
                "compute_capability": {"type": ["number", "string"]},
            },
            "minProperties": 1,
            "additionalProperties": False,
        },
        _GPU_FORMS[0],
        {"type": "string", "pattern": rf'^({_GPU}(,{_GPU})*,?|\s*[\["{{].*)$'},
        {"type": "null"},
    ]
}
_PORT_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": r"^\s*(0{0,4}[1-9]\d{0,4}|auto)\s*$"},
    ]
}

Bytes = t.Annotated[
    int | None, BeforeValidator(parse_bytes), WithJsonSchema({"anyOf": [*_SIZE_FORMS, {"type": "null"}]})
]
GpuSelection = t.Annotated[
    list[int | str] | GpuSelector | None, BeforeValidator(parse_gpus), WithJsonSchema(_GPUS_SCHEMA)
]
Port = t.Annotated[int | t.Literal["auto"], BeforeValidator(parse_port), WithJsonSchema(_PORT_SCHEMA)]
