#!/usr/bin/python

# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_cache
version_added: 0.1.0
short_description: Report the Hugging Face cache of a host, and remove what nobody needs
description:
  - Lists every revision of every model in the cache with its size, its last use, and who needs it.
  - Removes those that nobody needs, all of them or as many as a quota asks for, the longest unused first.
  - What O(keep) names stays, and what a running container reads, by its arguments and mounts. When a container mounts
    the cache and does not say what it reads, everything stays.
  - Content that several revisions share is removed with the last of them.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  hub_cache:
    description: Folder of the cache on the host; by default what the module's environment says.
    type: path
  state:
    description: V(reported) only reads. V(pruned) removes.
    type: str
    choices: [reported, pruned]
    default: reported
  keep:
    description:
      - What stays. The filter P(gpufleet.vllm.model_snapshots#filter) makes it of C(vllm_models).
      - Required with O(state=pruned); an empty list keeps nothing.
    type: list
    elements: dict
    suboptions:
      repo:
        description: Repo id.
        type: str
        required: true
      revision:
        description: Commit, branch or tag; V(main) when it is not given.
        type: str
      scope:
        description: Not used. What is given to M(gpufleet.vllm.hf_snapshot) can be given here as well.
        type: str
      allow_code:
        description: Not used, as O(keep[].scope).
        type: bool
  keep_elsewhere:
    description:
      - What other hosts of the fleet need, as O(keep). It stays as well where the cache lies on a file system of the
        network, for these hosts may share it.
      - Containers that run on other hosts are not seen. What only they read, and no model names any more, is protected
        by O(min_age_hours) alone.
    type: list
    elements: dict
    suboptions:
      repo:
        description: Repo id.
        type: str
        required: true
      revision:
        description: Commit, branch or tag; V(main) when it is not given.
        type: str
      scope:
        description: Not used, as O(keep[].scope).
        type: str
      allow_code:
        description: Not used, as O(keep[].scope).
        type: bool
  engine:
    description:
      - Whether the Docker Engine of the host is asked which running containers read the cache.
      - Without it, only O(keep) protects what servers read.
    type: bool
    default: true
  min_age_hours:
    description: Revisions that were read or written within these hours stay.
    type: float
    default: 24
  quota_gb:
    description:
      - Gigabytes that the cache may have. No more is removed than that asks for.
      - The task fails when what stays is more than that, and removes nothing then.
      - Without it, everything that nobody needs is removed.
    type: float
requirements:
  - docker >= 5.0.3, only with O(engine=true)
seealso:
  - module: gpufleet.vllm.hf_snapshot
author:
  - The gpufleet.vllm contributors (@gpufleet)
"""

EXAMPLES = r"""
- name: Show what is in the cache
  gpufleet.vllm.hf_cache:
    hub_cache: /srv/vllm/hub
    keep: "{{ vllm_models | gpufleet.vllm.model_snapshots(inventory_hostname, group_names) }}"

- name: Remove what no model needs until 500 GB are left
  gpufleet.vllm.hf_cache:
    hub_cache: /srv/vllm/hub
    state: pruned
    keep: "{{ vllm_models | gpufleet.vllm.model_snapshots(inventory_hostname, group_names) }}"
    keep_elsewhere: "{{ vllm_models | gpufleet.vllm.model_snapshots }}"
    quota_gb: 500
"""

RETURN = r"""
total_bytes: {description: Bytes of all revisions; shared content counts once, type: int, returned: success}
partial_bytes: {description: Bytes of downloads that are not finished, type: int, returned: with O(state=reported)}
revisions:
  description: Every revision that is, or was, in the cache.
  type: list
  elements: dict
  returned: success
  contains:
    repo: {description: Repo id, type: str}
    commit: {description: Commit, type: str}
    path: {description: Folder of the snapshot, type: str}
    refs: {description: "Branches, tags and refs of our own that name it", type: list, elements: str}
    bytes: {description: Bytes of its files, type: int}
    freed_bytes: {description: Bytes that its removal alone would free, type: int}
    last_used: {description: "When it was last read or written, in seconds since 1970", type: int}
    needed_by: {description: Why it stays; empty when it may go, type: list, elements: str}
removed: {description: Revisions that were removed, type: list, elements: dict, returned: with O(state=pruned)}
removed_partials:
  description: Files of unfinished downloads that were removed.
  type: list
  elements: str
  returned: with O(state=pruned)
report:
  description: The revisions as lines for people, the largest first.
  type: list
  elements: str
  returned: success
freed_bytes: {description: Bytes that were freed, type: int, returned: with O(state=pruned)}
"""

import os

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.cache import default_hub_cache
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.keep import (
    Kept,
    Limits,
    is_remote,
    prune,
    report,
    table,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.users import users_of


def main() -> None:
    """Run the module."""
    needed = {
        "type": "list",
        "elements": "dict",
        "options": {
            "repo": {"type": "str", "required": True},
            "revision": {"type": "str"},
            "scope": {"type": "str"},
            "allow_code": {"type": "bool"},
        },
    }
    module = AnsibleModule(
        argument_spec={
            "hub_cache": {"type": "path"},
            "state": {"type": "str", "choices": ["reported", "pruned"], "default": "reported"},
            "keep": needed,
            "keep_elsewhere": needed,
            "engine": {"type": "bool", "default": True},
            "min_age_hours": {"type": "float", "default": 24},
            "quota_gb": {"type": "float"},
        },
        supports_check_mode=True,
        required_if=[("state", "pruned", ["keep"])],
    )
    params = module.params
    hub_cache = params["hub_cache"] or default_hub_cache(os.environ)
    kept = [Kept(one["repo"], one["revision"]) for one in params["keep"] or []]
    if is_remote(hub_cache):
        kept += [Kept(one["repo"], one["revision"], elsewhere=True) for one in params["keep_elsewhere"] or []]
    quota = None if params["quota_gb"] is None else int(params["quota_gb"] * 10**9)
    try:
        users = users_of(hub_cache) if params["engine"] else []
        if params["state"] == "reported":
            result = {"changed": False, **report(hub_cache, kept, users)}
        else:
            result = prune(hub_cache, kept, users, Limits(params["min_age_hours"] * 3600, quota), module.check_mode)
    except FleetError as error:
        lacks = ". " + missing_required_lib("docker") if "exception" in error.details else ""
        module.fail_json(msg=f"{error}{lacks}", **error.details)
    if not module._diff:
        result.pop("diff", None)
    module.exit_json(report=table(result, hub_cache), **result)


if __name__ == "__main__":
    main()
