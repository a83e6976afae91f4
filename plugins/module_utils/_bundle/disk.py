# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Room on disks, asked before anything is written."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Refused


class Need(t.NamedTuple):
    """Bytes that are to be written below a path, which need not be there yet."""

    path: str
    size: int
    what: str


def need(needs: t.Sequence[Need], reserve: int) -> None:
    """Raises Refused when a file system has not room for all that goes there and a reserve; one message for all."""
    by_device: dict[int, list[Need]] = {}
    places: dict[int, str] = {}
    for one in needs:
        place = os.path.abspath(one.path)
        while not os.path.isdir(place) and place != "/":
            place = os.path.dirname(place)
        device = os.stat(place).st_dev
        places.setdefault(device, place)
        by_device.setdefault(device, []).append(one)
    faults = []
    for device, there in by_device.items():
        wanted = sum(one.size for one in there)
        status = os.statvfs(places[device])
        free = status.f_bavail * status.f_frsize
        if wanted and wanted + reserve > free:
            parts = ", ".join(f"{one.what} {one.size} bytes" for one in there if one.size)
            faults.append(
                f"the file system of {places[device]} has {free} bytes free, needed are {wanted} ({parts}) and "
                f"{reserve} that are to stay free: {wanted + reserve - free} too few"
            )
    if faults:
        raise Refused(
            f"There is not enough room, and nothing was changed: {'; '.join(faults)}. Make room, or choose another "
            "place.",
            faults=faults,
        )
