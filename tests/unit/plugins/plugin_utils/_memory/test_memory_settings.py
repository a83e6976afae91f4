# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vLLM's defaults filled in, by release, device and model."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings
from support.memory import A100, B200, CPU, H20, H100, L4, MI300X, T4, config, settled

LLAMA = config(vocab=128256, max_position_embeddings=131072)
MIXTRAL = {**LLAMA, "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 8}
GEMMA4 = {
    "architectures": ["Gemma4ForConditionalGeneration"],
    "vision_config": {"hidden_size": 1152},
    **{key: value for key, value in LLAMA.items() if key != "architectures"},
    "model_type": "gemma4_text",
}
E5 = {**LLAMA, "architectures": ["MistralModel"], "model_type": "mistral"}


def made(
    release: str,
    device: Device,
    model: t.Mapping[str, t.Any] | None = None,
    env: t.Mapping[str, str] | None = None,
    **engine: t.Any,
) -> Settings:
    """Settings of a model that says no more than this."""
    return settled(release, device, model or LLAMA, env, **engine)[1]


@pytest.mark.parametrize(
    ("release", "device", "seqs", "tokens"),
    [
        ("0.6.4", H100, 256, 2048),
        ("0.8.5", H100, 1024, 8192),
        ("0.8.3", H20, 1024, 2048),
        ("0.8.4", H20, 256, 2048),
        ("0.8.5", H20, 1024, 8192),
        ("0.8.5", A100, 1024, 8192),
        ("0.9.0", A100, 256, 2048),
        ("0.9.2", H20, 1024, 8192),
        ("0.19.0", H100, 1024, 8192),
        ("0.19.0", A100, 256, 2048),
        ("0.19.0", L4, 256, 2048),
        ("0.19.0", B200, 1024, 8192),
        ("0.32.0", B200, 1024, 16384),
        ("0.32.0", MI300X, 1024, 16384),
        ("0.32.0", CPU, 128, 2048),
    ],
)
def test_batch_defaults(release: str, device: Device, seqs: int, tokens: int) -> None:
    chosen = made(release, device)
    assert (chosen.max_num_seqs, chosen.max_num_batched_tokens) == (seqs, tokens)


def test_each_worker_on_the_cpu_adds_as_much() -> None:
    chosen = made("0.32.0", CPU, tensor_parallel_size=2)
    assert (chosen.max_num_seqs, chosen.max_num_batched_tokens) == (256, 4096)


@pytest.mark.parametrize(
    ("release", "engine", "seqs", "tokens"),
    [
        # Before 0.6.4 chunks were of 512 tokens; contexts over 32768 are chunked, shorter ones whole.
        ("0.6.0", {}, 256, 512),
        ("0.7.3", {}, 256, 2048),
        ("0.7.3", {"max_model_len": 8192}, 256, 8192),
        ("0.7.3", {"max_model_len": 1024}, 256, 2048),
        ("0.7.3", {"enable_lora": True}, 256, 131072),
        ("0.7.3", {"enable_chunked_prefill": False}, 256, 131072),
    ],
)
def test_batch_defaults_of_v0(release: str, engine: dict[str, t.Any], seqs: int, tokens: int) -> None:
    chosen = made(release, H100, **engine)
    assert (chosen.engine, chosen.max_num_seqs, chosen.max_num_batched_tokens) == ("V0", seqs, tokens)


@pytest.mark.parametrize(
    ("release", "config", "engine", "seqs", "tokens"),
    [
        # A default is held to what the requests can hold; what is asked for is not.
        ("0.19.0", LLAMA, {"max_num_seqs": 2, "max_model_len": 1000}, 2, 2000),
        ("0.10.2", LLAMA, {"max_num_seqs": 2, "max_model_len": 1000}, 2, 8192),
        ("0.19.0", LLAMA, {"max_num_batched_tokens": 512}, 512, 512),
        ("0.19.0", LLAMA, {"max_num_batched_tokens": 512, "max_num_seqs": 600}, 600, 512),
        ("0.19.0", LLAMA, {"performance_mode": "throughput"}, 2048, 16384),
        ("0.32.0", LLAMA, {"enable_chunked_prefill": False, "max_model_len": 100000}, 1024, 100000),
    ],
)
def test_limits(release: str, config: dict[str, t.Any], engine: dict[str, t.Any], seqs: int, tokens: int) -> None:
    chosen = made(release, H100, config, **engine)
    assert (chosen.max_num_seqs, chosen.max_num_batched_tokens) == (seqs, tokens)


def test_a_batch_holds_the_largest_item_of_gemma_4() -> None:
    assert made("0.26.0", L4, GEMMA4).max_num_batched_tokens == 2496
    assert made("0.20.0", L4, GEMMA4).max_num_batched_tokens == 2048


@pytest.mark.parametrize(
    ("release", "device", "engine", "env", "expected"),
    [
        ("0.6.3", H100, {}, {"VLLM_USE_V1": "1"}, "V0"),
        ("0.7.3", H100, {}, {}, "V0"),
        ("0.7.3", H100, {}, {"VLLM_USE_V1": "1"}, "V1"),
        ("0.8.5", H100, {}, {}, "V1"),
        ("0.8.5", T4, {}, {}, "V0"),
        ("0.8.5", MI300X, {}, {}, "V0"),
        ("0.9.2", MI300X, {}, {}, "V1"),
        ("0.8.1", H100, {"enable_lora": True}, {}, "V0"),
        ("0.8.5", H100, {"enable_lora": True}, {}, "V1"),
        ("0.8.5", A100, {"kv_cache_dtype": "fp8"}, {}, "V0"),
        ("0.8.5", H100, {"kv_cache_dtype": "fp8"}, {}, "V1"),
        ("0.10.2", H100, {}, {"VLLM_USE_V1": "0"}, "V0"),
        ("0.11.0", T4, {}, {"VLLM_USE_V1": "0"}, "V1"),
    ],
)
def test_engine(release: str, device: Device, engine: dict[str, t.Any], env: dict[str, str], expected: str) -> None:
    assert made(release, device, env=env, **engine).engine == expected


@pytest.mark.parametrize(
    ("release", "config", "env", "expected"),
    [
        ("0.21.0", LLAMA, {}, 1),
        ("0.22.0", LLAMA, {}, 1),
        ("0.23.0", LLAMA, {}, 2),
        ("0.23.0", {**LLAMA, "quantization_config": {"quant_method": "fp8"}}, {}, 1),
        ("0.26.0", {**LLAMA, "quantization_config": {"quant_method": "fp8"}}, {}, 2),
        ("0.26.0", MIXTRAL, {}, 1),
        ("0.26.0", {**MIXTRAL, "architectures": ["Qwen2MoeForCausalLM"]}, {}, 2),
        ("0.32.0", MIXTRAL, {}, 2),
        ("0.26.0", LLAMA, {"VLLM_USE_V2_MODEL_RUNNER": "0"}, 1),
        ("0.26.0", MIXTRAL, {"VLLM_USE_V2_MODEL_RUNNER": "1"}, 2),
    ],
)
def test_runner(release: str, config: dict[str, t.Any], env: dict[str, str], expected: int) -> None:
    assert made(release, H100, config, env).runner == expected


def test_speculation_that_the_second_runner_has_not() -> None:
    ngram = {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}}
    assert made("0.26.0", H100, **ngram).runner == 1


