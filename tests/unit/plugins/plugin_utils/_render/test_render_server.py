# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered servers: arguments, environment, mounts, and the wrapper that reads the API key."""

from __future__ import annotations

import itertools
import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._planner import plan_fleet
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.probe import _adapters, _kind
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import (
    CPU_IMAGE,
    GIB,
    absent_model,
    cpu_host,
    h100_host,
    image,
    model,
    spec,
)

HUB_MOUNT = {"source": "/srv/vllm/hub", "target": "/var/hub", "read_only": True}
COMMIT = "9c925d64d72725edaf899c6cb9c377fd0709d9c5"


def rendered(inspection: dict[str, t.Any] | None = None, **changes: t.Any) -> dict[str, t.Any]:
    """The one server of this spec on a host with H100."""
    return plan_fleet([spec(**changes)], {"g": inspection or h100_host()}).hosts["g"][0]


def model_mount(server: dict[str, t.Any]) -> dict[str, t.Any]:
    """The mount beside the compile cache."""
    return next(mount for mount in server["mounts"] if mount["target"] != "/var/cache/vllm")


CERT = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
TLS_KEY = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"


def test_arguments_of_a_hub_model() -> None:
    server = rendered(engine={"max_model_len": 8192, "enable_prefix_caching": False, "kv_cache_dtype": "fp8"})
    assert server["entrypoint"] == ["vllm", "serve"]
    assert server["command"] == [
        "Qwen/Qwen3-8B",
        *("--served-model-name", "qwen3-8b"),
        *("--revision", COMMIT),
        *("--host", "0.0.0.0"),
        *("--port", "8000"),
        *("--shutdown-timeout", "45"),
        "--disable-prefix-caching",
        *("--kv-cache-dtype", "fp8"),
        *("--max-model-len", "8192"),
    ]
    assert model_mount(server) == HUB_MOUNT


def test_module_entrypoint_takes_the_model_as_an_option() -> None:
    old = ["python3", "-m", "vllm.entrypoints.openai.api_server"]
    server = rendered(h100_host(images=[image(version="0.8.5.post1", entrypoint=old)]))
    assert server["command"][:2] == ["--model", "Qwen/Qwen3-8B"]


def test_equal_specs_give_equal_arguments() -> None:
    options = {"max_model_len": 8192, "max_num_seqs": 64, "enforce_eager": True}
    assert rendered(engine=options) == rendered(engine=dict(reversed(options.items())))


@pytest.mark.parametrize(
    ("version", "engine", "argument", "seconds"),
    [
        ("0.18.0", {}, "45", 60),
        ("0.33.0", {"shutdown_timeout": "120"}, "120", 135),
        ("0.33.0", {"shutdown_timeout": 0}, "0", 15),
        ("0.17.1", {}, None, 60),
    ],
)
def test_requests_are_waited_for_at_the_end_where_the_release_can(
    version: str, engine: dict[str, t.Any], argument: str | None, seconds: int
) -> None:
    server = rendered(h100_host(images=[image(version=version)]), engine={"max_model_len": 8192, **engine})
    given = [b for a, b in itertools.pairwise(server["command"]) if a == "--shutdown-timeout"]
    assert given == ([] if argument is None else [argument])
    assert server["stop_seconds"] == seconds


@pytest.mark.parametrize(
    ("path", "source", "inside"),
    [
        ("/srv/models/qwen", "/srv/models/qwen", "/models/qwen3-8b"),
        (
            f"/srv/hub/models--Qwen--Qwen3-8B/snapshots/{COMMIT}/",
            "/srv/hub",
            f"/models/qwen3-8b/models--Qwen--Qwen3-8B/snapshots/{COMMIT}",
        ),
        (
            f"/srv/hub/models--a--b/snapshots/{COMMIT}/sub/folder",
            "/srv/hub",
            f"/models/qwen3-8b/models--a--b/snapshots/{COMMIT}/sub/folder",
        ),
        ("/srv/hub/models--a--b/blobs", "/srv/hub/models--a--b/blobs", "/models/qwen3-8b"),
    ],
)
def test_model_that_is_a_path(path: str, source: str, inside: str) -> None:
    server = rendered(h100_host(models=[model(path)]), model=path)
    assert model_mount(server) == {"source": source, "target": "/models/qwen3-8b", "read_only": True}
    assert server["command"][0] == inside
    assert "--revision" not in server["command"]


