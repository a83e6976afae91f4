# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which changes are proposed, in which order, and that each figure is that of the whole ledger with the change made.

The ledger of these tests is a plain sum, so that what must come out can be reckoned by hand.
"""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry, geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Ledger, Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.levers import (
    Advice,
    Case,
    Lever,
    Tried,
    advise,
    fix_of,
    takes_fp8_cache,
    text_of,
    written,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, settings
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import QWEN3_8B_CONFIG

MIB = 2**20
RELEASE = "0.19.0"
# 1 MiB of KV cache a token, 4 MiB of activations a request, 4 GiB of graphs, half a GiB outside of the budget.
TOKEN, REQUEST, GRAPHS, OUTSIDE = MIB, 4 * MIB, 4 * GIB, GIB // 2


def exactly(name: str, size: float, spread: int = 0) -> Term:
    return Term(name, int(size) - spread, int(size), int(size) + spread)


@dataclasses.dataclass
class Toy:
    """A server of 40 GiB of weights; every change of its options can be looked up."""

    total: int = 60 * GIB
    weights: int = 40 * GIB
    spread: int = 0
    outside: int = OUTSIDE
    engine: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    gpus: int = 1
    release: str = RELEASE
    name: str = "NVIDIA L40S"
    config: dict[str, t.Any] = dataclasses.field(default_factory=lambda: dict(QWEN3_8B_CONFIG))
    refused: tuple[str, ...] = ()
    kind: str = "gpu"
    batched: int = 0  # bytes of activations a token of a batch

    @property
    def shape(self) -> Geometry:
        return geometry(self.config)

    def evaluate(self, engine: t.Mapping[str, t.Any], total: int | None = None) -> Tried:
        wanted = {"max_num_seqs": 1024, "max_num_batched_tokens": 2048, "gpu_memory_utilization": 0.9}
        merged = {**wanted, "max_model_len": 4096, **self.engine, **engine}
        asked, _faults = read_asked(merged, {})
        size = total or self.total
        chosen = settings(self.release, asked, self.shape, Device(self.kind, self.name, size))
        share = asked.tensor_parallel * asked.pipeline_parallel
        parts = [
            exactly(
                "weights",
                self.weights / share / (2 if asked.quantization else 1) - asked.cpu_offload_gib * GIB,
                self.spread,
            ),
            exactly("activation", chosen.max_num_seqs * REQUEST + chosen.max_num_batched_tokens * self.batched),
            exactly("graphs", 0 if asked.eager else GRAPHS),
        ]
        budget = int(size * chosen.utilization)
        free = budget - sum(term.expected for term in parts)
        kv = exactly("kv cache", chosen.kv_cache_memory_bytes or free, self.spread)
        if chosen.kv_cache_memory_bytes:
            kv = exactly("kv cache", chosen.kv_cache_memory_bytes)
            budget = kv.expected + sum(term.expected for term in parts)
        token = TOKEN // share // (2 if asked.kv_cache_dtype == "fp8" else 1)
        tokens = max(0, kv.expected) // token
        length = chosen.max_model_len
        return Tried(
            chosen,
            Ledger(
                device=self.name,
                total=size,
                budget=budget,
                terms=tuple(parts),
                outside=(exactly("context", self.outside),),
                kv=kv,
                room=exactly("room", size - budget - self.outside),
                kv_needed=length * token,
                max_model_len=length,
                max_positions=40960,
                block_tokens=16,
                blocks=tokens // 16,
                tokens=tokens,
                concurrency=round(tokens / length, 2),
                largest_length=tokens,
                safe_length=max(0, kv.low) // token,
                confidence="calibrated",
                notes=(),
            ),
        )

    def advice(self) -> Advice:
        return advise(
            Case(
                Version(self.release),
                self.shape,
                Device(self.kind, self.name, self.total),
                self.gpus,
                self.evaluate,
                lambda engine: not set(engine) & set(self.refused),
            )
        )


def options(advice: Advice) -> list[str]:
    return [written(lever.engine) for lever in advice.levers]


def lever(advice: Advice, option: str) -> Lever:
    return next(one for one in advice.levers if option in one.engine)


# 54 GiB of budget, 40 of weights, 4 of activations, 4 of graphs: 6 GiB of KV cache, and 4096 tokens need 4.
def test_what_fits_needs_no_lever() -> None:
    assert Toy().advice() == Advice()


def test_the_lever_that_frees_most_comes_first() -> None:
    # 12 GiB are needed, 6 are there; no GPU is there to share with. The last resort stays last.
    found = Toy(engine={"max_model_len": 12 * 1024}).advice()
    assert options(found) == [
        "kv_cache_dtype: fp8",
        "max_model_len: 6144",
        "gpu_memory_utilization: 0.97",
        "enforce_eager: true",
        "max_num_seqs: 64",
        "cpu_offload_gb: 6",
    ]
    assert [round(one.frees / GIB, 2) for one in found.levers] == [6.0, 6.0, 4.2, 4.0, 3.75, 6.0]
    assert [one.fits for one in found.levers] == [True, True, False, False, False, True]
    assert found.together is None and found.needed is None


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": {"max_model_len": 12 * 1024}, "gpus": 4},
        {"engine": {"max_model_len": 40960}, "gpus": 8},
        {"engine": {"max_model_len": 9 * 1024}, "spread": GIB},
        {"total": 30 * GIB},
        {"engine": {"gpu_memory_utilization": 0.999}},
        {"engine": {"kv_cache_memory_bytes": GIB}},
    ],
)
def test_every_figure_is_that_of_the_whole_ledger(changes: dict[str, t.Any]) -> None:
    toy = Toy(**changes)
    found = toy.advice()
    assert found.levers
    for one in [*found.levers, *([found.together] if found.together else [])]:
        tried = toy.evaluate(one.engine)
        assert tried.ledger == one.ledger
        assert one.gpus == tried.chosen.asked.gpu_count
        assert one.frees > 0
        data = one.as_data()
        assert data["verdict_after"] == tried.ledger.verdict
        assert (data["tokens_after"], data["concurrency_after"]) == (tried.ledger.tokens, tried.ledger.concurrency)
    if found.together:
        assert found.together.fits


def test_the_mildest_step_that_is_enough_is_taken() -> None:
    # 7 GiB are needed, 6 are there: half of the requests free 2 GiB, and fewer are not asked for.
    found = Toy(engine={"max_model_len": 7 * 1024}).advice()
    assert lever(found, "max_num_seqs").engine == {"max_num_seqs": 512}
    # 0.92 of 60 GiB are 1.2 more than 0.9.
    assert lever(found, "gpu_memory_utilization").engine == {"gpu_memory_utilization": 0.92}
    assert lever(found, "max_model_len").engine == {"max_model_len": 6144}


def test_a_combination_where_no_option_is_enough() -> None:
    found = Toy(engine={"max_model_len": 20 * 1024}, name="NVIDIA A100-SXM4-80GB").advice()
    # No fp8 on that GPU: 14 GiB are missing, and eager, share and requests bring 4, 4.2 and 3.75.
    assert "kv_cache_dtype: fp8" not in options(found)
    assert [list(one.engine) for one in found.levers if one.fits] == [["max_model_len"], ["cpu_offload_gb"]]
    assert found.together is None

    found = Toy(engine={"max_model_len": 14 * 1024}, name="NVIDIA A100-SXM4-80GB").advice()
    assert found.together is not None and found.together.fits
    assert found.together.engine == {"gpu_memory_utilization": 0.97, "enforce_eager": True}
    assert found.best == [found.together, lever(found, "max_model_len"), lever(found, "cpu_offload_gb")]


def test_what_a_combination_does_not_need_is_taken_out() -> None:
    # 9 GiB are missing. fp8 halves the 15 that are needed, and then 1.5 are, which eager alone brings.
    found = Toy(engine={"max_model_len": 15 * 1024}).advice()
    assert found.together is not None
    toy = Toy(engine={"max_model_len": 15 * 1024})
    for name in found.together.engine:
        rest = {key: value for key, value in found.together.engine.items() if key != name}
        tried = toy.evaluate(rest)
        assert tried.ledger.verdict != "fits", name


def test_more_gpus_where_there_are_some() -> None:
    toy = Toy(engine={"max_model_len": 12 * 1024}, gpus=4)
    assert lever(toy.advice(), "tensor_parallel_size").engine == {"tensor_parallel_size": 2}
    assert lever(toy.advice(), "tensor_parallel_size").gpus == 2
    toy.gpus = 1
    assert not [one for one in toy.advice().levers if "tensor_parallel_size" in one.engine]


def test_what_is_refused_is_not_proposed() -> None:
    toy = Toy(engine={"max_model_len": 12 * 1024}, gpus=2, refused=("tensor_parallel_size", "kv_cache_dtype"))
    found = toy.advice()
    assert "pipeline_parallel_size: 2" in options(found)
    assert not {"tensor_parallel_size", "kv_cache_dtype"} & {name for one in found.levers for name in one.engine}


def test_where_nothing_helps_it_says_what_is_needed() -> None:
    found = Toy(total=24 * GIB, name="NVIDIA L4").advice()
    assert not any(one.fits for one in found.levers if "cpu_offload_gb" not in one.engine)
    assert found.together is None and found.needed is not None
    assert found.needed.gpus == 2 and found.needed.engine is not None
    tried = Toy(total=24 * GIB, name="NVIDIA L4").evaluate(found.needed.engine)
    assert tried.ledger.verdict == "fits" and tried.chosen.asked.gpu_count == 2
    # 52 GiB of terms and need, at 90 %.
    assert found.needed.as_data()["device_gib"] == 58


def test_too_little_room_outside_of_the_budget() -> None:
    found = Toy(engine={"gpu_memory_utilization": 0.999}, outside=2 * GIB).advice()
    assert lever(found, "gpu_memory_utilization").engine == {"gpu_memory_utilization": 0.96}
    assert lever(found, "gpu_memory_utilization").fits
    # What frees memory inside of the budget is of no use then.
    assert not [one for one in found.levers if "max_num_seqs" in one.engine]


def test_a_cache_of_a_size_that_the_spec_sets() -> None:
    found = Toy(engine={"kv_cache_memory_bytes": GIB}).advice()
    assert lever(found, "kv_cache_memory_bytes").engine == {"kv_cache_memory_bytes": 4 * GIB}
    assert not [one for one in found.levers if "gpu_memory_utilization" in one.engine]
    # 48 GiB of terms and 12 of cache are 0.5 more than there is beside the context.
    found = Toy(engine={"kv_cache_memory_bytes": 12 * GIB}).advice()
    assert lever(found, "kv_cache_memory_bytes").engine == {"kv_cache_memory_bytes": 12 * GIB - OUTSIDE}


def test_a_little_is_named_only_where_it_is_enough() -> None:
    # 4 MiB are missing in the one case and 4 GiB in the other, and one request less frees 4 MiB.
    engine = {"max_num_seqs": 65, "gpu_memory_utilization": 0.8}
    start = Toy(engine=engine).evaluate({})
    length = start.ledger.tokens + 4
    assert lever(Toy(engine={**engine, "max_model_len": length}).advice(), "max_num_seqs").fits
    far = Toy(engine={**engine, "max_model_len": length + 4096}).advice()
    assert not [one for one in far.levers if "max_num_seqs" in one.engine]


def test_only_what_the_worst_case_allows_fits() -> None:
    # 6 GiB are there, 4 at worst: 5 are expected to fit.
    toy = Toy(engine={"max_model_len": 5 * 1024}, spread=2 * GIB)
    start = toy.evaluate({})
    assert start.ledger.verdict == "tight"
    found = toy.advice()
    assert lever(found, "max_model_len").engine == {"max_model_len": 4096}
    assert all(one.ledger.kv.low >= one.ledger.kv_needed for one in found.levers if one.fits)


def test_a_cpu_has_no_gpu_levers() -> None:
    found = Toy(kind="cpu", gpus=0, engine={"kv_cache_memory_bytes": 2 * GIB}).advice()
    names = {name for one in found.levers for name in one.engine}
    assert names == {"kv_cache_memory_bytes", "max_model_len"}


@pytest.mark.parametrize(
    ("name", "release", "config", "taken"),
    [
        ("NVIDIA L40S", "0.33.0", {}, True),
        ("NVIDIA H100 80GB HBM3", "0.8.5", {}, True),
        ("NVIDIA L40S", "0.10.2", {}, False),  # the V1 engine gives way to V0
        ("NVIDIA A100-SXM4-80GB", "0.33.0", {}, False),
        ("AMD Instinct MI300X", "0.33.0", {}, False),
        ("a GPU of no known name", "0.33.0", {}, False),
        ("NVIDIA H100 80GB HBM3", "0.11.0", {"kv_lora_rank": 512, "qk_rope_head_dim": 64}, False),
        ("NVIDIA H100 80GB HBM3", "0.12.0", {"kv_lora_rank": 512, "qk_rope_head_dim": 64}, True),
        ("NVIDIA L40S", "0.19.0", {"kv_lora_rank": 512, "qk_rope_head_dim": 64}, False),
        ("NVIDIA L40S", "0.20.0", {"kv_lora_rank": 512, "qk_rope_head_dim": 64}, True),
    ],
)
def test_fp8_only_where_there_are_kernels(name: str, release: str, config: dict[str, int], taken: bool) -> None:
    toy = Toy(release=release, name=name)
    shape = dataclasses.replace(toy.shape, mla_width=sum(config.values()))
    device = Device("gpu", name, 80 * GIB)
    assert takes_fp8_cache(Case(Version(release), shape, device, 1, toy.evaluate, lambda engine: True)) is taken


@pytest.mark.parametrize(
    ("changes", "proposed"),
    [
        ({"release": "0.20.0"}, True),
        ({"release": "0.19.1"}, False),
        ({"release": "0.33.0", "name": "NVIDIA A100-SXM4-80GB"}, False),
        ({"release": "0.33.0", "config": {**QWEN3_8B_CONFIG, "quantization_config": {"quant_method": "awq"}}}, False),
    ],
)
def test_smaller_weights_where_they_can_be_loaded(changes: dict[str, t.Any], proposed: bool) -> None:
    found = Toy(engine={"max_model_len": 20 * 1024}, **changes).advice()
    assert ("quantization: fp8_per_tensor" in options(found)) is proposed


@pytest.mark.parametrize(
    ("more", "tokens"), [({}, 512), ({"enable_chunked_prefill": False}, 8192), ({"max_num_seqs": 1024}, 1024)]
)
def test_how_small_a_batch_may_be(more: dict[str, t.Any], tokens: int) -> None:
    engine = {"max_model_len": 8 * 1024, "max_num_batched_tokens": 16384, "max_num_seqs": 256, **more}
    found = Toy(engine=engine, batched=MIB // 4, weights=46 * GIB).advice()
    assert lever(found, "max_num_batched_tokens").engine == {"max_num_batched_tokens": tokens}


@pytest.mark.parametrize(
    ("toy", "fix"),
    [
        (Toy(), ""),
        (
            Toy(engine={"max_model_len": 12 * 1024}, gpus=2),
            "Set kv_cache_dtype: fp8 (frees 6.00 GiB), or tensor_parallel_size: 2 (frees 26.00 GiB), or "
            "pipeline_parallel_size: 2 (frees 26.00 GiB)",
        ),
        (
            Toy(engine={"max_model_len": 14 * 1024}, name="NVIDIA A100-SXM4-80GB"),
            "Set gpu_memory_utilization: 0.97 and enforce_eager: true (frees 8.20 GiB), or max_model_len: 6144 (frees "
            "8.00 GiB), or cpu_offload_gb: 8 (frees 8.00 GiB)",
        ),
        (
            Toy(total=24 * GIB, name="NVIDIA L4"),
            "No option without offloading is enough: it needs 2 of these GPUs, with tensor_parallel_size: 2 and "
            "enforce_eager: true and max_num_seqs: 64 and gpu_memory_utilization: 0.93, or devices of at least 58 GiB "
            "each, or smaller weights",
        ),
    ],
)
def test_the_end_of_an_error(toy: Toy, fix: str) -> None:
    assert fix_of(toy.advice()) == fix


def test_as_text() -> None:
    found = Toy(engine={"max_model_len": 12 * 1024}).advice()
    one = lever(found, "kv_cache_dtype")
    assert text_of(one) == text_of(one.as_data())
    assert text_of(one) == (
        "kv_cache_dtype: fp8 frees 6.00 GiB and then fits (12,288 tokens, 1 requests of 12,288): "
        "keys and values are rounded to 8 bits; compare the answers with those of before"
    )
    assert written({"limit_mm_per_prompt": {"image": 0}, "language_model_only": True}) == (
        "limit_mm_per_prompt: {image: 0} and language_model_only: true"
    )


def test_a_very_long_length_is_shortened() -> None:
    advice = Toy(engine={"max_model_len": 10**9, "max_num_seqs": 64}).advice()
    # 60 GiB of which 54 are vLLM's, 40 are weights, 4 graphs, and 256 MiB activations: 9.75 GiB of KV cache.
    assert lever(advice, "max_model_len").engine == {"max_model_len": 9216}


def test_what_a_tiny_device_lacks() -> None:
    needed = Toy(total=int(0.4 * GIB), engine={"max_model_len": 512}).advice().needed
    assert needed is not None and needed.device_bytes is not None and needed.device_bytes > 40 * GIB
