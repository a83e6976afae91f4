# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Bounded reading of the files of a checkpoint. What a stranger made must not crash or stall us."""

from __future__ import annotations

import json
import os
import stat
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

MIB = 1 << 20


class CheckpointError(FleetError):
    """A file of a checkpoint cannot be used.

    details["kind"]: missing, unreadable, not_a_file, too_large, truncated, invalid. details["file"]: its path.
    """

    def __init__(self, kind: str, file: str, message: str) -> None:
        super().__init__(f"{file}: {message}", kind=kind, file=file)


class Files:
    """The files of one checkpoint, wherever they lie. Names are relative, with "/" between folders."""

    names: list[str]  # sorted; folders are named too

    def where(self, name: str) -> str:
        """The path or address of a file, for messages."""
        raise NotImplementedError

    def size(self, name: str) -> int:
        """Bytes of a file. Raises CheckpointError."""
        raise NotImplementedError

    def read(self, name: str, begin: int, length: int) -> bytes:
        """These bytes of a file; fewer only where it ends. Raises CheckpointError."""
        raise NotImplementedError

    def prefetch(self, heads: t.Mapping[str, int]) -> None:
        """Says that soon this many bytes from the beginning of these files are read."""

    def read_json(self, name: str, limit_bytes: int) -> dict[str, t.Any]:
        """The JSON object of a file of at most limit_bytes. Raises CheckpointError."""
        size = self.size(name)
        if size > limit_bytes:
            text = f"{size} bytes are more than such a file ever has ({limit_bytes})"
            raise CheckpointError("too_large", self.where(name), text)
        return parse_object(self.where(name), self.read(name, 0, size))


class Folder(Files):
    """The files in a folder of this host, and those in its folders, one level deep."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            entries = sorted(os.listdir(path))
        except FileNotFoundError:
            text = "the folder is not there. Pre-stage the model, or correct the path"
            raise CheckpointError("missing", path, text) from None
        except NotADirectoryError:
            text = "a folder with config.json and *.safetensors, or a *.gguf file, is needed"
            raise CheckpointError("not_a_folder", path, text) from None
        except OSError as error:
            raise unreadable(path, error) from error
        self.names = entries + [f"{entry}/{name}" for entry in entries for name in _inside(os.path.join(path, entry))]

    def where(self, name: str) -> str:
        return os.path.join(self.path, name)

    def size(self, name: str) -> int:
        """Bytes of a regular file; links are followed. A pipe or device would block or never end: they are refused."""
        path = self.where(name)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            what = "the link points at nothing" if os.path.islink(path) else "the file is missing"
            raise CheckpointError("missing", path, f"{what}; pre-stage the model again") from None
        except OSError as error:
            raise unreadable(path, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError("not_a_file", path, "this is no regular file")
        return status.st_size

    def read(self, name: str, begin: int, length: int) -> bytes:
        path = self.where(name)
        try:
            # Without a buffer, which would read more than asked for.
            with open(path, "rb", buffering=0) as handle:
                handle.seek(begin)
                content = handle.read(length)
                # One read may give less than is there, as on a slow mount.
                while len(content) < length and (more := handle.read(length - len(content))):
                    content += more
                return content
        except OSError as error:
            raise unreadable(path, error) from error


def _inside(path: str) -> list[str]:
    """Names in a folder, sorted; nothing when this is no folder or a closed one."""
    try:
        return sorted(os.listdir(path)) if os.path.isdir(path) else []
    except OSError:
        return []


def unreadable(path: str, error: OSError) -> CheckpointError:
    return CheckpointError(
        "unreadable", path, f"user id {os.geteuid()} cannot read it: {error.strerror}; the engine needs to as well"
    )


def parse_object(path: str, content: bytes) -> dict[str, t.Any]:
    """JSON text as a dict. NaN and Infinity, which Python's JSON knows and JSON does not, become strings: real
    configurations hold them (time_step_limit of Mamba models), and what reads our output may refuse them."""
    try:
        value = json.loads(content, parse_constant=str)
    except (ValueError, RecursionError) as error:  # ValueError: JSON and UTF-8 errors, and numbers of too many digits
        raise CheckpointError("invalid", path, f"this is no JSON: {error}; pre-stage the model again") from None
    if not isinstance(value, dict):
        raise CheckpointError("invalid", path, f"a JSON object was expected, not a {type(value).__name__}")
    return value