@pytest.mark.parametrize(
    ("release", "env", "expected"),
    [
        ("0.17.0", {"VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": "1"}, False),
        ("0.19.0", {}, False),
        ("0.19.0", {"VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": "1"}, True),
        ("0.20.0", {}, True),
        ("0.32.0", {"VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": "0"}, False),
    ],
)
def test_graphs_in_the_budget(release: str, env: dict[str, str], expected: bool) -> None:
    assert made(release, H100, env=env).graphs_in_budget is expected
    assert not made(release, H100, env=env, enforce_eager=True).graphs_in_budget


@pytest.mark.parametrize(
    ("release", "device", "engine", "count", "last"),
    [
        ("0.7.3", H100, {}, 35, 256),
        ("0.7.3", H100, {"max_num_seqs": 3}, 3, 4),
        ("0.7.3", H100, {"max_num_seqs": 10**6}, 1027, 8192),
        ("0.8.5", H100, {}, 67, 512),
        ("0.10.2", H100, {"max_num_seqs": 100}, 28, 200),
        ("0.19.0", H100, {}, 51, 512),
        ("0.19.0", H100, {"max_num_seqs": 16}, 7, 32),
        ("0.19.0", H100, {"max_num_seqs": 5}, 4, 8),
        ("0.32.0", H100, {"max_num_seqs": 5}, 5, 8),
        ("0.32.0", B200, {}, 83, 1024),
        ("0.19.0", H100, {"enforce_eager": True}, 0, 0),
        ("0.19.0", H100, {"max_num_seqs": 64, "performance_mode": "interactivity"}, 44, 128),
        ("0.32.0", CPU, {}, 0, 0),
        ("0.19.0", H100, {"compilation_config": {"cudagraph_mode": "NONE"}}, 0, 0),
        ("0.10.2", H100, {"compilation_config": {"level": 0}}, 0, 0),
    ],
)
def test_capture_sizes(release: str, device: Device, engine: dict[str, t.Any], count: int, last: int) -> None:
    sizes = made(release, device, **engine).capture_sizes
    assert (len(sizes), max(sizes, default=0)) == (count, last)
    assert list(sizes) == sorted(set(sizes))


