# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What options demand of each other: every rule fires at its first and last release, and at no release beside these."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.combinations import (
    RANGES,
    RULES,
    check_combinations,
)

COMMIT = "9c925d64d72725edaf899c6cb9c377fd0709d9c5"
NEWEST = catalogue.releases()[-1]


def check(engine: dict[str, t.Any], version: str = NEWEST, **changes: t.Any) -> list[Problem]:
    """The problems of a spec with these engine options."""
    spec = ModelSpec.model_validate(
        {"name": "m", "model": "a/b", "image": "i", "revision": COMMIT, "engine": engine, **changes}
    )
    return check_combinations(spec, load(version))


@dataclasses.dataclass(frozen=True)
class Case:
    """A rule: its span, the option it is about, words of its reason, a spec that breaks it and what mends that."""

    field: str
    since: str
    until: str | None
    words: str
    broken: dict[str, t.Any]
    mended: dict[str, t.Any]
    env: dict[str, str] = dataclasses.field(default_factory=dict)

    def found(self, version: str, **more: t.Any) -> list[Problem]:
        """The problems of this rule."""
        problems = check({**self.broken, **more}, version, env=self.env)
        return [one for one in problems if one.field == f"engine.{self.field}" and self.words in one.reason]


AUTO = {"enable_auto_tool_choice": True}
NGRAM = {"method": "ngram", "num_speculative_tokens": 3}
LORA = {"enable_lora": True}
GONE: dict[str, t.Any] = {}

