# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attention backends, drivers and builds against GPUs."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.offer import Gpu
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.hardware import check_hardware
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import GIB, spec


def gpu(name: str, capability: tuple[int, int] | None) -> Gpu:
    """A GPU of this kind."""
    return Gpu(0, "GPU-0", name, 80 * GIB, 80 * GIB, capability)


V100, T4 = gpu("Tesla V100-SXM2-32GB", (7, 0)), gpu("Tesla T4", (7, 5))
A100, H100 = gpu("NVIDIA A100-SXM4-80GB", (8, 0)), gpu("NVIDIA H100 80GB HBM3", (9, 0))
RTX_3090, RTX_5090 = gpu("NVIDIA GeForce RTX 3090", (8, 6)), gpu("NVIDIA GeForce RTX 5090", (12, 0))
B200, GB10 = gpu("NVIDIA B200", (10, 0)), gpu("NVIDIA GB10", (12, 1))
UNTOLD = gpu("NVIDIA Something", None)


def check(
    release: str = "0.33.0",
    gpus: t.Sequence[Gpu] = (H100,),
    driver: str | None = "580.95.05",
    image: dict[str, t.Any] | None = None,
    **changes: t.Any,
) -> list[Problem]:
    """The problems of a spec with these changes on these GPUs; the image is the official one of the release."""
    name = f"vllm/vllm-openai:v{release.partition('+')[0]}"
    specs, found = load_specs([spec(**{"image": name, "engine": {}, **changes})])
    assert found == []
    return check_hardware(specs[0], load(release), image, gpus, driver)


def test_nothing_to_say() -> None:
    assert check() == []
    assert check("0.20.0", [T4, A100, H100, B200, GB10, UNTOLD]) == []
    assert check(gpus=[], driver=None) == []
    assert check(gpus=[UNTOLD], driver=None, engine={"attention_backend": "FLASHMLA"}) == []


# ---- attention backends


