# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that work on bundles take."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation fragments; the arguments are in plugins/module_utils/_bundle/parameters.py."""

    # How files are read.
    DOCUMENTATION = r"""
options:
  workers:
    description: Files that are read at the same time; V(0) for one for each core.
    type: int
    default: 0
  rehash:
    description: Read and hash everything again, also what has not changed by size and times.
    type: bool
    default: false
"""

    # A bundle that lies somewhere, and whose it must be.
    SOURCE = r"""
requirements:
  - ssh-keygen of OpenSSH >= 8.2 (for signatures)
options:
  src:
    description:
      - Folders of the bundle. A folder that holds C(media-NNN) folders stands for all of these.
    type: list
    elements: path
    required: true
  allowed_signers:
    description: File of those whose bundles are trusted, in the format of ssh-keygen(1).
    type: path
  signer:
    description: Name in O(allowed_signers) of the one who must have signed; anybody in it when not given.
    type: str
  unsigned:
    description: Take a bundle without looking for a signature when O(allowed_signers) is not given.
    type: bool
    default: false
  digest:
    description:
      - RV(digest) of the one bundle that is taken, which M(gpufleet.vllm.bundle_create) returns; any other is refused,
        also an earlier one with a good signature.
    type: str
  state_path:
    description: File in which is kept what was hashed, so that it is not read again; nothing is kept when not given.
    type: path
"""
