# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of every option that any catalogued release removed, renamed or brought. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migration import Migration, Note
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rewrites import (
    EPLB,
    SHORT_SPECULATIVE,
    by_text,
    cache_gib,
    eplb,
    graph_sizes,
    guided,
    leave_out,
    not_log_requests,
    nothing,
    old_all2all,
    old_attention_backend,
    old_eplb,
    old_exclude_tools,
    old_graph_limit,
    old_graph_sizes,
    old_log_level,
    old_logging_config,
    old_pooler,
    old_rope,
    old_task,
    pooler,
    reasoning,
    rope,
    same_as,
    separate_speculative,
    short_speculative,
    speculative,
    split_task,
    structured,
    switch,
    written,
)

_V0 = "it belonged to the V0 engine, which 0.11.0 removed"
_SPECULATION_MOVED = "all options for speculation moved into speculative_config"
_NO_DRAFT_MODEL = Note(
    "The model must be an EAGLE or Medusa head, for 0.10.0 to 0.14.1 do not support draft models", "0.10.0", "0.14.1"
)
_REJECTION_SAMPLING = Note("From 0.10.0 on drafts are accepted by rejection sampling alone", "0.10.0")
_GUIDED_MOVED = "structured outputs are set by structured_outputs_config, which 0.11.0 brought"
_BACKEND_ADVICE = (
    "Write it in engine.structured_outputs_config, with a backend that it is for: xgrammar or guidance for "
    "disable_any_whitespace, guidance for disable_additional_properties"
)
_GUIDED_UNREAD = Note("In 0.11.0 to 0.11.2 nothing reads guided_decoding_backend", "0.11.0", "0.11.2")
_EPLB_MOVED = "the expert parallel load balancer is set by eplb_config"
_ROPE_MOVED = "the rotary embedding is set by hf_overrides"
_ROPE_ADVICE = (
    'Write engine.hf_overrides: {"rope_parameters": {...}} with everything that config.json of the model has there or '
    "under rope_scaling, rope_theta included, for it is replaced as a whole"
)
_TOKENIZER_POOL = "tokenisation has no pool of Ray actors any more; api_server_count is what spreads it"
_PROMPT_ADAPTER = "prompt adapters are not supported any more"


def _speculation(*notes: Note) -> Migration:
    source = "create_speculative_config in arg_utils.py of 0.8.2, config/speculative.py of 0.14.1"
    return Migration(_SPECULATION_MOVED, source, speculative, notes=notes)


