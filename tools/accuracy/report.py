# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How right the memory estimate is, on records of real starts of vLLM.

    PYTHONPATH=.build/collections python3 tools/accuracy/report.py [--records FILE] [--models FILE] [--json OUT]
                                                                   [--peers] [--worst N] [--splits N]

With the Python of any of .build/venv-core-*. Without --records it runs over the records kept here and writes
docs/accuracy.md and docs/accuracy.svg too. --records takes any file of the same form, short or long (records.py); a
model_configs.json that lies beside it knows the models that models.json does not. --peers runs the other estimators
anew (peers/run.py), each in an environment of its own below .build/peers; without it, what they said last time is
shown. --splits deals the models into halves so many times and scores each by constants fitted to the other (splits.py);
10 times for the records kept here, not at all for other files, unless it is said.

The JSON:

    schema      1
    bars        what must hold: name, limit, measured, count (records that test it), reached (true, false, or null where
                no record tests it), beyond (ids of the records that are further off)
    terms       by term: count, mean (absolute error), bias, worst, mean_percent, covered (% of truths in low..high); in
                GiB, tokens or requests
    capacity    by quantity: [exact, testable], the log's own KV bytes given
    verdicts    by "came up" and "failed", by verdict (fits, tight, misfit): ids
    peers       peer, family, quantity (available KV in GiB, tokens in %, verdict in % right), count, ours, theirs
                (means on the records that both say something of), nearer (ours, equal, theirs)
    records     id, model, family, release, release_basis (stated, image, development build, date, form), calibrated,
                utilization_assumed (the record states none: the release's default), gpu_assumed (its bytes),
                sourced (whether something of it is from sources.json),
                gpu, gpu_gib, outcome, confidence, verdict ("" where it cannot be told), started (true, false, null:
                says nothing of memory), fault (why nothing is predicted, "" where something is), unused (by quantity,
                why it is not),
                terms: by term, {low, expected, high, truth, error} in GiB, tokens or requests (error: expected less
                truth), and available_kv: {low, expected, high} in GiB also where the truth is not known,
                capacity: by quantity, the same with exact (true, false); low and high are what the log's rounding of
                the KV bytes leaves open
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import typing as t

import compare
import page
import score
import splits
from predict import GIB, Prediction, predict
from records import MODELS, RECORDS, load_models, load_records, load_sources, read_cases

# How often the kept records' models are dealt into halves.
SPLITS = 10
ROOT = pathlib.Path(__file__).resolve().parents[2]


def main(arguments: t.Sequence[str] | None = None) -> int:
    """Run the report."""
    parser = argparse.ArgumentParser(description="How right the memory estimate is on recorded starts.")
    parser.add_argument("--records", type=pathlib.Path, help="records to run over instead of those kept here")
    parser.add_argument("--models", type=pathlib.Path, default=MODELS, help="facts of models")
    parser.add_argument("--json", type=pathlib.Path, help="write every prediction and truth to this file")
    parser.add_argument("--peers", action="store_true", help="run the other estimators anew")
    parser.add_argument("--worst", type=int, default=0, help="list so many of the worst records of each term")
    parser.add_argument("--splits", type=int, help="score each half of the models by the other, so many times")
    given = parser.parse_args(arguments)
    path = given.records or RECORDS
    models = load_models(given.models, path)
    records = load_records(path)
    cases, alone = read_cases(records, models, load_sources()), read_cases(records, models)
    predictions, plain = [predict(case) for case in cases], [predict(case) for case in alone]
    times = SPLITS if given.splits is None and given.records is None else given.splits or 0
    unseen = page.unseen(splits.halves(alone, cases, times), splits.families(alone, cases), times) if times else ""
    said = compare.ask(predictions, models) if given.peers else compare.run.load()
    if given.peers and given.records is None:
        compare.run.save(said)
    if given.records is None:
        (ROOT / "docs" / "accuracy.svg").write_text(page.picture(predictions), encoding="utf-8")
        (ROOT / "docs" / "accuracy.md").write_text(whole_page(predictions, said, plain, unseen), encoding="utf-8")
    if given.json:
        given.json.write_text(json.dumps(data(predictions, said), indent=1) + "\n", encoding="utf-8")
    print(summary(predictions, said, plain))
    if unseen:
        print(f"\n{unseen}")
    if given.worst:
        for term in score.TERMS:
            print(f"\n## {term}\n\n{page.worst(predictions, term, given.worst)}")
    return 0


def summary(predictions: t.Sequence[Prediction], said: compare.Said, plain: t.Sequence[Prediction] = ()) -> str:
    """What a terminal gets. plain: predictions of the records alone, without what their sources say beside them."""
    used = [one for one in predictions if not one.fault]
    return "\n\n".join(
        [
            f"{len(used)} of {len(predictions)} records are of use.",
            page.bars(score.bars(predictions)),
            page.without_assumed(predictions),
            page.without_sources(predictions, plain),
            page.calibrated_on(predictions),
            page.terms(predictions, None, ""),
            page.terms(predictions, score.by_family, "family"),
            page.releases(predictions),
            page.terms(predictions, score.by_release, "release"),
            page.terms(predictions, score.by_gpu, "GPU"),
            page.capacity(predictions),
            page.confusion(predictions),
            peers_text(predictions, said),
            page.reasons(predictions),
        ]
    )


def whole_page(
    predictions: t.Sequence[Prediction], said: compare.Said, plain: t.Sequence[Prediction], unseen: str
) -> str:
    """docs/accuracy.md."""
    found = score.bars(predictions)
    used = sum(not one.fault for one in predictions)
    calibrated = sum(one.calibrated for one in predictions)
    return f"""\
# How right the memory estimate is

Made by `make accuracy` from {len(predictions)} records of real starts of vLLM (`tools/accuracy/records.jsonl`, each
with its source); {used} are of use, {calibrated} of them on a release and GPU that the terms are fitted to. GiB are
2³⁰ bytes; errors are predicted less true, "mean" is of absolute errors.

These figures flatter: the constants of activation, runtime, graphs and context are fitted to the records of these very
starts, and their shape was chosen with all of them in sight. Weights and capacity are computed as vLLM does, with
nothing fitted. How right it is on models that the constants have not seen is [below](#models-not-seen).

{page.calibrated_on(predictions)}

Records that do not state gpu_memory_utilization are scored with the release's default ("utilization assumed"); they
never count as calibrated. What a record's own source says and the record does not (the rank of adapters, the packages
beside vLLM, the rest of a command) is in `tools/accuracy/sources.json`; the constants are fitted without it. Two
readings were made after their effect had been seen: gt186, a build without a number, is 0.27.0, for its capacity is met
from 0.26.0 on and with no earlier release; and gt009 is taken to be of an image with FlashInfer, which its release's
image is, while the other rows of its page are not.

## What is weak

{page.weak(found, compare.pairs(predictions, said), predictions)}

## What must hold

Thin: fewer than {page.THIN} records say so.

{page.bars(found)}

{page.without_assumed(predictions)}

{page.without_sources(predictions, plain)}

## Models not seen

{unseen}

## Available KV cache

![Predicted against true available KV cache](accuracy.svg)

{page.interval(predictions)}

## By term

{page.terms(predictions, None, "")}

## By family

{page.terms(predictions, score.by_family, "family")}

## By release

{page.releases(predictions)}

{page.terms(predictions, score.by_release, "release")}

## By GPU

{page.terms(predictions, score.by_gpu, "GPU")}

## Capacity

Exact of testable, the log's own bytes of KV cache given. Exact is what the log's rounding to 0.01 GiB leaves open, or
0.1 %.

{page.capacity(predictions)}

## Verdict

{page.confusion(predictions)}

## Other estimators

On the same records, each where it says something. Each gets what a careful user would give it: the GPU's bytes as CUDA
reports them and vLLM's own defaults filled in. hf-mem, accelerate and GPUStack's rule know nothing of a KV budget: what
they take off the budget stands for it. Verdict: whether the start comes up; of ours, tight counts as yes.

{peers_text(predictions, said)}

## What is not used

{page.reasons(predictions)}
"""


def peers_text(predictions: t.Sequence[Prediction], said: compare.Said) -> str:
    """The peers' part, for the terminal and the page."""
    found = compare.pairs(predictions, said)
    if not found:
        return "Nothing of other estimators is known on these records (--peers runs them)."
    versions = {peer: answers["version"] for peer, answers in said.items()}
    tables = [page.peers(found, quantity) for quantity in compare.QUANTITIES]
    return "\n\n".join([page.best_peers(found), *tables, page.refusals(compare.refusals(said, predictions), versions)])


def data(predictions: t.Sequence[Prediction], said: compare.Said) -> dict[str, t.Any]:
    """The JSON, as the docstring of this file says."""
    verdicts = {
        name: {
            verdict: score.confusion(predictions).get((started, verdict), []) for verdict in ("fits", "tight", "misfit")
        }
        for name, started in (("came up", True), ("failed", False))
    }
    errors = {term: score.error(score.measures(predictions, term)) for term in score.TERMS}
    return {
        "schema": 1,
        "bars": [one.as_data() for one in score.bars(predictions)],
        "terms": {term: dataclasses.asdict(found) for term, found in errors.items() if found},
        "capacity": score.exacts(predictions),
        "verdicts": verdicts,
        "peers": [one.as_data() for one in compare.pairs(predictions, said)],
        "records": [{**_record(one), "peers": _answers(one, said)} for one in predictions],
    }


def _answers(one: Prediction, said: compare.Said) -> dict[str, t.Any]:
    """What each peer says of one record."""
    return {
        peer: answers["records"][one.case.id] for peer, answers in said.items() if one.case.id in answers["records"]
    }


def _record(one: Prediction) -> dict[str, t.Any]:
    case = one.case
    return {
        "id": case.id,
        "model": case.model or None,
        "family": case.family,
        "release": case.release,
        "release_basis": case.release_basis,
        "calibrated": one.calibrated,
        "utilization_assumed": "utilization" in case.assumed,
        "gpu_assumed": "gpu" in case.assumed,
        "sourced": case.sourced,
        "gpu": case.device.name if case.device else None,
        "gpu_gib": round(case.device.total / GIB, 2) if case.device else None,
        "outcome": case.outcome,
        "confidence": one.confidence,
        "verdict": one.verdict,
        "started": one.started,
        "fault": one.fault,
        "unused": dict(one.unused),
        "terms": {name: found.as_data() for name, found in one.terms.items()},
        "available_kv": dict(zip(("low", "expected", "high"), (round(size, 4) for size in one.kv), strict=True))
        if one.kv
        else None,
        "capacity": {name: {**found.as_data(), "exact": one.exact[name]} for name, found in one.capacity.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
