# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models on kinds of devices: which there are, what is said of each, and that what is proposed really helps."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._fitter import (
    TOO_FEW,
    failure,
    fit_models,
    read_devices,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.server import FETCH_SECONDS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validator import validate_models
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import (
    GIB,
    H100,
    RTX_4090,
    absent_model,
    card,
    cpu_host,
    cpu_spec,
    h100_host,
    host,
    image,
    mig_host,
    model,
    rtx_host,
    spec,
)

L4 = {"name": "NVIDIA L4", "memory_gib": 22.16, "count": 2}


def one(declared: dict[str, t.Any], **arguments: t.Any) -> dict[str, t.Any]:
    """What is found of a single model that is well formed."""
    found = fit_models([declared], **arguments)
    json.dumps(found)
    assert found["problems"] == []
    return found["models"][0]


def devices(found: dict[str, t.Any]) -> list[tuple[str, int, int, list[str]]]:
    return [(each["device"], each["ledger"]["total"], each["gpus_there"], each["hosts"]) for each in found["devices"]]


def test_each_kind_of_device_is_looked_at_once() -> None:
    hosts = {"a": rtx_host(), "b": h100_host(), "c": rtx_host()}
    mixed = host(card(0, "NVIDIA GeForce RTX 4090", RTX_4090), card(1, "NVIDIA L4", 22 * GIB))
    assert devices(one(spec(), inspections={**hosts, "d": mixed})) == [
        ("NVIDIA GeForce RTX 4090", RTX_4090, 2, ["a", "c", "d"]),
        ("NVIDIA H100 80GB HBM3", H100, 8, ["b"]),
        ("NVIDIA L4", 22 * GIB, 1, ["d"]),
    ]


def test_only_what_the_model_may_get() -> None:
    hosts = {"a": rtx_host(), "b": h100_host()}
    assert [name for name, *_rest in devices(one(spec(placement={"hosts": ["a"]}), inspections=hosts))] == [
        "NVIDIA GeForce RTX 4090"
    ]
    chosen = one(spec(placement={"gpus": {"name": "*H100*", "count": 1}}), inspections=hosts)
    assert [name for name, *_rest in devices(chosen)] == ["NVIDIA H100 80GB HBM3"]
    named = one(spec(placement={"gpus": [0]}), inspections={"a": rtx_host()})
    assert devices(named)[0][2] == 1


def test_mig_devices_and_cpus() -> None:
    (half,) = one(spec(), inspections={"m": mig_host()})["devices"]
    assert half["device"].endswith("MIG 3g.20gb") and half["gpus_there"] == 2
    (cpu,) = one(cpu_spec(), inspections={"c": cpu_host()})["devices"]
    assert (cpu["device"], cpu["gpus_there"], cpu["gpus_needed"]) == ("the CPU of c", 0, 0)
    assert cpu["verdict"] == "fits"


def test_devices_that_are_thought_of() -> None:
    found = one(spec(), devices=[L4], profiles=[model()])
    assert devices(found) == [("NVIDIA L4", int(22.16 * GIB), 2, [])]
    both = one(spec(), inspections={"a": rtx_host()}, devices=[{**L4, "memory_gib": "22.16", "count": "2"}])
    assert [name for name, *_rest in devices(both)] == ["NVIDIA GeForce RTX 4090", "NVIDIA L4"]
    exact = one(spec(), devices=[{"name": "NVIDIA L4", "memory_bytes": 23797432320}], profiles=[model()])
    assert devices(exact) == [("NVIDIA L4", 23797432320, 1, [])]


def test_the_compute_capability_decides_about_fp8() -> None:
    def proposed(**more: t.Any) -> set[str]:
        declared = spec(engine={"max_model_len": 40960})
        device = {"name": "some GPU", "memory_gib": 21, "count": 1, **more}
        (each,) = one(declared, devices=[device], profiles=[model()])["devices"]
        assert each["verdict"] == "misfit"
        return {name for lever in each["levers"] for name in lever["engine"]}

    assert "kv_cache_dtype" not in proposed() | proposed(compute_capability="8.6")
    assert "kv_cache_dtype" in proposed(compute_capability="8.9") & proposed(compute_capability=9)


