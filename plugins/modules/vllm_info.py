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
  - C(/health) answers 200 also when the engine behind it is frozen, so it must be seen to live. Of an engine that has
    work its counters must move; one that has none is asked for one token.
  - Reads only, may run at any time, and does not fail because a server is sick or absent.
  - The API key of a server that has one is taken from its secret files in O(state_dir), where the user of the task may
    read them. Without it all but RV(servers[].served) and the one request is told, for vLLM answers the rest without
    a key.
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
    description: Whether to read the servers' metrics, served names, and what is used of their GPUs.
    type: bool
    default: true
  probe:
    description:
      - Whether a server must prove that its engine lives. That takes milliseconds of an idle server, a second of one
        that has work, and up to 15 seconds of one that is frozen. All servers are looked at at the same time.
      - Without it, V(ready) means that C(/health) answers 200.
    type: bool
    default: true
  state_dir:
    description:
      - Folder on the host where M(gpufleet.vllm.vllm_servers) keeps secrets, and what starts have told of their memory.
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
        - V(ready) when its engine moves, or has answered a request of one token.
        - V(saturated) when requests wait, and tokens flow.
        - V(stalled) when it has work and no counter of its engine moves, though C(/health) answers 200.
        - V(sleeping) when it was put to sleep.
        - V(engine_dead) when its API process says that the engine process is dead (C(/health) answers 503).
        - V(loading) when it runs and does not listen yet.
        - V(unreachable) when it runs and was healthy before, or should be by the deadline of its start, and does not
          answer; also when C(/health) answers anything else, as while its engine is scaled, or when an engine that
          counts nothing (C(disable_log_stats)) does not answer the request of one token.
        - Docker's own word, for example V(exited), when it does not run.
      type: str
      sample: ready
    why: {description: What the state was concluded from, type: str, sample: it answers a request}
    url: {description: Where it listens, type: str, sample: "http://127.0.0.1:8000"}
    address: {description: Address at which it can be asked from its host, type: str}
    port: {description: TCP port on the host, type: int, sample: 8000}
    served:
      description: The models that it lists, null when it does not answer or wants a key that is not known.
      type: list
      elements: dict
      contains:
        name: {description: Served name, type: str, sample: qwen3-8b}
        max_model_len: {description: Length in tokens, type: int, sample: 32768}
        adapter_of: {description: The model that it is a LoRA adapter of, type: str}
    image: {description: Image name, type: str}
    image_id: {description: Image ID, type: str}
    gpus: {description: UUIDs of its GPUs, type: list, elements: str}
    gpu_use:
      description: What is used of its NVIDIA GPUs and MIG devices, by all processes; empty when NVML does not tell.
      type: list
      elements: dict
      contains:
        uuid: {description: UUID of the device, type: str}
        memory_used_bytes: {description: Bytes in use, type: int}
        memory_total_bytes: {description: Bytes in all, type: int}
        temperature_celsius: {description: Temperature of the card, type: int}
        power_watts: {description: Power that the card draws, type: int}
        utilization_percent:
          description:
            - Share of the last moments in which a kernel ran on the card, whoever's it was. Null where NVML does not
              tell, as on a card that is divided into MIG devices.
          type: int
          sample: 87
    container_id: {description: ID of its container, type: str}
    started_at: {description: When its container was started, type: str}
    exit_code: {description: Exit code when it does not run, type: int}
    oom_killed: {description: Whether the kernel killed it for want of memory, type: bool}
    restarts: {description: How often the Docker Engine has restarted it, type: int}
    version: {description: Version that the running engine tells, type: str, sample: 0.32.0}
    metrics:
      description:
        - Figures summed over the server's engines, of the KV cache's use the highest; null when unknown or before
          anything was counted.
        - The names do not change with vLLM's releases. Ratios are between 0 and 1. Percentiles are over all requests
          since the server's start, as exact as the bounds of vLLM's histograms.
      type: dict
      sample:
        requests_running: 1
        requests_waiting: 0
        requests_finished_total: 31
        kv_cache_usage_ratio: 0.02
        prompt_tokens_total: 512
        generation_tokens_total: 128
        preemptions_total: 0
        prefix_cache_hit_ratio: 0.25
        time_to_first_token_p50_seconds: 0.03
        time_to_first_token_p95_seconds: 0.09
        time_between_tokens_p50_seconds: 0.012
        time_between_tokens_p95_seconds: 0.02
        request_latency_p50_seconds: 0.4
        request_latency_p95_seconds: 1.1
        queue_time_p50_seconds: 0.001
        queue_time_p95_seconds: 0.002
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

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import DOCKER_IMPORT_ERROR
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.fleet import ports_in_use
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.measured import kept
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.servers import Depth, fleet_servers


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "fleet": {"type": "str", "default": "vllm"},
            "metrics": {"type": "bool", "default": True},
            "probe": {"type": "bool", "default": True},
            "state_dir": {"type": "path", "default": "/var/lib/gpufleet-vllm"},
        },
        supports_check_mode=True,
    )
    if DOCKER_IMPORT_ERROR:
        module.fail_json(
            msg=missing_required_lib("docker", reason="to talk to the Docker Engine"), exception=DOCKER_IMPORT_ERROR
        )
    params = module.params
    depth = Depth(params["metrics"], params["probe"])
    try:
        servers = fleet_servers(Engine(), params["fleet"], Store(params["state_dir"]), depth)
    except FleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(
        changed=False,
        servers=servers,
        ports_in_use=ports_in_use(servers),
        measured=kept(params["state_dir"]),
    )


if __name__ == "__main__":
    main()
