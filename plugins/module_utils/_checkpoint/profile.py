# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The profile of a checkpoint: what its small files and the headers of its weights say. Tensors are never read.

A profile is plain data. What is wrong with a checkpoint is listed under problems and does not hide the rest: severity
"error" means that an engine would not start from these files or that the sizes here are incomplete.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint import classes, safetensors
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import (
    MIB,
    CheckpointError,
    read_json,
    unreadable,
)

# Of real checkpoints: config.json up to 0.3 MB (lists of layers left unquantized), tokenizer_config.json up to 2 MB,
# the index of 200 thousand tensors about 25 MB.
_CONFIG_LIMIT_BYTES = 4 * MIB
_TOKENIZER_CONFIG_LIMIT_BYTES = 16 * MIB
_INDEX_LIMIT_BYTES = 64 * MIB
# All headers of one checkpoint together.
_HEADERS_LIMIT_BYTES = 256 * MIB

_INDEX = "model.safetensors.index.json"
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
_CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
_OTHER_WEIGHTS = (".gguf", ".bin", ".pt", ".pth")
_NAMED = 5

Problem = t.Dict[str, t.Optional[str]]


def read_profile(path: str, commit: str | None = None) -> dict[str, t.Any]:
    """The profile of the checkpoint in a folder. Raises CheckpointError when there is no folder or no config.json.

    commit: the commit of the hub that the folder holds, when it is known.
    """
    names = _list(path)
    if "config.json" not in names:
        raise CheckpointError(
            "missing",
            os.path.join(path, "config.json"),
            "the folder has no config.json, which tells the architecture"
            + (" (params.json alone, Mistral's own form, is not read)" if "params.json" in names else "")
            + ". Pre-stage the whole model, or give the folder that holds it",
        )
    config = read_json(os.path.join(path, "config.json"), _CONFIG_LIMIT_BYTES)
    problems: list[Problem] = []
    generation_config = _optional_json(path, names, "generation_config.json", _CONFIG_LIMIT_BYTES, problems)
    tokenizer_config = _optional_json(path, names, "tokenizer_config.json", _TOKENIZER_CONFIG_LIMIT_BYTES, problems)
    architectures = config.get("architectures")
    return {
        "path": path,
        "commit": commit,
        "architectures": architectures if isinstance(architectures, list) else [],
        "model_type": config.get("model_type"),
        "config": config,
        "text_config_path": _text_config_path(config),
        "generation_config": generation_config,
        "weights": _weights(path, names, problems),
        "quantization": _quantization(path, names, config, problems),
        "tokenizer": {
            "present": any(name in names for name in _TOKENIZER_BODIES) or any(n.endswith(".tiktoken") for n in names),
            "files": [n for n in names if n in _TOKENIZER_FILES or n.endswith(".tiktoken")],
        },
        "chat_template": any(name in names for name in _CHAT_TEMPLATES)
        or bool((tokenizer_config or {}).get("chat_template")),
        "remote_code": bool(config.get("auto_map") or (tokenizer_config or {}).get("auto_map")),
        "problems": problems,
    }


def _list(path: str) -> list[str]:
    """Names in the folder, sorted."""
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        text = "the folder is not there. Pre-stage the model, or correct the path"
        raise CheckpointError("missing", path, text) from None
    except NotADirectoryError:
        raise CheckpointError("not_a_folder", path, "a folder with config.json and *.safetensors is needed") from None
    except OSError as error:
        raise unreadable(path, error) from error


def _problem(severity: str, error: CheckpointError) -> Problem:
    return {"severity": severity, "kind": error.details["kind"], "file": error.details["file"], "message": str(error)}


def _optional_json(
    path: str, names: list[str], name: str, limit_bytes: int, problems: list[Problem]
) -> dict[str, t.Any] | None:
    """A JSON file that need not be there; one that is broken is a problem."""
    if name not in names:
        return None
    try:
        return read_json(os.path.join(path, name), limit_bytes)
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
    path: str, names: list[str], config: dict[str, t.Any], problems: list[Problem]
) -> dict[str, t.Any] | None:
    """How the weights are quantized, and which file says so."""
    text = config.get("text_config")
    places: list[tuple[str, t.Any]] = [
        ("quantization_config", config.get("quantization_config")),
        ("text_config.quantization_config", text.get("quantization_config") if isinstance(text, dict) else None),
        ("compression_config", config.get("compression_config")),
    ]
    for key, found in places:
        if isinstance(found, dict):
            source = f"config.json: {key}"
            return {"method": found.get("quant_method"), "algorithm": found.get("quant_algo"), "source": source}
    # ModelOpt's own file, which configurations of its older releases do not repeat.
    own = _optional_json(path, names, "hf_quant_config.json", _CONFIG_LIMIT_BYTES, problems)
    quantization = (own or {}).get("quantization")
    if isinstance(quantization, dict):
        return {"method": "modelopt", "algorithm": quantization.get("quant_algo"), "source": "hf_quant_config.json"}
    return None


