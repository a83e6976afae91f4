# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Signatures of manifests: OpenSSH's own (ssh-keygen -Y, since OpenSSH 8.2; PROTOCOL.sshsig), with our name space."""

from __future__ import annotations

import os
import subprocess
import tempfile
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

# A signature holds only for what it was made for: one of a commit or of a mail is not taken for one of a bundle.
NAMESPACE = "gpufleet-bundle"
_SECONDS = 60


class BadSignature(FleetError):
    """The manifest is not signed by whom it has to be signed. details["kind"]: unsigned, unknown_signer, wrong_signer,
    not_possible."""


def sign(text: bytes, key: str) -> bytes:
    """The signature of a text. key: path of a private key without passphrase, or of a public one that an agent
    holds."""
    done = _ssh_keygen(["-Y", "sign", "-f", key, "-n", NAMESPACE], text)
    if done.returncode != 0 or b"BEGIN SSH SIGNATURE" not in done.stdout:
        raise BadSignature(
            f"The manifest could not be signed with {key}: {_said(done)}. Give a private key without passphrase, or a "
            "public key whose private half the ssh-agent of the task holds.",
            kind="not_possible",
        )
    return done.stdout


def is_by(text: bytes, signature: bytes, key: str) -> bool:
    """Whether a signature is good and made with this key."""
    finger = _ssh_keygen(["-l", "-f", key], b"")
    words = finger.stdout.split()
    with tempfile.TemporaryDirectory(prefix="gpufleet-") as folder:
        path = _kept(folder, signature)
        done = _ssh_keygen(["-Y", "check-novalidate", "-n", NAMESPACE, "-s", path], text)
    return done.returncode == 0 and len(words) > 1 and words[1] in done.stdout.split()


def verify(text: bytes, signature: bytes | None, allowed_signers: str | None, signer: str | None) -> str:
    """Who signed a text. allowed_signers: a file as ssh-keygen(1) describes it. signer: who it must be, None for any
    that is allowed. Raises BadSignature."""
    if not allowed_signers:
        raise BadSignature(
            "Nobody was said whose bundles are to be trusted, and nothing was changed. Give allowed_signers, a file "
            "with one line 'NAME KEYTYPE PUBLICKEY' for each; or say unsigned=true when the way of the bundle is "
            "trusted.",
            kind="unknown_signer",
        )
    if not os.path.isfile(allowed_signers):
        raise BadSignature(f"There is no file {allowed_signers} of allowed signers.", kind="not_possible")
    if signature is None:
        raise BadSignature(
            "The bundle is not signed, and nothing was changed. Make it with sign_key; or say unsigned=true when its "
            "way is trusted.",
            kind="unsigned",
        )
    with tempfile.TemporaryDirectory(prefix="gpufleet-") as folder:
        path = _kept(folder, signature)
        found = _ssh_keygen(["-Y", "find-principals", "-s", path, "-f", allowed_signers], b"")
        principals = found.stdout.decode("utf-8", "replace").splitlines() if found.returncode == 0 else []
        if not principals:
            raise BadSignature(
                f"The bundle is not signed by anybody in {allowed_signers}, and nothing was changed: {_said(found)}. "
                "Get it from whom you trust, or add the signer's public key there after making sure of it.",
                kind="unknown_signer",
            )
        if signer and signer not in principals:
            raise BadSignature(
                f"The bundle is signed by {', '.join(principals)}, not by {signer}, and nothing was changed.",
                kind="wrong_signer",
            )
        who = signer or principals[0]
        done = _ssh_keygen(["-Y", "verify", "-f", allowed_signers, "-I", who, "-n", NAMESPACE, "-s", path], text)
    if done.returncode != 0:
        raise BadSignature(
            f"The signature of the bundle does not hold, and nothing was changed: {_said(done)}. The manifest was "
            f"changed after it was signed, or it was signed for something else than a bundle (name space "
            f"{NAMESPACE}), or {who} may not sign now. Get the bundle again.",
            kind="wrong_signer",
        )
    return who


def _kept(folder: str, signature: bytes) -> str:
    path = os.path.join(folder, "signature")
    with open(path, "wb") as handle:
        handle.write(signature)
    return path


def _ssh_keygen(words: t.Sequence[str], text: bytes) -> subprocess.CompletedProcess[bytes]:
    """ssh-keygen in a session of its own: it must not ask for a passphrase at somebody's terminal."""
    environment = {**os.environ, "SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "force", "LC_ALL": "C"}
    try:
        # run_command of a module knows no time limit, and a library is no module.
        # pylint: disable-next=ansible-bad-function
        return subprocess.run(
            ["ssh-keygen", *words],
            input=text,
            capture_output=True,
            env=environment,
            start_new_session=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadSignature(
            f"ssh-keygen could not be run: {error}. Install OpenSSH's client, 8.2 or newer.", kind="not_possible"
        ) from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join((done.stderr or done.stdout).decode("utf-8", "replace").split())[-300:] or "it said nothing"
