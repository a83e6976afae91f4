# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would make a server fit that does not: changes of engine options, each with the ledger that it leads to.

Pure. Nothing is estimated here: every figure comes from the whole ledger, computed anew with the change written in.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, MIB
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Ledger
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings

FITS = "fits"
# What is tried, the mildest step first.
_SEQS = (512, 256, 128, 64)
_BATCHED_TOKENS = (8192, 4096, 2048, 1024, 512)
# A step must free this share more than a milder one of the same option, or the milder one is taken.
_WORTH = 1.02
# With a larger share of the weights in the host's memory no answer is worth waiting for.
_MOST_OFFLOADED = 0.5
# Less than this, in bytes, is not worth a line unless it is enough.
_LEAST = 2**25
# Shares are written with two digits; above this nothing is left for what other programs and fragments take.
_HIGHEST_SHARE = 0.97
# The most ways out that an error names.
_MOST_WAYS = 3
# What takes more GPUs, refuses long requests, or is slow.
_COSTLY_OPTIONS = {"tensor_parallel_size", "pipeline_parallel_size", "max_model_len", "cpu_offload_gb"}
# Shorter requests than this serve nobody. Lengths below the border are told in small steps, the others in large ones.
_SHORTEST, _SMALL_STEP, _BORDER, _LARGE_STEP = 512, 256, 8192, 1024
# The most GPUs that are thought of when it is said what is missing.
_MOST_GPUS = 64
# GiB of the largest device that is thought of.
_LARGEST_DEVICE = 4096
# The most steps of a combination.
_MOST_STEPS = 8
# An fp8 KV cache needs kernels: is_kv_cache_dtype_supported and get_attn_backend_cls in platforms/cuda.py of 0.10.2 and
# 0.11.0 (before 0.11.0 the V1 engine has it on Hopper alone, and an older engine takes over elsewhere);
# supported_kv_cache_dtypes of v1/attention/backends/mla/flashmla.py and cutlass_mla.py of 0.12.0, and of triton_mla.py
# of 0.20.0.
_FP8_CAPABILITY = 89
_FP8 = Version("0.11.0")
_FP8_MLA = Version("0.12.0")
_FP8_MLA_TRITON = Version("0.20.0")
# From here on weights are made smaller layer by layer, so that the whole ones need no room (device="meta" in
# layers/quantization/online/fp8.py and moe_base.py).
_FP8_WEIGHTS = Version("0.20.0")


@dataclasses.dataclass(frozen=True)
class Tried:
    """One set of engine options: vLLM's defaults filled in, and the memory of each device."""

    chosen: Settings
    ledger: Ledger


@dataclasses.dataclass(frozen=True)
class Case:
    """A server on one kind of device.

    release: vLLM's; gpus: how many GPUs of this kind one host has, 0 on a CPU.
    evaluate: the server with these engine options changed and, where they are given, on devices of so many bytes;
    allows: whether vLLM accepts the change.
    """

    release: Version
    shape: Geometry
    device: Device
    gpus: int
    evaluate: t.Callable[[t.Mapping[str, t.Any], int | None], Tried]
    allows: t.Callable[[t.Mapping[str, t.Any]], bool]

    def after(self, changes: t.Mapping[str, t.Any]) -> Case:
        """The same server with these changes made."""
        return dataclasses.replace(
            self,
            evaluate=lambda engine, total: self.evaluate({**changes, **engine}, total),
            allows=lambda engine: self.allows({**changes, **engine}),
        )


@dataclasses.dataclass(frozen=True)
class Lever:
    """A change that helps.

    engine: the options to write; frees: bytes on each device by which what is short grows; ledger: what each device
    looks like then; gpus: what one server then needs; cost: what is given up for it, as one sentence.
    """

    engine: t.Mapping[str, t.Any]
    frees: int
    ledger: Ledger
    gpus: int
    cost: str

    @property
    def fits(self) -> bool:
        """Whether nothing else is needed, not even in the worst case."""
        return self.ledger.verdict == FITS

    def as_data(self) -> dict[str, t.Any]:
        """Plain data for reports."""
        return {
            "engine": dict(self.engine),
            "frees_gib": round(self.frees / GIB, 3),
            "tokens_after": self.ledger.tokens,
            "concurrency_after": self.ledger.concurrency,
            "max_model_len_after": self.ledger.max_model_len,
            "verdict_after": self.ledger.verdict,
            "gpus": self.gpus,
            "cost": self.cost,
        }


