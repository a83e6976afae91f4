# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/accuracy: reading records, scoring predictions, and the report over made-up records."""

from __future__ import annotations

import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import typing as t

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools" / "accuracy"
sys.path.insert(0, str(TOOLS))

import compare  # noqa: E402  (tools are no package)
import page  # noqa: E402
import predict  # noqa: E402
import records  # noqa: E402
import score  # noqa: E402
import splits  # noqa: E402

GIB = 2**30
# A dense model of 8 layers; its figures below follow from it by hand.
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}
MODELS = {"Org/Tiny": {"config": CONFIG, "weights": None}}
MTP = {"method": "mtp"}
LONG: dict[str, t.Any] = {
    "id": "made1",
    "category": ["dense-gqa"],
    "model": "org/tiny",
    "model_as_written": "Tiny, as somebody wrote it",
    "source_repo": "org/repo",
    "source_thread": "docs/memory.md",
    "source_date": "2026-04-22",
    "vllm_version": "0.19.0",
    "engine": "V1",
    "gpu": "H100 80GB",
    "gpu_count": 1,
    "gpu_total_gib": 79.19,
    "tp": 1,
    "max_model_len": 8192,
    "gpu_memory_utilization": 0.9,
    "kv_cache_dtype": "auto",
    "max_num_seqs": 256,
    "max_num_batched_tokens": 8192,
    "available_kv_gib": 60.0,
    # 16 KiB a token: 8 layers of keys and values, 8 heads of 64, 2 bytes each; 60 GiB hold 3,932,160 of them.
    "kv_cache_tokens": 3932160,
    "max_concurrency": 480.0,
    "max_concurrency_len": 8192,
    "outcome": "ok",
    "error": None,
    "log_lines": ["a line of somebody's log"],
    "notes": "a sentence; init cuda_memory per rank (context+NCCL, outside the budget): 0.51 GiB; more words",
}


UNKNOWN = {"vllm_version": None, "source_date": None}
# Qwen3-Next over two GPUs: 7162 blocks over 4 groups of layers.
GROUPS = {"gpu_blocks": 7162, "block_size": 544, "kv_cache_tokens": 973760}
MUTE = {"kv_cache_tokens": None, "max_concurrency": None}


def record(**changes: t.Any) -> dict[str, t.Any]:
    """A record in the long form."""
    return {**LONG, **changes}


def case(**changes: t.Any) -> records.Case:
    """The case of a record."""
    return records.read_cases([record(**changes)], MODELS)[0]


def predicted(**changes: t.Any) -> predict.Prediction:
    """The prediction of a record."""
    return predict.predict(case(**changes))


@pytest.mark.parametrize(
    ("flags", "options", "env"),
    [
        (None, {}, {}),
        ("--enable-prefix-caching --block-size=128", {"enable_prefix_caching": True, "block_size": 128}, {}),
        ("--no-enable-prefix-caching", {"enable_prefix_caching": False}, {}),
        ("--kv-cache-dtype fp8 --max-num-seqs 64", {"kv_cache_dtype": "fp8", "max_num_seqs": 64}, {}),
        ("{'kv_cache_dtype': 'fp8', 'model_tag': 'a/b', 'dtype': None}", {"kv_cache_dtype": "fp8"}, {}),
        ('{"block_size": 64, "enforce_eager": true}', {"block_size": 64, "enforce_eager": True}, {}),
        ("DCP=4", {"decode_context_parallel_size": 4}, {}),
        ("MTP=off, decode_context_parallel_size=2", {"decode_context_parallel_size": 2}, {}),
        ("MTP", {"speculative_config": {**MTP, "num_speculative_tokens": 1}}, {}),
        (
            "DCP=8, MTP k=3",
            {"decode_context_parallel_size": 8, "speculative_config": {**MTP, "num_speculative_tokens": 3}},
            {},
        ),
        ("--kv-cache-memory 16 GiB per GPU", {"kv_cache_memory_bytes": 16 * GIB}, {}),
        ("KV_CACHE_MEMORY_BYTES=1810000000", {"kv_cache_memory_bytes": 1810000000}, {}),
        ("VLLM_USE_V1=0, cpu_offload_gb=10.0", {"cpu_offload_gb": 10.0}, {"VLLM_USE_V1": "0"}),
        ("--trust-remote-code, served with love", {}, {}),
    ],
)
def test_flags_as_people_write_them(flags: str | None, options: dict[str, t.Any], env: dict[str, str]) -> None:
    columns = {name: None for name in records.OPTIONS}
    short = records.reduce(record(**columns, max_concurrency_len=None, other_flags=flags))
    assert (short["options"], short.get("env", {})) == (options, env)


