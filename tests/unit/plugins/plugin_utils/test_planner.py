# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole plans: what goes where, what every refusal says, and that nothing raises or shows a secret."""

from __future__ import annotations

import json
import re
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._planner import Plan, plan_fleet
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.plan import plan_text
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.policy import Policy
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Invalid
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import (
    CPU_IMAGE,
    GIB,
    IMAGE,
    QWEN3_8B_CONFIG,
    RTX_4090,
    absent_image,
    absent_model,
    card,
    cpu_host,
    cpu_image,
    cpu_spec,
    h100_host,
    host,
    image,
    mig_host,
    mig_uuid,
    model,
    rtx_host,
    running,
    spec,
)

SECRET = "sk-very-secret-0123456789"
UUIDS = [f"GPU-{index:08d}-0000-0000-0000-000000000000" for index in range(8)]


def where(plan: Plan) -> dict[str, tuple[str, list[str], str]]:
    """Host, GPUs and address of each server."""
    return {
        one["server"]: (one["host"], [gpu["uuid"] for gpu in one["gpus"]], one["listen"]) for one in plan.placements
    }


def refusal(models: t.Any, inspections: t.Any) -> list[str]:
    """The problems of a plan that cannot be, as a user reads them."""
    with pytest.raises(Invalid) as caught:
        plan_fleet(models, inspections)
    return [str(problem) for problem in caught.value.problems]


# Of two GPUs without links the estimate is not sure what their libraries take beside the engine's share.
SPLIT = {"tensor_parallel_size": "2", "max_model_len": "32k", "gpu_memory_utilization": 0.85}


def test_fleet_of_two_hosts() -> None:
    models = [spec("a"), spec("b", replicas=2, engine=SPLIT)]
    plan = plan_fleet(models, {"rtx": rtx_host(), "h100": h100_host()})
    assert where(plan) == {
        "vllm-b-0": ("rtx", UUIDS[:2], "127.0.0.1:8000"),
        "vllm-b-1": ("h100", UUIDS[:2], "127.0.0.1:8000"),
        "vllm-a-0": ("h100", UUIDS[2:3], "127.0.0.1:8001"),
    }
    assert [server["name"] for server in plan.hosts["h100"]] == ["vllm-a-0", "vllm-b-1"]
    assert plan.warnings == []
    assert json.loads(json.dumps(plan.hosts)) == plan.hosts


