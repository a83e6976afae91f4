# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of downloads, from the file that hf_snapshot writes to lines that people read. Pure."""

from __future__ import annotations

import typing as t

_BAR_CELLS = 20
_GB = 10**9


def fetching_line(host: str, event: t.Mapping[str, t.Any]) -> str:
    """What a person reads while a snapshot is fetched or verified.

    event: one line of the progress file: subject, stage, seconds, and done, total and bytes_per_second, or holder or
    file.
    """
    line = f"{host} | {event['subject']} | {event['seconds']:6.1f} s | {event['stage']:<9} | "
    if "holder" in event:
        return f"{line}for {event['holder']}"
    if "total" not in event:
        return f"{line}{event.get('file', '')}".rstrip(" |")
    done, total, rate = event["done"], event["total"], event["bytes_per_second"]
    full = min(_BAR_CELLS, _BAR_CELLS * done // total) if total else _BAR_CELLS
    text = f"{done / _GB:.2f} of {total / _GB:.2f} GB, {rate / 10**6:.0f} MB/s"
    left = (total - done) / rate if rate else 0
    return f"{line}{text}{f', {left:.0f} s left' if left >= 1 else ''} [{'#' * full}{'.' * (_BAR_CELLS - full)}]"
