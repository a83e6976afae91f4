#!/usr/bin/python

# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hf_snapshot
version_added: 0.1.0
short_description: Bring a model of the hub to a host, whole and verified
description:
  - Brings the files of one commit of a repo into the standard Hugging Face cache, where vLLM and every client of the
    hub find them.
  - Several connections fetch at once. What was interrupted, at whatever byte, goes on from there at the next run.
  - Every file is hashed while it is written, and gets its name only when its hash is the one that the hub lists. What
    lies in the cache already, put there by others, is hashed once.
  - When everything is there, neither the network nor the hub's client is touched.
  - Hosts that share a cache may run this at the same time. One fetches, the others wait for it.
  - While it works, the host's progress is shown.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
attributes:
  check_mode:
    support: full
    details:
      - Tells which files would be fetched, and how many bytes these are. The hub is asked when the cache does not know.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  repo:
    description: Repo id on the hub.
    type: str
    required: true
  revision:
    description:
      - Commit of 40 digits, branch or tag. Give a commit, so that all hosts have the same at all times.
      - A branch or tag that the cache knows stays what it is there, unless O(update=true).
    type: str
    default: main
  state:
    description:
      - V(present) has the files in the cache.
      - V(verified) hashes all files that O(scope) and patterns select and fails when one is missing or wrong. It asks
        no hub and changes nothing. Of a cache that others filled, it can tell only of the files that are there.
      - V(materialized) has the files in the cache, and copies of them in O(dest), beside weights that came without.
    type: str
    choices: [present, verified, materialized]
    default: present
  scope:
    description:
      - V(model) is all that an engine reads, weights included.
      - V(tokenizer) is the tokenizer with its chat templates, and C(config.json), without which it is not loaded.
      - V(config) is the configuration files.
      - With O(state=materialized) this is V(tokenizer) or V(config).
    type: str
    choices: [config, tokenizer, model]
    default: model
  allow_patterns:
    description: Only files that match one of these are taken. C(*) also matches C(/).
    type: list
    elements: str
    default: []
  ignore_patterns:
    description: Files that match one of these are not taken.
    type: list
    elements: str
    default: []
  allow_pickle:
    description:
      - Whether weights that are pickles (C(*.bin), C(*.pt), C(*.ckpt) and others) are taken. Loading one runs code of
        its author.
      - Without it, a repo that has no other weights is refused.
    type: bool
    default: false
  allow_code:
    description:
      - Whether program code is taken, which an engine with C(trust_remote_code) runs. O(revision) must be a commit
        then.
      - When the code lies in another repo (C(auto_map)), that one must be in the cache already.
    type: bool
    default: false
  update:
    description: Whether the hub is asked what a branch or tag is now, though the cache has one.
    type: bool
    default: false
  verify:
    description: Whether what is there already is hashed again. What is wrong is fetched anew.
    type: bool
    default: false
  hub_cache:
    description:
      - Folder of the cache on the host. Parents that do not exist are made.
      - When it is not given, the first that the environment of the module tells, which is how the hub client looks.
        C($HF_HUB_CACHE), C($HUGGINGFACE_HUB_CACHE), C($HF_HOME/hub), C($XDG_CACHE_HOME/huggingface/hub), and at last
        C(~/.cache/huggingface/hub).
    type: path
  dest:
    description: Folder for O(state=materialized). A file C(gpufleet-provenance.json) there tells the origin.
    type: path
  overwrite:
    description: Whether files of O(dest) may be replaced that differ and were not copied by this module.
    type: bool
    default: false
  owner:
    description: Owner of what is written, as a name or number. Not changed by default.
    type: str
  group:
    description: Group of what is written, as a name or number. Not changed by default.
    type: str
  mode:
    description: Mode of files, as octal digits. Folders also get C(x) where there is C(r).
    type: str
    default: "0644"
  endpoint:
    description: Address of the hub or of a mirror; by default what the module's environment says (C($HF_ENDPOINT)).
    type: str
  token:
    description:
      - Token of the hub, for gated and private repos. No output has it in it.
      - Without one, the environment's token is used as the hub's client finds it.
    type: str
  token_file:
    description: File on the host that holds the token. Other users must not be able to read it.
    type: path
  connections:
    description: Number of connections at once.
    type: int
    default: 8
  min_free_gb:
    description: Gigabytes that stay free on the cache's file system. With less room nothing is fetched.
    type: float
    default: 1
  retry_after_limit:
    description: Seconds that the hub may ask to wait (status 429) before the task fails.
    type: int
    default: 300
  progress_file:
    description:
      - File on the host to which JSON lines with the progress are added.
      - The action plugin sets and reads it.
    type: path
requirements:
  - huggingface-hub >= 1.0.0, only where something has to be fetched
seealso:
  - module: gpufleet.vllm.model_info
author:
  - The gpufleet.vllm contributors (@gpufleet)
"""

EXAMPLES = r"""
- name: Bring a model
  gpufleet.vllm.hf_snapshot:
    repo: Qwen/Qwen3-8B
    revision: 9c925d64d72725edaf899c6cb9c377fd0709d9c5
    hub_cache: /srv/vllm/hub

- name: Bring a gated model, with a token of the vault
  gpufleet.vllm.hf_snapshot:
    repo: meta-llama/Llama-3.1-8B-Instruct
    revision: 0e9e39f249a16976918f6564b8830bc894c89659
    hub_cache: /srv/vllm/hub
    token: "{{ vault_hub_token }}"