CASES = (
    Case("enable_auto_tool_choice", "0.6.0", None, "tool_call_parser", AUTO, {"tool_call_parser": "hermes"}),
    Case("tool_call_parser", "0.6.0", None, "no effect", {"tool_call_parser": "hermes"}, AUTO),
    Case("enable_reasoning", "0.7.1", "0.8.5.post1", "reasoning_parser", {"enable_reasoning": True},
         {"reasoning_parser": "deepseek_r1"}),
    Case("enable_reasoning", "0.7.1", "0.8.1", "enable_auto_tool_choice", {"enable_reasoning": True, **AUTO},
         {"enable_auto_tool_choice": False}),
    Case("reasoning_parser", "0.7.1", "0.8.5.post1", "no effect", {"reasoning_parser": "deepseek_r1"},
         {"enable_reasoning": True}),
    Case("enable_log_outputs", "0.11.0", None, "enable_log_requests", {"enable_log_outputs": True},
         {"enable_log_requests": True}),
    Case("max_log_len", "0.10.1", None, "no effect", {"max_log_len": 100}, {"enable_log_requests": True}),
    Case("enable_per_request_metrics", "0.25.0", None, "disable_log_stats",
         {"enable_per_request_metrics": True, "disable_log_stats": True}, {"disable_log_stats": False}),
    Case("disable_log_stats", "0.6.0", None, "metrics", {"disable_log_stats": True}, {"disable_log_stats": False}),
    Case("collect_detailed_traces", "0.6.0", "0.6.3.post1", "otlp", {"collect_detailed_traces": "all"},
         {"otlp_traces_endpoint": "http://otel:4317"}),
    Case("collect_detailed_traces", "0.11.1", None, "otlp", {"collect_detailed_traces": "all"},
         {"otlp_traces_endpoint": "http://otel:4317"}),
    Case("ssl_keyfile", "0.6.0", None, "ssl_certfile", {"ssl_keyfile": "/k"}, {"ssl_certfile": "/c"}),
    Case("grpc_port", "0.32.0", None, "together", {"grpc_port": 1, "grpc": True}, {"grpc": False}),
    Case("grpc_port", "0.32.0", None, "VLLM_USE_RUST_FRONTEND", {"grpc_port": 1}, {"grpc_port": None}),
    Case("api_server_count", "0.9.1", None, "RUNTIME_LORA", {"api_server_count": 2}, {"api_server_count": 1},
         {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}),
    Case("max_num_batched_tokens", "0.6.0", None, "max_num_seqs, which is 16",
         {"max_num_batched_tokens": "8", "max_num_seqs": 16}, {"max_num_seqs": 8}),
    Case("max_num_batched_tokens", "0.6.0", "0.7.3", "max_model_len, which is 8000",
         {"max_num_batched_tokens": 4096, "max_model_len": "8000", "enable_chunked_prefill": False},
         {"max_model_len": 4096}),
    Case("max_num_batched_tokens", "0.11.1", None, "max_model_len, which is 8000",
         {"max_num_batched_tokens": 4096, "max_model_len": "8k", "enable_chunked_prefill": False},
         {"enable_chunked_prefill": True}),
    Case("max_num_partial_prefills", "0.7.3", "0.7.3", "enable_chunked_prefill",
         {"max_num_partial_prefills": 2, "enable_chunked_prefill": False}, {"enable_chunked_prefill": True}),
    Case("max_num_partial_prefills", "0.11.1", "0.26.0", "not supported", {"max_num_partial_prefills": 2},
         {"max_num_partial_prefills": 1}),
    Case("max_long_partial_prefills", "0.11.1", "0.26.0", "not supported", {"max_long_partial_prefills": 2},
         {"max_long_partial_prefills": 1}),
    Case("logits_processor_pattern", "0.11.1", "0.16.0", "not supported", {"logits_processor_pattern": ".*"},
         {"logits_processor_pattern": None}),
    Case("pipeline_parallel_size", "0.11.1", None, "mp or ray",
         {"pipeline_parallel_size": 2, "distributed_executor_backend": "uni"}, {"distributed_executor_backend": "mp"}),
    Case("max_long_partial_prefills", "0.7.3", "0.11.0", "max_num_partial_prefills, which is 1",
         {"max_long_partial_prefills": 2}, {"max_num_partial_prefills": 2}),
    Case("long_prefill_token_threshold", "0.7.3", "0.11.0", "which is 1000, while",
         {"long_prefill_token_threshold": 2000, "max_model_len": 1000, "max_num_partial_prefills": 2},
         {"max_num_partial_prefills": 1}),
    Case("long_prefill_token_threshold", "0.27.0", None, "max_model_len, which is 1000",
         {"long_prefill_token_threshold": 2000, "max_model_len": 1000}, {"max_model_len": -1}),
    Case("max_num_active_seqs", "0.31.0", None, "max_num_seqs, which is 8",
         {"max_num_active_seqs": 9, "max_num_seqs": 8}, {"max_num_seqs": 9}),
    Case("num_scheduler_steps", "0.6.0", "0.10.0", "speculative",
         {"num_scheduler_steps": 8, "speculative_model": "a", "speculative_config": NGRAM}, {"num_scheduler_steps": 1}),
    Case("num_scheduler_steps", "0.6.0", "0.6.2", "before 0.6.3",
         {"num_scheduler_steps": 8, "enable_chunked_prefill": True}, {"enable_chunked_prefill": False}),
    Case("num_scheduler_steps", "0.6.3", "0.10.0", "pipeline_parallel_size",
         {"num_scheduler_steps": 8, "enable_chunked_prefill": True, "pipeline_parallel_size": 2},
         {"pipeline_parallel_size": 1}),
    Case("async_scheduling", "0.10.0", "0.10.2", "uni",
         {"async_scheduling": True, "distributed_executor_backend": "uni"}, {"distributed_executor_backend": "mp"}),
    Case("async_scheduling", "0.11.1", "0.18.1", "ray",
         {"async_scheduling": True, "distributed_executor_backend": "ray"}, {"async_scheduling": False}),
    Case("async_scheduling", "0.10.0", "0.14.1", "pipeline",
         {"async_scheduling": True, "pipeline_parallel_size": 2}, {"pipeline_parallel_size": 1}),
    Case("async_scheduling", "0.10.0", "0.11.0", "before 0.11.1",
         {"async_scheduling": True, "speculative_config": NGRAM}, {"speculative_config": None}),
    Case("async_scheduling", "0.11.1", "0.32.0", "this method",
         {"async_scheduling": True, "speculative_config": '{"model": "[ngram]", "num_speculative_tokens": 3}'},
         {"speculative_config": {"method": "eagle"}}),
    Case("async_scheduling", "0.11.1", "0.32.0", "disable_padded_drafter_batch",
         {"async_scheduling": True, "speculative_config": {"method": "eagle", "disable_padded_drafter_batch": True}},
         {"async_scheduling": False}),
    Case("decode_context_parallel_size", "0.10.2", None, "does not fit",
         {"tensor_parallel_size": 8, "decode_context_parallel_size": 3}, {"decode_context_parallel_size": 4}),
    Case("dcp_comm_backend", "0.18.0", "0.28.0", "more than 1", {"dcp_comm_backend": "a2a"},
         {"decode_context_parallel_size": 2}),
    Case("block_size", "0.12.0", None, "is no multiple of",
         {"block_size": 16, "cp_kv_cache_interleave_size": 6, "decode_context_parallel_size": 2},
         {"cp_kv_cache_interleave_size": 8}),
    Case("prefill_context_parallel_size", "0.12.0", "0.12.0", "refused", {"prefill_context_parallel_size": 2},
         {"prefill_context_parallel_size": 1}),
    Case("enable_eplb", "0.10.0", None, "enable_expert_parallel", {"enable_eplb": True},
         {"enable_expert_parallel": True}),
    Case("enable_eplb", "0.10.0", None, "more than one rank", {"enable_eplb": True, "data_parallel_size": "1"},
         {"data_parallel_size": 2}),
    Case("num_redundant_experts", "0.9.2", "0.11.2", "enable_eplb", {"num_redundant_experts": 2},
         {"enable_eplb": True}),
    Case("eplb_config", "0.10.2", None, "redundant", {"eplb_config": {"num_redundant_experts": 2}},
         {"enable_eplb": True}),
    Case("enable_elastic_ep", "0.17.0", None, "enable_eplb", {"enable_elastic_ep": True}, {"enable_eplb": True}),
    Case("enable_elastic_ep", "0.17.0", None, "pipeline", {"enable_elastic_ep": True, "pipeline_parallel_size": 2},
         {"pipeline_parallel_size": 1}),
    Case("enable_elastic_ep", "0.17.0", None, "hybrid", {"enable_elastic_ep": True, "data_parallel_hybrid_lb": True},
         {"data_parallel_hybrid_lb": False}),
    Case("enable_elastic_ep", "0.17.0", "0.32.0", "external",
         {"enable_elastic_ep": True, "data_parallel_external_lb": True}, {"data_parallel_external_lb": False}),
    Case("elastic_ep_max_dp_size", "0.30.0", None, "which is 4",
         {"elastic_ep_max_dp_size": 2, "data_parallel_size": 4, "enable_elastic_ep": True},
         {"data_parallel_size": 2}),
    Case("numa_bind_nodes", "0.20.0", None, "numa_bind", {"numa_bind_nodes": [0]}, {"numa_bind": True}),
    Case("numa_bind_nodes", "0.20.0", None, "negative", {"numa_bind_nodes": [0, -1]}, {"numa_bind_nodes": [0, "1"]}),
    Case("numa_bind_cpus", "0.20.0", None, "numa_bind", {"numa_bind_cpus": ["0-3"]}, {"numa_bind": True}),
    Case("ray_workers_use_nsight", "0.6.0", None, "ray",
         {"ray_workers_use_nsight": True, "distributed_executor_backend": "mp"},
         {"distributed_executor_backend": "ray"}),
    Case("distributed_executor_backend", "0.18.0", None, "own images", {"distributed_executor_backend": "ray"},
         {"distributed_executor_backend": "mp"}),
    Case("device_ids", "0.24.0", None, "twice", {"device_ids": "0,1,0"}, {"device_ids": "0,1"}),
    Case("enable_dbo", "0.11.0", "0.23.0", "DeepEP", {"enable_dbo": True}, {"enable_dbo": False}),
    Case("enable_dbo", "0.24.0", None, "all-to-all", {"enable_dbo": True}, {"all2all_backend": "nixl_ep"}),
    Case("all2all_backend", "0.31.0", None, "eplb", {"all2all_backend": "moonep", "enable_eplb": True},
         {"enable_eplb": False}),
    Case("data_parallel_hybrid_lb", "0.11.1", None, "one way",
         {"data_parallel_hybrid_lb": True, "data_parallel_external_lb": True}, {"data_parallel_external_lb": False}),
    Case("data_parallel_start_rank", "0.15.0", None, "one way",
         {"data_parallel_start_rank": 0, "data_parallel_rank": 0}, {"data_parallel_rank": None}),
    Case("data_parallel_multi_port_external_lb", "0.22.0", None, "one way",
         {"data_parallel_multi_port_external_lb": True, "data_parallel_external_lb": True},
         {"data_parallel_external_lb": False}),
    Case("data_parallel_external_lb", "0.11.1", None, "data_parallel_size", {"data_parallel_external_lb": True},
         {"data_parallel_size": 2}),
    Case("data_parallel_external_lb", "0.11.1", None, "data_parallel_rank", {"data_parallel_external_lb": True},
         {"data_parallel_rank": 0}),
    Case("data_parallel_hybrid_lb", "0.10.0", None, "data_parallel_size_local", {"data_parallel_hybrid_lb": True},
         {"data_parallel_hybrid_lb": False}),
    Case("data_parallel_multi_port_external_lb", "0.22.0", None, "data_parallel_size_local",
         {"data_parallel_multi_port_external_lb": True}, {"data_parallel_multi_port_external_lb": False}),
    Case("data_parallel_rank", "0.9.2", None, "needs engine.data_parallel_size", {"data_parallel_rank": 1},
         {"data_parallel_size": 2}),
    Case("node_rank", "0.11.1", None, "one host", {"node_rank": 1}, {"node_rank": None}),
    Case("master_addr", "0.11.1", None, "one host", {"master_addr": "10.0.0.1"}, {"master_addr": None}),
    Case("master_port", "0.11.1", None, "one host", {"master_port": 29501}, {"master_port": None}),
    Case("data_parallel_backend", "0.9.1", None, "neither", {"data_parallel_backend": "mpi"},
         {"data_parallel_backend": "ray"}),
    Case("distributed_executor_backend", "0.10.2", None, "no backend", {"distributed_executor_backend": "mpi"},
         {"distributed_executor_backend": "my.Executor"}),
    Case("offload_backend", "0.17.0", None, "offload_group_size", {"offload_backend": "prefetch"},
         {"offload_group_size": 8}),
    Case("spec_tokens", "0.22.0", None, "spec_model", {"spec_tokens": 3}, {"spec_method": "ngram"}),
    Case("spec_method", "0.22.0", None, "spec_tokens", {"spec_method": "ngram"}, {"spec_tokens": 3}),
    Case("optimization_level", "0.12.0", None, "0, 1, 2 or 3", {"optimization_level": 4}, {"optimization_level": "3"}),
    Case("show_hidden_metrics_for_version", "0.11.1", None, "no version", {"show_hidden_metrics_for_version": "soon"},
         {"show_hidden_metrics_for_version": "0.31"}),
    Case("data_parallel_rank", "0.9.2", None, "which is 2", {"data_parallel_rank": 2, "data_parallel_size": 2},
         {"data_parallel_rank": 1}),
    Case("enable_fault_tolerance", "0.27.0", None, "external", {"enable_fault_tolerance": True},
         {"data_parallel_rank": 0}),
    Case("enable_fault_tolerance", "0.27.0", None, "single API server",
         {"enable_fault_tolerance": True, "api_server_count": 2}, {"api_server_count": 1}),
    Case("kv_cache_memory_bytes", "0.10.2", None, "gpu_memory_utilization",
         {"kv_cache_memory_bytes": "16G", "gpu_memory_utilization": 0.9}, {"gpu_memory_utilization": None}),
    Case("kv_offloading_backend", "0.11.1", "0.13.0", "needs", {"kv_offloading_backend": "native"},
         {"kv_offloading_size": 8}),
    Case("kv_offloading_backend", "0.14.0", None, "no effect", {"kv_offloading_backend": "native"},
         {"kv_offloading_size": 8}),
    Case("kv_offloading_size", "0.11.1", "0.13.0", "no effect", {"kv_offloading_size": 8},
         {"kv_offloading_backend": "native"}),
    Case("kv_offloading_size", "0.14.0", None, "replaces",
         {"kv_offloading_size": 8, "kv_transfer_config": {"kv_connector": "NixlConnector", "kv_role": "kv_both"}},
         {"kv_transfer_config": {}}),
    Case("offload_num_in_group", "0.17.0", None, "which is 2", {"offload_num_in_group": 3, "offload_group_size": 2},
         {"offload_group_size": 3}),
    Case("offload_prefetch_step", "0.17.0", None, "1 or more",
         {"offload_prefetch_step": 0, "offload_backend": "prefetch"}, {"offload_backend": "uva"}),
    Case("mamba_block_size", "0.11.1", None, "enable_prefix_caching",
         {"mamba_block_size": 8, "enable_prefix_caching": False}, {"enable_prefix_caching": True}),
    Case("enable_mamba_cache_stochastic_rounding", "0.20.0", None, "float16",
         {"enable_mamba_cache_stochastic_rounding": True}, {"mamba_ssm_cache_dtype": "float16"}),
    *(
        Case(name, since, until, "no effect", {name: value}, LORA)
        for name, since, until, value in (
            ("max_lora_rank", "0.6.0", None, 16),
            ("max_loras", "0.6.0", None, 1),
            ("max_cpu_loras", "0.6.0", None, 2),
            ("lora_dtype", "0.6.0", None, "auto"),
            ("lora_extra_vocab_size", "0.6.0", "0.11.2", 256),
            ("fully_sharded_loras", "0.6.0", None, True),
            ("enable_lora_bias", "0.6.4", "0.11.0", True),
            ("long_lora_scaling_factors", "0.6.0", "0.9.2", [4.0]),
            ("lora_target_modules", "0.19.0", None, ["o_proj"]),
            ("specialize_active_lora", "0.16.0", None, True),
        )
    ),
    Case("lora_modules", "0.6.0", None, "enable_lora", {"lora_modules": ["a=/a"]}, LORA),
    Case("default_mm_loras", "0.10.0", None, "enable_lora", {"default_mm_loras": {"audio": "/a"}}, LORA),
    Case("max_lora_rank", "0.6.0", "0.7.3", "8, 16, 32, 64, 128, 256", {"max_lora_rank": 320, **LORA},
         {"max_lora_rank": 256}),
    Case("max_lora_rank", "0.8.0", "0.11.0", "320, 512", {"max_lora_rank": 48, **LORA}, {"max_lora_rank": 320}),
    Case("lora_extra_vocab_size", "0.6.0", "0.7.3", "none of 0", {"lora_extra_vocab_size": 1, **LORA},
         {"lora_extra_vocab_size": 0}),
    Case("lora_extra_vocab_size", "0.8.0", "0.11.0", "neither", {"lora_extra_vocab_size": 0, **LORA},
         {"lora_extra_vocab_size": 256}),
    Case("max_loras", "0.6.0", None, "at least 1", {"max_loras": 0, **LORA}, {"max_loras": 1}),
    Case("max_cpu_loras", "0.6.0", None, "which is 4", {"max_cpu_loras": 2, "max_loras": 4, **LORA}, {"max_loras": 2}),
    Case("enable_lora", "0.6.0", "0.6.4.post1", "chunked", {**LORA, "enable_chunked_prefill": True},
         {"enable_chunked_prefill": False}),
    Case("enable_lora", "0.7.0", "0.8.2", "cpu_offload_gb", {**LORA, "cpu_offload_gb": 1.5}, {"cpu_offload_gb": 0}),
    Case("enable_lora", "0.11.1", None, "draft tokens",
         {**LORA, "max_num_seqs": 256, "max_num_batched_tokens": 1000, "speculative_config": NGRAM},
         {"max_num_batched_tokens": 1024}),
    Case("cuda_graph_sizes", "0.11.1", "0.12.0", "also set",
         {"cuda_graph_sizes": [8], "compilation_config": {"cudagraph_capture_sizes": [8]}}, {"compilation_config": {}}),
    Case("cudagraph_capture_sizes", "0.11.1", None, "also set",
         {"cudagraph_capture_sizes": [8], "compilation_config": {"cudagraph_capture_sizes": [8]}},
         {"compilation_config": {}}),
    Case("max_cudagraph_capture_size", "0.11.1", None, "also set",
         {"max_cudagraph_capture_size": 8, "compilation_config": '{"max_cudagraph_capture_size": 8}'},
         {"compilation_config": "{}"}),
    Case("max_cudagraph_capture_size", "0.11.1", None, "none of the sizes",
         {"max_cudagraph_capture_size": 7, "cudagraph_capture_sizes": [4, "8"]}, {"max_cudagraph_capture_size": 8}),
    Case("cuda_graph_sizes", "0.9.0", "0.12.0", "no effect", {"cuda_graph_sizes": [8], "enforce_eager": True},
         {"enforce_eager": False}),
    Case("cudagraph_capture_sizes", "0.11.1", None, "no effect",
         {"cudagraph_capture_sizes": [8], "enforce_eager": True}, {"enforce_eager": False}),
    Case("max_cudagraph_capture_size", "0.11.1", None, "no effect",
         {"max_cudagraph_capture_size": 8, "enforce_eager": True}, {"enforce_eager": False}),
    Case("max_seq_len_to_capture", "0.6.0", "0.10.2", "no effect",
         {"max_seq_len_to_capture": 8, "enforce_eager": True}, {"enforce_eager": False}),
    Case("attention_backend", "0.13.0", None, "also set",
         {"attention_backend": "FLASH_ATTN", "attention_config": {"backend": "FLASH_ATTN"}}, {"attention_config": {}}),
    Case("enable_flashinfer_autotune", "0.16.0", None, "also set",
         {"enable_flashinfer_autotune": True, "kernel_config": {"enable_flashinfer_autotune": True}},
         {"kernel_config": {}}),
    Case("spec_method", "0.22.0", None, "also set", {"spec_method": "ngram", "speculative_config": NGRAM},
         {"speculative_config": {}}),
    Case("spec_model", "0.22.0", None, "also set", {"spec_model": "a/b", "speculative_config": {"model": "a/b"}},
         {"speculative_config": {}}),
    Case("spec_tokens", "0.22.0", None, "also set", {"spec_tokens": 3, "speculative_config": NGRAM},
         {"speculative_config": {}}),
    Case("per_request_spec_decode_metrics", "0.29.0", None, "speculative",
         {"per_request_spec_decode_metrics": "summary"}, {"spec_method": "ngram"}),
    Case("kv_sharing_fast_prefill", "0.10.2", None, "EAGLE",
         {"kv_sharing_fast_prefill": True, "speculative_config": {"method": "mtp"}}, {"speculative_config": NGRAM}),
    Case("speculative_model", "0.6.0", "0.6.3.post1", "chunked",
         {"speculative_model": "a/b", "enable_chunked_prefill": True}, {"enable_chunked_prefill": False}),
    Case("speculative_model", "0.6.0", "0.6.2", "use_v2_block_manager", {"speculative_model": "a/b"},
         {"use_v2_block_manager": True}),
    Case("speculative_model", "0.6.0", "0.8.1", "ngram_prompt_lookup_max", {"speculative_model": "[ngram]"},
         {"ngram_prompt_lookup_max": 4}),
    Case("speculative_model", "0.6.0", "0.8.1", "num_speculative_tokens", {"speculative_model": "[ngram]"},
         {"num_speculative_tokens": 4}),
    Case("ngram_prompt_lookup_min", "0.6.0", "0.8.1", "which is 4",
         {"speculative_model": "[ngram]", "ngram_prompt_lookup_min": 5, "ngram_prompt_lookup_max": 4},
         {"ngram_prompt_lookup_max": 5}),
    Case("num_speculative_tokens", "0.6.0", "0.7.2", "speculative_model", {"num_speculative_tokens": 4},
         {"speculative_model": "a/b"}),
    Case("speculative_draft_tensor_parallel_size", "0.6.4", "0.8.1", "which is 4",
         {"speculative_model": "a/b", "speculative_draft_tensor_parallel_size": 2, "tensor_parallel_size": 4},
         {"tensor_parallel_size": 2}),
    Case("speculative_disable_by_batch_size", "0.6.0", "0.8.1", "2 or more",
         {"speculative_model": "a/b", "speculative_disable_by_batch_size": 1},
         {"speculative_disable_by_batch_size": 2}),
    Case("load_format", "0.6.0", None, "pickles", {"load_format": "pt"}, {"load_format": "safetensors"}),
    Case("load_format", "0.6.0", None, "random", {"load_format": "dummy"}, {"load_format": "auto"}),
    Case("load_format", "0.6.0", "0.8.1", "quantization", {"load_format": "bitsandbytes"},
         {"quantization": "bitsandbytes"}),
    Case("quantization", "0.6.0", "0.8.1", "load_format", {"quantization": "bitsandbytes"},
         {"load_format": "bitsandbytes"}),
    Case("qlora_adapter_name_or_path", "0.6.0", "0.8.5.post1", "quantization", {"qlora_adapter_name_or_path": "a"},
         {"quantization": "bitsandbytes"}),
    Case("enable_prompt_embeds", "0.9.0", "0.9.2", "enable_prompt_adapter",
         {"enable_prompt_embeds": True, "enable_prompt_adapter": True}, {"enable_prompt_adapter": False}),
    Case("mm_shm_cache_max_object_size_mb", "0.11.1", None, "shm", {"mm_shm_cache_max_object_size_mb": 64},
         {"mm_processor_cache_type": "shm"}),
    Case("enable_return_routed_experts", "0.22.0", None, "pipeline",
         {"enable_return_routed_experts": True, "pipeline_parallel_size": 2}, {"pipeline_parallel_size": 1}),
    Case("enable_return_routed_experts", "0.28.0", None, "context parallelism",
         {"enable_return_routed_experts": True, "prefill_context_parallel_size": 2},
         {"prefill_context_parallel_size": 1}),
)  # fmt: skip


