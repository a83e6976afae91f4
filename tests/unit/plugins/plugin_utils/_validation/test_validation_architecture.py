# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Architectures against releases."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.architecture import check_architecture
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import QWEN3_8B_CONFIG, model, spec


def check(
    architectures: t.Any,
    release: str = "0.33.0",
    engine: dict[str, t.Any] | None = None,
    packages: dict[str, str] | None = None,
    **config: t.Any,
) -> list[Problem]:
    """The problems of a model with these architectures."""
    specs, found = load_specs([spec(engine=engine or {})])
    assert found == []
    profile = model(config={**QWEN3_8B_CONFIG, "architectures": architectures, **config})
    return check_architecture(specs[0], load(release), profile, packages)


@pytest.mark.parametrize(
    ("name", "release", "reason", "fix"),
    [
        ("Qwen3ForCausalLM", "0.33.0", None, None),
        ("Qwen3ForCausalLM", "0.8.5", None, None),
        (
            "Qwen3ForCausalLM",
            "0.8.3",
            "vLLM 0.8.3 has no architecture Qwen3ForCausalLM; it exists from 0.8.4 on",
            "Use an image of vLLM 0.8.4, or write engine.model_impl: transformers to try the Transformers library in "
            "the image",
        ),
        (
            "Qwen3ForCausalLM",
            "0.6.6",
            "vLLM 0.6.6 has no architecture Qwen3ForCausalLM; it exists from 0.8.4 on",
            "Use an image of vLLM 0.8.4",
        ),
        ("TeleChatForCausalLM", "0.25.1", None, None),
        (
            "MllamaForConditionalGeneration",
            "0.11.0",
            "vLLM 0.11.0 has no architecture MllamaForConditionalGeneration; it existed from 0.6.2 to 0.10.2",
            "Use an image of vLLM 0.10.2, or write engine.model_impl: transformers to try the Transformers library in "
            "the image",
        ),
    ],
)
def test_releases_that_have_it_are_named(name: str, release: str, reason: str | None, fix: str | None) -> None:
    found = check([name], release)
    assert [(one.field, one.reason, one.fix, one.warning) for one in found] == (
        [("model", reason, fix, False)] if reason else []
    )


@pytest.mark.parametrize(
    ("name", "last", "after"),
    [
        ("QWenLMHeadModel", "0.23.0", "0.24.0"),
        ("BaichuanForCausalLM", "0.24.0", "0.25.0"),
        ("Grok1ForCausalLM", "0.24.0", "0.25.0"),
        ("ArcticForCausalLM", "0.28.0", "0.29.0"),
    ],
)
def test_dropped_architectures_by_release(name: str, last: str, after: str) -> None:
    assert check([name], last) == []
    assert any(last in one.reason + one.fix for one in check([name], after))


def test_dropped_architectures() -> None:
    assert check(["Phi3SmallForCausalLM"], "0.9.2") == []
    (found,) = check(["Phi3SmallForCausalLM"], "0.33.0")
    assert not found.warning
    assert found.fix.startswith("Use an image of vLLM 0.9.2, or write engine.model_impl: transformers")


def test_architectures_of_plugins() -> None:
    (found,) = check(["BartForConditionalGeneration"], "0.33.0")
    assert "https://github.com/vllm-project/bart-plugin" in found.fix
    assert not found.warning
    (found,) = check(["BartForConditionalGeneration"], "0.33.0", packages={"bart-plugin": "1.0"})
    assert found.warning
    assert "bart-plugin may bring it" in found.reason
    # What brings a method of quantization brings no architecture.
    others = {"vllm-bnb-plugin": "1.0", "ray": "2.5", "flashinfer-python": "0.7"}
    (found,) = check(["BartForConditionalGeneration"], "0.33.0", packages=others)
    assert not found.warning


@pytest.mark.parametrize(
    ("engine", "config", "release", "field", "warning"),
    [
        ({}, {}, "0.33.0", "model", True),
        ({"model_impl": "vllm"}, {}, "0.33.0", "model", False),
        # No Transformers implementation yet.
        ({}, {}, "0.7.1", "model", False),
        ({}, {}, "0.7.2", "model", True),
        ({}, {"auto_map": {"AutoModel": "a.B"}}, "0.33.0", "engine.trust_remote_code", False),
        ({"trust_remote_code": True}, {"auto_map": {"AutoModel": "a.B"}}, "0.33.0", "model", True),
    ],
)
def test_of_no_release_at_all(
    engine: dict[str, t.Any], config: dict[str, t.Any], release: str, field: str, warning: bool
) -> None:
    found = check(["NeverSeenForCausalLM"], release, engine, **config)
    assert [(one.field, one.warning) for one in found] == [(field, warning)]


@pytest.mark.parametrize(
    ("architectures", "release", "engine", "config"),
    [
        # One of several is enough.
        (["NeverSeen", "LlamaForCausalLM"], "0.33.0", {}, {}),
        # Served by the implementation with another ending.
        (["LlamaForSequenceClassification"], "0.10.1", {}, {}),
        (["LlamaForSequenceClassification"], "0.10.0", {}, {}),
        # Left to what the user has chosen.
        (["NeverSeenForCausalLM"], "0.33.0", {"model_impl": "transformers"}, {}),
        (["NeverSeenForCausalLM"], "0.33.0", {"hf_overrides": {"architectures": ["LlamaForCausalLM"]}}, {}),
        (["NeverSeenForCausalLM"], "0.33.0", {"hf_overrides": '{"architectures": ["LlamaForCausalLM"]}'}, {}),
        # Not told.
        ([], "0.33.0", {}, {}),
        (None, "0.33.0", {}, {}),
        ([1], "0.33.0", {}, {}),
        (["NeverSeen"], "0.33.0", {"config_format": "mistral"}, {}),
        (["NeverSeen"], "0.33.0", {"hf_overrides": "{"}, {}),
        (["NeverSeen"], "0.33.0", {}, {"speculators_model_type": "eagle3"}),
    ],
)
def test_nothing_to_say(architectures: t.Any, release: str, engine: dict[str, t.Any], config: dict[str, t.Any]) -> None:
    assert check(architectures, release, engine, **config) == []


def test_endings_are_not_exchanged_before_0_10() -> None:
    (found,) = check(["GraniteForSequenceClassification"], "0.9.2")
    assert found.field == "model"


def test_an_architecture_that_the_spec_asks_for_is_checked() -> None:
    (found,) = check(["LlamaForCausalLM"], "0.8.3", {"hf_overrides": {"architectures": ["Qwen3ForCausalLM"]}})
    assert found.field == "engine.hf_overrides.architectures"


def test_without_a_profile() -> None:
    specs, _found = load_specs([spec()])
    assert check_architecture(specs[0], load("0.33.0"), None) == []
