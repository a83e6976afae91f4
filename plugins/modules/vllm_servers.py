# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converge the vLLM servers of one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_servers
short_description: Bring the vLLM servers of a host to the wanted state
version_added: 0.1.0
author:
  - The gpufleet.vllm contributors (@gpufleet)
description:
  - Creates, replaces, starts, stops and removes the containers of all vLLM servers of a host in one call.
  - Takes the servers as M(gpufleet.vllm.fleet_plan) returns them.
  - A server is replaced when what runs differs from what is wanted in arguments, environment, image, mounts, ports,
    GPUs, limits or secrets. What runs is compared, not a label. GPUs of a container cannot be changed in place.
  - A start is watched by its log, its container and its answers. It is ready when it serves the names and the length
    that were asked for and has answered one real request. It fails when the container ends, or when nothing has moved
    for O(servers[].stall_seconds). A slow start that moves never fails.
  - A server that does not become ready is removed, and the container that it replaced is put back, and started again
    when it had been running. A run that was killed leaves the former container beside the new one; the next run
    mends that.
  - A server is ended by SIGTERM and gets the time to finish its requests. The next one starts on its GPUs when all its
    processes are gone and NVML reports their memory back; what does not come back is told with who has it. Processes
    of others are never ended.
  - The Docker Engine restarts a container by itself only after it was ready once. It does so whatever the exit code
    is, for an engine whose process died may end with 0.
  - What the host lacks for its GPUs (a runtime, a CDI specification, a device, a limit) is said before anything is
    touched.
  - What a start tells of its memory is returned and kept in O(state_dir), from where M(gpufleet.vllm.vllm_info) gives
    it to the next plan.
  - Servers on different GPUs start at the same time, servers that share a GPU or a port one after the other. A server
    that fails stops only those that wait for it.
  - A replacement starts beside the present server where it has GPUs of its own and another port, and for engines
    without a GPU where its limit of memory is free on the host. Elsewhere the present server is stopped first.
  - A server that was ready and whose engine stands still, or is dead, is restarted; see O(heal).
  - While the task runs, its action plugin shows the stages of the starts.
extends_documentation_fragment:
  - gpufleet.vllm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - O(state=restarted) restarts at every run.
  action_group: {}
requirements:
  - Docker SDK for Python >= 5.0.3
  - requests
