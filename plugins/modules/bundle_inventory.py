#!/usr/bin/python

# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_inventory
version_added: 0.1.0
short_description: Write down what a host has, for a delta bundle
description:
  - Lists the contents of the Hugging Face cache and of a folder of files by SHA-256, and the layers of the Docker
    Engine's images. M(gpufleet.vllm.bundle_create) leaves these out of a delta.
  - Weights are taken by the names that the hub gave them, which are their SHA-256, unless O(hashed=true). This is
    safe, for a delta is loaded only where what it leaves out was hashed and found good.
  - An Engine with containerd's image store cannot build on layers that are not in what it loads, so its images are not
    listed.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.bundle
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
  action_group: {}
requirements:
  - Docker SDK for Python >= 5.0.3 (for images)
options:
  dest:
    description: File that is written; what it holds is returned in any case.
    type: path
  hub_cache:
    description: The Hugging Face cache.
    type: path
    default: /srv/vllm/hub
  files_dir:
    description: The folder of files that M(gpufleet.vllm.bundle_load) filled.
    type: path
  images:
    description: Whether the Docker Engine is asked for its images.
    type: bool
    default: true
  hashed:
    description: Hash weights as well, instead of believing their names.
    type: bool
    default: false
  state_path:
    description: File in which is kept what was hashed, so that it is not read again; nothing is kept when not given.
    type: path
seealso:
  - module: gpufleet.vllm.bundle_create
author:
  - The gpufleet.vllm contributors (@gpufleet)
"""

EXAMPLES = r"""
- name: Write down what this host has
  gpufleet.vllm.bundle_inventory:
    dest: /tmp/far-side.json
    files_dir: /srv/vllm/bundle

- name: Take it along
  ansible.builtin.fetch:
    src: /tmp/far-side.json
    dest: inventories-of-hosts/
"""

RETURN = r"""
inventory:
  description: What the file holds.
  returned: success
  type: dict
  contains:
    format: {description: V(gpufleet-inventory), type: str}
    version: {description: Version of the format, type: int}
    blobs: {description: Sizes of contents by SHA-256, type: dict}
    chains: {description: The layers of each image from the base up, type: list, elements: list}
"""

import json

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle import files, inventory
from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.engine import ImageStore
from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.parameters import HASHING, workers_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import DOCKER_IMPORT_ERROR
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

ARGUMENTS = {
    "dest": {"type": "path"},
    "hub_cache": {"type": "path", "default": "/srv/vllm/hub"},
    "files_dir": {"type": "path"},
    "images": {"type": "bool", "default": True},
    "hashed": {"type": "bool", "default": False},
    "state_path": {"type": "path"},
    **HASHING,
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    if given["images"] and DOCKER_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("docker", reason="to list images"), exception=DOCKER_IMPORT_ERROR)
    receipts = files.Receipts(given["state_path"], given["rehash"])
    workers = workers_of(given["workers"])
    try:
        chains = inventory.chains(ImageStore()) if given["images"] else []
        _paths, sizes = inventory.take(
            given["hub_cache"], given["files_dir"], receipts, workers, by_name=not given["hashed"]
        )
        text = inventory.encode(inventory.Inventory(sizes, chains))
        changed = files.write_changed(given["dest"], text, module.check_mode) if given["dest"] else False
        if not module.check_mode:
            receipts.save()
    except FleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=changed, inventory=json.loads(text))


if __name__ == "__main__":
    main()
