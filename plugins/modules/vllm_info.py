# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers of a fleet on one host as they are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_info
short_description: Tell how the vLLM servers of a host are
version_added: 0.1.0
author:
  - The gpufleet.vllm contributors (@gpufleet)
description:
  - Finds the containers of a fleet on the host and asks each running server for its health, version and metrics.
  - Needs no API key, for vLLM answers these questions without one.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.attributes.read_only
attributes:
  action_group: {}
requirements:
  - Docker SDK for Python >= 5.0.3
  - requests
options:
  fleet:
    description: Name space of the servers on the host.
    type: str
    default: vllm
  metrics:
    description: Whether to read the servers' metrics.
    type: bool
    default: true
  state_dir:
    description: Folder on the host where M(gpufleet.vllm.vllm_servers) keeps what starts have told of their memory.
    type: path
    default: /var/lib/gpufleet-vllm
seealso:
  - module: gpufleet.vllm.vllm_servers
  - module: gpufleet.vllm.fleet_report
"""

EXAMPLES = r"""
- name: See how the servers of this host are
  gpufleet.vllm.vllm_info:
  register: fleet_servers
"""

RETURN = r"""
servers:
  description: The servers of the fleet, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: Name of the server and its container, type: str, sample: vllm-qwen3-8b-0}
    model: {description: Name of its model specification, type: str, sample: qwen3-8b}
    state:
      description:
        - V(ready) when C(/health) answers 200.
        - V(loading) when it runs and has not been healthy since its start.
        - V(unhealthy) when it runs and was healthy before, or has not been healthy within the deadline of its start.
        - Docker's own word, for example V(exited), when it does not run.
      type: str
      sample: ready
    url: {description: Where it listens, type: str, sample: "http://127.0.0.1:8000"}
    address: {description: Address at which it can be asked from its host, type: str}
    port: {description: TCP port on the host, type: int, sample: 8000}
    image: {description: Image name, type: str}
    image_id: {description: Image ID, type: str}
    gpus: {description: UUIDs of its GPUs, type: list, elements: str}
    container_id: {description: ID of its container, type: str}
    started_at: {description: When its container was started, type: str}
    exit_code: {description: Exit code when it does not run, type: int}
    oom_killed: {description: Whether the kernel killed it for want of memory, type: bool}
    restarts: {description: How often the Docker Engine has restarted it, type: int}
    version: {description: Version that the running engine tells, type: str, sample: 0.32.0}
    metrics:
      description:
        - Figures summed over the server's engines, of the KV cache's use the highest; null when unknown.
        - The names do not change with vLLM's releases.
      type: dict
      sample:
        requests_running: 1
        requests_waiting: 0
        kv_cache_usage_ratio: 0.02
        prompt_tokens_total: 512
        generation_tokens_total: 128
measured:
  description:
    - What earlier starts on this host have told of their memory, the latest last. The plan corrects its estimate by it.
    - Each has the C(key) of what decides about memory, and what was C(predicted) and C(measured). GiB of one GPU, or of
      the host for an engine on the CPU.
    - Of the key, C(same) is what starts must share to tell of each other, and C(load) what may differ.
  returned: success
  type: list
  elements: dict
  sample:
    - at: "2026-11-22T16:00:00+00:00"
      server: vllm-qwen3-8b-0
      version: 0.32.0
      key:
        same: {"release": "0.32.0", "device": "NVIDIA L4", "weights_bytes": 16381470720}
        load: {"max_model_len": 8192, "max_num_seqs": 256, "utilization": 0.92}
      predicted: {"weights_gib": 15.27, "available_kv_gib": 2.9}
      measured: {"weights_gib": 15.27, "available_kv_gib": 3.1}
ports_in_use:
  description: TCP ports of the host on which something listens that is not of the fleet.
  returned: success
  type: list
  elements: int
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import DOCKER_IMPORT_ERROR, Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.fleet import fleet_servers, ports_in_use
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.measured import kept
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "fleet": {"type": "str", "default": "vllm"},
            "metrics": {"type": "bool", "default": True},
            "state_dir": {"type": "path", "default": "/var/lib/gpufleet-vllm"},
        },
        supports_check_mode=True,
    )
    if DOCKER_IMPORT_ERROR:
        module.fail_json(
            msg=missing_required_lib("docker", reason="to talk to the Docker Engine"), exception=DOCKER_IMPORT_ERROR
        )
    try:
        servers = fleet_servers(Engine(), module.params["fleet"], module.params["metrics"])
    except FleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(
        changed=False,
        servers=servers,
        ports_in_use=ports_in_use(servers),
        measured=kept(module.params["state_dir"]),
    )


if __name__ == "__main__":
    main()
