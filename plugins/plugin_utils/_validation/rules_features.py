# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What options of adapters, CUDA graphs, speculation and others demand of each other. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import whole
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules import (
    EITHER,
    LEAVE_OUT,
    Rule,
    below,
    both_on,
    more_than_one,
    set_twice,
    without,
)

_NO_EFFECT_WITHOUT_LORA = "has no effect, because engine.enable_lora is not on"
_ADD_LORA = "Add engine.enable_lora: true, or leave it out"
_OLD_RANKS = (8, 16, 32, 64, 128, 256)
_RANKS = (*_OLD_RANKS, 320, 512)


def _too_few_tokens_for_drafts(engine: Engine) -> bool:
    tokens, requests = engine.number("max_num_batched_tokens"), engine.number("max_num_seqs")
    drafts = engine.draft_tokens
    if not engine.on("enable_lora") or tokens is None or requests is None or drafts is None:
        return False
    return tokens < requests * (drafts + 1)


def _largest_graph_differs(engine: Engine) -> bool:
    """vLLM compares with the largest size that it keeps, which always is one of those listed."""
    config = engine.mapping("compilation_config")
    sizes = engine.items("cudagraph_capture_sizes") or config.get("cudagraph_capture_sizes")
    largest = engine.number("max_cudagraph_capture_size")
    numbers = [whole(size) for size in sizes] if isinstance(sizes, list) else []
    if not numbers or None in numbers or largest is None or engine.on("enforce_eager"):
        return False
    return largest not in numbers


def _not_one_of(name: str, numbers: Sequence[int]) -> Callable[[Engine], bool]:
    return lambda engine: engine.on("enable_lora") and (size := engine.number(name)) is not None and size not in numbers


