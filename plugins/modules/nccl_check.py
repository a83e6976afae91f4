# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All-reduce over chosen GPUs and hosts in the engine's image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nccl_check
short_description: Run an all-reduce over chosen GPUs and hosts in the image of an engine
version_added: 0.1.0
author:
  - The gpufleet.vllm contributors (@gpufleet)
description:
  - Runs all-reduces of several sizes with C(torch.distributed) of the engine's own image, over NCCL on GPUs and over
    Gloo on the CPU, and tells whether the sums are right, how fast they were, and over what they went.
  - What hangs an engine for minutes without a word when it starts is so found within O(timeout_seconds), with the rank
    that did not come or is behind.
  - The container has the policy of a server (no capabilities, read-only root, no new privileges) and is always removed.
    The one exception is that several hosts need O(network=host), because NCCL uses ports of its own choice.
  - The playbook C(gpufleet.vllm.nccl_check) runs it on all hosts at once, with the environment that follows
    from their networks.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
attributes:
  check_mode:
    support: full
    details:
      - Says what would be run, and refuses what cannot be.
  diff_mode:
    support: N/A
    details:
      - This module leaves nothing changed.
  idempotent:
    support: full
    details:
      - This module leaves nothing changed.
  action_group: {}
requirements:
  - Docker SDK for Python >= 5.0.3
options:
  image:
    description: Image of the engine. It must be on the host.
    type: str
    required: true
  gpus:
    description: GPUs of this host, one rank each; none for an image that runs on the CPU.
    type: dict
    suboptions:
      runtime:
        description: How the container gets them.
        type: str
        choices: [nvidia, cdi]
        default: nvidia
      ids:
        description: UUIDs of GPUs for V(nvidia), CDI device names for V(cdi).
        type: list
        elements: str
        default: []
  processes:
    description: Ranks of this host when O(gpus) names none.
    type: int
    default: 2
  world_size:
    description: Ranks of all hosts; those of this host by default.
    type: int
  first_rank:
    description: Number of this host's first rank; the host with rank 0 is the one that the others come to.
    type: int
    default: 0
  master_address:
    description: Address of the host with rank 0.
    type: str
    default: 127.0.0.1
  master_port:
    description: TCP port there at which the ranks meet.
    type: int
    default: 29500
  network:
    description: Network of the container, V(none) for one host, V(host) or the name of a Docker network for several.
    type: str
    default: none
  env:
    description: Environment variables of the ranks, as the servers will have them.
    type: dict
    default: {}
  sizes:
    description: Sizes of the all-reduces in bytes.
    type: list
    elements: int
    default: [1024, 1048576, 67108864]
  repeat:
    description: How often each size is timed; the median counts.
    type: int
    default: 5
  timeout_seconds:
    description: Seconds within which all ranks have to be through.
    type: int
    default: 120
  shm_bytes:
    description: Size of /dev/shm in bytes.
    type: int
    default: 1073741824
  user:
    description: User of the container as C(uid) or C(uid:gid); the image's user by default.
    type: str
    default: ""
seealso:
  - module: gpufleet.vllm.gpu_facts
  - plugin: gpufleet.vllm.nccl_ranks
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Check two GPUs of a host
  gpufleet.vllm.nccl_check:
    image: vllm/vllm-openai:v0.32.0
    gpus:
      ids:
        - GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f
        - GPU-0d6e4f4a-8cbb-7d6c-54c4-3b1e5a2f6b7c

- name: Check what is joined between hosts, one rank each
  gpufleet.vllm.nccl_check:
    image: vllm/vllm-openai:v0.32.0
    gpus: {ids: ["{{ ansible_facts.vllm_gpu.gpus[0].uuid }}"]}
    world_size: "{{ ansible_play_hosts | length }}"
    first_rank: "{{ ansible_play_hosts.index(inventory_hostname) }}"
    master_address: 10.0.0.5
    network: host
    env: {NCCL_SOCKET_IFNAME: "=ens1f0np0"}
"""

RETURN = r"""
sizes:
  description: One entry a size that this host's ranks came to; the slowest rank counts.
  returned: always, but for refusals
  type: list
  elements: dict
  contains:
    bytes: {description: Size, type: int, sample: 67108864}
    correct: {description: Whether the sum was right on every rank of this host, type: bool}
    seconds: {description: Median time of one all-reduce, type: float, sample: 0.000412}
    algorithm_gb_per_second: {description: Size over time in 10^9 bytes a second, type: float, sample: 162.9}
    bus_gb_per_second:
      description: What every link carries, which compares with its rate whatever the number of ranks.
      type: float
      sample: 285.1
ranks:
  description: Ranks of this host that came into the group, with their device and the version of NCCL.
  returned: always, but for refusals
  type: list
  elements: dict
  sample: [{"rank": 0, "device": "cuda:0", "nccl": "2.28.9"}]
transports:
  description: What NCCL chose between the ranks of this host and others, as its log names it; empty over Gloo.
  returned: always, but for refusals
  type: list
  elements: str
  sample: [P2P/CUMEM]
task:
  description: What the ranks were told.
  returned: always, but for refusals
  type: dict
env:
  description: Environment variables of the ranks.
  returned: always, but for refusals
  type: dict
seconds:
  description: How long the check took.
  returned: when it ran
  type: float
  sample: 9.4
log:
  description: Last other lines of the container.
  returned: failure of a check
  type: list
  elements: str
problems:
  description: Everything that was refused, one sentence each.
  returned: when the task was refused before anything was started
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._collective.check import check
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import DOCKER_IMPORT_ERROR
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError

ARGUMENTS = dict(
    image=dict(type="str", required=True),
    gpus=dict(
        type="dict",
        options=dict(
            runtime=dict(type="str", choices=["nvidia", "cdi"], default="nvidia"),
            ids=dict(type="list", elements="str", default=[]),
        ),
    ),
    processes=dict(type="int", default=2),
    world_size=dict(type="int"),
    first_rank=dict(type="int", default=0),
    master_address=dict(type="str", default="127.0.0.1"),
    master_port=dict(type="int", default=29500),
    network=dict(type="str", default="none"),
    env=dict(type="dict", default={}),
    sizes=dict(type="list", elements="int", default=[1024, 1048576, 67108864]),
    repeat=dict(type="int", default=5),
    timeout_seconds=dict(type="int", default=120),
    shm_bytes=dict(type="int", default=1073741824),
    user=dict(type="str", default=""),
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if DOCKER_IMPORT_ERROR:
        module.fail_json(
            msg=missing_required_lib("docker", reason="to talk to the Docker Engine"), exception=DOCKER_IMPORT_ERROR
        )
    try:
        module.exit_json(changed=False, **check(module.params, module.check_mode))
    except FleetError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
