#!/usr/bin/python

# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_verify
version_added: 0.1.0
short_description: Verify a bundle without loading it
description:
  - Checks who signed a bundle, and hashes every file of it. Fails with the names of all that is missing, damaged or
    strange, and with what it belongs to.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.attributes.read_only
  - gpufleet.vllm.bundle
  - gpufleet.vllm.bundle.source
attributes:
  action_group: {}
seealso:
  - module: gpufleet.vllm.bundle_load
author:
  - The gpufleet.vllm contributors (@gpufleet)
"""

EXAMPLES = r"""
- name: Verify a bundle
  gpufleet.vllm.bundle_verify:
    src: [/media/bundle]
    allowed_signers: /etc/gpufleet/allowed_signers
"""

RETURN = r"""
name:
  description: Name of the bundle.
  returned: success
  type: str
digest:
  description: SHA-256 of the manifest, which stands for the whole bundle.
  returned: success
  type: str
signer:
  description: Who signed it; null when that was not asked.
  returned: success
  type: str
verified_bytes:
  description: Bytes of the files that were found good.
  returned: success
  type: int
extra:
  description: Files among those of the bundle that are not of it. They are never used.
  returned: success
  type: list
  elements: str
media:
  description: Number of media.
  returned: success
  type: int
blobs:
  description: Number of different contents in the bundle.
  returned: success
  type: int
bytes:
  description: Size of the bundle without its manifest.
  returned: success
  type: int
left_out_bytes:
  description: Size of what a delta leaves out because the far side has it.
  returned: success
  type: int
images:
  description: The images with C(id) and C(names).
  returned: success
  type: list
  elements: dict
snapshots:
  description: The snapshots with C(repo_id), C(commit), C(refs), C(files) and C(bytes).
  returned: success
  type: list
  elements: dict
files:
  description: The other files with C(kind) and C(path).
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.files import Receipts
from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.parameters import HASHING, SOURCE, workers_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.verify import Trust, told, verify
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**SOURCE, **HASHING}, supports_check_mode=True)
    given = module.params
    receipts = Receipts(given["state_path"], given["rehash"])
    trust = Trust(given["allowed_signers"], given["signer"], given["unsigned"], given["digest"])
    try:
        verified = verify(given["src"], trust, receipts, workers_of(given["workers"]))
        if not module.check_mode:
            receipts.save()
    except FleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, **told(verified))


if __name__ == "__main__":
    main()