def test_the_short_form_has_no_line_of_anybody() -> None:
    short = records.reduce(LONG)
    text = json.dumps(short)
    assert not any(words in text for words in ("somebody", "sentence", "words"))
    assert short["figures"]["outside_gib"] == 0.51
    assert records.reduce(short) == short
    assert records.read_cases([short], MODELS) == records.read_cases([LONG], MODELS)


def test_notes_give_figures_and_kinds() -> None:
    notes = (
        "activation per rank: 1.05,1.1,2.01; consumed memory 3.35 GiB; image vllm/vllm-openai:v0.11.0; another process"
    )
    short = records.reduce(record(notes=notes, error="CUDA out of memory. Tried to allocate 1 GiB"))
    assert short["figures"]["activation_by_rank_gib"] == [1.05, 1.1, 2.01]
    assert short["figures"]["consumed_gib"] == 3.35
    assert (short["release_named"], short["shared"], short["error_kind"]) == ("0.11.0", True, "out of memory")


@pytest.mark.parametrize(
    ("changes", "release", "basis"),
    [
        ({"vllm_version": "0.8.5.post1"}, "0.8.5.post1", "stated"),
        ({"vllm_version": "0.8.5.dev22"}, "0.8.5", "development build"),
        ({"vllm_version": "0.20.2rc1.dev249+fork"}, "0.20.2", "development build"),
        ({"vllm_version": "0.6.6.post2.dev274"}, "0.7.0", "development build"),
        ({"vllm_version": "0.1.dev20051+g487ecf187", "source_date": "2026-04-22"}, "0.19.0", "date"),
        ({"vllm_version": "0.1.dev20051+g487ecf187", "source_date": None}, "0.27.0", "form"),
        ({"vllm_version": None, "notes": "image v0.11.0"}, "0.11.0", "image"),
        ({"vllm_version": None, "source_date": "2025-10-03"}, "0.10.2", "date"),
        ({"vllm_version": None, "source_date": "2023-06-21", "engine": "V0"}, "0.6.0", "date"),
        ({"vllm_version": None, "source_date": "2026-01-09", "engine": "V0"}, "0.10.2", "date"),
        ({**UNKNOWN, "notes": "consumed memory 3.3 GiB"}, "0.30.0", "form"),
        ({"vllm_version": None, "source_date": "2026-04"}, "0.11.0", "form"),
        ({**UNKNOWN, "category": ["hybrid-ssm"], "max_concurrency": 5.0}, "0.20.0", "form"),
        ({**UNKNOWN, "category": ["hybrid-ssm"], "kv_cache_tokens": None}, "0.20.2", "form"),
        ({**UNKNOWN, "category": ["hybrid-ssm"], **GROUPS}, "0.20.0", "form"),
        ({"vllm_version": None, "source_date": "2026-09-16", **GROUPS}, "0.20.0", "date"),
        ({"vllm_version": "0.29.0", **GROUPS}, "0.29.0", "stated"),
        ({**UNKNOWN, "kv_cache_tokens": 267509}, "0.23.0", "form"),
        ({**UNKNOWN, "category": ["sliding"], "kv_cache_tokens": 32768, "max_concurrency": 4.0}, "0.23.0", "form"),
        ({**UNKNOWN, "category": ["sliding"], "kv_cache_tokens": 32768, "max_concurrency": 5.0}, "0.11.0", "form"),
        ({**UNKNOWN, "cudagraph_estimate_gib": 0.4}, "0.20.2", "form"),
        ({**UNKNOWN, "engine": "V0", "non_torch_gib": 0.1}, "0.8.5", "form"),
        ({**UNKNOWN, "engine": None, "cpu_blocks": 512}, "0.6.3", "form"),
        (UNKNOWN, "0.11.0", "form"),
    ],
)
def test_release_that_is_not_stated(changes: dict[str, t.Any], release: str, basis: str) -> None:
    found = case(**changes)
    assert (found.release, found.release_basis, found.stated) == (release, basis, basis in ("stated", "image"))


