# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare two releases for all models; the work is done on the controller, by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_check
short_description: Say what another vLLM release would change for each model
version_added: 0.1.0
author:
  - The gpufleet.vllm contributors (@gpufleet)
description:
  - Validates every model against the release that it has and against another one, and reports what breaks, what is
    deprecated there, which defaults change and what follows from that, and what becomes of the memory.
  - The other release may be older as well.
  - Runs on the controller, touches nothing, and returns no secret.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.attributes.read_only
  - gpufleet.vllm.fleet
attributes:
  action_group: {}
options:
  release:
    description: The vLLM release to go to.
    type: str
    required: true
  current:
    description:
      - The vLLM release that the models have now.
      - By default the one that each model's image holds, by O(inspections) or else by its tag.
    type: str
  inspections:
    description:
      - For each host what the role P(gpufleet.vllm.host#role) has inspected there (C(vllm_inspection)).
      - With it the model's files and the GPUs are taken into account; without it defaults that depend on the GPU are
        shown for each class of GPUs, and nothing is said of the memory.
  strict:
    description: Fail when a model cannot start with O(release) as it is declared.
    type: bool
    default: false
  show:
    description: Show the report.
    type: bool
    default: true
seealso:
  - module: gpufleet.vllm.model_validate
  - module: gpufleet.vllm.fleet_plan
"""

EXAMPLES = r"""
- name: See what the newest release would change
  gpufleet.vllm.upgrade_check:
    models: "{{ vllm_models }}"
    release: 0.33.0
  run_once: true
"""

RETURN = r"""
release:
  description: The release of the catalogue that the models were compared with.
  returned: success
  type: str
  sample: 0.33.0
note:
  description: Why that is not the release that was asked for; empty when it is.
  returned: success
  type: str
breaks:
  description: Number of errors that the models do not have at their present release.
  returned: success
  type: int
upgradable:
  description: Whether every model can start with the release as it is declared.
  returned: success
  type: bool
models:
  description: What changes for each model.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The model, type: str}
    current: {description: The release of the catalogue that stands for its present one, type: str, sample: 0.10.2}
    note: {description: Why that is not exactly its present one; empty when it is, type: str}
    breaks:
      description:
        - Errors that it does not have at its present release, as RV(gpufleet.vllm.model_validate#module:messages).
      type: list
      elements: dict
    already_broken: {description: Errors that it has at both releases, type: list, elements: dict}
    deprecations: {description: Warnings that it does not have at its present release, type: list, elements: dict}
    engine: {description: Its engine options with all remedies written in that there are, type: dict}
    changed_defaults:
      description:
        - Options that it leaves to vLLM and that get another value (C(is_option)), and what else behaves otherwise.
      type: list
      elements: dict
      contains:
        topic: {description: The option or what behaves otherwise, type: str, sample: gpu_memory_utilization}
        is_option: {description: Whether the topic is an option, type: bool}
        before: {description: The default; null where it is left open, type: raw, sample: 0.9}
        after: {description: The same of the other release, type: raw, sample: 0.92}
        devices: {description: Where it changes; empty for everywhere, type: list, elements: str}
        means: {description: What follows; null where nothing is to be said, type: str}
        source: {description: Release and file of vLLM that this was read in, type: str}
        keep: {description: What to write in each section of the model to have it as before, type: dict}
    image:
      description: Facts of the published image that differ, each with C(fact), C(before), C(after) and C(means).
      type: list
      elements: dict
    metrics:
      description: Metrics that are gone, each with C(name) and C(successors), the metrics that say the same.
      type: list
      elements: dict
    routes: {description: Routes that are gone, type: list, elements: str}
    memory:
      description:
        - For each kind of device that the model may get C(device), and its memory ledger C(before) and C(after).
        - Empty where the files or the devices are not known.
      type: list
      elements: dict
text:
  description: The report as people read it, one element a line.
  returned: success
  type: list
  elements: str
problems:
  description: Every problem of models that are malformed.
  returned: failure
  type: list
  elements: dict
"""
