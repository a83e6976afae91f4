# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The activation peak: recorded starts that the formulas were not fitted to, and what must change it and what not."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.activation import activation, persistent
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, settings
from support.memory import A100, CPU, H100, L4, T4, config, settled

OPT = config("OPTForCausalLM", 768, 3072, 50272, model_type="opt", max_position_embeddings=2048)
LLAMA_3B = config("LlamaForCausalLM", 3072, 8192, 128256)
LLAMA_8B = config("LlamaForCausalLM", 4096, 14336, 128256)
CODELLAMA = config("LlamaForCausalLM", 4096, 11008, 32016)
QWEN3_06B = config("Qwen3ForCausalLM", 1024, 3072, 151936)
QWEN3_14B = config("Qwen3ForCausalLM", 5120, 17408, 151936)
GEMMA2 = config("Gemma2ForCausalLM", 3584, 14336, 256000, model_type="gemma2")
QWEN3_MOE = config(
    "Qwen3MoeForCausalLM",
    2048,
    6144,
    151936,
    model_type="qwen3_moe",
    num_experts=128,
    num_experts_per_tok=8,
    moe_intermediate_size=768,
)
QWEN15_MOE = config(
    "Qwen2MoeForCausalLM",
    2048,
    5632,
    151936,
    model_type="qwen2_moe",
    num_experts=60,
    num_experts_per_tok=4,
    moe_intermediate_size=1408,
)
GPT_OSS = config(
    "GptOssForCausalLM",
    2880,
    2880,
    201088,
    model_type="gpt_oss",
    num_local_experts=32,
    num_experts_per_tok=4,
    quantization_config={"quant_method": "mxfp4"},
)
GEMMA3_12B = config(
    "Gemma3ForConditionalGeneration",
    3840,
    15360,
    262208,
    model_type="gemma3_text",
    vision_config={"hidden_size": 1152, "image_size": 896},
)


def peak(
    release: str,
    device: Device,
    model: t.Mapping[str, t.Any],
    env: t.Mapping[str, str] | None = None,
    stage: int = 0,
    **engine: t.Any,
) -> Term:
    """The term of a start."""
    shape, chosen = settled(release, device, model, env, **engine)
    return activation(shape, chosen, device, stage)


def gib(term: Term) -> float:
    """What is expected, GiB."""
    return term.expected / GIB


@pytest.mark.parametrize(
    ("release", "device", "model", "engine", "logged"),
    [
        # The sorting sampler, V0 and V1, T4 to H100.
        ("0.8.3", L4, OPT, {"env": {"VLLM_USE_V1": "0"}}, 0.47),
        ("0.8.5", T4, LLAMA_3B, {"max_model_len": 2048, "max_num_seqs": 160}, 0.75),
        ("0.7.3", T4, LLAMA_8B, {"max_num_seqs": 160, "max_num_batched_tokens": 1024, "max_model_len": 1024}, 0.74),
        ("0.11.0", H100, QWEN3_06B, {}, 5.56),
        ("0.11.0", H100, LLAMA_8B, {}, 4.76),
        ("0.11.0", H100, GPT_OSS, {}, 7.38),
        ("0.16.0", H100, QWEN3_14B, {}, 5.64),
        # The kernel that needs no sorted copy.
        ("0.17.0", H100, QWEN3_14B, {}, 2.23),
        ("0.19.0", H100, GEMMA2, {}, 3.65),
        ("0.19.0", H100, LLAMA_8B, {"tensor_parallel_size": 4}, 1.89),
        ("0.19.0", H100, LLAMA_8B, {"dtype": "float32"}, 2.21),
        ("0.19.0", H100, LLAMA_8B, {"pipeline_parallel_size": 4, "stage": 3}, 2.01),
        # The forward pass is more than the sampler.
        ("0.19.0", H100, CODELLAMA, {}, 0.77),
        # Experts, but for those in four bits.
        ("0.19.0", H100, QWEN3_MOE, {}, 2.68),
        ("0.19.0", H100, QWEN15_MOE, {}, 2.47),
        ("0.19.0", H100, GPT_OSS, {"tensor_parallel_size": 2}, 2.87),
        # Images that stay until the profile run ends.
        ("0.19.0", H100, GEMMA3_12B, {}, 3.94),
    ],
)
def test_recorded_peaks(
    release: str, device: Device, model: dict[str, t.Any], engine: dict[str, t.Any], logged: float
) -> None:
    term = peak(release, device, model, **engine)
    assert gib(term) == pytest.approx(logged, abs=0.012)
    assert term.low <= (logged + 0.005) * GIB
    assert (logged - 0.005) * GIB <= term.high