def test_an_assumed_release_has_the_architecture() -> None:
    models = {"Org/Tiny": {"config": {**CONFIG, "architectures": ["GptOssForCausalLM"]}}}
    old = record(vllm_version=None, source_date="2025-01-01")
    assert records.read_cases([old], models)[0].release == "0.10.1"
    assert records.read_cases([record(vllm_version="0.8.5")], models)[0].release == "0.8.5"


@pytest.mark.parametrize(
    ("changes", "env"),
    [
        ({"vllm_version": "0.8.5", "engine": "V0"}, {"VLLM_USE_V1": "0"}),
        ({"vllm_version": "0.7.3", "engine": "V1"}, {"VLLM_USE_V1": "1"}),
        ({"vllm_version": "0.7.3", "engine": "V0"}, {}),
        ({"vllm_version": "0.19.0", "engine": "V1"}, {}),
    ],
)
def test_the_engine_that_was_recorded_is_asked_for(changes: dict[str, t.Any], env: dict[str, str]) -> None:
    assert case(**changes).env == env


@pytest.mark.parametrize(
    ("changes", "total"),
    [
        ({"gpu_total_gib": 14.56}, 14.56),
        ({"gpu_total_gib": None}, 79.19),
        ({"gpu_total_gib": None, "gpu": "A100-SXM4-40GB"}, 39.49),
        ({"gpu_total_gib": None, "gpu": "A10G 24GB"}, 21.99),
        ({"gpu_total_gib": None, "gpu": "Tesla T4"}, 14.74),
        ({"gpu_total_gib": None, "gpu": "RTX 4090 48GB"}, 47.38),
        ({"gpu_total_gib": None, "gpu": None, "instance_budget_gib": 45.0}, 50.0),
        ({"gpu_total_gib": None, "gpu": None}, None),
        ({"gpu_total_gib": "79,000"}, 79000),
        ({"gpu_total_gib": "8192"}, 8192),
        ({"gpu_total_gib": float("nan")}, 79.19),
        ({"gpu_total_gib": {}, "gpu": "h100 80gb"}, 79.19),
        ({"gpu_total_gib": None, "gpu": "H100 80GB MIG 1g.10gb"}, 9.85),
        ({"gpu_total_gib": None, "gpu": "NVIDIA GB200"}, 183.21),
        ({"gpu_total_gib": None, "gpu": "GH200 480GB"}, 94.56),
        ({"gpu_total_gib": None, "gpu": "RTX 4060 Ti"}, 15.76),
        ({"gpu_total_gib": None, "gpu": "MI325X"}, 252.16),
        ({"gpu_total_gib": None, "gpu": "Some GPU 12 GiB"}, 11.82),
    ],
)
def test_bytes_of_the_gpu(changes: dict[str, t.Any], total: float | None) -> None:
    device = case(**changes).device
    assert (device and round(device.total / GIB, 2)) == total


