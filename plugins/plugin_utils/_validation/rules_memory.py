# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What options of the KV cache, of offloading and of loading weights demand of each other. Pure."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules import (
    LEAVE_OUT,
    Rule,
    below,
)

_CONNECTOR = "kv_transfer_config.kv_connector"


MEMORY = (
    # -- memory: CacheConfig.kv_cache_memory_bytes in config/cache.py; determine_available_memory in
    #    v1/worker/gpu_worker.py
    Rule(
        "kv_cache_memory_bytes",
        "0.10.2",
        None,
        lambda engine: engine.has("gpu_memory_utilization"),
        "fixes the size of the KV cache, so that engine.gpu_memory_utilization does not decide about it",
        "Leave one of the two out",
        warning=True,
    ),
    # _post_init_kv_transfer_config in config/vllm.py
    Rule(
        "kv_offloading_backend",
        "0.11.1",
        "0.13.0",
        lambda engine: not engine.has("kv_offloading_size"),
        "needs engine.kv_offloading_size",
        "Add it in GiB",
    ),
    Rule(
        "kv_offloading_backend",
        "0.14.0",
        None,
        lambda engine: not engine.has("kv_offloading_size"),
        "has no effect without engine.kv_offloading_size",
        "Add it in GiB, or leave this out",
        warning=True,
        remedy=LEAVE_OUT,
    ),
    Rule(
        "kv_offloading_size",
        "0.11.1",
        "0.13.0",
        lambda engine: not engine.has("kv_offloading_backend"),
        "has no effect without engine.kv_offloading_backend before 0.14.0",
        "Add engine.kv_offloading_backend: native",
        warning=True,
    ),
    Rule(
        "kv_offloading_size",
        "0.14.0",
        None,
        lambda engine: engine.mapping("kv_transfer_config").get("kv_connector") is not None,
        f"replaces {_CONNECTOR} by a connector of its own",
        f"Leave it out, or leave engine.{_CONNECTOR} out",
        warning=True,
    ),
    # OffloadConfig.validate_offload_config in config/offload.py of 0.33.0
    Rule(
        "offload_num_in_group",
        "0.17.0",
        None,
        lambda engine: (
            (engine.text("offload_backend") == "prefetch" or (engine.number("offload_group_size") or 0) > 0)
            and below(engine, "offload_group_size", "offload_num_in_group")
        ),
        "is more than engine.offload_group_size, which is {offload_group_size}",
        "Write {offload_group_size} or less",
    ),
    Rule(
        "offload_backend",
        "0.17.0",
        None,
        lambda engine: (
            engine.text("offload_backend") == "prefetch"
            and not engine.has("offload_num_in_group")
            and below(engine, "offload_group_size", "offload_num_in_group")
        ),
        "needs engine.offload_group_size",
        "Add it, the number of layers of a group, of which one is kept in the host's memory",
    ),
    Rule(
        "offload_prefetch_step",
        "0.17.0",
        None,
        lambda engine: (
            (engine.text("offload_backend") == "prefetch" or (engine.number("offload_group_size") or 0) > 0)
            and engine.number("offload_prefetch_step") == 0
        ),
        "must be 1 or more when layers are prefetched",
        "Write 1",
    ),
    # validate_mamba_block_size in config/vllm.py; VllmConfig.__post_init__ of 0.20.0
    Rule(
        "mamba_block_size",
        "0.11.1",
        None,
        lambda engine: (
            engine.off("enable_prefix_caching") and engine.number("mamba_block_size") != engine.number("max_model_len")
        ),
        "needs engine.enable_prefix_caching",
        "Leave engine.enable_prefix_caching out, or this",
    ),
    Rule(
        "enable_mamba_cache_stochastic_rounding",
        "0.20.0",
        None,
        lambda engine: (
            engine.on("enable_mamba_cache_stochastic_rounding") and engine.text("mamba_ssm_cache_dtype") != "float16"
        ),
        "needs engine.mamba_ssm_cache_dtype: float16",
        "Add it, or leave this out",
    ),
    # -- weights: LoadConfig.load_format in config/load.py; pickles run code, which is why vLLM prefers safetensors
    Rule(
        "load_format",
        "0.6.0",
        None,
        lambda engine: engine.text("load_format") in ("pt", "npcache"),
        "reads weights that are pickles, which can run any code",
        "Write auto or safetensors, and bring safetensors",
        warning=True,
    ),
    Rule(
        "load_format",
        "0.6.0",
        None,
        lambda engine: engine.text("load_format") == "dummy",
        "makes up random weights; the answers mean nothing",
        "Write auto, unless this is a test of speed",
        warning=True,
    ),
    # EngineArgs.create_load_config and create_engine_config of 0.6.0 to 0.8.1
    Rule(
        "load_format",
        "0.6.0",
        "0.8.1",
        lambda engine: engine.text("load_format") == "bitsandbytes" and engine.text("quantization") != "bitsandbytes",
        "needs engine.quantization: bitsandbytes",
        "Add it",
    ),
    Rule(
        "quantization",
        "0.6.0",
        "0.8.1",
        lambda engine: engine.text("quantization") == "bitsandbytes" and engine.text("load_format") != "bitsandbytes",
        "needs engine.load_format: bitsandbytes before 0.8.2",
        "Add it",
    ),
    Rule(
        "qlora_adapter_name_or_path",
        "0.6.0",
        "0.8.5.post1",
        lambda engine: engine.text("quantization") != "bitsandbytes",
        "needs engine.quantization: bitsandbytes",
        "Add it",
    ),
)
