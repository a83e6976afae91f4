# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What our library says of a recorded start, exactly as users get it, beside what vLLM reported."""

from __future__ import annotations

import dataclasses
import typing as t

from packaging.version import Version
from records import FAILED, STARTED, Case

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.activation import activation
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, Asked, read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.capacity import Capacity, capacity
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.estimate import estimate
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.graphs import graphs, graphs_reserved
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Ledger, Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.overhead import context, runtime
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings, settings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.weights import weights

# Where nothing is known of the GPU, capacity is still tested: it takes the bytes of the KV cache as given.
_SOME_DEVICE = Device("gpu", "GPU", 40 * GIB)


# Options whose default must not stand for a value that cannot be read. Everything follows from how the model is split.
_SPLITS = ("tensor_parallel_size", "pipeline_parallel_size")
_DECISIVE = (*_SPLITS, "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens")


@dataclasses.dataclass(frozen=True)
class Measure:
    """One quantity of one start: predicted low, expected and high, and the truth, all in the same unit.

    slack: what the truth's own rounding in the log leaves open.
    """

    low: float
    expected: float
    high: float
    truth: float
    slack: float = 0.0

    @property
    def error(self) -> float:
        """Expected less truth."""
        return self.expected - self.truth

    @property
    def relative(self) -> float:
        """The error as a share of the truth."""
        return self.error / self.truth if self.truth else float("inf")

    @property
    def covered(self) -> bool:
        """Whether the truth is in low..high."""
        return self.low - self.slack <= self.truth <= self.high + self.slack

    def as_data(self) -> dict[str, float]:
        """Plain data for the JSON."""
        return {key: round(getattr(self, key), 4) for key in ("low", "expected", "high", "truth", "error")}


def _is_graphs_in_peak(release: Version) -> bool:
    """Whether the log's "peak activation" holds the estimate of the graphs that was taken off the budget.

    peak_activation_memory in v1/worker/gpu_worker.py of 0.18.1, 0.19.1, 0.26.0 and 0.27.0.
    """
    return release < Version("0.19.0") or release >= Version("0.27.0")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """All that is predicted of one case.

    terms: GiB, budget side; tokens: end to end; capacity: what the release makes of the KV bytes that the log states,
    each exact or not; verdict: fits, tight, misfit, or "" where it cannot be told; started: whether the start came up,
    None where the outcome says nothing of memory; calibrated: whether the release is known and among the fitted ones,
    and nothing of the case is assumed.
    chosen: the options with vLLM's defaults filled in. unused: by quantity, why it could not be predicted or compared.
    """

    case: Case
    calibrated: bool
    terms: t.Mapping[str, Measure]
    capacity: t.Mapping[str, Measure]
    exact: t.Mapping[str, bool]
    verdict: str
    started: bool | None
    kv: tuple[float, float, float] | None
    confidence: str
    chosen: Settings | None
    unused: t.Mapping[str, str]
    fault: str

    @property
    def kv_width(self) -> float | None:
        """GiB between low and high of the available KV."""
        return self.kv[2] - self.kv[0] if self.kv else None


def predict(case: Case) -> Prediction:
    """Predict one case. Never raises: what goes wrong is the prediction's fault."""
    found = _Found(case)
    if case.unusable or case.shape is None:
        found.fault = case.unusable
        return found.made()
    try:
        found.look()
    except Exception as error:  # a report over strangers' records must reach its end, and says what failed
        found.fault = f"the prediction failed: {type(error).__name__}: {error}"
    return found.made()


