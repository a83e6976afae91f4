# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory ledger of one server on one device. Pure.

How vLLM sets its budget: requested = ceil(total * gpu_memory_utilization); KV cache = requested, less weights,
activation peak, what else torch and its libraries hold, and from 0.20.0 on its own estimate of the graphs
(v1/worker/gpu_worker.py and cpu_worker.py of 0.32.0). Each term has a file of its own here; so has the step from bytes
of KV cache to tokens (capacity.py).
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.activation import activation
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.capacity import Capacity, holder
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.correction import Earlier, correct, measurement_key
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.graphs import graphs, graphs_reserved
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Confidence, Ledger, Term, left
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.overhead import context, runtime
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings, settings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.stages import stages
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.weights import weights


@dataclasses.dataclass(frozen=True)
class _Stage:
    """One stage of a pipeline on its GPU: what stands inside the budget and beside it, and what is left."""

    layers: int
    terms: tuple[Term, ...]
    outside: tuple[Term, ...]
    kv: Term
    notes: tuple[str, ...]


def estimate(
    found: t.Mapping[str, t.Any], shape: Geometry, chosen: Settings, device: Device, earlier: Earlier | None = None
) -> Ledger:
    """The ledger of each device that the server uses.

    found: what model_info says of the weights; bytes of the whole checkpoint. earlier: starts that were measured
    (read_earlier in correction.py).
    """
    budget = math.ceil(device.total * chosen.utilization)
    spans = stages(shape.layers, chosen.asked.pipeline_parallel, chosen.asked.layer_partition, chosen.release)
    every = [
        _stage(index, last - first, budget, found, shape, chosen, device, earlier or {})
        for index, (first, last) in enumerate(spans)
    ]
    # Every worker gets as many blocks as the one that has room for the fewest (get_kv_cache_configs of 0.32.0).
    stage = min(every, key=lambda one: one.kv.expected / max(1, one.layers))
    room = left("room", device.total - budget, stage.outside)
    if chosen.kv_cache_memory_bytes:
        # The cache has its size whatever the terms are, and what they take more is missing on the GPU.
        stage = max(every, key=lambda one: sum(term.expected for term in (*one.terms, *one.outside)))
        budget = stage.kv.expected + sum(term.expected for term in stage.terms)
        room = left("room", device.total - stage.kv.expected, (*stage.terms, *stage.outside))
    expected, least = ([max(0, getattr(one.kv, at)) for one in every] for at in ("expected", "low"))
    # The longest request is looked for up to the model's own limit, or what the user asks beyond it.
    widest, length = max(shape.max_positions, chosen.max_model_len), chosen.max_model_len
    hold = holder(shape, chosen, device)
    largest, safe = (hold(sizes, widest).longest if min(sizes) > 0 else 0 for sizes in (expected, least))
    if chosen.asked.auto_length:
        length = min(length, safe or largest) or length
    held = hold(expected, length)
    return Ledger(
        device=device.name,
        total=device.total,
        budget=budget,
        terms=stage.terms,
        outside=stage.outside,
        kv=stage.kv,
        room=room,
        kv_needed=held.request_bytes,
        max_model_len=length,
        max_positions=shape.max_positions,
        block_tokens=held.block_tokens,
        blocks=held.blocks,
        tokens=held.tokens,
        concurrency=round(held.concurrency, 2),
        largest_length=largest,
        safe_length=safe,
        confidence=_confidence(shape, held, chosen),
        notes=tuple(dict.fromkeys((*shape.uncertain, *held.notes, *stage.notes, *_notes(chosen, device)))),
    )


def _stage(
    index: int,
    layers: int,
    budget: int,
    found: t.Mapping[str, t.Any],
    shape: Geometry,
    chosen: Settings,
    device: Device,
    earlier: Earlier,
) -> _Stage:
    """The terms of one GPU of a stage, as earlier starts correct them."""

    def parts(settled: Settings) -> dict[str, Term]:
        return {term.name: term for term in _terms(index, found, shape, settled, device)}

    def again(load: t.Mapping[str, t.Any]) -> dict[str, Term]:
        asked = dataclasses.replace(chosen.asked, **load)
        return parts(settings(str(chosen.release), asked, shape, device))

    terms, notes = parts(chosen), ()
    if earlier:
        fixed = correct(terms, earlier, measurement_key(found, shape, chosen, device), again, index)
        terms, notes = fixed.terms, fixed.notes
    inside = tuple(terms[name] for name in ("weights", "activation", "runtime", "graphs reserved") if name in terms)
    outside = [terms["context"]] if "context" in terms else []
    if "graphs" in terms:
        reserved = terms["graphs reserved"].expected if "graphs reserved" in terms else 0
        outside.append(_beyond(terms["graphs"], reserved))
    if chosen.kv_cache_memory_bytes:
        # vLLM then takes exactly this, and the rest of the budget is not looked at.
        kv = Term("kv cache", *[chosen.kv_cache_memory_bytes] * 3)
    else:
        kv = left("kv cache", budget, inside)
    return _Stage(layers, inside, tuple(outside), kv, notes)


def _terms(
    index: int, found: t.Mapping[str, t.Any], shape: Geometry, chosen: Settings, device: Device
) -> t.Iterator[Term]:
    yield weights(found, shape, chosen)[index]
    yield runtime(shape, chosen, device)
    yield context(shape, chosen, device)
    if device.kind != "cpu":
        yield activation(shape, chosen, device, index)
        yield graphs(shape, chosen, device)
        if chosen.graphs_in_budget:
            yield graphs_reserved(shape, chosen, device)


def _beyond(captured: Term, reserved: int) -> Term:
    """What the capture takes beyond what was set aside for it."""
    if not reserved:
        return captured
    return Term(
        "graphs beyond", *(max(0, size - reserved) for size in (captured.low, captured.expected, captured.high))
    )


def _notes(chosen: Settings, device: Device) -> tuple[str, ...]:
    if chosen.calibrated:
        return ()
    where = "a CPU" if device.kind == "cpu" else device.name
    return (f"no starts of {chosen.release} on {where} are known; the terms are those of others",)


def _confidence(shape: Geometry, found: Capacity, chosen: Settings) -> Confidence:
    if shape.uncertain or found.notes:
        return "low"
    return "calibrated" if chosen.calibrated else "fitted"