@dataclasses.dataclass(frozen=True)
class Needed:
    """What would have to be there where no change of options helps.

    engine, gpus: the parallel sizes and the number of GPUs of this kind, None where so many do not help either;
    device_bytes: the memory that each of as many devices as now would need.
    """

    engine: t.Mapping[str, t.Any] | None
    gpus: int | None
    device_bytes: int | None

    def as_data(self) -> dict[str, t.Any]:
        """Plain data for reports."""
        size = None if self.device_bytes is None else round(self.device_bytes / GIB, 1)
        return {"engine": self.engine and dict(self.engine), "gpus": self.gpus, "device_gib": size}


@dataclasses.dataclass(frozen=True)
class Advice:
    """levers: those that free most first; together: the smallest combination that fits where no single one does;
    needed: what is missing where nothing helps.
    """

    levers: tuple[Lever, ...] = ()
    together: Lever | None = None
    needed: Needed | None = None

    @property
    def best(self) -> list[Lever]:
        """What is enough, the least painful first: on these GPUs and at this length, then all else."""
        enough = [lever for lever in self.levers if lever.fits]
        costly = [lever for lever in enough if lever.engine.keys() & _COSTLY_OPTIONS]
        kept = [lever for lever in enough if lever not in costly]
        return kept + ([self.together] if self.together else []) + costly

    def as_data(self) -> dict[str, t.Any]:
        """Plain data for reports."""
        return {
            "levers": [lever.as_data() for lever in self.levers],
            "together": self.together.as_data() if self.together else None,
            "needed": self.needed.as_data() if self.needed else None,
        }


def advise(case: Case) -> Advice:
    """What would make the server fit; nothing where it does so already."""
    start = case.evaluate({}, None)
    if start.ledger.verdict == FITS:
        return Advice()
    kept, costly = _steps(case, start, _KEEPING), _steps(case, start, _COSTLY)
    # The last resort stays last, whatever it frees.
    last = _steps(case, start, (_offload,))
    ranked = tuple(sorted(kept + costly, key=lambda lever: -lever.frees) + last)
    if any(lever.fits for lever in kept):
        return Advice(ranked)
    together = _together(case, start, _KEEPING)
    if together or any(lever.fits for lever in costly):
        return Advice(ranked, together)
    together = _together(case, start, _KEEPING + _COSTLY)
    return Advice(ranked, together, None if together else _needed(case, start))


def text_of(lever: Lever | t.Mapping[str, t.Any]) -> str:
    """One line for people: what to write, what that gives, and what it costs.

    lever: one, or its data.
    """
    data = lever.as_data() if isinstance(lever, Lever) else lever
    return (
        f"{written(data['engine'])} frees {data['frees_gib']:.2f} GiB and then {_OUTCOMES[data['verdict_after']]} "
        f"({data['tokens_after']:,} tokens, {data['concurrency_after']:g} requests of "
        f"{data['max_model_len_after']:,}): {data['cost']}"
    )


def fix_of(advice: Advice) -> str:
    """What to do, for the end of an error: what is enough, the least painful first; empty where nothing is known."""
    ways = [f"{written(lever.engine)} (frees {lever.frees / GIB:.2f} GiB)" for lever in advice.best[:_MOST_WAYS]]
    if ways:
        return f"Set {', or '.join(ways)}"
    return needed_text(advice.needed.as_data()) if advice.needed else ""


def needed_text(needed: t.Mapping[str, t.Any]) -> str:
    """What has to be there where no option is enough. needed: the data of a Needed."""
    ways = []
    if needed["gpus"]:
        ways.append(f"{needed['gpus']} of these GPUs, with {written(needed['engine'])}")
    if needed["device_gib"]:
        ways.append(f"devices of at least {needed['device_gib']:g} GiB each")
    if not ways:
        return "No number of such devices that was tried is enough: take smaller weights"
    return f"No option without offloading is enough: it needs {', or '.join(ways)}, or smaller weights"


