# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users declare: what is taken, and what every refusal says."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import spec

SECRET = "sk-very-secret-0123456789"


class Tagged(str):
    """A text of a subclass, as ansible-core's are."""


def problems(**changes: t.Any) -> list[str]:
    """The problems of a spec with these changes, as a user reads them."""
    return [str(problem) for problem in load_specs([spec(**changes)])[1]]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"replica": 2}, ["qwen3-8b: replica: is unknown. Did you mean replicas?"]),
        ({"api_key": SECRET}, ["qwen3-8b: api_key: is unknown. Write it as secrets.api_key."]),
        ({"placement": {"gpuz": 1}}, ["qwen3-8b: placement.gpuz: is unknown. Did you mean gpus?"]),
        (
            {"replicas": 0},
            ["qwen3-8b: replicas = 0: must be greater than or equal to 1. It takes: Number of servers."],
        ),
        (
            {"placement": {"spread": "rack"}},
            [
                "qwen3-8b: placement.spread = 'rack': must be 'host' or 'none'. It takes: host: no two replicas on one "
                "host while another host has room; none: fill hosts in order."
            ],
        ),
        (
            {"model": "a/b/c"},
            [
                "qwen3-8b: model = 'a/b/c': is neither a hub id (name or organisation/name) nor an absolute path. "
                "It takes: Hub id, or absolute path on the host."
            ],
        ),
        (
            {"env": {"HF_TOKEN": SECRET}},
            [
                "qwen3-8b: env: HF_TOKEN would be shown by docker inspect; give it as secrets.api_key or "
                "secrets.hub_token. It takes: Environment variables of the container; never secrets."
            ],
        ),
        (
            {"secrets": SECRET},
            ["qwen3-8b: secrets: must be a mapping. It takes: api_key, hub_token, tls_key, tls_cert, tls_ca."],
        ),
    ],
)
def test_refusal_names_model_field_value_and_fix(changes: dict[str, t.Any], expected: list[str]) -> None:
    assert problems(**changes) == expected


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "Upper"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"model": "a/b\n"}, "model"),
        ({"model": "-x/y"}, "model"),
        ({"model": "--config"}, "model"),
        ({"revision": "--trust-remote-code"}, "revision"),
        ({"image": ""}, "image"),
        ({"user": "root"}, "user"),
        ({"listen": {"port": 0}}, "listen.port"),
        ({"listen": {"port": "65536"}}, "listen.port"),
        ({"listen": {"port": True}}, "listen.port"),
        ({"listen": {"address": "myhost"}}, "listen.address"),
        ({"limits": {"memory": -1}}, "limits.memory"),
        ({"limits": {"memory": "9" * 400}}, "limits.memory"),
        ({"limits": {"cpus": 0}}, "limits.cpus"),
        ({"placement": {"gpus": []}}, "placement.gpus"),
        ({"placement": {"gpus": [0, "0"]}}, "placement.gpus"),
        ({"placement": {"gpus": "[" * 100_000}}, "placement.gpus"),
        ({"placement": {"gpus": [True]}}, "placement.gpus"),
        ({"placement": {"hosts": []}}, "placement.hosts"),
        ({"env": {"A B": "1"}}, "env"),
        ({"secrets": {"api_key": ""}}, "secrets.api_key"),
        ({"engine": [1]}, "engine"),
        ({"entrypoint": "vllm serve"}, "entrypoint"),
    ],
)
def test_one_refusal_for_the_field(changes: dict[str, t.Any], field: str) -> None:
    found = load_specs([spec(**changes)])[1]
    assert [problem.field for problem in found] == [field]


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        (1, [1]),
        ("0,1", [0, 1]),
        ("[0, 1]", [0, 1]),
        ('"[0, 1]"', [0, 1]),
        (["GPU-5c89852c-d268", "MIG-5c89852c-d268"], ["GPU-5c89852c-d268", "MIG-5c89852c-d268"]),
        ("MIG-GPU-5c89852c/1/0", ["MIG-GPU-5c89852c/1/0"]),
    ],
)
def test_gpus_in_the_forms_that_inventories_bring(gpus: t.Any, expected: list[t.Any]) -> None:
    specs, found = load_specs([spec(placement={"gpus": gpus})])
    assert (found, specs[0].placement.gpus) == ([], expected)


@pytest.mark.parametrize(
    ("size", "expected"), [(1024, 1024), ("1K", 1024), ("1.5GiB", 3 * 2**29), ("512m", 2**29), ("2 TB", 2**41)]
)
def test_sizes_are_binary(size: t.Any, expected: int) -> None:
    specs, found = load_specs([spec(limits={"shm": size})])
    assert (found, specs[0].limits.shm) == ([], expected)


def test_values_as_templates_bring_them() -> None:
    declared = spec(replicas="2", offline="yes", revision=5, listen={"port": "8001"}, user=1000)
    specs, found = load_specs(
        [{Tagged(key): Tagged(value) if isinstance(value, str) else value for key, value in declared.items()}]
    )
    assert found == []
    assert (specs[0].replicas, specs[0].offline, specs[0].revision, specs[0].listen.port) == (2, True, "5", 8001)
    assert specs[0].name.__class__ is str
    assert specs[0].user == "1000"


