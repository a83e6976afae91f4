# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Arguments that modules of bundles share; they are described in plugins/doc_fragments/bundle.py."""

from __future__ import annotations

import os

HASHING = {
    "workers": {"type": "int", "default": 0},
    "rehash": {"type": "bool", "default": False},
}
SOURCE = {
    "src": {"type": "list", "elements": "path", "required": True},
    "allowed_signers": {"type": "path"},
    "signer": {"type": "str"},
    "unsigned": {"type": "bool", "default": False},
    "digest": {"type": "str"},
    "state_path": {"type": "path"},
}


def workers_of(given: int) -> int:
    """How many threads hash: as many as were asked for, or one for each core that this process may use."""
    return given or len(os.sched_getaffinity(0))