def test_fewer_requests_take_less() -> None:
    sizes = [peak("0.19.0", L4, LLAMA_8B, max_num_seqs=count).expected for count in (16, 64, 256, 1024)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 3


def test_fewer_tokens_take_less() -> None:
    sizes = [peak("0.19.0", L4, LLAMA_8B, max_num_batched_tokens=count).expected for count in (512, 2048, 16384)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 3


@pytest.mark.parametrize("model", [LLAMA_8B, QWEN3_MOE, GPT_OSS, GEMMA3_12B])
@pytest.mark.parametrize("release", ["0.7.3", "0.10.2", "0.19.0", "0.26.0", "0.33.0"])
def test_more_gpus_never_take_more_each(release: str, model: dict[str, t.Any]) -> None:
    sizes = [peak(release, H100, model, tensor_parallel_size=count).expected for count in (1, 2, 4, 8)]
    assert sizes == sorted(sizes, reverse=True)


def test_a_few_rows_are_sorted_with_every_release() -> None:
    # Below eight rows the kernel without a sorted copy is not used.
    seven, eight = (gib(peak("0.19.0", L4, GEMMA2, max_num_seqs=count, max_num_batched_tokens=16)) for count in (7, 8))
    assert seven > eight


def test_the_second_runner_samples_without_copies() -> None:
    first = peak("0.26.0", H100, LLAMA_8B, env={"VLLM_USE_V2_MODEL_RUNNER": "0"})
    second = peak("0.26.0", H100, LLAMA_8B)
    assert second.expected < first.expected


def test_pooling_models_do_not_sample() -> None:
    pooling = config("MistralModel", 4096, 14336, 128256, model_type="mistral")
    assert peak("0.19.0", H100, pooling).expected < 0.6 * peak("0.19.0", H100, LLAMA_8B).expected


def test_only_the_last_stage_samples() -> None:
    first, last = (peak("0.19.0", H100, LLAMA_8B, pipeline_parallel_size=2, stage=at) for at in (0, 1))
    assert gib(first) == pytest.approx(1.11, abs=0.02)
    assert gib(last) == pytest.approx(2.01, abs=0.01)


def test_an_installed_flashinfer_is_within_the_interval() -> None:
    # One start of 0.11.0 took 2.1 GiB where the sorting sampler takes 4.9.
    assert peak("0.11.0", H100, LLAMA_8B).low < 2.1 * GIB
    assert peak("0.16.0", H100, LLAMA_8B).low > 3 * GIB


@pytest.mark.parametrize("engine", [{"language_model_only": True}, {"limit_mm_per_prompt": {"image": 0, "video": 0}}])
def test_no_images_no_encoder(engine: dict[str, t.Any]) -> None:
    assert gib(peak("0.19.0", H100, GEMMA3_12B, **engine)) == pytest.approx(3.74, abs=0.01)


def test_v0_samples_for_as_many_requests_as_images_fit() -> None:
    with_images = {**LLAMA_8B, "model_type": "qwen2_5_vl_text", "vision_config": {"depth": 32}}
    # One image of 16384 tokens leaves one request; its encoder is the peak, 65536 patches of 11960 values.
    term = peak("0.7.3", A100, with_images, max_model_len=4096)
    assert gib(term) == pytest.approx(1.46 + 0.27, abs=0.02)


def test_what_stays_is_apart_from_0_27_0_on() -> None:
    asked = read_asked({}, {})[0]
    shape = geometry(QWEN3_MOE)
    sizes = []
    for release in ("0.26.0", "0.27.0"):
        chosen = settings(release, asked, shape, H100)
        assert persistent(shape, chosen, H100) > 0.5 * GIB
        sizes.append(activation(shape, chosen, H100).expected)
    assert sizes[0] - sizes[1] == pytest.approx(persistent(shape, chosen, H100), rel=0.01)


def test_latents_of_long_contexts() -> None:
    latent = config(
        "DeepseekV3ForCausalLM",
        2048,
        2048,
        32000,
        model_type="deepseek_v3",
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        qk_nope_head_dim=128,
        v_head_dim=128,
        num_attention_heads=128,
    )
    # 65536 tokens x 128 heads x 256 values x 2 bytes.
    assert gib(peak("0.19.0", H100, latent, max_num_seqs=16)) > 4
    assert gib(peak("0.19.0", H100, latent, max_num_seqs=16, tensor_parallel_size=8)) < 1


def test_the_host_has_no_such_term() -> None:
    assert peak("0.32.0", CPU, LLAMA_8B) == Term("activation", 0, 0, 0)


@pytest.mark.parametrize(("release", "device"), [("0.19.0", H100), ("0.16.0", A100), ("0.33.0", A100)])
def test_intervals_hold_what_is_expected(release: str, device: Device) -> None:
    term = peak(release, device, LLAMA_8B)
    assert 0 <= term.low < term.expected < term.high


def test_the_further_from_what_is_calibrated_the_wider() -> None:
    widths = [
        (term.high - term.low) / term.expected
        for term in (peak(release, H100, LLAMA_8B) for release in ("0.19.0", "0.16.0", "0.33.0"))
    ]
    assert widths == sorted(widths)
    assert len(set(widths)) == 3


PIXTRAL = config(
    "Mistral3ForConditionalGeneration",
    5120,
    32768,
    131072,
    model_type="mistral",
    vision_config={"hidden_size": 1024},
)


def with_packages(release: str, device: Device, model: t.Mapping[str, t.Any], packages: t.Mapping[str, str]) -> float:
    return gib(activation(*settled(release, device, model, packages=packages), device))


def test_the_packages_of_the_image_decide() -> None:
    # Mistral-Small-3.2-24B on 0.11.0: llm-d-incubation/llm-d-planner, docs/empirical-vllm-memory-results.md.
    assert with_packages("0.11.0", H100, PIXTRAL, {"flashinfer-python": "0.3.1"}) == pytest.approx(2.12, abs=0.05)
    assert with_packages("0.11.0", H100, PIXTRAL, {}) > 4.5


def test_items_are_spread_out_by_some_releases() -> None:
    sizes = [with_packages(release, L4, GEMMA3_12B, {}) for release in ("0.10.2", "0.11.0", "0.12.0", "0.14.0")]
    assert sizes[0] < sizes[1]
    assert sizes[3] < sizes[2]


def test_the_first_releases_of_v1_have_logits_of_every_token() -> None:
    env = {"VLLM_USE_V1": "1"}
    every, rows, sampled = (
        gib(peak(release, H100, LLAMA_3B, env=env, max_num_seqs=16, max_num_batched_tokens=8192))
        for release in ("0.7.2", "0.7.3", "0.8.0")
    )
    assert every > 8192 * 128256 * 2 / GIB > rows
    assert sampled >= rows
