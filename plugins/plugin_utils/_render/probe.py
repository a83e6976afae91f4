# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a ready server must answer: which request proves it, under which names, how long, with which adapters. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec

# Words of --task (0.6.4 to 0.12.0) and --convert (from 0.10.1) -> the kind of the request.
_WORDS = {
    "embed": "embed",
    "embedding": "embed",
    "classify": "classify",
    "score": "score",
    "reward": "pooling",
    "transcription": "transcribe",
    "generate": "generate",
}
# Ends of architectures' names -> the kind, of what model_executor/models/registry.py of 0.33.0 lists among poolers.
_ENDS = {
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "pooling",
    "RewardModel": "pooling",
}


def probe(spec: ModelSpec, release: Release, profile: t.Mapping[str, t.Any] | None) -> dict[str, t.Any]:
    """The option probe of a server of vllm_servers. profile: what model_info said; None without the files."""
    return {
        "kind": _kind(spec.engine, release, (profile or {}).get("architectures") or ()),
        "served_names": [spec.name],
        "max_model_len": read_asked(spec.engine, spec.env)[0].max_model_len,
        "adapters": _adapters(spec.engine.get("lora_modules")),
    }


def _kind(engine: t.Mapping[str, t.Any], release: Release, architectures: t.Sequence[str]) -> str:
    for option in ("task", "convert"):
        word = _WORDS.get(str(engine.get(option)))
        if word:
            return word
    known = release.facts("architectures")
    if engine.get("runner") == "pooling" or (
        engine.get("runner") in (None, "auto")
        and any((known.get(name) or {}).get("task") == "pooling" for name in architectures)
    ):
        return next((kind for end, kind in _ENDS.items() if any(a.endswith(end) for a in architectures)), "embed")
    # It hears and writes, and takes no prompt alone.
    return "transcribe" if any(name.startswith("Whisper") for name in architectures) else "generate"


def _adapters(modules: t.Any) -> list[str]:
    """The names of adapters given as NAME=PATH or as mappings (LoRAParserAction, entrypoints/openai/cli_args.py)."""
    names = []
    for module in modules if isinstance(modules, list) else [modules]:
        if isinstance(module, dict) and module.get("name"):
            names.append(str(module["name"]))
        elif isinstance(module, str) and "=" in module and not module.lstrip().startswith("{"):
            names.append(module.partition("=")[0])
    return names
