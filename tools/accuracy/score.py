# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scores of predictions: errors by term and group, the verdict's confusion, and what must hold."""

from __future__ import annotations

import collections
import dataclasses
import statistics
import typing as t

from predict import GIB, Measure, Prediction

TERMS = ("weights", "activation", "runtime", "graphs", "context", "consumed", "available KV", "tokens", "concurrency")
EXACTS = ("block", "blocks", "tokens", "concurrency", "request", "longest length")
# Names of those bars that follow from the budget as a whole.
END_TO_END = (
    "available KV, not calibrated",
    "KV tokens end to end, not calibrated",
    "truth in low..high, available KV",
    "width of low..high, median",
    "failures called a fit at low",
    "verdict right",
    "successes refused",
)
# Below this a share of the truth says nothing: 0.1 GiB of 1 GiB is 10 %. Errors of these are judged in GiB.
LEAST_GIB = 4.0


@dataclasses.dataclass(frozen=True)
class Error:
    """Errors of several measures. In the measures' unit, shares in %; covered: % of truths in low..high."""

    count: int
    mean: float
    bias: float
    worst: float
    mean_percent: float
    covered: float


def error(measures: t.Sequence[Measure]) -> Error | None:
    """The errors of some measures, None of none."""
    if not measures:
        return None
    sizes = [abs(one.error) for one in measures]
    shares = [abs(one.relative) for one in measures if one.truth > 0]
    return Error(
        count=len(measures),
        mean=statistics.fmean(sizes),
        bias=statistics.fmean(one.error for one in measures),
        worst=max(measures, key=lambda one: abs(one.error)).error,
        mean_percent=100 * statistics.fmean(shares) if shares else 0.0,
        covered=100 * statistics.fmean(one.covered for one in measures),
    )


def measures(predictions: t.Iterable[Prediction], term: str) -> list[Measure]:
    """The measures of one term."""
    return [one.terms[term] for one in predictions if term in one.terms]


def grouped(predictions: t.Iterable[Prediction], key: t.Callable[[Prediction], str]) -> dict[str, list[Prediction]]:
    """Predictions by a key, in the order of the keys."""
    groups: dict[str, list[Prediction]] = collections.defaultdict(list)
    for one in predictions:
        groups[key(one)].append(one)
    return dict(sorted(groups.items()))


def by_release(one: Prediction) -> str:
    """The release's minor and whether it is assumed, so that they stand in order."""
    major, minor = one.case.release.split(".")[:2]
    return f"{major}.{int(minor):02d}" + ("" if one.case.stated else " (assumed)")


def by_gpu(one: Prediction) -> str:
    """The GPU's name and its GiB."""
    device = one.case.device
    return f"{device.name}, {device.total / GIB:.2f} GiB" if device else "not known"


def by_family(one: Prediction) -> str:
    """The model's family."""
    return one.case.family


def widths(predictions: t.Iterable[Prediction]) -> list[float]:
    """Widths of low..high of the available KV, in % of the GPU."""
    found = []
    for one in predictions:
        if "available KV" in one.terms and one.case.device:
            found.append(100 * (one.kv_width or 0) * GIB / one.case.device.total)
    return found


def exacts(predictions: t.Iterable[Prediction]) -> dict[str, tuple[int, int]]:
    """Of each quantity of the capacity, (exact, testable)."""
    found = {name: [one.exact[name] for one in predictions if name in one.exact] for name in EXACTS}
    return {name: (sum(values), len(values)) for name, values in found.items() if values}


def confusion(predictions: t.Iterable[Prediction]) -> dict[tuple[bool, str], list[str]]:
    """Ids by (whether it started, verdict), of the starts of which both are known."""
    found: dict[tuple[bool, str], list[str]] = {}
    for one in predictions:
        if one.started is not None and one.verdict:
            found.setdefault((one.started, one.verdict), []).append(one.case.id)
    return found


