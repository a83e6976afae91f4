# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The known causes themselves: each shows its own sample, no other one does so before it, and each is told in full."""

from __future__ import annotations

import re

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.explain import causes
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.signatures import (
    RANKS,
    Signature,
    literal,
    signatures,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec

KNOWN = {signature.id: signature for signature in signatures()}
# What a start looks like around the line that ended it.
BEFORE = [
    "(APIServer pid=6) INFO 11-20 10:00:00 [api_utils.py:286] non-default args: {'model_tag': 'a/b'}",
    "(EngineCore pid=25) INFO 11-20 10:00:05 [core.py:133] Initializing a V1 LLM engine (v0.33.0) with config: model=",
    "Traceback (most recent call last):",
]
AFTER = ["RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"]


def test_there_are_enough_and_none_twice() -> None:
    assert len(signatures()) == len(KNOWN) >= 150


@pytest.mark.parametrize("signature", [one for one in signatures() if one.patterns], ids=lambda one: one.id)
def test_sample_shows_its_cause_first(signature: Signature) -> None:
    """Alone, and within a start that goes on to fail."""
    sample = signature.sample.splitlines()
    assert sample, "has patterns and no sample"
    found = causes(sample, {})
    assert found and found[0].id == signature.id, [cause.id for cause in found]
    if signature.rank not in ("request", "notice", "wrapper"):
        before = [line.replace("0.33.0", signature.until or "0.33.0") for line in BEFORE]
        found = causes([*before, *sample, *AFTER], {"failed": True})
        assert found[0].id == signature.id, [cause.id for cause in found]
        assert found[0].line == len(BEFORE) + len(sample)


def told(signature: Signature) -> list[str]:
    texts = [signature.cause, signature.remedy]
    return texts + [text for pattern in signature.patterns for text in (pattern.cause, pattern.remedy)]


@pytest.mark.parametrize("signature", signatures(), ids=lambda one: one.id)
def test_signature_is_complete(signature: Signature) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", signature.id)
    assert signature.rank in RANKS
    assert signature.patterns or signature.facts
    assert signature.explains <= set(KNOWN), signature.explains - set(KNOWN)
    assert signature.link is None or signature.link.startswith("https://")
    for text in told(signature):
        assert text.endswith((".", "}")), text
    sample = causes(signature.sample.splitlines(), {}) if signature.sample else []
    for cause in sample[:1]:
        assert not re.search(r"\{\w|\[\W*\{| \?", cause.cause + cause.remedy), (cause.cause, cause.remedy)


@pytest.mark.parametrize("signature", [one for one in signatures() if one.change], ids=lambda one: one.id)
def test_change_is_a_part_of_a_specification(signature: Signature) -> None:
    """Every change names fields that a specification has; the options under engine are those of some release."""
    for change in signature.change:
        assert set(change) <= {"set", "remove", "since", "until"} and ("set" in change or "remove" in change)
        fields = [*change.get("set", {}), *(path.split(".")[0] for path in change.get("remove", []))]
        assert fields and set(fields) <= set(ModelSpec.model_fields), fields


@pytest.mark.parametrize(
    ("pattern", "run"),
    [
        ("a plain text", "a plain text"),
        (r"Worker (?P<who>\S+) died, exit code: \d+", " died, exit code: "),
        (r"(?P<what>No kernels) were \w+", "No kernels"),
        (r"colou?r of the (?:red|blue) house", "r of the "),
        (r"\[Errno 28\] No space", "[Errno 28] No space"),
        (r"see (?:the docs)? and [\])]more words", "more words"),
        (r"(?<!not )failed to start", "failed to start"),
    ],
)
def test_literal_is_what_every_match_holds(pattern: str, run: str) -> None:
    assert literal(pattern) == run


@pytest.mark.parametrize("pattern", ["this|that is wrong", r"\d+ of \w+", "(?:abcdefgh|hgfedcba)x"])
def test_pattern_that_cannot_be_looked_for_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="write alternatives|no run of"):
        literal(pattern)
