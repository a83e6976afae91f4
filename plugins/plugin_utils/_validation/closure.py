# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether everything that a server would read is on a host, so that it starts and answers without network. Pure.

What vLLM 0.32.0 does with each missing piece was tried. Without configuration or weights it does not start. Without a
tokenizer it starts, is healthy, and fails at every request ("The decoder prompt cannot be empty"): that is an error
here, too.
"""

from __future__ import annotations

import fnmatch
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.sources import Source, on_host, sources_of

Entries = t.Mapping[tuple[str, str | None, str], t.Mapping[str, t.Any]]

_VOCABULARY = (
    *("tokenizer.json", "tokenizer.model*", "vocab.json", "vocab.txt", "*.tiktoken", "tekken.json"),
    *("spiece.model", "sentencepiece*.model"),
)
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_CONFIGS = ("config.json", "params.json")
_NAMED = 5


def check_closure(spec: ModelSpec, entries: Entries, profile: t.Mapping[str, t.Any] | None) -> list[Problem]:
    """What a host lacks of that which a server of this model would read; nothing of what nobody looked for.

    entries: of source_info, by source, revision and scope. profile: of model_info on this host. A model that is not
    there at all is the planner's to say.
    """
    declared = {"name": spec.name, "model": spec.model, "revision": spec.revision, "engine": spec.engine}
    found = []
    for source in sources_of(declared):
        entry = entries.get((on_host(source, declared) or "", source.revision, source.scope))
        if entry is not None:
            found += _gaps(spec, source, entry, profile)
    return found


def _gaps(
    spec: ModelSpec, source: Source, entry: t.Mapping[str, t.Any], profile: t.Mapping[str, t.Any] | None
) -> list[Problem]:
    if not entry["found"]:
        return [] if source.role == "model" else [_problem(spec, source, str(entry["reason"]).rstrip("."))]
    wrong = [f"{one['path']}: {one['message']}" for one in entry["problems"]]
    wrong += [f"{entry['path']} has no {what}" for what in _lacking(spec, source, entry["files"], profile)]
    wrong += [f"its code lies in {repo}, which is not in the cache" for repo in _code_repos(spec, source, entry)]
    more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return [_problem(spec, source, "; ".join(wrong[:_NAMED]) + more)] if wrong else []


def _lacking(
    spec: ModelSpec, source: Source, files: t.Sequence[str], profile: t.Mapping[str, t.Any] | None
) -> t.Iterator[str]:
    """The kinds of files that are needed and not there."""
    engine = spec.engine
    is_packed = source.name.endswith(".gguf")
    if source.role == "draft" or (source.role == "model" and not is_packed):
        if not _any(files, _CONFIGS) and not (source.role == "model" and engine.get("hf_config_path")):
            yield "config.json"
        if not _any(files, _WEIGHTS) and engine.get("load_format") != "dummy":
            yield "weights (*.safetensors)"
    needs_tokenizer = not engine.get("tokenizer") and not engine.get("skip_tokenizer_init") and not is_packed
    if (source.role == "tokenizer" or source.role == "model" and needs_tokenizer) and not _any(files, _VOCABULARY):
        yield "tokenizer (tokenizer.json, tokenizer.model, vocab.json or another vocabulary)"
    if source.role == "config" and not _any(files, _CONFIGS):
        yield "config.json"
    if source.role == "adapter":
        if "adapter_config.json" not in files:
            yield "adapter_config.json"
        if not _any(files, ("adapter_model.*", "new_embeddings.*")):
            yield "adapter_model.safetensors"
    if source.role == "model" and engine.get("trust_remote_code"):
        yield from (name for name in _code_files(profile) if name not in files)


def _code_files(profile: t.Mapping[str, t.Any] | None) -> list[str]:
    """The files of its own that a configuration asks for by auto_map: "modeling_x.Class" is in modeling_x.py."""
    values = ((profile or {}).get("config") or {}).get("auto_map")
    names = set()
    for value in values.values() if isinstance(values, dict) else ():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and "--" not in one and "." in one:
                names.add(one.rpartition(".")[0].replace(".", "/") + ".py")
    return sorted(names)


def _code_repos(spec: ModelSpec, source: Source, entry: t.Mapping[str, t.Any]) -> t.Sequence[str]:
    is_read = spec.engine.get("trust_remote_code") and source.role in ("model", "tokenizer")
    return entry["missing_code_repos"] if is_read else ()


def _any(files: t.Iterable[str], patterns: t.Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in files for pattern in patterns)


def _problem(spec: ModelSpec, source: Source, reason: str) -> Problem:
    fix = "Bring the files to the host"
    if not source.is_path:
        fix = (
            f"Run the playbook gpufleet.vllm.prestage, or hf_snapshot with repo {source.name}, revision "
            f"{source.revision or 'main'} and scope {source.scope}"
        )
    return Problem(spec.name, source.field, reason, fix, source.name)
