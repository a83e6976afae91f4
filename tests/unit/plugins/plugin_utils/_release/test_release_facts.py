# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Landmarks of the sections of the catalogue, each at the release where it begins or ends by that release's source."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.catalogue import (
    FOLDER,
    Facts,
    facts,
    life,
    names,
    releases,
)

SECTIONS = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "releases")
# Sections that are there from some release on, because the thing itself is.
LATER = {
    "configs": "0.6.4",
    "defaults": "0.8.0",
    "dropped_architectures": "0.10.0",
    "generation_defaults": "0.6.6",
    "images": "0.6.2",
    "nccl": "0.6.0",
    "plugin_architectures": "0.19.0",
    "pooling_tasks": "0.6.4",
    "reasoning_parsers": "0.7.1",
    "speculative_methods": "0.8.5",
}


def own(section: str, name: str, version: str) -> dict[str, Any] | None:
    """Facts of a name without the span they are in; None if the release does not have it."""
    found: Facts | None = facts(section, version).get(name)
    return None if found is None else {key: value for key, value in found.items() if key not in ("since", "until")}


@pytest.mark.parametrize(
    ("section", "name", "since", "until"),
    [
        ("attention_backends", "XFORMERS", "0.6.0", "0.11.2"),
        ("attention_backends", "TRITON_ATTN", "0.11.0", None),
        ("attention_backends", "TRITON_ATTN_VLLM_V1", "0.8.2", "0.10.2"),
        ("quantization", "gguf", "0.6.0", "0.23.0"),
        ("quantization", "bitsandbytes", "0.6.0", "0.27.1"),
        ("quantization", "mxfp4", "0.10.1", None),
        ("quantization", "aqlm", "0.6.0", "0.10.0"),
        ("architectures", "MllamaForConditionalGeneration", "0.6.2", "0.10.2"),
        ("architectures", "LlamaForCausalLM", "0.6.0", None),
        ("dropped_architectures", "MllamaForConditionalGeneration", "0.11.0", None),
        ("metrics", "vllm:gpu_cache_usage_perc", "0.6.0", "0.11.2"),
        ("metrics", "vllm:kv_cache_usage_perc", "0.9.2", None),
        ("metrics", "vllm:num_requests_running", "0.6.0", None),
        ("metrics", "vllm:prompt_tokens_total", "0.6.0", None),
        ("speculative_methods", "medusa", "0.8.5", "0.32.0"),
        ("speculative_methods", "mlp_speculator", "0.8.5", "0.32.0"),
        ("speculative_methods", "ngram", "0.8.5", None),
        ("environment", "VLLM_RPC_TIMEOUT", "0.6.2", "0.22.1"),
        ("environment", "VLLM_USE_V1", "0.6.4", "0.11.0"),
        ("environment", "VLLM_ATTENTION_BACKEND", "0.6.0", "0.14.1"),
        ("routes", "/ping", "0.7.0", None),
        ("routes", "/load", "0.8.0", None),
        ("routes", "/v1/models", "0.6.0", None),
        ("routes", "/v1/responses", "0.10.0", None),
        ("kv_cache_dtypes", "fp8_e5m2", "0.6.0", None),
        ("request_fields", "guided_json", "0.6.0", "0.11.2"),
        ("request_fields", "best_of", "0.6.0", "0.11.2"),
        ("pooling_tasks", "token_embed", "0.11.1", None),
        ("generation_defaults", "max_new_tokens", "0.7.0", None),
        ("generation_defaults", "presence_penalty", "0.31.0", None),
    ],
)
def test_landmarks(section: str, name: str, since: str, until: str | None) -> None:
    found = life(section, name)
    assert found is not None, f"{section} has no {name}"
    assert (found.since, found.until) == (since, until)


