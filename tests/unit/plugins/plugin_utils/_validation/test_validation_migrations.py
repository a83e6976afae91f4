# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes the place of options and values, release by release, against the catalogue."""

from __future__ import annotations

import re
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Option, load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migrations import migrate, migrate_value
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migrations_options import MIGRATIONS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migrations_values import CHANGED
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.options import OWN_OPTIONS, check_options

RELEASES = catalogue.releases()
NEWEST = RELEASES[-1]
# Values that are no switch, number or choice of the catalogue's.
VALUES: dict[str, list[t.Any]] = {
    "speculative_model": ["[ngram]", "org/draft"],
    "speculative_config": [
        {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4},
        {"model": "org/draft", "num_speculative_tokens": 5},
    ],
    "guided_decoding_backend": ["xgrammar", "guidance", "xgrammar:no-fallback"],
    "structured_outputs_config": [{"backend": "xgrammar"}, {"backend": "auto", "disable_fallback": True}],
    "rope_scaling": [{"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}, {"type": "linear", "factor": 2.0}],
    "override_pooler_config": [{"pooling_type": "MEAN", "normalize": False}, {}],
    "pooler_config": [{"pooling_type": "MEAN"}],
    "eplb_config": [{"window_size": 500, "num_redundant_experts": 2}],
    "cuda_graph_sizes": [[256], [1, 2, 4]],
    "cudagraph_capture_sizes": [[1, 2, 4]],
    "attention_backend": ["FLASH_ATTN", "TRITON_ATTN", "NO_SUCH"],
    "attention_config": [{"backend": "FLASHINFER"}, {"flash_attn_version": 2}],
    "logging_config": [{"pylogging_config_file": "/etc/logging.json"}],
    "log_level": ["debug"],
    "hf_overrides": [{"rope_theta": 1e6}, {"architectures": ["A"]}],
    "override_generation_config": [{"temperature": 0.5}],
    "all2all_backend": ["naive"],
    "prompt_adapters": [["a=org/b"]],
}


def removed_options() -> list[str]:
    """Every option that some release had and a later one has not, but for those that are no business of the user's."""
    lives = {name: catalogue.life("options", name) for name in catalogue.names("options")}
    return [
        name
        for name, life in lives.items()
        if life is not None and (life.until is not None or len(life.spans) > 1) and name not in OWN_OPTIONS
    ]


def last_option(name: str) -> Option:
    """The option as the last release that has it has it."""
    version = next(version for version in reversed(RELEASES) if name in catalogue.facts("options", version))
    return load(version).options[name]


def values_of(name: str) -> list[t.Any]:
    """Values that the option took, one of each kind."""
    if name in VALUES:
        return VALUES[name]
    option = last_option(name)
    if option.on is not None:
        return [True, False]
    if option.choices:
        return list(option.choices)
    one: t.Any = {"int": 2, "size": 2, "float": 1.5, "json": {"a": 1}, "key=int": {"a": 1}}.get(option.type or "", "x")
    return [[one]] if option.kind == "list" else [one]


def written(engine: dict[str, t.Any], name: str, remedy: t.Mapping[str, t.Any]) -> ModelSpec:
    """The spec without the option and with the remedy."""
    rest = {key: value for key, value in engine.items() if key != name}
    sections = {"engine": {**rest, **remedy.get("engine", {})}, "env": remedy.get("env", {})}
    return ModelSpec(name="m", model="org/model", image="vllm/vllm-openai", **sections)


@pytest.mark.parametrize("name", removed_options())
def test_every_removed_option_names_its_replacement_or_says_that_there_is_none(name: str) -> None:
    until = catalogue.life("options", name).until
    assert until is not None, "an option that came back needs a look at its entry"
    after = RELEASES[RELEASES.index(until) + 1]
    assert MIGRATIONS[name].reason
    for value in values_of(name):
        for version in (after, NEWEST):
            answer = migrate(name, value, {name: value}, load(version))
            assert answer is not None
            assert answer.remedy is not None or re.match("Leave it out|Load|Use|Write", answer.advice), answer


def test_there_are_as_many_removed_options_as_ever() -> None:
    """Guards the parametrised test above against a catalogue that lost its history."""
    assert len(removed_options()) >= 68


@pytest.mark.parametrize(
    "name", [name for name, facts in catalogue.facts("options", NEWEST).items() if facts.get("deprecated")]
)
def test_everything_that_the_newest_release_deprecates_has_an_entry(name: str) -> None:
    assert name in MIGRATIONS


@pytest.mark.parametrize("name", MIGRATIONS)
def test_entries_are_of_names_that_exist_and_cite_releases(name: str) -> None:
    assert catalogue.life("options", name) is not None
    cited = re.findall(r"\bof (\d+\.\d+\.\d+(?:\.post\d)?(?:\.\d)?)", MIGRATIONS[name].source)
    assert cited and set(cited) <= set(RELEASES), MIGRATIONS[name].source


SPECULATION = {
    "speculative_model": "org/draft",
    "num_speculative_tokens": 5,
    "speculative_disable_by_batch_size": 32,
    "spec_decoding_acceptance_method": "typical_acceptance_sampler",
    "typical_acceptance_sampler_posterior_alpha": 0.3,
    "disable_logprobs_during_spec_decoding": False,
}
NGRAM = {"speculative_model": "[ngram]", "num_speculative_tokens": "5", "ngram_prompt_lookup_max": 4}
GUIDED = {"guided_decoding_backend": "xgrammar:no-fallback", "guided_decoding_disable_any_whitespace": True}
EPLB = {"num_redundant_experts": 2, "eplb_window_size": 500, "eplb_log_balancedness": True}
ROPE = {"rope_scaling": {"type": "yarn", "factor": 4.0}, "rope_theta": 1000000}


@pytest.mark.parametrize(
    ("options", "version", "remedy"),
    [
        (
            SPECULATION,
            "0.8.3",
            {
                "speculative_config": {
                    "model": "org/draft",
                    "num_speculative_tokens": 5,
                    "disable_by_batch_size": 32,
                    "acceptance_method": "typical_acceptance_sampler",
                    "posterior_alpha": 0.3,
                    "disable_logprobs": False,
                }
            },
        ),
        (
            SPECULATION,
            "0.10.0",
            {
                "speculative_config": {
                    "model": "org/draft",
                    "num_speculative_tokens": 5,
                    "disable_by_batch_size": 32,
                    "disable_logprobs": False,
                }
            },
        ),
        (SPECULATION, "0.33.0", {"speculative_config": {"model": "org/draft", "num_speculative_tokens": 5}}),
        (
            NGRAM,
            "0.33.0",
            {
                "speculative_config": {
                    "method": "ngram",
                    "num_speculative_tokens": 5,
                    "prompt_lookup_max": 4,
                    "prompt_lookup_min": 1,
                }
            },
        ),
        ({"ngram_prompt_lookup_max": 4}, "0.33.0", {}),
        ({**NGRAM, "num_speculative_tokens": "five"}, "0.33.0", None),
        (
            GUIDED,
            "0.12.0",
            {
                "structured_outputs_config": {
                    "backend": "xgrammar",
                    "disable_fallback": True,
                    "disable_any_whitespace": True,
                }
            },
        ),
        (
            GUIDED,
            "0.18.0",
            {"structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}},
        ),
        ({"guided_decoding_backend": "nonsense"}, "0.12.0", None),
        # Refused by the releases themselves without a backend that it is for.
        ({"guided_decoding_disable_any_whitespace": True}, "0.12.0", None),
        (
            {"guided_decoding_backend": "xgrammar", "guided_decoding_disable_additional_properties": True},
            "0.12.0",
            None,
        ),
        ({"guided_decoding_backend": "outlines:disable-any-whitespace"}, "0.33.0", None),
        ({"guided_decoding_disable_any_whitespace": False}, "0.12.0", {}),
        (
            EPLB,
            "0.12.0",
            {"eplb_config": {"num_redundant_experts": 2, "window_size": 500, "log_balancedness": True}},
        ),
        (
            ROPE,
            "0.11.1",
            {"hf_overrides": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "rope_theta": 1000000}},
        ),
        (
            ROPE,
            "0.12.0",
            {"hf_overrides": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1000000}}},
        ),
        (
            ROPE,
            "0.33.0",
            {"hf_overrides": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1000000}}},
        ),
        ({"rope_theta": 1000000}, "0.19.0", {"hf_overrides": {"rope_theta": 1000000}}),
        ({"rope_theta": 1000000}, "0.19.1", None),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            "0.11.1",
            {"hf_overrides": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}},
        ),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "0.12.0", None),
    ],
)
def test_options_that_became_one_share_their_remedy(
    options: dict[str, t.Any], version: str, remedy: dict[str, t.Any] | None
) -> None:
    expected = None if remedy is None else {"engine": remedy} if remedy else {}
    for name, value in options.items():
        answer = migrate(name, value, options, load(version))
        assert answer is not None and answer.remedy == expected, name