class _Found:
    """Collects what is predicted of one case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.chosen: Settings | None = None
        self.ledger: Ledger | None = None
        self.terms: dict[str, Measure] = {}
        self.capacity: dict[str, Measure] = {}
        self.exact: dict[str, bool] = {}
        self.unused: dict[str, str] = {}
        self.fault = ""
        self.unbudgeted = case.unbudgeted
        self.is_readable = True

    def made(self) -> Prediction:
        """The finished prediction."""
        case, ledger = self.case, self.ledger
        started = True if case.outcome in STARTED else False if case.outcome in FAILED else None
        return Prediction(
            case=case,
            calibrated=bool(
                self.chosen and self.chosen.calibrated and case.stated and not case.assumed and self.is_readable
            ),
            terms=self.terms,
            capacity=self.capacity,
            exact=self.exact,
            verdict=ledger.verdict if ledger and not self.unbudgeted else "",
            started=None if case.shared else started,
            kv=(ledger.kv.low / GIB, ledger.kv.expected / GIB, ledger.kv.high / GIB) if ledger else None,
            confidence=ledger.confidence if ledger else "",
            chosen=self.chosen,
            unused=self.unused,
            fault=self.fault,
        )

    def look(self) -> None:
        """Everything that the case's facts allow."""
        case = self.case
        asked, faults = read_asked(case.engine, case.env, case.packages)
        for option, why in faults.items():
            self.unused[option] = why
        decisive = [option for option in _DECISIVE if option in faults]
        if decisive:
            self.is_readable = False
            self.unbudgeted = self.unbudgeted or f"{decisive[0]} cannot be read"
        if any(option in faults for option in _SPLITS):
            self.fault = self.unbudgeted
            return
        device = case.device or _SOME_DEVICE
        chosen = self.chosen = settings(case.release, self._with_states(asked, device), case.shape, device)
        self._attempt("capacity", lambda: self._capacity(chosen))
        if case.device is None:
            self.unused["budget"] = "neither the GPU's name nor its size is known"
        elif case.profile is None:
            self.unused["budget"] = "the bytes of the checkpoint are not known"
        else:
            self._attempt("budget", lambda: self._estimate(chosen, device))
        self._attempt("terms", lambda: self._terms(chosen, device))
        if self.ledger:
            self._attempt("available KV", lambda: self._budget(chosen))

    def _attempt(self, name: str, part: t.Callable[[], None]) -> None:
        """One part of it; that it fails is said of this part alone."""
        try:
            part()
        except Exception as error:  # strangers' records: what one part stumbles over must not take the others away
            self.unused[name] = f"it failed: {type(error).__name__}: {error}"

    def _with_states(self, asked: Asked, device: Device) -> Asked:
        """With recurrent states of 16 bits where the release is assumed and the log's block is that of such states.

        A model may have them by its own configuration in one release and not in another (Nemotron-3-Nano: 1072 tokens a
        block up to 0.12.0, 2096 from 0.13.0 on), so that a block of them tells nothing else about the release.
        """
        case, block = self.case, self.case.truth.get("block_tokens")
        is_asked = asked.mamba_ssm_cache_dtype != "auto"
        if not block or case.stated or is_asked or case.release_basis not in ("date", "form"):
            return asked
        narrow = dataclasses.replace(asked, mamba_ssm_cache_dtype="float16")
        found = [self._at(settings(case.release, one, case.shape, device), GIB).block_tokens for one in (asked, narrow)]
        return narrow if found[0] != block and found[1] == block else asked

    def _estimate(self, chosen: Settings, device: Device) -> None:
        assert self.case.profile is not None  # look has seen to it
        self.ledger = estimate(self.case.profile["weights"], self.case.shape, chosen, device)

    def _terms(self, chosen: Settings, device: Device) -> None:
        case, truth = self.case, self.case.truth
        loaded: tuple[Term, ...] = ()
        if case.profile:
            loaded = weights(case.profile["weights"], case.shape, chosen)
            # The log of one worker: the one that carries most.
            self._put("weights", max(loaded, key=lambda term: term.expected), truth.get("weights_gib_per_gpu"))
        elif truth.get("weights_gib_per_gpu"):
            self.unused["weights"] = "the bytes of the checkpoint are not known"
        if case.device is None:
            return
        stages = range(max(1, len(loaded), chosen.asked.pipeline_parallel))
        peak = max((activation(case.shape, chosen, device, at) for at in stages), key=lambda term: term.expected)
        parts = [peak]
        if chosen.graphs_in_budget and _is_graphs_in_peak(chosen.release):
            parts.append(graphs_reserved(case.shape, chosen, device))
        self._put("activation", _sum(parts), truth.get("activation_peak_gib"))
        self._put("runtime", runtime(case.shape, chosen, device), truth.get("non_torch_gib"))
        self._put("graphs", graphs(case.shape, chosen, device), truth.get("cudagraph_actual_gib"))
        self._put("context", context(case.shape, chosen, device), truth.get("outside_gib"))
        if loaded and truth.get("consumed_gib"):
            held = [max(loaded, key=lambda term: term.expected), runtime(case.shape, chosen, device)]
            self._put("consumed", _sum(held), truth["consumed_gib"])
        if case.shared and self.terms.pop("runtime", None):
            self.unused["runtime"] = case.unbudgeted

    def _put(self, name: str, term: Term, truth: float | None) -> None:
        if truth is None:
            return
        if name == "weights" and truth <= 0:
            self.unused[name] = "the log's figure is not above zero"
            return
        if name == "graphs" and truth < 0:
            self.unused[name] = "the log's figure is below zero"
            return
        low, expected, high = (size / GIB for size in (term.low, term.expected, term.high))
        self.terms[name] = Measure(low, expected, high, truth, 0.005)

    def _budget(self, chosen: Settings) -> None:
        """Available KV and tokens, end to end."""
        truth, ledger = self.case.truth, self.ledger
        if ledger is None:
            return
        if chosen.kv_cache_memory_bytes:
            self.unused["available KV"] = "the size of the KV cache was given"
            return
        if self.unbudgeted:
            self.unused["available KV"] = self.unbudgeted
            return
        self._put("available KV", ledger.kv, truth.get("available_kv_gib"))
        tokens = _tokens(truth, ledger.block_tokens)
        if tokens:
            low, high = (self._at(chosen, size).tokens for size in (ledger.kv.low, ledger.kv.high))
            self.terms["tokens"] = Measure(low, ledger.tokens, high, tokens)
        if truth.get("max_concurrency") and truth.get("max_concurrency_len") == chosen.max_model_len:
            low, high = (self._at(chosen, size).concurrency for size in (ledger.kv.low, ledger.kv.high))
            self.terms["concurrency"] = Measure(low, ledger.concurrency, high, truth["max_concurrency"], 0.005)

    def _at(self, chosen: Settings, kv_bytes: float) -> Capacity:
        """What so many bytes on each GPU hold."""
        return capacity(self.case.shape, chosen, max(0, int(kv_bytes)), device=self.case.device)

    def _capacity(self, chosen: Settings) -> None:
        """What the release makes of the KV bytes that the log states, within the log's rounding to 0.01 GiB."""
        truth = self.case.truth
        given = chosen.kv_cache_memory_bytes / GIB if chosen.kv_cache_memory_bytes else truth.get("available_kv_gib")
        figures = ("kv_cache_tokens", "gpu_blocks", "max_concurrency", "kv_needed_gib", "estimated_max_model_len")
        if not any(truth.get(figure) for figure in figures) and not truth.get("block_tokens"):
            return
        if chosen.asked.max_model_len is None and (truth.get("kv_needed_gib") or truth.get("max_concurrency")):
            self.unused["request"] = "max_model_len is not stated"
        if given is None or given <= 0:
            self.unused["capacity"] = "the log's KV bytes are not known"
            if truth.get("kv_needed_gib"):
                self._needed(self._at(chosen, GIB))
            return
        # A size that was given has no rounding; one of several ranks is a difference of two rounded figures.
        slack = 0.00501 * (
            0 if chosen.kv_cache_memory_bytes else 2 if len(truth.get("taken_by_rank_gib", ())) > 1 else 1
        )
        low, middle, high = (self._at(chosen, (given + by) * GIB) for by in (-slack, 0.0, slack))
        if truth.get("block_tokens"):
            self._exact(
                "block", Measure(low.block_tokens, middle.block_tokens, high.block_tokens, truth["block_tokens"])
            )
        if truth.get("gpu_blocks"):
            self._exact("blocks", Measure(low.blocks, middle.blocks, high.blocks, truth["gpu_blocks"]))
        if truth.get("kv_cache_tokens"):
            self._exact("tokens", Measure(low.tokens, middle.tokens, high.tokens, truth["kv_cache_tokens"]))
        if truth.get("max_concurrency") and truth.get("max_concurrency_len") == chosen.max_model_len:
            measure = Measure(low.concurrency, middle.concurrency, high.concurrency, truth["max_concurrency"], 0.00501)
            self._exact("concurrency", measure)
        if truth.get("estimated_max_model_len"):
            measure = Measure(low.longest, middle.longest, high.longest, truth["estimated_max_model_len"])
            self._exact("longest length", measure)
        if truth.get("kv_needed_gib"):
            self._needed(middle)

    def _needed(self, found: Capacity) -> None:
        size = found.request_bytes / GIB
        self._exact("request", Measure(size, size, size, self.case.truth["kv_needed_gib"], 0.00501))

    def _exact(self, name: str, measure: Measure) -> None:
        """Exact is the truth within what rounding leaves open, or within 0.1 %."""
        self.capacity[name] = measure
        self.exact[name] = measure.covered or abs(measure.relative) <= 0.001


def _sum(parts: t.Sequence[Term]) -> Term:
    return Term("sum", *(sum(getattr(part, at) for part in parts) for at in ("low", "expected", "high")))


def _tokens(truth: t.Mapping[str, t.Any], block_tokens: int) -> int | None:
    """The log's KV tokens; V0 counts blocks alone."""
    if truth.get("kv_cache_tokens"):
        return int(truth["kv_cache_tokens"])
    return int(truth["gpu_blocks"]) * block_tokens if truth.get("gpu_blocks") else None
