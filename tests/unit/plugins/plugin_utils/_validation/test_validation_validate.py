# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All checks together, and the spec with what they propose written in."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.validate import mended, validate
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import spec


def declared(**changes: t.Any) -> ModelSpec:
    return ModelSpec.model_validate(spec(**changes))


def problem(field: str, remedy: t.Any = None, warning: bool = False) -> Problem:
    return Problem("qwen3-8b", field, "is wrong", "Mend it", warning=warning, remedy=remedy)


@pytest.mark.parametrize(("version", "count"), [("0.33.0", 0), ("0.99.0", 1)])
def test_a_release_that_is_not_catalogued_is_said_once(version: str, count: int) -> None:
    for strict in (False, True):
        found = validate(declared(), load(version), strict=strict)
        assert [one.warning for one in found] == [not strict] * count


@pytest.mark.parametrize(
    ("problems", "expected"),
    [
        ([], {"engine": {"a": {"b": 1, "c": 2}}, "env": {"E": "1"}}),
        ([problem("engine.a", {})], {"engine": {}, "env": {"E": "1"}}),
        ([problem("engine.a.b", {})], {"engine": {"a": {"c": 2}}, "env": {"E": "1"}}),
        ([problem("engine.a.b", {"engine": {"a": {"d": 3}}})], {"engine": {"a": {"c": 2, "d": 3}}, "env": {"E": "1"}}),
        ([problem("env.E", {"engine": {"d": 3}})], {"engine": {"a": {"b": 1, "c": 2}, "d": 3}, "env": {}}),
        (
            [problem("env.E", {"offline": True}), problem("engine.a", {})],
            {"engine": {}, "env": {}, "offline": True},
        ),
        ([problem("engine.a", None, warning=True)], {"engine": {"a": {"b": 1, "c": 2}}, "env": {"E": "1"}}),
    ],
)
def test_remedies(problems: list[Problem], expected: dict[str, t.Any]) -> None:
    before = declared(engine={"a": {"b": 1, "c": 2}}, env={"E": "1"})
    copy = before.model_copy(deep=True)
    assert mended(before, problems) == declared(**expected)
    assert before == copy


@pytest.mark.parametrize("field", ["engine.a", "image", "placement.gpus"])
def test_no_spec_without_a_remedy(field: str) -> None:
    assert mended(declared(engine={"a": 1}), [problem("engine.a", {}), problem(field)]) is None


@pytest.mark.parametrize(
    ("engine", "version"),
    [
        ({"max_num_partial_prefills": 2}, "0.26.0"),
        ({"max_long_partial_prefills": 2}, "0.26.0"),
        ({"logits_processor_pattern": "x"}, "0.16.0"),
    ],
)
def test_what_is_refused_is_not_called_taken(engine: dict[str, t.Any], version: str) -> None:
    (found,) = validate(declared(engine=engine), load(version))
    assert not found.warning
