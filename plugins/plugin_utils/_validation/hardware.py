# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the GPUs, their driver and the build in the image make impossible, whatever the model. Pure."""

from __future__ import annotations

import re
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem, did_you_mean
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.image import is_for_cpu

_ATTENTION_VARIABLE = "VLLM_ATTENTION_BACKEND"
# "auto" is a name from 0.18.0 on, in any case (validate_backend_before in config/attention.py).
_AUTO_BACKEND = Version("0.18.0")
# The old ending of backends' names: part of the name up to 0.11.0, taken off with a warning by 0.11.1 and 0.12.0
# (attention/selector.py), unknown from 0.13.0 on (config/attention.py).
_OLD_ENDING = "_VLLM_V1"
_ENDING_TAKEN_OFF = (Version("0.11.1"), Version("0.13.0"))
# Backends that an engine on a CPU uses; any other one is logged and left aside (get_attn_backend_cls in
# platforms/cpu.py).
_CPU_BACKENDS = ("CPU", "AMX", "TORCH_SDPA", "IPEX")
# NVIDIA, "CUDA Compatibility", minor version compatibility: the driver that each major version of CUDA needs at least.
OLDEST_DRIVER = {11: (450, 80), 12: (525, 60), 13: (580, 0)}
# Up to 0.14.1 the image loads CUDA's compatibility libraries by itself; 0.15.0 to 0.16.0 put them before the driver's;
# from 0.17.0 on a variable asks for them (docker/Dockerfile and env_override.py of these releases).
_COMPATIBILITY_FIRST = (Version("0.15.0"), Version("0.17.0"))
_COMPATIBILITY_VARIABLE = "VLLM_ENABLE_CUDA_COMPATIBILITY"
# The driver's own libraries first: what the NVIDIA runtime and CDI mount, then what the distribution has.
_DRIVER_FIRST = "/usr/local/nvidia/lib64:/usr/local/nvidia/lib:/usr/lib/x86_64-linux-gnu"
# Forward compatibility is for data centre GPUs alone, says the same document.
_WORKSTATION = re.compile(r"geforce|titan|quadro|\brtx\b", re.IGNORECASE)
_SLEEP = "enable_sleep_mode"
# Chosen backends that refuse an fp8 KV cache, on GPUs of other generations than these or below this capability, and the
# release that says so first: supports_kv_cache_dtype and fa_utils.py beside it (v1/attention/backends/flash_attn.py),
# and the constructor of v1/attention/backends/triton_attn.py.
_FP8_CACHE_GENERATIONS = ("FLASH_ATTN", Version("0.11.1"), (9, 10))
_FP8_CACHE_CAPABILITY = ("TRITON_ATTN", Version("0.24.0"), 89)


class Accelerator(t.Protocol):
    """A GPU as the checks see it: product name, (major, minor) of its compute capability, and bytes of its memory."""

    @property
    def name(self) -> str: ...

    @property
    def compute_capability(self) -> tuple[int, int] | None: ...

    @property
    def total(self) -> int: ...


def check_hardware(
    spec: ModelSpec,
    release: Release,
    image: t.Mapping[str, t.Any] | None,
    gpus: t.Sequence[Accelerator],
    driver: str | None,
) -> list[Problem]:
    """Attention backends, driver and build against the GPUs that may be used.

    image: of image_info, for its cuda_version; None stands for the official image. driver: version of NVIDIA's driver.
    What is unknown is not checked.
    """
    if on_cpu(release):
        return _on_cpu(spec, release)
    official = release.facts("images").get("cuda", {})
    cuda = official.get("cuda") if image is None else image.get("cuda_version")
    return [
        *_attention(spec, release, gpus),
        *_driver(spec, release, cuda, gpus, driver),
        *_kernels(spec, release, gpus),
    ]


def on_cpu(release: Release) -> bool:
    """Whether the version that was asked for is a build for the CPU."""
    return is_for_cpu({"version": release.requested})


def number(gpu: Accelerator) -> int | None:
    """The compute capability as vLLM counts it, 10 * major + minor; None where it is unknown."""
    return None if gpu.compute_capability is None else 10 * gpu.compute_capability[0] + gpu.compute_capability[1]