options:
  servers:
    description:
      - The servers that this host should have.
      - O(state=absent) and O(state=stopped) use their names only.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the server and of its container.
        type: str
        required: true
      model:
        description: Name of the model specification that it belongs to.
        type: str
        default: ""
      image:
        description: Image of the engine. It must be on the host.
        type: str
        default: ""
      image_id:
        description: ID of the image that the plan was made for. Another image under the same name is refused.
        type: str
        default: ""
      entrypoint:
        description: Program and first arguments. The image's entrypoint by default.
        type: list
        elements: str
        default: []
      command:
        description: Arguments after the entrypoint.
        type: list
        elements: str
        default: []
      env:
        description: Environment variables beside those of the image. Never secrets.
        type: dict
        default: {}
      mounts:
        description: Folders and files of the host. Those inside O(state_dir) are created.
        type: list
        elements: dict
        default: []
        suboptions:
          source:
            description: Path on the host.
            type: path
            required: true
          target:
            description: Path in the container.
            type: str
            required: true
          read_only:
            description: Whether the container may only read it.
            type: bool
            default: true
      tmpfs:
        description: Paths in the container that live in memory, with their mount options.
        type: dict
        default: {}
      listen:
        description: Where the server listens on the host.
        type: dict
        suboptions:
          address:
            description: Address of the host.
            type: str
            default: 127.0.0.1
          port:
            description: TCP port on the host.
            type: int
            required: true
      container_port:
        description: TCP port on which the engine listens in its container.
        type: int
        default: 8000
      gpus:
        description: GPUs of the server; none for an engine that runs on the CPU.
        type: dict
        suboptions:
          runtime:
            description: How the container gets them.
            type: str
            choices: [nvidia, cdi, amd]
            default: nvidia
          ids:
            description: UUIDs of GPUs or MIG devices for V(nvidia), CDI device names for V(cdi), UUIDs for V(amd).
            type: list
            elements: str
            default: []
          pci:
            description: Addresses of the GPUs on the PCI bus, for V(amd), whose devices are found by them.
            type: list
            elements: str
            default: []
      container:
        description: What the container gets beyond the least, and its limits; see docs/security.md of the collection.
        type: dict
        default: {}
        suboptions:
          cap_add:
            description: Capabilities; all others are dropped.
            type: list
            elements: str
            default: []
          devices:
            description: Device files of the host beside the GPUs.
            type: list
            elements: path
            default: []
          groups:
            description: Numbers of further groups of the container's user.
            type: list
            elements: int
            default: []
          ipc:
            description: Whose shared memory and queues it sees.
            type: str
            choices: [private, host]
            default: private
          pids:
            description: Processes and threads at most; V(0) for no limit.
            type: int
            default: 32768
          ulimits:
            description: "Limits of a process by their names, such as C({memlock: -1}); V(-1) for none."
            type: dict
            default: {}
      shm_bytes:
        description: Size of /dev/shm in bytes.
        type: int
        default: 1073741824
      memory_bytes:
        description: Limit of host memory in bytes; V(0) for none.
        type: int
        default: 0
      cpus:
        description: Limit of CPU cores; V(0) for none.
        type: float
        default: 0
      user:
        description: User of the container as C(uid) or C(uid:gid); the image's user by default.
        type: str
        default: ""
      read_only_root:
        description: Whether the container's root file system is read-only.
        type: bool
        default: true
      stop_seconds:
        description:
          - Seconds that the engine gets to finish its requests and to end by itself; after these follows SIGKILL.
          - It gets at least ten more than its own C(--shutdown-timeout), where it has one.
        type: int
        default: 60
      deadline_seconds:
        description: Seconds that a start may take; the start period of the container's health check.
        type: int
        default: 1800
      stall_seconds:
        description: Seconds without any progress after which a start has failed.
        type: int
        default: 600
      probe:
        description: What a ready server answers.
        type: dict
        default: {}
        suboptions:
          kind:
            description: The kind of the request that is sent to it.
            type: str
            choices: [generate, chat, embed, pooling, classify, score, rerank, transcribe]
            default: generate
          served_names:
            description: Names under which the model is served. Without any, C(/health) answering 200 counts as ready.
            type: list
            elements: str
            default: []
          max_model_len:
            description: Length in tokens that it must serve; not looked at when unset.
            type: int
          adapters:
            description: Names of the LoRA adapters that it must list beside its model.
            type: list
            elements: str
            default: []
      secrets:
        description: Where the server's secrets appear in its container.
        type: dict
        default: {}
        suboptions:
          target:
            description: Folder in the container with one file a secret.
            type: str
            default: /run/secrets/vllm
      expected_memory:
        description:
          - What the plan predicts of the server's memory (C(predicted)), and what decides about it (C(key)).
          - It is shown beside what the engine tells, and kept in O(state_dir) for the next plan. It is no property of
            the container, so another prediction replaces no server.
        type: dict
  secrets:
    description:
      - "Secrets of the servers by the name of their model, for example C({qwen3-8b: {api_key: ...}})."
      - They are written to files of mode 0600 on the host that only the container's user can read, and appear nowhere
        else. A server whose secrets change is replaced.
    type: dict
    default: {}
  state:
    description:
      - V(started) has them running and ready.
      - V(present) has their containers as wanted, and starts only what replaces a running one.
      - V(restarted) restarts those that run and starts the others.
      - V(rolled_back) goes back to an earlier generation of each, see O(generation). It uses their names only, and
        O(prune) is not looked at. The inventory still declares the later one, and the next deployment brings it again.
      - V(stopped) stops them and keeps their containers.
      - V(absent) removes them with everything that is kept of them.
    type: str
    choices: [started, present, restarted, rolled_back, stopped, absent]
    default: started
  prune:
    description: Remove the servers of the fleet that O(servers) does not name.
    type: bool
    default: false
  generation:
    description:
      - Where O(state=rolled_back) goes. V(previous) is the newest generation before the one that was deployed last, so
        that a second rollback changes nothing. A number is that of C(number) in C(generations) of RV(servers).
      - A rollback restores image, arguments, environment, mounts, GPUs, limits and secrets together. It is refused when
        the image of the generation is gone from the host.
    type: str
    default: previous
  keep_generations:
    description:
      - Generations of a server that are kept, the present one included. One is added when a definition becomes ready.
      - The secret files of a generation stay as long as it is kept. V(1) keeps no former ones, nor their secrets.
    type: int
    default: 5
  heal:
    description:
      - Restart a server that is as wanted, was ready and does not serve any more - one whose engine stands still or is
        dead behind a C(/health) that answers, or at which nothing answers. For O(state=started) and
        O(state=rolled_back).
      - Each running server is looked at for that, all at the same time. Counters that move are proof enough; of an idle
        engine one token is asked. One that seems sick is looked at further, and is left alone if anything moves,
        answers or changes meanwhile - for ten seconds when it says that its engine is dead, for a minute when nothing
        answers, and for five minutes when its engine stands still. Before vLLM 0.11.0 nothing that is counted moves
        while one long prompt is read, so one that takes longer than that is taken for a standstill; later releases are
        seen to fill the KV cache.
      - One that says that its engine is dead is restarted whoever started it. One at which nothing answers must have
        been ready since its start, for else it may load. This collection knows that of the starts that it has seen to
        succeed; of one that the Docker Engine has made by itself, as after a reboot of the host, it is known only as
        long as the container's own health check is V(healthy). When that has become V(unhealthy) before a run comes,
        the run waits for the server as for any start; O(state=restarted) brings it back at once.
      - A server that loads, is saturated, sleeps or was paused is never restarted for that, nor one whose C(/health)
        answers anything else, as while its engine is scaled.
      - With C(disable_log_stats) nothing is counted, so that an engine that stands still is not restarted; with
        O(gpufleet.vllm.vllm_info#module:probe=true) gpufleet.vllm.vllm_info tells it V(unreachable) when it does not
        answer the request of one token.
      - With V(false) a server at which nothing answers is waited for, and C(/health) answering 200 is taken for well.
    type: bool
    default: true
  fleet:
    description: Name space of the servers on the host. Containers of other fleets and of others are never touched.
    type: str
    default: vllm
  state_dir:
    description:
      - Folder on the host for the lock, secrets, generations, caches, the logs of failed starts and measurements.
    type: path
    default: /var/lib/gpufleet-vllm
  progress_file:
    description:
      - File on the host to which one JSON line is added for each stage of a start.
      - The action plugin sets and reads it.
    type: path
seealso:
  - module: gpufleet.vllm.fleet_plan
  - module: gpufleet.vllm.vllm_info
"""

EXAMPLES = r"""
- name: Bring this host's servers to the plan
  gpufleet.vllm.vllm_servers:
    servers: "{{ vllm_plan.hosts[inventory_hostname] }}"
    secrets: "{{ vllm_models | gpufleet.vllm.model_secrets(vllm_plan.hosts[inventory_hostname]) }}"
    prune: true

- name: Go back to what a server was before its last deployment
  gpufleet.vllm.vllm_servers:
    servers:
      - name: vllm-qwen3-8b-0
    state: rolled_back

- name: Remove all servers of the fleet from this host
  gpufleet.vllm.vllm_servers:
    servers: []
    state: absent
    prune: true
"""

RETURN = r"""
generations:
  description: The generations of the named servers, as in C(generations) of RV(servers), by server.
  returned: when a rollback was refused
  type: dict
  sample: {"vllm-qwen3-8b-0": []}
actions:
  description: What was done, or would be done in check mode.
  returned: always, but for refusals
  type: list
  elements: dict
  sample: [{"server": "vllm-qwen3-8b-0", "action": "replace", "because": ["argv"]}]
notes:
  description:
    - A sentence for each server that is replaced because its image's tag means another build now.
    - They are warnings, too.
  returned: always, but for refusals
  type: list
  elements: str
  sample: []
unused_caches:
  description:
    - Folders of compiled kernels in O(state_dir) that no container and no kept generation of a server uses any more.
    - They are only named. Removing one costs the next start that would need it some minutes.
  returned: always, but for refusals
  type: list
  elements: str
  sample: [/var/lib/gpufleet-vllm/cache/0a4988d7bf90/nvidia-h100-80gb-hbm3]
pending:
  description: Whether a server runs as wanted and is not ready yet.
  returned: success
  type: bool
  sample: false
servers:
  description:
    - The named servers as they are after the task; none with O(state=absent).
    - C(generations) are the definitions that became ready and are kept, the newest first; C(differs) names the
      properties that the present container has otherwise.
    - C(memory) is what the log of a server that this task started says of its memory, beside the prediction; null for
      the others. GiB of one GPU, or of the host for an engine on the CPU; null where the release does not tell it.
  returned: always, but for refusals
  type: list
  elements: dict
  sample:
    - name: vllm-qwen3-8b-0
      model: qwen3-8b
      state: ready
      url: http://127.0.0.1:8000
      container_id: 5fd3d1ed58b1
      started_at: "2026-11-22T16:00:00.000000000Z"
      timeline: [{"stage": "loading", "seconds": 12.1, "text": "loading weights 2/4"}]
      memory:
        predicted: {"weights_gib": 15.27, "available_kv_gib": 54.6, "kv_tokens": 397600}
        measured: {"weights_gib": 15.27, "available_kv_gib": 54.9, "kv_tokens": 399792}
        difference: {"weights_gib": 0.0, "available_kv_gib": 0.3, "kv_tokens": 2192}
      generations:
        - number: 2
          at: "2026-11-30T21:00:00+00:00"
          image: vllm/vllm-openai:v0.33.0
          image_id: sha256:5fd3d1ed58b1
          image_found: true
          current: true
          rolled_back: false
          differs: []
          result: {"ready_seconds": 94.2, "version": "0.33.0"}
        - number: 1
          at: "2026-11-22T16:00:00+00:00"
          image: vllm/vllm-openai:v0.32.0
          image_id: sha256:8348f8fc90b6
          image_found: true
          current: false
          rolled_back: false
          differs: [image_id]
          result: {"ready_seconds": 97.0, "version": "0.32.0"}
ended:
  description:
    - The running containers that were ended, with the seconds that each took and its exit code. C(killed) says that it
      did not heed SIGTERM in its time and was ended by SIGKILL.
    - C(notes), which are also warnings, tell of that, of processes that are left, and of GPU memory that did not come
      back and who has it.
  returned: when something was done
  type: list
  elements: dict
  sample: [{"container": "vllm-qwen3-8b-0", "seconds": 2.4, "exit_code": 0, "killed": false, "notes": []}]
failures:
  description:
    - Each server that did not become ready, with its stage, reason, exit code, last log lines, and what was put back.
    - C(kind) is V(exited), V(stalled), V(gone), V(wrong) when it answers otherwise than wanted,
      V(refused) by the Docker Engine or the file system, or V(not_ended) for what was to be stopped or removed.
    - C(release) of the engine (null when neither its log nor the plan told it) and its options, C(engine), without
      secrets, decide the remedies. C(gpu_processes) are the processes that held memory of its GPUs beside it, the
      largest first.
  returned: failure of a start
  type: list
  elements: dict
  sample:
    - server: vllm-qwen3-8b-0
      kind: exited
      stage: loading
      reason: the engine ended with exit code 1
      exit_code: 1
      oom_killed: false
      release: 0.33.0
      engine: {max_model_len: "32768"}
      gpu_processes: [{gpu: GPU-5fd3d1ed, pid: 4242, name: python3, used_bytes: 21474836480}]
      log_file: /var/lib/gpufleet-vllm/failed/vllm-qwen3-8b-0.log
      restored: the former container serves again
not_attempted:
  description: Servers that were not attempted because they wait for one that failed.
  returned: failure of a start
  type: list
  elements: str
  sample: []
problems:
  description: Everything that was refused, one sentence each.
  returned: when the task was refused before anything was touched
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import DOCKER_IMPORT_ERROR
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.converge import Converger, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.progress_file import progress_writer

MOUNT = dict(
    source=dict(type="path", required=True),
    target=dict(type="str", required=True),
    read_only=dict(type="bool", default=True),
)
PROBE = dict(
    kind=dict(
        type="str",
        choices=["generate", "chat", "embed", "pooling", "classify", "score", "rerank", "transcribe"],
        default="generate",
    ),
    served_names=dict(type="list", elements="str", default=[]),
    max_model_len=dict(type="int"),
    adapters=dict(type="list", elements="str", default=[]),
)
CONTAINER = dict(
    cap_add=dict(type="list", elements="str", default=[]),
    devices=dict(type="list", elements="path", default=[]),
    groups=dict(type="list", elements="int", default=[]),
    ipc=dict(type="str", choices=["private", "host"], default="private"),
    pids=dict(type="int", default=32768),
    ulimits=dict(type="dict", default={}),
)
SERVER = dict(
    name=dict(type="str", required=True),
    model=dict(type="str", default=""),
    image=dict(type="str", default=""),
    image_id=dict(type="str", default=""),
    entrypoint=dict(type="list", elements="str", default=[]),
    command=dict(type="list", elements="str", default=[]),
    env=dict(type="dict", default={}),
    mounts=dict(type="list", elements="dict", default=[], options=MOUNT),
    tmpfs=dict(type="dict", default={}),
    listen=dict(
        type="dict", options=dict(address=dict(type="str", default="127.0.0.1"), port=dict(type="int", required=True))
    ),
    container_port=dict(type="int", default=8000),
    gpus=dict(
        type="dict",
        options=dict(
            runtime=dict(type="str", choices=["nvidia", "cdi", "amd"], default="nvidia"),
            ids=dict(type="list", elements="str", default=[]),
            pci=dict(type="list", elements="str", default=[]),
        ),
    ),
    container=dict(type="dict", default={}, options=CONTAINER),
    shm_bytes=dict(type="int", default=1073741824),
    memory_bytes=dict(type="int", default=0),
    cpus=dict(type="float", default=0),
    user=dict(type="str", default=""),
    read_only_root=dict(type="bool", default=True),
    stop_seconds=dict(type="int", default=60),
    deadline_seconds=dict(type="int", default=1800),
    stall_seconds=dict(type="int", default=600),
    probe=dict(type="dict", default={}, options=PROBE),
    secrets=dict(
        type="dict", default={}, no_log=False, options=dict(target=dict(type="str", default="/run/secrets/vllm"))
    ),
    expected_memory=dict(type="dict"),
)
STATES = ["started", "present", "restarted", "rolled_back", "stopped", "absent"]
ARGUMENTS = dict(
    servers=dict(type="list", elements="dict", required=True, options=SERVER),
    secrets=dict(type="dict", default={}, no_log=True),
    state=dict(type="str", choices=STATES, default="started"),
    prune=dict(type="bool", default=False),
    generation=dict(type="str", default="previous"),
    keep_generations=dict(type="int", default=5),
    heal=dict(type="bool", default=True),
    fleet=dict(type="str", default="vllm"),
    state_dir=dict(type="path", default="/var/lib/gpufleet-vllm"),
    progress_file=dict(type="path"),
)


def without(hidden: t.Sequence[str], result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The result without some of its values."""
    return {name: value for name, value in result.items() if name not in hidden}


def tell(module: AnsibleModule, result: t.Mapping[str, t.Any]) -> None:
    """Warn of what a person should know: of images that are other builds, of the ends of containers."""
    for note in result.get("notes", ()):
        module.warn(note)
    for ended in result.get("ended", ()):
        for note in ended["notes"]:
            module.warn(note)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if DOCKER_IMPORT_ERROR:
        module.fail_json(
            msg=missing_required_lib("docker", reason="to talk to the Docker Engine"), exception=DOCKER_IMPORT_ERROR
        )
    params = module.params
    wish = Wish(*(params[name] for name in Wish._fields))
    report = progress_writer(params["progress_file"])
    hidden = () if module._diff else ("diff",)
    try:
        result = Converger(wish, Store(params["state_dir"]), report).run(module.check_mode)
    except FleetError as error:
        tell(module, error.details)
        module.fail_json(msg=str(error), **without(hidden, error.details))
    tell(module, result)
    module.exit_json(**without(hidden, result))


if __name__ == "__main__":
    main()
