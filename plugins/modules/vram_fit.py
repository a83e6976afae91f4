# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What models take of GPUs; the work is done on the controller, by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vram_fit
short_description: Say whether models fit on GPUs, and what would make them fit
version_added: 0.1.0
author:
  - The gpufleet.vllm contributors (@gpufleet)
description:
  - Computes for every model and every kind of GPU that it may get what weights, activations, CUDA graphs and the rest
    take of it, how many tokens of KV cache and how many requests that leaves, and the longest request that fits.
  - Every figure has a low, an expected and a high value, and says how well it is founded.
  - Where a model does not fit, or only just, it names the changes of engine options that help, each with what it frees,
    what that leads to and what it costs.
  - Takes the GPUs and the models' files that were inspected on hosts, and GPUs that are only thought of.
  - Runs on the controller and returns no secret. Writes files there when O(dest) is given, and touches nothing else.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.fleet
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  action_group: {}
options:
  inspections:
    description:
      - For each host what the role P(gpufleet.vllm.host#role) has inspected there (C(vllm_inspection)).
      - Its GPUs are the devices, and it knows the models' files and the release in the image.
  devices:
    description: GPUs that are thought of, beside those of O(inspections) or instead of them.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The product's name as its driver gives it, such as C(NVIDIA L40S). Some defaults of vLLM and what the
            figures are founded on depend on it.
        type: str
        required: true
      memory_gib:
        description:
          - Its memory in GiB as CUDA reports it, which is less than the catalogue says, such as V(44.5) for 48 GB.
          - One of this and O(devices[].memory_bytes) is needed.
        type: float
      memory_bytes:
        description: The same in bytes.
        type: int
      count:
        description: How many of them one host has.
        type: int
        default: 1
      compute_capability:
        description: Its compute capability. By default what is known of the product of this name.
        type: str
  profiles:
    description:
      - What M(gpufleet.vllm.model_info) returned as RV(gpufleet.vllm.model_info#module:models).
      - For models whose files are on none of the hosts in O(inspections).
    type: list
    elements: dict
  release:
    description:
      - The vLLM release to compute for, also one that the catalogue does not know; the nearest one stands in then.
      - By default the one that each model's image holds, by O(inspections) or else by its tag.
    type: str
  dest:
    description:
      - A folder on the controller, made where it is missing, that gets C(fit.json) with all figures and a drawing of
        each model, C(NAME.svg). Without it nothing is written.
    type: path
  strict:
    description: Fail when a model fits on none of the devices, or its memory is unknown.
    type: bool
    default: false
  show:
    description: Show the report.
    type: bool
    default: true
  brief:
    description: Report of models that fit no more than the table.
    type: bool
    default: false
seealso:
  - module: gpufleet.vllm.fleet_plan
  - module: gpufleet.vllm.model_info
"""

EXAMPLES = r"""
- name: See whether the models fit on the GPUs of the fleet
  gpufleet.vllm.vram_fit:
    models: "{{ vllm_models }}"
    inspections: >-
      {{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'vllm_inspection'))) }}
  run_once: true

- name: Read the headers of a checkpoint
  gpufleet.vllm.model_info:
    models:
      - model: /srv/models/llama-70b
  register: checkpoint

- name: See on which GPU it would fit, before any is bought
  gpufleet.vllm.vram_fit:
    models:
      - name: llama-70b
        model: /srv/models/llama-70b
        image: vllm/vllm-openai:v0.33.0
        engine: {tensor_parallel_size: 2, max_model_len: 32768}
    profiles: "{{ checkpoint.models }}"
    devices:
      - {name: NVIDIA L40S, memory_gib: 44.5, count: 4}
      - {name: NVIDIA H100 80GB HBM3, memory_gib: 79.2, count: 2}
    dest: fit
"""

RETURN = r"""
fits:
  description: Whether every model fits on at least one kind of device.
  returned: always
  type: bool
models:
  description: What each model that is well formed takes.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: The model, type: str}
    model: {description: Its hub id or path, type: str}
    release: {description: The release of the catalogue that the figures are for, type: str, sample: 0.33.0}
    note: {description: Why that is not the release that was asked for; empty when it is, type: str}
    fits: {description: Whether it fits on at least one of the devices, type: bool}
    unknown: {description: Why nothing can be said of its memory; null where something can, type: str}
    deadline_seconds: {description: How long a start may take, type: int}
    devices:
      description: Each kind of device that it may get.
      type: list
      elements: dict
      contains:
        device: {description: The product's name, type: str, sample: NVIDIA L40S}
        hosts: {description: The hosts that have it; empty where it is only thought of, type: list, elements: str}
        gpus_there: {description: How many one host has at most; 0 for a CPU, type: int}
        gpus_needed: {description: How many one server takes; 0 for a CPU, type: int}
        verdict:
          description:
            - V(fits) also in the worst case, V(tight) as expected but not in the worst case, V(misfit), or
              V(too few GPUs) where no host has as many as the parallel sizes need.
          type: str
        ledger:
          description:
            - The memory of one device in bytes. C(budget) of C(total) is what the engine may take; C(terms) stand in it
              beside the KV cache C(kv), C(outside) beyond it, and C(room) stays free; each has C(low), C(expected) and
              C(high).
            - C(kv_needed) is what one request of C(max_model_len) tokens needs; C(tokens), C(concurrency) (requests of
              that length at once) and C(largest_length) are what the expected KV cache holds, and C(safe_length) what
              it holds in the worst case.
            - C(confidence) is V(calibrated), V(fitted) or V(low), and C(notes) say what is not certain.
          type: dict
        levers:
          description: Changes that help, what frees most first; none where it fits.
          type: list
          elements: dict
          contains:
            engine: {description: Engine options to write, type: dict, sample: {"kv_cache_dtype": "fp8"}}
            frees_gib: {description: GiB of each device by which what is short grows, type: float}
            tokens_after: {description: Tokens of KV cache then, type: int}
            concurrency_after: {description: Requests of full length at once then, type: float}
            max_model_len_after: {description: That length in tokens, type: int}
            verdict_after: {description: The verdict then, type: str}
            gpus: {description: GPUs that one server takes then, type: int}
            cost: {description: What is given up for it, type: str}
        together:
          description: A combination of such changes that fits, where no single one does or only at a price; else null.
          type: dict
        needed:
          description:
            - What would have to be there where no change helps, else null. C(gpus) of this kind with C(engine), or
              devices of C(device_gib) GiB; each is null where that does not help either.
          type: dict
problems:
  description: Every problem of what was declared, as RV(gpufleet.vllm.model_validate#module:messages).
  returned: always
  type: list
  elements: dict
text:
  description: The report as people read it, one element a line.
  returned: always
  type: list
  elements: str
"""