def unfit(gpus: t.Iterable[Accelerator], fits: t.Callable[[int], bool]) -> tuple[list[str], bool]:
    """The GPUs whose compute capability does not fit, each kind once, and whether that is every GPU that tells its own.

    fits: whether a compute capability does, as 10 * major + minor.
    """
    known = [(gpu, value) for gpu in gpus if (value := number(gpu)) is not None]
    bad = [f"{gpu.name} ({value // 10}.{value % 10})" for gpu, value in known if not fits(value)]
    return list(dict.fromkeys(bad)), bool(bad) and len(bad) == len(known)


def capability_problem(
    spec: ModelSpec, gpus: t.Sequence[Accelerator], least: int, field: str, what: str, fix: str, value: t.Any = None
) -> list[Problem]:
    """An error where no GPU fits, a warning where some do not, for placement may then still choose one that does.

    least: the compute capability that is needed, as 10 * major + minor; what: who needs it, to be read behind the
    field; fix: what to do where no GPU fits.
    """
    bad, none_fits = unfit(gpus, lambda capability: capability >= least)
    if not bad:
        return []
    wanted = f"{least // 10}.{least % 10}"
    if none_fits:
        reason = f"{what} needs compute capability {wanted} or more, and the GPUs are {', '.join(bad)}"
        return [Problem(spec.name, field, reason, fix, value)]
    reason = f"{what} needs compute capability {wanted} or more, which {', '.join(bad)} do not have"
    fix = f"Write placement.gpus: {{compute_capability: {wanted}}}, so that these are not chosen"
    return [Problem(spec.name, field, reason, fix, value, warning=True)]


# ---- attention backends


def _asked_backends(spec: ModelSpec, release: Release) -> t.Iterator[tuple[str, t.Any]]:
    """Field and value of every place of the spec that names an attention backend and that the release reads."""
    if "attention_backend" in release.options:
        yield "engine.attention_backend", spec.engine.get("attention_backend")
    nested = spec.engine.get("attention_config")
    if "attention_config" in release.options and isinstance(nested, dict):
        yield "engine.attention_config.backend", nested.get("backend")
    if _ATTENTION_VARIABLE in release.environment:
        yield f"env.{_ATTENTION_VARIABLE}", spec.env.get(_ATTENTION_VARIABLE)


def _attention(spec: ModelSpec, release: Release, gpus: t.Sequence[Accelerator]) -> list[Problem]:
    backends = release.facts("attention_backends")
    problems: list[Problem] = []
    for field, name in _named_backends(spec, release):
        if name not in backends:
            problems.append(_unknown_backend(spec, release, field, name))
            continue
        problems.extend(_backend_capability(spec, field, name, backends[name], gpus))
        problems.extend(_fp8_cache(spec, Version(release.version), name, gpus))
    return problems


def _named_backends(spec: ModelSpec, release: Release) -> t.Iterator[tuple[str, str]]:
    """Field and name, in the release's spelling, of every backend that is asked for, where its backends are known."""
    version = Version(release.version)
    for field, value in _asked_backends(spec, release):
        if not isinstance(value, str) or not value.strip() or not release.facts("attention_backends"):
            continue
        in_env = field.startswith("env.")
        name = value if in_env else value.upper()
        if name == "AUTO" and version >= _AUTO_BACKEND:
            continue
        if in_env and name.endswith(_OLD_ENDING) and _ENDING_TAKEN_OFF[0] <= version < _ENDING_TAKEN_OFF[1]:
            name = name.removesuffix(_OLD_ENDING)
        yield field, name


def _unknown_backend(spec: ModelSpec, release: Release, field: str, name: str) -> Problem:
    backends = release.facts("attention_backends")
    life = catalogue.life("attention_backends", name)
    reason = f"vLLM {release.version} has no such attention backend" + (f"; {life}" if life else "")
    successor = next((one for one in (name.removesuffix(_OLD_ENDING), name.upper()) if one in backends), None)
    if successor is None:
        return Problem(spec.name, field, reason, did_you_mean(name, backends), short(name))
    place, _dot, key = field.partition(".")
    remedy: dict[str, t.Any] = {"attention_config": {"backend": successor}} if "." in key else {key: successor}
    return Problem(spec.name, field, reason, f"Write {successor}", short(name), remedy={place: remedy})


