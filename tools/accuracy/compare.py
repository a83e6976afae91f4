# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other estimators beside ours, on the same records: each is compared where it says something, and nowhere else."""

from __future__ import annotations

import dataclasses
import re
import statistics
import sys
import typing as t

import score
from predict import GIB, Prediction
from records import HERE

sys.path.insert(0, str(HERE / "peers"))
import run  # noqa: E402  (the folder of the adapters is no package)

Said = t.Mapping[str, t.Any]

QUANTITIES = {"available KV": "GiB", "tokens": "%", "verdict": "% right"}


@dataclasses.dataclass(frozen=True)
class Pair:
    """Ours against one peer's, on the count records where both say something; None of none. Unit: see QUANTITIES."""

    peer: str
    family: str
    quantity: str
    count: int
    ours: float
    theirs: float

    @property
    def nearer(self) -> t.Literal["ours", "equal", "theirs"]:
        """Whose is nearer to the truth, within what is printed."""
        ours, theirs = round(self.ours, 2), round(self.theirs, 2)
        if ours == theirs:
            return "equal"
        return "ours" if (ours > theirs) == (self.quantity == "verdict") else "theirs"

    def as_data(self) -> dict[str, t.Any]:
        """Plain data for the JSON."""
        return {**dataclasses.asdict(self), "nearer": self.nearer}


def pairs(predictions: t.Sequence[Prediction], said: Said) -> list[Pair]:
    """Every comparison that the records allow, all families together first."""
    groups = {"all": list(predictions), **score.grouped(predictions, score.by_family)}
    found = []
    for quantity in QUANTITIES:
        for family, members in groups.items():
            for peer, answers in said.items():
                pair = _pair(peer, family, quantity, members, answers["records"])
                if pair:
                    found.append(pair)
    return found


def _pair(
    peer: str, family: str, quantity: str, members: t.Sequence[Prediction], answers: t.Mapping[str, Said]
) -> Pair | None:
    ours, theirs = [], []
    for one in members:
        answer = answers.get(one.case.id, {})
        if quantity == "verdict":
            if one.started is None or not one.verdict or answer.get("fits") is None:
                continue
            ours.append(100.0 * ((one.verdict != "misfit") == one.started))
            theirs.append(100.0 * (answer["fits"] == one.started))
            continue
        key = "kv_gib" if quantity == "available KV" else "tokens"
        measure = one.terms.get(quantity)
        if measure is None or answer.get(key) is None or measure.truth <= 0:
            continue
        scale = 1.0 if quantity == "available KV" else 100 / measure.truth
        ours.append(abs(measure.error) * scale)
        theirs.append(abs(answer[key] - measure.truth) * scale)
    if not ours:
        return None
    return Pair(peer, family, quantity, len(ours), statistics.fmean(ours), statistics.fmean(theirs))


def best(found: t.Sequence[Pair]) -> list[Pair]:
    """By quantity and family, the peer that comes nearest to the truth."""
    chosen: dict[tuple[str, str], Pair] = {}
    for pair in found:
        key = (pair.quantity, pair.family)
        sign = -1 if pair.quantity == "verdict" else 1
        if key not in chosen or sign * pair.theirs < sign * chosen[key].theirs:
            chosen[key] = pair
    return list(chosen.values())


def refusals(said: Said, predictions: t.Sequence[Prediction]) -> dict[str, dict[str, int]]:
    """By peer, why it said nothing and how often, on these records."""
    ids = {one.case.id for one in predictions}
    found: dict[str, dict[str, int]] = {}
    for peer, answers in said.items():
        counts: dict[str, int] = {}
        for key, answer in answers["records"].items():
            if key in ids and "refused" in answer:
                why = answer["refused"][:90]
                counts[why] = counts.get(why, 0) + 1
        found[peer] = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return found


def jobs(predictions: t.Sequence[Prediction]) -> list[dict[str, t.Any]]:
    """What the peers are asked: every record whose model, bytes and GPU are known."""
    found = []
    for one in predictions:
        case, chosen = one.case, one.chosen
        if chosen is None or case.device is None or case.profile is None or case.shape is None:
            continue
        weights = case.profile["weights"]
        found.append(
            {
                "id": case.id,
                "model": case.model,
                "gpu": case.device.name,
                "gpu_gib": case.device.total / GIB,
                "utilization": chosen.utilization,
                "tp": chosen.asked.tensor_parallel,
                "pp": chosen.asked.pipeline_parallel,
                "max_model_len": chosen.max_model_len,
                "max_num_seqs": chosen.max_num_seqs,
                "max_num_batched_tokens": chosen.max_num_batched_tokens,
                "kv_cache_dtype": chosen.asked.kv_cache_dtype,
                "is_moe": case.shape.is_moe,
                "bits": 8 if str(chosen.asked.quantization).startswith("fp8") else _bits(weights["bytes_by_dtype"]),
                "weights_gib": weights["total_bytes"] / GIB,
            }
        )
    return found


def _bits(sizes: t.Mapping[str, int]) -> int:
    """Bits of most weights, by the data type that holds most bytes; packed types are of 4 bits."""
    most = max(sizes, key=lambda dtype: sizes[dtype], default="BF16")
    return 4 if most in ("I32", "U8", "U32") else 8 if most in ("I8", "F8_E4M3", "F8_E5M2") else 16


def checkpoints(predictions: t.Sequence[Prediction], models: t.Mapping[str, t.Any]) -> dict[str, tuple[t.Any, t.Any]]:
    """By model that is asked for, its configuration and bytes by data type."""
    known = {name.lower(): entry for name, entry in models.items()}
    found = {}
    for name in sorted({job["model"] for job in jobs(predictions)}):
        sizes = known[name.lower()]["weights"]["bytes_by_dtype"]
        found[name] = (_completed(known[name.lower()]["config"], sizes), sizes)
    return found


def _completed(config: t.Mapping[str, t.Any], sizes: t.Mapping[str, int]) -> dict[str, t.Any]:
    """A configuration with what every real one has, and some of our copies have not."""
    architecture = (config.get("architectures") or [""])[0]
    stem = re.sub(r"For(CausalLM|ConditionalGeneration)$", "", architecture)
    named = {"model_type": re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", stem).lower()} if stem else {}
    dtype = "float16" if sizes.get("F16", 0) > sizes.get("BF16", 0) else "bfloat16"
    return {**named, "torch_dtype": dtype, **{key: value for key, value in config.items() if value is not None}}


def ask(predictions: t.Sequence[Prediction], models: t.Mapping[str, t.Any]) -> Said:
    """Run every peer on these records."""
    return run.run(jobs(predictions), checkpoints(predictions, models))
