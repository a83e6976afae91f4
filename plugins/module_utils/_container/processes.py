# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Processes of this host, told apart from later ones that got the same number. Reads only."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.host import read_text

# The 22nd field of /proc/<pid>/stat, counted from the state, which is the 3rd (proc(5)); it comes after the name in
# parentheses, which may hold anything.
_BORN = 22 - 3


def births(pids: t.Iterable[int]) -> dict[int, str]:
    """When each of these processes began, in ticks since the boot; those that are not there are left out."""
    found = {}
    for pid in pids:
        fields = (read_text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
        # A zombie has ended; only its parent has not looked yet.
        if len(fields) > _BORN and fields[0] != "Z":
            found[pid] = fields[_BORN]
    return found


def alive(born: t.Mapping[int, str]) -> list[int]:
    """Which of these processes are still there."""
    now = births(born)
    return sorted(pid for pid, birth in born.items() if now.get(pid) == birth)
