# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check of a spec against a release, and the spec with what the checks propose written in. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.architecture import check_architecture
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.combinations import check_combinations
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.configs import check_configs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.environment import check_environment
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.hardware import Accelerator, check_hardware
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.image import check_catalogued
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migration import as_mapping
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.options import STILL_TAKEN, check_options
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.parallel import check_parallel
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.quantization import check_quantization
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.requests import check_request_defaults


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is known besides the spec; a check whose facts are missing says nothing.

    image: of image_info; profile: of model_info; gpus: those that may be used; driver: version of NVIDIA's driver.
    """

    image: t.Mapping[str, t.Any] | None = None
    profile: t.Mapping[str, t.Any] | None = None
    gpus: t.Sequence[Accelerator] = ()
    driver: str | None = None


def validate(
    spec: ModelSpec, release: Release, evidence: Evidence | None = None, strict: bool = False
) -> list[Problem]:
    """Every problem of the spec with this release, warnings among them; strict makes errors of the warnings."""
    known = evidence or Evidence()
    packages = None if known.image is None else known.image.get("packages")
    problems = [
        *check_catalogued(spec, release),
        *check_options(spec, release),
        *check_configs(spec, release),
        *check_combinations(spec, release),
        *check_request_defaults(spec, release),
        *check_environment(spec, release),
        *check_architecture(spec, release, known.profile, packages),
        *check_parallel(spec, release, known.profile),
        *check_quantization(spec, release, known.profile, known.gpus, packages),
        *check_hardware(spec, release, known.image, known.gpus, known.driver),
    ]
    # That an option will go, and is taken until then, is not said of one that is refused.
    refused = {problem.field for problem in problems if not problem.warning}
    problems = [
        problem
        for problem in problems
        if not (problem.warning and problem.field in refused and problem.fix.startswith(STILL_TAKEN))
    ]
    return [dataclasses.replace(problem, warning=False) for problem in problems] if strict else problems


def mended(spec: ModelSpec, problems: t.Iterable[Problem]) -> ModelSpec | None:
    """The spec with the remedy of every error written in; None when an error has none."""
    sections: dict[str, t.Any] = {"engine": dict(spec.engine), "env": dict(spec.env)}
    for problem in problems:
        if problem.warning:
            continue
        place, _dot, name = problem.field.partition(".")
        if problem.remedy is None or place not in sections:
            return None
        sections[place] = _without(sections[place], name)
        sections = _merged(sections, problem.remedy)
    return spec.model_copy(update=sections)


def _without(values: t.Mapping[str, t.Any], name: str) -> dict[str, t.Any]:
    """The mapping without a key, or without the nested key that a dotted name leads to."""
    if name in values:
        return {key: value for key, value in values.items() if key != name}
    first, _dot, rest = name.partition(".")
    inner = as_mapping(values.get(first))
    return {**values, first: _without(inner, rest)} if rest and inner is not None else dict(values)


def _merged(values: t.Mapping[str, t.Any], more: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Both mappings; where both have mappings under a key, these are merged as well."""
    merged = dict(values)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