def _backend_capability(
    spec: ModelSpec, field: str, name: str, facts: t.Mapping[str, t.Any], gpus: t.Sequence[Accelerator]
) -> list[Problem]:
    """validate_configuration of v1/attention/backend.py: a chosen backend that the GPU does not support is refused."""
    listed = facts.get("capabilities")
    fix = "Leave it out, so that vLLM takes one that fits"
    if not listed:
        return capability_problem(spec, gpus, facts.get("min_capability", 0), field, "it", fix, name)
    majors = {capability // 10 for capability in listed}
    # Of a generation that the release knows nothing of nothing is said.
    bad, none_fits = unfit(gpus, lambda value: value // 10 in majors or value // 10 > _newest_generation())
    if not bad:
        return []
    works = ", ".join(f"{capability // 10}.{capability % 10}" for capability in listed)
    reason = f"it works on compute capability {works}, and not on {', '.join(bad)}"
    fix = fix if none_fits else "Select the GPUs that fit with placement.gpus, or leave it out"
    return [Problem(spec.name, field, reason, fix, name, warning=not none_fits)]


def _fp8_cache(spec: ModelSpec, version: Version, name: str, gpus: t.Sequence[Accelerator]) -> list[Problem]:
    """An fp8 KV cache that the chosen backend refuses on these GPUs; a backend that vLLM chooses is one that can."""
    field = "engine.kv_cache_dtype"
    asked = spec.engine.get("kv_cache_dtype")
    if not isinstance(asked, str) or not asked.startswith("fp8"):
        return []
    what = f"an fp8 KV cache of the attention backend {name}"
    backend, since, least = _FP8_CACHE_CAPABILITY
    if name == backend and version >= since:
        return capability_problem(spec, gpus, least, field, what, "Leave it out, or leave the backend out", asked)
    backend, since, generations = _FP8_CACHE_GENERATIONS
    bad, none_fits = unfit(gpus, lambda value: value // 10 in generations)
    if name != backend or version < since or not bad:
        return []
    reason = f"{what} works on compute capability 9 and 10 at most, and not on {', '.join(bad)}"
    return [Problem(spec.name, field, reason, "Leave it out, or leave the backend out", asked, warning=not none_fits)]


def _newest_generation() -> int:
    """The major compute capability of the newest GPUs that the newest catalogued image is built for."""
    built = catalogue.facts("images", catalogue.releases()[-1])["cuda"]["capabilities"]
    return max(int(one.partition(".")[0]) for one in built)


# ---- driver and build


def _driver(
    spec: ModelSpec, release: Release, cuda: str | None, gpus: t.Sequence[Accelerator], driver: str | None
) -> list[Problem]:
    have = _numbers(driver)
    needed = OLDEST_DRIVER.get(_numbers(cuda)[0]) if _numbers(cuda) else None
    if not have or needed is None or not gpus:
        return []
    version = Version(release.version)
    if have >= needed:
        return _compatibility_first(spec, version, have)
    data_centre = not any(_WORKSTATION.search(gpu.name) for gpu in gpus)
    enabled = spec.env.get(_COMPATIBILITY_VARIABLE, "").strip().lower() in ("1", "true")
    if data_centre and (version < _COMPATIBILITY_FIRST[1] or enabled):
        return []
    least = f"{needed[0]}.{needed[1]}" if needed[1] else str(needed[0])
    reason = f"holds CUDA {cuda}, which needs NVIDIA's driver {least} or newer, and the host has {driver}"
    older = next(
        (one for one in reversed(catalogue.releases()) if _runs_with(one, have) and Version(one) < version), None
    )
    fix = f"Update the driver{f', or use an image of vLLM {older} or older' if older else ''}"
    if data_centre and _COMPATIBILITY_VARIABLE in release.environment:
        fix += f', or write env.{_COMPATIBILITY_VARIABLE}: "1" (only data centre GPUs can do this)'
    return [Problem(spec.name, "image", reason, fix, spec.image)]


def _compatibility_first(spec: ModelSpec, version: Version, have: tuple[int, ...]) -> list[Problem]:
    """Error 803 of 0.15.0 to 0.16.0: CUDA's compatibility libraries are older than the driver, and found before it."""
    newer_driver = have >= OLDEST_DRIVER[13]
    if not (_COMPATIBILITY_FIRST[0] <= version < _COMPATIBILITY_FIRST[1] and newer_driver) or (
        "LD_LIBRARY_PATH" in spec.env
    ):
        return []
    reason = (
        f"images of vLLM {version} find CUDA's compatibility libraries before those of a driver of {have[0]}, and CUDA "
        "then fails with Error 803"
    )
    fix = f"Write env.LD_LIBRARY_PATH: {_DRIVER_FIRST}, or use another release"
    remedy = {"env": {"LD_LIBRARY_PATH": _DRIVER_FIRST}}
    return [Problem(spec.name, "env.LD_LIBRARY_PATH", reason, fix, warning=True, remedy=remedy)]


def _runs_with(release: str, driver: tuple[int, ...]) -> bool:
    """Whether the driver is new enough for the official image of a release."""
    cuda = _numbers(catalogue.facts("images", release).get("cuda", {}).get("cuda"))
    return bool(cuda) and driver >= OLDEST_DRIVER.get(cuda[0], (0,))


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version or ""))


def _kernels(spec: ModelSpec, release: Release, gpus: t.Sequence[Accelerator]) -> list[Problem]:
    """GPUs for which the official image holds no code: a cubin runs on its own generation, from its minor number on."""
    built = release.facts("images").get("cuda", {}).get("capabilities", ())
    if not built:
        return []
    cubins = [tuple(map(int, one.partition("+")[0].split("."))) for one in built]
    compiled = [10 * major + minor for (major, minor), one in zip(cubins, built, strict=True) if one.endswith("+PTX")]

    def runs(value: int) -> bool:
        return any(major == value // 10 and minor <= value % 10 for major, minor in cubins)

    bad, every = unfit(gpus, lambda value: runs(value) or any(ptx <= value for ptx in compiled))
    late, _every = unfit(gpus, runs)
    late = [one for one in late if one not in bad]
    shown = ", ".join(built)
    problems = []
    if bad:
        # Whoever builds an image may build it for other GPUs than the official one.
        official = spec.image.partition("@")[0].rpartition("/")[2].partition(":")[0] == "vllm-openai"
        reason = f"vLLM {release.version} is built for compute capability {shown}, and not for {', '.join(bad)}"
        fix = _built_for(bad[0]) if every else "Select the others with placement.gpus"
        problems.append(Problem(spec.name, "image", reason, fix, spec.image, warning=not (official and every)))
    if late:
        reason = (
            f"vLLM {release.version} is built for compute capability {shown}; on {', '.join(late)} its kernels are "
            "compiled at the start, and the PyTorch in the image may have none"
        )
        problems.append(Problem(spec.name, "image", reason, _built_for(late[0]), spec.image, warning=True))
    return problems


def _built_for(shown: str) -> str:
    """What to use for a GPU, shown as unfit shows it."""
    major, minor = map(int, shown.rpartition("(")[2].rstrip(")").split("."))

    def fits(release: str) -> bool:
        built = catalogue.facts("images", release).get("cuda", {}).get("capabilities", ())
        cubins = [tuple(map(int, one.partition("+")[0].split("."))) for one in built]
        return any(one == major and least <= minor for one, least in cubins)

    having = [release for release in catalogue.releases() if fits(release)]
    return f"Use an image of vLLM {having[-1]}, the newest that is built for it" if having else "Use other GPUs"


# ---- builds for the CPU


def _on_cpu(spec: ModelSpec, release: Release) -> list[Problem]:
    problems = []
    if spec.engine.get(_SLEEP) is True and _SLEEP in release.options:
        # "Sleep mode is not supported on current platform." in config/model.py of 0.33.0, config.py of 0.7.3.
        reason = "vLLM has no sleep mode on a CPU and refuses to start with it"
        problems.append(Problem(spec.name, f"engine.{_SLEEP}", reason, "Leave it out", True, remedy={}))
    for field, name in _named_backends(spec, release):
        if name not in release.facts("attention_backends"):
            problems.append(_unknown_backend(spec, release, field, name))
        elif not name.startswith(_CPU_BACKENDS):
            reason = "has no effect on a CPU, where vLLM takes its own attention backend"
            problems.append(Problem(spec.name, field, reason, "Leave it out", short(name), warning=True, remedy={}))
    return problems
