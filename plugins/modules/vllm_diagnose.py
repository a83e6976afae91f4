# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with servers of this host, and an incident folder that shows it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_diagnose
short_description: Find out what is wrong with a vLLM server, and keep what shows it
version_added: 0.1.0
author:
  - The gpufleet.vllm contributors (@gpufleet)
description:
  - Reads the logs of containers, also of such as this collection has not made, or log files of the host, and names the
    causes that they show, the root first, each with what mends it.
  - The state of the containers, Xid errors of the GPUs and the options of the servers are taken into account. The logs
    of all containers of a server are read together.
  - Writes an incident folder as an archive on the host with the logs, what the Docker Engine tells of the containers,
    facts of the GPUs, metrics, the plan and the diagnosis. Secrets are taken out by their values and by their forms.
  - Without O(containers), O(servers) and O(logs) all servers of the fleet are looked at.
  - For a log file on the controller run the task with C(delegate_to=localhost).
extends_documentation_fragment:
  - gpufleet.vllm.attributes
attributes:
  check_mode:
    support: full
    details:
      - The diagnosis is made, and the archive that would be written is named.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Every run that writes makes an archive of its own.
  action:
    support: full
    description:
      - Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
  action_group: {}
requirements:
  - Docker SDK for Python >= 5.0.3
options:
  containers:
    description: Containers by name or ID.
    type: list
    elements: str
    default: []
  servers:
    description: Servers of the fleet by name.
    type: list
    elements: str
    default: []
  logs:
    description: Log files on the host.
    type: list
    elements: path
    default: []
  joined:
    description: Whether all that is given is of one server, whose nodes or ranks they are.
    type: bool
    default: false
  fleet:
    description: Name space of the servers on the host.
    type: str
    default: vllm
  release:
    description: Release of vLLM, for which the remedies are chosen. The log tells it in most cases.
    type: str
  plan:
    description: The plan of the servers, to be kept in the incident folder.
    type: dict
  write:
    description: Whether to write the incident folder.
    type: bool
    default: true
  dest:
    description: Folder on the host for the archive; C(incidents) in O(state_dir) by default.
    type: path
  fetch_to:
    description: Folder on the controller to which the archive is copied, readable by its owner only.
    type: path
  state_dir:
    description: Folder on the host where M(gpufleet.vllm.vllm_servers) keeps secrets, whose values are taken out.
    type: path
    default: /var/lib/gpufleet-vllm
  found:
    description: What the controller has found. Set by the action plugin, not by a task.
    type: dict
seealso:
  - module: gpufleet.vllm.vllm_info
  - module: gpufleet.vllm.vllm_servers
"""

EXAMPLES = r"""
- name: See what is wrong with the servers of this host, and bring the incident to the controller
  gpufleet.vllm.vllm_diagnose:
    fetch_to: incidents
  register: incident

- name: Show it
  ansible.builtin.debug:
    msg: "{{ incident.msg }}"

- name: Diagnose a container that something else has started, without writing anything
  gpufleet.vllm.vllm_diagnose:
    containers: [my-vllm]
    write: false

- name: Diagnose a log on the controller
  gpufleet.vllm.vllm_diagnose:
    logs: ["{{ playbook_dir }}/vllm.log"]
    write: false
  delegate_to: localhost
"""

RETURN = r"""
msg:
  description: What was found, for a person.
  returned: success
  type: str
diagnosis:
  description: What was found, a server, container or file each.
  returned: success
  type: list
  elements: dict
  contains:
    server: {description: "Name of the server, the container or the file", type: str}
    causes:
      description: The causes, the root first; none where nothing known is wrong.
      type: list
      elements: dict
      contains:
        id: {description: Name of the cause, type: str, sample: mem-cuda-oom}
        cause: {description: What is wrong, type: str}
        remedy: {description: What to do, type: str}
        change: {description: Part of the model specification that mends it, type: dict}
        remove: {description: Fields of the specification to take out, type: list, elements: str}
        evidence: {description: The line that shows it; null for a fact of the container or a GPU, type: str}
        source: {description: The log that holds the line, type: str}
        line: {description: Number of the line, type: int}
        process: {description: Process that wrote it, type: str}
        processes: {description: All processes that wrote such a line, type: list, elements: str}
        seen: {description: How many such lines were looked at, type: int}
        rank:
          description:
            - One of V(cause), V(symptom) of another cause, V(wrapper) around an error that it does not tell, V(request)
              and V(notice).
          type: str
        confidence: {description: "V(high), V(medium) or V(low)", type: str}
        link: {description: Documentation or an issue, type: str}
archive:
  description: The archive on the host that was, or in check mode would be, written.
  returned: when O(write)
  type: str
fetched:
  description: Its copy on the controller.
  returned: when O(fetch_to) is given and the archive was written
  type: str
files:
  description: What the archive holds.
  returned: when the archive was written
  type: list
  elements: str
"""

import functools
import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import DOCKER_IMPORT_ERROR
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._incident import collect, incident


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "containers": {"type": "list", "elements": "str", "default": []},
            "servers": {"type": "list", "elements": "str", "default": []},
            "logs": {"type": "list", "elements": "path", "default": []},
            "joined": {"type": "bool", "default": False},
            "fleet": {"type": "str", "default": "vllm"},
            "release": {"type": "str"},
            "plan": {"type": "dict"},
            "write": {"type": "bool", "default": True},
            "dest": {"type": "path"},
            "fetch_to": {"type": "path"},
            "state_dir": {"type": "path", "default": "/var/lib/gpufleet-vllm"},
            "found": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    params = module.params
    only_files = bool(params["logs"]) and not params["containers"] and not params["servers"]
    if DOCKER_IMPORT_ERROR and not only_files:
        module.fail_json(
            msg=missing_required_lib("docker", reason="to talk to the Docker Engine"), exception=DOCKER_IMPORT_ERROR
        )
    run = functools.partial(module.run_command, handle_exceptions=False)
    try:
        sources = collect.sources(None if only_files else Engine(), params)
        if params["found"] is None or module.check_mode:
            result = incident.read(sources, params, run, time.time())
        else:
            result = incident.write(sources, params, run)
    except FleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=params["write"] and (module.check_mode or params["found"] is not None), **result)


if __name__ == "__main__":
    main()
