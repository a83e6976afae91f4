# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Parameters of modules that write into the cache."""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access

_TOKEN_BYTES = 4096


def access_of(owner: str | None, group: str | None, mode: str) -> Access:
    """Owner and group as numbers or names, and the mode of files as octal digits. Raises FleetError."""
    if not re.fullmatch(r"0?[0-7]{3}", mode):
        raise FleetError(f"mode is '{mode}', and must be three octal digits, such as 0644.", kind="mode")
    if not int(mode, 8) & 0o400:
        raise FleetError(f"mode is {mode}, by which the owner could not read the files.", kind="mode")
    try:
        uid = None if not owner else int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid
        gid = None if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise FleetError(f"This host has no user or group of that name: {error}.", kind="owner") from None
    return Access(uid, gid, int(mode, 8))


def token_of(token: str | None, token_file: str | None) -> str | None:
    """The token itself. Raises FleetError, which does not show it."""
    if not token_file:
        return token or None
    try:
        if os.stat(token_file).st_mode & (stat.S_IRGRP | stat.S_IROTH):
            raise FleetError(
                f"{token_file} can be read by others. Make it chmod 0600 {token_file}, and consider the token known.",
                kind="token_file",
            )
        with open(token_file, encoding="utf-8") as handle:
            content = handle.read(_TOKEN_BYTES).strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise FleetError(f"{token_file} cannot be read: {why}.", kind="token_file") from None
    if not content or not content.isprintable() or " " in content:
        raise FleetError(f"{token_file} holds no token.", kind="token_file")
    return content
