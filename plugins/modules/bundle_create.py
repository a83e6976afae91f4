#!/usr/bin/python

# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_create
version_added: 0.1.0
short_description: Make a bundle of images, models and files for a site without internet
description:
  - Gathers container images, snapshots of the Hugging Face cache and plain files into one folder with one manifest,
    which can be signed, cut to a size of media, and made as a delta against what the far side has.
  - Content is stored once, by its SHA-256, however many images and models share it.
  - What is in the bundle already and is good is not written again, so a run that was ended anywhere is completed by
    the next. What is of no use any more is removed.
  - A bundle of the same things is the same to the bit. Nothing of a token or another secret is in it.
  - The format is in C(docs/bundle.schema.json).
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.bundle
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
  - ssh-keygen of OpenSSH >= 8.2 (for signatures)
options:
  dest:
    description:
      - Folder of the bundle. With O(media_bytes) it holds one folder C(media-NNN) for each medium.
    type: path
    required: true
  name:
    description: Name of the bundle, of letters, digits, C(.), C(_) and C(-).
    type: str
    default: bundle
  images:
    description: Images of the Docker Engine of this host, by name, digest or ID. They are never pulled.
    type: list
    elements: str
    default: []
  snapshots:
    description:
      - Commits of repos in O(hub_cache). All refs of the cache that stand for such a commit are brought as well.
      - Other repos that C(auto_map) of a model or tokenizer names for its code go along without their weights, as
        O(hub_cache) has them at C(main). One that is not there is told in RV(notes), for the code is only run
        with C(trust_remote_code).
      - One that is not whole, by what was asked for when it was fetched or by its own index of weights, is refused.
    type: list
    elements: dict
    default: []
    suboptions:
      repo_id:
        description: Repo of the hub.
        type: str
        required: true
        aliases: [model]
      revision:
        description: Commit, branch or tag; C(main) when it is not given.
        type: str
      scope:
        description:
          - What of it goes along, as M(gpufleet.vllm.hf_snapshot) has it; all that the cache has when it is not given.
          - With V(model), a snapshot without weights is refused.
        type: str
        choices: [config, tokenizer, model]
  files:
    description: Files and folders of any other kind.
    type: list
    elements: dict
    default: []
    suboptions:
      src:
        description: A file, or a folder of which all files are taken.
        type: path
        required: true
      kind:
        description: What it is, which decides the folder in which it is put on the far side.
        type: str
        choices: [collection, dashboard, file, wheel]
        default: file
      prefix:
        description: Folder below that of its kind.
        type: str
        default: ""
  hub_cache:
    description: The Hugging Face cache that holds the snapshots.
    type: path
    default: /srv/vllm/hub
  inventory:
    description:
      - File that M(gpufleet.vllm.bundle_inventory) wrote on the far side. What is in it is left out of the bundle,
        which then is a delta and can only be loaded where that is.
    type: path
  media_bytes:
    description: Size of a medium in bytes; V(0) puts all into one folder.
    type: int
    default: 0
  file_bytes:
    description:
      - Size of the largest file in bytes, for file systems that have a bound; V(0) cuts only what is larger than a
        medium.
    type: int
    default: 0
  sign_key:
    description:
      - Private key of OpenSSH without passphrase, or a public key whose private half the ssh-agent holds. The manifest
        is signed with it.
    type: path
  state_path:
    description:
      - File in which is kept what was hashed and saved, so that it is not read again. Not a part of the bundle.
      - By default O(dest) with C(.state.json) behind. A delta made into another folder is faster with the one of the
        first bundle.
    type: path
  reserve_bytes:
    description: Bytes that have to stay free on the disk.
    type: int
    default: 1073741824
seealso:
  - module: gpufleet.vllm.bundle_verify
  - module: gpufleet.vllm.bundle_load
  - module: gpufleet.vllm.bundle_inventory
author:
  - The gpufleet.vllm contributors (@gpufleet)