# Each: models, hosts, and all that the user reads.
REFUSALS: dict[str, tuple[t.Any, t.Any, list[str]]] = {
    "unknown option": (
        [spec(engine={"max_model_length": 1})],
        {"g": h100_host()},
        ["qwen3-8b: engine.max_model_length: is no option of vLLM 0.33.0. Did you mean max_model_len?"],
    ),
    "another spelling": (
        [spec(engine={"tensor-parallel-size": 2})],
        {"g": h100_host()},
        [
            "qwen3-8b: engine.tensor-parallel-size: is another spelling of tensor_parallel_size. "
            "Write engine.tensor_parallel_size."
        ],
    ),
    "removed option": (
        [spec(engine={"swap_space": 4})],
        {"g": h100_host()},
        [
            "qwen3-8b: engine.swap_space: is not in vLLM 0.33.0: it was removed in 0.18.0: the V1 engine never swapped "
            "KV blocks to host memory, it computes a preempted request anew. Leave it out. For a KV cache that goes on "
            "in host memory there is kv_offloading_size; cpu_offload_gb is something else and moves weights."
        ],
    ),
    "wrong type": (
        [spec(engine={"max_num_seqs": "many"})],
        {"g": h100_host()},
        [
            "qwen3-8b: engine.max_num_seqs = 'many': must be a whole number, not 'many'. "
            "Correct it; --max-num-seqs takes int."
        ],
    ),
    "brackets without end": (
        [spec(engine={"speculative_config": "[" * 100_000})],
        {"g": h100_host()},
        ["qwen3-8b: engine.speculative_config: is nested too deeply. Correct it; --speculative-config takes json."],
    ),
    "no parallelism": (
        [spec(engine={"tensor_parallel_size": 0})],
        {"g": h100_host()},
        [
            "qwen3-8b: engine.tensor_parallel_size = 0: must be 1 or more. "
            "Correct it; --tensor-parallel-size takes int, and its default is 1."
        ],
    ),
    "heads": (
        [spec(engine={"tensor_parallel_size": 3})],
        {"g": h100_host()},
        [
            "qwen3-8b: engine.tensor_parallel_size = 3: cannot split the model's 32 attention heads. "
            "Write one of 1, 2, 4, 8, 16."
        ],
    ),
    "longer than the model": (
        [spec(engine={"max_model_len": 65536})],
        {"g": h100_host()},
        [
            "qwen3-8b: engine.max_model_len = 65536: is more than the 40960 tokens that the model is made for. "
            "Set it to 40960, or less."
        ],
    ),
    "image absent": (
        [spec()],
        {"g": h100_host(images=[absent_image()])},
        [
            f"qwen3-8b: image = '{IMAGE}': on g: the Docker Engine of this host does not have it. "
            "Bring it with docker pull, or with docker load when offline."
        ],
    ),
    "image without vLLM": (
        [spec()],
        {"g": h100_host(images=[image(version=None, reason="python3 did not find it")])},
        [f"qwen3-8b: image = '{IMAGE}': holds no vLLM: python3 did not find it. Use a vLLM image."],
    ),
    "stand-in": (
        [spec()],
        {"g": h100_host(images=[image(stand_in=True)])},
        [
            f"qwen3-8b: image = '{IMAGE}': is the stand-in engine of the tests, which answers without any model. "
            "Use a vLLM image."
        ],
    ),
    "image without entrypoint": (
        [spec()],
        {"g": h100_host(images=[image(entrypoint=[])])},
        [
            "qwen3-8b: entrypoint: is needed, for the image has none. "
            'Write entrypoint: ["vllm", "serve"] for a vLLM image.'
        ],
    ),
    "two builds under one name": (
        [spec(replicas=2, engine={"tensor_parallel_size": 2, "max_model_len": 8192})],
        {"g": rtx_host(), "h": rtx_host(images=[image(version="0.32.0")])},
        [
            f"qwen3-8b: image = '{IMAGE}': vllm-qwen3-8b-1 has no place: on h: image holds vLLM 0.32.0 there and "
            "0.33.0 elsewhere; on g: engine.tensor_parallel_size too few GPUs are left: 2 needed, 0 of 2 not taken by "
            "other servers. Bring the same build to all hosts, best by its digest."
        ],
    ),
    "no package for the method, whatever another build has": (
        [spec(engine={"max_model_len": 8192, "quantization": "gguf"})],
        {
            "g": rtx_host(images=[image(packages={})]),
            "h": rtx_host(images=[image(version="0.32.0", packages={"vllm-gguf-plugin": "0.0.2"})]),
        },
        [
            "qwen3-8b: engine.quantization = 'gguf': vLLM 0.33.0 has no method gguf; it existed from 0.6.0 to 0.23.0, "
            "and the image has no vllm-gguf-plugin. Use an image with vllm-gguf-plugin, or one of vLLM 0.23.0."
        ],
    ),
    "path absent": (
        [spec(model="/srv/x")],
        {"g": h100_host(models=[absent_model("/srv/x", "/srv/x/config.json: the folder has no config.json")])},
        [
            "qwen3-8b: model = '/srv/x': on g: /srv/x/config.json: the folder has no config.json. "
            "Correct the path, or bring the model to the host."
        ],
    ),
    "offline and absent": (
        [spec(offline=True)],
        {"g": h100_host(models=[absent_model()])},
        [
            "qwen3-8b: model = 'Qwen/Qwen3-8B': offline is true, and on g: it is not in the cache. "
            "Pre-stage it, or set offline to false."
        ],
    ),
    "broken files": (
        [spec()],
        {"g": h100_host(models=[model(problems=[{"severity": "error", "file": "/a", "message": "/a: cut off"}])])},
        ["qwen3-8b: model = 'Qwen/Qwen3-8B': on g: /a: cut off. Mend the files."],
    ),
    "no such host": (
        [spec(placement={"hosts": "gpu1, gpu2"})],
        {"g": h100_host()},
        [
            "qwen3-8b: placement.hosts = 'gpu1, gpu2': names no host or group of the play; its hosts are g. "
            "Write one of these."
        ],
    ),
    "no such GPU": (
        [spec(placement={"gpus": [0, 7]}, engine={"tensor_parallel_size": 2})],
        {"g": rtx_host()},
        [
            "qwen3-8b: placement.gpus = '0, 7': vllm-qwen3-8b-0 has no place: on g: has no GPU 7; "
            f"it has 0 ({UUIDS[0]}), 1 ({UUIDS[1]}). Write one of these."
        ],
    ),
    "MIG card by its index": (
        [spec(placement={"gpus": 0})],
        {"g": mig_host()},
        [
            "qwen3-8b: placement.gpus = '0': vllm-qwen3-8b-0 has no place: on g: has no GPU 0; "
            f"it has {mig_uuid(0)}, {mig_uuid(1)}. Write one of these."
        ],
    ),
    "too few GPUs named": (
        [spec(placement={"gpus": [0, 1]}, engine={"tensor_parallel_size": 4, "max_model_len": 8192})],
        {"g": h100_host()},
        [
            "qwen3-8b: placement.gpus = '0, 1': vllm-qwen3-8b-0 has no place: on g: names 2 and the parallel sizes "
            "need 4. Name 4, or set engine.tensor_parallel_size to 2."
        ],
    ),
    "one GPU by two names": (
        [spec(placement={"gpus": [0, UUIDS[0]]}, engine={"tensor_parallel_size": 2, "max_model_len": 8192})],
        {"g": h100_host()},
        [
            f"qwen3-8b: placement.gpus = '0, {UUIDS[0]}': vllm-qwen3-8b-0 has no place: on g: names a GPU twice, by "
            "its index and by its UUID. Write each once."
        ],
    ),
    "two models on one GPU": (
        [spec("a", placement={"gpus": [1]}), spec("b", placement={"gpus": [UUIDS[1]]})],
        {"g": h100_host()},
        [
            f"b: placement.gpus = '{UUIDS[1]}': vllm-b-0 has no place: on g: GPU 1 ({UUIDS[1]}) is taken by vllm-a-0. "
            "Name other GPUs in one of the two models."
        ],
    ),
    "two replicas on one GPU": (
        [spec(replicas=2, placement={"gpus": [1]})],
        {"g": h100_host()},
        [
            f"qwen3-8b: placement.gpus = '1': vllm-qwen3-8b-1 has no place: on g: GPU 1 ({UUIDS[1]}) is taken by "
            "vllm-qwen3-8b-0, a replica of the same model. Write replicas: 1, or leave placement.gpus out."
        ],
    ),
    "too few GPUs": (
        [spec(replicas=3)],
        {"g": rtx_host()},
        [
            "qwen3-8b: engine.tensor_parallel_size: vllm-qwen3-8b-2 has no place: on g: too few GPUs are left: "
            "1 needed, 0 of 2 not taken by other servers. Lower replicas or the parallel sizes, or add a host."
        ],
    ),
    "misfit": (
        [spec(engine={"max_model_len": 40960})],
        {"g": rtx_host()},
        [
            "qwen3-8b: engine.max_model_len = 40960: vllm-qwen3-8b-0 has no place: on g: does not fit NVIDIA GeForce "
            "RTX 4090: of 23.63 GiB the engine takes 21.74 (weights 15.29, activation 0.20, runtime 0.16, graphs "
            "reserved 1.24), which leaves 4.85 GiB for the KV cache, and one request of 40960 tokens needs 5.62. "
            "Set quantization: fp8_per_tensor (frees 6.47 GiB), or kv_cache_dtype: fp8 (frees 2.81 GiB), or "
            "max_model_len: 23552 (frees 2.39 GiB)."
        ],
    ),
    "too large a share": (
        [spec(engine={"max_model_len": 8192, "gpu_memory_utilization": 0.999})],
        {"g": h100_host()},
        [
            "qwen3-8b: engine.gpu_memory_utilization: vllm-qwen3-8b-0 has no place: on g: does not fit NVIDIA H100 "
            "80GB HBM3: the engine takes 79.11 GiB and 0.51 beside them, and the device has 79.19. "
            "Set gpu_memory_utilization: 0.97 (frees 2.30 GiB)."
        ],
    ),
    "GPU in use": (
        [spec()],
        {"g": host(card(0, "NVIDIA GeForce RTX 4090", RTX_4090, memory_free_bytes=20 * GIB))},
        [
            "qwen3-8b: engine.gpu_memory_utilization: vllm-qwen3-8b-0 has no place: on g: GPU 0 "
            f"({UUIDS[0]}) has 20.0 GiB free, less than the 21.7 GiB that the server takes. "
            "End what holds its memory, choose another GPU, or set it to 0.84 at most."
        ],
    ),
    "port in use": (
        [spec(listen={"port": 22})],
        {"g": h100_host()},
        [
            "qwen3-8b: listen.port = 22: vllm-qwen3-8b-0 has no place: on g: is in use by another program. "
            "Choose another, or auto, or end that program."
        ],
    ),
    "two models on one port": (
        [spec("a", listen={"port": 9000}), spec("b", listen={"port": 9000})],
        {"g": h100_host()},
        ["b: listen.port = 9000: vllm-b-0 has no place: on g: is taken by vllm-a-0. Choose another, or auto."],
    ),
    "no port left": (
        [spec(replicas=2)],
        {"g": h100_host(settings={**h100_host()["settings"], "port_range": [8000, 8000]})},
        [
            "qwen3-8b: listen.port = 'auto': vllm-qwen3-8b-1 has no place: on g: no port from 8000 to 8000 is free. "
            "Widen host_port_range, or name a port."
        ],
    ),
    "GPU build without GPU": (
        [spec()],
        {"g": cpu_host(images=[image()])},
        [
            "qwen3-8b: image: vllm-qwen3-8b-0 has no place: on g: needs a GPU, and the host has none that can be used: "
            "no NVIDIA GPU was found on the PCI bus. Choose a host with GPUs, or an image of vLLM's build for the CPU."
        ],
    ),
    "only a broken GPU": (
        [spec()],
        {"g": host(card(0, "NVIDIA L4", 0, error="GPU is lost; restart the host"))},
        [
            "qwen3-8b: image: vllm-qwen3-8b-0 has no place: on g: needs a GPU, and the host has none that can be used: "
            "GPU is lost; restart the host. Choose a host with GPUs, or an image of vLLM's build for the CPU."
        ],
    ),
    "CPU build with GPUs": (
        [cpu_spec(placement={"gpus": [0]})],
        {"g": rtx_host(images=[cpu_image()])},
        [
            f"qwen3-8b: placement.gpus = '0': asks for GPUs, and the image {CPU_IMAGE} holds vLLM's build for the CPU "
            "(0.32.0+cpu). Leave it out, or use an image for GPUs."
        ],
    ),
    "host memory of all servers": (
        [cpu_spec(replicas=2, engine={"max_model_len": 8192, "kv_cache_memory_bytes": "120G"})],
        {"g": cpu_host()},
        [
            "qwen3-8b: engine.kv_cache_memory_bytes: vllm-qwen3-8b-1 has no place: on g: needs 136.7 GiB of host "
            "memory, and 119.3 of 256.0 GiB are left. Lower it, so that the other servers of this host keep theirs."
        ],
    ),
    "limit of host memory": (
        [cpu_spec(limits={"memory": "8GiB"})],
        {"g": cpu_host()},
        [
            "qwen3-8b: limits.memory = 8589934592: is less than the 32.7 GiB that vllm-qwen3-8b-0 takes on the CPU. "
            "Set it to 35068407971 or more."
        ],
    ),
    "not inspected": (
        [spec(replicas=0)],
        {"g": {}},
        [
            "qwen3-8b: replicas = 0: must be greater than or equal to 1. It takes: Number of servers.",
            "g: vllm_inspection: lacks 'gpu'. "
            "Run the role host with tasks_from inspect on every host of the play first.",
        ],
    ),
}


