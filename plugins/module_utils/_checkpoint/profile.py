# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The profile of a checkpoint: what its small files and the headers of its weights say. Tensors are never read.

A profile is plain data. What is wrong with a checkpoint is listed under problems and does not hide the rest: severity
"error" means that an engine would not start from these files or that the sizes here are incomplete.
"""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint import configs, gguf, safetensors, shards
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import (
    MIB,
    CheckpointError,
    Files,
    Folder,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.totals import Tensor, totals

# Of real checkpoints: config.json up to 0.3 MB (lists of layers left unquantized), tokenizer_config.json up to 2 MB.
_CONFIG_LIMIT_BYTES = 4 * MIB
_TOKENIZER_CONFIG_LIMIT_BYTES = 16 * MIB
# All headers of one checkpoint together.
_HEADERS_LIMIT_BYTES = 256 * MIB
# Headers to ask a hub for, before their length is known. Safetensors: a few hundred tensors; where an index names them,
# twice its share of a file, since shards differ. GGUF: the first file has the vocabulary, the others have tensors only.
_HEADER_GUESS_BYTES = 128 * 1024
_LEAST_GUESS_BYTES = 16 * 1024
_VOCABULARY_GUESS_BYTES = 8 * MIB
# Files that are read whole, when they are there.
_SMALL_FILES = (
    "config.json",
    "params.json",
    "generation_config.json",
    "tokenizer_config.json",
    "hf_quant_config.json",
)

# Where multimodal configurations keep the decoder's fields, by the files of their makers (in this order).
_TEXT_CONFIGS = (("text_config",), ("llm_config",), ("language_config",), ("thinker_config", "text_config"))
# A tokenizer needs one of these; the others of _TOKENIZER_FILES refine it.
_TOKENIZER_BODIES = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt")
_TOKENIZER_FILES = _TOKENIZER_BODIES + (
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
# Names of the number of decoder layers, the usual one first.
_LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")

Problem = t.Dict[str, t.Optional[str]]


def read_profile(path: str, commit: str | None = None) -> dict[str, t.Any]:
    """The profile of the checkpoint in a folder. Raises CheckpointError when it has no configuration.

    commit: the commit of the hub that the folder holds, when it is known.
    """
    return {"path": path, "commit": commit, **profile(Folder(path))}


def profile(files: Files, gguf_names: t.Sequence[str] = ()) -> dict[str, t.Any]:
    """The profile of a checkpoint. Raises CheckpointError when it has no configuration.

    gguf_names: the files of weights, when the model was named by one of them; else it is of safetensors.
    """
    problems: list[Problem] = []
    _prefetch_small(files)
    metadata: dict[str, t.Any] = {}
    tensors: dict[str, list[Tensor]] = {}
    if gguf_names:
        metadata, tensors = _gguf_tensors(files, gguf_names, problems)
    source, config = _config(files, metadata, tensors)
    generation_config = _optional_json(files, "generation_config.json", _CONFIG_LIMIT_BYTES, problems)
    tokenizer_config = _optional_json(files, "tokenizer_config.json", _TOKENIZER_CONFIG_LIMIT_BYTES, problems)
    own_quantization = _optional_json(files, "hf_quant_config.json", _CONFIG_LIMIT_BYTES, problems)
    if not gguf_names:
        tensors = _safetensors_tensors(files, problems)
    text_config_path = _text_config_path(config)
    weights = _weights(files, tensors, bool(gguf_names), _layers(config, text_config_path), problems)
    architectures = config.get("architectures")
    return {
        "config_source": source,
        "architectures": architectures if isinstance(architectures, list) else [],
        "model_type": config.get("model_type"),
        "config": config,
        "text_config_path": text_config_path,
        "generation_config": generation_config,
        "weights": weights,
        "quantization": _quantization(config, source, own_quantization, weights, gguf_names),
        "tokenizer": {
            "present": any(name in files.names for name in _TOKENIZER_BODIES)
            or any(name.endswith(".tiktoken") for name in files.names)
            or "tokenizer.ggml.tokens" in metadata,
            "files": [n for n in files.names if n in _TOKENIZER_FILES or ("/" not in n and n.endswith(".tiktoken"))],
        },
        "chat_template": any(name in files.names for name in _CHAT_TEMPLATES)
        or bool((tokenizer_config or {}).get("chat_template") or metadata.get("tokenizer.chat_template")),
        "remote_code": bool(config.get("auto_map") or (tokenizer_config or {}).get("auto_map")),
        "problems": problems,
    }


def _prefetch_small(files: Files) -> None:
    """Says which small files are read, and of the index only its beginning."""
    heads = {name: _TOKENIZER_CONFIG_LIMIT_BYTES for name in _SMALL_FILES if name in files.names}
    if shards.INDEX in files.names:
        heads[shards.INDEX] = shards.INDEX_HEAD_BYTES
    files.prefetch(heads)


def _config(files: Files, metadata: dict[str, t.Any], tensors: dict[str, list[Tensor]]) -> tuple[str, dict[str, t.Any]]:
    """The configuration in the words of config.json, and where it comes from. metadata, tensors: of GGUF files."""
    if "config.json" in files.names:
        return "config.json", files.read_json("config.json", _CONFIG_LIMIT_BYTES)
    has_head = any(tensor.name == "output.weight" for here in tensors.values() for tensor in here)
    config = configs.from_gguf(metadata, has_head)
    if config:
        return "gguf", config
    if "params.json" in files.names:
        return "params.json", configs.from_params(files.read_json("params.json", _CONFIG_LIMIT_BYTES))
    raise CheckpointError(
        "missing",
        files.where("config.json"),
        "there is no config.json, which tells the architecture. Pre-stage the whole model, or name the one that has it",
    )


def _problem(severity: str, error: CheckpointError) -> Problem:
    return {"severity": severity, "kind": error.details["kind"], "file": error.details["file"], "message": str(error)}


def _optional_json(files: Files, name: str, limit_bytes: int, problems: list[Problem]) -> dict[str, t.Any] | None:
    """A JSON file that need not be there; one that is broken is a problem."""
    if name not in files.names:
        return None
    try:
        return files.read_json(name, limit_bytes)
    except CheckpointError as error:
        problems.append(_problem("error", error))
        return None


def _text_config_path(config: dict[str, t.Any]) -> str:
    """Where the decoder's fields (num_hidden_layers ...) lie: "" is the top of config.json, else dotted keys."""
    for keys in _TEXT_CONFIGS:
        value: t.Any = config
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, dict) and ("num_hidden_layers" in value or "hidden_size" in value):
            return ".".join(keys)
    return ""


