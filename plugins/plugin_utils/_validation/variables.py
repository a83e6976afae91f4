# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What does the job of a VLLM_* variable that a release has no more. Data; environment.py reads it.

Every variable that any release of the catalogue removed has an entry. The releases that had it are in the catalogue,
and are not said here. Where a comment names a file, the last release that had the variable is meant unless it says
another.
"""

from __future__ import annotations

import dataclasses
import typing as t

# What a text is turned into: the value of the successor; LEAVE_OUT where the text is what happens anyway; None where
# nobody but the user can say what it becomes.
Convert = t.Callable[[str], t.Any]
LEAVE_OUT = object()


def same(text: str) -> str | None:
    """The text itself."""
    return text.strip() or None


def lower(text: str) -> str | None:
    """The text in small letters; the variable took any case."""
    return text.strip().lower() or None


def number(text: str) -> int | None:
    """A whole number, as int() reads it."""
    try:
        return int(text)
    except ValueError:
        return None


def switch(text: str) -> bool | None:
    """true or false."""
    return {"1": True, "true": True, "0": False, "false": False}.get(text.strip().lower())


def names(text: str) -> list[str] | None:
    """Names with commas between them."""
    return [name for name in text.replace(" ", "").split(",") if name] or None


def each(**values: t.Any) -> Convert:
    """One value for each text that the variable takes; `on` and `off` are its 1 and 0."""
    known = {{"on": "1", "off": "0"}.get(name, name): value for name, value in values.items()}
    same_as = {"true": "1", "false": "0"}
    return lambda text: known.get(same_as.get(text.strip().lower(), text.strip().lower()))


def if_on(value: t.Any) -> Convert:
    """This value where the variable is on; where it is off, nothing changes without it."""
    return each(on=value, off=LEAVE_OUT)


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of the engine; path: the fields inside of it. until: the last release in which that is so."""

    name: str
    convert: Convert
    path: tuple[str, ...] = ()
    until: str | None = None


@dataclasses.dataclass(frozen=True)
class Variable:
    """Another variable."""

    name: str
    convert: Convert


@dataclasses.dataclass(frozen=True)
class Gone:
    """Nothing to write instead: why, or what to do.

    lossless: whether the variable can be left out without any loss; unless: the one value of which the opposite holds.
    """

    why: str
    lossless: bool = True
    unless: str | None = None


Successor = Option | Variable | Gone


def _attention_backend(text: str) -> str | None:
    # Two names of 0.10.2 and before; the others kept theirs (_Backend in platforms/interface.py of 0.10.2,
    # AttentionBackendEnum in attention/backends/registry.py of 0.11.1). Whether the release has it, its own list says.
    name = text.strip().upper().removesuffix("_VLLM_V1")
    return {"ROCM_FLASH": "ROCM_ATTN"}.get(name, name) or None


def _attention(field: str, convert: Convert, until: str | None = None) -> Option:
    return Option("attention_config", convert, (field,), until)


def _profiler(field: str, convert: Convert) -> Option:
    return Option("profiler_config", convert, (field,))


def _connector(key: str, convert: Convert) -> Option:
    return Option("kv_transfer_config", convert, ("kv_connector_extra_config", key))


_MLA_PREFILL = Gone("engine.attention_config.mla_prefill_backend selects the kernel", lossless=False)
_MOE_KERNEL = Gone(
    "engine.moe_backend selects the kernels, for example flashinfer_trtllm or flashinfer_cutlass", lossless=False
)
_MOE_CHUNKS = Gone("vLLM splits the experts' work by itself")
_RAY_ALWAYS = Gone("the Ray executor always works in this way")
_RAY_GRAPH = Gone("the Ray executor has no compiled graph any more")
_ENGINE_V0 = Gone("it was for the engine V0, which is no more")
_INTERNAL = Gone("it was for vLLM's own development")
_KERNEL = Gone("vLLM chooses the kernel by itself")
_OPENVINO = Gone("OpenVINO is no platform of vLLM any more")
_HPU = Gone("a plugin outside of vLLM serves Intel Gaudi, with variables of its own", lossless=False)
_TPU = Gone("the plugin tpu_inference serves TPUs, with variables of its own", lossless=False)
_ROCM = Gone("vLLM chooses the kernels for AMD devices by itself")