@pytest.mark.parametrize(("models", "inspections", "expected"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_a_refused_user_reads(models: t.Any, inspections: t.Any, expected: list[str]) -> None:
    assert without_figures(refusal(models, inspections)) == without_figures(expected)


def without_figures(texts: list[str]) -> list[str]:
    """The texts without GiB, lengths and ways out that are estimated, which a new fit of the terms changes."""
    texts = [re.sub(r"Set \w+: .* \(frees .*", "Set #", text) for text in texts]
    return [re.sub(r"\d+\.\d{2}\b|(?<=max_model_len: )\d+|\d{11,}|\d+(?= fits)", "#", text) for text in texts]


WARNINGS = {
    "tight": (
        [spec(engine={"max_model_len": 32768})],
        {"g": rtx_host()},
        "engine.max_model_len = 32768: vllm-qwen3-8b-0 is expected to fit on g, but not in the worst case of the "
        "estimate. 20752 fits in the worst case as well.",
    ),
    "files absent": (
        [spec()],
        {"g": h100_host(models=[absent_model()])},
        "model = 'Qwen/Qwen3-8B': vllm-qwen3-8b-0 is planned on g without knowing its memory: the model's files are "
        "not there yet, the engine fetches them. Watch the start, or pre-stage the model.",
    ),
    "shape unknown": (
        [spec()],
        {"g": h100_host(models=[model(config={**QWEN3_8B_CONFIG, "hidden_size": "big"})])},
        "model = 'Qwen/Qwen3-8B': vllm-qwen3-8b-0 is planned on g without knowing its memory: config.json has no "
        "usable hidden_size. Watch the start.",
    ),
    "CPU build beside GPUs": (
        [cpu_spec()],
        {"g": rtx_host(images=[cpu_image()])},
        f"image = '{CPU_IMAGE}': holds vLLM's build for the CPU, so vllm-qwen3-8b-0 leaves the GPUs of g alone. "
        "Use an image for GPUs if that is not meant.",
    ),
    "version from the tag": (
        [spec()],
        {"g": h100_host(images=[image(version_source="tag")])},
        f"image = '{IMAGE}': its version is taken from its tag. Check that the tag tells the truth.",
    ),
    "unknown release": (
        [spec(image="x:v0.99.0")],
        {"g": h100_host(images=[image("x:v0.99.0", "0.99.0")])},
        "image = 'x:v0.99.0': vLLM 0.99.0 is not in the catalogue",
    ),
    "unknown variable": (
        [spec(env={"VLLM_LOGGING_LEVELS": "DEBUG"})],
        {"g": h100_host()},
        "env.VLLM_LOGGING_LEVELS: is in no release of vLLM, and from 0.17.0 on vLLM itself warns of such variables. "
        "Did you mean VLLM_LOGGING_LEVEL?",
    ),
}


@pytest.mark.parametrize(("models", "inspections", "expected"), WARNINGS.values(), ids=WARNINGS.keys())
def test_what_a_warned_user_reads(models: t.Any, inspections: t.Any, expected: str) -> None:
    plan = plan_fleet(models, inspections)
    assert len(plan.warnings) == 1
    found, wanted = without_figures([plan.warnings[0], f"qwen3-8b: {expected}"])
    assert found.startswith(wanted)
    assert plan_text(plan.placements, plan.removals)


@pytest.mark.parametrize("case", ["unknown release", "unknown variable"])
def test_what_the_release_warns_of_stops_a_strict_plan(case: str) -> None:
    models, inspections, expected = WARNINGS[case]
    with pytest.raises(Invalid) as caught:
        plan_fleet(models, inspections, Policy(strict=True))
    assert [str(problem).startswith(f"qwen3-8b: {expected}") for problem in caught.value.problems] == [True]


def with_servers(inspections: dict[str, t.Any], plan: Plan) -> dict[str, t.Any]:
    """The same hosts with the servers of the plan running: their GPUs are full, and their ports are their own."""
    after = {}
    for name, inspection in inspections.items():
        servers = running(plan.placements, plan.hosts, name)
        used = {uuid for server in servers for uuid in server["gpus"]}
        cards = [{**one, "memory_free_bytes": GIB} if one["uuid"] in used else one for one in inspection["gpu"]["gpus"]]
        after[name] = {**inspection, "servers": servers, "gpu": {**inspection["gpu"], "gpus": cards}}
    return after


FLEET = [
    spec("small", replicas=3),
    spec("large", engine={"tensor_parallel_size": 4, "max_model_len": 32768}),
    spec("fixed", listen={"port": 8001}, placement={"hosts": "h100"}),
    spec("named", placement={"hosts": ["rtx"], "gpus": [1]}),
]


def test_planning_again_changes_nothing() -> None:
    before = {"rtx": rtx_host(), "h100": h100_host()}
    first = plan_fleet(FLEET, before)
    again = plan_fleet(FLEET, with_servers(before, first))
    assert again.hosts == first.hosts
    assert again.removals == []
    assert all(one["runs_already"] for one in again.placements)
    assert {**where(again)} == where(first)


@pytest.mark.parametrize("models", [FLEET[::-1], FLEET[1:] + FLEET[:1]])
def test_the_order_of_models_decides_nothing(models: list[t.Any]) -> None:
    before = {"rtx": rtx_host(), "h100": h100_host()}
    assert where(plan_fleet(models, before)) == where(plan_fleet(FLEET, before))


def test_a_new_model_moves_no_running_server() -> None:
    before = {"rtx": rtx_host(), "h100": h100_host()}
    first = plan_fleet(FLEET[:1], before)
    # Its name comes first and it needs more GPUs than what runs.
    added = spec("a", engine={"tensor_parallel_size": 2, "max_model_len": 8192})
    second = where(plan_fleet([*FLEET[:1], added], with_servers(before, first)))
    assert {name: place for name, place in second.items() if name != "vllm-a-0"} == where(first)


def test_a_model_that_is_gone_is_to_be_removed() -> None:
    before = {"rtx": rtx_host()}
    models = [spec("a"), spec("b")]
    plan = plan_fleet(models[:1], with_servers(before, plan_fleet(models, before)))
    assert plan.removals == [{"host": "rtx", "server": "vllm-b-0"}]


def test_own_port_that_another_program_took_is_given_up() -> None:
    servers = [{"name": "vllm-qwen3-8b-0", "port": 8000, "gpus": []}]
    plan = plan_fleet([spec()], {"g": h100_host(servers=servers, ports_in_use=[8000])})
    assert where(plan)["vllm-qwen3-8b-0"][2] == "127.0.0.1:8001"


def test_port_of_a_server_that_still_runs_is_not_given_away() -> None:
    servers = [{"name": "vllm-old-0", "port": 8000, "gpus": []}]
    plan = plan_fleet([spec()], {"g": h100_host(servers=servers)})
    assert where(plan)["vllm-qwen3-8b-0"][2] == "127.0.0.1:8001"


def test_named_gpus_come_before_what_runs_there() -> None:
    before = {"g": rtx_host()}
    after = with_servers(before, plan_fleet([spec("a")], before))
    assert {
        name: place[1]
        for name, place in where(plan_fleet([spec("a"), spec("b", placement={"gpus": [0]})], after)).items()
    } == {"vllm-a-0": [UUIDS[1]], "vllm-b-0": [UUIDS[0]]}


def test_named_port_is_kept_free_for_its_model() -> None:
    ports = {
        name: place[2]
        for name, place in where(plan_fleet([spec("a"), spec("b", listen={"port": 8000})], {"g": rtx_host()})).items()
    }
    assert ports == {"vllm-a-0": "127.0.0.1:8001", "vllm-b-0": "127.0.0.1:8000"}


def test_named_ports_and_gpus_are_never_given_to_others() -> None:
    models = [spec("a"), spec("b", listen={"port": 8000}, placement={"gpus": [0]})]
    assert where(plan_fleet(models, {"g": rtx_host()})) == {
        "vllm-a-0": ("g", [UUIDS[1]], "127.0.0.1:8001"),
        "vllm-b-0": ("g", [UUIDS[0]], "127.0.0.1:8000"),
    }


def test_a_model_that_may_run_on_one_host_only_gets_it() -> None:
    one = {"tensor_parallel_size": 2, "max_model_len": 8192}
    models = [spec("a", engine=one), spec("b", engine=one, placement={"hosts": "first"})]
    plan = plan_fleet(models, {"first": rtx_host(), "second": rtx_host()})
    assert {name: place[0] for name, place in where(plan).items()} == {"vllm-a-0": "second", "vllm-b-0": "first"}


@pytest.mark.parametrize(("spread", "hosts"), [("host", ["a", "b"]), ("none", ["a", "a"])])
def test_spread(spread: str, hosts: list[str]) -> None:
    plan = plan_fleet([spec(replicas=2, placement={"spread": spread})], {"a": rtx_host(), "b": rtx_host()})
    assert [one["host"] for one in plan.placements] == hosts


def test_the_host_that_has_the_files_comes_first() -> None:
    plan = plan_fleet([spec()], {"a": h100_host(models=[absent_model()]), "b": h100_host()})
    assert plan.placements[0]["host"] == "b"


def tokenizer_entry(**changes: t.Any) -> dict[str, t.Any]:
    """An entry of source_info for the tokenizer of another repo."""
    entry = {"source": "org/tokenizer", "revision": None, "scope": "tokenizer", "path": "/srv/hub/org", "commit": None}
    return {**entry, "found": True, "reason": None, "files": [], "problems": [], "missing_code_repos": [], **changes}


def test_an_offline_model_goes_where_all_that_it_reads_is() -> None:
    models = [spec(engine={"max_model_len": 8192, "tokenizer": "org/tokenizer"}, offline=True)]
    lacking = h100_host(sources=[tokenizer_entry()])
    hosts = {"a": lacking, "b": h100_host(sources=[tokenizer_entry(files=["tokenizer.json"])])}
    assert where(plan_fleet(models, hosts))["vllm-qwen3-8b-0"][0] == "b"
    (text,) = refusal(models, {"a": lacking, "c": h100_host(sources=[tokenizer_entry(found=False, reason="gone.")])})
    assert (
        "on a: offline is true, and /srv/hub/org has no tokenizer" in text and "on c: offline is true, and gone" in text
    )
    assert "gpufleet.vllm.prestage, or hf_snapshot with repo org/tokenizer, revision main and scope tokenizer" in text
    # With a hub, the engine fetches what it lacks.
    assert plan_fleet([{**models[0], "offline": False}], {"a": lacking}).placements


def test_groups_select_hosts() -> None:
    hosts = {"a": h100_host(), "b": h100_host(groups=["zone"])}
    assert plan_fleet([spec(placement={"hosts": "zone"})], hosts).placements[0]["host"] == "b"


def test_mig_devices() -> None:
    engine = {"max_model_len": 4096, "kv_cache_dtype": "fp8"}
    models = [spec("a", engine=engine, placement={"gpus": mig_uuid(1)}), spec("b", engine=engine)]
    assert {name: place[1] for name, place in where(plan_fleet(models, {"g": mig_host()})).items()} == {
        "vllm-a-0": [mig_uuid(1)],
        "vllm-b-0": [mig_uuid(0)],
    }


def test_gpu_that_shares_the_host_memory() -> None:
    shared = card(0, "NVIDIA GB10", 0, memory_total_bytes=None, memory_free_bytes=None)
    ledger = plan_fleet([spec()], {"g": host(shared)}).placements[0]["ledger"]
    assert ledger["total"] == 256 * GIB


def test_image_of_each_host_is_its_own() -> None:
    other = "sha256:" + "cd" * 32
    plan = plan_fleet([spec(replicas=2)], {"a": rtx_host(), "b": rtx_host(images=[image(id=other)])})
    assert plan.hosts["a"][0]["image_id"] != plan.hosts["b"][0]["image_id"] == other


def test_stand_in_runs_on_either_device_when_it_is_allowed() -> None:
    images = [image(stand_in=True)]
    for inspection, gpus in ((cpu_host(images=images), []), (rtx_host(images=images), [UUIDS[0]])):
        assert where(plan_fleet([spec()], {"h": inspection}, Policy(allow_stand_in=True)))["vllm-qwen3-8b-0"][1] == gpus


def test_length_that_is_allowed_by_variable_or_overrides() -> None:
    engine = {"max_model_len": 65536}
    assert plan_fleet([spec(engine=engine, env={"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"})], {"g": h100_host()})
    assert plan_fleet([spec(engine={**engine, "hf_overrides": {"x": 1}})], {"g": h100_host()})


@pytest.mark.parametrize(
    "changes",
    [
        {"secrets": {"api_key": SECRET, "hub_token": SECRET}},
        {"secrets": {"api_keyy": SECRET}},
        {"secrets": SECRET},
        {"api_key": SECRET},
        {"env": {"HF_TOKEN": SECRET}},
        {"engine": {"api_key": SECRET}},
        {"engine": {"api-key": [SECRET]}},
        {"engine": {"--api-key": SECRET}},
        {"engine": {"hf_token": SECRET}},
        {"engine": {"api_keyy": SECRET}},
        {"engine": {"hf-token": SECRET}},
    ],
)
def test_no_secret_in_plan_or_refusal(changes: dict[str, t.Any]) -> None:
    try:
        plan = plan_fleet([spec(**changes)], {"g": h100_host()})
    except Invalid as error:
        assert changes != {"secrets": {"api_key": SECRET, "hub_token": SECRET}}
        assert SECRET not in f"{error} {error!r} {error.problems!r}"
    else:
        assert SECRET not in f"{plan!r} {plan_text(plan.placements, plan.removals)}"


OPTIONS = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "prefill_context_parallel_size",
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "kv_cache_dtype",
    "dtype",
    "enforce_eager",
    "speculative_config",
    "hf_overrides",
    "lora_modules",
    "runner",
    "x",
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["2", "32k", "auto", "-1", "0", "nan", "1e400", "[" * 100_000, "9" * 5000, "x" * 10**5]),
    st.just(5000).map(lambda digits: 10**digits),
    st.lists(st.integers() | st.text(), max_size=3),
    st.dictionaries(st.text(), st.integers() | st.none(), max_size=3),
)
VALID = st.sampled_from([1, 2, "2", "8", "32k", 0.5, "auto", "fp8", True])


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(OPTIONS), VALUES | VALID, max_size=4),
    st.dictionaries(st.sampled_from(["replicas", "placement", "listen", "limits", "env", "image"]), VALUES, max_size=2),
    st.sampled_from([IMAGE, CPU_IMAGE]),
)
def test_no_declaration_raises_anything_but_invalid(
    engine: dict[str, t.Any], changes: dict[str, t.Any], name: str
) -> None:
    both = h100_host(images=[image(), cpu_image()])
    try:
        plan = plan_fleet([spec(**{"engine": engine, "image": name, **changes})], {"g": both})
    except Invalid as error:
        assert all(len(str(problem)) < 2000 for problem in error.problems)
    else:
        assert json.dumps(plan.hosts)
        assert plan_text(plan.placements, plan.removals)


@settings(deadline=None)
@given(st.recursive(VALUES, lambda inner: st.dictionaries(st.sampled_from(list(host())), inner), max_leaves=10))
def test_no_inspection_raises_anything_but_invalid(inspection: t.Any) -> None:
    broken = {**h100_host(), **inspection} if isinstance(inspection, dict) else inspection
    for inspections in ({"g": broken}, inspection):
        try:
            plan_fleet([spec()], inspections)
        except Invalid as error:
            assert error.problems


def test_faults_of_options_are_told_beside_an_absent_image() -> None:
    texts = refusal([spec(engine={"max_model_length": 4096})], {"g": h100_host(images=[])})
    assert len(texts) == 2
    assert texts[0].startswith("qwen3-8b: image = ") and "max_model_length: is no option of vLLM 0.33.0" in texts[1]