def test_decode_batches_of_speculation_are_captured_as_well() -> None:
    engine = {"max_num_seqs": 16, "speculative_config": {"method": "mtp", "num_speculative_tokens": 2}}
    assert max(made("0.19.0", H100, **engine).capture_sizes) == 96
    assert 48 in made("0.32.0", H100, **engine).capture_sizes
    assert 3 not in made("0.19.0", H100, **engine).capture_sizes
    assert 3 in made("0.32.0", H100, **engine).capture_sizes


def test_sizes_that_are_asked_for() -> None:
    assert made("0.19.0", H100, cudagraph_capture_sizes=[8, 1, 8]).capture_sizes == (1, 8)
    assert max(made("0.19.0", H100, max_cudagraph_capture_size=100).capture_sizes) == 96


@pytest.mark.parametrize(("release", "expected"), [("0.10.2", False), ("0.11.0", True), ("0.32.0", True)])
def test_full_graphs(release: str, expected: bool) -> None:
    assert made(release, H100).full_graphs is expected
    assert not made(release, H100, E5).full_graphs
    assert not made(release, H100, compilation_config={"cudagraph_mode": "PIECEWISE"}).full_graphs


@pytest.mark.parametrize(
    ("release", "engine", "expected"),
    [
        ("0.12.0", {}, False),
        ("0.14.0", {}, True),
        ("0.14.0", {"pipeline_parallel_size": 2}, False),
        ("0.19.0", {"pipeline_parallel_size": 2}, True),
        ("0.19.0", {"async_scheduling": False}, False),
        ("0.32.0", {"speculative_config": {"method": "suffix", "num_speculative_tokens": 2}}, False),
        ("0.32.0", {"speculative_config": {"method": "eagle3", "num_speculative_tokens": 2}}, True),
    ],
)
def test_async_scheduling(release: str, engine: dict[str, t.Any], expected: bool) -> None:
    assert made(release, H100, **engine).async_scheduling is expected


def test_pooling() -> None:
    chosen = made("0.20.0", H100, E5)
    assert chosen.is_pooling
    assert not chosen.async_scheduling
    assert not made("0.20.0", H100).is_pooling


@pytest.mark.parametrize(
    ("release", "device", "expected"),
    [("0.19.0", H100, True), ("0.18.0", H100, True), ("0.19.0", A100, False), ("0.20.0", H100, False)],
)
def test_calibrated(release: str, device: Device, expected: bool) -> None:
    assert made(release, device).calibrated is expected


@pytest.mark.parametrize(
    ("name", "capability", "amd", "unified"),
    [
        ("Tesla T4", 75, False, False),
        ("NVIDIA A10G", 86, False, False),
        ("NVIDIA GeForce RTX 3090", 86, False, False),
        ("NVIDIA GeForce RTX 4090", 89, False, False),
        ("NVIDIA L40S", 89, False, False),
        ("NVIDIA RTX 6000 Ada Generation", 89, False, False),
        ("NVIDIA RTX A6000", 86, False, False),
        ("NVIDIA A100-SXM4-80GB", 80, False, False),
        ("NVIDIA GH200 480GB", 90, False, False),
        ("NVIDIA B300 SXM6 AC", 103, False, False),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 120, False, False),
        ("NVIDIA GB10", 121, False, True),
        ("AMD Instinct MI300X", 0, True, False),
        ("AMD Radeon RX 7900 XTX", 0, True, False),
        ("GPU", 0, False, False),
    ],
)
def test_devices(name: str, capability: int, amd: bool, unified: bool) -> None:
    device = Device("gpu", name, 80 * GIB)
    assert (device.capability, device.is_amd, device.is_unified) == (capability, amd, unified)


def test_a_known_capability_is_taken_before_the_name() -> None:
    assert Device("gpu", "NVIDIA H100", 80 * GIB, 100).capability == 100


def test_what_is_asked_is_kept() -> None:
    chosen = made("0.32.0", H100, gpu_memory_utilization=0.5, kv_cache_memory_bytes="2G", block_size=32)
    assert (chosen.utilization, chosen.kv_cache_memory_bytes, chosen.block_size) == (0.5, 2 * GIB, 32)
    assert made("0.19.0", H100).utilization == 0.9
    assert made("0.20.0", H100).utilization == 0.92
