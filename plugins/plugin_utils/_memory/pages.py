# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one block of one layer takes on one GPU, and how many blocks a request needs of it. Pure.

The figures of vLLM's KVCacheSpec classes: v1/kv_cache_interface.py, and worker/cache_engine.py for the V0 engine.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.caches import Cache
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.reading import (
    Unreadable,
    count,
    mapping,
    version_of,
    word,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings

Family = t.Literal["full", "sliding", "chunked", "state", "cross"]

_DEFAULT_BLOCK = 16
_CPU_BLOCK = 128
_COMPRESSED_BLOCK = 256
_FLOAT32 = ("float32", "float")
_WIDE = ("auto", "float16", "half", "bfloat16")
# STR_DTYPE_TO_TORCH_DTYPE in utils/torch_utils.py of 0.32.0: every other name is stored in units of one byte.
_DTYPE_BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
# Bytes of one token in the packed layouts of MLA: mla_attention.py of 0.32.0.
_PACKED_LATENT = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}
# (bits of a key, bits of a value): TQ_PRESETS in quantization/turboquant/config.py of 0.32.0.
_TURBOQUANT = {
    "turboquant_k8v4": (8, 4),
    "turboquant_4bit_nc": (4, 4),
    "turboquant_k3v4_nc": (3, 4),
    "turboquant_3bit_nc": (3, 3),
}


