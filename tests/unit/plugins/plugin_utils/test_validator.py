# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models against a release without placing them."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.options import option_arguments
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validator import Rendered, validate_models
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import (
    COMMIT,
    GIB,
    H100,
    IMAGE,
    absent_image,
    absent_model,
    card,
    cpu_host,
    cpu_spec,
    h100_host,
    host,
    image,
    rtx_host,
    spec,
)


def one(declared: dict[str, t.Any], release: str | None = None, **arguments: t.Any) -> Rendered:
    """What validation makes of a single well-formed model."""
    (found,) = validate_models([declared], release, **arguments).models
    return found


def test_a_sound_model() -> None:
    found = validate_models([spec()])
    assert found.as_data()["valid"] is True
    assert found.problems == ()
    (model,) = found.models
    assert (model.name, model.release, model.entrypoint) == ("qwen3-8b", "0.33.0", ["vllm", "serve"])
    assert model.argv is not None and model.argv[0] == "Qwen/Qwen3-8B"
    assert model.argv[-2:] == ["--max-model-len", "8192"]
    assert model.env is not None and model.env["HF_HUB_CACHE"]
    assert model.engine == {"max_model_len": 8192}
    json.dumps(found.as_data())


@pytest.mark.parametrize(
    ("tag", "release", "expected"),
    [
        ("vllm/vllm-openai:v0.10.2", None, "0.10.2"),
        ("vllm/vllm-openai:v0.10.2-x86_64", None, "0.10.2"),
        ("vllm/vllm-openai:v0.10.2", "0.33.0", "0.33.0"),
        ("vllm/vllm-openai:latest", "v0.33.0", "0.33.0"),
        ("vllm/vllm-openai:latest", "0.32.0+cpu", "0.32.0"),
    ],
)
def test_the_release(tag: str, release: str | None, expected: str) -> None:
    assert one(spec(image=tag), release).release == expected


def test_a_host_knows_the_release_better_than_the_tag() -> None:
    found = one(spec(), inspections={"g": rtx_host(images=[image(version="0.32.0")])})
    assert found.release == "0.32.0"
    assert one(spec(), inspections={"g": rtx_host(images=[absent_image()])}).release == "0.33.0"


def test_no_release_is_a_problem_of_the_model() -> None:
    found = validate_models([spec(image="registry.example/vllm:latest"), spec("second")])
    (problem,) = found.errors
    assert (problem.where, problem.field, problem.value) == ("qwen3-8b", "image", "registry.example/vllm:latest")
    assert "release" in problem.fix
    assert [model.name for model in found.models] == ["second"]


@pytest.mark.parametrize(("release", "nearest"), [("0.99.0", "0.33.0"), ("0.1.0", "0.6.0"), ("abc", "0.33.0")])
def test_an_unknown_release_is_a_warning_and_the_nearest_stands_in(release: str, nearest: str) -> None:
    found = one(spec(), release)
    assert found.release == nearest
    (problem,) = [problem for problem in found.problems if "not in the catalogue" in problem.reason]
    assert problem.warning and release in problem.reason
    assert validate_models([spec()], release, strict=True).errors


def test_the_arguments_before_and_after_the_entrypoint_changed() -> None:
    old, new = one(spec(), "0.11.0"), one(spec(), "0.11.1")
    assert old.entrypoint[:2] == ["python3", "-m"]
    assert old.argv is not None and old.argv[:2] == ["--model", "Qwen/Qwen3-8B"]
    assert new.argv is not None and new.argv[0] == "Qwen/Qwen3-8B"


def test_every_problem_of_every_model_comes_at_once() -> None:
    bad = [spec("a", engine={"swapspace": 1, "max_num_seqs": "few"}), spec("b", replcas=2), spec("c")]
    found = validate_models(bad)
    assert {(problem.where, problem.field) for problem in found.errors} == {
        ("a", "engine.swapspace"),
        ("a", "engine.max_num_seqs"),
        ("b", "replcas"),
    }
    assert [model.name for model in found.models] == ["a", "c"]
    assert found.as_data()["valid"] is False
    texts = [message["text"] for message in found.as_data()["messages"]]
    assert texts == [str(problem) for problem in found.problems]