FEATURES = (
    # -- adapters: LoRAConfig in config/lora.py (config.py before 0.10.1) exists only when enable_lora is on
    #    (create_engine_config); init_static_loras in entrypoints/openai/serving_models.py raises for adapters
    *(
        Rule(name, "0.6.0", None, without("enable_lora"), _NO_EFFECT_WITHOUT_LORA, _ADD_LORA, True, LEAVE_OUT)
        for name in (
            "max_lora_rank",
            "max_loras",
            "max_cpu_loras",
            "lora_dtype",
            "lora_extra_vocab_size",
            "fully_sharded_loras",
            "enable_lora_bias",
            "long_lora_scaling_factors",
            "lora_target_modules",
            "specialize_active_lora",
        )
    ),
    *(
        Rule(name, "0.6.0", None, without("enable_lora"), "needs engine.enable_lora", "Add engine.enable_lora: true")
        for name in ("lora_modules", "default_mm_loras")
    ),
    Rule(
        "max_lora_rank",
        "0.6.0",
        "0.7.3",
        _not_one_of("max_lora_rank", _OLD_RANKS),
        f"is none of {', '.join(map(str, _OLD_RANKS))}",
        "Write the smallest of these that is not below the adapters'",
    ),
    Rule(
        "max_lora_rank",
        "0.8.0",
        "0.11.0",
        _not_one_of("max_lora_rank", _RANKS),
        f"is none of {', '.join(map(str, _RANKS))}",
        "Write the smallest of these that is not below the adapters'",
    ),
    Rule(
        "lora_extra_vocab_size",
        "0.6.0",
        "0.7.3",
        _not_one_of("lora_extra_vocab_size", (0, 256, 512)),
        "is none of 0, 256 and 512",
        "Write one of these",
    ),
    Rule(
        "lora_extra_vocab_size",
        "0.8.0",
        "0.11.0",
        _not_one_of("lora_extra_vocab_size", (256, 512)),
        "is neither 256 nor 512",
        "Write one of these",
    ),
    Rule(
        "max_loras",
        "0.6.0",
        None,
        lambda engine: engine.on("enable_lora") and (size := engine.number("max_loras")) is not None and size < 1,
        "must be at least 1",
        "Write the number of adapters of one batch",
    ),
    Rule(
        "max_cpu_loras",
        "0.6.0",
        None,
        lambda engine: (
            engine.on("enable_lora")
            and (engine.number("max_cpu_loras") or 0) > 0
            and below(engine, "max_cpu_loras", "max_loras")
        ),
        "is less than engine.max_loras, which is {max_loras}",
        "Write {max_loras} or more",
    ),
    Rule(
        "enable_lora",
        "0.6.0",
        "0.6.4.post1",
        both_on("enable_lora", "enable_chunked_prefill"),
        "is not supported with engine.enable_chunked_prefill before 0.6.5",
        EITHER,
    ),
    Rule(
        "enable_lora",
        "0.7.0",
        "0.8.2",
        lambda engine: engine.on("enable_lora") and (engine.real("cpu_offload_gb") or 0) > 0,
        "is not supported with engine.cpu_offload_gb before 0.8.3",
        EITHER,
    ),
    Rule(
        "enable_lora",
        "0.11.1",
        None,
        lambda engine: engine.speculates and _too_few_tokens_for_drafts(engine),
        "with speculative decoding needs engine.max_num_batched_tokens of max_num_seqs * (draft tokens + 1)",
        "Increase engine.max_num_batched_tokens, or lower engine.max_num_seqs",
    ),
    # -- CUDA graphs and kernels: create_engine_config in engine/arg_utils.py, _set_cudagraph_sizes in config/vllm.py
    Rule(
        "cuda_graph_sizes",
        "0.11.1",
        "0.12.0",
        set_twice("cuda_graph_sizes", "compilation_config", "cudagraph_capture_sizes"),
        "is also set as compilation_config.cudagraph_capture_sizes",
        EITHER,
    ),
    Rule(
        "cudagraph_capture_sizes",
        "0.11.1",
        None,
        set_twice("cudagraph_capture_sizes", "compilation_config", "cudagraph_capture_sizes"),
        "is also set in engine.compilation_config",
        EITHER,
    ),
    Rule(
        "max_cudagraph_capture_size",
        "0.11.1",
        None,
        set_twice("max_cudagraph_capture_size", "compilation_config", "max_cudagraph_capture_size"),
        "is also set in engine.compilation_config",
        EITHER,
    ),
    Rule(
        "max_cudagraph_capture_size",
        "0.11.1",
        None,
        _largest_graph_differs,
        "is none of the sizes of cudagraph_capture_sizes",
        "Leave it out; the largest size of the list is taken",
        remedy=LEAVE_OUT,
    ),
    *(
        Rule(
            name,
            since,
            until,
            lambda engine: engine.on("enforce_eager"),
            "has no effect, because engine.enforce_eager is on",
            "Leave one of the two out",
            warning=True,
            remedy=LEAVE_OUT,
        )
        for name, since, until in (
            ("cuda_graph_sizes", "0.9.0", "0.12.0"),
            ("cudagraph_capture_sizes", "0.11.1", None),
            ("max_cudagraph_capture_size", "0.11.1", None),
            ("max_seq_len_to_capture", "0.6.0", "0.10.2"),
        )
    ),
    Rule(
        "attention_backend",
        "0.13.0",
        None,
        set_twice("attention_backend", "attention_config", "backend"),
        "is also set as attention_config.backend",
        EITHER,
    ),
    Rule(
        "enable_flashinfer_autotune",
        "0.16.0",
        None,
        set_twice("enable_flashinfer_autotune", "kernel_config", "enable_flashinfer_autotune"),
        "is also set in engine.kernel_config",
        EITHER,
    ),
    # -- speculative decoding: create_speculative_config in engine/arg_utils.py of 0.22.0
    *(
        Rule(
            name,
            "0.22.0",
            None,
            set_twice(name, "speculative_config", key),
            f"is also set as speculative_config.{key}",
            EITHER,
        )
        for name, key in (
            ("spec_method", "method"),
            ("spec_model", "model"),
            ("spec_tokens", "num_speculative_tokens"),
        )
    ),
    # SpeculativeConfig.__post_init__ in config/speculative.py
    Rule(
        "spec_tokens",
        "0.22.0",
        None,
        lambda engine: not any(map(engine.has, ("speculative_config", "spec_method", "spec_model"))),
        "needs engine.spec_method or engine.spec_model",
        "Add engine.spec_method: ngram, or the draft model, or leave it out",
    ),
    Rule(
        "spec_method",
        "0.22.0",
        None,
        lambda engine: (
            engine.text("spec_method") != "suffix"
            and not any(map(engine.has, ("speculative_config", "spec_model", "spec_tokens")))
        ),
        "needs engine.spec_tokens",
        "Add it; 3 to 5 are common",
    ),
    # VllmConfig.__post_init__ in config/vllm.py
    Rule(
        "per_request_spec_decode_metrics",
        "0.29.0",
        None,
        lambda engine: engine.text("per_request_spec_decode_metrics") != "none" and not engine.speculates,
        "needs speculative decoding",
        "Add engine.speculative_config, or leave it out",
    ),
    Rule(
        "kv_sharing_fast_prefill",
        "0.10.2",
        None,
        lambda engine: (
            engine.on("kv_sharing_fast_prefill")
            and (engine.speculative_method in ("eagle", "eagle3") or str(engine.speculative_method).endswith("mtp"))
        ),
        "is not supported with speculative decoding by EAGLE or MTP",
        EITHER,
    ),
    # SpeculativeConfig.maybe_create_spec_config in config.py of 0.6.0 to 0.8.1, when each setting was an option
    Rule(
        "speculative_model",
        "0.6.0",
        "0.6.3.post1",
        lambda engine: engine.on("enable_chunked_prefill"),
        "is not supported with engine.enable_chunked_prefill before 0.6.4",
        EITHER,
    ),
    Rule(
        "speculative_model",
        "0.6.0",
        "0.6.2",
        lambda engine: not engine.on("use_v2_block_manager"),
        "needs engine.use_v2_block_manager before 0.6.3",
        "Add engine.use_v2_block_manager: true",
    ),
    Rule(
        "speculative_model",
        "0.6.0",
        "0.8.1",
        lambda engine: engine.text("speculative_model") == "[ngram]" and not engine.has("ngram_prompt_lookup_max"),
        "needs engine.ngram_prompt_lookup_max",
        "Add it; 4 is common",
    ),
    Rule(
        "speculative_model",
        "0.6.0",
        "0.8.1",
        lambda engine: engine.text("speculative_model") == "[ngram]" and not engine.has("num_speculative_tokens"),
        "needs engine.num_speculative_tokens",
        "Add it",
    ),
    Rule(
        "ngram_prompt_lookup_min",
        "0.6.0",
        "0.8.1",
        lambda engine: (
            engine.text("speculative_model") == "[ngram]"
            and below(engine, "ngram_prompt_lookup_max", "ngram_prompt_lookup_min")
        ),
        "is more than engine.ngram_prompt_lookup_max, which is {ngram_prompt_lookup_max}",
        "Write {ngram_prompt_lookup_max} or less",
    ),
    Rule(
        "num_speculative_tokens",
        "0.6.0",
        "0.7.2",
        lambda engine: not engine.has("speculative_model"),
        "needs engine.speculative_model",
        "Add it, or leave this out",
    ),
    Rule(
        "speculative_draft_tensor_parallel_size",
        "0.6.4",
        "0.8.1",
        lambda engine: (
            engine.has("speculative_model")
            and engine.number("speculative_draft_tensor_parallel_size") not in (None, 1)
            and engine.number("speculative_draft_tensor_parallel_size") != engine.number("tensor_parallel_size")
        ),
        "is neither 1 nor engine.tensor_parallel_size, which is {tensor_parallel_size}",
        "Write one of these",
    ),
    Rule(
        "speculative_disable_by_batch_size",
        "0.6.0",
        "0.8.1",
        lambda engine: (
            engine.has("speculative_model")
            and (size := engine.number("speculative_disable_by_batch_size")) is not None
            and size < 2
        ),
        "must be 2 or more",
        "Write such a number",
    ),
    # OptimizationLevel in config/vllm.py
    Rule(
        "optimization_level",
        "0.12.0",
        None,
        lambda engine: engine.number("optimization_level") not in (0, 1, 2, 3),
        "must be 0, 1, 2 or 3",
        "Write one of these",
    ),
    # -- others: make_arg_parser's validation of 0.9.0; MultiModalConfig in config/multimodal.py; VllmConfig of 0.22.0
    Rule(
        "enable_prompt_embeds",
        "0.9.0",
        "0.9.2",
        both_on("enable_prompt_embeds", "enable_prompt_adapter"),
        "cannot be on together with engine.enable_prompt_adapter",
        EITHER,
    ),
    Rule(
        "mm_shm_cache_max_object_size_mb",
        "0.11.1",
        None,
        lambda engine: (
            engine.number("mm_shm_cache_max_object_size_mb") not in (None, 128)
            and engine.text("mm_processor_cache_type") != "shm"
        ),
        "needs engine.mm_processor_cache_type: shm",
        "Add it, or leave this out",
    ),
    Rule(
        "enable_return_routed_experts",
        "0.22.0",
        None,
        lambda engine: engine.on("enable_return_routed_experts") and more_than_one(engine, "pipeline_parallel_size"),
        "is not supported with engine.pipeline_parallel_size",
        EITHER,
    ),
    Rule(
        "enable_return_routed_experts",
        "0.28.0",
        None,
        lambda engine: (
            engine.on("enable_return_routed_experts")
            and (
                more_than_one(engine, "decode_context_parallel_size")
                or more_than_one(engine, "prefill_context_parallel_size")
            )
        ),
        "is not supported with context parallelism",
        EITHER,
    ),
)