def test_links_of_a_snapshot_hold_in_the_mount(tmp_path: pathlib.Path) -> None:
    """The mount as a copy of its source's tree: the link leads to the file only when the shared store came along."""
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / COMMIT
    blobs = tmp_path / "hub" / "models--a--b" / "blobs"
    for folder in (snapshot, blobs, tmp_path / "hub" / "blobs"):
        folder.mkdir(parents=True)
    (tmp_path / "hub" / "blobs" / "0123").write_text("{}")
    (blobs / "0123").symlink_to("../../blobs/0123")
    (snapshot / "config.json").symlink_to("../../blobs/0123")
    server = rendered(h100_host(models=[model(str(snapshot))]), model=str(snapshot))
    mount = model_mount(server)
    (tmp_path / "inside").mkdir()
    target = tmp_path / "inside" / "models"
    os.rename(mount["source"], target)
    assert (target / os.path.relpath(server["command"][0], mount["target"]) / "config.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("offline", "there", "read_only"), [(True, True, True), (False, True, True), (False, False, False)]
)
def test_cache_is_writable_only_when_something_is_to_be_fetched(offline: bool, there: bool, read_only: bool) -> None:
    inspection = h100_host() if there else h100_host(models=[absent_model()])
    server = rendered(inspection, offline=offline)
    assert model_mount(server)["read_only"] is read_only
    assert server["env"].get("HF_HUB_OFFLINE") == ("1" if offline else None)


def test_variables_are_those_that_the_release_knows() -> None:
    old = image(version="0.8.5.post1")
    assert "VLLM_ENGINE_READY_TIMEOUT_S" not in rendered(h100_host(images=[old]))["env"]
    env = rendered(env={"HOME": "/var/cache/vllm", "A": 1})["env"]
    assert env["VLLM_ENGINE_READY_TIMEOUT_S"] == "1056"
    assert (env["HOME"], env["A"]) == ("/var/cache/vllm", "1")


def test_deadline_grows_with_the_weights() -> None:
    assert rendered()["deadline_seconds"] == 900 + int(15.26 * GIB) // (100 * 2**20)


@pytest.mark.parametrize(
    ("name", "value", "times"), [("VLLM_TRACE_FUNCTION", "1", 4), ("CUDA_LAUNCH_BLOCKING", "0", 1)]
)
def test_a_start_that_is_traced_gets_more_time(name: str, value: str, times: int) -> None:
    plain, traced = rendered(), rendered(env={name: value})
    assert traced["deadline_seconds"] == plain["deadline_seconds"] * times
    assert traced["stall_seconds"] == plain["stall_seconds"] * times
    assert traced["env"]["VLLM_ENGINE_READY_TIMEOUT_S"] == str(traced["deadline_seconds"])


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        ("nvidia", {"runtime": "nvidia", "ids": ["GPU-00000000-0000-0000-0000-000000000000"]}),
        ("cdi", {"runtime": "cdi", "ids": ["nvidia.com/gpu=GPU-00000000-0000-0000-0000-000000000000"]}),
    ],
)
def test_gpus_reach_the_container_by_uuid(runtime: str, expected: dict[str, t.Any]) -> None:
    settings = {**h100_host()["settings"], "gpu_runtime": runtime}
    assert rendered(h100_host(settings=settings))["gpus"] == expected


@pytest.mark.parametrize(("length", "expected"), [(8192, 8192), ("8k", 8000), ("8K", 8192), ("auto", None), (-1, None)])
def test_probe_knows_the_length_that_was_asked_for(length: t.Any, expected: int | None) -> None:
    assert rendered(engine={"max_model_len": length})["probe"]["max_model_len"] == expected


@pytest.mark.parametrize(("runner", "kind"), [("generate", "generate"), ("pooling", "embed")])
def test_probe_asks_what_the_model_does(runner: str, kind: str) -> None:
    assert rendered(engine={"runner": runner, "max_model_len": 8192})["probe"]["kind"] == kind


