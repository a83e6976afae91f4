# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defaults of requests: what is ignored, what refuses requests, and what means something else than its name says."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.requests import check_request_defaults

NEWEST = catalogue.releases()[-1]
PREFIX = "engine.override_generation_config."


def check(engine: dict[str, t.Any], version: str = NEWEST) -> list[Problem]:
    """The problems of a spec with these engine options."""
    spec = ModelSpec.model_validate({"name": "m", "model": "a/b", "image": "i", "engine": engine})
    return check_request_defaults(spec, load(version))


def defaults(values: dict[str, t.Any], version: str = NEWEST) -> list[Problem]:
    """The problems of these defaults of requests."""
    return check({"override_generation_config": values}, version)


@pytest.mark.parametrize(
    ("name", "value", "version", "words"),
    [
        ("best_of", 2, "0.11.2", "V1 engines refuse"),
        ("guided_json", {}, NEWEST, "structured_outputs"),
        ("guided_decoding_backend", "xgrammar", "0.10.2", "single request"),
        ("logits_processors", ["a"], NEWEST, "engine.logits_processors"),
        ("use_beam_search", True, NEWEST, "beam search"),
        ("early_stopping", True, "0.8.5", "beam search"),
        ("do_sample", False, NEWEST, "temperature: 0"),
        ("max_length", 100, NEWEST, "engine.max_model_len"),
        ("seed", 1, NEWEST, "Let clients send it"),
        ("n", 2, NEWEST, "Let clients send it"),
        ("stop", ["a"], NEWEST, "Let clients send it"),
        ("logit_bias", {}, "0.8.5", "Let clients send it"),
        ("presence_penalty", 1, "0.30.0", "it exists from 0.31.0 on"),
        ("skip_special_tokens", True, "0.32.0", "it exists from 0.33.0 on"),
        ("prompt_logprobs", 1, NEWEST, "single request"),
        ("temprature", 1, NEWEST, "Did you mean temperature?"),
    ],
)
def test_default_that_is_ignored(name: str, value: t.Any, version: str, words: str) -> None:
    (problem,) = defaults({name: value}, version)
    assert (problem.field, problem.warning, problem.remedy) == (PREFIX + name, True, {})
    assert f"ignored by vLLM {version}" in problem.reason
    assert words in str(problem)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_has_another_name(name: str) -> None:
    (problem,) = defaults({name: 100}, "0.7.1")
    assert problem.warning
    assert problem.remedy == {"engine": {"override_generation_config": {"max_new_tokens": 100}}}


def test_max_new_tokens_is_a_limit() -> None:
    (problem,) = defaults({"max_new_tokens": 512})
    assert problem.warning and "no request gets more" in problem.reason


@pytest.mark.parametrize(
    ("name", "bad", "good", "version"),
    [
        ("temperature", -0.1, 0, "0.7.1"),
        ("temperature", 2.1, 2, "0.24.0"),
        ("temperature", "0.7", 0.7, NEWEST),
        ("temperature", True, None, NEWEST),
        ("temperature", float("nan"), 1.0, NEWEST),
        ("top_p", 0, 1.0, NEWEST),
        ("top_k", 20.0, 20, NEWEST),
        ("top_k", 0, -1, "0.8.5.post1"),
        ("top_k", -2, 0, "0.9.0"),
        ("min_p", 1.1, 0, NEWEST),
        ("repetition_penalty", 2.1, 2, "0.8.3"),
        ("repetition_penalty", 0, 2.1, "0.8.4"),
        ("presence_penalty", 3, -2, "0.31.0"),
        ("frequency_penalty", -3, 2, "0.31.0"),
        ("skip_special_tokens", "no", False, "0.33.0"),
    ],
)
def test_default_that_refuses_requests(name: str, bad: t.Any, good: t.Any, version: str) -> None:
    (problem,) = defaults({name: bad}, version)
    assert (problem.field, problem.warning) == (PREFIX + name, False)
    assert "are refused" in problem.reason
    assert defaults({name: good}, version) == []


def test_temperature_above_2_was_taken_before_0_24() -> None:
    assert defaults({"temperature": 2.5}, "0.23.0") == []


def test_good_defaults_and_json_text() -> None:
    assert defaults({"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0, "repetition_penalty": 1.05}) == []
    (problem,) = check({"override_generation_config": '{"seed": 1}'})
    assert problem.field == f"{PREFIX}seed"


def test_option_that_the_release_lacks_is_left_to_others() -> None:
    assert check({"override_generation_config": {"seed": 1}}, "0.7.0") == []


@pytest.mark.parametrize(
    ("value", "version", "warnings"),
    [
        ("vllm", "0.7.3", [False]),
        ("vllm", "0.8.0", []),
        ("auto", "0.6.6", []),
        ("/srv/generation", NEWEST, [True]),
    ],
)
def test_generation_config(value: str, version: str, warnings: list[bool]) -> None:
    assert [problem.warning for problem in check({"generation_config": value}, version)] == warnings


NAMES = ("temperature", "top_k", "max_new_tokens", "max_tokens", "best_of", "guided_json", "skip_special_tokens")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), VALUES, max_size=6) | VALUES,
    VALUES,
    st.sampled_from(catalogue.releases()),
)
def test_never_raises(override: t.Any, generation: t.Any, version: str) -> None:
    for problem in check({"override_generation_config": override, "generation_config": generation}, version):
        assert str(problem)
