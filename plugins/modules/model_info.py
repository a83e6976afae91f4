#!/usr/bin/python

# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_info
version_added: 0.1.0
short_description: What the checkpoints on a host are
description:
  - Reads the configuration and the headers of the weights of models on this host, and returns architecture, exact
    sizes, quantization, tokenizer and what is wrong with the files.
  - Takes a folder, a GGUF file, or a snapshot in the Hugging Face cache. Weights are never read.
  - What is nowhere on the host can be read from the hub, where O(hub=true) allows it. Only configuration files and the
    headers of the weights are asked for then, each shard by one request, and nothing is stored.
  - A model that is not there is no failure of the task. Its entry says what is missing, where, and what to do.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
  - gpufleet.vllm.attributes.read_only
options:
  models:
    description: The models to read. One that is listed twice with the same revision is answered once.
    type: list
    elements: dict
    required: true
    suboptions:
      model:
        description:
          - Repo id on the Hugging Face hub, or the absolute path of a folder on the host.
          - A GGUF model is C(REPO:QUANTIZATION), C(REPO/FILE.gguf), or the absolute path of its file or of one of its
            shards, as vLLM takes it.
        type: str
        required: true
      revision:
        description:
          - Commit of 40 digits, branch or tag in the cache; V(main) when it is not given.
          - A folder has no revisions, so this is not used for one.
        type: str
  hub_cache:
    description:
      - Folder in which the Hugging Face cache keeps repos on the host.
      - When it is not given, the first that the environment of the module tells, which is how the hub client looks.
        C($HF_HUB_CACHE), C($HUGGINGFACE_HUB_CACHE), C($HF_HOME/hub), C($XDG_CACHE_HOME/huggingface/hub), and at last
        C(~/.cache/huggingface/hub).
    type: path
  hub:
    description:
      - Whether a model that the cache does not have is looked up on the hub.
      - Address, token and proxies are those of the client C(huggingface_hub) in the environment of the module, such as
        C($HF_ENDPOINT), C($HF_TOKEN) and C($HF_TOKEN_PATH). No output has the token in it.
    type: bool
    default: false
requirements:
  - huggingface-hub >= 1.0.0, only where a model is looked up on the hub
seealso:
  - module: gpufleet.vllm.gpu_facts
author:
  - The gpufleet.vllm contributors (@gpufleet)
"""

EXAMPLES = r"""
- name: Read a model from the cache and one from a folder
  gpufleet.vllm.model_info:
    models:
      - model: Qwen/Qwen3-8B
        revision: 9c925d64d72725edaf899c6cb9c377fd0709d9c5
      - model: /srv/models/own-model
    hub_cache: /srv/hf/hub
  register: model_facts

- name: Look at a model before it is fetched
  gpufleet.vllm.model_info:
    models:
      - model: Qwen/Qwen3-235B-A22B
    hub: true
  delegate_to: localhost

- name: Read a GGUF file
  gpufleet.vllm.model_info:
    models:
      - model: /srv/models/qwen3-8b/Qwen3-8B-Q4_K_M.gguf

- name: Stop when one is missing or broken
  ansible.builtin.assert:
    that:
      - item.found
      - item.problems | selectattr('severity', 'eq', 'error') | length == 0
    fail_msg: "{{ item.reason if not item.found else item.problems }}"
  loop: "{{ model_facts.models }}"
  loop_control:
    label: "{{ item.model }}"
