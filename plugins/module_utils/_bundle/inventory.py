# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What a host has already, as the side where bundles are made reads it: a delta leaves that out. Also used to load."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import engine, files, manifest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError, Refused

FORMAT = "gpufleet-inventory"
VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DIFF_ID = re.compile(r"sha256:[0-9a-f]{64}")


class Inventory(t.NamedTuple):
    """What a host has. blobs: sizes by SHA-256. chains: the layers of its images, each list from the base up."""

    blobs: t.Mapping[str, int]
    chains: t.Sequence[t.Sequence[str]]

    def shared(self, diff_ids: t.Sequence[str]) -> int:
        """How many layers, from the base up, are there as the base of some image."""
        best = 0
        for chain in self.chains:
            count = 0
            while count < min(len(chain), len(diff_ids)) and chain[count] == diff_ids[count]:
                count += 1
            best = max(best, count)
        return best


def cache_blobs(hub_cache: str) -> dict[str, str]:
    """The blobs of a Hugging Face cache: name by path, links of the shared store followed."""
    found: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        root = os.path.realpath(hub_cache)
        for repo in sorted(os.listdir(root)):
            folder = os.path.join(root, repo, "blobs")
            if not repo.startswith("models--") or os.path.islink(folder) or not os.path.isdir(folder):
                continue
            for name in sorted(os.listdir(folder)):
                path = os.path.realpath(os.path.join(folder, name))
                if _BLOB.fullmatch(name) and path.startswith(root + os.sep) and os.path.isfile(path):
                    found[path] = name
    return found


def plain_files(files_dir: str) -> list[str]:
    """The files below a folder, without links."""
    return [
        os.path.join(place, name)
        for place, _folders, inside in os.walk(files_dir)
        for name in inside
        if stat.S_ISREG(os.lstat(os.path.join(place, name)).st_mode)
    ]


def take(
    hub_cache: str, files_dir: str | None, receipts: files.Receipts, workers: int, by_name: bool
) -> tuple[dict[str, str], dict[str, int]]:
    """(paths, sizes) of what the host has, by SHA-256.

    by_name: believe the names that the hub gave to weights, which are their SHA-256; else everything is hashed. What is
    believed here is hashed when a bundle that leaves it out is loaded.
    """
    paths: dict[str, str] = {}
    sizes: dict[str, int] = {}
    named = cache_blobs(hub_cache)
    jobs = [path for path, name in named.items() if not (by_name and _SHA256.fullmatch(name))]
    for path, name in named.items():
        if by_name and _SHA256.fullmatch(name):
            paths[name], sizes[name] = path, os.stat(path).st_size
    jobs += plain_files(files_dir) if files_dir else []
    results = files.in_parallel(lambda path: files.hash_file(path, receipts), jobs, workers)
    for path, result in zip(jobs, results):
        # What cannot be read or changes meanwhile is not there for a delta: the bundle then brings it.
        if not isinstance(result, FleetError) and named.get(path, result[0])[40:] in ("", result[0][40:]):
            paths[result[0]], sizes[result[0]] = path, result[1]
    return paths, sizes


def chains(store: engine.ImageStore) -> list[list[str]]:
    """The layers of the Engine's images, where it can build on them."""
    if not store.shares_layers:
        return []
    return [list(one) for one in sorted({known.diff_ids for known in store.all() if known.diff_ids})]


def encode(inventory: Inventory) -> bytes:
    """The text of an inventory."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "blobs": dict(inventory.blobs),
        "chains": [list(chain) for chain in inventory.chains],
    }
    return (json.dumps(document, sort_keys=True, indent=1) + "\n").encode("ascii")


def read(path: str) -> Inventory:
    """The inventory of a file. Raises Refused when it is none: a delta against something else would lack things."""
    try:
        with files.opened(path, follow=True) as (handle, status):
            if status.st_size > manifest.MANIFEST_BYTES:
                raise ValueError(f"{status.st_size} bytes")
            document = json.loads(b"".join(bytes(one) for one in files.chunks(handle, status.st_size, path)))
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError(f"it is not of the format {FORMAT}, version {VERSION}")
        blobs = {str(key): int(value) for key, value in document["blobs"].items()}
        layers = [[str(one) for one in chain] for chain in document["chains"]]
        if not all(map(_SHA256.fullmatch, blobs)) or not all(_DIFF_ID.fullmatch(i) for one in layers for i in one):
            raise ValueError("it names things that are no SHA-256")
    except (FleetError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(
            f"{path} is no inventory of a host, and nothing was written: {error}. Make it there with bundle_inventory."
        ) from error
    return Inventory(blobs, layers)
