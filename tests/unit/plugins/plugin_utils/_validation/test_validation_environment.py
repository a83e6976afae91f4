# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment variables of a spec, by release: read, harmful, gone with what does the job, or never there."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import check_value
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.environment import check_environment
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.variables import SUCCESSORS, Gone, Option
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import spec

NEWEST = catalogue.releases()[-1]
NO_REMEDY = "no remedy"


def found(version: str, env: dict[str, str], **changes: t.Any) -> list[Problem]:
    """The problems of these variables with this release."""
    return check_environment(ModelSpec.model_validate(spec(**{"engine": {}, **changes}, env=env)), load(version))


def outcome(version: str, name: str, value: str, **changes: t.Any) -> str:
    """fine, warning or error."""
    problems = found(version, {name: value}, **changes)
    assert len(problems) <= 1
    return "fine" if not problems else "warning" if problems[0].warning else "error"


def remedy(version: str, name: str, value: str, **changes: t.Any) -> t.Any:
    """What is written instead of the variable, which must be refused."""
    (problem,) = found(version, {name: value}, **changes)
    assert not problem.warning
    return NO_REMEDY if problem.remedy is None else dict(problem.remedy)


# ---- what upstream.md (3, 4) and field.md (3.4, W1 to W36) of the study name: release, variable, value, outcome
NAMED = [
    ("0.6.6", "VLLM_USE_V1", "1", "fine"),
    ("0.10.2", "VLLM_USE_V1", "0", "fine"),
    ("0.11.0", "VLLM_USE_V1", "1", "fine"),
    ("0.11.0", "VLLM_USE_V1", "0", "error"),
    ("0.11.1", "VLLM_USE_V1", "0", "error"),
    ("0.33.0", "VLLM_USE_V1", "1", "error"),
    ("0.12.0", "VLLM_ATTENTION_BACKEND", "FLASHINFER", "fine"),
    ("0.13.0", "VLLM_ATTENTION_BACKEND", "FLASHINFER", "warning"),
    ("0.14.1", "VLLM_ATTENTION_BACKEND", "FLASHINFER", "warning"),
    ("0.15.0", "VLLM_ATTENTION_BACKEND", "FLASHINFER", "error"),
    ("0.10.2", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "60", "warning"),
    ("0.15.1", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "60", "error"),
    ("0.16.0", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "60", "warning"),
    ("0.24.0", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "60", "warning"),
    ("0.25.0", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "60", "error"),
    ("0.11.0", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "60", "error"),
    ("0.31.0", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "60", "error"),
    ("0.33.0", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "60", "error"),
    ("0.6.6", "VLLM_TRACE_FUNCTION", "1", "warning"),
    ("0.33.0", "VLLM_TRACE_FUNCTION", "1", "warning"),
    ("0.33.0", "VLLM_TRACE_FUNCTION", "0", "fine"),
    ("0.33.0", "VLLM_LOGGING_LEVEL", "DEBUG", "fine"),
    ("0.33.0", "VLLM_LOGGING_LEVEL", "debug", "fine"),
    ("0.8.1", "VLLM_LOGGING_LEVEL", "debug", "error"),
    ("0.8.2", "VLLM_LOGGING_LEVEL", "debug", "fine"),
    ("0.33.0", "VLLM_LOGGING_LEVEL", "verbose", "error"),
    ("0.29.0", "VLLM_MM_HASHER_ALGORITHM", "sha256", "warning"),
    ("0.30.0", "VLLM_MM_HASHER_ALGORITHM", "sha256", "error"),
    ("0.16.0", "VLLM_CUDA_COMPATIBILITY_PATH", "/x", "error"),
    ("0.17.0", "VLLM_CUDA_COMPATIBILITY_PATH", "/x", "fine"),
    ("0.11.2", "VLLM_USE_V2_MODEL_RUNNER", "1", "error"),
    ("0.33.0", "VLLM_WORKER_MULTIPROC_METHOD", "spawn", "fine"),
    ("0.33.0", "VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1", "fine"),
    ("0.33.0", "VLLM_NO_USAGE_STATS", "0", "fine"),
    ("0.33.0", "VLLM_HOST_IP", "10.0.0.1", "warning"),
    ("0.33.0", "VLLM_PORT", "8000", "warning"),
    ("0.33.0", "VLLM_CACHE_ROOT", "/cache", "error"),
    ("0.10.2", "VLLM_RPC_TIMEOUT", "10000", "fine"),
    ("0.11.0", "VLLM_RPC_TIMEOUT", "10000", "error"),
    ("0.23.0", "VLLM_RPC_TIMEOUT", "10000", "error"),
    ("0.9.1", "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "300", "error"),
    ("0.9.2", "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "300", "fine"),
    ("0.13.0", "VLLM_ENGINE_READY_TIMEOUT_S", "3600", "error"),
    ("0.14.0", "VLLM_ENGINE_READY_TIMEOUT_S", "3600", "warning"),
    ("0.6.2", "VLLM_SKIP_P2P_CHECK", "1", "error"),
    ("0.6.3", "VLLM_SKIP_P2P_CHECK", "1", "fine"),
    ("0.11.0", "VLLM_ALL2ALL_BACKEND", "naive", "fine"),
    ("0.15.1", "VLLM_ALL2ALL_BACKEND", "naive", "warning"),
    ("0.16.0", "VLLM_ALL2ALL_BACKEND", "naive", "error"),
    ("0.12.0", "VLLM_TORCH_PROFILER_DIR", "/tmp/trace", "fine"),
    ("0.15.1", "VLLM_TORCH_PROFILER_DIR", "/tmp/trace", "warning"),
    ("0.16.0", "VLLM_TORCH_PROFILER_DIR", "/tmp/trace", "error"),
    ("0.12.0", "VLLM_FLASH_ATTN_VERSION", "3", "fine"),
    ("0.14.1", "VLLM_FLASH_ATTN_VERSION", "3", "warning"),
    ("0.15.0", "VLLM_FLASH_ATTN_VERSION", "3", "error"),
    ("0.15.0", "VLLM_USE_TRTLLM_ATTENTION", "1", "error"),
    ("0.23.0", "VLLM_USE_FLASHINFER_MOE_FP8", "1", "fine"),
    ("0.24.0", "VLLM_USE_FLASHINFER_MOE_FP8", "1", "error"),
    ("0.16.0", "VLLM_MXFP4_USE_MARLIN", "1", "fine"),
    ("0.23.0", "VLLM_MXFP4_USE_MARLIN", "1", "warning"),
    ("0.24.0", "VLLM_MXFP4_USE_MARLIN", "1", "error"),
    ("0.24.0", "VLLM_NVFP4_GEMM_BACKEND", "cutlass", "error"),
    ("0.17.1", "VLLM_SLEEP_WHEN_IDLE", "1", "fine"),
    ("0.18.0", "VLLM_SLEEP_WHEN_IDLE", "1", "error"),
    ("0.16.0", "VLLM_ENABLE_CUDA_COMPATIBILITY", "1", "error"),
    ("0.17.0", "VLLM_ENABLE_CUDA_COMPATIBILITY", "1", "fine"),
    ("0.33.0", "VLLM_USE_V2_MODEL_RUNNER", "1", "fine"),
    ("0.33.0", "VLLM_LOG_STATS_INTERVAL", "30", "fine"),
    ("0.6.6", "VLLM_SERVER_DEV_MODE", "1", "error"),
    ("0.33.0", "VLLM_SERVER_DEV_MODE", "1", "warning"),
    ("0.33.0", "VLLM_SERVER_DEV_MODE", "0", "fine"),
    ("0.33.0", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "True", "warning"),
    ("0.33.0", "VLLM_ALLOW_INSECURE_SERIALIZATION", "1", "warning"),
    ("0.33.0", "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH", "1", "warning"),
    ("0.33.0", "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH", "0", "fine"),
    ("0.33.0", "VLLM_ASCEND_ENABLE_NZ", "1", "warning"),
    ("0.33.0", "VLLM_USE_RUST_FRONTEND", "1", "fine"),
    ("0.26.0", "VLLM_USE_RUST_FRONTEND", "1", "warning"),
    # NCCL and PyTorch
    ("0.33.0", "NCCL_TIMEOUT", "1800", "error"),
    ("0.33.0", "NCCL_BLOCKING_WAIT", "0", "error"),
    ("0.33.0", "TORCH_NCCL_BLOCKING_WAIT", "0", "fine"),
    ("0.33.0", "TORCH_NCCL_BLOCKING_WAIT", "1", "warning"),
    ("0.6.6", "NCCL_ASYNC_ERROR_HANDLING", "1", "error"),
    ("0.33.0", "TORCH_NCCL_ASYNC_ERROR_HANDLING", "1", "fine"),
    ("0.33.0", "TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", "warning"),
    ("0.33.0", "TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC", "600", "fine"),
    ("0.33.0", "TORCH_NCCL_TRACE_BUFFER_SIZE", "2000", "fine"),
    ("0.33.0", "TORCH_NCCL_DUMP_ON_TIMEOUT", "1", "fine"),
    ("0.33.0", "TORCH_NCCL_HEARTBEAT_TIMEOUT", "600", "warning"),
    ("0.33.0", "NCCL_LAUNCH_MODE", "GROUP", "warning"),
    ("0.33.0", "NCCL_LAUNCH_MODE", "PARALLEL", "fine"),
    ("0.33.0", "NCCL_P2P_DISABLE", "1", "warning"),
    ("0.33.0", "NCCL_P2P_DISABLE", "0", "fine"),
    ("0.33.0", "NCCL_P2P_LEVEL", "NVL", "fine"),
    ("0.33.0", "NCCL_SHM_DISABLE", "1", "warning"),
    ("0.33.0", "NCCL_IB_DISABLE", "1", "warning"),
    ("0.33.0", "NCCL_IB_HCA", "mlx5_0", "fine"),
    ("0.33.0", "NCCL_IB_GID_INDEX", "3", "fine"),
    ("0.33.0", "NCCL_IB_TIMEOUT", "22", "fine"),
    ("0.33.0", "NCCL_IB_RETRY_CNT", "7", "fine"),
    ("0.33.0", "NCCL_SOCKET_IFNAME", "=eth0", "fine"),
    ("0.33.0", "GLOO_SOCKET_IFNAME", "eth0", "fine"),
    ("0.33.0", "TP_SOCKET_IFNAME", "eth0", "fine"),
    ("0.8.5", "NCCL_CUMEM_ENABLE", "1", "error"),
    ("0.9.0.1", "NCCL_CUMEM_ENABLE", "1", "error"),
    ("0.9.1", "NCCL_CUMEM_ENABLE", "1", "warning"),
    ("0.10.1.1", "NCCL_CUMEM_ENABLE", "1", "warning"),
    ("0.10.2", "NCCL_CUMEM_ENABLE", "1", "fine"),
    ("0.8.5", "NCCL_CUMEM_ENABLE", "0", "fine"),
    ("0.33.0", "NCCL_NVLS_ENABLE", "0", "fine"),
    ("0.33.0", "NCCL_MNNVL_ENABLE", "0", "fine"),
    ("0.33.0", "NCCL_IGNORE_DISABLED_P2P", "1", "fine"),
    ("0.8.5", "NCCL_RAS_ENABLE", "0", "warning"),
    ("0.9.0", "NCCL_RAS_ENABLE", "0", "fine"),
    ("0.33.0", "NCCL_DEBUG", "WARN", "fine"),
    ("0.33.0", "NCCL_DEBUG", "info", "warning"),
    ("0.33.0", "NCCL_DEBUG_SUBSYS", "INIT,NET", "fine"),
    # the hub
    ("0.6.4", "HF_HUB_ENABLE_HF_TRANSFER", "1", "fine"),
    ("0.19.0", "HF_HUB_ENABLE_HF_TRANSFER", "1", "fine"),
    ("0.19.1", "HF_HUB_ENABLE_HF_TRANSFER", "1", "error"),
    ("0.33.0", "HF_XET_HIGH_PERFORMANCE", "1", "fine"),
    ("0.33.0", "HF_ENDPOINT", "https://hub.example", "fine"),
    ("0.33.0", "HF_HUB_OFFLINE", "1", "warning"),
    ("0.33.0", "HF_HUB_OFFLINE", "0", "fine"),
    ("0.33.0", "TRANSFORMERS_OFFLINE", "1", "warning"),
    ("0.33.0", "HF_HOME", "/tmp/hub", "warning"),
    ("0.33.0", "HF_HUB_CACHE", "/models", "error"),
    ("0.33.0", "TRANSFORMERS_CACHE", "/models", "error"),
    # devices and memory
    ("0.33.0", "PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True", "fine"),
    ("0.11.1", "PYTORCH_ALLOC_CONF", "max_split_size_mb:512", "fine"),
    ("0.11.0", "PYTORCH_ALLOC_CONF", "max_split_size_mb:512", "error"),
    ("0.33.0", "CUDA_VISIBLE_DEVICES", "0,1", "error"),
    ("0.33.0", "NVIDIA_VISIBLE_DEVICES", "all", "error"),
    ("0.33.0", "CUDA_DEVICE_ORDER", "PCI_BUS_ID", "fine"),
    ("0.33.0", "CUDA_DEVICE_ORDER", "FASTEST_FIRST", "warning"),
    ("0.33.0", "CUDA_LAUNCH_BLOCKING", "1", "warning"),
    ("0.33.0", "CUDA_LAUNCH_BLOCKING", "0", "fine"),
    ("0.16.0", "LD_LIBRARY_PATH", "/usr/local/nvidia/lib64", "fine"),
    # nobody's business
    ("0.33.0", "DO_NOT_TRACK", "1", "fine"),
    ("0.33.0", "TIKTOKEN_ENCODINGS_BASE", "/etc/encodings", "fine"),
    ("0.33.0", "OMP_NUM_THREADS", "8", "fine"),
    ("0.33.0", "A", "", "fine"),
]


@pytest.mark.parametrize(("version", "name", "value", "expected"), NAMED)
def test_named_variables(version: str, name: str, value: str, expected: str) -> None:
    assert outcome(version, name, value) == expected


@pytest.mark.parametrize("name", ["VLLM_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_secrets_are_refused_by_the_spec_itself(name: str) -> None:
    _specs, problems = load_specs([spec(env={name: "hidden"})])
    assert [problem.field for problem in problems] == ["env"]


@pytest.mark.parametrize(
    ("version", "name", "value", "expected"),
    [
        # attention
        ("0.15.0", "VLLM_ATTENTION_BACKEND", "FLASHINFER", {"engine": {"attention_backend": "FLASHINFER"}}),
        ("0.33.0", "VLLM_ATTENTION_BACKEND", "TRITON_ATTN_VLLM_V1", {"engine": {"attention_backend": "TRITON_ATTN"}}),
        ("0.33.0", "VLLM_ATTENTION_BACKEND", "ROCM_FLASH", {"engine": {"attention_backend": "ROCM_ATTN"}}),
        ("0.33.0", "VLLM_ATTENTION_BACKEND", "XFORMERS", NO_REMEDY),
        ("0.33.0", "VLLM_FLASH_ATTN_VERSION", "3", {"engine": {"attention_config": {"flash_attn_version": 3}}}),
        ("0.33.0", "VLLM_FLASH_ATTN_VERSION", "three", NO_REMEDY),
        ("0.33.0", "VLLM_USE_TRTLLM_ATTENTION", "0", {"engine": {"attention_config": {"use_trtllm_attention": False}}}),
        ("0.14.1", "VLLM_USE_TRTLLM_DECODE_ATTENTION", "1", {"env": {"VLLM_USE_TRTLLM_ATTENTION": "1"}}),
        (
            "0.15.0",
            "VLLM_USE_TRTLLM_DECODE_ATTENTION",
            "1",
            {"engine": {"attention_config": {"use_trtllm_attention": True}}},
        ),
        ("0.21.0", "VLLM_USE_CUDNN_PREFILL", "1", {"engine": {"attention_config": {"use_cudnn_prefill": True}}}),
        ("0.22.0", "VLLM_USE_CUDNN_PREFILL", "1", NO_REMEDY),
        (
            "0.22.0",
            "VLLM_USE_TRTLLM_RAGGED_DEEPSEEK_PREFILL",
            "1",
            {"engine": {"attention_config": {"mla_prefill_backend": "TRTLLM_RAGGED"}}},
        ),
        (
            "0.28.0",
            "VLLM_V1_USE_PREFILL_DECODE_ATTENTION",
            "1",
            {"engine": {"attention_config": {"use_prefill_decode_attention": True}}},
        ),
        ("0.29.0", "VLLM_V1_USE_PREFILL_DECODE_ATTENTION", "1", NO_REMEDY),
        ("0.29.0", "VLLM_TRITON_ATTN_USE_TD", "1", {"env": {"VLLM_TRITON_USE_TD": "1"}}),
        # kernels
        ("0.24.0", "VLLM_FLASHINFER_MOE_BACKEND", "latency", {"engine": {"moe_backend": "flashinfer_trtllm"}}),
        ("0.24.0", "VLLM_FLASHINFER_MOE_BACKEND", "throughput", {"engine": {"moe_backend": "flashinfer_cutlass"}}),
        ("0.24.0", "VLLM_FLASHINFER_MOE_BACKEND", "other", NO_REMEDY),
        ("0.24.0", "VLLM_USE_FLASHINFER_MOE_FP8", "1", NO_REMEDY),
        ("0.24.0", "VLLM_MXFP4_USE_MARLIN", "1", {"engine": {"moe_backend": "marlin"}}),
        ("0.24.0", "VLLM_MXFP4_USE_MARLIN", "0", {}),
        ("0.11.0", "VLLM_MXFP4_USE_MARLIN", "1", NO_REMEDY),
        (
            "0.24.0",
            "VLLM_NVFP4_GEMM_BACKEND",
            "flashinfer-cutlass",
            {"engine": {"linear_backend": "flashinfer_cutlass"}},
        ),
        ("0.11.1", "VLLM_USE_TRTLLM_FP4_GEMM", "1", {"env": {"VLLM_NVFP4_GEMM_BACKEND": "flashinfer-trtllm"}}),
        ("0.33.0", "VLLM_USE_TRTLLM_FP4_GEMM", "1", {"engine": {"linear_backend": "flashinfer_trtllm"}}),
        ("0.24.0", "VLLM_USE_FBGEMM", "1", {"engine": {"linear_backend": "fbgemm"}}),
        ("0.24.0", "VLLM_USE_NVFP4_CT_EMULATIONS", "1", {"engine": {"linear_backend": "emulation"}}),
        ("0.11.1", "VLLM_SKIP_DEEP_GEMM_WARMUP", "1", {"env": {"VLLM_DEEP_GEMM_WARMUP": "skip"}}),
        ("0.31.0", "VLLM_KIMI_K3_GEMM_RS", "1", {"env": {"VLLM_ENABLE_GEMM_RS": "1"}}),
        ("0.18.0", "VLLM_FUSED_MOE_CHUNK_SIZE", "1024", {}),
        # several GPUs
        ("0.16.0", "VLLM_ALL2ALL_BACKEND", "pplx", {"engine": {"all2all_backend": "pplx"}}),
        ("0.16.0", "VLLM_ALL2ALL_BACKEND", "other", NO_REMEDY),
        (
            "0.11.1",
            "VLLM_DISABLE_NCCL_FOR_DP_SYNCHRONIZATION",
            "1",
            {"engine": {"disable_nccl_for_dp_synchronization": True}},
        ),
        (
            "0.8.3",
            "VLLM_USE_RAY_COMPILED_DAG_NCCL_CHANNEL",
            "1",
            {"env": {"VLLM_USE_RAY_COMPILED_DAG_CHANNEL_TYPE": "nccl"}},
        ),
        ("0.33.0", "VLLM_USE_RAY_COMPILED_DAG_NCCL_CHANNEL", "1", {}),
        # profiler
        (
            "0.16.0",
            "VLLM_TORCH_PROFILER_DIR",
            "/tmp/trace",
            {"engine": {"profiler_config": {"profiler": "torch", "torch_profiler_dir": "/tmp/trace"}}},
        ),
        ("0.16.0", "VLLM_PROFILER_MAX_ITERS", "5", {"engine": {"profiler_config": {"max_iterations": 5}}}),
        # caches and transfers
        ("0.30.0", "VLLM_MM_HASHER_ALGORITHM", "SHA256", {"engine": {"mm_hasher_algorithm": "sha256"}}),
        ("0.13.0", "VLLM_MM_INPUT_CACHE_GIB", "8", {"engine": {"mm_processor_cache_gb": 8}}),
        ("0.8.0", "VLLM_MM_INPUT_CACHE_SIZE", "256", NO_REMEDY),
        ("0.30.0", "VLLM_PREFIX_CACHE_RETENTION_INTERVAL", "60", {"engine": {"prefix_cache_retention_interval": 60}}),
        (
            "0.23.0",
            "VLLM_MORIIO_QP_PER_TRANSFER",
            "2",
            {"engine": {"kv_transfer_config": {"kv_connector_extra_config": {"qp_per_transfer": 2}}}},
        ),
        ("0.31.0", "VLLM_PLE_CPU_OFFLOAD", "0", {"engine": {"engram_config": {"cpu_offload": False}}}),
        (
            "0.6.5",
            "VLLM_CUSTOM_OPS",
            "none,+rms_norm",
            {"engine": {"compilation_config": {"custom_ops": ["none", "+rms_norm"]}}},
        ),
        # engines and times
        ("0.33.0", "VLLM_USE_V1", "1", {}),
        ("0.33.0", "VLLM_USE_V1", "0", NO_REMEDY),
        ("0.11.0", "VLLM_USE_V1", "0", NO_REMEDY),
        ("0.33.0", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "60", {}),
        ("0.6.2", "VLLM_RPC_GET_DATA_TIMEOUT_MS", "9000", {"env": {"VLLM_RPC_TIMEOUT": "9000"}}),
        ("0.33.0", "VLLM_RPC_GET_DATA_TIMEOUT_MS", "9000", {}),
        # not yet there
        ("0.6.0", "VLLM_USE_V1", "1", NO_REMEDY),
        ("0.10.2", "VLLM_NVFP4_GEMM_BACKEND", "cutlass", NO_REMEDY),
        ("0.16.0", "VLLM_ENABLE_CUDA_COMPATIBILITY", "1", {}),
        # not vLLM's
        ("0.18.0", "NCCL_TIMEOUT", "1800", {"engine": {"distributed_timeout_seconds": 1800}}),
        ("0.17.1", "NCCL_TIMEOUT", "1800", {}),
        ("0.33.0", "NCCL_TIMEOUT", "30 min", NO_REMEDY),
        ("0.33.0", "NCCL_BLOCKING_WAIT", "0", {"env": {"TORCH_NCCL_BLOCKING_WAIT": "0"}}),
        ("0.33.0", "NCCL_ASYNC_ERROR_HANDLING", "1", {}),
        ("0.33.0", "NCCL_ENABLE_TIMING", "1", {"env": {"TORCH_NCCL_ENABLE_TIMING": "1"}}),
        ("0.33.0", "HF_HUB_ENABLE_HF_TRANSFER", "1", {"env": {"HF_XET_HIGH_PERFORMANCE": "1"}}),
        ("0.33.0", "HF_HUB_ENABLE_HF_TRANSFER", "0", {}),
        ("0.11.0", "PYTORCH_ALLOC_CONF", "a:1", {"env": {"PYTORCH_CUDA_ALLOC_CONF": "a:1"}}),
        ("0.33.0", "CUDA_VISIBLE_DEVICES", "0", NO_REMEDY),
        ("0.33.0", "HF_HUB_CACHE", "/models", {}),
    ],
)
def test_what_to_write_instead(version: str, name: str, value: str, expected: t.Any) -> None:
    assert remedy(version, name, value) == expected


def test_what_is_written_instead_is_taken_by_the_release() -> None:
    """Every successor of every removed variable, in every release that lost the variable, with a value that it took."""
    values = {"VLLM_ALL2ALL_BACKEND": "pplx", "VLLM_NVFP4_GEMM_BACKEND": "marlin", "VLLM_MM_HASHER_ALGORITHM": "sha256"}
    values |= {"VLLM_FLASHINFER_MOE_BACKEND": "latency", "VLLM_ATTENTION_BACKEND": "FLASH_ATTN"}
    seen = set()
    for name in SUCCESSORS:
        for version in catalogue.releases():
            release = load(version)
            for problem in found(version, {name: values.get(name, "1")}):
                for option, value in ((problem.remedy or {}).get("engine") or {}).items():
                    seen.add(option)
                    assert check_value(release.options[option], value) is None, (name, version)
                for variable in (problem.remedy or {}).get("env") or {}:
                    seen.add(variable)
                    assert not variable.startswith("VLLM_") or variable in release.environment, (name, version)
    named = {step.name for steps in SUCCESSORS.values() for step in steps if not isinstance(step, Gone)}
    assert named - seen <= {"VLLM_MM_INPUT_CACHE_GIB", "mm_processor_cache_gb"}


def test_fields_of_configurations_are_those_of_the_release() -> None:
    fields = {
        ("attention_config", "AttentionConfig"),
        ("profiler_config", "ProfilerConfig"),
        ("compilation_config", "CompilationConfig"),
        ("engram_config", "EngramConfig"),
    }
    for name, steps in SUCCESSORS.items():
        for step in steps:
            for option, config in fields:
                if isinstance(step, Option) and step.name == option and step.path:
                    life = catalogue.life("configs", f"{config}.{step.path[0]}")
                    assert life is not None, name
                    assert life.until == step.until, name


def test_every_removed_variable_has_an_entry() -> None:
    removed = {
        name
        for name in catalogue.names("environment")
        if (life := catalogue.life("environment", name)) is not None and (life.until or len(life.spans) > 1)
    }
    assert removed
    assert removed - set(SUCCESSORS) == set(), "say in variables.py what does their job, or that nothing does"
    assert set(SUCCESSORS) - removed == set()


@pytest.mark.parametrize("version", ["0.6.0", "0.8.5.post1", "0.11.0", "0.17.0", NEWEST])
def test_every_variable_of_every_release_has_its_outcome(version: str) -> None:
    release = load(version)
    for name in set(catalogue.names("environment")) - {"VLLM_API_KEY"}:
        life = catalogue.life("environment", name)
        assert life is not None
        problems = found(version, {name: "0"})
        facts = release.facts("environment").get(name)
        if facts is None:
            (problem,) = problems
            assert not problem.warning
            assert str(life) in problem.reason
            late = Version(life.since) > Version(version)
            assert late or problem.fix != "Remove it, or use an image that has it"
        elif facts.get("dead"):
            assert len(problems) == 1


def test_a_variable_in_no_release_is_a_warning_unless_vllm_refuses_it() -> None:
    (problem,) = found("0.33.0", {"VLLM_LOGING_LEVEL": "DEBUG"})
    assert problem.warning
    assert "VLLM_LOGGING_LEVEL" in problem.fix
    strict = {"fail_on_environ_validation": True}
    assert outcome("0.33.0", "VLLM_LOGING_LEVEL", "DEBUG", engine=strict) == "error"
    assert outcome("0.16.0", "VLLM_LOGING_LEVEL", "DEBUG", engine=strict) == "warning"
    assert outcome("0.33.0", "VLLM_LOGING_LEVEL", "DEBUG", engine={"fail_on_environ_validation": False}) == "warning"


def test_what_is_said_twice_is_said_once() -> None:
    engine = {"attention_backend": "FLASHINFER", "attention_config": {"flash_attn_version": 3}}
    assert remedy("0.33.0", "VLLM_ATTENTION_BACKEND", "FLASH_ATTN", engine=engine) == {}
    assert remedy("0.33.0", "VLLM_FLASH_ATTN_VERSION", "2", engine=engine) == {}
    added = remedy("0.33.0", "VLLM_USE_TRTLLM_ATTENTION", "1", engine=engine)
    assert added == {"engine": {"attention_config": {"use_trtllm_attention": True}}}
    as_text = {"attention_config": '{"flash_attn_version": 3}'}
    assert remedy("0.33.0", "VLLM_USE_TRTLLM_ATTENTION", "1", engine=as_text) == NO_REMEDY
    assert remedy("0.33.0", "NCCL_TIMEOUT", "9", engine={"distributed_timeout_seconds": 5}) == {}


@pytest.mark.parametrize("value", [True, 7, None, [], {"a": {}}, "text"])
def test_odd_options_beside_a_variable(value: t.Any) -> None:
    engine = {"attention_config": value, "kv_transfer_config": value, "enable_sleep_mode": value}
    assert len(found("0.33.0", {"VLLM_FLASH_ATTN_VERSION": "3"}, engine=engine)) == 1
    assert len(found("0.33.0", {"VLLM_MORIIO_NUM_WORKERS": "3"}, engine=engine)) == 1


def test_names_that_are_nearly_right() -> None:
    for name, meant in (
        ("HF_HUB_OFLINE", "HF_HUB_OFFLINE"),
        ("CUDA_VISIBLE_DEVICE", "CUDA_VISIBLE_DEVICES"),
        ("PYTORCH_CUDA_ALLOC_CONFIG", "PYTORCH_CUDA_ALLOC_CONF"),
        ("GLOO_SOCKET_IFNAM", "GLOO_SOCKET_IFNAME"),
    ):
        (problem,) = found("0.33.0", {name: "x"})
        assert problem.warning
        assert meant in problem.fix
    for name in ("HF_MINE", "CUDA_MINE", "TORCH_LOGS", "TORCH_FR_BUFFER_SIZE"):
        assert found("0.33.0", {name: "x"}) == []
    (problem,) = found("0.33.0", {"NCCL_SOCKET_IFNAM": "eth0"})
    assert not problem.warning
    assert "NCCL_SOCKET_IFNAME" in problem.fix


def test_a_plugin_of_nccl_may_read_more() -> None:
    assert outcome("0.33.0", "NCCL_FASTRAK_IFNAME", "eth1") == "error"
    problems = found("0.33.0", {"NCCL_FASTRAK_IFNAME": "eth1", "NCCL_NET": "FasTrak"})
    assert [problem.warning for problem in problems] == [True]


def test_a_token_path_hides_the_token() -> None:
    assert outcome("0.33.0", "HF_TOKEN_PATH", "/x") == "fine"
    assert outcome("0.33.0", "HF_TOKEN_PATH", "/x", secrets={"hub_token": "t"}) == "error"


def test_offline_is_said_in_one_place() -> None:
    assert outcome("0.33.0", "HF_HUB_OFFLINE", "1", offline=True) == "fine"
    assert outcome("0.33.0", "HF_HUB_OFFLINE", "0", offline=True) == "error"
    (problem,) = found("0.33.0", {"TRANSFORMERS_OFFLINE": "1"})
    assert problem.remedy == {"offline": True}


@pytest.mark.parametrize(
    ("version", "engine", "expected"),
    [
        ("0.7.3", {"enable_sleep_mode": True}, "fine"),
        ("0.8.0", {"enable_sleep_mode": True}, "error"),
        ("0.20.0", {"enable_sleep_mode": True}, "error"),
        ("0.20.1", {"enable_sleep_mode": True}, "fine"),
        ("0.20.0", {"enable_sleep_mode": False}, "fine"),
        ("0.20.2", {"kv_transfer_config": {"kv_connector": "NixlConnector"}}, "fine"),
        ("0.21.0", {"kv_transfer_config": {"kv_connector": "NixlConnector"}}, "error"),
        ("0.21.0", {"kv_transfer_config": {"kv_connector": "NixlConnector"}, "enable_sleep_mode": True}, "fine"),
        ("0.33.0", {"kv_transfer_config": {"kv_connector": "NixlConnector"}}, "error"),
        ("0.33.0", {"kv_transfer_config": {"kv_connector": "NixlConnector"}, "enable_cumem_allocator": True}, "fine"),
    ],
)
def test_expandable_segments(version: str, engine: dict[str, t.Any], expected: str) -> None:
    setting = "max_split_size_mb:512,expandable_segments:True"
    assert outcome(version, "PYTORCH_CUDA_ALLOC_CONF", setting, engine=engine) == expected
    assert outcome(version, "PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:False", engine=engine) == "fine"
    renamed = "warning" if "kv_transfer_config" in engine else "fine"
    if Version(version) >= Version("0.11.1"):
        assert outcome(version, "PYTORCH_ALLOC_CONF", setting, engine=engine) == renamed


def test_variables_of_nccl_come_with_its_versions() -> None:
    assert all(len(load(version).facts("nccl")) > 140 for version in catalogue.releases()), (
        "run tools/catalogue/nccl.py"
    )
    assert 280 < len(load("0.33.0").facts("nccl")) < 360
    since = catalogue.life("nccl", "NCCL_GIN_PROXY_NTHREADS")
    assert since is not None
    assert since.since == "0.33.0"
    assert catalogue.life("nccl", "NCCL_TIMEOUT") is None
    assert catalogue.life("nccl", "NCCL_LOG_ABORT") is None, "a name out of the debug information"


def test_values_are_never_shown() -> None:
    secret = "s3cr3t-value"
    special = ["NCCL_TIMEOUT", "NCCL_BLOCKING_WAIT", "PYTORCH_ALLOC_CONF", "CUDA_VISIBLE_DEVICES", "HF_HUB_CACHE"]
    for name in [*special, "NCCL_X", "VLLM_MINE", "VLLM_PORT", "VLLM_USE_V1", "CUDA_VISIBLE_DEVICE"]:
        for version in ("0.11.0", "0.33.0"):
            assert not any(secret in str(problem) for problem in found(version, {name: secret})), name


REPLACED = sorted({step.name for steps in SUCCESSORS.values() for step in steps if isinstance(step, Option)})
NAMES = sorted({*SUCCESSORS, *(name for _version, name, _value, _outcome in NAMED), "NCCL_Q", "VLLM_Q"})
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
ODD: list[t.Any] = [None, True, 0, -1, 2**62, "", "{", [], [{}], {}, {"moe": 1}, {"kv_connector_extra_config": "x"}]


@settings(max_examples=100)
@given(
    st.sampled_from(["0.6.0", "0.8.3", "0.11.0", "0.15.0", "0.24.0", NEWEST]),
    st.dictionaries(st.sampled_from(NAMES), TEXT | st.sampled_from(["0", "1", "true", "9" * 5000]), max_size=6),
    st.dictionaries(st.sampled_from(REPLACED), st.sampled_from(ODD), max_size=4),
)
def test_no_value_raises(version: str, env: dict[str, str], engine: dict[str, t.Any]) -> None:
    for problem in found(version, env, engine=engine):
        assert problem.reason
        assert problem.fix
        assert problem.field.startswith("env.")


@pytest.mark.parametrize("version", ["0.13.0", "0.14.1"])
def test_a_backend_in_both_places_is_refused_as_vllm_does(version: str) -> None:
    assert remedy(version, "VLLM_ATTENTION_BACKEND", "FLASHINFER", engine={"attention_backend": "FLASHINFER"}) == {}


def test_what_is_going_says_what_to_write_already() -> None:
    (problem,) = found("0.15.1", {"VLLM_ALL2ALL_BACKEND": "pplx"})
    assert problem.warning and problem.reason == "is in no release after 0.15.1"
    assert problem.remedy == {"engine": {"all2all_backend": "pplx"}}
