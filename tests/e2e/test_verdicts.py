# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""We are neither stricter nor laxer than vLLM: both judge the same specs, vLLM 0.32.0 (its CPU build) in its image."""

from __future__ import annotations

import json
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.profile import read_profile
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.validate import Evidence, validate
from support.fleet import BUILD, engine

NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}
HUB = BUILD / "tests" / "hub"
# Of each subject what vLLM takes and what it refuses, as people write it.
SAMPLES: list[dict[str, t.Any]] = [
    {},
    {"max_model_len": "1k"},
    {"max_model_len": "32k"},
    {"max_model_len": "auto"},
    {"swap_space": 4},
    {"task": "generate"},
    {"disable_log_requests": True},
    {"enable_log_outputs": True},
    {"enable_log_outputs": True, "enable_log_requests": True},
    {"dtype": "float8"},
    {"dtype": "float32"},
    # tool calls, reasoning, structured outputs
    {"enable_auto_tool_choice": True},
    {"enable_auto_tool_choice": True, "tool_call_parser": "hermes"},
    {"enable_auto_tool_choice": True, "tool_call_parser": "hermess"},
    {"reasoning_parser": "qwen3"},
    {"reasoning_parser": "qwen9"},
    {"structured_outputs_config": {"backend": "xgrammar"}},
    {"structured_outputs_config": {"backend": "outline"}},
    {"structured_outputs_config": {"backends": "xgrammar"}},
    # speculative decoding
    {"speculative_config": NGRAM},
    {"speculative_config": {**NGRAM, "bogus": 1}},
    {"speculative_config": {**NGRAM, "method": "ngrams"}},
    {"speculative_config": {"method": "ngram"}},
    {"speculative_config": NGRAM, "async_scheduling": True},
    # parallel sizes
    {"tensor_parallel_size": 2},
    {"tensor_parallel_size": 3},
    {"tensor_parallel_size": 0},
    {"pipeline_parallel_size": 2},
    {"decode_context_parallel_size": 3},
    {"enable_expert_parallel": True},
    {"data_parallel_rank": 1},
    {"distributed_executor_backend": "mp"},
    {"distributed_executor_backend": "mpi"},
    # memory and scheduling
    {"kv_cache_dtype": "fp8"},
    {"kv_cache_dtype": "fp9"},
    {"kv_cache_memory_bytes": "1G"},
    {"gpu_memory_utilization": 1.5},
    {"max_num_seqs": 0},
    {"max_num_seqs": 64, "max_num_batched_tokens": 16},
    {"long_prefill_token_threshold": 9999},
    {"max_logprobs": -2},
    {"stream_interval": 0},
    {"scheduling_policy": "lifo"},
    {"prefix_caching_hash_algo": "builtin"},
    {"prefix_caching_hash_algo": "sha256_cbor"},
    {"enable_sleep_mode": True},
    # adapters, modalities, pooling
    {"enable_lora": True, "max_lora_rank": 16},
    {"enable_lora": True, "max_lora_rank": 17},
    {"limit_mm_per_prompt": {"image": 2}},
    {"runner": "pooling"},
    {"runner": "poolin"},
    # backends, quantization, compilation
    {"attention_backend": "CPU_ATTN"},
    {"attention_backend": "XFORMERS"},
    {"quantization": "awq"},
    {"quantization": "awqq"},
    {"compilation_config": {"mode": 3}},
    {"compilation_config": {"level": 3}},
    {"kv_transfer_config": {"kv_role": "kv_both"}},
    {"kv_transfer_config": {"kv_connector": "ExampleConnector", "kv_role": "kv_sender"}},
    {"override_generation_config": {"temperature": 0.5}},
    # parallel ranks, experts and executors
    {"data_parallel_size": 2},
    {"data_parallel_size": 2, "data_parallel_rank": 1},
    {"data_parallel_backend": "mpi"},
    {"enable_eplb": True},
    {"eplb_config": {"num_redundant_experts": 2}},
    {"eplb_config": {"windows": 100}},
    {"enable_dbo": True},
    {"numa_bind_nodes": [0]},
    # memory, offloading and scheduling
    {"max_model_len": "long"},
    {"max_model_len": 0},
    {"block_size": 0},
    {"block_size": 16},
    {"kv_offloading_size": 1},
    {"kv_offloading_size": 1, "kv_offloading_backend": "bogus"},
    {"cpu_offload_gb": 1},
    {"cpu_offload_gb": -1},
    {"offload_backend": "prefetch"},
    {"offload_group_size": 2, "offload_num_in_group": 3},
    {"mamba_cache_mode": "bogus"},
    {"enable_mamba_cache_stochastic_rounding": True},
    {"scheduling_policy": "priority"},
    {"enable_chunked_prefill": False},
    {"enable_chunked_prefill": False, "max_num_batched_tokens": 64},
    # adapters, speculation, pooling
    {"max_lora_rank": 8},
    {"enable_lora": True, "max_loras": 4, "max_cpu_loras": 2},
    {"enable_lora": True, "lora_extra_vocab_size": 256},
    {"speculative_config": {"method": "eagle", "num_speculative_tokens": 2}},
    {"speculative_config": {**NGRAM, "prompt_lookup_min": 5}},
    {"spec_method": "ngram", "spec_tokens": 2},
    {"spec_method": "ngram"},
    {"spec_tokens": 2},
    {"runner": "pooling", "convert": "embed", "pooler_config": {"seq_pooling_type": "MEAN"}},
    {"runner": "pooling", "pooler_config": {"pooling_type": "AVERAGE"}},
    # graphs, levels, structured outputs
    {"compilation_config": {"cudagraph_mode": "ALL"}},
    {"compilation_config": {"pass_config": {"enable_fusion": True}}},
    {"compilation_config": {"custom_ops": ["all", "none"]}},
    {"optimization_level": 2},
    {"optimization_level": 4},
    {"structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True}},
    {"structured_outputs_config": {"backend": "outlines", "disable_any_whitespace": True}},
    # numbers, weights, answers
    {"dtype": "half"},
    {"seed": 1.5},
    {"load_format": "dummy"},
    {"load_format": "safetensor"},
    {"quantization": "fp8"},
    {"quantization": "compressed-tensors"},
    {"quantization": "fbgemm_fp8"},
    {"quantization": "online"},
    {"generation_config": "vllm"},
    {"logprobs_mode": "raw_logits"},
    {"logprobs_mode": "raw"},
    # logs, metrics, the HTTP server
    {"enable_log_requests": True, "max_log_len": 10},
    {"uvicorn_log_level": "loud"},
    {"show_hidden_metrics_for_version": "0.31"},
    {"show_hidden_metrics_for_version": "soon"},
    {"api_server_count": 2},
    {"profiler_config": {"profiler": "torch"}},
    {"ec_transfer_config": {"ec_role": "ec_producer"}},
    {"hf_overrides": {"max_position_embeddings": 2048}},
]


def arguments(sample: t.Mapping[str, t.Any]) -> list[str]:
    """The command line that someone would write by hand."""
    found: list[str] = []
    for name, value in sample.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            found.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            items = value if isinstance(value, list) else [value]
            found += [flag, *(json.dumps(item) if isinstance(item, dict) else str(item) for item in items)]
    return found


@pytest.fixture(scope="module")
def profile() -> dict[str, t.Any]:
    return read_profile(engine("model", str(HUB)))


@pytest.fixture(scope="module")
def verdicts(profile: dict[str, t.Any]) -> list[str | None]:
    """What vLLM says of each sample: None, or why it refuses."""
    image = engine("real")
    here = pathlib.Path(__file__).parent
    lists = [["gpufleet/tiny-qwen3", "--enforce-eager", *arguments(sample)] for sample in SAMPLES]
    command = ["docker", "run", "--interactive", "--rm", "--network", "none", "--shm-size", "256m"]
    command += ["--volume", f"{here / 'judge.py'}:/judge.py:ro", "--volume", f"{HUB}:/hub:ro"]
    command += [
        "--env",
        "HF_HUB_CACHE=/hub",
        "--env",
        "HF_HUB_OFFLINE=1",
        "--entrypoint",
        "python3",
        image,
        "/judge.py",
    ]
    done = subprocess.run(command, input=json.dumps(lists), capture_output=True, text=True, timeout=3600, check=False)
    found = [json.loads(line.partition(" ")[2]) for line in done.stdout.splitlines() if line.startswith("VERDICT ")]
    assert len(found) == len(SAMPLES), done.stderr[-3000:]
    return found


@pytest.mark.parametrize("number", range(len(SAMPLES)), ids=[json.dumps(sample) for sample in SAMPLES])
def test_we_refuse_what_vllm_refuses_and_nothing_else(
    number: int, verdicts: list[str | None], profile: dict[str, t.Any]
) -> None:
    image = {"version": "0.32.0+cpu", "entrypoint": ["vllm", "serve"], "packages": {}}
    declared = {"name": "m", "model": "gpufleet/tiny-qwen3", "image": "x:0.32.0", "engine": SAMPLES[number]}
    specs, problems = load_specs([declared])
    for spec in specs:
        problems += validate(spec, load("0.32.0+cpu"), Evidence(image, profile))
    ours = [str(problem) for problem in problems if not problem.warning]
    theirs = verdicts[number]
    assert bool(ours) == (theirs is not None), f"we say {ours}, vLLM says {theirs}"


def test_the_samples_hold_both_kinds(verdicts: list[str | None]) -> None:
    assert 20 < sum(verdict is None for verdict in verdicts) < len(SAMPLES) - 20