@pytest.mark.parametrize(
    ("engine", "architecture", "kind"),
    [
        ({}, "Qwen3ForCausalLM", "generate"),
        ({}, "BertModel", "embed"),
        ({}, "BertForSequenceClassification", "classify"),
        ({}, "Qwen2ForRewardModel", "pooling"),
        ({}, "WhisperForConditionalGeneration", "transcribe"),
        ({"runner": "generate"}, "BertModel", "generate"),
        ({"runner": "pooling", "convert": "classify"}, "Qwen3ForCausalLM", "classify"),
        ({"task": "score"}, "Qwen3ForCausalLM", "score"),
        ({"task": "reward"}, "Qwen3ForCausalLM", "pooling"),
    ],
)
def test_probe_follows_options_and_architecture(engine: dict[str, t.Any], architecture: str, kind: str) -> None:
    assert _kind(engine, load("0.33.0"), [architecture]) == kind


def test_probe_wants_the_adapters() -> None:
    assert _adapters(["one=/a", {"name": "two", "path": "/b"}]) == ["one", "two"]
    assert _adapters(None) == []


def test_secrets_are_files_and_the_key_is_read_inside(tmp_path: pathlib.Path) -> None:
    key = "sk $(touch x) \"quoted\" 'key'"
    server = rendered(secrets={"api_key": key, "hub_token": "hf_token"})
    assert key not in repr(server) and "hf_token" not in repr(server["command"])
    assert server["env"]["HF_TOKEN_PATH"] == "/run/secrets/vllm/hub_token"
    # A shell is not in every image; python3 is in every engine.
    assert server["entrypoint"][0] == "python3"
    assert server["entrypoint"][-2:] == ["vllm", "serve"]
    # The wrapper itself, with its folder moved and a program in the engine's place that shows what it gets.
    (tmp_path / "api_key").write_text(key + "\n")
    wrapper = [part.replace(server["secrets"]["target"], str(tmp_path)) for part in server["entrypoint"][:-2]]
    shows = 'printf "%s|%s" "$VLLM_API_KEY" "$1"'
    run = subprocess.run([*wrapper, "/bin/sh", "-c", shows, "sh", "a b"], capture_output=True, text=True, check=True)
    assert run.stdout == f"{key}|a b"


def test_engine_does_not_start_without_its_key(tmp_path: pathlib.Path) -> None:
    wrapper = rendered(secrets={"api_key": "k"})["entrypoint"][:-2]
    wrapper = [part.replace("/run/secrets/vllm", str(tmp_path)) for part in wrapper]
    assert subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode != 0


def test_tls_is_given_as_files() -> None:
    server = rendered(secrets={"tls_key": TLS_KEY, "tls_cert": CERT})
    assert "MII" not in repr(server)
    assert server["entrypoint"] == ["vllm", "serve"]
    at = server["command"].index("--ssl-keyfile")
    assert server["command"][at : at + 4] == [
        *("--ssl-keyfile", "/run/secrets/vllm/tls_key"),
        *("--ssl-certfile", "/run/secrets/vllm/tls_cert"),
    ]


def test_kernels_are_kept_for_each_image_kind_of_gpu_and_user() -> None:
    def cache(server: dict[str, t.Any]) -> str:
        return next(mount["source"] for mount in server["mounts"] if mount["target"] == "/var/cache/vllm")

    server = rendered()
    assert cache(server) == "/var/lib/gpufleet-vllm/cache/abababababab/nvidia-h100-80gb-hbm3"
    assert cache(rendered(user="2000:0")) == cache(server) + "-user-2000-0"
    assert cache(rendered(h100_host(images=[image(user="vllm")]))) == cache(server) + "-user-vllm"
    assert cache(rendered(cpu_host(), image=CPU_IMAGE)).endswith("/cpu")
    assert {name: value for name, value in server["env"].items() if value.startswith("/var/cache/vllm")} == {
        "VLLM_CACHE_ROOT": "/var/cache/vllm",
        "TRITON_CACHE_DIR": "/var/cache/vllm/triton",
        "TORCHINDUCTOR_CACHE_DIR": "/var/cache/vllm/inductor",
        "FLASHINFER_WORKSPACE_BASE": "/var/cache/vllm/flashinfer",
        "CUDA_CACHE_PATH": "/var/cache/vllm/cuda",
    }
    assert rendered(env={"TRITON_CACHE_DIR": "/tmp/t"})["env"]["TRITON_CACHE_DIR"] == "/tmp/t"


