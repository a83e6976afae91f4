# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Bounded reading of the small files of a checkpoint. What a stranger made must not crash or stall us."""

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


def file_size(path: str) -> int:
    """Bytes of a regular file; links are followed. A pipe or device would block or never end, so they are refused."""
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


def unreadable(path: str, error: OSError) -> CheckpointError:
    return CheckpointError(
        "unreadable", path, f"user id {os.geteuid()} cannot read it: {error.strerror}; the engine needs to as well"
    )


def read_json(path: str, limit_bytes: int) -> dict[str, t.Any]:
    """The JSON object of a file of at most limit_bytes. Raises CheckpointError."""
    size = file_size(path)
    if size > limit_bytes:
        raise CheckpointError("too_large", path, f"{size} bytes are more than such a file ever has ({limit_bytes})")
    try:
        with open(path, "rb") as handle:
            content = handle.read(limit_bytes)
    except OSError as error:
        raise unreadable(path, error) from error
    return parse_object(path, content)


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