MIGRATIONS: t.Mapping[str, Migration] = {
    # -- Renamed, merged or moved into a JSON option
    **dict.fromkeys(
        (
            "num_speculative_tokens",
            "speculative_model_quantization",
            "speculative_draft_tensor_parallel_size",
            "speculative_max_model_len",
            "ngram_prompt_lookup_max",
            "ngram_prompt_lookup_min",
        ),
        _speculation(),
    ),
    "speculative_model": _speculation(_NO_DRAFT_MODEL),
    "speculative_disable_mqa_scorer": _speculation(Note("Only the V0 engine had that scorer", "0.10.0")),
    "speculative_disable_by_batch_size": _speculation(Note("0.17.0 dropped it without a successor", "0.17.0")),
    "spec_decoding_acceptance_method": _speculation(_REJECTION_SAMPLING),
    "typical_acceptance_sampler_posterior_threshold": _speculation(_REJECTION_SAMPLING),
    "typical_acceptance_sampler_posterior_alpha": _speculation(_REJECTION_SAMPLING),
    "disable_logprobs_during_spec_decoding": _speculation(Note("Requests decide about log probabilities", "0.11.1")),
    **dict.fromkeys(
        (
            "guided_decoding_backend",
            "guided_decoding_disable_fallback",
            "guided_decoding_disable_any_whitespace",
            "guided_decoding_disable_additional_properties",
        ),
        Migration(
            _GUIDED_MOVED,
            "create_engine_config in arg_utils.py of 0.11.2",
            structured,
            advice=_BACKEND_ADVICE,
            notes=(_GUIDED_UNREAD,),
        ),
    ),
    **dict.fromkeys(EPLB, Migration(_EPLB_MOVED, "create_engine_config in arg_utils.py of 0.11.2", eplb)),
    **dict.fromkeys(
        ("rope_scaling", "rope_theta"),
        Migration(_ROPE_MOVED, "__post_init__ of ModelConfig in config/model.py of 0.11.0", rope, _ROPE_ADVICE),
    ),
    "task": Migration(
        "it is said by runner (what the model is for) and convert (what it is adapted to)",
        "__post_init__ of ModelConfig in config/model.py of 0.12.0",
        split_task,
    ),
    "override_pooler_config": Migration(
        "it was renamed to pooler_config", "__post_init__ of ModelConfig in config/model.py of 0.11.2", pooler
    ),
    "cuda_graph_sizes": Migration(
        "cudagraph_capture_sizes lists the batch sizes, max_cudagraph_capture_size ends the default series",
        "config/scheduler.py of 0.10.2, create_engine_config in arg_utils.py of 0.12.0",
        graph_sizes,
        notes=(Note("0.11.1 to 0.12.0 take a single size for the only one to capture", "0.11.1", "0.12.0"),),
    ),
    "max_context_len_to_capture": Migration(
        "it was renamed to max_seq_len_to_capture, which belonged to the V0 engine",
        "arg_utils.py of 0.6.3",
        lambda case: [*same_as("max_seq_len_to_capture")(case), {}],
        notes=(Note("CUDA graphs of the V1 engine do not depend on the length", "0.11.0"),),
    ),
    "disable_log_requests": Migration(
        "requests are logged only where enable_log_requests asks for it",
        "AsyncEngineArgs in arg_utils.py of 0.10.1",
        not_log_requests,
    ),
    "disable_mm_preprocessor_cache": Migration(
        "the cache is switched off by mm_processor_cache_gb 0",
        "create_model_config in arg_utils.py of 0.12.0",
        switch(on=[written(mm_processor_cache_gb=0)]),
    ),
    "mm_cache_preprocessor": Migration(
        "the cache is on by default",
        "arg_utils.py of 0.6.6 and of 0.12.0",
        switch(on=[{}], off=[written(mm_processor_cache_gb=0), written(disable_mm_preprocessor_cache=True)]),
    ),
    "enable_multimodal_encoder_data_parallel": Migration(
        "it is said by mm_encoder_tp_mode data",
        "create_model_config in arg_utils.py of 0.12.0",
        switch(on=[written(mm_encoder_tp_mode="data")]),
    ),
    "enable_mamba_fine_grained_prefix_cache": Migration(
        "it was renamed to enable_mamba_shared_prefix_checkpoint",
        "config/cache.py of 0.30.0 and of 0.31.0",
        same_as("enable_mamba_shared_prefix_checkpoint"),
    ),
    "chat_template_text_format": Migration(
        "it was renamed to chat_template_content_format",
        "arg_utils.py of 0.6.4, entrypoints/openai/cli_args.py of 0.6.5",
        same_as("chat_template_content_format"),
    ),
    "use_gpu_for_pooling_score": Migration(
        "it came back in 0.20.0 as enable_flash_late_interaction, which is on by default",
        "entrypoints/openai/cli_args.py of 0.17.1 and of 0.20.0",
        lambda case: [*same_as("enable_flash_late_interaction")(case), *switch()(case)],
        "Leave it out; 0.18.0 to 0.19.1 score on the CPU only",
    ),
    "worker_use_ray": Migration(
        "it is said by distributed_executor_backend ray",
        "config.py of 0.6.6.post1",
        switch(on=[written(distributed_executor_backend="ray")]),
    ),
    "expand_tools_even_if_tool_choice_none": Migration(
        "tool definitions are part of the prompt always, or without exclude_tools_when_tool_choice_none",
        "entrypoints/openai/cli_args.py of 0.9.2 and of 0.10.1",
        switch(on=[{}], off=[written(exclude_tools_when_tool_choice_none=True)]),
        "Leave it out; 0.10.0 cannot leave them out of the prompt",
    ),
    "log_config_file": Migration(
        "the file is named in logging_config",
        "arg_utils.py of 0.31.0",
        lambda case: (
            [written(logging_config={"pylogging_config_file": case.value})] if isinstance(case.value, str) else []
        ),
    ),
    "dcp_kv_cache_interleave_size": Migration(
        "it was renamed to cp_kv_cache_interleave_size",
        "config/parallel.py of 0.33.0",
        same_as("cp_kv_cache_interleave_size"),
    ),
    # -- Without effect, or what they asked for always happens: leaving them out says the same
    "enable_reasoning": Migration(
        "reasoning_parser alone switches reasoning on",
        "arg_utils.py of 0.9.0",
        reasoning,
        "Leave out reasoning_parser as well, which is what switches reasoning off",
    ),
    "engine_use_ray": Migration(
        "the engine runs in a process of its own without Ray",
        "entrypoints/openai/api_server.py of 0.6.2",
        leave_out,
    ),
    "use_v2_block_manager": Migration(
        "its block manager has been the only one since 0.6.3.post1", "arg_utils.py of 0.6.3.post1", leave_out
    ),
    "device": Migration(
        "the image and the platform that it finds decide about the device",
        "arg_utils.py of 0.9.2",
        leave_out,
        notes=(Note("Another kind of device needs another image"),),
    ),
    "disable_async_output_proc": Migration(_V0, "_is_v1_supported_oracle in arg_utils.py of 0.10.2", leave_out),
    "disable_frontend_multiprocessing": Migration(
        "the V1 engine ignored it with a warning",
        "build_async_engine_client_from_engine_args in entrypoints/openai/api_server.py of 0.18.1",
        leave_out,
    ),
    "num_scheduler_steps": Migration(
        f"{_V0}; the V1 engine overlaps scheduling and execution by itself",
        "_is_v1_supported_oracle in arg_utils.py of 0.10.0",
        leave_out,
        notes=(Note("async_scheduling serves the same end", "0.10.0", "0.13.0"),),
    ),
    "multi_step_stream_outputs": Migration(
        f"{_V0}; it only mattered with num_scheduler_steps", "config.py of 0.10.0", leave_out
    ),
    "num_lookahead_slots": Migration(
        "vLLM takes it from speculative_config", "create_engine_config in arg_utils.py of 0.11.2", leave_out
    ),
    "preemption_mode": Migration(
        f"{_V0}; the V1 engine always computes a preempted request anew", "core/scheduler.py of 0.10.2", leave_out
    ),
    "scheduler_delay_factor": Migration(_V0, "core/scheduler.py of 0.10.2", leave_out),
    "max_seq_len_to_capture": Migration(
        f"{_V0}; CUDA graphs of the V1 engine do not depend on the length",
        "worker/model_runner.py of 0.10.2",
        leave_out,
        notes=(Note("cudagraph_capture_sizes is another thing: the batch sizes that are captured", "0.11.1"),),
    ),
    "swap_space": Migration(
        "the V1 engine never swapped KV blocks to host memory, it computes a preempted request anew",
        "config/cache.py of 0.17.1, where nothing but a check of its size reads it",
        leave_out,
        notes=(
            Note(
                "For a KV cache that goes on in host memory there is kv_offloading_size; cpu_offload_gb is something "
                "else and moves weights",
                "0.11.1",
            ),
        ),
    ),
    "max_num_partial_prefills": Migration(
        "the V1 engine never supported more than 1",
        "_check_feature_supported in arg_utils.py of 0.26.0",
        leave_out,
        notes=(Note("long_prefill_token_threshold bounds what one long prompt takes of a step"),),
    ),
    "max_long_partial_prefills": Migration(
        "the V1 engine never supported more than 1",
        "_check_feature_supported in arg_utils.py of 0.26.0",
        leave_out,
        notes=(Note("long_prefill_token_threshold bounds what one long prompt takes of a step"),),
    ),
    "override_attention_dtype": Migration(
        "nothing has read it for attention at its end", "config/model.py of 0.27.1", leave_out
    ),
    "tokenizer_pool_size": Migration(_TOKENIZER_POOL, "arg_utils.py of 0.8.5 and of 0.9.2", leave_out),
    "tokenizer_pool_type": Migration(_TOKENIZER_POOL, "arg_utils.py of 0.8.5 and of 0.9.2", leave_out),
    "tokenizer_pool_extra_config": Migration(_TOKENIZER_POOL, "arg_utils.py of 0.8.5 and of 0.9.2", leave_out),
    "max_prompt_adapters": Migration(_PROMPT_ADAPTER, "arg_utils.py of 0.10.0", leave_out),
    "max_prompt_adapter_token": Migration(_PROMPT_ADAPTER, "arg_utils.py of 0.10.0", leave_out),
    "lora_extra_vocab_size": Migration(
        "adapters that add tokens to the vocabulary are not served any more",
        "config/lora.py of 0.11.2 and of 0.12.0",
        lambda case: [] if case.before("0.12.0") else [{}],
    ),
    "disable_cascade_attn": Migration("cascade attention has been removed", "arg_utils.py of 0.33.0", leave_out),
    "mamba_cache_mode": Migration("it follows from enable_prefix_caching", "arg_utils.py of 0.33.0", leave_out),
    "enable_bf16x3_router_gemm": Migration(
        "the kernel is used by itself where it fits",
        "model_executor/layers/fused_moe/router/gate_linear.py of 0.30.0",
        switch(on=[{}], off=[]),
        "Leave it out; the kernel, which was off by default, cannot be switched off",
    ),
    # -- Gone, and nothing does what they did
    "calculate_kv_scales": Migration(
        "scales of the KV cache are read from the checkpoint and are 1.0 without, never computed at the start",
        "config/cache.py of 0.27.1",
        switch(),
        "Leave it out and use a checkpoint that holds the scales, or a kv_cache_dtype with scales per token and head "
        "(fp8_per_token_head)",
    ),
    "quantization_param_path": Migration(
        "scales of the KV cache are read from the checkpoint only",
        "arg_utils.py of 0.6.6.post1",
        nothing,
        "Leave it out and use a checkpoint that holds the scales",
    ),
    "enable_lora_bias": Migration(
        "biases of LoRA adapters are not supported any more",
        "config/lora.py of 0.11.0",
        switch(),
        "Leave it out and use an adapter without biases",
    ),
    "long_lora_scaling_factors": Migration(
        "the V1 engine never had Long LoRA", "verify_lora_support in config.py of 0.9.2", nothing, "Leave it out"
    ),
    "qlora_adapter_name_or_path": Migration(
        "it had no effect from 0.9.0 on",
        "arg_utils.py of 0.8.5 and of 0.9.0",
        nothing,
        "Load the adapter with enable_lora and lora_modules",
    ),
    "enable_prompt_adapter": Migration(
        _PROMPT_ADAPTER, "arg_utils.py of 0.10.0", switch(), "Leave it out and use a LoRA adapter instead"
    ),
    "prompt_adapters": Migration(
        _PROMPT_ADAPTER, "arg_utils.py of 0.10.0", nothing, "Leave it out and use a LoRA adapter instead"
    ),
    "logits_processor_pattern": Migration(
        "requests cannot bring logits processors any more",
        "entrypoints/openai/chat_completion/protocol.py of 0.16.0",
        nothing,
        "Leave it out; processors for all requests are named in logits_processors, which 0.10.1 brought",
    ),
    "override_neuron_config": Migration(
        "AWS Neuron is not supported by vLLM itself any more",
        "config/__init__.py of 0.10.1",
        nothing,
        "Leave it out, or use an image of an older release",
    ),
    "ir_op_priority": Migration("vLLM IR is being removed", "arg_utils.py of 0.33.0", nothing, "Leave it out"),
    # -- New names that an older release says otherwise
    "speculative_config": Migration(
        "",
        "arg_utils.py of 0.8.1",
        separate_speculative,
        "Leave it out; the release has options of its own for ngram and draft models, and nothing else",
    ),
    **dict.fromkeys(SHORT_SPECULATIVE, Migration("", "arg_utils.py of 0.22.0", short_speculative)),
    "structured_outputs_config": Migration("", "config/__init__.py of 0.10.2", guided),
    "runner": Migration("", "config.py of 0.10.0", old_task),
    "convert": Migration("", "config.py of 0.10.0", old_task),
    "enable_log_requests": Migration(
        "",
        "AsyncEngineArgs in arg_utils.py of 0.10.0",
        switch(on=[{}], off=[written(disable_log_requests=True)]),
        notes=(Note("The release logs requests unless disable_log_requests is true"),),
    ),
    "kv_cache_memory_bytes": Migration(
        "",
        "config/cache.py of 0.10.1.1",
        nothing,
        "Leave it out; the KV cache takes what gpu_memory_utilization leaves to it",
    ),
    "kv_offloading_size": Migration(
        "",
        "config/cache.py of 0.11.0",
        nothing,
        "Leave it out; connectors that move the KV cache are set by kv_transfer_config",
    ),
    "attention_backend": Migration(
        "",
        "envs.py and _Backend in platforms/interface.py of 0.10.2",
        old_attention_backend,
        "Leave it out, or name a backend of this release in env.VLLM_ATTENTION_BACKEND",
    ),
    "attention_config": Migration(
        "",
        "envs.py of 0.12.0",
        old_attention_backend,
        "Leave it out; env.VLLM_ATTENTION_BACKEND chooses the backend",
    ),
    "cudagraph_capture_sizes": Migration("", "config/compilation.py of 0.11.0", old_graph_sizes),
    "max_cudagraph_capture_size": Migration(
        "",
        "config/scheduler.py of 0.10.2",
        old_graph_limit,
        "Leave it out, or list the sizes as cudagraph_capture_sizes in compilation_config",
    ),
    "pooler_config": Migration("", "config/__init__.py of 0.10.2", old_pooler),
    "eplb_config": Migration("", "arg_utils.py of 0.10.1.1", old_eplb),
    "mm_processor_cache_gb": Migration("", "envs.py and config.py of 0.10.0", cache_gib),
    "mm_encoder_tp_mode": Migration(
        "",
        "config/parallel.py of 0.10.1.1",
        by_text({"data": [written(enable_multimodal_encoder_data_parallel=True)], "weights": [{}]}),
    ),
    "mm_encoder_only": Migration("", "config/model.py of 0.14.0", switch(on=[written(convert="mm_encoder_only")])),
    "enable_mamba_shared_prefix_checkpoint": Migration(
        "",
        "config/cache.py of 0.30.0",
        lambda case: [*same_as("enable_mamba_fine_grained_prefix_cache")(case), *switch()(case)],
    ),
    "exclude_tools_when_tool_choice_none": Migration(
        "",
        "entrypoints/openai/cli_args.py of 0.9.2 and of 0.10.0",
        old_exclude_tools,
        "Leave it out; 0.10.0 always has them in the prompt, and releases before 0.9.2 never",
    ),
    "enable_flash_late_interaction": Migration(
        "",
        "entrypoints/openai/cli_args.py of 0.17.1",
        lambda case: [*same_as("use_gpu_for_pooling_score")(case), *switch()(case)],
    ),
    "chat_template_content_format": Migration(
        "",
        "arg_utils.py of 0.6.4",
        lambda case: [{}] if case.value == "auto" else same_as("chat_template_text_format")(case),
    ),
    "cp_kv_cache_interleave_size": Migration(
        "", "config/parallel.py of 0.11.2", same_as("dcp_kv_cache_interleave_size")
    ),
    "all2all_backend": Migration("", "envs.py of 0.11.0", old_all2all),
    "logging_config": Migration("", "entrypoints/openai/cli_args.py of 0.30.0", old_logging_config),
    "log_level": Migration("", "envs.py of 0.30.0", old_log_level),
    "hf_overrides": Migration("", "arg_utils.py of 0.6.3.post1", old_rope),
    "override_generation_config": Migration(
        "", "arg_utils.py of 0.7.0", nothing, "Leave it out; each request has to bring its sampling parameters"
    ),
    "optimization_level": Migration(
        "",
        "config/vllm.py of 0.12.0",
        nothing,
        "Leave it out; compilation_config sets one by one what a level stands for",
    ),
}
