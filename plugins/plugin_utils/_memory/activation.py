# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a start's profile run takes at its peak beside the weights. Pure.

profile_run (v1/worker/gpu_model_runner.py of 0.19.0, worker/model_runner.py of 0.8.5) runs the encoder of images, then
the decoder with max_num_batched_tokens tokens, then the sampler with max_num_seqs rows of logits. The peak is the
greatest of these, with what stays from the steps before. All sizes follow from the tensors that the source makes; the
recorded starts confirm them, and give the width of the interval (data/memory/terms.json).
"""

from __future__ import annotations

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import MIB
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.sampler import Way, sampler, ways
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.spread import around, basis

# v1/worker/workspace.py: from here on the buffers of experts stay when the forward pass is over.
_KEPT_WORKSPACE = Version("0.14.0")
# Intermediate values of experts: moe_intermediate of one chunk at most, VLLM_FUSED_MOE_CHUNK_SIZE in envs.py.
_SMALL_CHUNK, _NO_CHUNK = Version("0.12.0"), Version("0.18.0")
# memory_profiling in utils/mem_utils.py: from here on what stays is counted as consumed, not as activation.
PERSISTENT_APART = Version("0.27.0")
_ROWS_ALONE = Version("0.7.3")
_ONE_CACHE = Version("0.8.0")
_LATENT_PROFILED = Version("0.11.0")
# profile_run in v1/worker/gpu_model_runner.py: items are rounded up in 0.8.0 to 0.9.2, down in 0.10.2 and later
# (MultiModalBudget); each is spread out to the whole budget in 0.11.0 to 0.12.0, no longer in 0.14.0.
_WHOLE_ITEMS = Version("0.10.0")
_SPREAD_OUT = (Version("0.11.0"), Version("0.14.0"))
# Hidden states, residual, and what is made of them, as multiples of the hidden size. Two starts of 0.19.0 whose forward
# pass is the peak (intermediate sizes 11008 and 12800) leave as much beside the projections.
_STREAMS = 3.75


def activation(shape: Geometry, chosen: Settings, device: Device, stage: int = 0) -> Term:
    """Peak of the profile run on each GPU of one pipeline stage, bytes."""
    if device.kind == "cpu":
        return Term("activation", 0, 0, 0)
    expected, least = ways(chosen, device)
    peak = floor = _peak(shape, chosen, device, stage, expected)
    if least != expected:
        floor = _peak(shape, chosen, device, stage, least)
    elif chosen.engine == "V0" and chosen.chunked_prefill:
        # One start of V0 with chunked prefill took no more than its forward pass.
        floor = _peak(shape, chosen, device, stage, None)
    if chosen.release >= PERSISTENT_APART:
        stays = persistent(shape, chosen, device)
        peak, floor = peak - stays, floor - stays
    term = around("activation", peak, kind(shape, chosen), basis(chosen, device))
    return Term(term.name, min(term.low, max(0, int(floor) - (term.expected - term.low))), term.expected, term.high)


def persistent(shape: Geometry, chosen: Settings, device: Device) -> float:
    """Bytes that the profile run leaves allocated: the workspaces of cuBLAS and of the experts."""
    kept = _experts(shape, chosen) if chosen.release >= _KEPT_WORKSPACE else 0.0
    return _cublas(device) + kept


def value_bytes(chosen: Settings) -> int:
    """Bytes of one value in the forward pass; float32 checkpoints run in 16 bits unless float32 is asked for."""
    return 4 if chosen.asked.dtype in ("float32", "float") else 2


def kind(shape: Geometry, chosen: Settings) -> str:
    """Which kind of residuals the interval rests on."""
    return "multimodal" if chosen.is_multimodal else "moe" if shape.is_moe else "dense"


def _peak(shape: Geometry, chosen: Settings, device: Device, stage: int, way: Way | None) -> float:
    last = stage in (-1, chosen.asked.pipeline_parallel - 1) or chosen.asked.pipeline_parallel == 1
    width = value_bytes(chosen)
    tokens, hidden = chosen.max_num_batched_tokens, shape.hidden
    encoder, stays = _media(shape, chosen, width) if stage == 0 else (0.0, 0.0)
    stays += _cublas(device)
    if stage > 0:
        # Hidden states and residual that the stage before hands over (make_empty_intermediate_tensors).
        stays += 2 * width * tokens * hidden
    elif not last:
        # The same for the next stage, and the embeddings.
        stays += 3 * width * tokens * hidden
    experts = _experts(shape, chosen)
    forward = _forward(shape, chosen, width) + (0 if chosen.release >= _KEPT_WORKSPACE else experts)
    if chosen.release >= _KEPT_WORKSPACE:
        stays += experts
    sampled = 0.0
    if last and not chosen.is_pooling and way:
        # The hidden states of every token are still there, those of the rows to sample twice: taken out, and random.
        rows = _rows(shape, chosen)
        sampled = width * (tokens + 2 * rows) * hidden + sampler(shape, chosen, device, rows, way, width)
    return max(encoder, stays + max(forward, sampled))


def _cublas(device: Device) -> float:
    """getChosenWorkspaceSize in aten/src/ATen/cuda/CUDABlas.cpp of torch: 32 MiB on Hopper and data-centre Blackwell,
    about 8 MiB on others.
    """
    return 32 * MIB if device.capability in (90, 100, 103) else 8.125 * MIB


def _forward(shape: Geometry, chosen: Settings, width: int) -> float:
    """One decoder layer: gate and up projections and their product, input, output and residual."""
    tokens, tensor = chosen.max_num_batched_tokens, chosen.asked.tensor_parallel
    intermediate = shape.intermediate / tensor
    if shape.is_moe and shape.moe_layers >= shape.layers:
        # No dense layer: experts have their own buffers.
        intermediate = 0
    heads = (shape.heads + 2 * shape.kv_heads) * shape.head_dim / tensor
    layer = width * tokens * (max(3 * intermediate, heads) + _STREAMS * shape.hidden)
    return max(layer, width * (_STREAMS * tokens * shape.hidden + _latent(shape, chosen)))


def _latent(shape: Geometry, chosen: Settings) -> float:
    """Values that the prefill of long contexts makes of the latents of MLA, which the profile run makes room for:
    model_executor/layers/attention/mla_attention.py of 0.19.0, v1/attention/backends/mla/common.py of 0.11.0.
    """
    if not shape.mla_width or chosen.engine == "V0" or chosen.release < _LATENT_PROFILED:
        return 0.0
    block = chosen.block_size or 64
    tokens = min(max(8 * chosen.max_model_len, 4 * chosen.max_num_seqs * block), 65536)
    tokens = max(tokens, chosen.max_num_seqs * block)
    return tokens * shape.heads / chosen.asked.tensor_parallel * (shape.qk_nope + shape.v_head_dim)


def _experts(shape: Geometry, chosen: Settings) -> float:
    """Buffers of the experts of one layer: workspace_shapes in model_executor/layers/fused_moe/fused_moe.py of 0.19.0,
    intermediate_cache1 to 3 before. Kernels of 4-bit floats have none that shows.
    """
    if not shape.is_moe or shape.quantization in ("mxfp4", "modelopt", "modelopt_fp4", "nvfp4", "gpt_oss_mxfp4"):
        return 0.0
    asked, release = chosen.asked, chosen.release
    inner = shape.moe_intermediate / (1 if asked.expert_parallel else asked.tensor_parallel)
    tokens = chosen.max_num_batched_tokens * asked.data_parallel
    if release < _SMALL_CHUNK:
        tokens = min(tokens, 65536)
    elif release < _NO_CHUNK:
        tokens = min(tokens, 16384)
    if release >= _KEPT_WORKSPACE:
        row = max(inner, shape.hidden) + max(2 * inner, shape.hidden)
    elif release >= _ONE_CACHE:
        row = max(2 * inner, shape.hidden) + inner
    else:
        row = 3 * inner + shape.hidden
    return value_bytes(chosen) * tokens * shape.experts_per_token * row


def _rows(shape: Geometry, chosen: Settings) -> int:
    """Requests that the profile run samples for: max_num_seqs, fewer where there are fewer tokens.

    Until 0.7.2 V1 has logits of every token (profile_run in v1/worker/gpu_model_runner.py). With V0 each has an
    image of the largest size (profile_run of 0.8.5).
    """
    rows = min(chosen.max_num_seqs, chosen.max_num_batched_tokens)
    if chosen.engine == "V1" and chosen.release < _ROWS_ALONE:
        return chosen.max_num_batched_tokens
    if chosen.engine == "V0" and chosen.is_multimodal and shape.architecture not in _ENCODER_DECODER:
        return max(1, min(rows, chosen.max_num_batched_tokens // _item(shape)[0]))
    return rows


_ENCODER_DECODER = ("WhisperForConditionalGeneration",)


def _media(shape: Geometry, chosen: Settings, width: int) -> tuple[float, float]:
    """Of the encoder of images: (its own peak, what stays while the decoder runs): items and their embeddings.

    profile_run keeps both in variables until it ends; the budget is max_num_batched_tokens of embeddings, or one item
    where that is larger (MultiModalBudget in v1/worker/utils.py of 0.10.2).
    """
    asked = chosen.asked
    if shape.architecture in _ENCODER_DECODER:
        return _encoder_decoder(shape, chosen, width), 0.0
    if not chosen.is_multimodal or asked.language_model_only:
        return 0.0, 0.0
    if asked.limit_mm and all(value == 0 for value in asked.limit_mm.values()):
        return 0.0, 0.0
    item, patches, values, inner, wide = _item(shape)
    budget = max(chosen.max_num_batched_tokens, item)
    items = -(-budget // item) if chosen.release < _WHOLE_ITEMS else budget // item
    if chosen.engine == "V0":
        items = _rows(shape, chosen)
    tokens = items * item
    kept = width * tokens * (patches * values + shape.hidden)
    if chosen.engine == "V1" and _SPREAD_OUT[0] <= chosen.release < _SPREAD_OUT[1] and item < budget:
        # Each item's embeddings are copied into as many rows as all items may have, and the last item's stay as well.
        kept = width * (tokens * patches * values + (items * budget + item) * shape.hidden)
    return kept + width * tokens * patches * (4 * inner + 2 * wide), kept


# By how the decoder's model type begins: tokens of the largest image, patches for each token and values of each, hidden
# and intermediate size of the encoder. From the processing classes of model_executor/models of 0.19.0 and the models'
# own configurations: Gemma 3 reads 896 by 896 pixels in patches of 14 by 14; Qwen 16384 tokens at most, two frames of
# 14 by 14 or later 16 by 16 pixels; Llama 4 sixteen tiles of 336 by 336 and the whole; Pixtral 1540 by 1540.
_ITEMS = (
    ("gemma3", (256, 16, 588, 1152, 4304)),
    ("gemma4", (280, 9, 768, 1152, 4304)),
    ("qwen2_vl", (16384, 4, 1176, 1280, 5120)),
    ("qwen2_5_vl", (16384, 4, 1176, 1280, 3420)),
    ("qwen3_vl", (16384, 4, 1536, 1152, 4304)),
    ("qwen3_5", (16384, 4, 1536, 1152, 4304)),
    ("llama4", (2465, 4, 588, 1408, 5632)),
    ("mistral", (3025, 4, 588, 1024, 4096)),
)
# Others: as much for each token as the starts of one more model keep (Kimi-VL on 0.19.0).
_SOME_ITEM = (1024, 4, 1176, 1152, 4304)


def _item(shape: Geometry) -> tuple[int, int, int, int, int]:
    return next((item for start, item in _ITEMS if shape.model_type.startswith(start)), _SOME_ITEM)


def _encoder_decoder(shape: Geometry, chosen: Settings, width: int) -> float:
    """Whisper's encoder over the 1500 frames of every request of the batch (V0), or of those in the budget (V1)."""
    frames = 1500
    items = chosen.max_num_seqs if chosen.engine == "V0" else max(1, chosen.max_num_batched_tokens // frames)
    inner = shape.config.get("encoder_ffn_dim")
    wide = inner if isinstance(inner, int) else 4 * shape.hidden
    return width * items * frames * (2 * wide + 3.5 * shape.hidden)