"""

EXAMPLES = r"""
- name: Bundle an image and a model on Blu-ray discs
  gpufleet.vllm.bundle_create:
    dest: /srv/bundles/november
    images: [vllm/vllm-openai:v0.33.0]
    snapshots:
      - repo_id: Qwen/Qwen3-8B
        revision: 9c925d64d72725edaf899c6cb9c377fd0709d9c5
    media_bytes: 25000000000
    sign_key: /root/.ssh/bundle_ed25519

- name: Bundle only what the far side does not have yet
  gpufleet.vllm.bundle_create:
    dest: /srv/bundles/december
    state_path: /srv/bundles/november.state.json
    inventory: /srv/bundles/far-side.json
    snapshots:
      - repo_id: Qwen/Qwen3-8B
"""

RETURN = r"""
name:
  description: Name of the bundle.
  returned: when the bundle was or would be whole
  type: str
digest:
  description: SHA-256 of the manifest, which stands for the whole bundle; loading can be told to take no other.
  returned: when the bundle was or would be whole
  type: str
media:
  description: Number of media.
  returned: when the bundle was or would be whole
  type: int
blobs:
  description: Number of different contents in the bundle.
  returned: when the bundle was or would be whole
  type: int
bytes:
  description: Size of the bundle without its manifest.
  returned: when the bundle was or would be whole
  type: int
left_out_bytes:
  description: Size of what the far side has.
  returned: when the bundle was or would be whole
  type: int
notes:
  description: Which code of models does not go along, and why. Each is a warning too.
  returned: success
  type: list
  elements: str
to_write:
  description: What was lacking before, with C(path) and C(bytes). Images are given with their unpacked size.
  returned: success
  type: list
  elements: dict
written_bytes:
  description: Bytes that were written.
  returned: success
  type: int
removed:
  description: Files that were of no use any more.
  returned: when the bundle was or would be whole
  type: list
  elements: str
signed:
  description: Whether the manifest is signed.
  returned: when the bundle was or would be whole
  type: bool
images:
  description: The images with C(id) and C(names).
  returned: when the bundle was or would be whole
  type: list
  elements: dict
snapshots:
  description: The snapshots with C(repo_id), C(commit), C(refs), C(files) and C(bytes).
  returned: when the bundle was or would be whole
  type: list
  elements: dict
files:
  description: The other files with C(kind) and C(path).
  returned: when the bundle was or would be whole
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.create import Order, create
from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.engine import ImageStore
from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.manifest import KINDS
from ansible_collections.gpufleet.vllm.plugins.module_utils._bundle.parameters import HASHING, workers_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import DOCKER_IMPORT_ERROR
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

ARGUMENTS = {
    "dest": {"type": "path", "required": True},
    "name": {"type": "str", "default": "bundle"},
    "images": {"type": "list", "elements": "str", "default": []},
    "snapshots": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "repo_id": {"type": "str", "required": True, "aliases": ["model"]},
            "revision": {"type": "str"},
            "scope": {"type": "str", "choices": ["config", "tokenizer", "model"]},
        },
    },
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "src": {"type": "path", "required": True},
            "kind": {"type": "str", "choices": list(KINDS), "default": "file"},
            "prefix": {"type": "str", "default": ""},
        },
    },
    "hub_cache": {"type": "path", "default": "/srv/vllm/hub"},
    "inventory": {"type": "path"},
    "media_bytes": {"type": "int", "default": 0},
    "file_bytes": {"type": "int", "default": 0},
    "sign_key": {"type": "path", "no_log": False},
    "state_path": {"type": "path"},
    "reserve_bytes": {"type": "int", "default": 1 << 30},
    **HASHING,
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if module.params["images"] and DOCKER_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("docker", reason="to save images"), exception=DOCKER_IMPORT_ERROR)
    order = Order(**{**module.params, "workers": workers_of(module.params["workers"])})
    try:
        store = ImageStore() if order.images else None
        result = create(order, store, module.check_mode)
    except FleetError as error:
        module.fail_json(msg=str(error), **error.details)
    for note in result["notes"]:
        module.warn(note)
    if not module._diff:
        result.pop("diff")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
