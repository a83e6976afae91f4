# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which repos and files a declared model names, besides its own: tokenizer, configuration, draft model, adapters.

Works on plain data, for filters use it on every host before anything is validated; what is malformed is left for the
plan to report.

Where each field is read: vLLM 0.32.0, config/model.py (tokenizer, hf_config_path), config/speculative.py (model,
revision), lora/utils.py get_adapter_absolute_path (adapters; it takes no revision), engine/arg_utils.py (which resolves
model and tokenizer to folders of the cache when HF_HUB_OFFLINE is set; a tokenizer without revision is that of main).
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

# Where a server sees its model when that is a folder of the host (_render/server.py), with the model's name behind it.
MODELS = "/models"
# Options whose value may be a file: chat_template also takes a template itself (renderers/chat_utils.py).
_FILES = ("chat_template", "tool_parser_plugin", "reasoning_parser_plugin")


@dataclasses.dataclass(frozen=True)
class Source:
    """One thing that the engine will read.

    role: model, tokenizer, config, draft, adapter or file. name: repo id, or absolute path as the engine sees it.
    field: where the declaration says so.
    """

    role: str
    name: str
    revision: str | None
    field: str

    @property
    def is_path(self) -> bool:
        """Whether this is a path, not a repo."""
        return self.name.startswith("/")

    @property
    def scope(self) -> str:
        """What of a repo is read, in the words of hf_snapshot."""
        return self.role if self.role in ("tokenizer", "config") else "model"


def sources_of(model: t.Mapping[str, t.Any]) -> list[Source]:
    """Everything that a declared model names, itself first."""
    name = model.get("model")
    engine = model.get("engine")
    engine = engine if isinstance(engine, dict) else {}
    found = [Source("model", name, _text(model.get("revision")), "model")] if isinstance(name, str) and name else []
    if tokenizer := _text(engine.get("tokenizer")):
        found.append(Source("tokenizer", tokenizer, _text(engine.get("tokenizer_revision")), "engine.tokenizer"))
    if config := _text(engine.get("hf_config_path")):
        found.append(Source("config", config, None, "engine.hf_config_path"))
    found += _drafts(engine)
    found += [Source("adapter", path, None, field) for path, field in _adapters(engine)]
    for option in _FILES:
        if (path := _text(engine.get(option))) and path.startswith("/") and "\n" not in path:
            found.append(Source("file", path, None, f"engine.{option}"))
    return list(dict.fromkeys(one for one in found if "://" not in one.name))


def on_host(source: Source, model: t.Mapping[str, t.Any]) -> str | None:
    """A repo id as it is, a path as the host has it; None for a path that is in the image or nowhere.

    The engine's paths are those in its container, where only the model's own folder is of the host.
    """
    if source.role == "model" or not source.is_path:
        return source.name
    seen, own = f"{MODELS}/{model.get('name')}", model.get("model")
    inside = source.name == seen or source.name.startswith(seen + "/")
    return own + source.name[len(seen) :] if inside and isinstance(own, str) and own.startswith("/") else None


def look_for(models: t.Any) -> list[dict[str, t.Any]]:
    """What source_info has to look at for all models."""
    found = []
    for model in models if isinstance(models, list) else ():
        for source in sources_of(model) if isinstance(model, dict) else ():
            name = on_host(source, model)
            one = {"source": name, "revision": source.revision, "scope": source.scope}
            if name and one not in found:
                found.append(one)
    return found


def snapshots(models: t.Any, host: str | None, groups: t.Collection[str]) -> list[dict[str, t.Any]]:
    """The snapshots that a host needs for the models that it may get, or all hosts (None), as arguments of
    hf_snapshot."""
    found: list[dict[str, t.Any]] = []
    for model in models if isinstance(models, list) else ():
        if not isinstance(model, dict) or (host is not None and not _may_serve(model, host, groups)):
            continue
        engine = model.get("engine")
        code = isinstance(engine, dict) and engine.get("trust_remote_code") in (True, "true", "True")
        for source in sources_of(model):
            if source.is_path:
                continue
            one = {
                "repo": source.name,
                "revision": source.revision or "main",
                "scope": source.scope,
                # Consent for the model's own code, which has to be pinned then; nothing else brings code.
                "allow_code": code and source.role == "model",
            }
            if one not in found:
                found.append(one)
    return found


def bundled(models: t.Any) -> list[dict[str, t.Any]]:
    """The snapshots that a bundle for these models needs, as bundle_create takes them; a part that is in a whole is not
    named again."""
    found: list[dict[str, t.Any]] = []
    for model in models if isinstance(models, list) else ():
        for source in sources_of(model) if isinstance(model, dict) else ():
            one = {"repo_id": source.name, "revision": source.revision or "main", "scope": source.scope}
            if not source.is_path and one not in found:
                found.append(one)
    return [one for one in found if one["scope"] == "model" or {**one, "scope": "model"} not in found]


def folders(models: t.Any) -> list[str]:
    """Models, adapters, templates and whatever else models name that are paths of hosts, which no bundle has by
    itself."""
    found: list[str] = []
    for model in models if isinstance(models, list) else ():
        for source in sources_of(model) if isinstance(model, dict) else ():
            path = on_host(source, model) if source.is_path else None
            if path and path not in found:
                found.append(path)
    return [path for path in found if not any(path.startswith(other.rstrip("/") + "/") for other in found)]


def _may_serve(model: t.Mapping[str, t.Any], host: str, groups: t.Collection[str]) -> bool:
    placement = model.get("placement")
    hosts = placement.get("hosts") if isinstance(placement, dict) else None
    hosts = [part.strip() for part in hosts.split(",")] if isinstance(hosts, str) else hosts
    return not isinstance(hosts, list) or any(name == host or name in groups for name in hosts)


def _drafts(engine: t.Mapping[str, t.Any]) -> t.Iterator[Source]:
    config = _mapping(engine.get("speculative_config")) or {}
    # Methods without a model of their own name themselves or nothing there.
    if (draft := _text(config.get("model"))) and "/" in draft:
        yield Source("draft", draft, _text(config.get("revision")), "engine.speculative_config.model")
    if (draft := _text(engine.get("spec_model"))) and "/" in draft:
        yield Source("draft", draft, None, "engine.spec_model")


def _adapters(engine: t.Mapping[str, t.Any]) -> t.Iterator[tuple[str, str]]:
    """Paths of adapters: NAME=PATH, JSON or a mapping (entrypoints/openai/cli_args.py, LoRAParserAction)."""
    modules = engine.get("lora_modules")
    for module in modules if isinstance(modules, list) else [modules]:
        mapping = _mapping(module)
        path = mapping.get("path") if mapping else (_text(module) or "").partition("=")[2]
        if path := _text(path):
            yield path, "engine.lora_modules"
    for path in (_mapping(engine.get("default_mm_loras")) or {}).values():
        if path := _text(path):
            yield path, "engine.default_mm_loras"


def _mapping(value: t.Any) -> dict[str, t.Any] | None:
    """A mapping, which may be written as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _text(value: t.Any) -> str | None:
    """A text; numbers are texts too, for templates make numbers of commits that have no letter."""
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value) or None
    return None