def up(number: int, divisor: int) -> int:
    """The quotient, rounded up."""
    return -(-number // divisor)


@dataclasses.dataclass(frozen=True)
class Rules:
    """How one release counts; each field names the release that it begins or ends with, read from its source.

    uniform_only: no hybrid cache manager, windows count as full attention beside full attention (until 0.9.0).
    own_types: layers of one family but of different width make one group (from 0.11.0).
    unified_pages: pages of different size are made equal (from 0.12.0). near: the greatest ratio of layer counts at
    which the smaller type is padded (0.12.0; 1.5 from 0.18.0). from_groups: the check of one request uses groups
    (0.14.0), each stage's own (projected, 0.17.0), all of them (all_groups, 0.19.0), and keeps one block back
    (null_block, 0.29.0). tokens_of_concurrency: tokens are reported as concurrency * length (0.20.1). in_flight:
    windows hold the tokens of all running batches (0.26.0). pads_states, pads_attention: pages that do not divide the
    largest are padded (0.26.0, 0.24.0). merges: types that differ in a window alone are one (0.27.0). value_width,
    window_value_width: values have a width of their own (0.14.0, 0.20.0). state_modes: states count by their cache
    mode (0.15.0). checkpoint_kv_dtype: "auto" follows the checkpoint (0.14.0). backend_blocks: the backend chooses the
    size of blocks (0.18.0). override_checked: num_gpu_blocks_override counts in the check of one request (0.20.1).
    bucketed: a block of deepseek_v4 has room for the most layers of each size of page (0.23.0).
    """

    uniform_only: bool
    own_types: bool
    unified_pages: bool
    near: float
    from_groups: bool
    projected: bool
    all_groups: bool
    null_block: bool
    tokens_of_concurrency: bool
    in_flight: bool
    pads_states: bool
    pads_attention: bool
    merges: bool
    value_width: bool
    window_value_width: bool
    state_modes: bool
    checkpoint_kv_dtype: bool
    backend_blocks: bool
    override_checked: bool
    bucketed: bool


@functools.lru_cache(maxsize=128)
def rules(release: Version) -> Rules:
    """The rules of one release."""

    def since(version: str) -> bool:
        return release >= Version(version)

    return Rules(
        uniform_only=not since("0.9.1"),
        own_types=since("0.11.0"),
        unified_pages=since("0.12.0"),
        near=1.5 if since("0.18.0") else 1.25 if since("0.12.0") else 0,
        from_groups=since("0.14.0"),
        projected=since("0.17.0"),
        all_groups=since("0.19.0"),
        null_block=since("0.29.0"),
        tokens_of_concurrency=since("0.20.1"),
        in_flight=since("0.26.0"),
        pads_states=since("0.26.0"),
        pads_attention=since("0.24.0"),
        merges=since("0.27.0"),
        value_width=since("0.14.0"),
        window_value_width=since("0.20.0"),
        state_modes=since("0.15.0"),
        checkpoint_kv_dtype=since("0.14.0"),
        backend_blocks=since("0.18.0"),
        override_checked=since("0.20.1"),
        bucketed=since("0.23.0"),
    )


@dataclasses.dataclass(frozen=True)
class Page:
    """A block of each of some layers that keep the same.

    family: layers of one family need the same number of tokens; identity: what else must be equal for layers to be of
    one type; layers: their numbers; tokens: tokens of a block; unit: bytes of one token (0 for a state); size: bytes of
    a block; window: tokens of a window or chunk; fixed: blocks of a request whatever its length (0: as its length
    says); is_latent: MLA, whose pages cannot be padded.
    """

    family: Family
    identity: tuple[t.Hashable, ...]
    layers: tuple[int, ...]
    tokens: int
    unit: int
    size: int
    window: int = 0
    fixed: int = 0
    is_latent: bool = False

    def resized(self, size: int) -> Page:
        """With a block of another size: more tokens where that is a multiple, else padded."""
        if self.family != "state" and size % self.size == 0:
            return dataclasses.replace(self, tokens=self.tokens * (size // self.size), size=size)
        return dataclasses.replace(self, size=size)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What decides how many blocks a request needs beside its length. Tokens, and ways that tokens are shared."""

    in_flight: int
    shares: int
    encoder: int

    def blocks(self, page: Page, length: int) -> int:
        """Blocks that one request of so many tokens needs: max_memory_usage_bytes of the specs."""
        if page.fixed:
            return page.fixed
        if page.family == "sliding":
            return up(min(page.window - 1 + self.in_flight, length), page.tokens) + 1
        if page.family == "chunked":
            return up(min(page.window + self.in_flight, length), page.tokens)
        if page.family == "cross":
            return up(self.encoder, page.tokens)
        return up(up(length, self.shares), page.tokens)


def limits(shape: Geometry, chosen: Settings) -> Limits:
    """max_in_flight_tokens in config/vllm.py of 0.26.0; context parallelism as FullAttentionSpec counts it."""
    asked, stages = chosen.asked, chosen.asked.pipeline_parallel
    batches = stages
    if chosen.async_scheduling:
        batches = stages + 1 if chosen.runner == 2 else 2 if stages == 1 else stages
    in_flight = chosen.max_num_batched_tokens * (batches if rules(chosen.release).in_flight else 1)
    shares = asked.decode_context_parallel
    # Prefill context parallelism splits the cache from 0.12.0 to 0.25.1.
    if version_of("0.12.0") <= chosen.release < version_of("0.26.0"):
        shares *= asked.prefill_context_parallel
    encoder = count(shape.config, "max_source_positions", 0) or chosen.max_num_batched_tokens
    return Limits(in_flight, shares, encoder)


def pages(shape: Geometry, chosen: Settings, device: Device | None = None) -> tuple[tuple[Page, ...], int]:
    """The kinds of pages in the order of their first layer, and the tokens of a block (CacheConfig.block_size).

    Raises Unreadable where the sizes of config.json leave nothing to keep.
    """
    found, block = _pages(shape, chosen, device)
    if not all(page.size > 0 for page in found):
        raise _empty(shape, chosen)
    return found, block


def _empty(shape: Geometry, chosen: Settings) -> Unreadable:
    return Unreadable(
        f"the sizes that config.json gives leave a layer nothing to keep in a KV cache of the type "
        f"{cache_dtype(shape, chosen)} on {chosen.asked.tensor_parallel} GPUs"
    )


def _pages(shape: Geometry, chosen: Settings, device: Device | None) -> tuple[tuple[Page, ...], int]:
    if shape.keeps("window_mla"):
        return _compressed_pages(shape, chosen), _COMPRESSED_BLOCK
    kv_dtype = cache_dtype(shape, chosen)
    value_bytes = _DTYPE_BYTES.get(kv_dtype, _model_bytes(chosen) if kv_dtype == "auto" else 1)
    attention = [
        (cache, layers, _unit(shape, chosen, cache, kv_dtype, value_bytes))
        for cache, layers in _kept(shape, chosen)
        if cache.kind != "state"
    ]
    states = [(cache, layers) for cache, layers in shape.layouts if cache.kind == "state"]
    block = _block(shape, chosen, device, kv_dtype)
    raw = [_state_bytes(shape, chosen, cache) for cache, layers in states]
    padded = 0
    if states and attention:
        unit = _first_unit(shape, chosen, attention, kv_dtype, value_bytes)
        if unit < 1:
            raise _empty(shape, chosen)
        block = _hybrid_block(shape, chosen, device, block, unit, max(raw))
        padded = block * unit
    found = [_attention_page(chosen, cache, layers, unit, block) for cache, layers, unit in attention]
    found += [
        _state_page(shape, chosen, device, cache, layers, max(size, padded), block)
        for (cache, layers), size in zip(states, raw, strict=True)
    ]
    return tuple(sorted(found, key=lambda page: page.layers[0])), block


def _compressed_pages(shape: Geometry, chosen: Settings) -> tuple[Page, ...]:
    """deepseek_v4: vllm/models/deepseek_v4/attention.py and compressor.py, v1/attention/backends/mla/sparse_swa.py.

    Entries are 584 bytes in 8 bits, whole values where 16 bits are asked for; pages are multiples of 576 or 512.
    """
    wide = chosen.asked.kv_cache_dtype in _DTYPE_BYTES
    multiple = 512 if wide else 576
    found = []
    for cache, layers in shape.layouts:
        unit = cache.key * 2 if wide else 584
        tokens = _COMPRESSED_BLOCK
        if cache.kind == "indexer":
            unit = cache.key + cache.key // 128 * 4
        if cache.kind == "window_mla":
            tokens = 64
        elif cache.kind == "partial":
            tokens, unit = 4 if cache.ratio == 4 else 8, cache.key * 4
        ratio = cache.ratio if cache.kind in ("compressed", "indexer") else 1
        size = up(tokens // ratio * unit, multiple) * multiple
        family: Family = "sliding" if cache.window else "full"
        identity = (cache.kind, cache.key, cache.ratio)
        found.append(Page(family, identity, layers, tokens, unit, size, cache.window, 0, True))
    return tuple(found)


def _kept(shape: Geometry, chosen: Settings) -> t.Iterable[tuple[Cache, tuple[int, ...]]]:
    """Like caches with their layers; a draft model's layers come behind the model's own."""
    return (*shape.layouts, *_drafts(shape, chosen))


def _drafts(shape: Geometry, chosen: Settings) -> tuple[tuple[Cache, tuple[int, ...]], ...]:
    """Layers of the checkpoint that draft (MTP): they attend as the model's last attending layer does."""
    method = str((chosen.asked.speculative or {}).get("method", ""))
    if not chosen.speculative_tokens or not shape.draft_layers or not (method.endswith("mtp") or not method):
        return ()
    numbers = tuple(range(shape.layers, shape.layers + shape.draft_layers))
    last = max((layers[-1] for cache, layers in shape.layouts if cache.kind != "state"), default=-1)
    return tuple((cache, numbers) for cache, layers in shape.layouts if cache.kind != "state" and layers[-1] == last)


def cache_dtype(shape: Geometry, chosen: Settings) -> str:
    """The name of the KV cache's type.

    resolve_kv_cache_dtype_string in utils/torch_utils.py of 0.14.0; DeepseekV32ForCausalLM in
    model_executor/models/config.py of 0.11.0 and 0.12.0, _resolve_kv_cache_dtype of mla_attention.py later.
    """
    asked = chosen.asked.kv_cache_dtype
    if asked == "auto" and rules(chosen.release).checkpoint_kv_dtype:
        asked = _checkpoint_dtype(shape)
    sparse = shape.keeps("indexer")
    if sparse and (asked.startswith("fp8") or (asked == "auto" and chosen.release < version_of("0.11.1"))):
        return "fp8_ds_mla"
    return asked


def _checkpoint_dtype(shape: Geometry) -> str:
    """get_kv_cache_quant_algo_string in utils/torch_utils.py of 0.32.0: what a checkpoint of ModelOpt says."""
    found = shape.quantization_config
    if not word(found, "quant_method").startswith("modelopt"):
        return "auto"
    inner = mapping(found, "quantization") or found
    scheme = inner.get("kv_cache_scheme") or found.get("kv_cache_scheme")
    scheme = scheme or inner.get("kv_cache_quant_algo") or found.get("kv_cache_quant_algo")
    if isinstance(scheme, dict):
        bits = scheme.get("num_bits") if scheme.get("type") == "float" else None
        scheme = "fp8" if bits == 8 and scheme.get("dynamic") is False else "nvfp4" if bits == 4 else None
    return {"fp8": "fp8_e4m3", "nvfp4": "nvfp4"}.get(str(scheme).lower(), "auto")


def _model_bytes(chosen: Settings) -> int:
    """Bytes of a value of the model: 32 bits only where they are asked for."""
    return 4 if chosen.asked.dtype in _FLOAT32 else 2


def _unit(shape: Geometry, chosen: Settings, cache: Cache, kv_dtype: str, value_bytes: int) -> int:
    """Bytes of one token of one layer on one GPU."""
    release = chosen.release
    if cache.kind == "indexer":
        # deepseek_v2.py of 0.11.0: the keys in 8 bits, and a 32-bit scale for each 128 of them.
        return cache.key + cache.key // 128 * 4
    if cache.kind == "mla":
        if kv_dtype in _PACKED_LATENT:
            return _PACKED_LATENT[kv_dtype]
        width = cache.key // 2 if kv_dtype == "int4_per_token_head" else cache.key
        return width * value_bytes
    heads = max(1, cache.heads // chosen.asked.tensor_parallel)
    has_value = rules(release).window_value_width if cache.kind == "sliding" else rules(release).value_width
    value = cache.value if has_value else cache.key
    if kv_dtype in _TURBOQUANT:
        return heads * _turboquant(cache.key, *_TURBOQUANT[kv_dtype])
    if kv_dtype.startswith("nvfp4"):
        # nvfp4_kv_cache_full_dim in utils/torch_utils.py of 0.20.0: 4 bits a value, and a byte for each 16.
        return heads * sum(width // 2 + width // 16 for width in (cache.key, value))
    if kv_dtype.endswith("_per_token_head"):
        width = (cache.key // 2 + value // 2) if kv_dtype.startswith("int4") else cache.key + value
        return heads * (width + 8)
    return heads * (cache.key + value) * value_bytes


def _turboquant(width: int, key_bits: int, value_bits: int) -> int:
    """slot_size_aligned in quantization/turboquant/config.py of 0.32.0."""
    key = width if key_bits == 8 else math.ceil(width * key_bits / 8) + 2
    slot = key + math.ceil(width * value_bits / 8) + 4
    return slot + slot % 2


def _first_unit(
    shape: Geometry,
    chosen: Settings,
    attention: list[tuple[Cache, tuple[int, ...], int]],
    kv_dtype: str,
    value_bytes: int,
) -> int:
    """The token that the blocks of hybrid models are aligned to: that of the model's own heads."""
    if shape.mla_width:
        return attention[0][2]
    own = Cache(0, "full", shape.kv_heads, shape.head_dim, shape.head_dim)
    return _unit(shape, chosen, own, kv_dtype, value_bytes)


def _attention_page(chosen: Settings, cache: Cache, layers: tuple[int, ...], unit: int, block: int) -> Page:
    family: Family = "full"
    if cache.kind in ("sliding", "chunked", "cross"):
        family = t.cast(Family, cache.kind)
    identity = (cache.kind, cache.heads, cache.key, cache.value, cache.window, unit)
    return Page(family, identity, layers, block, unit, unit * block, cache.window, 0, cache.kind in ("mla", "indexer"))


def _block(shape: Geometry, chosen: Settings, device: Device | None, kv_dtype: str) -> int:
    """CacheConfig.block_size before states are looked at.

    check_and_update_config in platforms/cuda.py of 0.8.0 to 0.17.1; update_block_size_for_backend in
    platforms/interface.py from 0.18.0 on with the priorities of backends in platforms/cuda.py; platforms/cpu.py.
    """
    asked = chosen.block_size
    if device is not None and device.kind == "cpu":
        return asked or (_CPU_BLOCK if chosen.release >= version_of("0.10.0") else _DEFAULT_BLOCK)
    capability = 90 if device is None else device.capability
    backend = (chosen.asked.attention_backend or "").upper()
    block = asked or _DEFAULT_BLOCK
    if not shape.mla_width or (device is not None and device.is_amd):
        return block
    sparse = shape.keeps("indexer")
    if rules(chosen.release).backend_blocks:
        return asked or _latent_block(chosen, capability, backend, sparse, kv_dtype)
    if sparse:
        return 64
    if chosen.release < version_of("0.8.0"):
        return block
    if backend == "FLASHINFER_MLA":
        return block if block == 32 or block % 64 == 0 else 64
    if backend == "CUTLASS_MLA" or (not backend and 100 <= capability < 110 and chosen.release >= version_of("0.10.0")):
        return block if block % 128 == 0 else 128
    if backend == "FLASHMLA" or (not backend and capability == 90):
        return block if block % 64 == 0 else 64
    return block


def _latent_block(chosen: Settings, capability: int, backend: str, sparse: bool, kv_dtype: str) -> int:
    if sparse:
        # FLASHMLA_SPARSE and the indexer take 64; FLASHINFER_MLA_SPARSE 32 as well, until 0.32.0 asked all backends.
        flashinfer = 100 <= capability < 110 and kv_dtype not in _WIDE and chosen.release < version_of("0.32.0")
        return 32 if flashinfer or backend == "FLASHINFER_MLA_SPARSE" else 64
    sizes = {"FLASHMLA": 64, "CUTLASS_MLA": 128, "FLASHINFER_MLA": 32, "FLASH_ATTN_MLA": 16, "TRITON_MLA": 16}
    if backend in sizes:
        return sizes[backend]
    if 100 <= capability < 110:
        return 32
    # FLASH_ATTN_MLA comes first on Hopper, and knows no quantized cache.
    return 64 if capability == 90 and kv_dtype not in _WIDE else _DEFAULT_BLOCK


def _hybrid_block(shape: Geometry, chosen: Settings, device: Device | None, block: int, unit: int, state: int) -> int:
    """Tokens of a block that is at least as large as a state.

    HybridAttentionMambaModelConfig in model_executor/models/config.py of 0.10.0 to 0.19.1, _align_hybrid_block_size in
    platforms/interface.py from 0.20.0 on.
    """
    release = chosen.release
    capability = 90 if device is None else device.capability
    align = _DEFAULT_BLOCK
    if shape.mla_width and release >= version_of("0.11.0"):
        align = 128 if (chosen.asked.attention_backend or "").upper() == "CUTLASS_MLA" else 64
    elif release >= version_of("0.11.1") and 100 <= capability < 110 and shape.head_dim == 256:
        align = 32
    if release >= version_of("0.20.0"):
        align = max(block, 128 if shape.mla_width and release >= version_of("0.27.0") else 1)
        exporting = [cache for cache, _layers in shape.layouts if cache.mixer == "gdn"]
        if exporting and state_mode(shape, chosen) == "align" and _exports(shape, chosen, device, exporting[0]):
            align = math.lcm(align, 64)
    if state_mode(shape, chosen) == "all":
        chunk = math.lcm(chosen.asked.mamba_block_size or _chunk(shape), align)
        return max(block, chunk * up(up(state, unit), chunk))
    return max(block, align * up(state, align * unit))


def _chunk(shape: Geometry) -> int:
    """get_mamba_chunk_size in config/model.py of 0.16.0."""
    return count(shape.config, "mamba_chunk_size", 0) or count(shape.config, "chunk_size", 0) or 2048


_ALL_MODE_MIXERS = ("mamba1", "mamba2")


def state_mode(shape: Geometry, chosen: Settings) -> str:
    """mamba_cache_mode: none, align or all; MambaModelConfig in model_executor/models/config.py of 0.13.0 to 0.32.0.

    Models of Mamba 1 and 2 support all (SupportsMambaPrefixCaching), which ends with 0.31.0.
    """
    release = chosen.release
    if not chosen.prefix_caching or release < version_of("0.11.0"):
        return "none"
    supports = all(cache.mixer in _ALL_MODE_MIXERS for cache, _layers in shape.layouts if cache.kind == "state")
    if not rules(release).state_modes:
        return "all" if supports else "none"
    wish = chosen.asked.mamba_cache_mode
    if release >= version_of("0.32.0"):
        return "align"
    return "all" if supports and wish != "align" else "align"


def _state_page(
    shape: Geometry,
    chosen: Settings,
    device: Device | None,
    cache: Cache,
    layers: tuple[int, ...],
    size: int,
    block: int,
) -> Page:
    """A state, whose blocks do not grow with the request unless prefixes are cached in all of them.

    MambaSpec.max_memory_usage_bytes: one block in 0.14.1; 1, 2 or all blocks, and one for each drafted token, later.
    """
    mode, drafted = state_mode(shape, chosen), chosen.speculative_tokens
    identity = ("state", cache.mixer, cache.sizes)
    if mode == "all":
        tokens = chosen.asked.mamba_block_size if not _attends(shape) else block
        return Page("state", identity, layers, tokens or block, 0, size)
    fixed = 1 + (drafted if rules(chosen.release).state_modes else 0)
    if mode == "align":
        fixed += 1 + _exports(shape, chosen, device, cache)
    tokens = block if mode == "align" else chosen.max_model_len
    return Page("state", identity, layers, tokens, 0, size, 0, fixed)


def _exports(shape: Geometry, chosen: Settings, device: Device | None, cache: Cache) -> bool:
    """Whether a layer writes a checkpoint amid a prefill, which takes a block: num_prefill_checkpoint_blocks.

    mamba_mixer2.py of 0.32.0; qwen_gdn_linear_attn.py of 0.33.0 with FlashInfer; kimi_k3/nvidia/kda.py of 0.31.0 with
    FlashKDA, which needs a bounded gate.
    """
    capability = 90 if device is None else device.capability
    if cache.mixer == "mamba2":
        return chosen.release >= version_of("0.32.0")
    if cache.mixer == "gdn":
        fast = capability == 90 or (capability >= 100 and cache.sizes[2] == 128)
        return fast and chosen.release >= version_of("0.33.0")
    bounded = mapping(shape.config, "linear_attn_config").get("gate_lower_bound") is not None
    fast = capability >= 90 and cache.sizes[1] == 128 and bounded
    return cache.mixer == "kda" and fast and chosen.release >= version_of("0.31.0")


def _attends(shape: Geometry) -> bool:
    """Whether any layer keeps keys."""
    return any(cache.kind != "state" for cache, _layers in shape.layouts)


def _state_bytes(shape: Geometry, chosen: Settings, cache: Cache) -> int:
    """Bytes of one layer's states: MambaStateShapeCalculator in layers/mamba/mamba_utils.py of 0.32.0."""
    ranks, drafted = chosen.asked.tensor_parallel, chosen.speculative_tokens
    model = _model_bytes(chosen)
    kept = _DTYPE_BYTES.get(chosen.asked.mamba_cache_dtype, model)
    recurrent = _recurrent_bytes(shape, chosen, kept)
    sizes = cache.sizes
    if cache.mixer == "mamba1":
        wide, state, kernel = sizes
        return wide // ranks * (kernel - 1) * kept + wide // ranks * state * recurrent
    if cache.mixer == "mamba2":
        wide, groups, heads, head, state, kernel = sizes
        if groups % ranks:
            groups = ranks
        conv = (wide + 2 * groups * state) // ranks * (kernel - 1 + _extra(chosen, drafted)) * kept
        return conv + heads // ranks * head * state * recurrent
    if cache.mixer == "gdn":
        keys, values, key, value, kernel = sizes
        conv = (key * keys * 2 + value * values) // ranks * (kernel - 1 + drafted) * kept
        return conv + values // ranks * value * key * recurrent
    if cache.mixer == "kda":
        heads, head, kernel = sizes
        conv = 3 * heads * head // ranks * (kernel - 1 + drafted) * kept
        wish = chosen.asked.mamba_ssm_cache_dtype
        return conv + heads // ranks * head * head * (_DTYPE_BYTES.get(wish, 4))
    if cache.mixer == "linear":
        heads, head = sizes
        return heads // ranks * head * head * kept
    wide, kernel = sizes
    return wide // ranks * (kernel - 1) * kept


def _extra(chosen: Settings, drafted: int) -> int:
    """Mamba 2 keeps room for drafted tokens since it can be speculated with: mamba_utils.py of 0.16.0 has no such."""
    return drafted if chosen.release >= version_of("0.17.0") else 0


# MODELS_CONFIG_MAP in model_executor/models/config.py: architectures whose configuration names the type of recurrent
# states, the key, what counts without it, and the first release.
_STATE_TYPES = {
    "NemotronHForCausalLM": ("mamba_ssm_cache_dtype", "float32", Version("0.13.0")),
    "NemotronHPuzzleForCausalLM": ("mamba_ssm_cache_dtype", "float32", Version("0.16.0")),
    "NemotronH_Nano_VL_V2": ("mamba_ssm_cache_dtype", "float32", Version("0.20.0")),
    "Qwen3_5ForConditionalGeneration": ("mamba_ssm_dtype", "auto", Version("0.17.0")),
    "Qwen3_5MoeForConditionalGeneration": ("mamba_ssm_dtype", "auto", Version("0.17.0")),
    "Qwen3_5ForCausalLM": ("mamba_ssm_dtype", "auto", Version("0.28.0")),
    "Qwen3_5MoeForCausalLM": ("mamba_ssm_dtype", "auto", Version("0.28.0")),
}

# For configurations that name no architecture.
_STATE_ARCHITECTURES = {
    "nemotron_h": "NemotronHForCausalLM",
    "qwen3_5": "Qwen3_5ForConditionalGeneration",
    "qwen3_5_moe": "Qwen3_5MoeForConditionalGeneration",
}


def _recurrent_bytes(shape: Geometry, chosen: Settings, kept: int) -> int:
    """Bytes of a value of a recurrent state: mamba_ssm_cache_dtype, or what the model's configuration says."""
    asked = chosen.asked.mamba_ssm_cache_dtype
    architecture = shape.architecture or _STATE_ARCHITECTURES.get(shape.model_type, "")
    key, default, since = _STATE_TYPES.get(architecture, ("", "", chosen.release))
    if asked == "auto" and key and chosen.release >= since:
        asked = word(shape.config, key) or default
    return _DTYPE_BYTES.get(asked, kept)