def written(engine: t.Mapping[str, t.Any]) -> str:
    """Engine options as they are written in a spec, in one line."""
    return " and ".join(f"{name}: {_yaml(value)}" for name, value in engine.items())


_OUTCOMES = {"fits": "fits", "tight": "is expected to fit", "misfit": "still does not fit"}


def _yaml(value: t.Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_yaml(one)}" for name, one in value.items()) + "}"
    return str(value)


# ---- what is short


def _margins(ledger: Ledger) -> tuple[int, int]:
    """Bytes by which the KV cache is larger than one request needs, and that stay free on the device, at worst."""
    return ledger.kv.low - ledger.kv_needed, ledger.room.low


def _gain(before: Ledger, after: Ledger) -> int:
    """Bytes by which a change makes more of what is short before it; what has room is not counted."""
    kv = after.kv.expected - after.kv_needed - before.kv.expected + before.kv_needed
    gains = (kv, after.room.expected - before.room.expected)
    return sum(gain for gain, margin in zip(gains, _margins(before), strict=True) if margin < 0)


# ---- one option at a time

_Steps = t.Iterator[tuple[dict[str, t.Any], str]]
_Kind = t.Callable[[Case, Tried], _Steps]


def _steps(case: Case, start: Tried, kinds: t.Sequence[_Kind]) -> list[Lever]:
    """The best step of each kind, in their order."""
    return [found for kind in kinds if (found := _best(case, start, kind(case, start)))]


def _best(case: Case, start: Tried, steps: _Steps) -> Lever | None:
    """The first step that makes it fit, else the one that frees most, the milder one where it hardly matters."""
    best: Lever | None = None
    for engine, cost in steps:
        tried = case.evaluate(engine, None)
        frees = _gain(start.ledger, tried.ledger)
        if frees <= 0 or (tried.ledger.verdict == "misfit" and start.ledger.verdict != "misfit"):
            continue
        enough = tried.ledger.verdict == FITS
        more = enough or frees >= (best.frees * _WORTH if best else _LEAST)
        if more and case.allows(engine):
            best = Lever(engine, frees, tried.ledger, tried.chosen.asked.gpu_count, cost)
            if enough:
                break
    return best


def _together(case: Case, start: Tried, kinds: t.Sequence[_Kind]) -> Lever | None:
    """A combination that fits: what frees most is added until it does, and what proves needless is taken out."""
    parts: dict[str, Lever] = {}
    state, here = case, start
    for _step in range(_MOST_STEPS):
        found = _steps(state, here, kinds)
        if not found:
            return None
        step = next((lever for lever in found if lever.fits), None) or max(found, key=lambda lever: lever.frees)
        parts[",".join(step.engine)] = step
        state = case.after(_joined(parts.values()))
        here = state.evaluate({}, None)
        if step.fits:
            break
    for name in list(parts):
        rest = [lever for other, lever in parts.items() if other != name]
        tried = case.evaluate(_joined(rest), None)
        if tried.ledger.verdict == FITS and case.allows(_joined(rest)):
            parts, here = {other: lever for other, lever in parts.items() if other != name}, tried
    if here.ledger.verdict != FITS:
        return None
    cost = "; ".join(lever.cost for lever in parts.values())
    frees = _gain(start.ledger, here.ledger)
    return Lever(_joined(parts.values()), frees, here.ledger, here.chosen.asked.gpu_count, cost)


def _joined(levers: t.Iterable[Lever]) -> dict[str, t.Any]:
    return {name: value for lever in levers for name, value in lever.engine.items()}


def _needed(case: Case, start: Tried) -> Needed:
    """So many GPUs of this kind, or so much memory on each of as many as now."""
    engine, gpus = _more_gpus(case, start) if case.gpus else (None, None)
    return Needed(engine, gpus, _larger_device(case, start.ledger))


def _more_gpus(case: Case, start: Tried) -> tuple[dict[str, t.Any] | None, int | None]:
    asked = start.chosen.asked
    for factor in (2, 4, 8, 16, 32):
        if asked.gpu_count * factor > _MOST_GPUS:
            break
        # Stages where the heads cannot be divided.
        for option, size in (
            ("tensor_parallel_size", asked.tensor_parallel),
            ("pipeline_parallel_size", asked.pipeline_parallel),
        ):
            engine = {option: size * factor}
            if not case.allows(engine):
                continue
            tried = case.evaluate(engine, None)
            if tried.ledger.verdict == FITS:
                return engine, tried.chosen.asked.gpu_count
            # More GPUs may have room for the model, and a little else be short then.
            more = _together(case.after(engine), tried, _KEEPING)
            if more:
                return {**engine, **more.engine}, tried.chosen.asked.gpu_count
            break
    return None, None


