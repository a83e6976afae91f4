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
  - Reads the NVIDIA GPUs of the host through NVML (C(libnvidia-ml.so.1)), or AMD's through C(amdsmi), and returns them
    as facts, with what joins them, how well they are, and the network devices near them.
  - A host without a GPU, without a driver or without the Python library is no failure. It gets an empty list, and
    the reason with what to do about it.
  - A card that cannot be used, for example because it fell off the bus, is listed with its error beside the others.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.attributes.read_only
requirements:
  - nvidia-ml-py >= 11.525.150 (without it the facts say that it is missing)
  - amdsmi of the host's ROCm, for AMD's cards only
notes:
  - In a container, process IDs are the host's, their names may be missing or another process's, and the list of
    processes can be empty.
  - Xid errors need access to the kernel log, which most hosts give to root only.
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

- name: Show the sets of GPUs that NVLink joins
  ansible.builtin.debug:
    var: ansible_facts.vllm_gpu.topology.link_islands
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
          description: V(nvidia) or V(amd), also when a card is there and its driver is not; null when none was seen.
          type: str
          sample: nvidia
        driver_version:
          description: Version of the driver.
          type: str
          sample: 580.95.05
        cuda_version:
          description: Newest CUDA version that the driver supports; null on AMD.
          type: str
          sample: "13.0"
        gpus:
          description:
            - The GPUs in NVML's order, which is the order of C(nvidia-smi); AMD's in that of C(amd-smi).
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
            memory_reserved_bytes: {description: Memory that driver and firmware keep for themselves, type: int}
            memory_cuda_total_bytes:
              description:
                - What CUDA reports as the total, and engines count with, which is the total without what is reserved.
                - Null on AMD and where the driver does not tell, which it does from release 510 on.
              type: int
            memory_shared_with_host:
              description: Whether the GPU uses the host's memory and tells no size of its own, as a GB10 does.
              type: bool
            compute_capability: {description: CUDA compute capability; null on AMD, type: str, sample: "9.0"}
            gfx_target: {description: Target that AMD's code is compiled for; null on NVIDIA, type: str, sample: gfx942}
            pci_bus_id: {description: PCI address as the library writes it, type: str, sample: "00000000:18:00.0"}
            numa_node: {description: NUMA node that the card hangs on, type: int}
            persistence_mode: {description: Whether persistence mode is on, type: bool}
            ecc_enabled: {description: Whether ECC is on, type: bool}
            mig_enabled: {description: Whether the card is split by MIG, type: bool}
            mig_enabled_after_reset: {description: Whether it will be after the next reset, type: bool}
            mig_devices:
              description: MIG devices of the card.
              type: list
              elements: dict
              contains:
                uuid: {description: UUID to give to a container, type: str}
                name: {description: Name with the profile, type: str, sample: NVIDIA A100-SXM4-40GB MIG 3g.20gb}
                profile: {description: Profile, type: str, sample: 3g.20gb}
                gpu_instance_id: {description: GPU instance, type: int}
                compute_instance_id: {description: Compute instance, type: int}
                gpu_slices: {description: Slices of the GPU instance, type: int, sample: 3}
                compute_slices: {description: Slices of the compute instance, type: int, sample: 3}
                multiprocessors: {description: Streaming multiprocessors, type: int, sample: 42}
                memory_total_bytes: {description: Memory of the device, type: int}
                memory_free_bytes: {description: Memory that is free now, type: int}
                memory_used_bytes: {description: Memory in use now, type: int}
                memory_reserved_bytes: {description: As for a card, type: int}
                memory_cuda_total_bytes: {description: As for a card, type: int}
                field_errors: {description: Errors by field, type: dict}
            nvlink:
              description: NVLinks of the card; null for a card without any.
              type: dict
              contains:
                version:
                  description: Version of the active links as the driver tells it; some call Hopper's 4.0 a 5.0.
                  type: str
                  sample: "4.0"
                links: {description: Links that the card has, type: int, sample: 18}
                active: {description: Links that are up, type: int, sample: 18}
                switch: {description: Whether they end at an NVSwitch, type: bool}
            fabric:
              description: What Fabric Manager has made of a card with NVSwitch; null for any other card.
              type: dict
              contains:
                state:
                  description: V(completed) when CUDA can use the card; V(in progress) or V(not started) before.
                  type: str
                  sample: completed
                error: {description: What went wrong, type: str}
            health:
              description: How well the card is.
              type: dict
              contains:
                temperature_celsius: {description: Temperature of the chip, type: int}
                utilization_percent:
                  description: Share of the last moments in which a kernel ran on it; null on AMD and with MIG devices.
                  type: int
                power_watts: {description: Power that it draws, type: int}
                power_limit_watts: {description: Power that it may draw; null on AMD, type: int}
                throttle_reasons:
                  description: What holds its clocks down now; V(gpu_idle) is harmless. Null on AMD.
                  type: list
                  elements: str
                  sample: [sw_thermal_slowdown]
                ecc_uncorrected_volatile: {description: Memory errors since the driver was loaded, type: int}
                ecc_uncorrected_aggregate: {description: Memory errors of its life; null on AMD, type: int}
                remapped_rows:
                  description: Rows of memory that were replaced, on NVIDIA's cards from Ampere on.
                  type: dict
                  contains:
                    correctable: {description: Because of errors that were corrected, type: int}
                    uncorrectable: {description: Because of errors that were not, type: int}
                    pending: {description: Whether a reset is needed to replace more, type: bool}
                    failed: {description: Whether one could not be replaced (the card is broken), type: bool}
                retired_pages:
                  description: Pages of memory that are no longer used, on NVIDIA's cards before Ampere.
                  type: dict
                  contains:
                    single_bit: {description: Because of corrected errors, type: int}
                    double_bit: {description: Because of uncorrected errors, type: int}
                    pending: {description: Whether a reset is needed to retire more, type: bool}
                xids:
                  description:
                    - Errors that the driver wrote to the kernel log since the host was started, one entry a code.
                    - Null when the log cannot be read, see C(kernel_log), or the card's address, and on AMD.
                  type: list
                  elements: dict
                  contains:
                    code: {description: Xid, type: int, sample: 79}
                    count: {description: How often, type: int}
                    last: {description: When last (UTC), type: str, sample: "2026-11-22T08:00:00Z"}
                    text: {description: What the driver wrote the last time, type: str}
            processes:
              description: Processes that hold memory of the card; null when the driver does not tell.
              type: list
              elements: dict
              contains:
                pid: {description: Process ID on the host, type: int}
                name: {description: The kernel's name of the process, type: str, sample: python3}
                used_bytes: {description: Memory that it holds; null when the driver does not tell, type: int}
                gpu_instance_id: {description: GPU instance that it runs on when MIG is on, type: int}
            field_errors:
              description: Errors of single queries by field; the card stays usable.
              type: dict
            error:
              description: Why the card cannot be used and what to do about it; null for a usable card.
              type: str
        topology:
          description:
            - What joins the GPUs. In the matrices, row and column are positions in C(gpus), V(X) is the GPU itself, and
              null stands for what is unknown and for cards that cannot be used.
          type: dict
          contains:
            link:
              description:
                - V(NV18) for 18 NVLinks, V(XGMI), or else the nearest common point as C(nvidia-smi topo -m) names it.
                - V(PIX) is one PCIe switch, V(PXB) several, V(PHB) the host bridge, V(NODE) several host bridges of a
                  NUMA node, V(SYS) the link between NUMA nodes.
              type: list
              elements: list
              sample: [[X, NV18], [NV18, X]]
            link_count: {description: NVLinks (1 for XGMI) between every two GPUs, type: list, elements: list}
            p2p_read:
              description:
                - Whether the GPU of the row can read the memory of the GPU of the column, as
                  C(nvidia-smi topo -p2p) says.
                - V(OK); V(CNS), V(GNS) or V(TNS) when chipset, GPU or topology do not support it; V(DR) when it is
                  disabled; V(NS) for no support at all; V(U) for unknown.
              type: list
              elements: list
              sample: [[X, OK], [OK, X]]
            p2p_write: {description: The same for writing, type: list, elements: list}
            p2p_link: {description: The same for access over NVLink or XGMI, type: list, elements: list}
            link_islands:
              description:
                - Sets of indexes of usable GPUs of which NVLink (with NVSwitch) or XGMI joins every two, and works.
                - Every usable GPU is in one set, perhaps alone.
              type: list
              elements: list
              sample: [[0, 1, 2, 3]]
            p2p_islands:
              description: Sets of indexes of usable GPUs of which every two can read and write each other's memory.
              type: list
              elements: list
              sample: [[0, 1, 2, 3]]
            interfaces:
              description: As C(link), from each GPU (row) to each of C(interfaces) (column).
              type: list
              elements: list
              sample: [[PIX, SYS], [SYS, PIX]]
            infiniband:
              description: As C(link), from each GPU (row) to each of C(infiniband) (column).
              type: list
              elements: list
            field_errors: {description: Errors of queries about two GPUs by field, type: dict}
        kernel_log:
          description: Where Xid errors come from.
          type: dict
          contains:
            readable: {description: Whether it could be read; null when nobody needed it, type: bool}
            reason: {description: Why not and what to do about it, type: str}
            other_xids:
              description: Xid errors of cards that NVML gives no address of, as C(gpus[].health.xids).
              type: list
              elements: dict
              contains:
                pci_bus_id: {description: PCI address as the kernel writes it, type: str, sample: "0000:18:00.0"}
                code: {description: Xid, type: int}
                count: {description: How often, type: int}
                last: {description: When last (UTC), type: str}
                text: {description: What the driver wrote the last time, type: str}
        interfaces:
          description: Network interfaces that are a device of the host, or a bond.
          type: list
          elements: dict
          contains:
            name: {description: Name, type: str, sample: ens1f0np0}
            kind: {description: V(device) or V(bond), type: str}
            driver: {description: Driver, type: str, sample: mlx5_core}
            state: {description: State as the kernel tells it, type: str, sample: up}
            speed_mbps: {description: Speed in Mbit/s; null while there is no link, type: int, sample: 100000}
            mtu: {description: Largest packet in bytes, type: int, sample: 9000}
            members: {description: Interfaces of a bond, type: list, elements: str}
            pci_bus_id: {description: PCI address as the kernel writes it, type: str}
            numa_node: {description: NUMA node that it hangs on, type: int}
        addresses:
          description:
            - Addresses at which other hosts may reach this one, of devices and of what stands on one (bonds, VLANs,
              bridges).
            - The bridges of container engines, and link-local addresses, are left out.
          type: list
          elements: dict
          contains:
            interface: {description: Name of the interface, type: str, sample: ens1f0np0}
            address: {description: Address with its prefix, type: str, sample: 10.0.0.5/24}
            speed_mbps: {description: Speed in Mbit/s; null while there is no link, type: int, sample: 100000}
        infiniband:
          description: Ports of InfiniBand and RoCE devices.
          type: list
          elements: dict
          contains:
            device: {description: Device, type: str, sample: mlx5_0}
            port: {description: Port, type: int, sample: 1}
            driver: {description: Driver, type: str, sample: mlx5_core}
            state: {description: State, type: str, sample: ACTIVE}
            rate_gbps: {description: Rate in Gbit/s, type: float, sample: 400.0}
            link_layer: {description: V(InfiniBand) or V(Ethernet) (RoCE), type: str}
            gid_present: {description: Whether one of the first 16 GIDs is set, type: bool}
            roce_v2_ipv4_gids: {description: Places of RoCE v2 GIDs over IPv4, type: list, elements: int, sample: [3]}
            interfaces: {description: Network interfaces of the device, type: list, elements: str}
            pci_bus_id: {description: PCI address as the kernel writes it, type: str}
            numa_node: {description: NUMA node that it hangs on, type: int}
        host:
          description: What matters of the host; null for what the kernel does not tell.
          type: dict
          contains:
            memory_total_bytes: {description: Main memory, type: int}
            memory_available_bytes: {description: Main memory that can be had without swapping, type: int}
            cpu_count: {description: Logical CPUs that are online, type: int}
            numa_nodes:
              description: NUMA nodes.
              type: list
              elements: dict
              contains:
                id: {description: Number, type: int}
                cpus: {description: Its logical CPUs, type: str, sample: 0-31}
                memory_total_bytes: {description: Its memory, type: int}
"""

import functools

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.facts import gpu_facts


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    run = functools.partial(module.run_command, handle_exceptions=False)
    module.exit_json(changed=False, ansible_facts={"vllm_gpu": gpu_facts(run)})


if __name__ == "__main__":
    main()
