# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan the whole fleet; the work is done on the controller, by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_plan
short_description: Validate, fit and place all models of a fleet
version_added: 0.1.0
author:
  - The gpufleet.vllm contributors (@gpufleet)
description:
  - Turns the models that the inventory declares and what was inspected on the hosts into the servers of every host.
  - Checks every engine option against the vLLM release in the image, computes the memory of every device, and assigns
    GPUs and ports.
  - Reports all problems of all models at once. Runs on the controller, touches no host, and returns no secret.
  - Servers that run already keep their hosts, GPUs and ports where they still fit.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.attributes.read_only
  - gpufleet.vllm.fleet
attributes:
  action_group: {}
options:
  inspections:
    required: true
  strict:
    description:
      - Stop at what would otherwise only be warned of in a model's declaration, such as options that the release has
        deprecated or variables that it does not read. Warnings about memory and hosts stay warnings.
    type: bool
    default: false
  allow_floating_tags:
    description:
      - Accept images whose tag can mean another build at any time, such as C(latest) or C(nightly).
      - The build that was checked is the one that is started; a later deployment may find another.
    type: bool
    default: false
  allow_stand_in:
    description: Accept the stand-in engine of this collection's tests, which answers without any model.
    type: bool
    default: false
  show:
    description: Show the plan as a table with the memory of every server.
    type: bool
    default: true
seealso:
  - module: gpufleet.vllm.vllm_servers
"""

EXAMPLES = r"""
- name: Plan the fleet
  gpufleet.vllm.fleet_plan:
    models: "{{ vllm_models }}"
    inspections: >-
      {{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'vllm_inspection'))) }}
  run_once: true
  register: vllm_plan
"""

RETURN = r"""
hosts:
  description: For each host the servers that it should have, as M(gpufleet.vllm.vllm_servers) takes them.
  returned: success
  type: dict
  sample: {"gpu01": [{"name": "vllm-qwen3-8b-0", "image": "vllm/vllm-openai:v0.32.0"}]}
placements:
  description:
    - For each server where it goes, and the memory ledger of its device in bytes.
    - C(image_id) is the build that it was planned for and is started from; C(image_digest) what the registry calls it.
  returned: success
  type: list
  elements: dict
  sample: [{"server": "vllm-qwen3-8b-0", "host": "gpu01", "listen": "127.0.0.1:8000", "vllm": "0.32.0"}]
removals:
  description:
    - Servers of the fleet that no model asks for any more.
    - They are removed with O(gpufleet.vllm.vllm_servers#module:prune=true).
  returned: success
  type: list
  elements: dict
  sample: [{"host": "gpu01", "server": "vllm-old-0"}]
text:
  description: The plan as people read it, one element a line.
  returned: success
  type: list
  elements: str
problems:
  description: Every problem, when there is one.
  returned: failure
  type: list
  elements: dict
  sample:
    - where: qwen3-8b
      field: engine.max_model_length
      reason: is no option of vLLM 0.32.0
      fix: Did you mean max_model_len?
"""
