# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Terms corrected by what earlier starts have told of their memory. Pure.

A start says something about another one when model, device, release and split are the same. With the same settings as
well, what it told is what the next start will take. With another length, batch or utilization, weights and runtime are
taken from it, and the other terms are moved by how far the estimate was off there, with half their error. The estimate
is made anew for the earlier settings, so starts that older versions of this collection have recorded count as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import statistics
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, Asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Ledger, Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings

Terms = t.Mapping[str, Term]
Load = t.Mapping[str, t.Any]

# What each term is called in the figures of a start.
_FIGURES = {
    "weights": "weights_gib",
    "activation": "activation_gib",
    "runtime": "non_torch_gib",
    "graphs": "graphs_gib",
    "graphs reserved": "graphs_estimate_gib",
}
# What stands inside the budget beside the KV cache.
_SUMMED = ("weights", "activation", "runtime", "graphs reserved")
# Options that may differ between two starts that tell of each other; the names of Asked.
_LOAD = (
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "utilization",
    "kv_cache_memory_bytes",
    "kv_cache_dtype",
    "block_size",
    "eager",
)
# What they are split into, and what they load; the names of Asked.
_SPLIT = (
    "tensor_parallel",
    "pipeline_parallel",
    "prefill_context_parallel",
    "decode_context_parallel",
    "data_parallel",
    "expert_parallel",
    "dtype",
    "quantization",
)
# These are in the load with vLLM's defaults filled in.
_RESOLVED = ("cpu_kv_bytes",)
# The variables that the estimate reads, less VLLM_CPU_KVCACHE_SPACE, which is in the load. No other is in the digest:
# it is kept where others can read it, and weak secrets could be guessed from it.
_VARIABLES = (
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE",
    "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS",
    "VLLM_MLA_DISABLE",
    "VLLM_PP_LAYER_PARTITION",
    "VLLM_USE_FLASHINFER_SAMPLER",
    "VLLM_USE_V1",
    "VLLM_USE_V2_MODEL_RUNNER",
)
# No number of a start reaches this.
_MOST = 2**63

# GiB. Figures are logged with two decimals, and the same start takes a little more or less each time.
_DIGIT = 0.005
_SAME = 0.03
_SAME_RUNTIME = 0.05
# The same of a start with other settings.
_OTHER = {"weights": 0.03, "runtime": 0.1, "context": 0.1}
# A difference of sums of logged figures may be off by that much.
_ROUNDING = 0.1


def measurement_key(
    found: t.Mapping[str, t.Any], shape: Geometry, chosen: Settings, device: Device
) -> dict[str, dict[str, t.Any]]:
    """All that decides about the memory of a start, as plain data.

    found: what model_info says of the weights. same: what two starts must share to tell of each other; a model's name
    is not part of it, so fine-tuned models of one size count as one. load: what may differ.
    """
    asked = dataclasses.asdict(chosen.asked)
    defaults = dataclasses.asdict(Asked())
    env = {name: value for name, value in asked.pop("env").items() if name in _VARIABLES}
    known = {*_LOAD, *_SPLIT, *_RESOLVED}
    rest = {name: value for name, value in asked.items() if name not in known and value != defaults[name]}
    digest = hashlib.sha256(json.dumps([rest, env], sort_keys=True, default=str).encode()).hexdigest()[:16]
    load = {name: asked[name] for name in _LOAD}
    for name in ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "utilization", "kv_cache_memory_bytes"):
        load[name] = getattr(chosen, name)
    return {
        "same": {
            "architecture": shape.architecture or shape.model_type,
            "layers": shape.layers,
            "hidden": shape.hidden,
            "vocab": shape.vocab,
            "weights_bytes": found["total_bytes"],
            # A CPU's name holds that of its host.
            "device": "cpu" if device.kind == "cpu" else device.name,
            "release": str(chosen.release),
            **{name: asked[name] for name in _SPLIT},
            "rest": digest,
        },
        "load": {**load, "device_bytes": device.total},
    }