def beside(since: str, until: str | None) -> list[str]:
    """The release before the first one and the one after the last, as far as there are such."""
    order = catalogue.releases()
    before, last = order.index(since) - 1, order.index(until) + 1 if until else len(order)
    return [order[index] for index in (before, last) if 0 <= index < len(order)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.field}-{case.since}-{case.words}")
def test_rule(case: Case) -> None:
    for version in (case.since, case.until or NEWEST):
        assert len(case.found(version)) == 1, version
        assert case.found(version, **case.mended) == [], version
    for version in beside(case.since, case.until):
        assert case.found(version) == [], version


def test_every_rule_has_a_case() -> None:
    def places(rules: t.Iterable[t.Any]) -> list[tuple[str, str]]:
        return sorted((rule.field, rule.until or NEWEST) for rule in rules)

    # Where an option came later or went earlier than the rule, the case has the option's span.
    spans = {"lora_extra_vocab_size", "enable_lora_bias", "long_lora_scaling_factors"}
    assert [place for place in places(RULES) if place[0] not in spans] == [
        place for place in places(CASES) if place[0] not in spans
    ]


@pytest.mark.parametrize("row", [*RULES, *RANGES], ids=lambda row: f"{getattr(row, 'field', '')}{row.since}")
def test_tables_name_real_releases_and_options(row: t.Any) -> None:
    name = getattr(row, "field", None) or row.name
    order = catalogue.releases()
    assert row.since in order and (row.until is None or row.until in order)
    life = catalogue.life("options", name)
    assert life is not None
    spans = [(Version(since), Version(until or NEWEST)) for since, until in life.spans]
    assert any(Version(row.since) <= last and first <= Version(row.until or NEWEST) for first, last in spans)


