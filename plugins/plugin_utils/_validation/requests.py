# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defaults of requests: what override_generation_config and generation_config say, and the release ignores. Pure."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from collections.abc import Iterator

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem, did_you_mean
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.engine import Engine, holds_in
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules import Range

_OVERRIDE = "override_generation_config"

# SamplingParams._verify_args in sampling_params.py; a default outside refuses requests that bring none of their own.
_RANGES = (
    Range("temperature", "0.6.0", "0.23.0", at_least=0),
    Range("temperature", "0.24.0", at_least=0, at_most=2),
    Range("top_p", "0.6.0", above=0, at_most=1),
    Range("top_k", "0.6.0", at_least=-1),
    Range("min_p", "0.6.0", at_least=0, at_most=1),
    Range("repetition_penalty", "0.6.0", "0.8.3", above=0, at_most=2),
    Range("repetition_penalty", "0.8.4", above=0),
    Range("presence_penalty", "0.31.0", at_least=-2, at_most=2),
    Range("frequency_penalty", "0.31.0", at_least=-2, at_most=2),
    Range("max_new_tokens", "0.7.0", at_least=1),
)
_WHOLE = frozenset({"top_k", "max_new_tokens"})
_SWITCHES = frozenset({"skip_special_tokens"})


@dataclasses.dataclass(frozen=True)
class Gone:
    """What became of a parameter that guides used to name."""

    names: str
    reason: str
    fix: str


# Fields of entrypoints/openai/protocol.py: guided_* until 0.11.2, structured_outputs from 0.11.0, best_of until 0.11.2
# and logits_processors until 0.16.0; v1/engine/processor.py refuses the last two since 0.8.0.
_GONE = (
    Gone(
        r"guided_\w+|structured_outputs|response_format",
        "belongs to a single request; a server takes no default for it",
        "Let clients send structured_outputs; before 0.11.0 guided_json, guided_regex, guided_choice or guided_grammar",
    ),
    Gone(
        r"best_of",
        "is gone: V1 engines refuse more than 1 since 0.8.0, and requests have no such field since 0.12.0",
        "Let clients send n, and choose among the answers themselves",
    ),
    Gone(
        r"logits_processors",
        "cannot come with a request: V1 engines refuse it since 0.8.0",
        "Leave it out; engine.logits_processors loads processors for the whole server since 0.10.1",
    ),
    Gone(
        r"use_beam_search|num_beams|length_penalty|early_stopping|num_beam_groups|diversity_penalty",
        "belongs to beam search, which is asked for by a single request",
        "Let clients send use_beam_search: true with n and length_penalty",
    ),
    Gone(r"do_sample", "is not read", "Write temperature: 0 for greedy decoding"),
    Gone(
        r"max_length|max_model_len",
        "is not read",
        "Write engine.max_model_len for prompt and answer together, or max_new_tokens for the answer",
    ),
    Gone(
        r"n|seed|stop|stop_token_ids|logit_bias|logprobs|min_tokens|ignore_eos|bad_words|eos_token_id|pad_token_id"
        r"|bos_token_id|stop_strings|num_return_sequences|allowed_token_ids|include_stop_str_in_output",
        "belongs to a single request or to the model's files; a server takes no default for it",
        "Let clients send it",
    ),
)


def check_request_defaults(spec: ModelSpec, release: Release) -> list[Problem]:
    """Every default of requests that is ignored, refuses requests, or means something else than its name says."""
    engine = Engine(spec, release)
    problems: list[Problem] = []
    if _OVERRIDE in release.options:
        for name, value in engine.mapping(_OVERRIDE).items():
            problems.extend(_parameter(spec, release, name, value))
    if "generation_config" in release.options:
        problems.extend(_source(engine))
    return problems


def _parameter(spec: ModelSpec, release: Release, name: str, value: t.Any) -> Iterator[Problem]:
    """One parameter of override_generation_config."""
    known = release.facts("generation_defaults")
    field = f"engine.{_OVERRIDE}.{short(name)}"
    if name in known:
        if reason := _misfit(name, value, release.version):
            yield Problem(spec.name, field, reason, "Correct it, or leave it out", _shown(value))
        elif name == "max_new_tokens" and value is not None:
            # min() of the limits in get_max_tokens, entrypoints/serve/utils/api_utils.py of 0.33.0
            reason = "is no default but a limit: no request gets more tokens, whatever it asks for"
            fix = "Leave it out if clients may ask for more"
            yield Problem(spec.name, field, reason, fix, _shown(value), warning=True)
        return
    ignored = f"is ignored by vLLM {release.version}"
    if name in ("max_tokens", "max_completion_tokens") and "max_new_tokens" in known:
        fix, remedy = "Write max_new_tokens", {"engine": {_OVERRIDE: {"max_new_tokens": value}}}
        yield Problem(spec.name, field, f"{ignored}, which calls it max_new_tokens", fix, _shown(value), True, remedy)
        return
    life = catalogue.life("generation_defaults", name)
    gone = next((gone for gone in _GONE if re.fullmatch(gone.names, name)), None)
    if life is not None:
        reason, fix = f"{ignored}; as a default {life}", "Let clients send it, or use an image that has it"
    elif gone is not None:
        reason, fix = f"{ignored}; it {gone.reason}", gone.fix
    elif name in release.facts("request_fields"):
        reason, fix = f"{ignored}; it belongs to a single request", "Let clients send it"
    else:
        # A name that no release knows may be that of a secret.
        value, reason, fix = None, ignored, did_you_mean(name, known)
    yield Problem(spec.name, field, reason, fix, _shown(value), True, {})


def _misfit(name: str, value: t.Any, version: str) -> str | None:
    """Why requests that take this default are refused; None when they are not. Null is as if it were left out."""
    refused = "or requests that bring none of their own are refused"
    if value is None:
        return None
    if name in _SWITCHES:
        return None if isinstance(value, bool) else f"must be true or false, {refused}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"must be a number without quotes, {refused}"
    if name in _WHOLE and not isinstance(value, int):
        return f"must be a whole number, {refused}"
    for limits in _RANGES:
        if limits.name == name and holds_in(version, limits.since, limits.until) and not limits.holds(value):
            return f"must be {limits}, {refused}"
    # 0 switches it off since 0.9.0; before, -1 alone did.
    if name == "top_k" and value == 0 and holds_in(version, "0.6.0", "0.8.5.post1"):
        return f"must be -1 or at least 1 before 0.9.0, {refused}"
    return None


def _source(engine: Engine) -> Iterator[Problem]:
    """Where generation_config takes the defaults from: ModelConfig.try_get_generation_config in config/model.py."""
    spec, value = engine.spec, engine.text("generation_config")
    if value == "vllm" and holds_in(engine.release.version, "0.6.6", "0.7.3"):
        reason = "is read as a path before 0.8.0, where leaving it out means vLLM's own defaults"
        yield Problem(spec.name, "engine.generation_config", reason, "Leave it out", value, remedy={})
    elif value.startswith("/"):
        reason = "is a path inside the container, where only the model's own folder is mounted"
        fix = f"Write its values as engine.{_OVERRIDE}, or use an image that holds it"
        yield Problem(spec.name, "engine.generation_config", reason, fix, short(value), warning=True)


def _shown(value: t.Any) -> t.Any:
    return short(value) if isinstance(value, str) else value if isinstance(value, (bool, int, float)) else None