def _larger_device(case: Case, ledger: Ledger) -> int | None:
    """Bytes of the smallest device, in whole GiB, on which it fits as it is."""
    low, high = ledger.total // GIB, max(1, 2 * ledger.total // GIB)
    while not _fits_on(case, high):
        low, high = high, 2 * high
        if high > _LARGEST_DEVICE:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits_on(case, middle) else (middle, high)
    return high * GIB


def _fits_on(case: Case, gib: int) -> bool:
    return case.evaluate({}, gib * GIB).ledger.verdict == FITS


def _fewer_seqs(_case: Case, start: Tried) -> _Steps:
    for seqs in _SEQS:
        if seqs < start.chosen.max_num_seqs:
            yield {"max_num_seqs": seqs}, f"at most {seqs} requests run at once, and the others wait for their turn"


def _smaller_batches(_case: Case, start: Tried) -> _Steps:
    chosen = start.chosen
    # vLLM takes no more requests at once than tokens (settings), and that is the other lever's matter. Without chunks a
    # batch holds a whole prompt (config/scheduler.py).
    for tokens in _BATCHED_TOKENS:
        least = chosen.max_num_seqs if chosen.chunked_prefill else max(chosen.max_num_seqs, chosen.max_model_len)
        if least <= tokens < chosen.max_num_batched_tokens:
            cost = f"long prompts are read {tokens} tokens at a time, so that their first token comes later"
            yield {"max_num_batched_tokens": tokens}, cost


def _other_share(case: Case, start: Tried) -> _Steps:
    """More of the device for the engine where it has room, less where the rest does not fit beside it."""
    ledger, chosen = start.ledger, start.chosen
    if chosen.kv_cache_memory_bytes or not case.gpus:
        return
    kv, room = _margins(ledger)
    highest = min(_HIGHEST_SHARE, _share_below(ledger.budget + room, ledger.total))
    if room < 0:
        if highest > 0:
            yield {"gpu_memory_utilization": highest}, "the KV cache gets smaller"
        return
    lowest = _share_below(ledger.budget - kv, ledger.total) + 0.01
    for share in sorted({round(min(lowest, highest), 2), round(highest, 2)}):
        if share > chosen.utilization:
            left = (1 - share) * ledger.total / GIB
            cost = f"{left:.1f} GiB of the GPU are left for all that vLLM does not count, and none for other programs"
            yield {"gpu_memory_utilization": share}, cost


def _share_below(size: int, total: int) -> float:
    return math.floor(max(0, size) / total * 100) / 100