@pytest.mark.parametrize(
    ("name", "version", "bad", "good"),
    [
        ("cpu_offload_gb", "0.6.0", -0.5, 0),
        ("max_logprobs", "0.25.0", -2, -1),
        ("video_pruning_rate", "0.11.1", 1, 0.99),
        ("kv_cache_metrics_sample", "0.12.0", 0, "1.0"),
        ("stream_interval", "0.11.1", "0", "1"),
        ("max_num_queued_tokens", "0.29.0", -1, "32k"),
        ("max_num_scheduled_tokens", "0.32.0", 0, 1),
        ("api_server_count", "0.9.1", 0, 1),
        ("data_parallel_rpc_port", "0.28.0", 65536, 65535),
    ],
)
def test_range(name: str, version: str, bad: t.Any, good: t.Any) -> None:
    assert [one.field for one in check({name: bad}, version) if "must be" in one.reason] == [f"engine.{name}"]
    assert check({name: good}, version) == []


@pytest.mark.parametrize(
    ("name", "value", "version"),
    [("max_logprobs", -2, "0.24.0"), ("max_num_scheduled_tokens", 0, "0.31.0"), ("stream_interval", "many", NEWEST)],
)
def test_range_says_nothing_of(name: str, value: t.Any, version: str) -> None:
    assert check({name: value}, version) == []