@dataclasses.dataclass(frozen=True)
class Bar:
    """One thing that must hold. reached: None where no record tests it."""

    name: str
    limit: str
    measured: str
    count: int
    reached: bool | None
    beyond: tuple[str, ...] = ()

    def as_data(self) -> dict[str, t.Any]:
        """Plain data for the JSON."""
        return dataclasses.asdict(self)


def bars(predictions: t.Sequence[Prediction]) -> list[Bar]:
    """Everything that must hold, measured."""
    known = [one for one in predictions if one.calibrated]
    others = [one for one in predictions if not one.calibrated]
    return [
        _capacity(predictions),
        *(
            _weights(predictions, name, limit, families)
            for name, limit, families in (
                ("dense", 0.5, ("dense", "sliding", "multimodal", "hybrid")),
                ("MLA and MoE", 2.0, ("mla", "moe")),
                ("MXFP4", 7.0, ("mxfp4",)),
            )
        ),
        _term(known, "activation", "dense, calibrated", 0.05, lambda one: not _is_wide(one)),
        _term(known, "activation", "MoE and multimodal, calibrated", 0.2, _is_wide),
        _term(others, "activation", "not calibrated", 0.5, lambda one: True),
        _term(predictions, "graphs", "all", 0.25, lambda one: True),
        _available(known, "calibrated", 0.3, 2.0, both=True),
        _available(others, "not calibrated", 1.0, 5.0, both=False),
        _tokens(known, "calibrated", 3.0),
        _tokens(others, "not calibrated", 8.0),
        *_interval(predictions),
        *_verdict(predictions),
    ]


def _capacity(predictions: t.Sequence[Prediction]) -> Bar:
    tested = [one for one in predictions if one.exact]
    wrong = [one.case.id for one in tested if not all(one.exact.values())]
    share = 100 * (1 - len(wrong) / len(tested)) if tested else 0.0
    return _bar("capacity, the log's KV bytes given", "exact on 97 %", f"{share:.1f} %", tested, share >= 97, wrong)


def _weights(predictions: t.Sequence[Prediction], name: str, limit: float, families: t.Sequence[str]) -> Bar:
    tested = [one for one in predictions if "weights" in one.terms and _weights_family(one) in families]
    # The log rounds to 0.01 GiB, which is much of a small model.
    beyond = [one for one in tested if _beyond(one.terms["weights"]) > limit]
    mean = statistics.fmean(100 * abs(one.terms["weights"].relative) for one in tested) if tested else 0.0
    measured = f"mean {mean:.2f} %, {len(tested) - len(beyond)} of {len(tested)} within"
    return _bar(f"weights, {name}", f"{limit:g} % each", measured, tested, not beyond, [one.case.id for one in beyond])


def _weights_family(one: Prediction) -> str:
    """Mixtures of experts that also have windows or recurrent state are judged as mixtures of experts."""
    shape = one.case.shape
    if one.case.family == "mxfp4" or shape is None:
        return one.case.family
    return "moe" if shape.is_moe or shape.mla_width else one.case.family


def _beyond(measure: Measure) -> float:
    """The error in % of the truth, less the rounding."""
    return 100 * max(0.0, abs(measure.error) - measure.slack) / measure.truth


def _is_wide(one: Prediction) -> bool:
    shape = one.case.shape
    return bool(shape and (shape.is_moe or shape.is_multimodal))


def _term(
    predictions: t.Sequence[Prediction], term: str, name: str, limit: float, applies: t.Callable[[Prediction], bool]
) -> Bar:
    tested = [one for one in predictions if term in one.terms and applies(one)]
    found = error(measures(tested, term))
    beyond = [one.case.id for one in tested if abs(one.terms[term].error) > limit + one.terms[term].slack]
    measured = f"mean {found.mean:.3f} GiB, {len(tested) - len(beyond)} of {len(tested)} within" if found else ""
    return _bar(f"{term}, {name}", f"{limit:g} GiB mean", measured, tested, bool(found and found.mean <= limit), beyond)