@pytest.mark.parametrize(("gpu", "is_assumed"), [("H100 80GB", False), ("H100 MIG 3g.40gb", True)])
def test_an_assumed_size_is_not_calibrated(gpu: str, is_assumed: bool) -> None:
    found = predicted(gpu_total_gib=None, gpu=gpu)
    assert (found.case.assumed == {"gpu"}, found.calibrated) == (is_assumed, not is_assumed)


@pytest.mark.parametrize(
    "odd",
    [
        {"id": None},
        {"outcome": None},
        {"outcome": ["ok"]},
        {"source_date": "2026", "vllm_version": None},
        {"source_date": "abc", "vllm_version": None},
        {"source_date": 2026, "vllm_version": None},
        {"model": ["org/tiny"]},
        {"model": 7},
        {"category": 7},
        {"category": "dense"},
        {"dtype": ["bfloat16"]},
        {"kv_cache_dtype": {"a": 1}},
        {"max_concurrency_len": 0},
        {"tp": "two"},
        {"max_num_seqs": 10**400},
        {"vllm_version": "8192"},
        {"available_kv_gib": "sixty"},
        {"weights_gib_per_gpu": 0},
        {"notes": ["total_non_kv"], "other_flags": 7},
    ],
)
def test_an_odd_record_stops_nobody(odd: dict[str, t.Any]) -> None:
    for changed in (record(**odd), {**records.reduce(LONG), **odd}):
        found = records.read_cases([changed, LONG], MODELS)
        assert not found[0].unusable.startswith("unreadable")
        assert found[0].id
        predictions = [predict.predict(one) for one in found]
        assert score.bars(predictions)
        assert page.terms(predictions, score.by_release, "release")


