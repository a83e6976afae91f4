# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What is taken of a repo: scopes, patterns, and the policy that weights are data and code needs consent. Pure."""

from __future__ import annotations

import fnmatch
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.listing import COMMIT, File, Listing

# What vLLM 0.32.0 and transformers 5.19.0 open or look for besides weights, seen by tracing their system calls with a
# model of the cache; config.json is among a tokenizer's files because AutoTokenizer does not load a repo id without it.
CONFIG = (
    "config.json",
    "generation_config.json",
    "params.json",
    "adapter_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "hf_quant_config.json",
    "quantize_config.json",
    "modules.json",
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "*_Pooling/config.json",
    "configuration_*.py",
)
TOKENIZER = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model*",
    "tokenizer.tiktoken",
    "*.tiktoken",
    "tekken.json",
    "vocab.*",
    "merges.txt",
    "spiece.model",
    "sentencepiece*.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "additional_chat_templates/*",
    "tokenization_*.py",
)
SCOPES = {"config": CONFIG, "tokenizer": TOKENIZER}

# Formats that run code of their author when they are loaded (pickles), and those that vLLM reads in no release.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib", "*.npy")
FOREIGN = (
    *("*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.tflite", "*.ot", "*.mlmodel", "*.mlpackage/*"),
    *("onnx/*", "openvino/*", "coreml/*", "original/*"),
)
CODE = ("*.py", "*.so", "*.sh", "*.pyc")
_GGUF = "*.gguf"
_NAMED = 6


class Wanted(t.NamedTuple):
    """What a user asks for of a repo.

    scope: config, tokenizer or model; allow, ignore: patterns in which * crosses folders, as in the hub's client.
    """

    scope: str
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_pickle: bool = False
    allow_code: bool = False


class Omitted(t.NamedTuple):
    """A file that was asked for and is not taken. reason: pickle, code, or foreign (no release of vLLM reads it)."""

    name: str
    reason: str


class Selected(t.NamedTuple):
    """The files to have, and those that policy leaves out."""

    files: list[File]
    omitted: list[Omitted]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def require_consent(wanted: Wanted, repo: str, revision: str) -> None:
    """Raises FleetError when code is allowed of a revision that can move."""
    if wanted.allow_code and not COMMIT.fullmatch(revision):
        raise FleetError(
            f"Code of {repo} is allowed (allow_code) at '{revision}', which can be other code tomorrow. Read the code, "
            "and give as revision the commit of 40 digits that you have read.",
            kind="code_not_pinned",
        )


def select(listing: Listing, wanted: Wanted) -> Selected:
    """The files of a repo that are wanted and allowed. Raises FleetError when that makes no sense."""
    # A scope of few files is only narrowed by patterns; of a whole model a pattern may also name what else is left out.
    scope = SCOPES.get(wanted.scope, ("*",))
    asked = [
        file
        for file in listing.files
        if _matches(file.name, scope)
        and (not wanted.allow or _matches(file.name, wanted.allow))
        and not _matches(file.name, wanted.ignore)
    ]
    taken: list[File] = []
    omitted: list[Omitted] = []
    for file in asked:
        reason = _objection(file.name, wanted)
        if reason:
            omitted.append(Omitted(file.name, reason))
        else:
            taken.append(file)
    taken = _without_needless_gguf(listing, taken, wanted)
    _require_some(listing, taken, omitted, wanted)
    return Selected(taken, omitted)


def _objection(name: str, wanted: Wanted) -> str:
    """Why policy leaves a file out; nothing when it does not."""
    if _matches(name, PICKLES) and not wanted.allow_pickle:
        return "pickle"
    if _matches(name, CODE) and not wanted.allow_code:
        return "code"
    if _matches(name, FOREIGN) and not wanted.allow:
        return "foreign"
    return ""


def _without_needless_gguf(listing: Listing, taken: list[File], wanted: Wanted) -> list[File]:
    """Without GGUF beside safetensors; raises FleetError when it is not said which of several models is meant."""
    if wanted.allow:
        return taken
    packed = [file.name for file in taken if file.name.endswith(".gguf")]
    if any(file.name.endswith(".safetensors") for file in taken):
        return [file for file in taken if not file.name.endswith(".gguf")]
    if len({_family(name) for name in packed}) > 1:
        raise FleetError(
            f"{listing.repo} holds several models in GGUF: {_few(packed)}. Say with allow_patterns which is meant, "
            f"for example '{packed[0]}'.",
            kind="which_gguf",
        )
    return taken


def _family(name: str) -> str:
    """The name of a GGUF model without the number of its part (NAME-00001-of-00003.gguf)."""
    stem, _dash, rest = name[: -len(".gguf")].rpartition("-of-")
    return stem.rpartition("-")[0] if stem and rest.isdigit() else name


def _require_some(listing: Listing, taken: list[File], omitted: list[Omitted], wanted: Wanted) -> None:
    what = f"{listing.repo} at {listing.commit}"
    if not taken and not omitted:
        raise FleetError(
            f"{what} has no file of the scope {wanted.scope} that the patterns leave. It has: "
            f"{_few([file.name for file in listing.files]) or 'nothing'}.",
            kind="nothing_selected",
        )
    weights = any(_matches(file.name, ("*.safetensors", _GGUF)) for file in taken)
    pickles = [one.name for one in omitted if one.reason == "pickle"]
    if wanted.scope == "model" and pickles and not weights:
        raise FleetError(
            f"{what} has its weights only as pickles, which run code of their author when they are loaded: "
            f"{_few(pickles)}. Take a repo with safetensors, or trust this one with allow_pickle.",
            kind="pickle_only",
        )
    if not taken:
        raise FleetError(
            f"All that the patterns leave of {what} is refused by policy: "
            f"{_few([f'{one.name} ({one.reason})' for one in omitted])}. See allow_pickle and allow_code.",
            kind="nothing_selected",
        )


def code_repos(config: t.Mapping[str, t.Any]) -> list[str]:
    """Other repos whose code a configuration asks for: auto_map values like "other/repo--file.Class"."""
    found = set()
    values = config.get("auto_map")
    stack: list[t.Any] = list(values.values()) if isinstance(values, dict) else [values]
    while stack:
        value = stack.pop()
        if isinstance(value, (list, tuple)):
            stack.extend(value)
        elif isinstance(value, str) and "--" in value:
            found.add(value.partition("--")[0])
    return sorted(found)


def _matches(name: str, patterns: t.Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern + "*" if pattern.endswith("/") else pattern) for pattern in patterns)


def _few(names: t.Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