def _quantization(
    config: dict[str, t.Any],
    config_source: str,
    own: dict[str, t.Any] | None,
    weights: dict[str, t.Any] | None,
    gguf_names: t.Sequence[str],
) -> dict[str, t.Any] | None:
    """How the weights are quantized, and which file says so. own: hf_quant_config.json."""
    if gguf_names:
        sizes: dict[str, int] = weights["bytes_by_dtype"] if weights else {}
        most = max(sizes, key=lambda dtype: sizes[dtype], default=None)
        return {"method": "gguf", "algorithm": most, "source": gguf_names[0]}
    text = config.get("text_config")
    places: list[tuple[str, t.Any]] = [
        ("quantization_config", config.get("quantization_config")),
        ("text_config.quantization_config", text.get("quantization_config") if isinstance(text, dict) else None),
        ("compression_config", config.get("compression_config")),
    ]
    for key, found in places:
        if isinstance(found, dict):
            source = f"{config_source}: {key}"
            return {"method": found.get("quant_method"), "algorithm": found.get("quant_algo"), "source": source}
    # ModelOpt's own file, which configurations of its older releases do not repeat.
    quantization = (own or {}).get("quantization")
    if isinstance(quantization, dict):
        return {"method": "modelopt", "algorithm": quantization.get("quant_algo"), "source": "hf_quant_config.json"}
    return None


def _layers(config: dict[str, t.Any], text_config_path: str) -> int | None:
    """The number of decoder layers."""
    for key in text_config_path.split(".") if text_config_path else ():
        config = config[key]
    found = next((config[key] for key in _LAYER_KEYS if key in config), None)
    return found if isinstance(found, int) else None


def _weights(
    files: Files, tensors: dict[str, list[Tensor]], is_gguf: bool, layers: int | None, problems: list[Problem]
) -> dict[str, t.Any] | None:
    """Sums over the tensors of these files; None when not one of them could be read."""
    if not tensors:
        return None
    form, known = ("gguf", gguf.TYPE_NAMES) if is_gguf else ("safetensors", frozenset(safetensors.DTYPE_BITS))
    sums = totals((tensor for here in tensors.values() for tensor in here), layers)
    for dtype in sorted(set(sums["bytes_by_dtype"]) - known):
        text = f"dtype {dtype[:200]} is unknown; its bytes are counted as the offsets tell"
        problems.append(_problem("warning", CheckpointError("unknown_dtype", files.where(""), text)))
    return {"format": form, "files": len(tensors), **sums}


