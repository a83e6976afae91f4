# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""How well an NVIDIA card is: memory errors, throttling, temperature and power."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.reader import Reader, as_bool

# Constants of nvml.h; bindings spell some of them differently from version to version.
_TEMPERATURE_GPU = 0
_UNCORRECTED = 1
_VOLATILE, _AGGREGATE = 0, 1
_SINGLE_BIT, _DOUBLE_BIT = 0, 1
# nvmlClocksEventReason* (nvmlClocksThrottleReason* before 12.2), by bit.
_THROTTLE = (
    "gpu_idle",
    "applications_clocks_setting",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "display_clock_setting",
    "board_limit",
    "reliability",
)


def health(ask: Reader, handle: t.Any) -> dict[str, t.Any]:
    """The health of a card, without its Xid errors; null for what it does not support."""
    # Not supported on a card that is divided into MIG devices (nvml.h, nvmlDeviceGetUtilizationRates).
    busy = ask.call("utilization", "nvmlDeviceGetUtilizationRates", handle)
    reasons = ask.call("throttle_reasons", "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return {
        "temperature_celsius": ask.call("temperature", "nvmlDeviceGetTemperature", handle, _TEMPERATURE_GPU),
        "utilization_percent": None if busy is None else int(busy.gpu),
        "power_watts": _watts(ask.call("power", "nvmlDeviceGetPowerUsage", handle)),
        "power_limit_watts": _watts(ask.call("power_limit", "nvmlDeviceGetEnforcedPowerLimit", handle)),
        "throttle_reasons": None if reasons is None else throttle_reasons(reasons),
        "ecc_uncorrected_volatile": _ecc(ask, handle, "ecc_uncorrected_volatile", _VOLATILE),
        "ecc_uncorrected_aggregate": _ecc(ask, handle, "ecc_uncorrected_aggregate", _AGGREGATE),
        "remapped_rows": _remapped_rows(ask, handle),
        "retired_pages": _retired_pages(ask, handle),
    }


def throttle_reasons(bits: int) -> list[str]:
    """Names of NVML's bits; a bit that is newer than this list by its number."""
    return [
        _THROTTLE[bit] if bit < len(_THROTTLE) else f"bit_{bit}" for bit in range(bits.bit_length()) if bits >> bit & 1
    ]


def _watts(milliwatts: int | None) -> int | None:
    return None if milliwatts is None else round(milliwatts / 1000)


def _ecc(ask: Reader, handle: t.Any, field: str, counter: int) -> int | None:
    return ask.call(field, "nvmlDeviceGetTotalEccErrors", handle, _UNCORRECTED, counter)


def _remapped_rows(ask: Reader, handle: t.Any) -> dict[str, t.Any] | None:
    """Rows of memory that the card replaced (Ampere and later)."""
    rows = ask.call("remapped_rows", "nvmlDeviceGetRemappedRows", handle)
    if rows is None:
        return None
    correctable, uncorrectable, pending, failed = rows
    return {
        "correctable": correctable,
        "uncorrectable": uncorrectable,
        "pending": bool(pending),
        "failed": bool(failed),
    }


def _retired_pages(ask: Reader, handle: t.Any) -> dict[str, t.Any] | None:
    """Pages of memory that the card no longer uses (before Ampere)."""
    single = ask.call("retired_pages", "nvmlDeviceGetRetiredPages", handle, _SINGLE_BIT)
    double = ask.call("retired_pages", "nvmlDeviceGetRetiredPages", handle, _DOUBLE_BIT)
    if single is None or double is None:
        return None
    pending = ask.call("retired_pages", "nvmlDeviceGetRetiredPagesPendingStatus", handle)
    return {"single_bit": len(single), "double_bit": len(double), "pending": as_bool(pending)}