SUCCESSORS: t.Mapping[str, tuple[Successor, ...]] = {
    # ---- attention: config/attention.py of 0.14.1 took the variables into the option's fields
    "VLLM_ATTENTION_BACKEND": (Option("attention_backend", _attention_backend),),
    "VLLM_FLASH_ATTN_VERSION": (_attention("flash_attn_version", number),),
    "VLLM_FLASH_ATTN_MAX_NUM_SPLITS_FOR_CUDA_GRAPH": (_attention("flash_attn_max_num_splits_for_cuda_graph", number),),
    "VLLM_FLASHINFER_DISABLE_Q_QUANTIZATION": (_attention("disable_flashinfer_q_quantization", switch),),
    "VLLM_USE_TRTLLM_ATTENTION": (_attention("use_trtllm_attention", switch),),
    "VLLM_USE_TRTLLM_DECODE_ATTENTION": (
        Variable("VLLM_USE_TRTLLM_ATTENTION", same),
        _attention("use_trtllm_attention", switch),
    ),
    # mla_prefill_backend stands for these three from 0.21.0 on (config/attention.py); 0.22.0 has it alone.
    "VLLM_USE_CUDNN_PREFILL": (_attention("use_cudnn_prefill", switch, "0.21.0"), _MLA_PREFILL),
    "VLLM_USE_TRTLLM_RAGGED_DEEPSEEK_PREFILL": (
        _attention("use_trtllm_ragged_deepseek_prefill", switch, "0.21.0"),
        Option("attention_config", if_on("TRTLLM_RAGGED"), ("mla_prefill_backend",)),
    ),
    "VLLM_DISABLE_FLASHINFER_PREFILL": (_attention("disable_flashinfer_prefill", switch, "0.21.0"), _MLA_PREFILL),
    "VLLM_V1_USE_PREFILL_DECODE_ATTENTION": (
        _attention("use_prefill_decode_attention", switch, "0.28.0"),
        Gone("engine.attention_backend selects the kernels", lossless=False),
    ),
    "VLLM_USE_AITER_UNIFIED_ATTENTION": (Variable("VLLM_ROCM_USE_AITER_UNIFIED_ATTENTION", same),),
    "VLLM_USE_TRITON_FLASH_ATTN": (_ENGINE_V0,),
    "VLLM_FLASHINFER_FORCE_TENSOR_CORES": (_KERNEL,),
    "VLLM_CUDA_MEM_ALIGN_KV_CACHE": (Gone("the entries of the cache are always aligned"),),
    "VLLM_MLA_DISABLE_REQUANTIZATION": (_KERNEL,),
    "VLLM_MLA_PERFORM_MATRIX_ABSORPTION": (_KERNEL,),
    # envs.py said "renamed"
    "VLLM_TRITON_ATTN_USE_TD": (Variable("VLLM_TRITON_USE_TD", same),),
    # ---- kernels of experts and linear layers: the deprecations in envs.py of 0.23.0
    "VLLM_FLASHINFER_MOE_BACKEND": (
        # get_flashinfer_moe_backend in layers/quantization/utils/flashinfer_utils.py
        Option(
            "moe_backend",
            each(
                throughput="flashinfer_cutlass",
                latency="flashinfer_trtllm",
                masked_gemm="flashinfer_cutedsl",
            ),
        ),
    ),
    "VLLM_USE_FLASHINFER_MOE_FP16": (_MOE_KERNEL,),
    "VLLM_USE_FLASHINFER_MOE_FP8": (_MOE_KERNEL,),
    "VLLM_USE_FLASHINFER_MOE_FP4": (_MOE_KERNEL,),
    "VLLM_USE_FLASHINFER_MOE_MXFP4_BF16": (_MOE_KERNEL,),
    "VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8": (
        Gone(
            "engine.moe_backend: flashinfer_trtllm with engine.quantization_config: {moe: {activation: mxfp8}} does it",
            lossless=False,
        ),
    ),
    "VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8_CUTLASS": (
        Gone(
            "engine.moe_backend: flashinfer_cutlass with engine.quantization_config: {moe: {activation: mxfp8}} "
            "does it",
            lossless=False,
        ),
    ),
    # select_mxfp4_moe_backend in layers/fused_moe/oracle/mxfp4.py heeds it only where it is on.
    "VLLM_MXFP4_USE_MARLIN": (
        Option("moe_backend", if_on("marlin")),
        Gone("no release from 0.10.2 to 0.11.0 has a switch for it", lossless=False),
    ),
    # _NVFP4_BACKEND_TO_KERNEL in kernels/linear/__init__.py
    "VLLM_NVFP4_GEMM_BACKEND": (Option("linear_backend", lambda text: text.strip().lower().replace("-", "_") or None),),
    "VLLM_USE_TRTLLM_FP4_GEMM": (
        Variable("VLLM_NVFP4_GEMM_BACKEND", if_on("flashinfer-trtllm")),
        Option("linear_backend", if_on("flashinfer_trtllm")),
    ),
    "VLLM_USE_FBGEMM": (Option("linear_backend", if_on("fbgemm")),),
    "VLLM_USE_NVFP4_CT_EMULATIONS": (Option("linear_backend", if_on("emulation")),),
    "VLLM_TEST_FORCE_FP8_MARLIN": (
        Gone(
            "engine.linear_backend: marlin does it, and engine.moe_backend: marlin for a mixture of experts",
            lossless=False,
        ),
    ),
    "VLLM_USE_DEEP_GEMM_E8M0_HOPPER": (Variable("VLLM_USE_DEEP_GEMM_E8M0", same),),
    "VLLM_SKIP_DEEP_GEMM_WARMUP": (Variable("VLLM_DEEP_GEMM_WARMUP", if_on("skip")),),
    "VLLM_ENABLE_FUSED_MOE_ACTIVATION_CHUNKING": (_MOE_CHUNKS,),
    "VLLM_FUSED_MOE_CHUNK_SIZE": (_MOE_CHUNKS,),
    "VLLM_ENABLE_MOE_DP_CHUNK": (_MOE_CHUNKS,),
    "VLLM_MOE_DP_CHUNK_SIZE": (_MOE_CHUNKS,),
    "VLLM_ENABLE_MOE_ALIGN_BLOCK_SIZE_TRITON": (_KERNEL,),
    "VLLM_QUARK_EMU_MEM_OPT": (_KERNEL,),
    # models/kimi_k3/nvidia/model.py of 0.31.0
    "VLLM_KIMI_K3_GEMM_RS": (Variable("VLLM_ENABLE_GEMM_RS", same),),
    # ---- several GPUs
    "VLLM_ALL2ALL_BACKEND": (Option("all2all_backend", same),),
    "VLLM_DISABLE_NCCL_FOR_DP_SYNCHRONIZATION": (Option("disable_nccl_for_dp_synchronization", switch),),
    "VLLM_NIXL_EP_MAX_NUM_RANKS": (Gone("the size of the group is used"),),
    "VLLM_FLASHINFER_ALLREDUCE_FUSION_THRESHOLDS_MB": (
        Gone(
            "engine.compilation_config: {pass_config: {fi_allreduce_fusion_max_size_mb: N}} is the limit now, one "
            "number for the server's own number of GPUs",
            lossless=False,
        ),
    ),
    # ---- Ray
    "VLLM_ALLOW_ENGINE_USE_RAY": (Gone("engine.distributed_executor_backend: ray puts the workers under Ray"),),
    "VLLM_USE_RAY_SPMD_WORKER": (_RAY_ALWAYS,),
    "VLLM_USE_RAY_COMPILED_DAG": (_RAY_ALWAYS,),
    "VLLM_USE_RAY_COMPILED_DAG_NCCL_CHANNEL": (
        Variable("VLLM_USE_RAY_COMPILED_DAG_CHANNEL_TYPE", each(on="nccl", off="auto")),
        _RAY_GRAPH,
    ),
    "VLLM_USE_RAY_COMPILED_DAG_CHANNEL_TYPE": (_RAY_GRAPH,),
    "VLLM_USE_RAY_COMPILED_DAG_OVERLAP_COMM": (_RAY_GRAPH,),
    "VLLM_USE_RAY_WRAPPED_PP_COMM": (_RAY_GRAPH,),
    "VLLM_USE_RAY_V2_EXECUTOR_BACKEND": (Gone("there is one Ray executor, the second one"),),
    # ---- times
    "VLLM_ENGINE_ITERATION_TIMEOUT_S": (
        Gone(
            "it never limited a request, only a step of the engine V0, and no release has a time limit for requests: "
            "a gateway in front of the servers sets one. engine.max_num_queued_reqs (0.29.0 and later) limits the "
            "queue, VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS (0.9.2 and later) one step"
        ),
    ),
    "VLLM_RPC_TIMEOUT": (_ENGINE_V0,),
    "VLLM_RPC_GET_DATA_TIMEOUT_MS": (Variable("VLLM_RPC_TIMEOUT", same), _ENGINE_V0),
    "VLLM_NIXL_ABORT_REQUEST_TIMEOUT": (
        # v1/nixl/scheduler.py of 0.22.0: a lease that the other side renews
        Gone(
            "engine.kv_transfer_config: {kv_connector_extra_config: {kv_lease_duration: SECONDS}} is the time without "
            "a sign of life after which the blocks are freed",
            lossless=False,
        ),
    ),
    "VLLM_SLEEP_WHEN_IDLE": (Gone("idle processes always sleep"),),
    # ---- profiler: config/profiler.py of 0.15.1
    "VLLM_TORCH_CUDA_PROFILE": (_profiler("profiler", if_on("cuda")),),
    "VLLM_TORCH_PROFILER_DIR": (
        Option("profiler_config", lambda text: {"profiler": "torch", "torch_profiler_dir": text} if text else None),
    ),
    "VLLM_TORCH_PROFILER_RECORD_SHAPES": (_profiler("torch_profiler_record_shapes", switch),),
    "VLLM_TORCH_PROFILER_WITH_PROFILE_MEMORY": (_profiler("torch_profiler_with_memory", switch),),
    "VLLM_TORCH_PROFILER_WITH_STACK": (_profiler("torch_profiler_with_stack", switch),),
    "VLLM_TORCH_PROFILER_WITH_FLOPS": (_profiler("torch_profiler_with_flops", switch),),
    "VLLM_TORCH_PROFILER_DISABLE_ASYNC_LLM": (_profiler("ignore_frontend", switch),),
    "VLLM_TORCH_PROFILER_USE_GZIP": (_profiler("torch_profiler_use_gzip", switch),),
    "VLLM_TORCH_PROFILER_DUMP_CUDA_TIME_TOTAL": (_profiler("torch_profiler_dump_cuda_time_total", switch),),
    "VLLM_PROFILER_DELAY_ITERS": (_profiler("delay_iterations", number),),
    "VLLM_PROFILER_MAX_ITERS": (_profiler("max_iterations", number),),
    # ---- caches and transfers
    # config/multimodal.py, config/cache.py, engine/arg_utils.py
    "VLLM_MM_HASHER_ALGORITHM": (Option("mm_hasher_algorithm", lower),),
    "VLLM_PREFIX_CACHE_RETENTION_INTERVAL": (Option("prefix_cache_retention_interval", number),),
    "VLLM_MM_INPUT_CACHE_GIB": (Option("mm_processor_cache_gb", number),),
    "VLLM_MM_INPUT_CACHE_SIZE": (
        # It counted items, its successors gibibytes.
        Variable("VLLM_MM_INPUT_CACHE_GIB", lambda text: None),
        Option("mm_processor_cache_gb", lambda text: None),
    ),
    # _DEPRECATED_ENV_VARS in kv_connector/v1/moriio/moriio_common.py of 0.23.0
    "VLLM_MORIIO_CONNECTOR_READ_MODE": (_connector("read_mode", switch),),
    "VLLM_MORIIO_QP_PER_TRANSFER": (_connector("qp_per_transfer", number),),
    "VLLM_MORIIO_POST_BATCH_SIZE": (_connector("post_batch_size", number),),
    "VLLM_MORIIO_NUM_WORKERS": (_connector("num_workers", number),),
    "VLLM_PLE_CPU_OFFLOAD": (Option("engram_config", switch, ("cpu_offload",)),),
    # ---- compilation
    "VLLM_CUSTOM_OPS": (Option("compilation_config", names, ("custom_ops",)),),
    "VLLM_TORCH_COMPILE_LEVEL": (Gone("engine.compilation_config holds the level", lossless=False),),
    "VLLM_TORCH_COMPILE_CONFIG": (Gone("engine.compilation_config takes what stood in the file", lossless=False),),
    "VLLM_TEST_STANDALONE_COMPILE": (Variable("VLLM_USE_STANDALONE_COMPILE", same),),
    "VLLM_TEST_COMPILE_NO_CUSTOM_OPS": (_INTERNAL,),
    "VLLM_TEST_DYNAMO_FULLGRAPH_CAPTURE": (_INTERNAL,),
    "VLLM_TEST_DYNAMO_GRAPH_CAPTURE": (_INTERNAL,),
    "VLLM_DYNAMO_USE_CUSTOM_DISPATCHER": (_INTERNAL,),
    "VLLM_DISABLE_PAD_FOR_CUDAGRAPH": (Gone("the fault that it went around is mended"),),
    # ---- platforms
    "VLLM_CPU_MOE_PREPACK": (_KERNEL,),
    "VLLM_CPU_SGL_KERNEL": (_KERNEL,),
    "VLLM_OPENVINO_CPU_KV_CACHE_PRECISION": (_OPENVINO,),
    "VLLM_OPENVINO_DEVICE": (_OPENVINO,),
    "VLLM_OPENVINO_ENABLE_QUANTIZED_WEIGHTS": (_OPENVINO,),
    "VLLM_OPENVINO_KVCACHE_SPACE": (_OPENVINO,),
    "VLLM_HPU_USE_DELAYED_SAMPLING": (_HPU,),
    "VLLM_USE_HPU_CONTIGUOUS_CACHE_FETCH": (_HPU,),
    "VLLM_TPU_BUCKET_PADDING_GAP": (_TPU,),
    "VLLM_TPU_DISABLE_TOPK_TOPP_OPTIMIZATION": (_KERNEL,),
    "VLLM_TPU_MOST_MODEL_LEN": (_TPU,),
    "VLLM_XPU_ENABLE_XPU_GRAPH": (
        # platforms/xpu.py of 0.31.0
        Gone(
            "graphs are on wherever they can be; engine.enforce_eager: true is without them",
            lossless=False,
            unless="1",
        ),
    ),
    "VLLM_ROCM_USE_AITER_FP8_BLOCK_SCALED_MOE": (Variable("VLLM_ROCM_USE_AITER_MOE", same),),
    "VLLM_ROCM_USE_TRITON_ROPE": (Variable("VLLM_ROCM_USE_AITER_TRITON_ROPE", same),),
    "VLLM_ROCM_CUSTOM_PAGED_ATTN": (_ROCM,),
    "VLLM_ROCM_USE_AITER_PAGED_ATTN": (_ROCM,),
    "VLLM_ROCM_USE_AITER_FP4_ASM_GEMM": (_ROCM,),
    "VLLM_ROCM_USE_AITER_MOE_SITUV2_A8W4": (_ROCM,),
    "VLLM_ROCM_AITER_MEGA_MOE_FUSE_SHARED_EXPERTS": (_ROCM,),
    "VLLM_ROCM_AITER_MLA_DCP_VERIFY": (_ROCM,),
    "VLLM_ROCM_MONO_DECODE": (_ROCM,),
    # ---- others
    "VLLM_USE_V1": (Gone("the engine V1 is the only one, V0 is no more", lossless=False, unless="1"),),
    "VLLM_V0_USE_OUTLINES_CACHE": (Variable("VLLM_V1_USE_OUTLINES_CACHE", same),),
    "VLLM_GPT_OSS_USE_CONTAINER_TOOL": (
        # envs.py of 0.11.0, which wrote it without VLLM_, and of 0.33.0
        Variable("VLLM_GPT_OSS_SYSTEM_TOOL_MCP_LABELS", if_on("container")),
        Variable("GPT_OSS_SYSTEM_TOOL_MCP_LABELS", if_on("container")),
    ),
    "VLLM_FLAT_LOGPROBS": (Gone("flat_logprobs is a parameter of a request to the Python library"),),
    "VLLM_LOGITS_PROCESSOR_THREADS": (_ENGINE_V0,),
    "VLLM_NO_DEPRECATION_WARNING": (Gone("vLLM always says what is deprecated"),),
    "VLLM_INSTANCE_ID": (_INTERNAL,),
    "VLLM_CI_USE_S3": (_INTERNAL,),
    "VLLM_TEST_USE_PRECOMPILED_NIGHTLY_WHEEL": (Gone("it was for building vLLM"),),
    "VLLM_ALLOW_DEPRECATED_BEAM_SEARCH": (Gone("use_beam_search is a parameter of a request"),),
    "VLLM_ALLOW_DEPRECATED_BLOCK_MANAGER_V1": (Gone("there is one block manager"),),
}

# Variables that switch on what earlier releases always do, and how.
ALWAYS_BEFORE: t.Mapping[str, str] = {
    # docker/Dockerfile of 0.14.1 (ldconfig) and 0.16.0 (/etc/ld.so.conf.d)
    "VLLM_ENABLE_CUDA_COMPATIBILITY": "the images before it always take CUDA's compatibility libraries",
}
