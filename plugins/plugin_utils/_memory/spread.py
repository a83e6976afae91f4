# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How sure a term is: the interval around an expected value. Pure.

tools/memory/refit.py writes data/memory/terms.json out of recorded starts.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings

FILE = pathlib.Path(__file__).parent.parent / "data" / "memory" / "terms.json"
Basis = t.Literal["calibrated", "nearby", "far"]
# Releases whose terms many recorded starts confirm, though on other GPUs or of other eras than the calibrated ones.
_NEARBY = (Version("0.7.0"), Version("0.20.0"))
_NEARBY_V1 = Version("0.8.0")


@functools.cache
def _stored() -> dict[str, t.Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


_other: list[dict[str, t.Any]] = []


def constants() -> dict[str, t.Any]:
    """The fitted constants. Figures in GiB where a name does not say otherwise."""
    return _other[-1] if _other else _stored()


@contextlib.contextmanager
def replaced(others: dict[str, t.Any]) -> t.Iterator[None]:
    """Use other constants meanwhile: the fit needs terms made of the ones that it has so far."""
    _other.append(others)
    try:
        yield
    finally:
        _other.pop()


def basis(chosen: Settings, device: Device) -> Basis:
    """How near the recorded starts are that the terms of this start rest on."""
    if chosen.calibrated:
        return "calibrated"
    if device.is_unified or device.is_amd or not device.capability or chosen.release >= _NEARBY[1]:
        return "far"
    return "nearby" if chosen.release >= (_NEARBY[0] if chosen.engine == "V0" else _NEARBY_V1) else "far"


def around(name: str, expected: float, kind: str, base: Basis) -> Term:
    """The term with the interval that the residuals of this kind give it; expected in bytes.

    An interval is a share of the expected value and a fixed part on either side.
    """
    found = constants()[name]["spread"][base]
    below, above, share = found.get(kind, found["any"])
    expected = max(0.0, expected)
    low = max(0.0, expected - below * GIB - share * expected)
    return Term(name, int(low), int(expected), int(expected + above * GIB + share * expected))