def remedied(release: str = "0.33.0") -> tuple[dict[str, t.Any], Rendered]:
    """A spec with an error that has a remedy, and what becomes of it."""
    declared = spec(engine={"max_model_len": 8192, "guided_decoding_backend": "xgrammar"})
    return declared, one(declared, release)


def test_remedies_are_written_in_when_every_error_has_one() -> None:
    _declared, found = remedied()
    (problem,) = [problem for problem in found.problems if not problem.warning]
    assert problem.field == "engine.guided_decoding_backend" and problem.remedy is not None
    assert "guided_decoding_backend" not in found.engine and len(found.engine) == 2
    assert found.argv is not None
    mended = ModelSpec.model_validate(spec(engine=found.engine))
    assert found.argv[-4:] == option_arguments(mended, load("0.33.0"))
    assert not validate_models([spec(engine=found.engine)], "0.33.0").errors


def test_nothing_is_rendered_when_an_error_has_no_remedy() -> None:
    declared = spec(engine={"guided_decoding_backend": "xgrammar", "no_such_option": 1})
    found = one(declared, "0.33.0")
    assert found.argv is None and found.env is None
    # What can be mended is mended there nonetheless.
    assert "guided_decoding_backend" not in found.engine and "structured_outputs_config" in found.engine


def test_strict_makes_errors_of_warnings() -> None:
    declared = spec(env={"VLLM_NO_SUCH_VARIABLE": "1"})
    assert not validate_models([declared]).errors
    assert [problem.field for problem in validate_models([declared], strict=True).errors] == [
        "env.VLLM_NO_SUCH_VARIABLE"
    ]


def test_secrets_are_nowhere() -> None:
    declared = spec(
        engine={"api_key": "HIDDEN-1", "hf-token": "HIDDEN-2", "max_model_len": 8192},
        secrets={"api_key": "HIDDEN-3", "hub_token": "HIDDEN-4"},
    )
    other = spec("other", secrets={"api_key": "HIDDEN-5", "hub_token": "HIDDEN-6"})
    found = validate_models([declared, other])
    assert "HIDDEN" not in json.dumps(found.as_data())
    assert found.models[1].env is not None and "HF_TOKEN_PATH" in found.models[1].env


def test_what_hosts_have_is_used() -> None:
    found = one(spec(), inspections={"g": rtx_host()})
    assert found.argv is not None and COMMIT in found.argv
    without = one(spec(), inspections={"g": rtx_host(models=[absent_model()])})
    assert without.argv is not None and COMMIT not in without.argv


def test_a_model_that_the_release_cannot_split() -> None:
    declared = spec(engine={"tensor_parallel_size": 3})
    assert not validate_models([declared]).errors
    found = validate_models([declared], inspections={"g": h100_host()})
    assert "engine.tensor_parallel_size" in [problem.field for problem in found.errors]


def test_what_only_one_host_cannot_do_is_a_warning_with_its_name() -> None:
    old = host(card(0, "Tesla T4", 15 * GIB, compute_capability="7.5"))
    new = host(card(0, "NVIDIA H100 80GB HBM3", H100, compute_capability="9.0"))
    declared = spec(engine={"dtype": "bfloat16"})
    (named,) = validate_models([declared], inspections={"old": old, "new": new}).problems
    assert (named.warning, named.reason.startswith("on old: ")) == (True, True)
    (refused,) = validate_models([declared], inspections={"old": old, "new": new}, strict=True).errors
    assert refused.reason.startswith("on old: ")


def test_what_no_host_can_do_is_an_error_whatever_each_says_of_itself() -> None:
    hosts = {
        "a": host(card(0, "Tesla T4", 15 * GIB, compute_capability="7.5")),
        "b": host(card(0, "Quadro RTX 6000", 24 * GIB, compute_capability="7.5")),
        "without": host(),
    }
    errors = validate_models([spec(engine={"dtype": "bfloat16"})], inspections=hosts).errors
    assert [problem.reason.partition(":")[0] for problem in errors] == ["on a", "on b"]


