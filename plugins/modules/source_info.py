#!/usr/bin/python

# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: source_info
version_added: 0.1.0
short_description: What a host has of the repos and folders that engines will read
description:
  - Lists the files of tokenizers, configurations, adapters, draft models and models that lie on this host, and what is
    missing of them or broken.
  - Reads names, sizes and small JSON files; never weights. Nobody is asked.
  - M(gpufleet.vllm.fleet_plan) holds against it what models with C(offline) need.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.attributes.read_only
options:
  sources:
    description: What to look at. One that is listed twice is answered once.
    type: list
    elements: dict
    required: true
    suboptions:
      source:
        description: Repo id on the Hugging Face hub, or an absolute path on the host.
        type: str
        required: true
      revision:
        description: Commit of 40 digits, branch or tag in the cache; V(main) when it is not given.
        type: str
      scope:
        description: What of a repo is needed, as M(gpufleet.vllm.hf_snapshot) has it.
        type: str
        choices: [config, tokenizer, model]
        default: model
  hub_cache:
    description: Folder of the Hugging Face cache; by default what the module's environment says.
    type: path
seealso:
  - module: gpufleet.vllm.hf_snapshot
  - module: gpufleet.vllm.model_info
author:
  - The gpufleet.vllm contributors (@gpufleet)
"""

EXAMPLES = r"""
- name: Look at a tokenizer
  gpufleet.vllm.source_info:
    sources:
      - source: Qwen/Qwen3-8B
        scope: tokenizer
    hub_cache: /srv/vllm/hub
"""

RETURN = r"""
sources:
  description: One entry for each different source, in the order of O(sources).
  returned: always
  type: list
  elements: dict
  contains:
    source: {description: "O(sources[].source)", type: str, returned: always}
    revision: {description: "O(sources[].revision)", type: str, returned: always}
    scope: {description: "O(sources[].scope)", type: str, returned: always}
    found: {description: Whether it is there at all, type: bool, returned: always}
    reason: {description: "What is missing, and what to do; null when it is there", type: str, returned: always}
    path: {description: Folder or file, type: str, returned: when found}
    commit: {description: Commit; null for a path, type: str, returned: when found}
    files: {description: Names of the files that are there, type: list, elements: str, returned: when found}
    problems:
      description: Files that are missing or broken.
      type: list
      elements: dict
      returned: when found
      contains:
        file: {description: Name in the repo, type: str}
        path: {description: Path on the host, type: str}
        kind: {description: "V(missing), V(size) or V(invalid)", type: str}
        message: {description: What is wrong, type: str}
    code_repos:
      description: Other repos that C(auto_map) names for code, which is only run with trust in remote code.
      type: list
      elements: str
      returned: when found
    missing_code_repos:
      description: Those of C(code_repos) that the cache does not have.
      type: list
      elements: str
      returned: when found
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.sources import Asked, source_facts


def main() -> None:
    """Run the module."""
    source = {
        "source": {"type": "str", "required": True},
        "revision": {"type": "str"},
        "scope": {"type": "str", "choices": ["config", "tokenizer", "model"], "default": "model"},
    }
    module = AnsibleModule(
        argument_spec={
            "sources": {"type": "list", "elements": "dict", "required": True, "options": source},
            "hub_cache": {"type": "path"},
        },
        supports_check_mode=True,
    )
    asked = [Asked(one["source"], one["revision"], one["scope"]) for one in module.params["sources"]]
    module.exit_json(changed=False, sources=source_facts(asked, module.params["hub_cache"]))


if __name__ == "__main__":
    main()