def test_a_container_gets_the_least() -> None:
    assert rendered()["container"] == {
        "cap_add": [],
        "devices": [],
        "groups": [],
        "ipc": "private",
        "pids": 32768,
        "ulimits": {"memlock": -1, "nofile": 65536, "stack": 2**26},
    }
    assert rendered(cpu_host(), image=CPU_IMAGE)["container"]["ulimits"] == {}


def test_what_is_relaxed_is_what_was_asked_for() -> None:
    asked = {
        "cap_add": ["SYS_NICE", "IPC_LOCK"],
        "devices": ["/dev/infiniband/uverbs1", "/dev/infiniband/uverbs0"],
        "groups": ["109"],
        "ipc": "host",
        "read_only_root": False,
        "pids": None,
        "ulimits": {"memlock": 2**30, "nofile": None},
    }
    server = rendered(container=asked)
    assert server["read_only_root"] is False
    assert server["container"] == {
        "cap_add": ["IPC_LOCK", "SYS_NICE"],
        "devices": ["/dev/infiniband/uverbs0", "/dev/infiniband/uverbs1"],
        "groups": [109],
        "ipc": "host",
        "pids": 0,
        "ulimits": {"memlock": 2**30, "stack": 2**26},
    }


def test_shared_memory_follows_the_gpus_and_the_cache_of_images() -> None:
    assert rendered()["shm_bytes"] == 2 * GIB
    assert rendered(engine={"tensor_parallel_size": 4, "max_model_len": 8192})["shm_bytes"] == 5 * GIB
    shared = {"mm_processor_cache_type": "shm", "max_model_len": 8192}
    assert rendered(engine=shared)["shm_bytes"] == 6 * GIB
    assert rendered(engine={**shared, "mm_processor_cache_gb": 0.5})["shm_bytes"] == 3 * GIB
    assert rendered(limits={"shm": "16GiB"})["shm_bytes"] == 16 * GIB


def test_gpus_of_amd_bring_their_address() -> None:
    settings = {**h100_host()["settings"], "gpu_runtime": "amd"}
    inspection = h100_host(settings=settings)
    for card in inspection["gpu"]["gpus"]:
        card["pci_bus_id"] = f"0000:c{card['index']}:00.0"
    assert rendered(inspection)["gpus"] == {
        "runtime": "amd",
        "ids": ["GPU-00000000-0000-0000-0000-000000000000"],
        "pci": ["0000:c0:00.0"],
    }


def test_server_without_secrets_has_no_wrapper() -> None:
    assert rendered(entrypoint=["/opt/start", "serve"])["entrypoint"] == ["/opt/start", "serve"]


@pytest.mark.parametrize(
    "option", ["model", "port", "api_key", "api-key", "hf_token", "download_dir", "config", "nnodes"]
)
def test_options_of_the_collection_are_refused_with_their_place(option: str) -> None:
    with pytest.raises(Exception, match=rf"engine\.{option}: is not set here\. (Write|Leave)"):
        rendered(engine={option: "1"})


def test_every_option_of_a_release_with_its_default_is_taken() -> None:
    """What vLLM has as its own default must not be refused; switches and numbers stand for the rest."""
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.options import OWN_OPTIONS, check_options

    for version in ("0.8.5.post1", "0.32.0", "0.33.0"):
        release = load(version)
        defaults = {
            name: option.default
            for name, option in release.options.items()
            if isinstance(option.default, (int, float, str)) and name not in OWN_OPTIONS
        }
        assert len(defaults) > 50
        specs, _problems = load_specs([spec(engine=defaults)])
        assert [str(problem) for problem in check_options(specs[0], release) if not problem.warning] == []