def _available(predictions: t.Sequence[Prediction], name: str, limit: float, percent: float, both: bool) -> Bar:
    tested = [one for one in predictions if "available KV" in one.terms]
    found = error(measures(tested, "available KV"))
    large = [one for one in tested if one.terms["available KV"].truth >= LEAST_GIB]
    share = error(measures(large, "available KV"))
    shown = f"mean {found.mean:.3f} GiB" if found else ""
    shown += f", {share.mean_percent:.2f} % of {LEAST_GIB:g} GiB and more" if share else ""
    beyond = [one.case.id for one in tested if abs(one.terms["available KV"].error) > limit]
    holds = [bool(found and found.mean <= limit), bool(share and share.mean_percent <= percent)]
    word = "and" if both else "or"
    limits = f"{limit:g} GiB {word} {percent:g} % mean"
    return _bar(f"available KV, {name}", limits, shown, tested, all(holds) if both else any(holds), beyond)


def _tokens(predictions: t.Sequence[Prediction], name: str, percent: float) -> Bar:
    tested = [
        one
        for one in predictions
        if "tokens" in one.terms and ("available KV" not in one.terms or one.terms["available KV"].truth >= LEAST_GIB)
    ]
    found = error(measures(tested, "tokens"))
    shown = f"mean {found.mean_percent:.2f} %" if found else ""
    beyond = [one.case.id for one in tested if 100 * abs(one.terms["tokens"].relative) > percent]
    reached = bool(found and found.mean_percent <= percent)
    return _bar(f"KV tokens end to end, {name}", f"{percent:g} % mean", shown, tested, reached, beyond)


def _interval(predictions: t.Sequence[Prediction]) -> list[Bar]:
    tested = [one for one in predictions if "available KV" in one.terms]
    missed = [one.case.id for one in tested if not one.terms["available KV"].covered]
    share = 100 * (1 - len(missed) / len(tested)) if tested else 0.0
    width = statistics.median(widths(tested)) if tested else 0.0
    return [
        _bar("truth in low..high, available KV", "90 %", f"{share:.1f} %", tested, share >= 90, missed),
        _bar("width of low..high, median", "8 % of the GPU", f"{width:.2f} %", tested, width <= 8),
    ]


def _verdict(predictions: t.Sequence[Prediction]) -> list[Bar]:
    found = confusion(predictions)
    tested = [one for one in predictions if one.started is not None and one.verdict]
    false_fits = found.get((False, "fits"), [])
    refused = found.get((True, "misfit"), [])
    tight = found.get((False, "tight"), [])
    failed = [one for one in tested if not one.started]
    came_up = [one for one in tested if one.started]
    wrong = len(false_fits) + len(tight) + len(refused)
    right = 100 * (1 - wrong / len(tested)) if tested else 0.0
    share = 100 * len(refused) / len(came_up) if came_up else 0.0
    return [
        _bar("failures called a fit at low", "none", str(len(false_fits)), failed, not false_fits, false_fits),
        _bar(
            "verdict right",
            "95 %",
            f"{right:.1f} % (tight counts as a fit)",
            tested,
            right >= 95,
            [*false_fits, *tight],
        ),
        _bar("successes refused", "5 %", f"{share:.1f} %", came_up, share <= 5, refused),
    ]


def _bar(
    name: str, limit: str, measured: str, tested: t.Sequence[t.Any], reached: bool, beyond: t.Sequence[str] = ()
) -> Bar:
    return Bar(
        name, limit, measured if tested else "no record", len(tested), reached if tested else None, tuple(beyond)
    )


def worst(predictions: t.Iterable[Prediction], term: str, count: int = 15) -> list[Prediction]:
    """The predictions that are furthest off in a term, in its unit (tokens: as a share)."""
    having = [one for one in predictions if term in one.terms]
    key = "relative" if term in ("tokens", "concurrency") else "error"
    return sorted(having, key=lambda one: -abs(getattr(one.terms[term], key)))[:count]