@pytest.mark.parametrize(
    ("release", "changes", "field", "remedy"),
    [
        ("0.33.0", {"engine": {"attention_backend": "FLASH_ATTN"}}, None, None),
        ("0.33.0", {"engine": {"attention_backend": "flashinfer"}}, None, None),
        ("0.33.0", {"engine": {"attention_backend": "auto"}}, None, None),
        ("0.18.0", {"engine": {"attention_backend": "auto"}}, None, None),
        ("0.17.1", {"engine": {"attention_backend": "auto"}}, "engine.attention_backend", None),
        ("0.33.0", {"engine": {"attention_backend": "XFORMERS"}}, "engine.attention_backend", None),
        ("0.33.0", {"engine": {"attention_config": {"backend": "XFORMERS"}}}, "engine.attention_config.backend", None),
        # 0.12.0 has no such option, which another check says.
        ("0.12.0", {"engine": {"attention_backend": "XFORMERS"}}, None, None),
        (
            "0.13.0",
            {"engine": {"attention_backend": "TRITON_ATTN_VLLM_V1"}},
            "engine.attention_backend",
            {"engine": {"attention_backend": "TRITON_ATTN"}},
        ),
        (
            "0.13.0",
            {"engine": {"attention_config": {"backend": "FLASH_ATTN_VLLM_V1"}}},
            "engine.attention_config.backend",
            {"engine": {"attention_config": {"backend": "FLASH_ATTN"}}},
        ),
        ("0.8.5", {"env": {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN_VLLM_V1"}}, None, None),
        ("0.12.0", {"env": {"VLLM_ATTENTION_BACKEND": "FLASH_ATTN_VLLM_V1"}}, None, None),
        (
            "0.13.0",
            {"env": {"VLLM_ATTENTION_BACKEND": "FLASH_ATTN_VLLM_V1"}},
            "env.VLLM_ATTENTION_BACKEND",
            {"env": {"VLLM_ATTENTION_BACKEND": "FLASH_ATTN"}},
        ),
        ("0.11.2", {"env": {"VLLM_ATTENTION_BACKEND": "XFORMERS"}}, None, None),
        ("0.12.0", {"env": {"VLLM_ATTENTION_BACKEND": "XFORMERS"}}, "env.VLLM_ATTENTION_BACKEND", None),
        # Names in the variable are taken as they are written.
        (
            "0.12.0",
            {"env": {"VLLM_ATTENTION_BACKEND": "flash_attn"}},
            "env.VLLM_ATTENTION_BACKEND",
            {"env": {"VLLM_ATTENTION_BACKEND": "FLASH_ATTN"}},
        ),
        # 0.15.0 does not read the variable, which another check says.
        ("0.15.0", {"env": {"VLLM_ATTENTION_BACKEND": "XFORMERS"}}, None, None),
    ],
)
def test_names_of_attention_backends(
    release: str, changes: dict[str, t.Any], field: str | None, remedy: dict[str, t.Any] | None
) -> None:
    found = check(release, [], None, **changes)
    assert [(one.field, one.remedy, one.warning) for one in found] == ([(field, remedy, False)] if field else [])


def test_an_unknown_backend_says_when_it_was() -> None:
    (found,) = check(engine={"attention_backend": "XFORMERS"})
    assert "vLLM 0.33.0 has no such attention backend; it existed from 0.6.0 to 0.11.2" in found.reason
    (found,) = check(engine={"attention_backend": "FLASHATTN"})
    assert "FLASH_ATTN" in found.fix


def test_a_backend_that_the_gpus_cannot_run() -> None:
    assert check(gpus=[H100, B200], engine={"attention_backend": "FLASHMLA"}) == []
    (found,) = check(gpus=[A100], engine={"attention_backend": "FLASHMLA"})
    assert (found.field, found.warning) == ("engine.attention_backend", False)
    assert "not on NVIDIA A100-SXM4-80GB (8.0)" in found.reason
    (found,) = check(gpus=[A100, H100], engine={"attention_backend": "FLASHMLA"})
    assert found.warning


@pytest.mark.parametrize(
    ("release", "backend", "dtype", "gpus", "warnings"),
    [
        ("0.33.0", "FLASH_ATTN", "fp8", [H100], []),
        ("0.33.0", "FLASH_ATTN", "fp8", [A100], [False]),
        ("0.33.0", "FLASH_ATTN", "fp8_e4m3", [A100, H100], [True]),
        ("0.33.0", "FLASH_ATTN", "auto", [A100], []),
        ("0.33.0", None, "fp8", [A100], []),
        ("0.24.0", "TRITON_ATTN", "fp8", [A100], [False]),
        ("0.23.0", "TRITON_ATTN", "fp8", [A100], []),
        ("0.24.0", "TRITON_ATTN", "fp8", [H100], []),
        ("0.24.0", "TRITON_ATTN", ["fp8"], [A100], []),
    ],
)
def test_an_fp8_cache_that_the_chosen_backend_refuses(
    release: str, backend: str | None, dtype: t.Any, gpus: list[Gpu], warnings: list[bool]
) -> None:
    found = check(release, gpus, None, engine={"attention_backend": backend, "kv_cache_dtype": dtype})
    assert [(one.field, one.warning) for one in found] == [("engine.kv_cache_dtype", warning) for warning in warnings]


# ---- driver


@pytest.mark.parametrize(
    ("release", "gpus", "driver", "env", "fires"),
    [
        ("0.20.0", [RTX_3090], "580.95.05", {}, False),
        ("0.20.0", [RTX_3090], "580.00.01", {}, False),
        ("0.20.0", [RTX_3090], "575.57.08", {}, True),
        ("0.19.1", [RTX_3090], "575.57.08", {}, False),
        ("0.19.1", [RTX_3090], "525.60.13", {}, False),
        ("0.19.1", [RTX_3090], "520.61.05", {}, True),
        ("0.20.0", [H100], "570.86.10", {}, True),
        ("0.20.0", [H100], "570.86.10", {"VLLM_ENABLE_CUDA_COMPATIBILITY": "1"}, False),
        ("0.20.0", [H100], "570.86.10", {"VLLM_ENABLE_CUDA_COMPATIBILITY": "0"}, True),
        # Workstation cards have no forward compatibility.
        ("0.20.0", [RTX_3090], "570.86.10", {"VLLM_ENABLE_CUDA_COMPATIBILITY": "1"}, True),
        # These images load the libraries by themselves.
        ("0.14.1", [H100], "515.48.07", {}, False),
        ("0.14.1", [RTX_3090], "515.48.07", {}, True),
        ("0.20.0", [RTX_3090], None, {}, False),
        ("0.20.0", [], "570.86.10", {}, False),
    ],
)
def test_driver(release: str, gpus: list[Gpu], driver: str | None, env: dict[str, str], fires: bool) -> None:
    found = check(release, gpus, driver, env=env)
    assert [(one.field, one.warning) for one in found] == ([("image", False)] if fires else [])


def test_what_the_driver_is_good_for_is_named() -> None:
    (found,) = check("0.33.0", [RTX_3090], "550.54.14")
    assert found.reason == "holds CUDA 13.0.3, which needs NVIDIA's driver 580 or newer, and the host has 550.54.14"
    assert found.fix == "Update the driver, or use an image of vLLM 0.19.1 or older"
    (found,) = check("0.33.0", [H100], "550.54.14")
    assert 'env.VLLM_ENABLE_CUDA_COMPATIBILITY: "1"' in found.fix


def test_the_cuda_of_the_image_itself_counts() -> None:
    assert check("0.20.0", [RTX_3090], "550.54.14", {"cuda_version": "12.9.1"}) == []
    assert check("0.20.0", [RTX_3090], "550.54.14", {"cuda_version": None}) == []
    assert len(check("0.19.0", [RTX_3090], "550.54.14", {"cuda_version": "13.0.2"})) == 1


@pytest.mark.parametrize(
    ("release", "driver", "env", "fires"),
    [
        ("0.16.0", "580.95.05", {}, True),
        ("0.15.0", "580.95.05", {}, True),
        ("0.16.0", "575.57.08", {}, False),
        ("0.14.1", "580.95.05", {}, False),
        ("0.17.0", "580.95.05", {}, False),
        ("0.16.0", "580.95.05", {"LD_LIBRARY_PATH": "/x"}, False),
    ],
)
def test_error_803(release: str, driver: str, env: dict[str, str], fires: bool) -> None:
    found = check(release, [H100], driver, {"cuda_version": "12.9.1"}, env=env)
    assert [(one.field, one.warning) for one in found] == ([("env.LD_LIBRARY_PATH", True)] if fires else [])
    assert all("Error 803" in one.reason and one.remedy for one in found)


# ---- build


@pytest.mark.parametrize(
    ("release", "gpus", "image", "warnings"),
    [
        ("0.19.1", [V100], "vllm/vllm-openai:v0.19.1", []),
        ("0.20.0", [V100], "vllm/vllm-openai:v0.20.0", [False]),
        ("0.20.0", [V100], "registry.example:5000/vllm/vllm-openai@sha256:" + "0" * 64, [False]),
        # Somebody's own build may be for other GPUs.
        ("0.20.0", [V100], "registry.example/own:1", [True]),
        ("0.20.0", [V100, H100], "vllm/vllm-openai:v0.20.0", [True]),
        ("0.20.0", [T4, GB10], "vllm/vllm-openai:v0.20.0", []),
        # A generation that came after the build is compiled for at the start.
        ("0.8.5", [RTX_5090], "vllm/vllm-openai:v0.8.5", [True]),
        ("0.9.2", [RTX_5090], "vllm/vllm-openai:v0.9.2", []),
        ("0.9.2", [UNTOLD], "vllm/vllm-openai:v0.9.2", []),
    ],
)
def test_gpus_that_a_build_is_not_for(release: str, gpus: list[Gpu], image: str, warnings: list[bool]) -> None:
    specs, _found = load_specs([spec(image=image, engine={})])
    found = check_hardware(specs[0], load(release), None, gpus, None)
    assert [(one.field, one.warning) for one in found] == [("image", warning) for warning in warnings]


def test_the_newest_release_for_a_gpu_is_named() -> None:
    (found,) = check("0.33.0", [V100])
    assert "not for Tesla V100-SXM2-32GB (7.0)" in found.reason
    assert found.fix == "Use an image of vLLM 0.19.1, the newest that is built for it"


# ---- CPU


@pytest.mark.parametrize(
    ("release", "engine", "field", "warning"),
    [
        ("0.32.0+cpu", {}, None, False),
        ("0.32.0+cpu", {"enable_sleep_mode": True}, "engine.enable_sleep_mode", False),
        ("0.32.0+cpu", {"enable_sleep_mode": False}, None, False),
        ("0.6.6+cpu", {"enable_sleep_mode": True}, None, False),
        ("0.32.0+cpu", {"attention_backend": "FLASHINFER"}, "engine.attention_backend", True),
        ("0.32.0+cpu", {"attention_backend": "XFORMERS"}, "engine.attention_backend", False),
        ("0.12.0+cpu", {"attention_config": {"backend": "FLASHINFER"}}, None, False),
        ("0.13.0+cpu", {"attention_config": {"backend": "FLASHINFER"}}, "engine.attention_config.backend", True),
        ("0.32.0+cpu", {"attention_backend": "CPU_ATTN"}, None, False),
        ("0.32.0+cpu", {"attention_backend": "auto"}, None, False),
        ("0.32.0", {"enable_sleep_mode": True}, None, False),
    ],
)
def test_builds_for_the_cpu(release: str, engine: dict[str, t.Any], field: str | None, warning: bool) -> None:
    found = check(release, [H100], engine=engine)
    assert [(one.field, one.warning) for one in found] == ([(field, warning)] if field else [])


@pytest.mark.parametrize("odd", [None, [], {}, 1, True, "", " ", "\u00e9" * 1000])
def test_no_value_is_too_odd(odd: t.Any) -> None:
    check(engine={"attention_backend": odd, "attention_config": odd, "enable_sleep_mode": odd})
    check(engine={"attention_config": {"backend": odd}})
    check(driver=str(odd))