- name: Have the tokenizer beside weights in GGUF
  gpufleet.vllm.hf_snapshot:
    repo: Qwen/Qwen3-8B
    revision: 9c925d64d72725edaf899c6cb9c377fd0709d9c5
    state: materialized
    scope: tokenizer
    dest: /srv/models/qwen3-8b-gguf
    hub_cache: /srv/vllm/hub

- name: Hash everything that is there, without network
  gpufleet.vllm.hf_snapshot:
    repo: Qwen/Qwen3-8B
    revision: 9c925d64d72725edaf899c6cb9c377fd0709d9c5
    state: verified
    hub_cache: /srv/vllm/hub
"""

RETURN = r"""
repo: {description: Repo id, type: str, returned: success, sample: Qwen/Qwen3-8B}
commit: {description: Commit that O(revision) is, type: str, returned: success}
path: {description: Folder of the snapshot, type: str, returned: success}
files: {description: All files of the selection, type: list, elements: str, returned: success}
total_bytes: {description: Bytes of these files, type: int, returned: success}
fetched:
  description: Files that were fetched, or would be in check mode.
  type: list
  elements: str
  returned: success
fetched_bytes: {description: "Bytes that came over the network, or would", type: int, returned: success}
resumed_bytes: {description: Bytes of these files that an interrupted run had left, type: int, returned: success}
omitted:
  description: Files that are left out by policy, each with the reason V(pickle), V(code) or V(foreign).
  type: list
  elements: dict
  returned: success
pending:
  description: In check mode, whether there are files that would first have to be hashed.
  type: bool
  returned: success
dest: {description: O(dest), type: str, returned: with O(state=materialized)}
copied:
  description: Files that were copied to O(dest).
  type: list
  elements: str
  returned: with O(state=materialized)
problems:
  description: What is wrong with files, with O(state=verified).
  type: list
  elements: dict
  returned: with O(state=verified)
  contains:
    file: {description: Name in the repo, type: str}
    path: {description: Path on the host, type: str}
    kind: {description: "V(missing), V(size), V(content) or V(unreadable)", type: str}
    message: {description: What is wrong, type: str}
listed:
  description:
    - Whether the list of the commit's files is known, with O(state=verified). If not, a file that is missing as a whole
      cannot be told.
  type: bool
  returned: with O(state=verified)
kind: {description: Kind of the failure, type: str, returned: failure, sample: no_room}
"""

import os

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.beside import materialize
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.cache import default_hub_cache
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.parameters import access_of, token_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.progress import progress_writer
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.selection import Wanted
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.snapshot import Request, present, verified

ARGUMENTS = {
    "repo": {"type": "str", "required": True},
    "revision": {"type": "str", "default": "main"},
    "state": {"type": "str", "choices": ["present", "verified", "materialized"], "default": "present"},
    "scope": {"type": "str", "choices": ["config", "tokenizer", "model"], "default": "model"},
    "allow_patterns": {"type": "list", "elements": "str", "default": []},
    "ignore_patterns": {"type": "list", "elements": "str", "default": []},
    "allow_pickle": {"type": "bool", "default": False},
    "allow_code": {"type": "bool", "default": False},
    "update": {"type": "bool", "default": False},
    "verify": {"type": "bool", "default": False},
    "hub_cache": {"type": "path"},
    "dest": {"type": "path"},
    "overwrite": {"type": "bool", "default": False},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "str", "default": "0644"},
    "endpoint": {"type": "str"},
    "token": {"type": "str", "no_log": True},
    "token_file": {"type": "path", "no_log": False},
    "connections": {"type": "int", "default": 8},
    "min_free_gb": {"type": "float", "default": 1},
    "retry_after_limit": {"type": "int", "default": 300},
    "progress_file": {"type": "path"},
}


def run(params: dict, check: bool) -> dict:
    """What the parameters ask for. Raises FleetError."""
    if params["state"] == "materialized" and params["scope"] == "model":
        raise FleetError("Weights are not copied: give scope tokenizer or config with state materialized.")
    hub_cache = params["hub_cache"] or default_hub_cache(os.environ)
    access = access_of(params["owner"], params["group"], params["mode"])
    wanted = Wanted(
        params["scope"],
        tuple(params["allow_patterns"]),
        tuple(params["ignore_patterns"]),
        params["allow_pickle"],
        params["allow_code"],
    )
    request = Request(
        repo=params["repo"],
        revision=params["revision"],
        wanted=wanted,
        update=params["update"],
        verify=params["verify"],
        min_free=int(params["min_free_gb"] * 10**9),
        connections=max(1, min(params["connections"], 64)),
        endpoint=params["endpoint"],
        token=token_of(params["token"], params["token_file"]),
        retry_after_limit=params["retry_after_limit"],
    )
    tell = progress_writer(params["progress_file"], params["repo"])
    if params["state"] == "verified":
        return verified(hub_cache, request, tell)
    result = present(hub_cache, access, request, check, tell)
    if params["state"] == "materialized":
        copies = materialize(result, params["dest"], access, params["overwrite"], check)
        return {**result, **copies, "changed": result["changed"] or copies["changed"]}
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "materialized", ["dest"])],
        mutually_exclusive=[("token", "token_file")],
    )
    try:
        result = run(module.params, module.check_mode)
    except FleetError as error:
        lacks_client = "exception" in error.details
        module.fail_json(
            msg=f"{error}{'. ' + missing_required_lib('huggingface-hub') if lacks_client else ''}", **error.details
        )
    if not module._diff:
        result.pop("diff", None)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
