# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Verifies a bundle: who made it, and that all of it is there and unchanged. Changes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import (
    files,
    manifest,
    media,
    names,
    report,
    signature,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Refused


@dataclasses.dataclass(frozen=True)
class Trust:
    """Whose bundles are taken. unsigned: also those of nobody, when allowed_signers is not given either.

    digest: of the manifest of the only one that is taken; any when None.
    """

    allowed_signers: str | None
    signer: str | None
    unsigned: bool
    digest: str | None = None


class Verified(t.NamedTuple):
    """A bundle that may be used. signer: who signed it, None when that was not asked."""

    opened: media.Opened
    wanted: manifest.Manifest
    signer: str | None
    hashed_bytes: int


def verify(src: t.Sequence[str], trust: Trust, receipts: files.Receipts, workers: int) -> Verified:
    """The bundle, when it is whole and from whom it must be. Raises FleetError that names all that is wrong."""
    opened = media.open_bundle(src)
    signer = None
    if trust.allowed_signers or not trust.unsigned:
        # Before a word of it is believed.
        signer = signature.verify(opened.text, opened.signature, trust.allowed_signers, trust.signer)
    found = hashlib.sha256(opened.text).hexdigest()
    if trust.digest and trust.digest.lower() != found:
        raise Refused(
            f"The bundle in {', '.join(opened.roots)} is another one than was asked for, and nothing was changed: its "
            f"digest is {found}, not {names.shown(trust.digest)}. It may be an earlier one: get the right one.",
            digest=found,
        )
    wanted = manifest.decode(opened.text, os.path.join(opened.roots[0], manifest.FILE))
    hashed = media.verify_blobs(opened, wanted, receipts, workers)
    return Verified(opened, wanted, signer, hashed)


def told(verified: Verified) -> dict[str, t.Any]:
    """The same for a module's result."""
    used = {sha256 for sha256, blob in verified.wanted.blobs.items() if blob.medium is not None}
    extra = [path for sha256, path in verified.opened.paths.items() if sha256 not in used]
    return {
        **report.summary(verified.wanted),
        "digest": hashlib.sha256(verified.opened.text).hexdigest(),
        "signer": verified.signer,
        "verified_bytes": verified.hashed_bytes,
        "extra": sorted([*extra, *verified.opened.foreign]),
    }
