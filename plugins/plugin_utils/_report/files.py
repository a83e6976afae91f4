# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports as files on the controller, written where they differ."""

from __future__ import annotations

import os
import pathlib
import tempfile
import typing as t


def write_files(folder: str, texts: t.Mapping[str, str], pretend: bool) -> list[dict[str, str]]:
    """Write the files that are not there or hold something else; their differences, one for each, before and after.

    folder: made where it is missing; texts: the files' contents by their names; pretend: write nothing.
    Raises OSError. A file is there as a whole or not at all.
    """
    place = pathlib.Path(folder)
    differences = []
    for name, text in texts.items():
        path = place / name
        # Halves of surrogates, which a configuration may hold, cannot be encoded.
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
        before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        if path.exists() and before == text:
            continue
        header = str(path)
        differences.append({"before_header": header, "after_header": header, "before": before, "after": text})
        if not pretend:
            _write(path, text)
    return differences


def _write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = pathlib.Path(name)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # Reports are to be read by others; mkstemp lets nobody else.
        draft.chmod(0o644)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
