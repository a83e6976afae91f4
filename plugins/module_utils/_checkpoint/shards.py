# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Which files of a checkpoint hold its weights, and whether they are all there."""

from __future__ import annotations

import fnmatch
import os
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.files import MIB, CheckpointError, Files
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.totals import Tensor

INDEX = "model.safetensors.index.json"
# The index of 200 thousand tensors has about 25 MB.
_INDEX_LIMIT_BYTES = 64 * MIB
# What is read of the index first, and of its end.
INDEX_HEAD_BYTES = 4096
_INDEX_TAIL_BYTES = 64
_SHARD = re.compile(r"(.*-)(\d{1,9})(-of-)(\d{1,9})(\.\w+)")
# No checkpoint has as many shards; more would only be a long list of missing ones.
_SHARDS_LIMIT = 10_000
_NAMED = 5
_OTHER_WEIGHTS = (".gguf", ".bin", ".pt", ".pth")


def some(names: t.Sequence[str]) -> str:
    """The first names of a list, for a message."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def family(name: str) -> list[str]:
    """All shards of the checkpoint that this file belongs to, told by its name; only the file when it is no shard."""
    match = _SHARD.fullmatch(name)
    if not match or not 0 < int(match[4]) <= _SHARDS_LIMIT:
        return [name]
    before, number, between, count, suffix = match.groups()
    return [f"{before}{shard:0{len(number)}d}{between}{count}{suffix}" for shard in range(1, int(count) + 1)]


def families(names: t.Sequence[str]) -> set[str]:
    """All shards of the checkpoints that these files belong to; not of all, where that is more than any has."""
    found: set[str] = set()
    for name in names:
        if name not in found and len(found) <= _SHARDS_LIMIT:
            found.update(family(name))
    return found


def safetensors_files(files: Files) -> list[str]:
    """The *.safetensors of the folder that vLLM would load if there were no index. Raises CheckpointError."""
    found = [name for name in files.names if name.endswith(".safetensors") and "/" not in name]
    # Mistral puts the same weights there twice: in its own form (consolidated*) and in that of transformers.
    own_form = [name for name in found if name.startswith("consolidated")]
    chosen = [name for name in found if name not in own_form] or own_form
    if not chosen:
        others = [name for name in files.names if name.endswith(_OTHER_WEIGHTS)]
        text = "no *.safetensors is here"
        if others:
            text += f": {some(others)} cannot be measured"
        if any(name.endswith(".gguf") for name in others):
            text += ". vLLM takes a GGUF model by the path of its file: give that"
        raise CheckpointError("missing", files.where(""), text)
    return chosen


def gguf_files(files: Files, quant: str) -> list[str]:
    """The files of REPO:QUANT that vLLM would load. Raises CheckpointError.

    vLLM takes the first of what matches (0.23.0, model_executor/model_loader/weight_utils.py: download_gguf).
    """
    patterns = (f"*-{quant}.gguf", f"*-{quant}-*.gguf")
    found = [n for n in files.names if any(fnmatch.fnmatchcase(os.path.basename(n), pattern) for pattern in patterns)]
    if not found:
        others = [name for name in files.names if name.endswith(".gguf")]
        text = f"no *-{quant}.gguf is here; here are: {some(others) or 'no *.gguf at all'}"
        raise CheckpointError("missing", files.where(""), text)
    return family(min(found, key=lambda name: (name.count("-"), name)))


class Index:
    """The index of a sharded checkpoint. It repeats what the headers say, and is as large: it is read at last.

    vLLM loads of the folder only what the index names (0.32.0, model_executor/model_loader/weight_utils.py:
    filter_duplicate_safetensors_files).
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self.size = files.size(INDEX)
        self._head = files.read(INDEX, 0, INDEX_HEAD_BYTES).decode("latin-1")  # a byte, a character
        # The first two entries of the table, and what stands before them: its form is then known.
        self._form = re.search(r'"weight_map"\s*:\s*\{\s*("[^"\\]*")(\s*:\s*)("[^"\\]*")(\s*,\s*)"', self._head)

    def shards(self) -> list[str]:
        """The files that the index names, if that can be told from its first entry and the names in the folder."""
        if not self._form:
            return []
        shards = family(self._form[3][1:-1])
        return shards if len(shards) > 1 and set(shards) <= set(self._files.names) else []

    def agrees(self, tensors: t.Mapping[str, t.Sequence[Tensor]]) -> bool:
        """Whether the index names just these tensors in just these files, told by its length.

        Were one missing or too many, or in another file, the index would be longer or shorter. False means unknown.
        """
        if not self._form:
            return False
        tail = self._files.read(INDEX, max(0, self.size - _INDEX_TAIL_BYTES), _INDEX_TAIL_BYTES)
        closing = re.search(rb'"([\s}]*)$', tail)
        if not closing:
            return False
        between = len(self._form[2]) + len(self._form[4])
        length = self._form.start(1) - len(self._form[4]) + len(closing[1])
        for file, here in tensors.items():
            length += len(here) * (between + len(file) + 4) + sum(len(tensor.name) for tensor in here)
        return length == self.size

    def weight_map(self) -> dict[str, list[str]]:
        """File to tensors, all of it. Every file has to lie in the folder itself. Raises CheckpointError."""
        path = self._files.where(INDEX)
        weight_map = self._files.read_json(INDEX, _INDEX_LIMIT_BYTES).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            text = "its weight_map is no table from tensors to files. Pre-stage the model again"
            raise CheckpointError("invalid", path, text)
        by_file: dict[str, list[str]] = {}
        for tensor, name in weight_map.items():
            by_file.setdefault(name, []).append(tensor)
        for name in by_file:
            if os.path.basename(name) != name or name in ("", ".", "..") or "\0" in name:
                text = f"it names a file outside the folder: {name[:200]!r}. Do not use this model"
                raise CheckpointError("invalid", path, text)
        return by_file