def test_every_problem_of_every_model_at_once() -> None:
    specs, found = load_specs([spec("a", replicas=0, port=1), None, spec("b"), {}, spec("b")])
    assert [one.name for one in specs] == ["b"]
    assert [(one.where, one.field) for one in found] == [
        ("a", "replicas"),
        ("a", "port"),
        ("vllm_models[1]", "(the model)"),
        ("vllm_models[3]", "name"),
        ("vllm_models[3]", "model"),
        ("vllm_models[3]", "image"),
        ("b", "name"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"secrets": {"api_key": SECRET}},
        {"secrets": {"api_keyy": SECRET}},
        {"secrets": SECRET},
        {"secrets": [SECRET]},
        {"secrets": {"api_key": [SECRET]}},
        {"secrets": {"api_key": {"value": SECRET}}},
        {"env": {"HF_TOKEN": SECRET}},
        {"env": {"AWS_SECRET_ACCESS_KEY": SECRET}},
        {"env": {"A": [SECRET]}},
        {"env": f"HF_TOKEN={SECRET}"},
        {"engine": f"--api-key {SECRET}"},
        {"api_key": SECRET},
        {"hub_token": SECRET},
    ],
)
def test_no_secret_is_shown(changes: dict[str, t.Any]) -> None:
    specs, found = load_specs([spec(**changes)])
    assert SECRET not in f"{specs!r} {specs} {found!r} {[str(problem) for problem in found]}"


def test_secret_as_the_whole_model_is_not_shown() -> None:
    found = load_specs([SECRET])[1]
    assert found and SECRET not in repr(found)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.just("x" * 100_000)
)
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=8
)
SECTIONS = ("placement", "listen", "limits", "secrets")
FIELDS = ("name", "model", "revision", "image", "replicas", "engine", "env", "entrypoint", "user", "offline", *SECTIONS)
INNER = ("hosts", "gpus", "spread", "address", "port", "memory", "cpus", "shm", "api_key", "hub_token")
SECTION = JUNK | st.dictionaries(st.sampled_from(INNER), JUNK, max_size=3)


@settings(max_examples=300)
@given(JUNK | st.lists(st.dictionaries(st.sampled_from(FIELDS), SECTION, max_size=4), max_size=2))
def test_no_input_raises(models: t.Any) -> None:
    specs, found = load_specs(models)
    assert all(str(problem) for problem in found)
    assert all(len(str(problem)) < 2000 for problem in found)
    if isinstance(models, list):
        assert len(specs) <= len(models) <= len(specs) + len(found)


def test_a_list_that_holds_itself() -> None:
    endless: list[t.Any] = []
    endless.append(endless)
    assert "nested" in problems(engine={"x": endless})[0]


def test_aliases_that_stand_for_billions_are_refused_at_once() -> None:
    bomb: t.Any = ["x"] * 9
    for _level in range(8):
        bomb = [bomb] * 9
    (problem,) = problems(engine={"hf_overrides": bomb})
    assert "100000 values" in problem


def test_a_secret_written_as_a_name_is_not_shown() -> None:
    for wrong in ({"secrets": {SECRET: 1}}, {"env": {f"HF_TOKEN={SECRET}": "1"}}):
        found = problems(**wrong)
        assert found
        assert SECRET not in str(found)


def test_a_fault_deep_in_a_model_is_named_with_its_place() -> None:
    (problem,) = problems(engine={"hf_overrides": {"released": datetime.date(2025, 1, 1)}})
    assert problem.startswith("qwen3-8b: engine.hf_overrides.released: holds a value of the type date")


PEM = {
    "tls_key": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----\n",
    "tls_cert": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
}


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        (PEM, []),
        ({**PEM, "tls_ca": PEM["tls_cert"]}, []),
        ({"tls_key": PEM["tls_key"]}, ["secrets: tls_key and tls_cert belong together"]),
        ({"tls_ca": PEM["tls_cert"]}, ["secrets: tls_ca tells who signed tls_cert"]),
        ({**PEM, "tls_key": "MHcCAQ"}, ["secrets.tls_key: holds no private key in PEM form"]),
        ({**PEM, "tls_cert": "MIIB"}, ["secrets.tls_cert: holds no certificate in PEM form"]),
        (
            {**PEM, "tls_key": PEM["tls_key"].replace("EC", "ENCRYPTED")},
            ["secrets.tls_key: needs a passphrase"],
        ),
    ],
)
def test_tls_is_checked_before_a_server_stumbles_over_it(secrets: dict[str, str], expected: list[str]) -> None:
    found = problems(secrets=secrets)
    assert [problem[: len("qwen3-8b: " + words)] for problem, words in zip(found, expected, strict=True)] == [
        "qwen3-8b: " + words for words in expected
    ]
    assert "MHcCAQ" not in "".join(found) and "MIIB" not in "".join(found)


@pytest.mark.parametrize(
    ("container", "field"),
    [
        ({"cap_add": ["SYS_ADMIN"]}, "container.cap_add"),
        ({"devices": ["/etc/passwd"]}, "container.devices"),
        ({"ipc": "shareable"}, "container.ipc"),
        ({"privileged": True}, "container.privileged"),
        ({"ulimits": {"core": 0}}, "container.ulimits"),
        ({"pids": 1}, "container.pids"),
    ],
)
def test_what_no_engine_needs_is_refused(container: dict[str, t.Any], field: str) -> None:
    (problem,) = problems(container=container)
    assert problem.startswith(f"qwen3-8b: {field}")