def test_range_is_said_in_words() -> None:
    (problem,) = check({"watermark": 1.5})
    assert str(problem).startswith("m: engine.watermark = 1.5: must be at least 0 and less than 1, says vLLM")


@pytest.mark.parametrize(
    ("tensor", "prefill", "decode", "version", "fits"),
    [
        (4, 2, 8, NEWEST, True),
        (4, 2, 2, NEWEST, True),
        (4, 2, 4, NEWEST, False),
        (4, 2, 4, "0.25.1", True),
        (4, 2, 3, "0.25.1", False),
        ("x", 1, 3, NEWEST, True),
    ],
)
def test_decode_context_parallel_size(tensor: t.Any, prefill: int, decode: int, version: str, fits: bool) -> None:
    engine = {
        "tensor_parallel_size": tensor,
        "prefill_context_parallel_size": prefill,
        "decode_context_parallel_size": decode,
    }
    assert (check(engine, version) == []) is fits


@pytest.mark.parametrize(
    ("engine", "version", "field", "words"),
    [
        ({**AUTO, "tool_call_parser": "hermess"}, NEWEST, "tool_call_parser", "Did you mean hermes"),
        ({**AUTO, "tool_call_parser": "qwen3_coder"}, "0.9.2", "tool_call_parser", "it exists from"),
        ({"reasoning_parser": "deepseek_r"}, NEWEST, "reasoning_parser", "deepseek_r1"),
        ({"enable_reasoning": True, "reasoning_parser": "qwen3"}, "0.8.4", "reasoning_parser", "it exists from 0.9.0"),
        (
            {"structured_outputs_config": {"reasoning_parser": "nope"}},
            "0.11.0",
            "structured_outputs_config.reasoning_parser",
            "Known are",
        ),
    ],
)
def test_parser_that_the_release_lacks(engine: dict[str, t.Any], version: str, field: str, words: str) -> None:
    (problem,) = check(engine, version)
    assert (problem.field, problem.warning) == (f"engine.{field}", False)
    assert words in str(problem)


