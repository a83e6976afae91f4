# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue as it is shipped: the facts that the collection rests on, and how a version finds its release."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.catalogue import FOLDER, life, releases
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load


@pytest.mark.parametrize(
    ("asked", "found", "exact"),
    [
        ("0.33.0", "0.33.0", True),
        ("v0.33.0", "0.33.0", True),
        ("0.32.0+cpu", "0.32.0", True),
        ("0.32.0+standin", "0.32.0", True),
        ("0.32.1.dev5+g123", "0.32.0", False),
        ("0.33.0rc1", "0.33.0", False),
        ("0.8.5.post1", "0.8.5.post1", True),
        ("0.5.0", "0.6.0", False),
        ("99.1.0", releases()[-1], False),
        ("nightly", releases()[-1], False),
        ("", releases()[-1], False),
    ],
)
def test_version_finds_its_release(asked: str, found: str, exact: bool) -> None:
    release = load(asked)
    assert (release.version, release.requested, release.exact) == (found, asked, exact)
    assert bool(release.note) is not exact


def test_releases_are_in_order_and_have_facts() -> None:
    assert len(releases()) == len(set(releases())) >= 14
    assert releases().index("0.8.5.post1") < releases().index("0.9.2") < releases().index("0.10.2")
    assert all(len(load(version).options) > 100 and len(load(version).environment) > 40 for version in releases())


@pytest.mark.parametrize(
    ("version", "name", "accepted"),
    [
        ("0.17.1", "swap_space", True),
        ("0.18.0", "swap_space", False),
        ("0.16.0", "disable_log_requests", True),
        ("0.17.0", "disable_log_requests", False),
        ("0.11.2", "guided_decoding_backend", True),
        ("0.12.0", "guided_decoding_backend", False),
        ("0.10.1", "kv_cache_memory_bytes", False),
        ("0.10.2", "kv_cache_memory_bytes", True),
        ("0.13.0", "attention_backend", True),
        ("0.12.0", "attention_backend", False),
        ("0.33.0", "kv_cache_memory", False),
        ("0.33.0", "request_timeout", False),
    ],
)
def test_options_come_and_go(version: str, name: str, accepted: bool) -> None:
    assert load(version).exact
    assert (load(version).option(name) is not None) is accepted


def test_options_are_found_by_alias_and_spelling() -> None:
    release = load("0.33.0")
    size = release.options["tensor_parallel_size"]
    assert all(release.option(name) is size for name in ("tp", "-tp", "tensor-parallel-size", "--tensor_parallel_size"))
    assert release.option("tensor_parallel") is None


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("max_model_length", "max_model_len"),
        ("tensor_paralel_size", "tensor_parallel_size"),
        ("disable_log_requests", "enable_log_requests"),
    ],
)
def test_suggestions(name: str, first: str) -> None:
    assert load("0.33.0").suggest(name)[0] == first
    assert load("0.33.0").suggest("zzzzzz") == []


def test_life_says_since_and_until() -> None:
    gone = life("options", "swap_space")
    assert gone is not None
    assert (gone.since, gone.until, str(gone)) == ("0.6.0", "0.17.1", "it existed from 0.6.0 to 0.17.1")
    new = life("options", "kv_cache_memory_bytes")
    assert new is not None
    assert (new.since, new.until, str(new)) == ("0.10.2", None, "it exists from 0.10.2 on")
    assert life("options", "request_timeout") is None


@pytest.mark.parametrize(
    ("version", "name", "on", "off"),
    [
        ("0.8.4", "enable_chunked_prefill", "--enable-chunked-prefill", "--enable-chunked-prefill=False"),
        ("0.32.0", "enable_chunked_prefill", "--enable-chunked-prefill", "--no-enable-chunked-prefill"),
        ("0.33.0", "enable_chunked_prefill", "--enable-chunked-prefill", "--disable-chunked-prefill"),
        ("0.33.0", "disable_fastapi_docs", "--disable-fastapi-docs", "--enable-fastapi-docs"),
        ("0.33.0", "enforce_eager", "--enforce-eager", "--no-enforce-eager"),
        ("0.33.0", "headless", "--headless", None),
    ],
)
def test_booleans_are_spelled_as_the_release_does(version: str, name: str, on: str, off: str | None) -> None:
    option = load(version).options[name]
    assert (option.kind, option.on, option.off) == ("boolean", on, off)


def test_facts_of_the_image() -> None:
    assert load("0.11.0").entrypoint == ("python3", "-m", "vllm.entrypoints.openai.api_server")
    assert load("0.11.1").entrypoint == ("vllm", "serve")
    assert [load(version).positional_model for version in ("0.11.0", "0.11.1", "0.15.0")] == [False, True, True]


def test_environment_and_defaults() -> None:
    assert "VLLM_USE_V1" in load("0.11.0").environment
    assert "VLLM_USE_V1" not in load("0.11.1").environment
    assert load("0.19.0").options["gpu_memory_utilization"].default == 0.9
    assert load("0.20.0").options["gpu_memory_utilization"].default == 0.92


def test_deprecation_is_what_the_release_says_of_the_option_itself() -> None:
    options = load("0.33.0").options
    assert "v0.33.0" in (options["log_config_file"].deprecated or "")
    assert options["allow_deprecated_quantization"].deprecated is None
    assert options["max_model_len"].deprecated is None


def test_catalogue_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3_000_000
