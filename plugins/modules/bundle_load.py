#!/usr/bin/python

# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_load
version_added: 0.1.0
short_description: Load a bundle into the Docker Engine and the Hugging Face cache of a host
description:
  - Verifies the signature and every file of the bundle, works out what the host lacks, sees that there is room, and
    only then writes. What is refused has changed nothing.
  - Images are streamed to the Docker Engine without a copy on the way, layers that it has are not sent, and each image
    is found there by its ID afterwards.
  - Snapshots are put into the standard cache, blobs first, then links, then refs. Other files go below O(files_dir),
    in a folder for each kind.
  - A run that was ended anywhere is completed by the next.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.bundle
  - gpufleet.vllm.bundle.source
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  action_group: {}
requirements:
  - Docker SDK for Python >= 5.0.3 (for images)
notes:
  - Docker gives digests only to what came from a registry. An image that was bundled as C(NAME@sha256:...) is
    therefore loaded as C(NAME:sha256-...), see RV(local_names), or can be named by its ID, see RV(image_ids).
options:
  parts:
    description: What of the bundle is loaded here.
    type: list
    elements: str
    choices: [files, images, snapshots]
    default: [files, images, snapshots]
  hub_cache:
    description: The Hugging Face cache for the snapshots.
    type: path
    default: /srv/vllm/hub
  files_dir:
    description: Folder for files; in it are made C(collections), C(dashboards), C(files) and C(wheels).
    type: path
  owner:
    description: Owner of what is written, by name or ID; as it is by default.
    type: str
  group:
    description: Group of what is written, by name or ID; as it is by default.
    type: str
  mode:
    description: Mode of files as octal number in quotes. Folders can be entered by those who may read.
    type: str
    default: "0644"
  reserve_bytes:
    description: Bytes that have to stay free on each disk.
    type: int
    default: 1073741824
seealso:
  - module: gpufleet.vllm.bundle_create
  - module: gpufleet.vllm.bundle_inventory
author:
  - The gpufleet.vllm contributors (@gpufleet)
"""

EXAMPLES = r"""
- name: Load a bundle
  gpufleet.vllm.bundle_load:
    src: [/media/bundle]
    allowed_signers: /etc/gpufleet/allowed_signers
    hub_cache: /srv/vllm/hub
    files_dir: /srv/vllm/bundle

- name: Load wheels and collections on the controller
  gpufleet.vllm.bundle_load:
    src: [/media/bundle/media-001, /mnt/media-002]
    allowed_signers: /etc/gpufleet/allowed_signers
    parts: [files]
    files_dir: /srv/gpufleet
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
changes:
  description: What was or would be changed, with C(what), C(before) and C(after).
  returned: success
  type: list
  elements: dict
written_bytes:
  description: Bytes that were written or sent to the Docker Engine.
  returned: success
  type: int
image_ids:
  description: ID of each image by the name that it has in the bundle.
  returned: success
  type: dict
local_names:
  description: Name of each image at the Docker Engine by the name that it has in the bundle.
  returned: success
  type: dict
verified_bytes:
  description: Bytes of the bundle's files that were found good.
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

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.engine import ImageStore
from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.load import PARTS, load, order_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.parameters import HASHING, SOURCE
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import DOCKER_IMPORT_ERROR
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

ARGUMENTS = {
    **SOURCE,
    **HASHING,
    "parts": {"type": "list", "elements": "str", "choices": list(PARTS), "default": list(PARTS)},
    "hub_cache": {"type": "path", "default": "/srv/vllm/hub"},
    "files_dir": {"type": "path"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "str", "default": "0644"},
    "reserve_bytes": {"type": "int", "default": 1 << 30},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)

    def connect() -> ImageStore:
        if DOCKER_IMPORT_ERROR:
            module.fail_json(msg=missing_required_lib("docker", reason="to load images"), exception=DOCKER_IMPORT_ERROR)
        return ImageStore()

    try:
        result = load(order_of(module.params), connect, module.check_mode)
    except FleetError as error:
        module.fail_json(msg=str(error), **error.details)
    if not module._diff:
        result.pop("diff")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