def expected_memory(ledger: Ledger, key: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What a server's plan says of its memory, in the words of its log: the option servers[].expected_memory."""
    terms = {term.name: term.expected / GIB for term in (*ledger.terms, *ledger.outside)}
    predicted: dict[str, float | int] = {figure: terms[name] for name, figure in _FIGURES.items() if name in terms}
    if "graphs beyond" in terms:
        predicted["graphs_gib"] = terms["graphs beyond"] + terms["graphs reserved"]
    if "runtime" in terms:
        predicted["consumed_gib"] = terms["weights"] + terms["runtime"]
    predicted["available_kv_gib"] = ledger.kv.expected / GIB
    predicted["budget_gib"] = ledger.budget / GIB
    predicted = {name: round(value, 3) for name, value in predicted.items()}
    predicted.update(kv_tokens=ledger.tokens, max_concurrency=ledger.concurrency)
    return {"key": dict(key), "predicted": predicted}


@dataclasses.dataclass(frozen=True)
class Start:
    """An earlier start: the load of its key, and the figures that it told."""

    load: Load
    measured: t.Mapping[str, t.Any]


# Starts by what they must share to tell of each other.
Earlier = t.Mapping[str, t.Sequence[Start]]


def read_earlier(entries: t.Iterable[t.Any]) -> Earlier:
    """Starts as vllm_servers keeps them (measured of vllm_info), of all hosts.

    Those of another form are left out: a newer version of this collection may have written them.
    """
    earlier: dict[str, list[Start]] = {}
    for entry in entries:
        try:
            same, load, measured = entry["key"]["same"], entry["key"]["load"], entry["measured"]
        except (KeyError, TypeError):
            continue
        if all(isinstance(part, t.Mapping) for part in (same, load, measured)) and _is_load(load):
            earlier.setdefault(_name(same), []).append(Start(load, measured))
    return earlier


@dataclasses.dataclass(frozen=True)
class Corrected:
    """The terms after correction, by name, and what is to be said of it."""

    terms: dict[str, Term]
    notes: tuple[str, ...] = ()


def correct(
    terms: Terms,
    earlier: Earlier,
    key: t.Mapping[str, t.Any],
    again: t.Callable[[Load], Terms],
    stage: int = 0,
) -> Corrected:
    """The terms of one GPU, corrected by earlier starts.

    terms: the estimate by name: weights, activation, runtime, graphs, graphs reserved (only where the release takes it
    off the budget), context. key: measurement_key() of what is planned. again: the same estimate with other values of
    the load. stage: of the pipeline.
    """
    same: list[dict[str, float]] = []  # by how many bytes each term was off, a start with the same settings
    other: list[dict[str, float]] = []
    faults: list[str] = []
    # Hosts of a fleet mostly tell of the same few loads: each is estimated once.
    estimates: dict[str, Terms] = {}
    for start in earlier.get(_name(key["same"]), ()) if earlier else ():
        is_same = start.load == key["load"]
        load = {name: start.load.get(name) for name in _LOAD}
        name_of_load = _name(load)
        if not is_same and name_of_load not in estimates:
            estimates[name_of_load] = again(load)
        then = terms if is_same else estimates[name_of_load]
        figures = _of_stage(start.measured, stage, key["same"]["pipeline_parallel"])
        if fault := _fault(figures, start.load, then):
            faults.append(fault)
            continue
        told = _told(figures, start.load, then)
        # A term that is 0 by the settings of one of the two says nothing of the other's.
        off = {name: told[name] - then[name].expected for name in told if then[name].high and terms[name].high}
        if off:
            (same if is_same else other).append(off)
    used = same or other
    residuals = {name: [off[name] for off in used if name in off] for name in terms}
    corrected = {
        name: _moved(term, residuals[name], bool(same)) if residuals[name] else term for name, term in terms.items()
    }
    notes = [f"an earlier start was left out: {fault}" for fault in dict.fromkeys(faults)]
    if used:
        names = ", ".join(name for name in terms if residuals[name])
        starts = "1 earlier start" if len(used) == 1 else f"{len(used)} earlier starts"
        notes.insert(0, f"{names} corrected by {starts} with {'the same' if same else 'other'} settings")
    return Corrected(corrected, tuple(notes))


def _name(same: t.Mapping[str, t.Any]) -> str:
    return json.dumps(same, sort_keys=True)


def _is_load(load: Load) -> bool:
    """Whether an estimate can be made again for it."""
    counts = [load.get(name) for name in _LOAD if name not in ("kv_cache_dtype", "eager", "utilization")]
    share = load.get("utilization")
    return (
        all(value is None or _is_count(value) for value in (*counts, load.get("device_bytes")))
        and (share is None or (isinstance(share, (int, float)) and not isinstance(share, bool) and 0 < share <= 1))
        and isinstance(load.get("kv_cache_dtype"), str)
        and isinstance(load.get("eager"), bool)
    )


def _is_count(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST


def _of_stage(measured: t.Mapping[str, t.Any], stage: int, stages: int) -> dict[str, float]:
    """The figures of the GPUs of one stage in GiB; without a pipeline those of the engine."""
    told = [measured]
    if stages > 1:
        # Names of setup_proc_title_and_log_prefix in v1/executor/multiproc_executor.py of 0.32.0: Worker_PP0_TP1.
        ranks = measured.get("per_rank")
        told = [
            figures
            for name, figures in (ranks if isinstance(ranks, t.Mapping) else {}).items()
            if f"_PP{stage}_" in f"{name}_" and isinstance(figures, t.Mapping)
        ]
    found: dict[str, float] = {}
    for figures in told:
        for name, value in figures.items():
            is_figure = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MOST
            if name.endswith("_gib") and is_figure:
                least = name in ("available_kv_gib", "free_gib")
                found[name] = (min if least else max)(float(value), found.get(name, float(value)))
    return found


def _fault(figures: t.Mapping[str, float], load: Load, then: Terms) -> str | None:
    """What is physically impossible about a measurement, or None."""
    weights, kv, total = (figures.get(name) for name in ("weights_gib", "available_kv_gib", "total_gib"))
    device, expected = _gib(load.get("device_bytes")), then["weights"]
    if weights is not None and not 0.5 * expected.low <= weights * GIB <= 1.5 * expected.high + 0.5 * GIB:
        return f"it tells of {weights:g} GiB of weights, and the checkpoint has {expected.expected / GIB:.2f} for a GPU"
    if total is not None and device is not None and "activation" in then and abs(total - device) > 0.02 * device:
        return f"it tells of a device of {total:g} GiB, and it is of one of {device:.2f}"
    # Graphs may be told as less than nothing, where capturing gave memory back.
    if any(figures.get(name, 0.0) < -_ROUNDING for name in ("activation_gib", "non_torch_gib")):
        return "it tells of less than no memory"
    budget = _budget(figures, load)
    if load.get("kv_cache_memory_bytes") or budget is None or weights is None or kv is None:
        return None
    if weights + kv > budget + _ROUNDING:
        return f"it tells of {weights:g} GiB of weights and {kv:g} of KV cache in a budget of {budget:.2f}"
    return None


def _told(figures: t.Mapping[str, float], load: Load, then: Terms) -> dict[str, float]:
    """The bytes of each term as a start has told them, or as they follow from what it told."""
    named = {name: figure for name, figure in _FIGURES.items() if name in then and figures.get(figure, -1) >= 0}
    told = {name: figures[figure] * GIB for name, figure in named.items()}
    if "context" in then and "free_gib" in figures and "total_gib" in figures:
        context = (figures["total_gib"] - figures["free_gib"]) * GIB
        # More is of other processes on that GPU.
        if 0 <= context <= 2 * then["context"].high:
            told["context"] = context
    held = {name: told[name] for name in _SUMMED if name in told}
    if "consumed_gib" in figures and "weights" not in held:
        # The CPU build tells of weights and runtime in one; weights are known well without it.
        held["weights"] = float(then["weights"].expected)
        held["runtime"] = max(0.0, figures["consumed_gib"] * GIB - held["weights"])
        told["runtime"] = held["runtime"]
    budget, kv = _budget(figures, load), figures.get("available_kv_gib")
    if "weights" not in held or load.get("kv_cache_memory_bytes") or budget is None or kv is None:
        return told
    rest = (budget - kv) * GIB - sum(held.values())
    missing = [then[name] for name in _SUMMED if name in then and then[name].high and name not in held]
    if missing:
        # What is not told (between 0.17.0 and 0.25.1 most, at INFO level) follows in sum from what was left, and each
        # takes its part of the difference by its error.
        off = rest - sum(term.expected for term in missing)
        errors = sum(term.high - term.low for term in missing)
        for term in missing:
            share = (term.high - term.low) / errors if errors else 1 / len(missing)
            told[term.name] = max(0.0, term.expected + off * share)
    elif abs(rest) > _SAME * GIB and "runtime" in told:
        # What else was taken off, whatever it was, is taken off the next time as well.
        told["runtime"] = max(0.0, told["runtime"] + rest)
    return told


def _moved(term: Term, residuals: t.Sequence[float], is_same: bool) -> Term:
    """The term, moved by how far it was off; its error is larger than before only where starts differ by more."""
    expected = term.expected + statistics.median(residuals)
    below, above = (term.expected - term.low) / 2, (term.high - term.expected) / 2
    known = (_SAME_RUNTIME if term.name == "runtime" else _SAME) if is_same else _OTHER.get(term.name)
    if known is not None:
        # Starts that differ show how much they do.
        apart = (max(residuals) - min(residuals)) / 2
        below = above = min(known * GIB, max(2 * below, 2 * above, _DIGIT * GIB)) + apart
    expected = max(0, int(expected))
    return Term(term.name, max(0, int(expected - below)), expected, int(expected + above))


def _budget(figures: t.Mapping[str, float], load: Load) -> float | None:
    """GiB that the start could take: as it told, or as request_memory in v1/worker/utils.py of 0.32.0 computes it."""
    if "budget_gib" in figures:
        return figures["budget_gib"]
    total, share = load.get("device_bytes"), load.get("utilization")
    if not isinstance(total, int) or not isinstance(share, (int, float)):
        return None
    return math.ceil(total * share) / GIB


def _gib(size: t.Any) -> float | None:
    return size / GIB if isinstance(size, (int, float)) else None
