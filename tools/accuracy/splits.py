# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How right the estimate is on models that its constants were not fitted to.

The models of the records are dealt into two halves, the constants are fitted to the one and the other is scored, both
ways round; or each family in turn is left out of the fit and scored. Weights, capacity and the sizes of tensors are
fitted to nothing, and stay as they are.
"""

from __future__ import annotations

import random
import sys
import typing as t

import score
from predict import Prediction, predict
from records import HERE, Case

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory import spread

sys.path.insert(0, str(HERE.parent / "memory"))
import refit  # noqa: E402  (the folder of the tool is no package)

# Bars that the fitted constants have a part in.
FITTED = (
    "activation, not calibrated",
    "graphs, all",
    "available KV, calibrated",
    "available KV, not calibrated",
    "KV tokens end to end, calibrated",
    "KV tokens end to end, not calibrated",
    "truth in low..high, available KV",
    "width of low..high, median",
    "failures called a fit at low",
    "verdict right",
    "successes refused",
)


def halves(plain: t.Sequence[Case], cases: t.Sequence[Case], times: int, seed: int = 1) -> list[Prediction]:
    """Predictions of every case, so many times, each by constants fitted to models that its own is not among.

    plain: the records alone, which constants are fitted to; cases: those that are scored.
    """
    models = sorted({case.model for case in plain if case.model})
    dealer = random.Random(seed)
    found: list[Prediction] = []
    for _time in range(times):
        dealer.shuffle(models)
        one, two = set(models[::2]), set(models[1::2])
        for fitted, scored in ((one, two), (two, one)):
            found += _apart(
                [case for case in plain if case.model in fitted], [case for case in cases if case.model in scored]
            )
    return found


def families(plain: t.Sequence[Case], cases: t.Sequence[Case]) -> list[Prediction]:
    """Predictions of every case by constants fitted to all families but its own."""
    found: list[Prediction] = []
    for family in sorted({case.family for case in plain}):
        found += _apart(
            [case for case in plain if case.family != family], [case for case in cases if case.family == family]
        )
    return found


def bars(predictions: t.Sequence[Prediction]) -> list[score.Bar]:
    """What must hold, of that which constants are fitted for."""
    return [one for one in score.bars(predictions) if one.name in FITTED]


def _apart(fitted: t.Sequence[Case], scored: t.Sequence[Case]) -> list[Prediction]:
    with spread.replaced(refit.refit(refit.usable(fitted))):
        return [predict(case) for case in scored]
