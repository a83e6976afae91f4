# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Carry out steps of which some wait for others, each as early as it can, in threads."""

from __future__ import annotations

import concurrent.futures
import typing as t

Key = t.TypeVar("Key", bound=t.Hashable)
Result = t.TypeVar("Result")


class Skipped(t.NamedTuple):
    """A step that was not attempted, for it waits, perhaps through others, for one that failed."""

    because: t.Any


def carry_out(
    waits: t.Mapping[Key, t.Collection[Key]],
    do: t.Callable[[Key], Result],
    failed: t.Callable[[Result], bool],
) -> t.Iterator[tuple[Key, Result | Skipped]]:
    """Yield each step with its result as it ends. A failed one keeps no step from going on that does not wait for it.

    waits: all steps, with those that must have succeeded before each; it has no circle.
    do: called in a thread of its own for each step. What it raises is raised here after the running steps have ended.
    """
    rest, done = dict(waits), set()
    culprits: dict[Key, Key] = {}
    running: dict[concurrent.futures.Future[Result], Key] = {}
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(rest))) as pool:
        while rest or running:
            for key in list(rest):
                culprit = next((culprits[one] for one in rest[key] if one in culprits), None)
                if culprit is not None:
                    culprits[key] = culprit
                    del rest[key]
                    yield key, Skipped(culprit)
                elif done.issuperset(rest[key]):
                    del rest[key]
                    running[pool.submit(do, key)] = key
            ended = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done
            for future in ended:
                key = running.pop(future)
                result = future.result()
                if failed(result):
                    culprits[key] = key
                else:
                    done.add(key)
                yield key, result