def _own_cache_size(case: Case, start: Tried) -> _Steps:
    """Where the spec sets the size of the KV cache itself: what one request needs, or what there is room for."""
    ledger, size = start.ledger, start.chosen.kv_cache_memory_bytes
    if not size:
        return
    kv, room = _margins(ledger)
    step = MIB
    if kv < 0:
        needed = -(-ledger.kv_needed // step) * step
        yield {"kv_cache_memory_bytes": needed}, "so much less is left for all else on the device"
    elif room < 0 and size + room > 0:
        yield {"kv_cache_memory_bytes": (size + room) // step * step}, "fewer requests run at once"


def _fewer_loras(_case: Case, start: Tried) -> _Steps:
    asked = start.chosen.asked
    if asked.lora and (asked.max_loras or 1) > 1:
        yield {"max_loras": 1}, "requests for different adapters do not run in one batch any more"


def _fp8_cache(case: Case, start: Tried) -> _Steps:
    if start.chosen.asked.kv_cache_dtype == "auto" and takes_fp8_cache(case):
        cost = "keys and values are rounded to 8 bits; compare the answers with those of before"
        yield {"kv_cache_dtype": "fp8"}, cost


def takes_fp8_cache(case: Case) -> bool:
    """Whether release and GPU have kernels for an fp8 KV cache of this model."""
    capability = case.device.capability if case.device.kind == "gpu" else 0
    if capability < _FP8_CAPABILITY:
        return False
    if case.shape.mla_width:
        return case.release >= (_FP8_MLA if capability // 10 in (9, 10) else _FP8_MLA_TRITON)
    return case.release >= _FP8 or capability // 10 == 9


def _fp8_weights(case: Case, start: Tried) -> _Steps:
    has_kernels = case.device.kind == "gpu" and case.device.capability >= _FP8_CAPABILITY
    if (
        has_kernels
        and case.release >= _FP8_WEIGHTS
        and not (case.shape.quantization or start.chosen.asked.quantization)
    ):
        cost = "weights are rounded to 8 bits while they are loaded; compare the answers with those of before"
        yield {"quantization": "fp8_per_tensor"}, cost


def _no_graphs(case: Case, start: Tried) -> _Steps:
    if case.gpus and not start.chosen.asked.eager:
        yield {"enforce_eager": True}, "each step starts its kernels one by one: answers come slower"


def _text_alone(case: Case, start: Tried) -> _Steps:
    asked = start.chosen.asked
    if case.shape.is_multimodal and not asked.language_model_only:
        yield {"language_model_only": True}, "images, audio and video are refused"
        refused = dict.fromkeys(asked.limit_mm or ("image",), 0)
        yield {"limit_mm_per_prompt": refused}, f"{' and '.join(refused)} inputs are refused"


def _more_tensor(case: Case, start: Tried) -> _Steps:
    yield from _split(case, start, "tensor_parallel_size", start.chosen.asked.tensor_parallel, "every step waits for")


def _more_pipeline(case: Case, start: Tried) -> _Steps:
    yield from _split(case, start, "pipeline_parallel_size", start.chosen.asked.pipeline_parallel, "each token passes")


def _split(case: Case, start: Tried, option: str, size: int, who: str) -> _Steps:
    gpus = start.chosen.asked.gpu_count
    for factor in (2, 4, 8):
        if gpus * factor <= case.gpus:
            cost = f"a server takes {gpus * factor} GPUs instead of {gpus}, and {who} all of them"
            yield {option: size * factor}, cost


def _shorter(case: Case, start: Tried) -> _Steps:
    """The longest length that fits, else the longest one that is expected to."""
    chosen = start.chosen
    if chosen.asked.auto_length:
        return
    small = range(_SHORTEST, min(_BORDER, chosen.max_model_len), _SMALL_STEP)
    large = range(_BORDER, chosen.max_model_len, _LARGE_STEP)

    def length_of(place: int) -> int:
        return small[place] if place < len(small) else large[place - len(small)]

    for accepted in ((FITS,), (FITS, "tight")):

        def too_long(place: int, verdicts: tuple[str, ...] = accepted) -> bool:
            return case.evaluate({"max_model_len": length_of(place)}, None).ledger.verdict not in verdicts

        count = bisect.bisect_left(range(len(small) + len(large)), True, key=too_long)
        if count:
            length = length_of(count - 1)
            cost = f"requests of more than {length:,} tokens, prompt and answer together, are refused"
            yield {"max_model_len": length}, cost


def _offload(case: Case, start: Tried) -> _Steps:
    """Weights in the host's memory."""
    kv, _room_left = _margins(start.ledger)
    if not case.gpus or kv >= 0 or start.chosen.asked.cpu_offload_gib:
        return
    size = math.ceil(-kv / GIB)
    if size * GIB > _MOST_OFFLOADED * start.ledger.terms[0].expected:
        return
    cost = (
        f"{size} GiB of weights a GPU stay in the host's memory and cross the bus at every step: answers come many "
        "times slower"
    )
    yield {"cpu_offload_gb": size}, cost


# The least painful first: of several that are enough, the first one goes into a combination. These keep the length and
# the GPUs that were asked for ...
_KEEPING: tuple[_Kind, ...] = (
    _fewer_seqs,
    _smaller_batches,
    _other_share,
    _own_cache_size,
    _fewer_loras,
    _fp8_cache,
    _fp8_weights,
    _no_graphs,
    _text_alone,
)
# ... and these do not.
_COSTLY: tuple[_Kind, ...] = (_more_tensor, _more_pipeline, _shorter)
