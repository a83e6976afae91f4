# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantization: what the checkpoint holds, what is asked for, releases, plugins and GPUs.

Which pairs of held and asked methods a release takes was compared with what _verify_quantization of 16 releases itself
does with them.
"""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.offer import Gpu
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.quantization import check_quantization
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import (
    GIB,
    QWEN3_8B_CONFIG,
    model,
    spec,
    weights,
)

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
MODELOPT = {"quant_method": "modelopt", "quant_algo": "NVFP4"}


def gpu(name: str, major: int, minor: int) -> Gpu:
    """A GPU of this kind."""
    return Gpu(0, "GPU-0", name, 80 * GIB, 80 * GIB, (major, minor))


V100, T4, A100 = gpu("Tesla V100", 7, 0), gpu("Tesla T4", 7, 5), gpu("NVIDIA A100", 8, 0)
L4, H100 = gpu("NVIDIA L4", 8, 9), gpu("NVIDIA H100", 9, 0)


def profile(held: dict[str, t.Any] | None, dtype: str = "I32", **config: t.Any) -> dict[str, t.Any]:
    """What model_info says of a checkpoint with this quantization_config, or of full weights."""
    said = None
    if held is not None:
        config["quantization_config"] = held
        source = "config.json: quantization_config"
        said = {"method": held.get("quant_method"), "algorithm": held.get("quant_algo"), "source": source}
    return model(
        config={**QWEN3_8B_CONFIG, **config},
        weights=weights(GIB, "BF16" if held is None and dtype == "I32" else dtype),
        quantization=said,
    )


def modelopt_file(algorithm: str) -> dict[str, t.Any]:
    """What model_info says of a checkpoint of an older ModelOpt."""
    said = {"method": "modelopt", "algorithm": algorithm, "source": "hf_quant_config.json"}
    return model(config=QWEN3_8B_CONFIG, weights=weights(GIB, "U8"), quantization=said)


def check(
    held: dict[str, t.Any] | None,
    release: str = "0.33.0",
    asked: t.Any = None,
    gpus: t.Sequence[Gpu] = (H100,),
    packages: dict[str, str] | None = None,
    engine: dict[str, t.Any] | None = None,
    **config: t.Any,
) -> list[Problem]:
    """The problems of a checkpoint that holds this when this is asked for."""
    options = {**(engine or {}), **({} if asked is None else {"quantization": asked})}
    specs, found = load_specs([spec(engine=options)])
    assert found == []
    return check_quantization(specs[0], load(release), profile(held, **config), gpus, packages)


def fields(problems: list[Problem]) -> list[tuple[str, bool]]:
    """Field of each problem, and whether it is a warning."""
    return [(problem.field, problem.warning) for problem in problems]


ERROR, WARNING = [("engine.quantization", False)], [("engine.quantization", True)]


# ---- held against asked


@pytest.mark.parametrize(
    ("held", "release", "asked", "expected"),
    [
        (GPTQ, "0.33.0", None, []),
        (GPTQ, "0.33.0", "gptq", []),
        (GPTQ, "0.33.0", "GPTQ", []),
        (GPTQ, "0.33.0", "gptq_marlin", []),
        (GPTQ, "0.22.0", "auto_gptq", []),
        (GPTQ, "0.6.0", "gptq_marlin", []),
        (GPTQ, "0.33.0", "awq", ERROR),
        (GPTQ, "0.33.0", "fp8", ERROR),
        (GPTQ, "0.33.0", "fp8_per_tensor", ERROR),
        ({**GPTQ, "sym": False}, "0.21.0", "gptq_marlin", ERROR),
        ({**GPTQ, "sym": False}, "0.22.0", "gptq_marlin", []),
        (GPTQ, "0.7.1", "moe_wna16", []),
        ({**GPTQ, "bits": 3}, "0.33.0", "moe_wna16", ERROR),
        ({**GPTQ, "desc_act": True}, "0.33.0", "moe_wna16", ERROR),
        ({**GPTQ, "checkpoint_format": "marlin_24"}, "0.13.0", "gptq_marlin_24", []),
        (GPTQ, "0.13.0", "gptq_marlin_24", ERROR),
        (AWQ, "0.33.0", "awq_marlin", []),
        (AWQ, "0.24.0", "auto_awq", []),
        (AWQ, "0.13.0", "awq_marlin", []),
        ({**AWQ, "bits": 8}, "0.23.0", "awq_marlin", ERROR),
        ({**AWQ, "bits": 8}, "0.24.0", "awq_marlin", []),
        (FP8, "0.33.0", "fp8", []),
        (FP8, "0.33.0", "fp8_per_block", ERROR),
        (FP8, "0.33.0", "deepseek_v4_fp8", []),
        (FP8, "0.33.0", "compressed-tensors", ERROR),
        # Takes any checkpoint.
        (GPTQ, "0.33.0", "humming", []),
        (FP8, "0.20.0", "gguf", []),
        (FP8, "0.19.1", "gguf", ERROR),
        # Goes on with its own, whatever is asked for.
        (MODELOPT, "0.33.0", None, []),
        (MODELOPT, "0.33.0", "modelopt_fp4", []),
        (MODELOPT, "0.33.0", "fp8", WARNING),
        (MODELOPT, "0.10.0", "fp8", WARNING),
        (MODELOPT, "0.9.2", "fp8", ERROR),
        ({"quant_method": "auto-round"}, "0.15.0", "awq", WARNING),
        ({"quant_method": "auto-round"}, "0.15.0", "inc", []),
        ({"quant_method": "auto-round"}, "0.13.0", "awq", ERROR),
    ],
)
def test_what_is_asked_against_what_is_held(
    held: dict[str, t.Any], release: str, asked: str | None, expected: list[tuple[str, bool]]
) -> None:
    assert fields(check(held, release, asked)) == expected


def test_a_mismatch_says_what_the_checkpoint_holds() -> None:
    (found,) = check(GPTQ, asked="awq")
    held = "the checkpoint is quantized with gptq (config.json: quantization_config)"
    assert found.reason == f"{held}, and vLLM takes no other method for it"
    assert found.fix == "Leave it out, or write gptq"
    assert found.remedy == {}


def test_gpt_oss() -> None:
    held = {"quant_method": "mxfp4"}
    assert check(held, model_type="gpt_oss") == []
    assert fields(check(held, asked="awq", model_type="gpt_oss")) == WARNING
    assert fields(check(held, "0.19.1", asked="awq", model_type="gpt_oss")) == ERROR
    (found,) = check(held, asked="humming", model_type="gpt_oss")
    assert found.remedy == {"engine": {"moe_backend": "humming"}}
    assert check(held, "0.20.0", asked="humming", model_type="gpt_oss") == []


# ---- full weights


@pytest.mark.parametrize(
    ("release", "asked", "expected"),
    [
        ("0.33.0", None, []),
        ("0.33.0", "fp8", []),
        ("0.6.0", "fp8", []),
        ("0.33.0", "fp8_per_channel", []),
        ("0.33.0", "mxfp8", []),
        ("0.33.0", "int8_per_channel_weight_only", []),
        ("0.27.1", "bitsandbytes", []),
        ("0.28.0", "mxfp4", []),
        ("0.27.1", "mxfp4", ERROR),
        ("0.33.0", "awq", ERROR),
        ("0.33.0", "gptq_marlin", ERROR),
        ("0.33.0", "compressed-tensors", ERROR),
        ("0.33.0", "modelopt", ERROR),
    ],
)
def test_full_weights(release: str, asked: str | None, expected: list[tuple[str, bool]]) -> None:
    assert fields(check(None, release, asked)) == expected


def test_full_weights_and_online() -> None:
    assert fields(check(None, asked="online")) == ERROR
    assert check(None, asked="online", engine={"quantization_config": {"linear": "fp8_per_tensor"}}) == []
    # Online, mxfp4 needs less of a GPU than a checkpoint with it.
    assert check(None, asked="mxfp4", gpus=[T4], dtype="F16") == []
    assert fields(check({"quant_method": "mxfp4"}, gpus=[T4])) == [("model", False)]


def test_full_weights_name_what_can_be_done() -> None:
    (found,) = check(None, asked="awq")
    assert "this one holds BF16 weights and no quantization_config" in found.reason
    assert "fp8_per_tensor" in found.fix


def test_packed_weights_without_a_configuration_may_have_a_file_of_their_own() -> None:
    assert check(None, asked="gptq", dtype="I32") != []
    specs, _found = load_specs([spec(engine={"quantization": "gptq"})])
    packed = model(config=QWEN3_8B_CONFIG, weights=weights(GIB, "I32"), quantization=None)
    assert check_quantization(specs[0], load("0.33.0"), packed, [H100], None) == []


# ---- releases and plugins


def test_a_method_that_came_later_or_is_gone() -> None:
    (found,) = check({"quant_method": "mxfp4"}, "0.10.0")
    assert found.field == "model"
    assert "quantized with mxfp4 (config.json: quantization_config)" in found.reason
    assert "it exists from 0.10.1 on" in found.reason
    assert found.fix.startswith("Use an image of vLLM 0.10.1")
    assert check({"quant_method": "mxfp4"}, "0.10.1", gpus=[H100]) == []
    assert check({"quant_method": "hqq"}, "0.13.0") == []
    (found,) = check({"quant_method": "hqq"}, "0.15.0")
    assert found.fix.startswith("Use an image of vLLM 0.14.1")
    (found,) = check({"quant_method": "nonsense"})
    assert "no release of vLLM has this method" in found.reason


@pytest.mark.parametrize(
    ("method", "last", "first_without", "plugin"),
    [("bitsandbytes", "0.27.1", "0.28.0", "vllm-bnb-plugin"), ("gguf", "0.23.0", "0.24.0", "vllm-gguf-plugin")],
)
def test_methods_that_moved_into_plugins(method: str, last: str, first_without: str, plugin: str) -> None:
    held = {"quant_method": method}
    assert check(held, last, packages={}) == []
    (found,) = check(held, first_without, packages={"bitsandbytes": "0.49"})
    assert (found.field, found.warning) == ("model", False)
    assert f"the image has no {plugin}" in found.reason
    assert plugin in found.fix
    assert last in found.fix
    assert check(held, first_without, packages={plugin: "0.1"}) == []
    # What the image holds is not known.
    assert fields(check(held, first_without, packages=None)) == [("model", True)]


def test_a_gguf_file() -> None:
    specs, _found = load_specs([spec(model="/srv/models/a.gguf", engine={})])
    for release, packages, expected in (
        ("0.23.0", {}, []),
        ("0.24.0", {}, ["engine.quantization"]),
        ("0.24.0", {"vllm-gguf-plugin": "0.0.2"}, []),
    ):
        found = check_quantization(specs[0], load(release), None, [H100], packages)
        assert [one.field for one in found] == expected


def test_an_unknown_method_is_left_to_plugins_of_others() -> None:
    assert check({"quant_method": "ascend"}, packages={"vllm-ascend": "0.33.0"}) == []
    assert fields(check({"quant_method": "ascend"}, packages={})) == [("model", False)]


def test_methods_that_are_asked_for_and_do_not_exist() -> None:
    # The parser of 0.8.5 lists the methods, so that the check of options says it.
    assert load("0.8.5").options["quantization"].choices is not None
    assert check(None, "0.8.5", "nonsense") == []
    assert load("0.33.0").options["quantization"].choices is None
    (found,) = check(None, "0.33.0", "fp8_per_tensr")
    assert "fp8_per_tensor" in found.fix


# ---- ModelOpt's own file


def test_the_file_of_an_older_modelopt() -> None:
    specs, _found = load_specs([spec(engine={}), spec("b", engine={"quantization": "modelopt"})])
    for release, algorithm, wanted in (
        ("0.10.0", "FP8", "modelopt"),
        ("0.10.0", "NVFP4", "modelopt_fp4"),
        ("0.8.5", "NVFP4", "nvfp4"),
    ):
        (found,) = check_quantization(specs[0], load(release), modelopt_file(algorithm), [H100], None)
        assert found.remedy == {"engine": {"quantization": wanted}}
    assert check_quantization(specs[1], load("0.10.0"), modelopt_file("FP8"), [H100], None) == []
    assert check_quantization(specs[0], load("0.10.1"), modelopt_file("FP8"), [H100], None) == []


# ---- deprecation and GPUs


def test_deprecated_methods_have_to_be_allowed() -> None:
    held = {"quant_method": "fbgemm_fp8"}
    assert check(held, "0.13.0") == []
    (found,) = check(held, "0.14.0")
    assert (found.field, found.warning) == ("engine.allow_deprecated_quantization", False)
    assert found.remedy == {"engine": {"allow_deprecated_quantization": True}}
    assert check(held, "0.14.0", engine={"allow_deprecated_quantization": True}) == []


@pytest.mark.parametrize(
    ("held", "release", "gpus", "expected"),
    [
        (AWQ, "0.13.0", [T4], []),
        (AWQ, "0.13.0", [V100], [("model", False)]),
        (AWQ, "0.13.0", [V100, T4], [("model", True)]),
        (GPTQ, "0.13.0", [V100], []),
        (FP8, "0.13.0", [H100], []),
        (FP8, "0.13.0", [L4], []),
        # Only the weights are kept in fp8.
        (FP8, "0.13.0", [A100], [("model", True)]),
        (FP8, "0.13.0", [T4], [("model", False)]),
        (FP8, "0.14.0", [T4], [("model", True)]),
        (FP8, "0.14.0", [], []),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "0.26.0", [A100], [("model", False)]),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "0.27.0", [A100], [("model", True)]),
    ],
)
def test_gpus_and_methods(
    held: dict[str, t.Any], release: str, gpus: list[Gpu], expected: list[tuple[str, bool]]
) -> None:
    assert fields(check(held, release, gpus=gpus)) == expected


def test_what_the_gpus_lack_is_named() -> None:
    (found,) = check(AWQ, "0.13.0", gpus=[V100])
    assert "the method awq needs compute capability 7.5 or more, and the GPUs are Tesla V100 (7.0)" in found.reason
    (found,) = check(AWQ, "0.13.0", gpus=[V100, T4])
    assert found.fix == "Write placement.gpus: {compute_capability: 7.5}, so that these are not chosen"


def test_builds_for_the_cpu_look_at_no_gpu() -> None:
    assert check(FP8, "0.14.0+cpu", gpus=[T4]) == []
    assert check(AWQ, "0.20.0+cpu", asked="gptq", gpus=[]) == []


@pytest.mark.parametrize(("asked", "fires"), [("awq", True), ("compressed-tensors", True), ("fp8", False)])
def test_builds_for_the_cpu_need_a_quantized_checkpoint_too(asked: str, fires: bool) -> None:
    found = check(None, "0.32.0+cpu", asked=asked, gpus=[])
    assert fields(found) == ([("engine.quantization", False)] if fires else [])


# ---- number format


@pytest.mark.parametrize(
    ("release", "dtype", "said", "gpus", "expected"),
    [
        ("0.33.0", "bfloat16", "bfloat16", [A100], []),
        ("0.33.0", "bfloat16", "bfloat16", [T4], [("engine.dtype", False)]),
        ("0.6.0", "bfloat16", "float16", [T4], [("engine.dtype", False)]),
        ("0.33.0", "bfloat16", "bfloat16", [T4, A100], [("engine.dtype", True)]),
        ("0.9.0", None, "bfloat16", [T4], [("engine.dtype", False)]),
        ("0.9.0", "auto", "bfloat16", [T4], [("engine.dtype", False)]),
        # 0.9.1 takes another format by itself.
        ("0.9.1", None, "bfloat16", [T4], [("engine.dtype", True)]),
        ("0.9.0", None, "float16", [T4], []),
        ("0.9.0", None, None, [T4], []),
        ("0.9.0", "half", "bfloat16", [T4], []),
        ("0.9.0", None, "bfloat16", [A100], []),
        ("0.9.0+cpu", "bfloat16", "bfloat16", [T4], []),
    ],
)
def test_bfloat16(
    release: str, dtype: str | None, said: str | None, gpus: list[Gpu], expected: list[tuple[str, bool]]
) -> None:
    found = check(None, release, gpus=gpus, engine={} if dtype is None else {"dtype": dtype}, torch_dtype=said)
    assert fields(found) == expected
    assert all(one.warning or one.remedy == {"engine": {"dtype": "half"}} for one in found)


@pytest.mark.parametrize("odd", [None, [], {}, 1, True, "", " ", "None", "\u00e9" * 1000])
def test_no_value_is_too_odd(odd: t.Any) -> None:
    for held in (None, GPTQ, {"quant_method": odd}, {"quant_algo": odd}):
        check(held, asked=odd, engine={"dtype": odd, "hf_overrides": {}} if odd is None else {"dtype": odd})


def test_what_is_unknown_is_not_checked() -> None:
    specs, _found = load_specs([spec(engine={"quantization": "awq"})])
    assert check_quantization(specs[0], load("0.33.0"), None, [], None) == []
    assert check(GPTQ, asked="awq", engine={"hf_overrides": {"quantization_config": AWQ}}) == []