@pytest.mark.parametrize(
    ("name", "value", "version", "remedy"),
    [
        ("task", "embed", "0.13.0", {"engine": {"runner": "pooling", "convert": "embed"}}),
        ("task", "embedding", "0.33.0", {"engine": {"runner": "pooling", "convert": "embed"}}),
        ("task", "reward", "0.13.0", {"engine": {"runner": "pooling", "convert": "reward"}}),
        ("task", "reward", "0.16.0", {"engine": {"runner": "pooling", "convert": "embed"}}),
        ("task", "score", "0.13.0", {"engine": {"runner": "pooling"}}),
        ("task", "transcription", "0.13.0", {"engine": {"runner": "generate"}}),
        ("task", "auto", "0.13.0", {}),
        ("task", "dance", "0.13.0", None),
        ("task", ["embed"], "0.13.0", None),
        ("swap_space", 4, "0.18.0", {}),
        ("cuda_graph_sizes", [512], "0.13.0", {"engine": {"max_cudagraph_capture_size": 512}}),
        ("cuda_graph_sizes", 512, "0.13.0", {"engine": {"max_cudagraph_capture_size": 512}}),
        ("cuda_graph_sizes", ["1", 2], "0.13.0", {"engine": {"cudagraph_capture_sizes": [1, 2]}}),
        ("cuda_graph_sizes", [1, 2], "0.8.5", {"engine": {"compilation_config": {"cudagraph_capture_sizes": [1, 2]}}}),
        ("cuda_graph_sizes", ["many"], "0.13.0", None),
        ("max_context_len_to_capture", 4096, "0.6.4", {"engine": {"max_seq_len_to_capture": 4096}}),
        ("max_context_len_to_capture", 4096, "0.11.0", {}),
        ("max_seq_len_to_capture", 4096, "0.11.0", {}),
        ("disable_log_requests", True, "0.17.0", {"engine": {"enable_log_requests": False}}),
        ("disable_log_requests", False, "0.17.0", {"engine": {"enable_log_requests": True}}),
        ("disable_log_requests", "yes", "0.17.0", None),
        ("override_pooler_config", {"normalize": True}, "0.12.0", {"engine": {"pooler_config": {"normalize": True}}}),
        (
            "override_pooler_config",
            '{"normalize": true}',
            "0.16.0",
            {"engine": {"pooler_config": {"use_activation": True}}},
        ),
        ("override_pooler_config", {"no_field": 1}, "0.16.0", None),
        ("enable_reasoning", True, "0.10.0", {}),
        ("worker_use_ray", True, "0.7.0", {"engine": {"distributed_executor_backend": "ray"}}),
        ("worker_use_ray", False, "0.7.0", {}),
        ("engine_use_ray", True, "0.6.2", {}),
        ("disable_mm_preprocessor_cache", True, "0.13.0", {"engine": {"mm_processor_cache_gb": 0}}),
        ("disable_mm_preprocessor_cache", False, "0.13.0", {}),
        ("mm_cache_preprocessor", False, "0.6.6", {"engine": {"disable_mm_preprocessor_cache": True}}),
        ("mm_cache_preprocessor", False, "0.33.0", {"engine": {"mm_processor_cache_gb": 0}}),
        ("mm_cache_preprocessor", True, "0.6.6", {}),
        ("enable_multimodal_encoder_data_parallel", True, "0.13.0", {"engine": {"mm_encoder_tp_mode": "data"}}),
        ("chat_template_text_format", "openai", "0.6.5", {"engine": {"chat_template_content_format": "openai"}}),
        (
            "enable_mamba_fine_grained_prefix_cache",
            True,
            "0.31.0",
            {"engine": {"enable_mamba_shared_prefix_checkpoint": True}},
        ),
        ("use_gpu_for_pooling_score", True, "0.18.0", None),
        ("use_gpu_for_pooling_score", True, "0.20.0", {"engine": {"enable_flash_late_interaction": True}}),
        ("expand_tools_even_if_tool_choice_none", True, "0.10.0", {}),
        ("expand_tools_even_if_tool_choice_none", False, "0.10.0", None),
        (
            "expand_tools_even_if_tool_choice_none",
            False,
            "0.10.1",
            {"engine": {"exclude_tools_when_tool_choice_none": True}},
        ),
        ("calculate_kv_scales", True, "0.28.0", None),
        ("calculate_kv_scales", False, "0.28.0", {}),
        ("enable_lora_bias", True, "0.11.1", None),
        ("lora_extra_vocab_size", 512, "0.11.2", None),
        ("lora_extra_vocab_size", 512, "0.12.0", {}),
        ("logits_processor_pattern", "x", "0.17.0", None),
        ("num_scheduler_steps", 8, "0.10.1", {}),
        ("preemption_mode", "swap", "0.11.0", {}),
        ("device", "cuda", "0.10.0", {}),
        (
            "log_config_file",
            "/l.json",
            "0.31.0",
            {"engine": {"logging_config": {"pylogging_config_file": "/l.json"}}},
        ),
        ("disable_cascade_attn", True, "0.33.0", {}),
        # New names with an older image
        (
            "structured_outputs_config",
            {"backend": "outlines"},
            "0.10.0",
            {"engine": {"guided_decoding_backend": "outlines"}},
        ),
        (
            "structured_outputs_config",
            {"backend": "xgrammar", "disable_any_whitespace": True},
            "0.9.0",
            {"engine": {"guided_decoding_backend": "xgrammar", "guided_decoding_disable_any_whitespace": True}},
        ),
        (
            "structured_outputs_config",
            {"backend": "xgrammar", "disable_any_whitespace": True},
            "0.8.0",
            {"engine": {"guided_decoding_backend": "xgrammar:disable-any-whitespace"}},
        ),
        ("structured_outputs_config", {"backend": "xgrammar", "disable_any_whitespace": True}, "0.7.3", None),
        ("structured_outputs_config", {"enable_in_reasoning": True}, "0.10.0", None),
        ("structured_outputs_config", {"disable_any_whitespace": True}, "0.10.0", None),
        ("structured_outputs_config", {"backend": "guidance", "disable_fallback": "no"}, "0.8.5", None),
        ("convert", "embed", "0.10.0", {"engine": {"task": "embed"}}),
        ("convert", "embed", "0.6.4", {"engine": {"task": "embedding"}}),
        ("runner", "pooling", "0.10.0", None),
        ("runner", "auto", "0.10.0", {}),
        ("runner", "generate", "0.6.3", None),
        ("enable_log_requests", False, "0.10.0", {"engine": {"disable_log_requests": True}}),
        ("enable_log_requests", True, "0.10.0", {}),
        ("kv_cache_memory_bytes", 2**30, "0.10.1.1", None),
        ("attention_backend", "TRITON_ATTN", "0.12.0", {"env": {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN"}}),
        ("attention_backend", "triton_attn", "0.10.2", {"env": {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN_VLLM_V1"}}),
        ("attention_backend", "FLASH_ATTN", "0.10.2", {"env": {"VLLM_ATTENTION_BACKEND": "FLASH_ATTN"}}),
        ("attention_backend", "B12X", "0.12.0", None),
        ("attention_config", {"backend": "FLASHINFER"}, "0.12.0", {"env": {"VLLM_ATTENTION_BACKEND": "FLASHINFER"}}),
        ("attention_config", {"flash_attn_version": 2}, "0.12.0", None),
        (
            "cudagraph_capture_sizes",
            [1, 2],
            "0.8.5",
            {"engine": {"compilation_config": {"cudagraph_capture_sizes": [1, 2]}}},
        ),
        ("max_cudagraph_capture_size", 256, "0.10.2", {"engine": {"cuda_graph_sizes": [256]}}),
        ("max_cudagraph_capture_size", 256, "0.8.5", None),
        (
            "pooler_config",
            {"pooling_type": "MEAN"},
            "0.10.2",
            {"engine": {"override_pooler_config": {"pooling_type": "MEAN"}}},
        ),
        ("eplb_config", {"window_size": 500}, "0.10.1", {"engine": {"eplb_window_size": 500}}),
        ("eplb_config", {"use_async": True}, "0.10.1", None),
        ("mm_processor_cache_gb", 0, "0.6.6", {"engine": {"disable_mm_preprocessor_cache": True}}),
        ("mm_processor_cache_gb", 8, "0.10.0", {"env": {"VLLM_MM_INPUT_CACHE_GIB": "8"}}),
        ("mm_processor_cache_gb", 0.5, "0.10.0", None),
        ("mm_processor_cache_gb", float("inf"), "0.10.0", None),
        ("mm_encoder_tp_mode", "data", "0.9.1", {"engine": {"enable_multimodal_encoder_data_parallel": True}}),
        ("mm_encoder_only", True, "0.14.0", {"engine": {"convert": "mm_encoder_only"}}),
        (
            "speculative_config",
            {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4},
            "0.8.1",
            {
                "engine": {
                    "speculative_model": "[ngram]",
                    "num_speculative_tokens": 5,
                    "ngram_prompt_lookup_max": 4,
                }
            },
        ),
        ("speculative_config", {"method": "mtp", "num_speculative_tokens": 1}, "0.8.1", None),
        ("speculative_config", '{"model": "org/d"}', "0.8.1", {"engine": {"speculative_model": "org/d"}}),
        ("spec_method", "ngram", "0.20.0", {"engine": {"speculative_config": {"method": "ngram"}}}),
        ("all2all_backend", "naive", "0.11.0", {"env": {"VLLM_ALL2ALL_BACKEND": "naive"}}),
        ("log_level", "debug", "0.30.0", {"env": {"VLLM_LOGGING_LEVEL": "DEBUG"}}),
        ("logging_config", {"pylogging_config_file": "/l"}, "0.30.0", {"engine": {"log_config_file": "/l"}}),
        ("hf_overrides", {"rope_theta": 1e6}, "0.6.3", {"engine": {"rope_theta": 1e6}}),
        ("hf_overrides", {"architectures": ["A"]}, "0.6.3", None),
        ("cp_kv_cache_interleave_size", 2, "0.11.2", {"engine": {"dcp_kv_cache_interleave_size": 2}}),
        (
            "exclude_tools_when_tool_choice_none",
            True,
            "0.9.2",
            {"engine": {"expand_tools_even_if_tool_choice_none": False}},
        ),
        ("exclude_tools_when_tool_choice_none", True, "0.9.1", {}),
        ("exclude_tools_when_tool_choice_none", True, "0.10.0", None),
        ("override_generation_config", {"temperature": 0}, "0.7.0", None),
    ],
)
def test_remedy_of_one_option(name: str, value: t.Any, version: str, remedy: dict[str, t.Any] | None) -> None:
    answer = migrate(name, value, {name: value}, load(version))
    assert answer is not None
    assert answer.remedy == remedy
    assert remedy is not None or answer.advice


@pytest.mark.parametrize(
    ("name", "value", "last", "first", "remedy"),
    [
        (
            "prefix_caching_hash_algo",
            "builtin",
            "0.10.1.1",
            "0.10.2",
            {"engine": {"prefix_caching_hash_algo": "sha256"}},
        ),
        (
            "prefix_caching_hash_algo",
            "sha256_cbor_64bit",
            "0.10.1.1",
            "0.10.2",
            {"engine": {"prefix_caching_hash_algo": "sha256_cbor"}},
        ),
        ("tokenizer_mode", "slow", "0.30.0", "0.31.0", {"engine": {"tokenizer_mode": "hf"}}),
        (
            "tokenizer_mode",
            "fastokens",
            "0.21.0",
            "0.22.0",
            {"engine": {"tokenizer_mode": "hf"}, "env": {"VLLM_USE_FASTOKENS": "1"}},
        ),
        ("tokenizer_mode", "custom", "0.11.2", "0.12.0", None),
        ("load_format", "gguf", "0.23.0", "0.24.0", None),
        ("load_format", "bitsandbytes", "0.27.1", "0.28.0", None),
        ("quantization", "nvfp4", "0.8.5.post1", "0.9.0", {"engine": {"quantization": "modelopt_fp4"}}),
        ("convert", "reward", "0.15.1", "0.16.0", {"engine": {"convert": "embed"}}),
        ("convert", "mm_encoder_only", "0.15.1", "0.16.0", {"engine": {"mm_encoder_only": True}}),
        ("all2all_backend", "mori", "0.22.1", "0.23.0", None),
        (
            "moe_backend",
            "flashinfer_moe_ep_mega_cutedsl",
            "0.31.0",
            "0.32.0",
            {"engine": {"moe_backend": "flashinfer_moe_ep_cutedsl"}},
        ),
        ("mamba_cache_mode", "all", "0.31.0", "0.32.0", {"engine": {"mamba_cache_mode": "align"}}),
        ("reasoning_parser", "glm4_moe", "0.10.0", "0.10.1", {"engine": {"reasoning_parser": "glm45"}}),
        ("reasoning_parser", "GptOss", "0.10.1.1", "0.10.2", {"engine": {"reasoning_parser": "openai_gptoss"}}),
        ("spec_method", "medusa", "0.32.0", "0.33.0", None),
        (
            "collect_detailed_traces",
            "model,worker",
            "0.30.0",
            "0.31.0",
            {"engine": {"collect_detailed_traces": ["model", "worker"]}},
        ),
        ("collect_detailed_traces", "all,model", "0.30.0", "0.31.0", {"engine": {"collect_detailed_traces": ["all"]}}),
        (
            "guided_decoding_backend",
            "xgrammar:no-fallback",
            "0.8.4",
            "0.9.0",
            {"engine": {"guided_decoding_backend": "xgrammar", "guided_decoding_disable_fallback": True}},
        ),
        ("guided_decoding_backend", "xgrammar:no-fallback", "0.8.4", "0.8.5", None),
        (
            "limit_mm_per_prompt",
            "image=2, video=1",
            None,
            "0.6.0",
            {"engine": {"limit_mm_per_prompt": {"image": 2, "video": 1}}},
        ),
        ("compilation_config", 3, None, "0.33.0", {"engine": {"compilation_config": {"mode": 3}}}),
        ("compilation_config", "3", "0.8.5.post1", "0.9.1", {"engine": {"compilation_config": {"level": 3}}}),
    ],
)
def test_remedy_of_a_value(
    name: str, value: t.Any, last: str | None, first: str, remedy: dict[str, t.Any] | None
) -> None:
    answer = migrate_value(name, value, {name: value}, load(first))
    assert answer is not None and answer.reason
    assert answer.remedy == remedy
    assert remedy is not None or answer.advice
    assert last is None or migrate_value(name, value, {name: value}, load(last)) is None


@pytest.mark.parametrize("changed", [changed for changed in CHANGED if changed.until], ids=lambda one: one.pattern)
def test_the_last_release_with_a_value_is_the_catalogue_s(changed: t.Any) -> None:
    """Only where the catalogue knows choices on both sides."""
    here = catalogue.facts("options", changed.until)[changed.option]
    after = catalogue.facts("options", RELEASES[RELEASES.index(changed.until) + 1])[changed.option]
    for key in ("choices", "known"):
        if key in here and key in after:
            assert any(re.fullmatch(changed.pattern, str(choice)) for choice in here[key])
            assert not any(re.fullmatch(changed.pattern, str(choice)) for choice in after[key])


def test_what_the_new_name_says_already_is_kept() -> None:
    engine = {"guided_decoding_backend": "guidance", "structured_outputs_config": '{"backend": "xgrammar"}'}
    remedy = {"engine": {"structured_outputs_config": {"backend": "xgrammar"}}}
    assert migrate("guided_decoding_backend", "guidance", engine, load(NEWEST)).remedy == remedy
    engine = {"task": "embed", "runner": "generate"}
    assert migrate("task", "embed", engine, load(NEWEST)).remedy == {"engine": {"convert": "embed"}}


def test_runner_and_convert_make_one_task() -> None:
    engine = {"runner": "pooling", "convert": "classify"}
    for name, value in engine.items():
        assert migrate(name, value, engine, load("0.10.0")).remedy == {"engine": {"task": "classify"}}


def test_reasoning_that_was_off_is_not_switched_on() -> None:
    engine = {"enable_reasoning": False, "reasoning_parser": "qwen3"}
    answer = migrate("enable_reasoning", False, engine, load("0.10.0"))
    assert (answer.remedy, "reasoning_parser" in answer.advice) == (None, True)


def test_notes_are_of_their_releases() -> None:
    for version, noted in (("0.9.2", False), ("0.10.0", True), ("0.14.1", True), ("0.15.0", False)):
        answer = migrate("speculative_model", "org/d", {"speculative_model": "org/d"}, load(version))
        assert ("EAGLE" in answer.advice) is noted, version


def test_names_without_an_entry_are_nobody_s_business() -> None:
    assert migrate("max_model_len", 1, {}, load(NEWEST)) is None
    assert migrate_value("max_model_len", 1, {}, load(NEWEST)) is None


def test_every_remedy_in_every_release_is_accepted_there() -> None:
    """What is proposed must not be a problem itself, for an option that the release does not have."""
    proposed = 0
    for version in RELEASES:
        release = load(version)
        for name in MIGRATIONS:
            for value in [] if name in release.options else values_of(name):
                remedy = migrate(name, value, {name: value}, release).remedy
                if remedy:
                    proposed += 1
                    spec = written({name: value}, name, remedy)
                    errors = [str(problem) for problem in check_options(spec, release) if not problem.warning]
                    assert not errors, (version, name, value, errors)
    assert proposed > 2000


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
KNOWN_NAMES = [*MIGRATIONS, *(changed.option for changed in CHANGED)]


@settings(max_examples=300)
@given(
    name=st.sampled_from(KNOWN_NAMES),
    value=ODD,
    beside=st.dictionaries(st.sampled_from(KNOWN_NAMES), ODD, max_size=4),
    version=st.sampled_from(RELEASES),
)
def test_no_value_raises(name: str, value: t.Any, beside: dict[str, t.Any], version: str) -> None:
    for answer in (
        migrate(name, value, {**beside, name: value}, load(version)),
        migrate_value(name, value, {**beside, name: value}, load(version)),
    ):
        assert answer is None or answer.remedy is not None or answer.advice