def _gguf_tensors(
    files: Files, names: t.Sequence[str], problems: list[Problem]
) -> tuple[dict[str, t.Any], dict[str, list[Tensor]]]:
    """Metadata of the first of these files, and file to tensors. Raises CheckpointError when the first is broken."""
    others = min(_HEADER_GUESS_BYTES, _HEADERS_LIMIT_BYTES // len(names))
    files.prefetch({**dict.fromkeys(names[1:], others), names[0]: _VOCABULARY_GUESS_BYTES})
    first = gguf.read_header(files, names[0])
    tensors, read_bytes = {names[0]: first.tensors}, first.read_bytes
    for name in names[1:]:
        try:
            _limit_headers(files, name, read_bytes)
            header = gguf.read_header(files, name)
            tensors[name] = header.tensors
            read_bytes += header.read_bytes
        except CheckpointError as error:
            problems.append(_problem("error", error))
    return first.metadata, tensors


def _safetensors_tensors(files: Files, problems: list[Problem]) -> dict[str, list[Tensor]]:
    """File to tensors for the safetensors files that vLLM would load."""
    headers = _Headers(files, problems)
    try:
        tensors = _indexed(files, headers, problems) if shards.INDEX in files.names else None
        if tensors is not None:
            return tensors
        names = shards.safetensors_files(files)
    except CheckpointError as error:
        problems.append(_problem("error", error))
        return {}
    _add_missing(files, files.where(""), shards.families(names), problems)
    return headers.read(names)


def _limit_headers(files: Files, name: str, read_bytes: int) -> None:
    """Raises CheckpointError when so much was read for the headers before this one that there must be an end."""
    if read_bytes > _HEADERS_LIMIT_BYTES:
        text = "the headers before this one are larger than any checkpoint's"
        raise CheckpointError("too_large", files.where(name), text)


def _add_missing(files: Files, where: str, expected: t.Collection[str], problems: list[Problem]) -> None:
    """A problem, when of these files some are not there."""
    missing = sorted(name for name in expected if name not in files.names)
    if missing:
        text = f"{len(missing)} of {len(expected)} weight files are missing: {shards.some(missing)}"
        problems.append(_problem("error", CheckpointError("missing", where, f"{text}. Pre-stage the model again")))


def _indexed(files: Files, headers: _Headers, problems: list[Problem]) -> dict[str, list[Tensor]] | None:
    """Tensors of the files that the index names; None when the index is broken, which is then among the problems."""
    try:
        index = shards.Index(files)
        expected_bytes = 2 * index.size
        tensors = headers.read(index.shards(), expected_bytes)
        if index.agrees(tensors):
            return tensors
        expected = index.weight_map()
    except CheckpointError as error:
        problems.append(_problem("error", error))
        return None
    _add_missing(files, files.where(shards.INDEX), expected, problems)
    tensors = headers.read(sorted(set(expected).intersection(files.names)), expected_bytes)
    for name, here in tensors.items():
        there = {tensor.name for tensor in here}
        lost = [tensor for tensor in expected[name] if tensor not in there]
        if lost:
            text = f"{len(lost)} tensors that {shards.INDEX} expects here are missing: {shards.some(lost)}"
            lost_tensors = CheckpointError("index", files.where(name), f"{text}. Pre-stage the model again")
            problems.append(_problem("error", lost_tensors))
    return tensors


class _Headers:
    """Headers of safetensors files; each is read once."""

    def __init__(self, files: Files, problems: list[Problem]) -> None:
        self._files, self._problems = files, problems
        self._known: dict[str, list[Tensor] | None] = {}
        self._read_bytes = 0

    def read(self, names: t.Sequence[str], expected_bytes: int = 0) -> dict[str, list[Tensor]]:
        """File to tensors; a file that cannot be read is among the problems. expected_bytes: of all headers."""
        new = [name for name in names if name not in self._known]
        if new:
            share = expected_bytes // len(names)
            guess = max(share, _LEAST_GUESS_BYTES) if share else _HEADER_GUESS_BYTES
            self._files.prefetch(dict.fromkeys(new, min(guess, _HEADERS_LIMIT_BYTES // len(new))))
        for name in new:
            self._known[name] = None
            try:
                _limit_headers(self._files, name, self._read_bytes)
                self._known[name], read_bytes = safetensors.read_header(self._files, name)
                self._read_bytes += read_bytes
            except CheckpointError as error:
                self._problems.append(_problem("error", error))
        return {name: tensors for name, tensors in ((name, self._known[name]) for name in names) if tensors is not None}