"""

RETURN = r"""
models:
  description: One entry for each different model and revision, in the order of O(models).
  returned: always
  type: list
  elements: dict
  contains:
    model:
      description: O(models[].model) as it was given.
      type: str
      sample: Qwen/Qwen3-8B
      returned: always
    revision:
      description: O(models[].revision) as it was given.
      type: str
      returned: always
    found:
      description: Whether the model is there and has a readable configuration.
      type: bool
      returned: always
    reason:
      description: What is missing, where, and what to do about it; null when RV(models[].found=true).
      type: str
      returned: always
    source:
      description: Where the files are, V(folder), V(file) (of GGUF), V(cache) or V(hub).
      type: str
      sample: cache
      returned: when found
    path:
      description: Folder of the files; the first file of a GGUF model; null when they are on the hub only.
      type: str
      returned: when found
    commit: {description: Commit of the hub; null for a folder or file, type: str, returned: when found}
    config_source:
      description:
        - What RV(models[].config) is made from. V(config.json) is taken as it is.
        - V(gguf) (the metadata of a GGUF file) and V(params.json) (of Mistral) are put in the words of C(config.json).
      type: str
      sample: config.json
      returned: when found
    architectures:
      description: Model classes.
      type: list
      elements: str
      sample: [Qwen3ForCausalLM]
      returned: when found
    model_type: {description: Type of the architecture, type: str, sample: qwen3, returned: when found}
    config:
      description: The configuration in the words of C(config.json). Infinity and NaN are strings.
      type: dict
      returned: when found
    text_config_path:
      description:
        - Where in RV(models[].config) the fields of the decoder are, as keys with dots between them.
        - Empty when they are at its top. Multimodal models keep them in V(text_config), for example.
      type: str
      returned: when found
    generation_config: {description: C(generation_config.json); null without one, type: dict, returned: when found}
    weights:
      description: Sums over the tensors of all weight files; null when no weights can be read.
      type: dict
      returned: when found
      contains:
        format: {description: V(safetensors) or V(gguf), type: str, sample: safetensors}
        files: {description: Number of files whose header was read, type: int}
        total_bytes: {description: Bytes of all tensors, type: int}
        bytes_by_dtype:
          description: Bytes by dtype as safetensors or GGUF names them.
          type: dict
          sample: {"BF16": 180480, "F32": 256}
        parameters_by_dtype:
          description: Elements by dtype as they are stored. Packed weights have several parameters in an element.
          type: dict
        bytes_by_class:
          description:
            - Bytes by what a tensor is for, told by its name, and in each class by dtype.
            - V(other) holds what no rule knows. A class without tensors is empty.
          type: dict
          sample: {"embedding": {"BF16": 65536}, "norm": {"BF16": 256, "F32": 256}, "expert": {}}
        bytes_by_layer:
          description:
            - Bytes of all tensors of a decoder layer, experts included. The first is of layer 0.
            - What is outside of the decoder and draft layers are not in it.
          type: list
          elements: int
          sample: [24704, 24704]
        layer_count_seen: {description: Number of different decoder layers that have tensors, type: int}
    quantization:
      description: How the weights are quantized; null when no file says so.
      type: dict
      returned: when found
      contains:
        method: {description: Method as the file names it, type: str, sample: fp8}
        algorithm: {description: Algorithm within the method if the file names one, type: str, sample: NVFP4}
        source: {description: File and key that say so, type: str}
    tokenizer:
      description: Files of the tokenizer.
      type: dict
      returned: when found
      contains:
        present: {description: Whether one of the files holds a vocabulary, type: bool}
        files: {description: Names of the files, type: list, elements: str}
    chat_template: {description: Whether there is a chat template, type: bool, returned: when found}
    remote_code:
      description: Whether the model asks for code of its own (C(auto_map)).
      type: bool
      returned: when found
    problems:
      description: What is wrong with the files.
      type: list
      elements: dict
      returned: when found
      contains:
        severity:
          description: V(error) when an engine would not start or sizes are incomplete, else V(warning).
          type: str
        kind: {description: Kind of the problem, type: str, sample: truncated}
        file: {description: Path of the file, type: str}
        message: {description: What is wrong and what to do about it, type: str}
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.models import model_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.remote import CLIENT, ClientMissing


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"model": {"type": "str", "required": True}, "revision": {"type": "str"}},
            },
            "hub_cache": {"type": "path"},
            "hub": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    requests = [(entry["model"], entry["revision"]) for entry in module.params["models"]]
    try:
        models = model_facts(requests, module.params["hub_cache"], module.params["hub"])
    except ClientMissing as error:
        module.fail_json(msg=f"{error}. {missing_required_lib(CLIENT)}", exception=error.details["exception"])
    module.exit_json(changed=False, models=models)


if __name__ == "__main__":
    main()
