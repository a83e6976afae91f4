# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of engine images."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_info
short_description: Read the vLLM version and the entrypoint from images of a host
version_added: 0.1.0
author:
  - The gpufleet.vllm contributors (@gpufleet)
description:
  - Asks the Docker Engine of the host for each image, and the image's own Python for the version of vLLM in it and for
    the packages that change what this vLLM can do.
  - The version is never guessed from the tag, unless the image has no Python to ask; RV(images[].version_source) tells.
  - Asking starts a container without network and without capabilities for less than a second, and removes it.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.attributes.read_only
attributes:
  action_group: {}
requirements:
  - Docker SDK for Python >= 5.0.3
options:
  images:
    description: Names of images, with tag or digest. Images are never pulled.
    type: list
    elements: str
    required: true
seealso:
  - module: gpufleet.vllm.fleet_plan
"""

EXAMPLES = r"""
- name: See which vLLM an image holds
  gpufleet.vllm.image_info:
    images:
      - vllm/vllm-openai:v0.32.0
  register: engine_images
"""

RETURN = r"""
engine_version:
  description: Version of the Docker Engine.
  returned: success
  type: str
  sample: 20.10.24
images:
  description: One entry for each different name, in the order of O(images).
  returned: success
  type: list
  elements: dict
  contains:
    image: {description: Name as it was given, type: str}
    found: {description: Whether the host has the image, type: bool}
    reason: {description: Why something is not known, type: str}
    id: {description: ID of the image, type: str, returned: when found}
    digest:
      description: Digest under which the registry of its name knows it; null for one that was built or loaded here.
      type: str
      returned: when found
    repo_digests: {description: Digests under which registries know it, type: list, elements: str, returned: when found}
    version: {description: Version of vLLM in the image; null when it holds none, type: str, sample: 0.32.0}
    version_source: {description: V(package) or V(tag), type: str, returned: when found}
    packages:
      description:
        - Versions of packages beside vLLM, by name; those that bring quantization methods (C(vllm-gguf-plugin),
          C(vllm-bnb-plugin), C(bitsandbytes)), C(flashinfer-python), which decides about the sampler,
          C(ray), and every package that registers a plugin of vLLM.
        - Null when the image's Python could not be asked.
      type: dict
      sample: {bitsandbytes: 0.49.2, vllm-bnb-plugin: 0.1.0}
    cuda_version:
      description: CUDA in the image; null when its base is none of NVIDIA's.
      type: str
      returned: when found
      sample: 13.0.3
    entrypoint: {description: Entrypoint of the image, type: list, elements: str, returned: when found}
    cmd: {description: Default arguments of the image, type: list, elements: str, returned: when found}
    user: {description: User of the image; empty for root, type: str, returned: when found}
    architecture: {description: Architecture as Docker names it, type: str, sample: amd64, returned: when found}
    size_bytes: {description: Size of the unpacked image in bytes, type: int, returned: when found}
    stand_in: {description: Whether it is the stand-in engine of this collection's tests, type: bool}
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import DOCKER_IMPORT_ERROR
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.images import image_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"images": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    if DOCKER_IMPORT_ERROR:
        module.fail_json(
            msg=missing_required_lib("docker", reason="to talk to the Docker Engine"), exception=DOCKER_IMPORT_ERROR
        )
    try:
        engine = Engine()
        facts = [image_facts(engine, name) for name in dict.fromkeys(module.params["images"])]
        module.exit_json(changed=False, engine_version=engine.version(), images=facts)
    except FleetError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
