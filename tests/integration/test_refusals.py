# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be done is refused with one clear error that names field, value and fix, before anything is touched."""

from __future__ import annotations

import pathlib
import shutil
import socket
import subprocess
import typing as t

import pytest

from support.fleet import ROOT, Fleet, Played

# Name of the model -> what is wrong with it, and what its line in the error must hold.
BAD_INPUT: dict[str, tuple[dict[str, t.Any], tuple[str, ...]]] = {
    "unknown-key": ({"replcas": 2}, ("replcas", "is unknown", "Did you mean replicas?")),
    "wrong-type": ({"replicas": "many"}, ("replicas = 'many'", "integer")),
    "unknown-option": ({"engine": {"max_model_length": 8}}, ("engine.max_model_length", "0.32.0", "max_model_len")),
    "option-value": ({"engine": {"max_num_seqs": "few"}}, ("engine.max_num_seqs = 'few'",)),
    "option-gone": ({"engine": {"swap_space": 4}}, ("engine.swap_space", "0.32.0")),
    "option-ours": ({"engine": {"port": 9000}}, ("engine.port", "listen.port")),
    "image-absent": (
        {"image": "gpufleet-test/no-such:1.2.3"},
        ("image = 'gpufleet-test/no-such:1.2.3'", "one", "docker pull"),
    ),
    "path-absent": ({"model": "/no/such/model"}, ("model = '/no/such/model'", "one")),
    "not-cached": ({"model": "gpufleet/absent"}, ("model = 'gpufleet/absent'", "offline")),
    "no-such-host": ({"placement": {"hosts": ["gpu99"]}}, ("placement.hosts", "gpu99", "one")),
    "no-such-gpu": ({"placement": {"gpus": [7]}}, ("no-such-gpu", "GPU", "one")),
}


def refused(fleet: Fleet, played: Played) -> str:
    """The run failed with a message and made nothing; the message."""
    assert played.rc != 0, played.output
    assert "Traceback" not in played.output
    assert not fleet.containers()
    assert not fleet.state_dir.exists()
    return played.failure


def test_every_problem_of_every_model_comes_at_once(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        cases = {
            **BAD_INPUT,
            "without-config": ({"model": str(bare)}, (f"model = '{bare}'", "config.json")),
            "port-in-use": ({"listen": {"port": port}}, ("listen.port", str(port), "in use")),
        }
        fleet.models = [{**fleet.model(name), **changes} for name, (changes, _parts) in cases.items()]
        message = refused(fleet, fleet.deploy())
    for name, (_changes, parts) in cases.items():
        lines = [line for line in message.splitlines() if line.startswith(f"- {name}: ")]
        assert len(lines) == 1, (name, message)
        for part in parts:
            assert part in lines[0], (name, part)


def test_two_models_of_one_name(fleet: Fleet) -> None:
    fleet.models = [fleet.model("twin"), fleet.model("twin")]
    assert "twin: name = 'twin'" in refused(fleet, fleet.deploy())


def test_the_docker_engine_not_reachable(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.models = [fleet.model()]
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        played = fleet.deploy()
    message = refused(fleet, played)
    assert "Docker Engine does not answer" in message and "systemctl start docker" in message


def test_the_disk_full(fleet: Fleet) -> None:
    fleet.state_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(fleet.state_dir)], check=True)
    try:
        fleet.models = [fleet.model()]
        for mode in (["--check"], []):
            played = fleet.deploy(*mode)
            assert played.rc != 0
            assert "MiB free" in played.failure and str(fleet.state_dir) in played.failure
        assert not fleet.containers()
    finally:
        subprocess.run(["umount", "--lazy", str(fleet.state_dir)], check=True)


def test_the_stand_in_serves_no_fleet(fleet: Fleet) -> None:
    fleet.models = [fleet.model()]
    message = refused(fleet, fleet.play("deploy"))
    assert "stand-in" in message and fleet.stand_in in message


def test_a_part_of_the_fleet(fleet: Fleet) -> None:
    fleet.models = [fleet.model()]
    assert "--limit" in refused(fleet, fleet.deploy("--limit", "one"))


def test_no_models_declared_never_means_remove_all(fleet: Fleet) -> None:
    fleet.models = [fleet.model("undeclared")]
    assert fleet.deploy().rc == 0
    before = fleet.identities()
    fleet.models = None
    played = fleet.deploy(server_prune=True)
    assert played.rc != 0
    assert "vllm_models is not declared" in played.failure
    assert fleet.identities() == before


def test_no_gpu_is_a_fact_with_its_reason_and_the_plan_goes_on(fleet: Fleet) -> None:
    fleet.models = [fleet.model()]
    checked = fleet.play("check", server_allow_stand_in=True)
    assert checked.rc == 0 and not checked.changed, checked.output
    gpu = checked.results("gpu_facts")[0]["ansible_facts"]["vllm_gpu"]
    # On a machine with GPUs there are some and no reason.
    assert bool(gpu["gpus"]) != bool(gpu["reason"])
    if not gpu["gpus"]:
        assert checked.results("fleet_plan")[0]["placements"][0]["gpus"] == []
    assert not fleet.containers()


def test_the_collection_works_with_everything_but_its_content_removed(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    bare = tmp_path / "collections/ansible_collections/gpufleet/vllm"
    bare.mkdir(parents=True)
    for name in ("meta", "plugins", "roles", "playbooks"):
        shutil.copytree(ROOT / name, bare / name, ignore=shutil.ignore_patterns("__pycache__"))
    fleet.models = [fleet.model()]
    fleet.collections = tmp_path / "collections"
    checked = fleet.play("gpufleet.vllm.check", server_allow_stand_in=True)
    assert checked.rc == 0, checked.output
    assert checked.results("fleet_plan")[0]["placements"][0]["server"] == "vllm-probe-0"
