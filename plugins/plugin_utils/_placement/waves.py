# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who copies from whom: a few hosts have something, the others take it in waves, whoever has it being a source."""

from __future__ import annotations

from collections.abc import Collection, Sequence

# A source from which so many hosts could not copy is not asked again; a host that could not copy from so many sources
# is given up.
SOURCE_FAILURES = 2
TARGET_FAILURES = 3


def wave(wanting: Sequence[str], holders: Sequence[str], failures: Collection[tuple[str, str]] = ()) -> dict[str, str]:
    """The next wave: source of each host that copies in it, at most one host for each source.

    wanting: hosts that lack it. holders: hosts that have it. failures: pairs (source, target) that did not work. Of a
    pair that failed nobody knows which end is broken: both try another, until one of them has failed too often.
    """
    failed = set(failures)
    usable = [one for one in holders if len({target for source, target in failed if source == one}) < SOURCE_FAILURES]
    # Sources that have failed nobody come first.
    free = sorted(usable, key=lambda one: sum(source == one for source, _target in failed))
    found = {}
    for target in wanting:
        tried = {source for source, other in failed if other == target}
        if len(tried) >= TARGET_FAILURES:
            continue
        source = next((one for one in free if one not in tried), None)
        if source is not None:
            found[target] = source
            free.remove(source)
    return found