def _weights(path: str, names: list[str], problems: list[Problem]) -> dict[str, t.Any] | None:
    """Sums over the tensors of all weight files; None when not one of them can be read."""
    files, index = _weight_files(path, names, problems)
    bytes_by_dtype: dict[str, int] = {}
    parameters_by_dtype: dict[str, int] = {}
    bytes_by_class = dict.fromkeys(classes.CLASSES, 0)
    layers: set[int] = set()
    classifier = classes.Classifier()
    files_read = header_bytes = 0
    for name in files:
        file = os.path.join(path, name)
        try:
            if header_bytes > _HEADERS_LIMIT_BYTES:
                raise CheckpointError("too_large", file, "the headers before this one are larger than any checkpoint's")
            tensors, read_bytes = safetensors.read_header(file)
            header_bytes += read_bytes
            files_read += 1
            _check_index(file, tensors, index.get(name, []))
        except CheckpointError as error:
            problems.append(_problem("error", error))
            if error.details["kind"] != "index":
                continue
        for tensor in tensors:
            bytes_by_dtype[tensor.dtype] = bytes_by_dtype.get(tensor.dtype, 0) + tensor.nbytes
            parameters_by_dtype[tensor.dtype] = parameters_by_dtype.get(tensor.dtype, 0) + tensor.elements
            tensor_class, layer = classifier.classify(tensor.name)
            bytes_by_class[tensor_class] += tensor.nbytes
            if layer is not None:
                layers.add(layer)
    for dtype in sorted(set(bytes_by_dtype) - set(safetensors.DTYPE_BITS)):
        text = f"dtype {dtype} is unknown; its bytes are counted as the offsets tell"
        problems.append(_problem("warning", CheckpointError("unknown_dtype", path, text)))
    if not files_read:
        return None
    return {
        "format": "safetensors",
        "files": files_read,
        "total_bytes": sum(bytes_by_dtype.values()),
        "bytes_by_dtype": bytes_by_dtype,
        "parameters_by_dtype": parameters_by_dtype,
        "bytes_by_class": bytes_by_class,
        "layer_count_seen": len(layers),
    }


def _weight_files(path: str, names: list[str], problems: list[Problem]) -> tuple[list[str], dict[str, list[str]]]:
    """The safetensors files that vLLM would load, and the tensors that the index expects in each.

    vLLM loads *.safetensors of the folder, of these only what the index names if there is one
    (model_executor/model_loader/weight_utils.py: filter_duplicate_safetensors_files).
    """
    found = [name for name in names if name.endswith(".safetensors")]
    index: dict[str, list[str]] = {}
    if _INDEX in names:
        file = os.path.join(path, _INDEX)
        try:
            for tensor, name in _weight_map(file).items():
                index.setdefault(name, []).append(tensor)
        except CheckpointError as error:
            problems.append(_problem("error", error))
            return found, {}
        missing = sorted(name for name in index if name not in found)
        if missing:
            text = f"{len(missing)} of {len(index)} weight files are missing: {_some(missing)}"
            problems.append(_problem("error", CheckpointError("missing", file, f"{text}. Pre-stage the model again")))
        return sorted(name for name in index if name in found), index
    # Mistral puts the same weights there twice: in its own form (consolidated*) and in that of transformers.
    own_form = [name for name in found if name.startswith("consolidated")]
    files = [name for name in found if name not in own_form] or own_form
    if not files:
        others = [name for name in names if name.endswith(_OTHER_WEIGHTS)]
        text = f"no *.safetensors is here{': ' + _some(others) + ' cannot be measured' if others else ''}"
        problems.append(_problem("error", CheckpointError("missing", path, text)))
    return files, {}


def _weight_map(file: str) -> dict[str, str]:
    """Tensor to file, from the index. Every file has to lie in the folder itself."""
    weight_map = read_json(file, _INDEX_LIMIT_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        text = "its weight_map is no table from tensors to files. Pre-stage the model again"
        raise CheckpointError("invalid", file, text)
    for name in set(weight_map.values()):
        if os.path.basename(name) != name or name in ("", ".", "..") or "\0" in name:
            text = f"it names a file outside the folder: {name[:200]!r}. Do not use this model"
            raise CheckpointError("invalid", file, text)
    return weight_map


def _check_index(file: str, tensors: list[safetensors.Tensor], expected: list[str]) -> None:
    """Raises CheckpointError(index) when the index expects tensors in the file that are not there."""
    if expected:
        here = {tensor.name for tensor in tensors}
        missing = [name for name in expected if name not in here]
        if missing:
            text = f"{len(missing)} tensors that {_INDEX} expects here are missing: {_some(missing)}"
            raise CheckpointError("index", file, f"{text}. Pre-stage the model again")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
