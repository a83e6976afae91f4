# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layers each stage of a pipeline has. Pure."""

from __future__ import annotations

import itertools
import re

from packaging.version import Version

# Until 0.7.3 the last stage has the layers that are left over (distributed/utils.py).
_EVEN_STAGES = Version("0.8.0")
# More digits than any number of layers has.
_PART = re.compile(r"\s*\d{1,9}\s*", re.ASCII)


def stages(layers: int, number: int, partition: str | None, release: Version) -> tuple[tuple[int, int], ...]:
    """First layer of each pipeline stage, and the one after its last: get_pp_indices in distributed/utils.py.

    partition: VLLM_PP_LAYER_PARTITION. One that does not add up stops the engine, and is passed over here.
    """
    sizes = [layers // number] * number
    if release < _EVEN_STAGES:
        sizes[-1] += layers % number
    else:
        for place in range(2, layers % number + 2):
            sizes[-place] += 1
    parts = (partition or "").split(",")
    if len(parts) == number and all(map(_PART.fullmatch, parts)) and sum(map(int, parts)) == layers:
        sizes = [int(part) for part in parts]
    return tuple((end - size, end) for end, size in zip(itertools.accumulate(sizes), sizes, strict=True))
