# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""One call of a vendor's library at a time: a value, null where the card does not support it, or an error by field."""

from __future__ import annotations

import typing as t

# What a vendor's judge says of an error.
UNSUPPORTED = "unsupported"
LOST = "lost"
FAILED = "failed"

Judge = t.Callable[[Exception], str]


class Reader:
    """Calls functions of a vendor's binding for one card, one field each, and keeps each error with its field.

    errors: what went wrong, by field. lost: the error that says that the card is gone, None while it answers.
    """

    def __init__(self, library: t.Any, package: str, judge: Judge) -> None:
        self.errors: dict[str, str] = {}
        self.lost: Exception | None = None
        self._library = library
        self._package = package
        self._judge = judge

    def call(self, field: str, name: str, *args: t.Any) -> t.Any:
        """What the function of this name returns; None where it is not supported, missing or failed."""
        function = getattr(self._library, name, None)
        if function is None:
            self.errors[field] = f"the installed binding has no {name}; install {self._package}"
            return None
        try:
            return function(*args)
        except Exception as error:
            # Bindings raise bare Exception subclasses that not all of their versions have, and let the decoding error
            # of a broken name through.
            verdict = self._judge(error)
            if verdict == UNSUPPORTED:
                return None
            if verdict == LOST:
                self.lost = error
            self.errors[field] = str(error)
            return None

    def probe(self, name: str, *args: t.Any) -> t.Any:
        """As call, where any error only says that there is no such thing on this card."""
        value = self.call(name, name, *args)
        self.errors.pop(name, None)
        return value


def text(value: str | bytes | None) -> str | None:
    """Old bindings return bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def as_bool(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def new_gpu(index: int, field_errors: dict[str, str]) -> dict[str, t.Any]:
    """A card of which nothing is known yet: the fields that every vendor fills."""
    return {
        "index": index,
        "uuid": None,
        "name": None,
        "memory_total_bytes": None,
        "memory_free_bytes": None,
        "memory_used_bytes": None,
        "memory_reserved_bytes": None,
        "memory_cuda_total_bytes": None,
        "memory_shared_with_host": False,
        "compute_capability": None,
        "gfx_target": None,
        "pci_bus_id": None,
        "numa_node": None,
        "persistence_mode": None,
        "ecc_enabled": None,
        "mig_enabled": False,
        "mig_enabled_after_reset": None,
        "mig_devices": [],
        "nvlink": None,
        "fabric": None,
        "health": {
            "temperature_celsius": None,
            "utilization_percent": None,
            "power_watts": None,
            "power_limit_watts": None,
            "throttle_reasons": None,
            "ecc_uncorrected_volatile": None,
            "ecc_uncorrected_aggregate": None,
            "remapped_rows": None,
            "retired_pages": None,
            "xids": None,
        },
        "processes": None,
        "field_errors": field_errors,
        "error": None,
    }