def test_the_files_of_one_host_tell_of_the_model_on_every_host() -> None:
    hosts = {"big": h100_host(), "none": h100_host(models=[absent_model()])}
    found = validate_models([spec(engine={"tensor_parallel_size": 3})], inspections=hosts)
    assert "engine.tensor_parallel_size" in [problem.field for problem in found.errors]


@pytest.mark.parametrize(
    "name",
    ["--api-key", "apiKey", "API_KEY", "api_keys", "api_ke", "hf_tok", "token", "api_key=HIDDEN", "--token=HIDDEN"],
)
def test_misspelt_secrets_are_not_shown(name: str) -> None:
    found = validate_models([spec(engine={name: "HIDDEN"})], "0.33.0")
    assert found.errors
    assert "HIDDEN" not in json.dumps(found.as_data())


@pytest.mark.parametrize("value", [{"password": "HIDDEN"}, '{"password": "HIDDEN"'])
def test_messages_show_nothing_of_fields_that_no_release_knows(value: t.Any) -> None:
    found = validate_models([spec(engine={"kv_transfer_config": value})], "0.33.0")
    assert found.errors
    assert "HIDDEN" not in json.dumps(found.as_data()["messages"])


def test_json_text_keeps_what_is_not_migrated() -> None:
    declared = spec(engine={"compilation_config": '{"level":3,"custom_ops":["none"]}'})
    assert one(declared, "0.20.0").engine["compilation_config"] == {"mode": 3, "custom_ops": ["none"]}


@pytest.mark.parametrize(
    ("gpus", "bad"), [(None, True), ({"name": "*H100*"}, False), ({"name": "*T4"}, True), ([0], True), ([1], False)]
)
def test_only_gpus_that_placement_leaves_are_judged(gpus: t.Any, bad: bool) -> None:
    # 0.33.0 has no bfloat16 before Ampere (compute capability 8.0).
    cards = [
        card(0, "Tesla T4", 15 * GIB, compute_capability="7.5"),
        card(1, "NVIDIA H100 80GB HBM3", H100, compute_capability="9.0"),
    ]
    declared = spec(engine={"dtype": "bfloat16"}, placement={"gpus": gpus})
    found = one(declared, inspections={"g": host(*cards)})
    assert bool([problem for problem in found.problems if "Tesla T4" in problem.reason]) is bad, found.problems


def test_a_remedy_of_the_model_itself_is_written_in() -> None:
    found = one(spec(env={"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}), strict=True)
    assert [problem.remedy for problem in found.problems] == [{"offline": True}, {"offline": True}]
    assert found.env is not None and found.env["HF_HUB_OFFLINE"] == "1" and "TRANSFORMERS_OFFLINE" not in found.env


def test_the_build_for_the_cpu() -> None:
    found = one(cpu_spec(), inspections={"c": cpu_host()})
    assert found.release == "0.32.0" and found.argv is not None


def test_an_inspection_that_is_none() -> None:
    found = validate_models([spec()], inspections={"g": {"gpu": 1}, "h": host()})
    assert [(problem.where, problem.field) for problem in found.errors] == [("g", "vllm_inspection")]


@pytest.mark.parametrize("models", [None, "text", 7, {}, [None], [[]], [{"name": []}], [{"name": 1}]])
def test_odd_input_is_a_problem_and_no_traceback(models: t.Any) -> None:
    found = validate_models(models, "0.33.0")
    assert found.errors and found.models == ()


def test_the_placed_entrypoint_of_the_image_and_the_models_own() -> None:
    own = image(entrypoint=["/opt/start", "serve"])
    assert one(spec(), inspections={"g": rtx_host(images=[own])}).entrypoint == ["/opt/start", "serve"]
    # It says nothing of the image of another release.
    assert one(spec(), "0.32.0", inspections={"g": rtx_host(images=[own])}).entrypoint == ["vllm", "serve"]
    assert one(spec(image=IMAGE, entrypoint=["vllm"])).entrypoint == ["vllm"]
