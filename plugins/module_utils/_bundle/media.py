# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The folders that a bundle lies in: one, or one for each medium, each with the manifest and some of the blobs."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import files, manifest, names
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

BLOBS = "blobs/sha256"
_MEDIUM = re.compile(r"media-[0-9]{3,}")
_HEX = re.compile(r"[0-9a-f]{64}")
_NAMED = 10


class BadBundle(FleetError):
    """The bundle is not whole. details["faults"]: one sentence for each thing that is wrong with it."""


class Opened(t.NamedTuple):
    """A bundle as it lies there. paths: of the blobs that are there, by SHA-256. foreign: what does not belong
    there."""

    roots: tuple[str, ...]
    text: bytes
    signature: bytes | None
    paths: t.Mapping[str, str]
    foreign: tuple[str, ...]


def medium_name(number: int) -> str:
    """The folder of a medium."""
    return f"media-{number:03d}"


def blob_folder(sha256: str) -> str:
    """Where a blob lies below a root."""
    return f"{BLOBS}/{sha256[:2]}"


def roots_below(path: str) -> list[str]:
    """The folder itself, and the folders of media in it; those that are there."""
    found = [path] if os.path.isdir(path) else []
    with contextlib.suppress(OSError):
        found += [
            os.path.join(path, name)
            for name in sorted(os.listdir(path))
            if _MEDIUM.fullmatch(name) and stat.S_ISDIR(os.lstat(os.path.join(path, name)).st_mode)
        ]
    return found


def blobs_of(root: str) -> tuple[dict[str, str], list[str]]:
    """Paths of the blobs below a root by SHA-256, and what else lies among them. Links are not followed."""
    found: dict[str, str] = {}
    foreign: list[str] = []
    top = root
    for part in ["", *BLOBS.split("/")]:
        top = os.path.join(top, part) if part else top
        if not os.path.isdir(top):
            return found, foreign
        if part and os.path.islink(top):
            return found, [top]
    for folder in sorted(os.listdir(top)):
        path = os.path.join(top, folder)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            foreign.append(path)
            continue
        for name in sorted(os.listdir(path)):
            blob = os.path.join(path, name)
            if _HEX.fullmatch(name) and name[:2] == folder and stat.S_ISREG(os.lstat(blob).st_mode):
                found[name] = blob
            else:
                foreign.append(blob)
    return found, foreign


def open_bundle(sources: t.Sequence[str]) -> Opened:
    """The bundle of these folders. Raises BadBundle when there is none, or when they are of several bundles."""
    roots = [
        root
        for source in sources
        for root in roots_below(os.path.abspath(source))
        if os.path.lexists(os.path.join(root, manifest.FILE))
    ]
    if not roots:
        raise BadBundle(
            f"There is no bundle in {', '.join(names.shown(one) for one in sources)}: neither there nor in a folder "
            f"media-NNN below is a {manifest.FILE}. Give the folder that holds it, as src.",
            faults=[],
        )
    texts = {root: _small(os.path.join(root, manifest.FILE)) for root in roots}
    first = roots[0]
    for root in roots[1:]:
        if texts[root] != texts[first]:
            raise BadBundle(
                f"{root} is of another bundle than {first}: their manifests differ. Give the media of one bundle; one "
                "whose making was interrupted has to be made to its end.",
                faults=[],
            )
    signatures = [
        _small(os.path.join(root, manifest.SIGNATURE))
        for root in roots
        if os.path.lexists(os.path.join(root, manifest.SIGNATURE))
    ]
    if signatures and (len(signatures) != len(roots) or len(set(signatures)) != 1):
        raise BadBundle(
            f"The signatures of {', '.join(roots)} differ, or some have none: a medium was changed or is damaged. Copy "
            "the bundle again.",
            faults=[],
        )
    paths: dict[str, str] = {}
    foreign: list[str] = []
    for root in roots:
        there, others = blobs_of(root)
        paths.update(there)
        foreign += others
    return Opened(tuple(roots), texts[first], signatures[0] if signatures else None, paths, tuple(foreign))


def _small(path: str) -> bytes:
    with files.opened(path) as (handle, status):
        if status.st_size > manifest.MANIFEST_BYTES:
            raise BadBundle(f"{path} has {status.st_size} bytes, which no manifest has", faults=[])
        return b"".join(bytes(chunk) for chunk in files.chunks(handle, status.st_size, path))


def verify_blobs(opened: Opened, wanted: manifest.Manifest, receipts: files.Receipts, workers: int) -> int:
    """Hash every blob that the bundle must have; how many bytes these are. Raises BadBundle with all that is wrong."""
    users = wanted.users_of_blobs()
    faults = []
    jobs = []
    absent: dict[int, list[str]] = {}
    for sha256, blob in sorted(wanted.blobs.items()):
        if blob.medium is None:
            continue
        if sha256 in opened.paths:
            jobs.append(sha256)
            continue
        place = os.path.join(blob_folder(sha256), sha256)
        strange = [path for path in opened.foreign if path.endswith(place)]
        if strange:
            faults.append(f"{names.shown(strange[0])} is no plain file")
        else:
            absent.setdefault(blob.medium, []).append(sha256)
    for medium, missing in sorted(absent.items()):
        size = sum(wanted.blobs[one].size for one in missing)
        whole = len(missing) == sum(blob.medium == medium for blob in wanted.blobs.values())
        if whole and wanted.media > 1:
            faults.append(f"{medium_name(medium)} is not here ({len(missing)} blob(s), {size} bytes)")
        else:
            faults += [f"blob {one} is missing: {users[one][0]}" for one in missing]
    results = files.in_parallel(lambda sha256: files.hash_file(opened.paths[sha256], receipts), jobs, workers)
    for sha256, result in zip(jobs, results):
        if isinstance(result, FleetError):
            faults.append(f"{result} ({users[sha256][0]})")
        elif result[1] != wanted.blobs[sha256].size:
            size = wanted.blobs[sha256].size
            faults.append(f"{opened.paths[sha256]} has {result[1]} bytes instead of {size}: {users[sha256][0]}")
        elif result[0] != sha256:
            faults.append(f"{opened.paths[sha256]} is damaged, its SHA-256 is {result[0]}: {users[sha256][0]}")
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise BadBundle(
            f"The bundle in {', '.join(opened.roots)} is not whole, and nothing was changed: "
            f"{'; '.join(faults[:_NAMED])}{more}. Copy what is named again from where the bundle was made.",
            faults=faults,
        )
    return sum(wanted.blobs[sha256].size for sha256 in jobs)
