# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Names that come from elsewhere: what is wrong with them, in words. Pure."""

from __future__ import annotations

import re
import typing as t
import unicodedata

# What Linux allows (limits.h: NAME_MAX, PATH_MAX).
NAME_BYTES = 255
PATH_BYTES = 4096
_SHOWN = 120
_REFERENCE = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]*(?:@sha256:[0-9a-f]{64})?")


def shown(name: str) -> str:
    """A name as a message may hold it: short, and without control characters."""
    text = ascii(name)[1:-1]
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def path_fault(path: str) -> str | None:
    """Why a relative path must not be used below a folder, or None when it may."""
    parts = path.split("/")
    try:
        length = len(path.encode("utf-8"))
        widest = max(len(part.encode("utf-8")) for part in parts)
    except UnicodeEncodeError:
        return "it is no valid Unicode"
    if not path:
        return "it is empty"
    if path.startswith("/"):
        return "it is absolute"
    if any(part in ("", ".", "..") for part in parts):
        return "it has an empty part, '.' or '..'"
    if any(unicodedata.category(letter) == "Cc" for letter in path):
        return "it has a control character"
    if "\\" in path:
        return "it has a backslash"
    if length > PATH_BYTES or widest > NAME_BYTES:
        return "it is too long"
    return None


def set_faults(paths: t.Sequence[str]) -> list[str]:
    """What is wrong with paths that are to lie below one folder, together and each; a sentence for each fault.

    Names that differ only in case or in the composition of letters would overwrite each other on some file systems.
    """
    found = []
    folders: dict[str, str] = {}
    seen: dict[str, str] = {}
    for path in paths:
        fault = path_fault(path)
        if fault:
            found.append(f"'{shown(path)}': {fault}")
            continue
        key = _folded(path)
        if key in seen:
            found.append(f"'{shown(path)}': it collides with '{shown(seen[key])}'")
        seen[key] = path
        parts = path.split("/")
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            other = folders.setdefault(_folded(folder), folder)
            if other != folder:
                found.append(f"'{shown(path)}': its folder collides with '{shown(other)}'")
    found.extend(f"'{shown(seen[key])}': it is a file and a folder" for key in seen if key in folders)
    return found


def reference_fault(name: str) -> str | None:
    """Why this is no name of an image, or None."""
    if len(name) > NAME_BYTES or not _REFERENCE.fullmatch(name) or ".." in name or "//" in name:
        return "it is no name of an image"
    return None


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
