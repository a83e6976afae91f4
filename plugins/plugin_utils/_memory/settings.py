# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine options that decide about memory, with vLLM's own defaults filled in. Pure.

Defaults are those of `vllm serve`. Rules of the V0 engine are those of 0.6.0 to 0.10.2, for the catalogue has none
before 0.8.0.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, Asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.reading import version_of
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load

# Compute capabilities as 10 * major + minor, by what a product's name holds: the CUDA GPU list of NVIDIA. The first
# that is found counts. AMD's GPUs have none here.
_CAPABILITIES = (
    (r"\bGB300\b|\bB300\b", 103),
    (r"\bGB200\b|\bB200\b|\bB100\b", 100),
    (r"\bGB10\b|Spark", 121),
    (r"RTX PRO \d+.*Blackwell|RTX 50[5-9]0", 120),
    (r"\bG?H200\b|\bH100\b|\bH800\b|\bH20\b|\bGH200\b", 90),
    (r"\bL4\b|\bL40S?\b|\bL20\b|RTX 40[5-9]0|RTX [456]000 Ada|RTX 6000 Ada", 89),
    (r"\bA100\b|\bA800\b|\bA30\b|A100[-X]", 80),
    (r"Orin", 87),
    (r"\bA10G?\b|\bA40\b|\bA16\b|\bA2\b|RTX A\d000|RTX 30[5-9]0|\bA6000\b|\bA5000\b|\bA4000\b", 86),
    (r"Tesla T4|\bT4\b|RTX 20[6-8]0|Quadro RTX|TITAN RTX", 75),
    (r"\bV100\b|TITAN V", 70),
    (r"\bP100\b", 60),
    (r"\bP40\b|\bP4\b|GTX 10[5-8]0|TITAN X", 61),
)
_AMD = re.compile(r"\bAMD\b|Instinct|Radeon|\bMI\d{2,3}[AXP]?\b|gfx\d|7900 XT", re.IGNORECASE)
# GPUs that share the host's memory (is_integrated in v1 of 0.32.0 asks CUDA; GB10, Jetson, Strix Halo and MI300A do).
_UNIFIED = re.compile(r"\bGB10\b|Spark|Jetson|Orin|Thor|Strix|MI300A\b", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Device:
    """kind: gpu or cpu; total: bytes of the GPU as CUDA reports them, or of the host.

    compute_capability: 10 * major + minor of an NVIDIA GPU where it is known; else the name tells.
    """

    kind: str
    name: str
    total: int
    compute_capability: int | None = None

    @property
    def capability(self) -> int:
        """10 * major + minor of an NVIDIA GPU; 0 for others and where neither fact nor name tells."""
        return self.compute_capability or _capability(self.name)

    @property
    def is_amd(self) -> bool:
        """Whether vLLM runs it through ROCm."""
        return self.kind == "gpu" and _is_amd(self.name)

    @property
    def is_unified(self) -> bool:
        """Whether the GPU's memory is the host's."""
        return self.kind == "gpu" and _is_unified(self.name)


@functools.lru_cache(maxsize=256)
def _capability(name: str) -> int:
    return next((capability for text, capability in _CAPABILITIES if re.search(text, name, re.IGNORECASE)), 0)


@functools.lru_cache(maxsize=256)
def _is_amd(name: str) -> bool:
    return bool(_AMD.search(name))


@functools.lru_cache(maxsize=256)
def _is_unified(name: str) -> bool:
    return bool(_UNIFIED.search(name))


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything resolved. Bytes, tokens, requests.

    block_size: as asked; runner: 1 for v1/worker/gpu_model_runner.py, 2 for v1/worker/gpu; graphs_in_budget: whether an
    estimate of the graphs is taken off the KV cache; capture_sizes: batch sizes that graphs are captured for, none when
    eager; full_graphs: whether V1 captures decode batches as full graphs beside the piecewise ones; calibrated: whether
    the terms were fitted to starts of this release on this GPU type.
    """

    release: Version
    asked: Asked
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    utilization: float
    kv_cache_memory_bytes: int | None
    block_size: int | None
    engine: t.Literal["V0", "V1"]
    runner: t.Literal[1, 2]
    graphs_in_budget: bool
    chunked_prefill: bool
    prefix_caching: bool
    async_scheduling: bool
    capture_sizes: tuple[int, ...]
    full_graphs: bool
    speculative_tokens: int
    is_pooling: bool
    is_multimodal: bool
    calibrated: bool


@dataclasses.dataclass(frozen=True)
class _Known:
    """What depends on the release alone."""

    release: Version
    utilization: float
    defaults: t.Mapping[str, t.Mapping[str, t.Any]]
    architectures: t.Mapping[str, t.Mapping[str, t.Any]]


@functools.lru_cache(maxsize=64)
def _known(release: str) -> _Known:
    facts = load(release)
    try:
        version = Version(release)
    except ValueError:
        version = Version(facts.version)
    option = facts.option("gpu_memory_utilization")
    # The default is in the option from 0.6.0 on; 0.9 is its value up to 0.19.1.
    share = float(option.default) if option and option.default else 0.9
    return _Known(version, share, facts.facts("defaults"), facts.facts("architectures"))


_V1_OPT_IN = Version("0.6.4")
_V1_DEFAULT = Version("0.8.0")
_V1_ONLY = Version("0.11.0")
_FULL_AND_PIECEWISE = Version("0.11.0")
_ASYNC = Version("0.14.0")
_GRAPHS_IN_BUDGET = Version("0.20.0")
_CALIBRATED = (Version("0.18.0"), Version("0.20.0"))


def settings(release: str, asked: Asked, shape: Geometry, device: Device) -> Settings:
    """Fill in what vLLM would; every rule names its source where it is written."""
    known = _known(release)
    version = known.release
    engine = _engine(version, asked, shape, device)
    task = known.architectures.get(shape.architecture, {}).get("task")
    pooling = task == "pooling"
    length = asked.max_model_len or shape.max_positions
    runner = _runner(version, asked, shape, pooling)
    chunked = _chunked(version, engine, asked, shape, device, length, pooling)
    seqs, tokens = _batches(known, engine, asked, shape, device, length, chunked, pooling)
    sizes = _capture_sizes(version, engine, asked, device, seqs, tokens)
    speculative = asked.speculative_tokens
    return Settings(
        release=version,
        asked=asked,
        max_model_len=length,
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        utilization=asked.utilization or known.utilization,
        kv_cache_memory_bytes=(asked.cpu_kv_bytes if device.kind == "cpu" else None) or asked.kv_cache_memory_bytes,
        block_size=asked.block_size,
        engine=engine,
        runner=runner,
        graphs_in_budget=_graphs_in_budget(version, asked, device, sizes),
        chunked_prefill=chunked,
        prefix_caching=_prefix_caching(version, engine, asked, shape, pooling),
        async_scheduling=_async_scheduling(version, engine, asked, runner, pooling),
        capture_sizes=sizes,
        full_graphs=bool(sizes) and _full_graphs(version, engine, asked, pooling),
        speculative_tokens=speculative,
        is_pooling=pooling,
        is_multimodal=shape.is_multimodal or task == "multimodal",
        calibrated=_CALIBRATED[0] <= version < _CALIBRATED[1] and device.capability == 90 and _is_recorded(asked),
    )


# Architectures that is_v1_compatible refuses (SupportsV0Only and has_inner_state in model_executor/models of 0.8.5).
_V0_ONLY = frozenset(
    {
        "BambaForCausalLM",
        "BartForConditionalGeneration",
        "BartModel",
        "BertModel",
        "Florence2ForConditionalGeneration",
        "GritLM",
        "JambaForCausalLM",
        "Mamba2ForCausalLM",
        "MambaForCausalLM",
        "MiniMaxText01ForCausalLM",
        "MllamaForConditionalGeneration",
        "Plamo2ForCausalLM",
        "RobertaModel",
        "WhisperForConditionalGeneration",
        "XLMRobertaModel",
        "Zamba2ForCausalLM",
    }
)


def _engine(version: Version, asked: Asked, shape: Geometry, device: Device) -> t.Literal["V0", "V1"]:
    """_is_v1_supported_oracle in engine/arg_utils.py of 0.8.0 to 0.10.0; VLLM_USE_V1 in envs.py."""
    if version >= _V1_ONLY:
        return "V1"
    if version < _V1_OPT_IN:
        return "V0"
    wish = asked.env.get("VLLM_USE_V1")
    if wish in ("0", "1"):
        return "V1" if wish == "1" else "V0"
    if version < _V1_DEFAULT or 0 < device.capability < 80 or shape.architecture in _V0_ONLY:
        return "V0"
    quantization = asked.quantization or shape.quantization
    if version < version_of("0.9.0") and (device.is_amd or asked.speculative_tokens or quantization == "gguf"):
        return "V0"
    if version < version_of("0.8.3") and (
        asked.lora or asked.pipeline_parallel > 1 or asked.cpu_offload_gib or quantization == "bitsandbytes"
    ):
        return "V0"
    if asked.kv_cache_dtype != "auto" and (version < version_of("0.8.2") or device.capability != 90):
        # FlashAttention 3 alone read an FP8 cache, which is of Hopper, until 0.10.0 asked the platform.
        return "V0" if version < version_of("0.10.0") else "V1"
    return "V1"


# DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES in config/vllm.py of the release that each set begins with; until 0.24.0 the
# only architectures of the second runner, from 0.25.0 on those that have it although they are mixtures of experts.
_SECOND_RUNNER = (
    (
        version_of("0.28.0"),
        {
            "DeepseekV2ForCausalLM",
            "DeepseekV4ForCausalLM",
            "GraniteMoeForCausalLM",
            "InklingForCausalLM",
            "InklingForConditionalGeneration",
            "KimiK3ForConditionalGeneration",
            "LongcatFlashNgramForCausalLM",
            "Qwen2MoeForCausalLM",
        },
    ),
    (
        version_of("0.27.0"),
        {
            "DeepseekV2ForCausalLM",
            "GraniteMoeForCausalLM",
            "InklingForCausalLM",
            "InklingForConditionalGeneration",
            "KimiK3ForConditionalGeneration",
            "LongcatFlashNgramForCausalLM",
            "Qwen2MoeForCausalLM",
        },
    ),
    (
        version_of("0.26.0"),
        {
            "DeepseekV2ForCausalLM",
            "GraniteMoeForCausalLM",
            "InklingForCausalLM",
            "InklingForConditionalGeneration",
            "LongcatFlashNgramForCausalLM",
            "Qwen2MoeForCausalLM",
        },
    ),
    (Version("0.25.0"), {"DeepseekV2ForCausalLM", "Qwen2MoeForCausalLM", "GraniteMoeForCausalLM"}),
    (Version("0.23.0"), {"LlamaForCausalLM", "MistralForCausalLM", "Qwen3ForCausalLM"}),
    (Version("0.22.0"), {"Qwen3ForCausalLM"}),
)
_SECOND_RUNNER_DENSE = Version("0.25.0")
_SECOND_RUNNER_ALL = Version("0.29.0")


def _runner(version: Version, asked: Asked, shape: Geometry, pooling: bool) -> t.Literal[1, 2]:
    """use_v2_model_runner in config/vllm.py of 0.22.0 to 0.33.0."""
    wish = asked.env.get("VLLM_USE_V2_MODEL_RUNNER")
    if wish in ("0", "1") and version >= version_of("0.12.0"):
        return 2 if wish == "1" else 1
    known = next((names for since, names in _SECOND_RUNNER if version >= since), None)
    method = str((asked.speculative or {}).get("method", ""))
    if known is None or method.startswith("ngram"):
        return 1
    if version >= _SECOND_RUNNER_ALL:
        return 2
    if pooling:
        return 1
    listed = shape.architecture in known
    if version < _SECOND_RUNNER_DENSE:
        return 2 if listed and not shape.is_moe and not shape.is_quantized else 1
    return 2 if listed or not (shape.is_moe or _has_state(shape)) else 1


def _has_state(shape: Geometry) -> bool:
    """Whether layers keep a state and no keys: vLLM's is_hybrid."""
    return shape.keeps("state")


def _chunked(
    version: Version, engine: str, asked: Asked, shape: Geometry, device: Device, length: int, pooling: bool
) -> bool:
    """enable_chunked_prefill: create_engine_config in engine/arg_utils.py of 0.6.0 and 0.7.3, _set_default_args_v0 and
    _v1 of 0.8.0 and 0.10.0, is_chunked_prefill_supported in config/model.py of 0.32.0.
    """
    if asked.chunked_prefill is not None and not (engine == "V1" and version < version_of("0.10.0")):
        return asked.chunked_prefill
    if engine == "V1":
        return not (pooling and _is_encoder(shape))
    excluded = shape.is_multimodal and version >= version_of("0.6.4")
    excluded = excluded or shape.mla_width and version >= version_of("0.8.0")
    return (
        length > 32768
        and not excluded
        and device.kind == "gpu"
        and not device.is_amd
        and not _has_window(shape)
        and not asked.speculative_tokens
        and not asked.lora
        and not pooling
    )


def _is_encoder(shape: Geometry) -> bool:
    return any(part in shape.architecture for part in ("Bert", "BERT", "Encoder"))


def _has_window(shape: Geometry) -> bool:
    """get_sliding_window in config.py of 0.8.0: a window in the configuration that is not switched off."""
    window = shape.config.get("sliding_window")
    return isinstance(window, int) and shape.config.get("use_sliding_window", True) is not False


def _prefix_caching(version: Version, engine: str, asked: Asked, shape: Geometry, pooling: bool) -> bool:
    """enable_prefix_caching: engine/arg_utils.py of 0.10.0, is_prefix_caching_supported of 0.19.0 and
    0.26.0."""
    if asked.prefix_caching is not None:
        return asked.prefix_caching
    if engine == "V0" or pooling and _is_encoder(shape):
        return False
    return not _has_state(shape) or version >= version_of("0.26.0")


# Methods of speculation that asynchronous scheduling works with: config/vllm.py of 0.14.0 and 0.32.0.
_ASYNC_PIPELINE, _NO_PIPELINE = Version("0.15.0"), Version("0.31.0")
_ASYNC_METHODS = frozenset({"eagle", "eagle3", "mtp", "draft_model", "dspark", "dflash", "ngram_gpu"})


def _async_scheduling(version: Version, engine: str, asked: Asked, runner: int, pooling: bool) -> bool:
    if engine == "V0":
        return False
    if asked.async_scheduling is not None:
        return asked.async_scheduling
    method = str((asked.speculative or {}).get("method", "mtp" if asked.speculative_tokens else ""))
    return (
        version >= _ASYNC
        and (not method or method in _ASYNC_METHODS or method.endswith("_mtp"))
        and not (asked.pipeline_parallel > 1 and (version < _ASYNC_PIPELINE or runner == 1 and version >= _NO_PIPELINE))
        and not (pooling and version >= version_of("0.20.0"))
    )


# _MULTIMODAL_MODEL_MAX_NUM_BATCHED_TOKENS and _EMBEDDING_ or _POOLING_MODEL_MAX_NUM_BATCHED_TOKENS in config.py.
_V0_POOLING_TOKENS = 32768


def _batches(
    known: _Known,
    engine: str,
    asked: Asked,
    shape: Geometry,
    device: Device,
    length: int,
    chunked: bool,
    pooling: bool,
) -> tuple[int, int]:
    """(max_num_seqs, max_num_batched_tokens)."""
    version = known.release
    if engine == "V0":
        seqs, tokens = _v0_batches(version, shape, length, chunked, pooling)
        return asked.max_num_seqs or seqs, asked.max_num_batched_tokens or tokens
    seqs, tokens = _v1_batches(known, asked, device)
    if asked.performance_mode == "throughput":
        seqs, tokens = seqs * 2, tokens * 2
    if not chunked:
        tokens = max(length, tokens)
    if shape.is_multimodal and version >= version_of("0.22.0"):
        tokens = max(tokens, _largest_item(shape))
    seqs = asked.max_num_seqs or seqs
    if asked.max_num_batched_tokens:
        tokens = asked.max_num_batched_tokens
    elif version >= version_of("0.11.1"):
        # From 0.11.1 on a default is held to what the requests can hold at all.
        tokens = min(tokens, seqs * length)
    return (seqs if asked.max_num_seqs else min(seqs, tokens)), tokens


def _v0_batches(version: Version, shape: Geometry, length: int, chunked: bool, pooling: bool) -> tuple[int, int]:
    """SchedulerConfig in config.py of 0.6.0, 0.6.4, 0.7.3 and 0.8.0."""
    unchunked = max(length, 2048)
    tokens = unchunked if not chunked else 512 if version < version_of("0.6.4") else 2048
    if pooling:
        tokens = max(tokens, _V0_POOLING_TOKENS)
    if shape.is_multimodal:
        tokens = max(tokens, 4096 if version < version_of("0.6.3") else 5120)
    return 256, tokens


# Devices that the catalogue knows the defaults of, as stand-ins for every other one.
_CPU, _SMALL, _A100, _LARGE, _LARGEST = "cpu", "L4 24 GiB", "A100 80 GiB", "H100 80 GiB", "B200 180 GiB"


def _v1_batches(known: _Known, asked: Asked, device: Device) -> tuple[int, int]:
    """get_batch_defaults in engine/arg_utils.py of 0.32.0; before 0.8.5 the name decided (0.8.4)."""
    if device.kind == "cpu":
        like = _CPU
    elif known.release < version_of("0.8.5"):
        named = "h100" in device.name.lower() or "h200" in device.name.lower()
        like = _LARGE if named else _SMALL
    elif device.total >= 160 * GIB:
        like = _LARGEST
    elif device.total >= 70 * GIB:
        like = _A100 if "a100" in device.name.lower() else _LARGE
    else:
        like = _SMALL
    found = [
        known.defaults.get(name, {}).get("by_device", {}).get(like)
        for name in ("max_num_seqs", "max_num_batched_tokens")
    ]
    if known.release < _V1_DEFAULT:
        # V1 as an option: 1024 requests and the tokens of _override_v1_engine_args of 0.7.3.
        found = [1024, 8192 if like == _LARGE else 2048]
    seqs, tokens = found[0] or 256, found[1] or 2048
    # The catalogue's CPU is one worker; each worker adds as much.
    return (seqs * asked.workers, tokens * asked.workers) if like == _CPU else (seqs, tokens)


def _largest_item(shape: Geometry) -> int:
    """Tokens of the largest item of a prefix-LM model, 0 for others: _get_min_mm_batched_tokens of 0.32.0.

    Gemma 4 reads 2496 tokens of a video: 32 frames of 70 soft tokens and 8 around them (models/gemma4_mm.py of 0.26.0).
    """
    return 2496 if shape.architecture == "Gemma4ForConditionalGeneration" else 0


def _is_recorded(asked: Asked) -> bool:
    """Whether starts that are split like this are among those that the terms were fitted to."""
    return asked.tensor_parallel in (1, 2, 4) and asked.data_parallel == 1 and not asked.lora


def _graphs_in_budget(version: Version, asked: Asked, device: Device, sizes: tuple[int, ...]) -> bool:
    """VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS in envs.py: from 0.18.0 on, on by default from 0.20.0 on."""
    if version < version_of("0.18.0") or device.kind != "gpu" or not sizes:
        return False
    wish = asked.env.get("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS")
    return wish == "1" if wish in ("0", "1") else version >= _GRAPHS_IN_BUDGET


def _full_graphs(version: Version, engine: str, asked: Asked, pooling: bool) -> bool:
    """cudagraph_mode: FULL_AND_PIECEWISE is the default from 0.11.0 on, but not for pooling models
    (config/__init__.py of 0.11.0, config/vllm.py of 0.19.0).
    """
    if pooling or engine == "V0":
        return False
    if asked.cudagraph_mode is not None:
        return "FULL" in asked.cudagraph_mode.upper()
    return version >= _FULL_AND_PIECEWISE


def _capture_sizes(
    version: Version, engine: str, asked: Asked, device: Device, seqs: int, tokens: int
) -> tuple[int, ...]:
    """_set_cudagraph_sizes in config/vllm.py of 0.11.1 to 0.33.0, config.py before."""
    if asked.eager or device.kind != "gpu" or str(asked.cudagraph_mode or "").upper() == "NONE":
        return ()
    if engine == "V1" and asked.compilation_level == 0 and asked.cudagraph_mode is None:
        # Without compilation there are no pieces to capture: the same functions, and O0 of 0.12.0 and later.
        return ()
    if asked.capture_sizes:
        return tuple(sorted({size for size in asked.capture_sizes if engine == "V0" or size <= tokens}))
    if engine == "V0":
        # The first size that holds every request is the last one, and none is larger than 8192 (config.py of 0.8.5,
        # model_runner.py of 0.6.0).
        return tuple(_grid(min(-(-seqs // 8) * 8, 8192) if seqs > 4 else 1 << (seqs - 1).bit_length(), 8))
    if version < version_of("0.10.0"):
        return tuple(_grid(min(512, tokens), 8))
    ceiling = 512
    if version >= version_of("0.28.0") and device.capability // 10 == 10:
        ceiling = 1024
    query = 1
    if version >= version_of("0.13.0"):
        query += asked.speculative_tokens
    most = min(asked.max_capture_size or min(seqs * query * 2, ceiling), tokens)
    if version < version_of("0.11.1"):
        return tuple(_grid(most, 8))
    found = set(_grid(most, 16))
    if asked.performance_mode == "interactivity":
        found |= set(range(1, min(most, 32) + 1))
    if version >= version_of("0.28.0") and tokens <= most:
        found.add(tokens)
    if version >= version_of("0.29.0") and asked.max_capture_size is None:
        counts = _grid(min(seqs, ceiling), 16) if query > 1 else []
        counts = [*counts, seqs] if query == 1 or seqs <= ceiling else counts
        found |= {count * query for count in counts if count * query <= most}
    return tuple(sorted(found))


def _grid(most: int, late_step: int) -> list[int]:
    """1, 2, 4, steps of 8 up to 256, and from there on of late_step."""
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, most + 1, late_step)]
    return [size for size in sizes if size <= most]