@pytest.mark.parametrize(
    ("engine", "version"),
    [
        ({**AUTO, "tool_call_parser": "hermes"}, NEWEST),
        ({**AUTO, "tool_call_parser": "mine", "tool_parser_plugin": "/plugins/mine.py"}, NEWEST),
        ({"reasoning_parser": "mine", "reasoning_parser_plugin": "/plugins/mine.py"}, NEWEST),
        ({"reasoning_parser": "deepseek_r1"}, "0.9.0"),
    ],
)
def test_parser_that_is_there(engine: dict[str, t.Any], version: str) -> None:
    assert check(engine, version) == []


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"revision": "main"}, True),
        ({"revision": None}, True),
        ({"revision": COMMIT}, False),
        ({"revision": None, "model": "/srv/models/a"}, False),
    ],
)
def test_remote_code_runs_only_at_a_commit(changes: dict[str, t.Any], refused: bool) -> None:
    problems = check({"trust_remote_code": True}, **changes)
    assert [problem.field for problem in problems] == (["revision"] if refused else [])
    assert check({"trust_remote_code": False}, **changes) == []


@pytest.mark.parametrize(("revision", "refused"), [("main", True), (COMMIT, False), (None, False)])
def test_code_of_another_repository_is_pinned(revision: str | None, refused: bool) -> None:
    engine = {"trust_remote_code": True, **({"code_revision": revision} if revision else {})}
    problems = check(engine, revision=COMMIT)
    assert [problem.field for problem in problems] == (["engine.code_revision"] if refused else [])


