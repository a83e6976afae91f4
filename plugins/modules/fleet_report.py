# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the fleet; the work is done on the controller, by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_report
short_description: Show the servers of all hosts in one table
version_added: 0.1.0
author:
  - The gpufleet.vllm contributors (@gpufleet)
description:
  - Joins what M(gpufleet.vllm.vllm_info) returned for each host into one table, shows it and returns it.
  - Runs on the controller and touches no host.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.attributes.read_only
attributes:
  action_group: {}
options:
  servers:
    description: For each host the servers that M(gpufleet.vllm.vllm_info) returned.
    type: dict
    required: true
seealso:
  - module: gpufleet.vllm.vllm_info
"""

EXAMPLES = r"""
- name: Show the fleet
  gpufleet.vllm.fleet_report:
    servers: >-
      {{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, ['fleet_servers', 'servers']))) }}
  run_once: true
"""

RETURN = r"""
text:
  description: The table, one element a line.
  returned: always
  type: list
  elements: str
"""
