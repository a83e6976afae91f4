# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What a bundle holds, as text and as plain data. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import manifest

if t.TYPE_CHECKING:
    from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import sources


def lines(bundle: manifest.Manifest) -> str:
    """One line for each image, snapshot and file, for a diff."""
    found = [f"image {' '.join(one.names) or 'without a name'} {one.ids()[0]}" for one in bundle.images]
    for one in bundle.snapshots:
        size = sum(bundle.size(file.content) for file in one.files)
        found.append(f"snapshot {one.repo_id} {one.commit} {len(one.files)} files {size} bytes")
    found += [f"{one.kind} {one.path} {one.content}" for one in bundle.files]
    found += [f"cut into {bundle.media} media"] if bundle.media > 1 else []
    return "\n".join(sorted(found)) + "\n"


def lines_of(text: bytes | None) -> str:
    """The same of the text of a manifest, or nothing."""
    return lines(manifest.decode(text, "before")) if text else ""


def plan_lines(gathered: sources.Gathered, images: t.Sequence[str]) -> str:
    """The same of what has not been read yet."""
    found = [f"image {label}" for label in images]
    found += [f"snapshot {one.repo_id} {one.commit} {len(one.files)} files" for one in gathered.snapshots]
    found += [f"{one.kind} {one.path} {one.content}" for one in gathered.files]
    return "\n".join(sorted(found)) + "\n"


def summary(bundle: manifest.Manifest) -> dict[str, t.Any]:
    """What a bundle holds, for a module's result."""
    here = [blob.size for blob in bundle.blobs.values() if blob.medium is not None]
    return {
        "name": bundle.name,
        "media": bundle.media,
        "blobs": len(here),
        "bytes": sum(here),
        "left_out_bytes": sum(blob.size for blob in bundle.blobs.values()) - sum(here),
        "images": [{"id": one.ids()[0], "names": list(one.names)} for one in bundle.images],
        "snapshots": [
            {
                "repo_id": one.repo_id,
                "commit": one.commit,
                "refs": list(one.refs),
                "files": len(one.files),
                "bytes": sum(bundle.size(file.content) for file in one.files),
            }
            for one in bundle.snapshots
        ],
        "files": [{"kind": one.kind, "path": one.path} for one in bundle.files],
    }
