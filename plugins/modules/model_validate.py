# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate models; the work is done on the controller, by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_validate
short_description: Validate models against a vLLM release
version_added: 0.1.0
author:
  - The gpufleet.vllm contributors (@gpufleet)
description:
  - Checks every field, engine option and variable of the models against one vLLM release, and shows the arguments and
    the environment that their servers would get.
  - Reports all problems of all models at once, each with what to write instead where something says the same.
  - Runs on the controller, needs no host and no image, touches nothing, and returns no secret.
  - Does not place the models; M(gpufleet.vllm.fleet_plan) does, and checks all of this as well.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.attributes.read_only
  - gpufleet.vllm.fleet
attributes:
  action_group: {}
options:
  release:
    description:
      - The vLLM release to validate against, also one that the catalogue does not know; the nearest one stands in then.
      - Without it each model is validated against the release that its image holds, by O(inspections) or else by its
        tag.
    type: str
  inspections:
    description:
      - For each host what the role P(gpufleet.vllm.host#role) has inspected there (C(vllm_inspection)).
      - With it the model's files, the GPUs and the image are taken into account.
  strict:
    description: Take warnings for errors.
    type: bool
    default: false
seealso:
  - module: gpufleet.vllm.fleet_plan
  - module: gpufleet.vllm.upgrade_check
"""

EXAMPLES = r"""
- name: Validate the models against the releases that their images' tags name
  gpufleet.vllm.model_validate:
    models: "{{ vllm_models }}"
  run_once: true

- name: Validate them against one release
  gpufleet.vllm.model_validate:
    models: "{{ vllm_models }}"
    release: 0.33.0
    strict: true
  run_once: true
"""

RETURN = r"""
valid:
  description: Whether there is no error.
  returned: always
  type: bool
messages:
  description: Every problem of every model.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The model, type: str}
    severity: {description: V(error) or V(warning), type: str}
    field: {description: Dotted path of the field, type: str, sample: engine.swap_space}
    value: {description: Its value; null where it is not shown, type: raw}
    reason: {description: What is wrong, type: str}
    fix: {description: What to do, type: str}
    remedy:
      description:
        - What to write instead of the field, by section of the model. Empty means to leave the field out.
        - Null where nothing else says the same.
      type: dict
      sample: {"engine": {"enable_log_requests": false}}
    text: {description: All of it in one line, type: str}
models:
  description: Each model that is well formed, and what its server would get.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The model, type: str}
    release: {description: The release of the catalogue that it was validated against, type: str, sample: 0.33.0}
    entrypoint: {description: Entrypoint of the container, type: list, elements: str}
    argv:
      description:
        - Arguments behind the entrypoint, with all remedies written in when there are errors.
        - Null where an error has no remedy.
      type: list
      elements: str
    env: {description: Environment of the container; null where C(argv) is, type: dict}
    engine: {description: The engine options with all remedies written in that there are, type: dict}
    messages: {description: The problems of this model, type: list, elements: dict}
"""
