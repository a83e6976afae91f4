#!/usr/bin/python

# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_facts
version_added: 0.1.0
short_description: Facts about the GPUs of a host
description:
  - Reads the NVIDIA GPUs of the host through NVML (C(libnvidia-ml.so.1)) and returns them as facts.
  - A host without a GPU, without a driver or without the Python library is no failure. It gets an empty list, and
    the reason with what to do about it.
  - A card that cannot be used, for example because it fell off the bus, is listed with its error beside the others.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.attributes.read_only
requirements:
  - nvidia-ml-py >= 11.525.150 (without it the facts say that it is missing)
notes:
  - In a container, process IDs are the host's, and the list of processes can be empty.
options: {}
seealso:
  - module: gpufleet.vllm.model_info
author:
  - The gpufleet.vllm contributors (@gpufleet)
"""

EXAMPLES = r"""
- name: Read the GPUs
  gpufleet.vllm.gpu_facts:

- name: Show why a host has no usable GPU
  ansible.builtin.debug:
    msg: "{{ ansible_facts.vllm_gpu.reason }}"
  when: not ansible_facts.vllm_gpu.available
"""

RETURN = r"""
ansible_facts:
  description: The facts that this module adds.
  returned: always
  type: dict
  contains:
    vllm_gpu:
      description: GPUs, driver, and what matters of the host.
      returned: always
      type: dict
      contains:
        available:
          description: Whether at least one GPU is usable.
          type: bool
          sample: true
        reason:
          description: Why no GPU is usable and what to do about it; null when one is usable.
          type: str
        vendor:
          description: V(nvidia), also when a card is there and its driver is not; null when no card was seen.
          type: str
          sample: nvidia
        driver_version:
          description: Version of the driver.
          type: str
          sample: 580.95.05
        cuda_version:
          description: Newest CUDA version that the driver supports.
          type: str
          sample: "13.0"
        gpus:
          description:
            - The GPUs in NVML's order, which is the order of C(nvidia-smi).
            - A value is null when the card does not support the query, or when the query failed.
          type: list
          elements: dict
          contains:
            index: {description: NVML index, type: int, sample: 0}
            uuid: {description: UUID, type: str, sample: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f}
            name: {description: Product name, type: str, sample: NVIDIA H100 80GB HBM3}
            memory_total_bytes: {description: Memory of the card as the driver reports it, type: int}
            memory_free_bytes: {description: Memory that is free now, type: int}
            memory_used_bytes: {description: Memory in use now with what the driver keeps for itself, type: int}
            compute_capability: {description: CUDA compute capability, type: str, sample: "9.0"}
            pci_bus_id: {description: PCI address as NVML writes it, type: str, sample: "00000000:18:00.0"}
            numa_node: {description: NUMA node that the card hangs on, type: int}
            persistence_mode: {description: Whether persistence mode is on, type: bool}
            ecc_enabled: {description: Whether ECC is on, type: bool}
            mig_enabled: {description: Whether the card is split by MIG, type: bool}
            mig_devices:
              description: MIG devices of the card.
              type: list
              elements: dict
              contains:
                uuid: {description: UUID to give to a container, type: str}
                name: {description: Name with the profile, type: str, sample: NVIDIA A100-SXM4-40GB MIG 3g.20gb}
                gpu_instance_id: {description: GPU instance, type: int}
                compute_instance_id: {description: Compute instance, type: int}
                memory_total_bytes: {description: Memory of the device, type: int}
                memory_free_bytes: {description: Memory that is free now, type: int}
                memory_used_bytes: {description: Memory in use now, type: int}
                field_errors: {description: Errors by field, type: dict}
            processes:
              description: Processes that hold memory of the card; null when the driver does not tell.
              type: list
              elements: dict
              contains:
                pid: {description: Process ID on the host, type: int}
                used_bytes: {description: Memory that it holds; null when the driver does not tell, type: int}
            field_errors:
              description: Errors of single queries by field; the card stays usable.
              type: dict
            error:
              description: Why the card cannot be used and what to do about it; null for a usable card.
              type: str
        host:
          description: What matters of the host; null for what the kernel does not tell.
          type: dict
          contains:
            memory_total_bytes: {description: Main memory, type: int}
            memory_available_bytes: {description: Main memory that can be had without swapping, type: int}
            cpu_count: {description: Logical CPUs that are online, type: int}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.nvml import gpu_facts


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, ansible_facts={"vllm_gpu": gpu_facts()})


if __name__ == "__main__":
    main()