@pytest.mark.parametrize("version", ["0.24.0", "0.24.0+cpu"])
def test_a_build_for_the_cpu_switches_micro_batches_off(version: str) -> None:
    found = [one.field for one in check({"enable_dbo": True}, version)]
    assert found == ([] if version.endswith("+cpu") else ["engine.enable_dbo"])


@pytest.mark.parametrize("name", ["None", "mp", "ray", "uni", "external_launcher", "my.Executor", None])
def test_executor_that_is_there(name: str | None) -> None:
    assert [one for one in check({"distributed_executor_backend": name}) if not one.warning] == []


def test_nothing_is_said_of_options_that_the_release_lacks() -> None:
    assert check({"enable_eplb": True, "api_server_count": 0, "max_log_len": None}, "0.8.5") == []


def test_a_common_spec_has_no_problem() -> None:
    engine = {
        "tensor_parallel_size": 2, "max_model_len": "32k", "max_num_seqs": 64, "gpu_memory_utilization": 0.92,
        "enable_auto_tool_choice": True, "tool_call_parser": "hermes", "enable_lora": True, "max_loras": 2,
        "max_cpu_loras": 4, "max_lora_rank": 32, "lora_modules": ["a=/a"], "enable_prefix_caching": True,
    }  # fmt: skip
    for version in catalogue.releases():
        assert check({**engine, "max_model_len": 32768}, version) == [], version


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = sorted({case.field for case in CASES} | {name for case in CASES for name in case.broken | case.mended})


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=12), st.sampled_from(catalogue.releases()))
def test_never_raises(engine: dict[str, t.Any], version: str) -> None:
    for problem in check(engine, version):
        assert str(problem)