@pytest.mark.parametrize(
    "line", ["no JSON", "[1]", '{"id": "x", "other_flags": "MTP", "category": "tp", "figures": 1}']
)
def test_a_line_that_is_no_record_is_a_case(tmp_path: pathlib.Path, line: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(f"{line}\n{json.dumps(LONG)}\n", encoding="utf-8")
    found = records.read_cases(records.load_records(path), MODELS)
    assert found[0].unusable
    assert (found[0].id, found[1].id) == ("x" if line.startswith("{") else "line1", "made1")


def test_one_figure_that_is_no_number_leaves_the_others() -> None:
    found = predicted(max_concurrency="many", kv_cache_tokens="3,932,160")
    assert found.exact == {"tokens": True}


@pytest.mark.parametrize(
    ("changes", "utilization", "unbudgeted"),
    [
        ({"gpu_memory_utilization": "90%"}, 0.9, ""),
        ({"gpu_memory_utilization": 95}, 0.95, ""),
        ({"gpu_memory_utilization": "most"}, None, "gpu_memory_utilization cannot be read"),
        ({"max_num_seqs": "many"}, 0.9, "max_num_seqs cannot be read"),
        ({"max_num_seqs": "1,024"}, 0.9, ""),
        ({"gpu_memory_utilization": None}, None, ""),
    ],
)
def test_an_option_that_cannot_be_read_is_not_its_default(
    changes: dict[str, t.Any], utilization: float | None, unbudgeted: str
) -> None:
    found = predicted(**changes)
    assert found.chosen is not None
    assert found.chosen.asked.utilization == utilization
    assert found.calibrated is (not unbudgeted and utilization is not None)
    collected = predict._Found(found.case)
    collected.look()
    assert collected.unbudgeted == unbudgeted


def test_without_a_split_nothing_is_predicted() -> None:
    assert predicted(tp="two").fault == "tensor_parallel_size cannot be read"


def test_a_part_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise KeyError("layers")

    monkeypatch.setattr(predict, "activation", broken)
    found = predicted()
    assert (found.fault, found.exact) == ("", {"tokens": True, "concurrency": True})
    assert "KeyError" in found.unused["terms"]


def test_what_is_assumed_is_said(output: tuple[str, dict[str, t.Any]]) -> None:
    found = predicted(gpu_memory_utilization=None)
    assert found.case.assumed == {"utilization"}
    assert page._release(found) == "0.19.0 (utilization assumed)"
    assert [one["utilization_assumed"] for one in output[1]["records"]] == [False, False, False]


def test_what_low_and_high_miss_is_weak() -> None:
    found = page.weak([], [], [made(weights=measure(10, 20))])
    assert "- weights, dense: truth in low..high in 0 % of 1." in found
    lora = predict.dataclasses.replace(case(), category=("lora",))
    one = predict.dataclasses.replace(made(weights=measure(11, 10)), case=lora)
    assert "made1 serve LoRA" in page.weak(score.bars([one]), [], [one])


@pytest.mark.parametrize(("count", "is_thin"), [(0, False), (9, True), (10, False)])
def test_a_bar_of_few_records_is_thin(count: int, is_thin: bool) -> None:
    assert ("thin" in page.bars([score.Bar("a", "b", "c", count, True)])) is is_thin


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({}, "dense"),
        ({"vision_config": {"hidden_size": 64}}, "multimodal"),
        ({"layer_types": ["sliding_attention", "full_attention"] * 4, "sliding_window": 512}, "sliding"),
        ({"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256}, "moe"),
        ({"num_experts": 8, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "model_type": "deepseek_v2"}, "mla"),
        ({"num_experts": 8, "quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
    ],
)
def test_family_comes_from_the_configuration(config: dict[str, t.Any], family: str) -> None:
    models = {"Org/Tiny": {"config": {**CONFIG, **config}}}
    assert records.read_cases([record(model="Org/Tiny-70b-MoE")], models)[0].family == "dense"
    assert records.read_cases([LONG], models)[0].family == family


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": None}, "the source does not state the model"),
        ({"model": "org/other"}, "the model's configuration is not known"),
        ({}, ""),
    ],
)
def test_what_cannot_be_used_says_why(changes: dict[str, t.Any], reason: str) -> None:
    found = predicted(**changes)
    assert found.fault == reason
    assert found.unused.get("budget", "") == ("" if reason else "the bytes of the checkpoint are not known")
    assert (reason or "the bytes of the checkpoint are not known") in page.reasons([found])


def test_a_prediction_never_stops_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise KeyError("layers")

    monkeypatch.setattr(predict, "settings", broken)
    assert "KeyError" in predicted().fault


def test_of_a_pipeline_the_fullest_rank_counts() -> None:
    notes = "total_non_kv per rank: 8.69,9.6"
    found = case(instance_budget_gib=75.23, available_kv_gib=66.54, notes=notes)
    assert found.truth["available_kv_gib"] == 65.63
    assert case(instance_budget_gib=75.23, notes="total_non_kv per rank: 8.69").truth["available_kv_gib"] == 60.0


@pytest.mark.parametrize(
    ("changes", "exact"),
    [
        ({}, {"tokens": True, "concurrency": True}),
        ({"kv_cache_tokens": 3932160 + 256}, {"tokens": True, "concurrency": True}),
        ({"kv_cache_tokens": 3900000}, {"tokens": False, "concurrency": True}),
        ({"max_concurrency": 470.0}, {"tokens": True, "concurrency": False}),
        ({**MUTE, "kv_needed_gib": 0.13}, {"request": True}),
        ({**MUTE, "kv_needed_gib": 0.2}, {"request": False}),
        (
            {
                "max_concurrency": None,
                "kv_cache_tokens": None,
                "available_kv_gib": 0.05,
                "estimated_max_model_len": 3280,
            },
            {"longest length": True},
        ),
    ],
)
def test_capacity_given_the_bytes_of_the_log(changes: dict[str, t.Any], exact: dict[str, bool]) -> None:
    assert predicted(**changes).exact == exact


def test_a_given_size_of_the_cache_is_capacity_alone() -> None:
    found = predicted(other_flags="--kv-cache-memory 60 GiB", available_kv_gib=None)
    assert found.exact == {"tokens": True, "concurrency": True}
    assert "available KV" not in found.terms


def measure(expected: float, truth: float, width: float = 1.0) -> predict.Measure:
    """A measure of so much either side."""
    return predict.Measure(expected - width, expected, expected + width, truth, 0.005)


@pytest.mark.parametrize(
    ("expected", "truth", "covered"), [(10, 11, True), (10, 9, True), (10, 11.005, True), (10, 11.01, False)]
)
def test_truth_in_the_interval(expected: float, truth: float, covered: bool) -> None:
    assert measure(expected, truth).covered is covered


def test_errors() -> None:
    found = score.error([measure(11, 10), measure(8, 10)])
    assert found is not None
    assert (found.count, found.mean, found.bias, found.worst) == (2, 1.5, -0.5, -2)
    assert (found.mean_percent, found.covered) == (pytest.approx(15), 50)
    assert score.error([]) is None


def made(**terms: predict.Measure) -> predict.Prediction:
    """A prediction with these terms, of which available_kv is one."""
    named = {name.replace("_kv", " KV"): found for name, found in terms.items()}
    base = predicted()
    return predict.dataclasses.replace(base, terms=named, calibrated=True, kv=(1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("name", "prediction", "reached"),
    [
        ("weights, dense", made(weights=measure(10.04, 10)), True),
        ("weights, dense", made(weights=measure(10.1, 10)), False),
        ("activation, dense, calibrated", made(activation=measure(1.04, 1)), True),
        ("activation, dense, calibrated", made(activation=measure(1.06, 1)), False),
        ("graphs, all", made(graphs=measure(1.2, 1)), True),
        ("graphs, all", made(graphs=measure(1.3, 1)), False),
        ("available KV, calibrated", made(available_kv=measure(50.2, 50)), True),
        ("available KV, calibrated", made(available_kv=measure(50.4, 50)), False),
        ("available KV, calibrated", made(available_kv=measure(5.2, 5)), False),
        ("KV tokens end to end, calibrated", made(tokens=measure(102, 100)), True),
        ("KV tokens end to end, calibrated", made(tokens=measure(104, 100)), False),
        ("truth in low..high, available KV", made(available_kv=measure(50, 50.9)), True),
        ("truth in low..high, available KV", made(available_kv=measure(50, 52)), False),
        ("width of low..high, median", made(available_kv=measure(50, 50)), True),
        ("MXFP4", made(weights=measure(10, 10)), None),
    ],
)
def test_what_must_hold(name: str, prediction: predict.Prediction, reached: bool | None) -> None:
    found = next(one for one in score.bars([prediction]) if name in one.name)
    assert (found.reached, found.count) == (reached, 0 if reached is None else 1)
    assert (f"- {found.name}:" in page.weak([found], [])) is (reached is False)


@pytest.mark.parametrize(
    ("started", "verdict", "names"),
    [
        (True, "fits", set()),
        (True, "tight", set()),
        (True, "misfit", {"verdict right", "successes refused"}),
        (False, "misfit", set()),
        (False, "tight", {"verdict right"}),
        (False, "fits", {"verdict right", "failures called a fit at low"}),
        (None, "fits", set()),
    ],
)
def test_verdict(started: bool | None, verdict: str, names: set[str]) -> None:
    one = predict.dataclasses.replace(predicted(), started=started, verdict=verdict)
    assert {found.name for found in score.bars([one]) if found.reached is False} == names


def test_peers_are_compared_where_they_say_something() -> None:
    one = made(available_kv=measure(50.2, 50), tokens=measure(100, 100))
    said = {
        "near": {"version": "1", "records": {"made1": {"kv_gib": 50.1, "tokens": 90}}},
        "far": {"version": "2", "records": {"made1": {"kv_gib": 45.0}, "made2": {"kv_gib": 1.0}}},
        "mute": {"version": "3", "records": {"made1": {"refused": "it knows not this model"}}},
    }
    found = compare.pairs([one], said)
    assert {(pair.peer, pair.quantity, pair.family) for pair in found} == {
        *(("near", quantity, family) for quantity in ("available KV", "tokens") for family in ("all", "dense")),
        *(("far", "available KV", family) for family in ("all", "dense")),
    }
    kv, tokens = (next(p for p in compare.best(found) if p.quantity == what) for what in ("available KV", "tokens"))
    assert (kv.peer, kv.theirs, kv.nearer) == ("near", pytest.approx(0.1), "theirs")
    assert (tokens.theirs, tokens.ours, tokens.nearer) == (10, 0, "ours")
    assert "**better**" in page.peers(found, "available KV")
    assert "near is nearer to the truth: available KV of dense, 0.10 against our 0.20 GiB" in page.weak([], found)
    assert compare.refusals(said, [one])["mute"] == {"it knows not this model": 1}


@pytest.mark.parametrize(
    ("quantity", "ours", "theirs", "nearer"),
    [
        ("tokens", 1.0, 2.0, "ours"),
        ("tokens", 2.0, 1.0, "theirs"),
        ("tokens", 1.001, 1.0, "equal"),
        ("verdict", 90.0, 80.0, "ours"),
        ("verdict", 80.0, 90.0, "theirs"),
        ("verdict", 100.0, 100.0, "equal"),
    ],
)
def test_whose_is_nearer(quantity: str, ours: float, theirs: float, nearer: str) -> None:
    assert compare.Pair("peer", "dense", quantity, 1, ours, theirs).nearer == nearer


@pytest.mark.parametrize(
    ("config", "sizes", "found"),
    [
        ({"architectures": ["Gemma2ForCausalLM"]}, {"BF16": 2}, ("gemma2", "bfloat16")),
        ({"architectures": ["DeepseekV2ForCausalLM"]}, {"F16": 2}, ("deepseek_v2", "float16")),
        ({"architectures": ["OPTForCausalLM"], "torch_dtype": "float16"}, {}, ("opt", "float16")),
        ({"architectures": ["GptOssForCausalLM"], "model_type": "other"}, {}, ("other", "bfloat16")),
        ({}, {}, (None, "bfloat16")),
    ],
)
def test_configurations_for_peers(config: dict[str, t.Any], sizes: dict[str, int], found: tuple[str, str]) -> None:
    whole = compare._completed(config, sizes)
    assert (whole.get("model_type"), whole["torch_dtype"]) == found


def test_a_checkpoint_for_peers_is_sparse_and_whole(tmp_path: pathlib.Path) -> None:
    compare.run.write_checkpoint(tmp_path / "Org" / "Tiny", CONFIG, {"BF16": 400 * GIB, "F32": 8})
    path = tmp_path / "Org" / "Tiny" / "model.safetensors"
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    assert {name: found["shape"] for name, found in header.items()} == {
        "model.bf16.weight": [200 * GIB],
        "model.f32.weight": [2],
    }
    assert path.stat().st_size > 400 * GIB
    assert path.stat().st_blocks < 100


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, t.Any]]:
    """What report.py prints and writes for three made-up records, in either form."""
    folder = tmp_path_factory.mktemp("accuracy")
    lines = [LONG, records.reduce(record(id="made2", kv_cache_tokens=1)), record(id="made3", model=None)]
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "model_configs.json").write_text(json.dumps({"_readme": "", **MODELS}), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    options = ["--records", str(folder / "records.jsonl"), "--json", str(folder / "out.json"), "--worst", "2"]
    command = [sys.executable, str(TOOLS / "report.py"), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, json.loads((folder / "out.json").read_text(encoding="utf-8"))


def test_report(output: tuple[str, dict[str, t.Any]]) -> None:
    text, data = output
    assert text.startswith("2 of 3 records are of use.")
    assert re.search(r"\| everything +\| the source does not state the model +\| 1 \|", text)
    assert [one["id"] for one in data["records"]] == ["made1", "made2", "made3"]
    first, second, third = data["records"]
    assert first["capacity"]["tokens"]["truth"] == 3932160
    assert (first["capacity"]["tokens"]["exact"], second["capacity"]["tokens"]["exact"]) == (True, False)
    assert third["fault"] == "the source does not state the model"
    capacity = next(found for found in data["bars"] if found["name"].startswith("capacity"))
    assert (capacity["count"], capacity["reached"], capacity["beyond"]) == (2, False, ["made2"])


def test_the_records_kept_here_hold_no_text_of_others() -> None:
    kept = records.load_records()
    assert len({one["id"] for one in kept}) == len(kept) > 100
    assert all(records.reduce(one) == one for one in kept)
    for one in kept:
        assert not {"log_lines", "notes", "error", "model_as_written"} & set(one)
        assert set(one["figures"]) <= set(records.FIGURES)
        assert one["source_repo"] and one["source_thread"]


def test_what_a_source_says_is_used_for_its_own_record_alone() -> None:
    said = {"r": {"source_thread": "log", "options": {"max_lora_rank": 64}, "env": {"A": "1"}, "packages": {}}}
    known = {"m": {"config": {}}}
    (own,) = records.read_cases([record(id="r", source_thread="log", max_num_seqs=8)], known, said)
    assert (own.engine["max_lora_rank"], own.engine["max_num_seqs"], own.env["A"]) == (64, 8, "1")
    assert (own.packages, own.sourced) == ({}, True)
    (other,) = records.read_cases([record(id="r", source_thread="another")], known, said)
    (alone,) = records.read_cases([record(id="r", source_thread="log")], known)
    assert not other.sourced and other.packages is None and "max_lora_rank" not in alone.engine


def test_every_kept_source_is_of_a_kept_record_and_says_where_it_stands() -> None:
    kept = {one["id"]: one for one in records.load_records()}
    for name, said in records.load_sources().items():
        assert said["source_thread"] == kept[name]["source_thread"]
        assert len(said["says"]) > 40
        assert set(said) <= {"source_thread", "options", "env", "packages", "release", "says"}
        # A figure of the log is nothing that a source may change.
        assert set(said.get("options", {})) <= records._OPTIONS


def test_constants_are_fitted_to_the_records_alone() -> None:
    text = (records.HERE.parent / "memory" / "refit.py").read_text(encoding="utf-8")
    assert "read_cases(records.load_records(path), records.load_models(beside=path))" in text


def test_the_models_of_a_half_are_not_among_those_that_it_is_scored_by(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [predict.dataclasses.replace(case(), id=str(at), model=f"m{at % 5}") for at in range(10)]
    seen: list[tuple[set[str], set[str]]] = []

    def noted(fitted: t.Sequence[records.Case], scored: t.Sequence[records.Case]) -> list[predict.Prediction]:
        seen.append(({one.model for one in fitted}, {one.model for one in scored}))
        return [predicted() for _one in scored]

    monkeypatch.setattr(splits, "_apart", noted)
    assert len(splits.halves(cases, cases, 3)) == 3 * len(cases)
    assert len(seen) == 6
    assert all(not fitted & scored for fitted, scored in seen)
    # The same deal every time.
    again = list(seen)
    seen.clear()
    splits.halves(cases, cases, 3)
    assert seen == again
    seen.clear()
    assert len(splits.families(cases, cases)) == len(cases)
    assert seen == [(set(), {f"m{at}" for at in range(5)})]


def test_each_half_has_constants_of_its_own() -> None:
    stored = splits.spread.constants()
    cases = records.read_cases(records.load_records()[:40], records.load_models())
    found = splits.halves(cases, cases, 1)
    assert {one.case.id for one in found} == {one.id for one in cases if one.model}
    assert splits.spread.constants() is stored
    names = {one.name for one in splits.bars(found)}
    assert "graphs, all" in names and not any(name.startswith(("weights", "capacity")) for name in names)