@pytest.mark.parametrize(
    ("section", "name", "version", "expected"),
    [
        ("metrics", "vllm:gpu_cache_usage_perc", "0.11.0", {"kind": "gauge"}),
        ("metrics", "vllm:gpu_cache_usage_perc", "0.11.1", {"kind": "gauge", "hidden": True}),
        ("metrics", "vllm:num_requests_swapped", "0.8.2", {"kind": "gauge", "engine": "V0"}),
        ("metrics", "vllm:time_to_first_token_seconds", "0.33.0", {"kind": "histogram"}),
        ("environment", "VLLM_RPC_TIMEOUT", "0.10.2", {}),
        ("environment", "VLLM_RPC_TIMEOUT", "0.11.0", {"dead": True}),
        ("environment", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "0.10.2", {}),
        ("environment", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "0.15.1", {"dead": True}),
        ("environment", "VLLM_ENGINE_ITERATION_TIMEOUT_S", "0.16.0", {}),
        ("quantization", "awq", "0.33.0", {"min_capability": 75}),
        ("quantization", "fbgemm_fp8", "0.33.0", {"min_capability": 80, "deprecated": True}),
        ("quantization", "experts_int8", "0.17.1", {"min_capability": 80, "deprecated": True}),
        ("quantization", "experts_int8", "0.33.0", {"min_capability": 80}),
        ("attention_backends", "FLASH_ATTN", "0.33.0", {"min_capability": 80}),
        ("attention_backends", "FLASHMLA", "0.33.0", {"min_capability": 90, "capabilities": [90, 100, 103]}),
        ("attention_backends", "FLASHINFER", "0.17.1", {"min_capability": 75}),
        ("attention_backends", "FLASHINFER", "0.33.0", {"min_capability": 80}),
        ("dropped_architectures", "MllamaForConditionalGeneration", "0.33.0", {"last": "0.10.2"}),
        ("architectures", "LlamaForCausalLM", "0.33.0", {"task": "generate"}),
        ("architectures", "BertModel", "0.33.0", {"task": "pooling"}),
        ("architectures", "Qwen2_5_VLForConditionalGeneration", "0.33.0", {"task": "multimodal"}),
        ("architectures", "EagleLlamaForCausalLM", "0.33.0", {"task": "speculative"}),
    ],
)
def test_facts(section: str, name: str, version: str, expected: dict[str, Any]) -> None:
    assert own(section, name, version) == expected


@pytest.mark.parametrize(
    ("version", "cuda", "ubuntu", "entrypoint", "least"),
    [
        ("0.6.2", "12.4.1", "20.04", "python3", "7.0"),
        ("0.8.5.post1", "12.4.1", "22.04", "python3", "7.0"),
        ("0.9.0", "12.8.1", "22.04", "python3", "7.0"),
        ("0.11.0", "12.8.1", "22.04", "python3", "7.0"),
        ("0.11.1", "12.9.1", "22.04", "vllm", "7.0"),
        ("0.19.1", "12.9.1", "22.04", "vllm", "7.0"),
        ("0.20.0", "13.0.2", "22.04", "vllm", "7.5"),
        ("0.27.0", "13.0.3", "22.04", "vllm", "7.5"),
        ("0.28.0", "13.0.3", "24.04", "vllm", "7.5"),
        ("0.33.0", "13.0.3", "24.04", "vllm", "7.5"),
    ],
)
def test_cuda_images(version: str, cuda: str, ubuntu: str, entrypoint: str, least: str) -> None:
    image = facts("images", version)["cuda"]
    assert image["cuda"] == cuda
    assert image["base"].startswith(f"nvidia/cuda:{cuda}-") and image["base"].endswith(f"ubuntu{ubuntu}")
    assert image["entrypoint"][0] == entrypoint
    assert image["capabilities"][0] == least
    assert image["user"] == "root"


def test_other_images() -> None:
    assert own("images", "rocm", "0.13.0") == {
        "base": "rocm/vllm-dev:base",
        "command": ["/bin/bash"],
        "user": "root",
    }
    assert facts("images", "0.14.0")["rocm"]["entrypoint"] == ["vllm", "serve"]
    assert facts("images", "0.11.0")["cpu"]["entrypoint"][-1] == "vllm.entrypoints.openai.api_server"
    assert facts("images", "0.11.1")["cpu"]["entrypoint"] == ["vllm", "serve"]
    assert not facts("images", "0.15.0")