@pytest.mark.parametrize(
    ("devices_", "where", "field"),
    [
        ("L4", "devices", "devices"),
        ([7], "devices[0]", "device"),
        ([{**L4, "nmae": "x"}], "devices[0]", "nmae"),
        ([{"memory_gib": 22}], "devices[0]", "name"),
        ([L4, {"name": "x"}], "devices[1]", "memory_gib"),
        ([{**L4, "memory_bytes": 2**34}], "devices[0]", "memory_gib"),
        ([{**L4, "memory_gib": 0}], "devices[0]", "memory_gib"),
        ([{**L4, "memory_gib": "many"}], "devices[0]", "memory_gib"),
        ([{**L4, "memory_gib": float("nan")}], "devices[0]", "memory_gib"),
        ([{**L4, "count": -1}], "devices[0]", "count"),
        ([{**L4, "count": True}], "devices[0]", "count"),
        ([{**L4, "count": 0.5}], "devices[0]", "count"),
        ([{**L4, "compute_capability": "new"}], "devices[0]", "compute_capability"),
    ],
)
def test_odd_devices_are_problems(devices_: t.Any, where: str, field: str) -> None:
    _kinds, problems = read_devices(devices_)
    assert [(problem.where, problem.field) for problem in problems] == [(where, field)]


@pytest.mark.parametrize(
    "profiles",
    [
        "x",
        [7],
        [{}],
        [{"model": "a", "found": True}],
        [{**model(), "model": [1]}],
        [{**model(), "revision": {}}],
        [model(weights={"total_bytes": 1})],
        [model(weights={"total_bytes": "1", "bytes_by_class": {}})],
        [model(weights={"total_bytes": 1, "bytes_by_class": {"mlp": {"BF16": None}}})],
        [model(text_config_path=None)],
        [model(config=None)],
    ],
)
def test_odd_profiles_are_problems(profiles: t.Any) -> None:
    found = fit_models([spec()], profiles=profiles, devices=[L4])
    assert [problem["field"] for problem in found["problems"]] == ["profiles"]
    assert not found["fits"]


def test_more_gpus_than_there_are() -> None:
    found = one(spec(engine={"tensor_parallel_size": 4, "max_model_len": 8192}), inspections={"a": rtx_host()})
    (each,) = found["devices"]
    assert (each["verdict"], each["gpus_needed"], each["gpus_there"]) == (TOO_FEW, 4, 2)
    assert not found["fits"]


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        ({"devices": [L4]}, "not there yet"),
        ({"devices": [L4], "profiles": [absent_model()]}, "not there yet"),
        ({"devices": [L4], "profiles": [model(config={"hidden_size": 8})]}, "config.json"),
        ({"profiles": [model()]}, "no device"),
        ({"inspections": {"n": host()}}, "n has no GPU that it may get"),
    ],
)
def test_what_is_not_known_is_said(arguments: dict[str, t.Any], unknown: str) -> None:
    found = one(spec(), **arguments)
    assert unknown in found["unknown"] and not found["fits"] and found["devices"] == []


def test_files_that_are_cut_off_say_nothing_of_the_size() -> None:
    broken = {"severity": "error", "kind": "missing", "file": "x", "message": "1 of 4 weight files are missing"}
    found = one(spec(), inspections={"a": rtx_host(models=[model(problems=[broken])])})
    assert found["unknown"] == "1 of 4 weight files are missing" and not found["fits"]
    warned = one(spec(), inspections={"a": rtx_host(models=[model(problems=[{**broken, "severity": "warning"}])])})
    assert warned["fits"]


def test_what_the_release_refuses_is_a_problem() -> None:
    hosts = {"a": rtx_host()}
    found = fit_models([spec(engine={"max_model_length": 4096})], hosts)
    assert not found["fits"]
    assert ["max_model_length" in problem["text"] for problem in found["problems"]] == [True]
    assert fit_models([spec()], hosts)["problems"] == []


def test_the_release() -> None:
    hosts = {"a": rtx_host(images=[image(version="0.19.1")])}
    assert one(spec(), inspections=hosts)["release"] == "0.19.1"
    assert one(spec(), inspections=hosts, release="0.33.0")["release"] == "0.33.0"
    newer = one(spec(), inspections=hosts, release="0.99.0")
    assert newer["release"] == "0.33.0" and "0.99.0" in newer["note"]
    found = fit_models([spec(image="registry.example/vllm:latest")], devices=[L4], profiles=[model()])
    assert [problem["field"] for problem in found["problems"]] == ["image"]
    assert found["models"] == []


def test_the_deadline_is_that_of_the_server() -> None:
    assert one(spec(), devices=[L4])["deadline_seconds"] == FETCH_SECONDS
    assert 900 < one(spec(), devices=[L4], profiles=[model()])["deadline_seconds"] < 1100


