# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of images that mean one build, and what an image must hold."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.policy import Policy
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.image import (
    check_catalogued,
    check_image,
    check_tag,
    tag_of,
    version_of_tag,
)

FOUND: dict[str, t.Any] = {
    "image": "vllm/vllm-openai:v0.33.0",
    "version": "0.33.0",
    "version_source": "package",
    "entrypoint": ["vllm", "serve"],
    "stand_in": False,
    "reason": None,
}


def spec(image: str = "vllm/vllm-openai:v0.33.0", **fields: t.Any) -> ModelSpec:
    return ModelSpec.model_validate({"name": "m", "model": "o/m", "image": image, **fields})


@pytest.mark.parametrize(
    ("image", "tag", "version"),
    [
        ("vllm/vllm-openai:v0.33.0", "v0.33.0", "0.33.0"),
        ("vllm/vllm-openai:v0.33.0-x86_64", "v0.33.0-x86_64", "0.33.0"),
        ("vllm/vllm-openai:v0.8.5.post1", "v0.8.5.post1", "0.8.5.post1"),
        ("vllm/vllm-openai:v0.9.0.1", "v0.9.0.1", "0.9.0.1"),
        ("vllm/vllm-openai:v0.10.1.1-x86_64", "v0.10.1.1-x86_64", "0.10.1.1"),
        ("vllm/vllm-openai:v0.9.1rc1", "v0.9.1rc1", "0.9.1rc1"),
        ("lmcache/vllm-openai:v0.3.9", "v0.3.9", None),
        ("rhaiis/vllm-cuda-rhel9:3.2.2", "3.2.2", None),
        ("x/llm:2024.1.0", "2024.1.0", None),
        ("vllm/vllm-openai", "latest", None),
        ("registry.example:5000/vllm", "latest", None),
        ("registry.example:5000/vllm:0.32.0", "0.32.0", "0.32.0"),
        ("vllm@sha256:" + "0" * 64, None, None),
        ("vllm:v0.33.0@sha256:" + "0" * 64, None, "0.33.0"),
    ],
)
def test_tags_and_what_they_claim(image: str, tag: str | None, version: str | None) -> None:
    assert (tag_of(image), version_of_tag(image)) == (tag, version)


@pytest.mark.parametrize(
    "image",
    [
        "vllm/vllm-openai",
        "vllm/vllm-openai:latest",
        "vllm/vllm-openai:nightly-x86_64",
        "x:v0.33",
        "x:1",
        "x:main",
        "x:0.33.0-rc",
    ],
)
def test_floating_tags_are_refused_unless_allowed(image: str) -> None:
    (problem,) = check_tag(spec(image), Policy(allow_stand_in=True))
    assert (problem.field, problem.value, problem.warning) == ("image", image, False)
    assert check_tag(spec(image), Policy(allow_floating_tags=True)) == []


@pytest.mark.parametrize(
    "image", ["x:v0.33.0", "x:2026-11-01", "x:9c925d64d727", "x:latest@sha256:" + "0" * 64, "x:remainder"]
)
def test_other_tags_are_taken(image: str) -> None:
    assert check_tag(spec(image), Policy()) == []


@pytest.mark.parametrize(
    ("changes", "field", "said", "warning"),
    [
        ({"stand_in": True}, "image", "stand-in engine", False),
        ({"version": None, "reason": "no output"}, "image", "holds no vLLM: no output", False),
        ({"entrypoint": []}, "entrypoint", "the image has none", False),
        ({"version": "0.32.0"}, "image", "its tag says 0.33.0, and it holds vLLM 0.32.0", True),
        ({"version_source": "tag"}, "image", "taken from its tag", True),
    ],
)
def test_images_that_are_not_what_is_needed(changes: dict[str, t.Any], field: str, said: str, warning: bool) -> None:
    (problem,) = check_image(spec(), {**FOUND, **changes}, Policy())
    assert (problem.field, problem.warning) == (field, warning)
    assert said in problem.reason


def test_a_sound_image_and_accepted_ones() -> None:
    assert check_image(spec(), FOUND, Policy()) == []
    assert check_image(spec(), {**FOUND, "version": "0.33.0+cu130"}, Policy()) == []
    assert check_image(spec(), {**FOUND, "stand_in": True}, Policy(allow_stand_in=True)) == []
    assert check_image(spec(entrypoint=["vllm", "serve"]), {**FOUND, "entrypoint": []}, Policy()) == []


def test_gpus_for_a_build_without() -> None:
    cpu = {**FOUND, "version": "0.33.0+cpu"}
    assert check_image(spec(), cpu, Policy()) == []
    (problem,) = check_image(spec(placement={"gpus": [0]}), cpu, Policy())
    assert problem.field == "placement.gpus"


def test_a_release_that_the_catalogue_lacks_is_said() -> None:
    assert check_catalogued(spec(), load("0.33.0+cu130")) == []
    (problem,) = check_catalogued(spec(), load("0.99.0"))
    assert problem.warning
    assert "0.99.0 is not in the catalogue" in problem.reason
