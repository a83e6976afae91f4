# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine options of a spec, read as vLLM's parser reads them. Pure."""

from __future__ import annotations

import functools
import json
import math
import typing as t
from collections.abc import Mapping, Sequence

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import whole
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short


class Engine:
    """The engine options of a spec, read as vLLM's parser reads them, with the release's defaults."""

    def __init__(self, spec: ModelSpec, release: Release) -> None:
        self.spec = spec
        self.release = release
        self._options = spec.engine

    def has(self, name: str) -> bool:
        """Whether the spec gives the option a value."""
        return self._options.get(name) is not None

    def on(self, name: str) -> bool:
        """Whether the spec switches the option on."""
        return self._options.get(name) is True

    def off(self, name: str) -> bool:
        """Whether the spec switches the option off."""
        return self._options.get(name) is False

    def number(self, name: str) -> int | None:
        """The whole number of the spec, else the release's default; None when there is none or it is unreadable."""
        if self.has(name):
            return whole(self._options[name])
        option = self.release.options.get(name)
        return whole(option.default) if option is not None else None

    def real(self, name: str) -> float | None:
        """The number that the spec gives, fractions included; None when it is unreadable."""
        value = self._options.get(name)
        return read_number(value)

    def text(self, name: str) -> str:
        """The text that the spec gives; empty when it gives none."""
        value = self._options.get(name)
        return value.strip() if isinstance(value, str) else ""

    def mapping(self, name: str) -> Mapping[str, t.Any]:
        """The mapping that the spec gives, also as JSON text; empty when it gives none."""
        return read_mapping(self._options.get(name))

    def items(self, name: str) -> Sequence[t.Any]:
        """The list that the spec gives; one value is a list of one."""
        value = self._options.get(name)
        return value if isinstance(value, list) else [] if value is None else [value]

    def shown(self, name: str) -> t.Any:
        """A value that may be shown: a switch, a number or a short text."""
        value = self._options.get(name)
        return short(value) if isinstance(value, str) else value if isinstance(value, (bool, int, float)) else None

    @property
    def speculates(self) -> bool:
        """Whether speculative decoding is configured."""
        names = ("speculative_config", "speculative_model", "spec_method", "spec_model", "spec_tokens")
        return any(self.has(name) and name in self.release.options for name in names)

    @property
    def speculative_method(self) -> str | None:
        """The method of speculative decoding; None when there is none or vLLM finds it out from the draft model."""
        given = self.mapping("speculative_config")
        method = given.get("method", self.text("spec_method") or None)
        if method is None and given.get("model") in ("ngram", "[ngram]"):
            return "ngram"
        return method if isinstance(method, str) else None

    @property
    def draft_tokens(self) -> int | None:
        """num_speculative_tokens."""
        return whole(self.mapping("speculative_config").get("num_speculative_tokens", self._options.get("spec_tokens")))


def read_number(value: t.Any) -> float | None:
    """The finite number that a value is read as, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    size = whole(value)
    if size is not None:
        return float(size)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_mapping(value: t.Any) -> Mapping[str, t.Any]:
    """The mapping that an option's value is, also as JSON text; an empty one for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}


@functools.cache
def holds_in(version: str, since: str, until: str | None) -> bool:
    """Whether a catalogued release is within a span of releases."""
    here = Version(version)
    return Version(since) <= here and (until is None or here <= Version(until))