@pytest.mark.parametrize("models", [None, "text", 7, [7], {"name": "x"}, [{"name": "x", "engine": 3}]])
def test_odd_models_are_problems(models: t.Any) -> None:
    found = fit_models(models, devices=[L4])
    json.dumps(found)
    assert found["problems"] and not found["fits"] and failure(found, False)


def test_a_malformed_model_does_not_hide_the_others() -> None:
    found = fit_models([spec(), spec("b", replcas=1)], devices=[L4], profiles=[model()])
    assert [each["name"] for each in found["models"]] == ["qwen3-8b"]
    text = failure(found, False)
    assert text is not None and text.startswith("1 problem:") and "replcas" in text


def test_failure_is_strict_on_demand() -> None:
    misfit = fit_models([spec(engine={"max_model_len": 40960})], devices=[{**L4, "memory_gib": 16}], profiles=[model()])
    assert failure(misfit, False) is None
    strict = failure(misfit, True)
    assert strict is not None and "qwen3-8b: fits on none of these devices (NVIDIA L4: misfit)" in strict
    unknown = failure(fit_models([spec()], devices=[L4]), True)
    assert unknown is not None and "unknown" in unknown
    assert failure(fit_models([spec()], devices=[L4], profiles=[model()]), True) is None


# What does not fit, at releases with V0, V1, graphs beside the budget and in it.
MISFITS: list[tuple[dict[str, t.Any], float, str]] = [
    ({"max_model_len": 40960}, 22.16, "0.33.0"),
    ({"max_model_len": 40960, "max_num_seqs": 1024}, 22.16, "0.19.0"),
    ({"max_model_len": 40960}, 22.16, "0.10.2"),
    ({"max_model_len": 40960}, 22.16, "0.6.6"),
    ({"max_model_len": 32768, "gpu_memory_utilization": 0.8}, 22.16, "0.33.0"),
    ({"max_model_len": 8192, "gpu_memory_utilization": 0.995}, 22.16, "0.33.0"),
    ({"max_model_len": 8192}, 16, "0.33.0"),
    ({"max_model_len": 8192}, 12, "0.33.0"),
]


@pytest.mark.parametrize(("engine", "gib", "release"), MISFITS)
def test_what_is_proposed_helps_and_is_accepted(engine: dict[str, t.Any], gib: float, release: str) -> None:
    arguments = {"devices": [{**L4, "memory_gib": gib}], "profiles": [model()], "release": release}
    (each,) = one(spec(engine=engine), **arguments)["devices"]
    assert each["verdict"] in ("tight", "misfit")
    assert each["levers"]
    frees = [lever["frees_gib"] for lever in each["levers"] if "cpu_offload_gb" not in lever["engine"]]
    assert frees == sorted(frees, reverse=True) and all(gib > 0 for gib in frees)
    proposed = each["levers"] + ([each["together"]] if each["together"] else [])
    fitting = [lever for lever in proposed if lever["verdict_after"] == "fits"]
    assert bool(fitting) or each["needed"] is not None
    for lever in proposed:
        changed = spec(engine={**engine, **lever["engine"]})
        (after,) = one(changed, **arguments)["devices"]
        assert after["verdict"] == lever["verdict_after"]
        assert after["ledger"]["tokens"] == lever["tokens_after"]
        assert after["ledger"]["concurrency"] == lever["concurrency_after"]
        assert not validate_models([changed], release).errors


def test_needed_is_enough() -> None:
    arguments = {"profiles": [model()], "release": "0.33.0"}
    small = {**L4, "memory_gib": 8, "count": 1}
    engine = {"max_model_len": 8192}
    (each,) = one(spec(engine=engine), devices=[small], **arguments)["devices"]
    needed = each["needed"]
    changed = spec(engine={**engine, **needed["engine"]})
    (more,) = one(changed, devices=[{**small, "count": needed["gpus"]}], **arguments)["devices"]
    assert more["verdict"] == "fits" and more["gpus_needed"] == needed["gpus"]
    (larger,) = one(spec(engine=engine), devices=[{**small, "memory_gib": needed["device_gib"]}], **arguments)[
        "devices"
    ]
    assert larger["verdict"] == "fits"
    less = {**small, "memory_gib": needed["device_gib"] - 1}
    assert one(spec(engine=engine), devices=[less], **arguments)["devices"][0]["verdict"] != "fits"
