# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the planned servers without network, and say what they asked for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_rehearse
short_description: Start the planned servers of a host without network and name what they ask for
version_added: 0.1.0
author:
  - The gpufleet.vllm contributors (@gpufleet)
description:
  - Starts one server of each model as the plan has it, in containers that have no network and no port, beside the
    fleet, and follows it until it has answered a real request. Everything is removed again afterwards.
  - Every look-up of a name, and every connection and datagram to an address outside of the container, is refused and
    recorded, with the process, the second and, where it is known, the reason. The task fails when there was one, or
    when a server did not start.
  - A recorder runs in a container of the engine's image. The engine shares its network and its processes. It has
    the capabilities to make a route, to see packets and to read whose a socket is, there and nowhere else.
  - Servers start one after the other, with empty caches of compiled kernels as on a new host.
  - Containers of the fleet are not touched and not counted. GPUs that are in use are refused before anything starts.
  - When a rehearsal is killed, its engine ends with it. The next rehearsal removes what is left, and is refused when
    it cannot. Engines write as root, so rehearse as root (C(become)).
    M(gpufleet.vllm.vllm_servers) removes it too, with O(gpufleet.vllm.vllm_servers#module:state=absent) or
    O(gpufleet.vllm.vllm_servers#module:prune=true).
  - Podman is refused.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
attributes:
  check_mode:
    support: full
    details:
      - Says what would be rehearsed, and refuses what cannot be.
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
  - requests
options:
  servers:
    description: The servers of this host, as M(gpufleet.vllm.fleet_plan) returns them in C(hosts).
    type: list
    elements: dict
    required: true
  secrets:
    description:
      - Secrets of the servers, as for M(gpufleet.vllm.vllm_servers). They are kept as long as a rehearsal takes.
    type: dict
    default: {}
  only:
    description: Names of models or servers to rehearse; all by default.
    type: list
    elements: str
    default: []
  listen_seconds:
    description: Seconds for which a server is listened to after it has answered its request.
    type: int
    default: 5
  fleet:
    description: Name space of the fleet on the host.
    type: str
    default: vllm
  state_dir:
    description: Folder of the fleet on the host. A rehearsal uses the folder C(rehearsal) in it, and its lock.
    type: path
    default: /var/lib/gpufleet-vllm
seealso:
  - module: gpufleet.vllm.fleet_plan
  - module: gpufleet.vllm.vllm_servers
"""

EXAMPLES = r"""
- name: Start the servers of this host without network
  gpufleet.vllm.vllm_rehearse:
    servers: "{{ vllm_plan.hosts[inventory_hostname] }}"
    secrets: "{{ vllm_models | gpufleet.vllm.model_secrets(vllm_plan.hosts[inventory_hostname]) }}"

- name: One model, listened to for a minute
  gpufleet.vllm.vllm_rehearse:
    servers: "{{ vllm_plan.hosts[inventory_hostname] }}"
    only: [qwen3-8b]
    listen_seconds: 60
"""

RETURN = r"""
msg:
  description: For each rehearsed server whether it starts, in how many seconds, and each thing that it asked for.
  returned: always
  type: str
  sample: "vllm-qwen3-8b-0: starts without network; 94 seconds; nothing was asked for."
planned:
  description: The servers that are rehearsed, one for each model.
  returned: when it was not refused
  type: list
  elements: dict
  sample: [{"server": "vllm-qwen3-8b-0", "model": "qwen3-8b"}]
rehearsals:
  description:
    - How each rehearsal came out. RV(rehearsals[].verdict) is V(clean), V(asked) or V(not_started).
  returned: when it was not refused
  type: list
  elements: dict
  contains:
    server:
      description: Name of the server.
      type: str
      returned: always
      sample: vllm-qwen3-8b-0
    model:
      description: Name of its model.
      type: str
      returned: always
      sample: qwen3-8b
    verdict:
      description:
        - V(asked) also when it did not start after that.
        - V(not_started) too when the host refused it or the recorder failed. What it asks for was not seen then, and
          its C(failures[].kind) is V(refused).
      type: str
      returned: always
      sample: asked
    started:
      description: Whether it answered a real request.
      type: bool
      returned: always
      sample: false
    seconds:
      description: Seconds from its start until it was ready, or until what it reached last.
      type: float
      returned: always
      sample: 94.2
    attempts:
      description:
        - Each host, protocol and port that was asked for, in the order of the first time. What was only looked up has
          the protocol V(dns) and no port.
      type: list
      elements: dict
      returned: always
      sample:
        - host: huggingface.co
          port: 443
          protocol: tcp
          times: 12
          second: 8.2
          process: vllm
          during: "configuring: vLLM 0.32.0"
          source: That is the Hugging Face hub ...
failures:
  description: Each server that did not become ready, in the form of those of M(gpufleet.vllm.vllm_servers).
  returned: when it was not refused
  type: list
  elements: dict
  sample: []
diagnosis:
  description: The causes of each failure, as M(gpufleet.vllm.vllm_diagnose) names them.
  returned: when a server did not start
  type: list
  elements: dict
  sample: []
notes:
  description: What was strange about the ends of the servers. These are warnings too.
  returned: when it was not refused
  type: list
  elements: str
  sample: []
problems:
  description: Everything that was refused, one sentence each.
  returned: when the task was refused before anything was started
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import DOCKER_IMPORT_ERROR
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal.rehearse import Rehearsal, Wish

ARGUMENTS = dict(
    servers=dict(type="list", elements="dict", required=True),
    secrets=dict(type="dict", default={}, no_log=True),
    only=dict(type="list", elements="str", default=[]),
    listen_seconds=dict(type="int", default=5),
    fleet=dict(type="str", default="vllm"),
    state_dir=dict(type="path", default="/var/lib/gpufleet-vllm"),
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if DOCKER_IMPORT_ERROR:
        module.fail_json(
            msg=missing_required_lib("docker", reason="to talk to the Docker Engine"), exception=DOCKER_IMPORT_ERROR
        )
    wish = Wish(*(module.params[name] for name in Wish._fields))
    try:
        result = Rehearsal(wish, Store(module.params["state_dir"])).run(module.check_mode)
    except FleetError as error:
        for note in error.details.get("notes", ()):
            module.warn(note)
        module.fail_json(msg=str(error), **error.details)
    for note in result["notes"]:
        module.warn(note)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
