# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What is to be seen when a container ends: its time to end, its processes gone, its GPU memory back. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.usage import Usage

# Seconds that a container gets beyond those in which vLLM finishes its requests. vLLM 0.32.0 ended 0.9 to 7 s after its
# last request (measured); from 0.18.0 on it has --shutdown-timeout (vllm/entrypoints/openai/cli_args.py).
MARGIN_SECONDS = 10
_DRAINING = "--shutdown-timeout"
# Exit code of what SIGKILL has ended.
_KILLED = 137
# Bytes that the driver and other processes may take meanwhile without being taken for what has not come back.
SLACK_BYTES = 256 * 2**20

Usages = t.Mapping[str, Usage]


def stop_seconds(spec: ContainerSpec) -> int:
    """Seconds from SIGTERM to SIGKILL: the container's own, and never fewer than its engine may take to drain."""
    draining = 0
    for word, value in zip(spec.argv, (*spec.argv[1:], "")):
        name, has_value, rest = word.replace("_", "-").partition("=")
        text = rest if has_value else value
        if name == _DRAINING and text.isdigit():
            draining = int(text) + MARGIN_SECONDS
    return max(spec.stop_seconds, draining)


def was_killed(exit_code: int, oom_killed: bool, seconds: float, allowed: int) -> bool:
    """Whether SIGTERM did not end it and SIGKILL did, after the seconds that it was allowed."""
    return exit_code == _KILLED and not oom_killed and seconds >= allowed


def gpus(spec: ContainerSpec) -> list[str]:
    """The UUIDs of its GPUs, also where they are named for CDI."""
    return [name.rpartition("=")[2] for name in spec.gpus.ids] if spec.gpus is not None else []


def is_back(before: Usages, now: Usages, pids: t.Collection[int]) -> bool:
    """Whether the memory of the GPUs that the processes had is free again, as far as NVML tells."""
    return all(not _missing(usage, now[uuid], pids) for uuid, usage in before.items() if uuid in now)


def missing(before: Usages, now: Usages, pids: t.Collection[int], name: str, seconds: float) -> list[str]:
    """For each GPU whose memory did not come back a sentence, with what is on it."""
    told = []
    for uuid, usage in sorted(before.items()):
        after = now.get(uuid)
        if after is None or not _missing(usage, after, pids):
            continue
        ours = sorted(pid for pid in after.processes or () if pid in pids)
        others = sorted(pid for pid in after.processes or () if pid not in pids)
        what = f"{(after.used_bytes or 0) / 2**30:.1f} GiB of {uuid} are in use {seconds:.0f} s after {name} ended"
        if ours:
            told.append(
                f"{what}, by processes of it that do not end ({_named(ours)}). A process that SIGKILL does not end "
                "waits for the driver: look for Xid lines in the kernel log, and reset the GPU or restart the host."
            )
        elif others:
            told.append(f"{what}. On it are processes of others ({_named(others)}), which were left alone.")
        else:
            told.append(
                f"{what}, and NVML names no process that has them. Look with nvidia-smi; a GPU reset frees them."
            )
    return told


def _missing(before: Usage, now: Usage, pids: t.Collection[int]) -> bool:
    """Whether something of what the processes had on this GPU is not free again."""
    listed = now.processes or {}
    if any(pid in listed for pid in pids):
        return True
    if before.used_bytes is None or now.used_bytes is None or before.processes is None or now.processes is None:
        return False
    had = sum(size or 0 for pid, size in before.processes.items() if pid in pids)
    # What others have taken meanwhile is theirs.
    grown = _of_others(now, pids) - _of_others(before, pids)
    return had > SLACK_BYTES and now.used_bytes > before.used_bytes - had + max(0, grown) + SLACK_BYTES


def _of_others(usage: Usage, pids: t.Collection[int]) -> int:
    return sum(size or 0 for pid, size in (usage.processes or {}).items() if pid not in pids)


def _named(pids: t.Sequence[int]) -> str:
    return ", ".join(map(str, pids))
