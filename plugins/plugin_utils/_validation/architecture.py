# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the release can serve the model's architecture, and which releases can. Pure."""

from __future__ import annotations

import json
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem

# _SUFFIX_TO_DEFAULTS in config/model.py: from 0.10.1 on a model is served by the architecture that has another of these
# endings (_normalize_arch in model_executor/models/registry.py); 0.10.0 knows the classifiers of causal models only
# (model_executor/model_loader/utils.py).
_ENDINGS = (
    "ForCausalLM",
    "ForConditionalGeneration",
    "ChatModel",
    "LMHeadModel",
    "ForTextEncoding",
    "EmbeddingModel",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForAudioClassification",
    "ForImageClassification",
    "ForVideoClassification",
    "ClassificationModel",
    "ForRewardModeling",
    "RewardModel",
    "Model",
)
_ENDINGS_SINCE = Version("0.10.1")
_CLASSIFIERS_SINCE = Version("0.10.0")
# Packages of image_info that register no architecture.
_NO_MODELS = {"bitsandbytes", "flashinfer", "flashinfer-python", "ray", "vllm-bnb-plugin", "vllm-gguf-plugin"}


def check_architecture(
    spec: ModelSpec,
    release: Release,
    profile: t.Mapping[str, t.Any] | None,
    packages: t.Mapping[str, str] | None = None,
) -> list[Problem]:
    """An architecture that the release lacks, with the releases that have it.

    profile: of model_info; packages: of image_info, for a plugin may bring an architecture. What the configuration does
    not tell is not checked.
    """
    known = release.facts("architectures")
    asked, field = _asked(spec, profile)
    if profile is None or not asked or not known or any(_serves(release, name) for name in asked):
        return []
    implementation = str(spec.engine.get("model_impl", "auto")).lower()
    if implementation in ("transformers", "terratorch") and "model_impl" in release.options:
        return []
    name, problem = asked[0], _missing(spec, release, field, asked)
    # The option came with the fallback that it chooses, in 0.7.2.
    fallback = implementation == "auto" and "model_impl" in release.options
    plugins = sorted(set(packages or ()) - _NO_MODELS)
    if plugins:
        reason = f"vLLM {release.version} itself has no architecture {short(name)}; {', '.join(plugins)} may bring it"
        return [Problem(spec.name, field, reason, "Watch the start", spec.model, warning=True)]
    if problem is not None:
        return [problem]
    if not fallback:
        reason = f"no release of vLLM has its architecture {short(name)}"
        return [Problem(spec.name, field, reason, "Use another model, or an image with a plugin for it", spec.model)]
    if profile["config"].get("auto_map") and spec.engine.get("trust_remote_code") is not True:
        reason = f"no release of vLLM has the architecture {short(name)}, so the code beside the model is needed"
        fix = "Read that code, and write engine.trust_remote_code: true"
        return [Problem(spec.name, "engine.trust_remote_code", reason, fix)]
    reason = (
        f"no release of vLLM has its architecture {short(name)}; only the Transformers library in the image can serve "
        "it, slower, if it has it in a form that vLLM can use"
    )
    return [Problem(spec.name, field, reason, "Watch the start", spec.model, warning=True)]


def _asked(spec: ModelSpec, profile: t.Mapping[str, t.Any] | None) -> tuple[list[str], str]:
    """The architectures that vLLM will look for, and the field that says so; none where that is not certain."""
    overrides = spec.engine.get("hf_overrides")
    if isinstance(overrides, str):
        try:
            overrides = json.loads(overrides)
        except (ValueError, RecursionError):
            return [], ""
    if isinstance(overrides, dict) and "architectures" in overrides:
        named, field = overrides["architectures"], "engine.hf_overrides.architectures"
    elif profile is None or {"speculators_config", "speculators_model_type"} & profile["config"].keys():
        # Of a speculator vLLM serves the model that it was made for.
        return [], ""
    else:
        named, field = profile["config"].get("architectures"), "model"
    if str(spec.engine.get("config_format", "auto")).lower() not in ("auto", "hf"):
        return [], ""
    fits = isinstance(named, list) and all(isinstance(name, str) for name in named)
    return (list(named) if fits else []), field


def _variants(name: str, version: Version) -> list[str]:
    """The architectures whose implementation can serve this one, itself first."""
    endings = [ending for ending in _ENDINGS if name.endswith(ending)][:1]
    if not endings or version < _CLASSIFIERS_SINCE:
        return [name]
    others = _ENDINGS
    if version < _ENDINGS_SINCE:
        others = ("ForCausalLM",) if endings[0] == "ForSequenceClassification" else ()
    return [name, *(name.removesuffix(endings[0]) + other for other in others if other != endings[0])]


def _serves(release: Release, name: str) -> bool:
    known = release.facts("architectures")
    return any(one in known for one in _variants(name, Version(release.version)))


def _missing(spec: ModelSpec, release: Release, field: str, asked: t.Sequence[str]) -> Problem | None:
    """The problem of an architecture that another release has, or for which this one names a plugin."""
    dropped, outside = release.facts("dropped_architectures"), release.facts("plugin_architectures")
    library = ""
    if "model_impl" in release.options:
        library = ", or write engine.model_impl: transformers to try the Transformers library in the image"
    for name in asked:
        if name in outside:
            reason = f"its architecture {short(name)} is in a plugin, and not in vLLM {release.version}"
            fix = f"Use an image with the plugin of {outside[name]['plugin']}{_until(name, release)}"
            return Problem(spec.name, field, reason, fix, spec.model)
        life = catalogue.life("architectures", name)
        if life is not None:
            reason = f"vLLM {release.version} has no architecture {short(name)}; {life}"
            fix = f"Use an image of vLLM {_nearest(life, release)}{library}"
            return Problem(spec.name, field, reason, fix, spec.model)
        if name in dropped:
            reason = f"vLLM {release.version} has dropped its architecture {short(name)}"
            fix = f"Use an image of vLLM {dropped[name]['last']}{library}"
            return Problem(spec.name, field, reason, fix, spec.model)
    return None


def _nearest(life: catalogue.Life, release: Release) -> str:
    """The release with the name that is nearest to this one."""
    order = catalogue.releases()
    here = order.index(release.version)
    ends = [end for span in life.spans for end in span if end is not None]
    return min(ends, key=lambda end: abs(order.index(end) - here))


def _until(name: str, release: Release) -> str:
    life = catalogue.life("architectures", name)
    return f", or of vLLM {_nearest(life, release)}" if life else ""