@pytest.mark.parametrize(
    ("version", "option", "expected"),
    [
        # max_num_seqs and max_num_batched_tokens: H100, A100, B200, L4, CPU
        ("0.10.2", "max_num_seqs", [1024, 256, 1024, 256, 128]),
        ("0.33.0", "max_num_seqs", [1024, 256, 1024, 256, 128]),
        ("0.8.5", "max_num_batched_tokens", [8192, 8192, 8192, 2048, None]),
        ("0.9.0", "max_num_batched_tokens", [8192, 2048, 8192, 2048, None]),
        ("0.27.1", "max_num_batched_tokens", [8192, 2048, 8192, 2048, 2048]),
        ("0.28.0", "max_num_batched_tokens", [8192, 2048, 16384, 2048, 2048]),
        ("0.8.5", "engine", ["V1", "V1", "V1", "V1", "V0"]),
        ("0.11.0", "engine", ["V1"] * 5),
        ("0.33.0", "enable_prefix_caching", [True] * 5),
        ("0.33.0", "enable_chunked_prefill", [True] * 5),
    ],
)
def test_defaults_by_device(version: str, option: str, expected: list[Any]) -> None:
    devices = facts("defaults", version)[option]["by_device"]
    order = ("H100 80 GiB", "A100 80 GiB", "B200 180 GiB", "L4 24 GiB", "cpu")
    assert [devices.get(device) for device in order] == expected


@pytest.mark.parametrize(
    ("version", "name", "removal"),
    [
        ("0.33.0", "log_config_file", "0.33.0"),
        ("0.33.0", "mamba_cache_mode", "0.33.0"),
        ("0.33.0", "ir_op_priority", "0.34.0"),
        ("0.12.0", "task", "0.13.0"),
        ("0.11.2", "guided_decoding_backend", "0.12.0"),
        ("0.11.2", "disable_log_requests", "0.12.0"),
        ("0.27.1", "calculate_kv_scales", "0.19.0"),
        ("0.11.0", "rope_scaling", None),
    ],
)
def test_announced_removals(version: str, name: str, removal: str | None) -> None:
    option = facts("options", version)[name]
    assert option["deprecated"]
    assert option.get("removal") == removal


@pytest.mark.parametrize(
    ("version", "name", "expected"),
    [
        ("0.33.0", "CacheConfig.gpu_memory_utilization", {"type": "float", "default": 0.92, "gt": 0, "le": 1}),
        ("0.19.1", "CacheConfig.gpu_memory_utilization", {"type": "float", "default": 0.9, "gt": 0, "le": 1}),
        ("0.33.0", "SpeculativeConfig.num_speculative_tokens", {"type": "int", "gt": 0}),
    ],
)
def test_configuration_fields(version: str, name: str, expected: dict[str, Any]) -> None:
    assert own("configs", name, version) == expected


def test_methods_of_a_configuration_are_the_section() -> None:
    for version in ("0.9.2", "0.17.1", "0.33.0"):
        assert facts("configs", version)["SpeculativeConfig.method"]["choices"] == sorted(
            facts("speculative_methods", version)
        )


@pytest.mark.parametrize("section", SECTIONS)
def test_every_release_has_every_section(section: str) -> None:
    order = releases()
    start = order.index(LATER.get(section, "0.6.0"))
    lacking = [version for version in order[start:] if not facts(section, version)]
    assert lacking == (["0.15.0", "0.15.1"] if section == "images" else [])
    assert not [version for version in order[:start] if facts(section, version)]


@pytest.mark.parametrize("section", SECTIONS)
def test_spans_are_of_known_releases_in_order_and_apart(section: str) -> None:
    order = releases()
    for name, spans in json.loads((FOLDER / f"{section}.json").read_text(encoding="utf-8")).items():
        edges = []
        for span in spans:
            edges += [order.index(span["since"]), order.index(span["until"] or order[-1])]
        assert edges == sorted(edges), name
        assert all(after > before for before, after in zip(edges[1::2], edges[2::2], strict=False)), name


def test_every_release_was_executed() -> None:
    assert {facts("releases", version)[version]["method"] for version in releases()} == {"executed"}
    assert not [version for version in releases() if "not_extracted" in facts("releases", version)[version]]


def test_the_catalogue_is_compact() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.json")) < 1_500_000
    assert all(len(names(section)) for section in SECTIONS)
