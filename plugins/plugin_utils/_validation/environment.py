# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment variables of a spec against the release in the image: those that nobody reads, and those that harm.

Pure. A variable's value is never shown, for it may be a secret; what a known variable of vLLM becomes is.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import check_value
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.variables import (
    ALWAYS_BEFORE,
    LEAVE_OUT,
    SUCCESSORS,
    Gone,
    Option,
    Successor,
    Variable,
)

_WARNS = "and from 0.17.0 on vLLM itself warns of such variables"
# Names of these families that are near a known one are likely to be meant as it.
_FAMILIES = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "CUDA_", "NVIDIA_", "PYTORCH_", "TORCH_", "GLOO_", "TP_")
# constants.py of huggingface_hub 2.4.0 and of versions before, and transformers
_HUB = """
HF_ASSETS_CACHE HF_DEBUG HF_ENDPOINT HF_HOME HF_HUB_CACHE HF_HUB_DISABLE_EXPERIMENTAL_WARNING
HF_HUB_DISABLE_IMPLICIT_TOKEN HF_HUB_DISABLE_PROGRESS_BARS HF_HUB_DISABLE_SHARED_BLOBS HF_HUB_DISABLE_SYMLINKS
HF_HUB_DISABLE_SYMLINKS_WARNING HF_HUB_DISABLE_TELEMETRY HF_HUB_DISABLE_UPDATE_CHECK HF_HUB_DISABLE_XET
HF_HUB_DOWNLOAD_TIMEOUT HF_HUB_ENABLE_HF_TRANSFER HF_HUB_ETAG_TIMEOUT HF_HUB_OFFLINE HF_HUB_USER_AGENT_ORIGIN
HF_INFERENCE_ENDPOINT HF_TOKEN_PATH HF_XET_CACHE HF_XET_HIGH_PERFORMANCE HUGGINGFACE_HUB_CACHE
HUGGINGFACE_ASSETS_CACHE TRANSFORMERS_CACHE TRANSFORMERS_OFFLINE
"""
# envs.py and env_override.py of vLLM 0.33.0, and PyTorch 2.13
_DEVICES = """
CUDA_DEVICE_ORDER CUDA_HOME CUDA_LAUNCH_BLOCKING CUDA_MODULE_LOADING CUDA_PATH CUDA_VISIBLE_DEVICES
NVIDIA_VISIBLE_DEVICES PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF PYTORCH_HIP_ALLOC_CONF PYTORCH_NVML_BASED_CUDA_CHECK
PYTORCH_ROCM_ARCH TORCH_ALLOW_TF32_CUBLAS_OVERRIDE TORCH_BLAS_PREFER_CUBLASLT GLOO_SOCKET_IFNAME TP_SOCKET_IFNAME
"""
_OTHERS = frozenset((_HUB + _DEVICES).split())
# Where one of these is set, a plugin of NCCL may read variables that NCCL does not know.
_NCCL_PLUGINS = (
    "NCCL_ENV_PLUGIN",
    "NCCL_GIN_PLUGIN",
    "NCCL_NET",
    "NCCL_NET_PLUGIN",
    "NCCL_PROFILER_PLUGIN",
    "NCCL_RMA_PLUGIN",
    "NCCL_TUNER_PLUGIN",
)
_DISTRIBUTED = "distributed_timeout_seconds"


def check_environment(spec: ModelSpec, release: Release) -> list[Problem]:
    """Every problem of the variables, warnings among them. Never raises."""
    problems = []
    for name, value in spec.env.items():
        case = _Case(spec, release, name, value)
        # What the release does not have is not harmful; of NCCL's, the names that do not exist have rules of their own.
        rules = [_SPECIAL.get(name, _silent), _general]
        if name.startswith("VLLM_"):
            rules.reverse()
        problems.extend(found for found in [rules[0](case) or rules[1](case)] if found)
    return problems


class _Case(t.NamedTuple):
    """One variable of a spec."""

    spec: ModelSpec
    release: Release
    name: str
    value: str

    def error(self, reason: str, fix: str, remedy: t.Mapping[str, t.Any] | None = None) -> Problem:
        """It would not start, or not do what is written."""
        return Problem(self.spec.name, f"env.{short(self.name)}", reason, fix, remedy=remedy)

    def warning(self, reason: str, fix: str, remedy: t.Mapping[str, t.Any] | None = None) -> Problem:
        """It starts, but the user should know."""
        return Problem(self.spec.name, f"env.{short(self.name)}", reason, fix, warning=True, remedy=remedy)

    @property
    def is_on(self) -> bool:
        """Whether the value switches something on, as vLLM, PyTorch and NCCL read it."""
        return self.value.strip().lower() not in ("", "0", "false", "no", "off")

    def since(self, version: str) -> bool:
        """Whether the release is this one or a later one."""
        return Version(self.release.version) >= Version(version)


Rule = t.Callable[[_Case], Problem | None]


def _silent(_case: _Case) -> Problem | None:
    return None


def _general(case: _Case) -> Problem | None:
    """What holds for all variables of a family."""
    if case.name.startswith("VLLM_"):
        return _vllm(case)
    if case.name.startswith(("NCCL_", "TORCH_NCCL_")):
        return _nccl(case)
    if case.name.startswith(_FAMILIES) and case.name not in _OTHERS and catalogue.life("nccl", case.name) is None:
        near = difflib.get_close_matches(case.name, _OTHERS, n=1, cutoff=0.85)
        if near:
            return case.warning("is not known to anything in the image", f"Did you mean {near[0]}?")
    return None


# ---- vLLM's own


def _vllm(case: _Case) -> Problem | None:
    release = case.release
    life = catalogue.life("environment", case.name)
    facts = release.facts("environment").get(case.name)
    if facts is not None and not facts.get("dead"):
        return _leaving(case, life)
    if life is None:
        return _never(case)
    if not case.since(life.since):
        reason = f"is not in vLLM {release.version}: {life}"
        if case.name in ALWAYS_BEFORE:
            return case.error(f"{reason}, and {ALWAYS_BEFORE[case.name]}", "Remove it", {})
        return case.error(reason, "Remove it, or use an image that has it")
    if facts is None:
        reason = f"is not in vLLM {release.version}: {life}"
    elif life.until is not None:
        reason = f"is listed by vLLM {release.version}, but nothing reads it"
    else:
        # Compiled parts, such as the front end in Rust, and plugins are not in the catalogue.
        return case.warning(
            f"is listed by vLLM {release.version}, but nothing in its Python code reads it",
            "Remove it, unless a plugin is known to read it",
        )
    return _succeeded(case, reason)


@functools.cache
def _near(name: str, section: str, version: str) -> str | None:
    """The known variable that is meant, if one is near; all names of a family share their beginning."""
    return next(iter(difflib.get_close_matches(name, catalogue.facts(section, version), n=1, cutoff=0.85)), None)


def _never(case: _Case) -> Problem:
    near = _near(case.name, "environment", case.release.version)
    advice = f"Did you mean {near}?" if near else "Remove it, unless a plugin in the image reads it"
    reason = f"is in no release of vLLM, {_WARNS}"
    if case.spec.engine.get("fail_on_environ_validation") is True and case.release.option("fail_on_environ_validation"):
        reason = "is in no release of vLLM, which refuses to start with it: engine.fail_on_environ_validation is true"
        return case.error(reason, advice)
    return case.warning(reason, advice)


def _leaving(case: _Case, life: catalogue.Life | None) -> Problem | None:
    """A variable that is still read, when the option that takes its place is there already, as vLLM itself warns.

    _set_from_env_if_set in config/attention.py and config/profiler.py of 0.14.1, config/parallel.py of 0.15.1,
    deprecated_env in envs.py of 0.23.0.
    """
    if life is None or life.until is None:
        return None
    for successor in SUCCESSORS.get(case.name, ()):
        if isinstance(successor, Option) and _has(case.release, successor):
            problem = _replaced(case, f"is in no release after {life.until}", successor)
            # create_engine_config in engine/arg_utils.py of 0.13.0 and 0.14.1: "are mutually exclusive"
            refused = successor.name == "attention_backend" and successor.name in case.spec.engine
            return problem if refused else dataclasses.replace(problem, warning=True)
    return None


def _succeeded(case: _Case, reason: str) -> Problem:
    """The problem of a variable that other releases read, with what does the job in this one."""
    for successor in SUCCESSORS.get(case.name, ()):
        if isinstance(successor, Gone):
            lossless = successor.lossless is not (case.value.strip() == successor.unless)
            return case.error(f"{reason}; {successor.why}", "Remove it", {} if lossless else None)
        if _has(case.release, successor):
            return _replaced(case, reason, successor)
    return case.error(reason, "Remove it, or use an image that has it")


def _has(release: Release, successor: Successor) -> bool:
    if isinstance(successor, Variable):
        return not successor.name.startswith("VLLM_") or successor.name in release.environment
    if isinstance(successor, Gone) or release.option(successor.name) is None:
        return False
    return successor.until is None or Version(release.version) <= Version(successor.until)


def _replaced(case: _Case, reason: str, successor: Option | Variable) -> Problem:
    value = successor.convert(case.value)
    if isinstance(successor, Variable):
        place, line = "env", f"env: {{{successor.name}: ...}}"
        written: t.Any = {successor.name: value}
        taken = successor.name in case.spec.env
    else:
        place, line = "engine", ".".join(("engine", successor.name, *successor.path))
        written, taken = _nested(case, successor, value)
    if taken:
        return case.error(f"{reason}; {line} is set as well", "Remove it", {})
    if value is LEAVE_OUT:
        return case.error(f"{reason}; without it nothing changes", "Remove it", {})
    if value is None or written is None:
        return case.error(reason, f"{line} does its job; write there what this release takes, and remove the variable")
    return case.error(reason, f"Write it as {place}: {_line(written)}", {place: written})


def _nested(case: _Case, option: Option, value: t.Any) -> tuple[t.Any, bool]:
    """What is written under engine, None if the release does not take it; and whether the spec has it already."""
    written, there = value, case.spec.engine.get(option.name)
    taken = option.name in case.spec.engine
    for key in option.path:
        taken = isinstance(there, dict) and key in there
        there = there.get(key) if isinstance(there, dict) else there
    for key in reversed(option.path):
        written = {key: written}
    if value is None or value is LEAVE_OUT:
        return None, taken
    known = case.release.options[option.name]
    # An object that the spec writes as text, or a value of another kind, is not added to.
    mixed = isinstance(written, dict) and not isinstance(case.spec.engine.get(option.name, {}), dict)
    if mixed or check_value(known, written) is not None:
        return None, taken
    if option.name == "attention_backend" and value not in case.release.facts("attention_backends"):
        return None, taken
    return {option.name: written}, taken


def _line(written: t.Mapping[str, t.Any]) -> str:
    return short(json.dumps(written), 200)


# ---- NCCL and PyTorch's use of it


def _nccl(case: _Case) -> Problem | None:
    known = case.release.facts("nccl")
    if case.name in known:
        return None
    life = catalogue.life("nccl", case.name)
    if life is not None:
        return case.warning(
            f"is not read by the NCCL in the image of vLLM {case.release.version}: {life}",
            "Remove it, unless the image holds another NCCL",
        )
    library = "PyTorch" if case.name.startswith("TORCH_") else "NCCL"
    near = _near(case.name, "nccl", case.release.version)
    advice = f"Did you mean {near}?" if near else "Remove it"
    # PyTorch's are catalogued of one of its versions only.
    if library == "PyTorch":
        return case.warning("is not known to PyTorch", advice)
    if any(plugin in case.spec.env for plugin in _NCCL_PLUGINS):
        return case.warning("is no variable of NCCL; a plugin of it may read it", advice)
    return case.error("is no variable of NCCL, so nothing reads it", advice)


def _nccl_timeout(case: _Case) -> Problem:
    reason = "is no variable of NCCL; neither PyTorch nor vLLM reads it"
    if case.release.option(_DISTRIBUTED) is None:
        fix = f"Remove it; vLLM {case.release.version} has no setting for this time, 0.18.0 and later have "
        return case.error(reason, f"{fix}engine.{_DISTRIBUTED}", {})
    seconds = case.value.strip()
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 10 and int(seconds) > 0):
        return case.error(reason, f"Write engine.{_DISTRIBUTED}: SECONDS")
    if _DISTRIBUTED in case.spec.engine:
        return case.error(f"{reason}; engine.{_DISTRIBUTED} is set as well", "Remove it", {})
    remedy = {"engine": {_DISTRIBUTED: int(seconds)}}
    return case.error(reason, f"Write it as engine: {_line(remedy['engine'])}", remedy)


def _torch_alias(case: _Case) -> Problem:
    """Old names that PyTorch still reads (ProcessGroupNCCL.hpp of 2.13)."""
    name = f"TORCH_{case.name}"
    fix = f"Write it as {name}"
    return case.error("is no variable of NCCL, but an old name of PyTorch's", fix, {"env": {name: case.value}})


def _async_errors(case: _Case) -> Problem:
    """init_device in v1/worker/gpu_worker.py of 0.33.0, and its like in every release before."""
    name = f"TORCH_{case.name}"
    reason = "is removed from the environment by vLLM before anything reads it"
    return case.error(reason, f"Remove it; if you need it, {name} is the name that PyTorch reads", {})


def _harmful(reason: str, fix: str) -> Rule:
    """A warning of a variable while it is on."""
    return lambda case: case.warning(reason, fix) if case.is_on else None


def _launch_mode(case: _Case) -> Problem | None:
    if case.value.strip().upper() != "GROUP":
        return None
    return case.warning(
        "is GROUP, which is for one process that drives several GPUs; vLLM has a process for each",
        "Remove it",
        {},
    )


def _cumem(case: _Case) -> Problem | None:
    """vllm/worker/worker_base.py of 0.6.0, __init__.py of 0.8.2, env_override.py of 0.8.3 to 0.10.1."""
    if not case.since("0.9.1") and case.is_on:
        return case.error(
            f"is set back to 0 by vLLM {case.release.version}; from 0.9.1 on it leaves what is set", "Remove it", {}
        )
    if case.is_on and not case.since("0.10.2"):
        return case.warning("costs 1 to 2 GiB of each GPU with CUDA graphs (nccl issue 1234)", "Remove it")
    return None


def _nccl_debug(case: _Case) -> Problem | None:
    if case.value.strip().upper() not in ("INFO", "TRACE", "ABORT"):
        return None
    return case.warning("writes a lot to the log", "Keep it for one start that is looked into; otherwise write WARN")


def _torch_async_errors(case: _Case) -> Problem | None:
    if case.is_on:
        return None
    return case.warning("is off: a transfer that hangs is then never noticed", "Remove it")


# ---- what the collection itself sets


def _own(reason: str, fix: str) -> Rule:
    """A variable that the collection sets, and that means harm when it is set otherwise."""
    return lambda case: case.error(reason, fix, {})


def _offline(case: _Case) -> Problem | None:
    if case.is_on and not case.spec.offline:
        return case.warning(
            "makes the server offline, and the collection does not know it",
            "Write offline: true, so that the model's files are looked for before the start",
            {"offline": True},
        )
    if not case.is_on and case.spec.offline:
        return case.error("contradicts offline: true", "Remove it", {})
    return None


def _ready_timeout(case: _Case) -> Problem | None:
    if case.name not in case.release.environment:
        return None
    return case.warning(
        "replaces the time that is computed from the size of the weights, after which vLLM ends its own start",
        "Remove it",
    )


def _engine(case: _Case) -> Problem | None:
    """AsyncLLM in v1/engine/async_llm.py of 0.11.0, which has no other engine any more, raises ValueError."""
    if case.is_on or case.release.version != "0.11.0":
        return None
    return case.error("asks for the engine V0, with which vLLM 0.11.0 does not start", "Remove it")


_LEVELS = frozenset({"CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "NOTSET"})


def _logging_level(case: _Case) -> Problem | None:
    """logging.config raises ValueError when vLLM is imported (logger.py); envs.py makes large letters since 0.8.2."""
    level = case.value.upper() if case.since("0.8.2") else case.value
    own = case.spec.env.get("VLLM_CONFIGURE_LOGGING", "1") == "0" or "VLLM_LOGGING_CONFIG_PATH" in case.spec.env
    if level in _LEVELS or own:
        return None
    return case.error("is no level, and vLLM does not start with it", "Write DEBUG, INFO, WARNING or ERROR")


def _iteration_timeout(case: _Case) -> Problem:
    """async_llm_engine.py of 0.6.0 to 0.10.2; models/voxtral_realtime.py of 0.16.0 to 0.24.0, and nothing else."""
    reader = "the realtime model Voxtral" if case.since("0.11.0") else "a step of the engine V0"
    return case.warning(
        f"limits {reader} only, never a request",
        "Remove it; a gateway in front of the servers limits the time of a request",
    )


def _token_path(case: _Case) -> Problem | None:
    if case.spec.secrets.hub_token is None:
        return None
    return case.error("hides the token that is given as secrets.hub_token", "Remove it", {})


def _xet(case: _Case) -> Problem | None:
    """The images of 0.6.4 to 0.19.0 hold hf_transfer (their Dockerfile), and a huggingface_hub that uses it."""
    if not case.since("0.19.1"):
        return None
    reason = "has no effect: the huggingface_hub in the image does not use hf_transfer any more (its constants.py)"
    if not case.is_on:
        return case.error(reason, "Remove it", {})
    remedy = {"env": {"HF_XET_HIGH_PERFORMANCE": "1"}}
    return case.error(reason, 'Write it as env: {"HF_XET_HIGH_PERFORMANCE": "1"}', remedy)


# ---- devices and memory


def _devices(case: _Case) -> Problem:
    return case.error(
        "is set for each server: it gets the GPUs that are planned for it and no others",
        "Remove it; placement.gpus names GPUs, engine.tensor_parallel_size their number",
    )


def _device_order(case: _Case) -> Problem | None:
    if case.value.strip() == "PCI_BUS_ID":
        return None
    return case.warning("is not PCI_BUS_ID: vLLM then counts GPUs in another order than nvidia-smi", "Remove it")


def _allocator(case: _Case) -> Problem | None:
    """PYTORCH_CUDA_ALLOC_CONF; vLLM looks for these very characters."""
    if "expandable_segments:True" not in case.value:
        return None
    engine = case.spec.engine
    sleeps = engine.get("enable_sleep_mode") is True
    # CuMemAllocator.__init__ in device_allocator/cumem.py of 0.8.0 to 0.20.0; from 0.20.1 on it works around.
    if sleeps and case.since("0.8.0") and not case.since("0.20.1"):
        return case.error(
            f"has expandable_segments:True, with which vLLM {case.release.version} does not start in sleep mode",
            "Remove it, or engine.enable_sleep_mode",
            {},
        )
    # config/vllm.py of 0.21.0 and later
    pooled = sleeps or engine.get("enable_cumem_allocator") is True
    if case.since("0.21.0") and engine.get("kv_transfer_config") and not pooled:
        return case.error(
            f"has expandable_segments:True, with which vLLM {case.release.version} does not start where "
            "engine.kv_transfer_config is set",
            "Remove it"
            + (
                ", or set engine.enable_cumem_allocator: true"
                if case.release.option("enable_cumem_allocator")
                else ", or set engine.enable_sleep_mode: true"
            ),
            {},
        )
    return None


def _new_allocator(case: _Case) -> Problem | None:
    """PYTORCH_ALLOC_CONF, the name since PyTorch 2.9, which vLLM 0.11.1 is the first to pin."""
    if not case.since("0.11.1"):
        remedy = {"env": {"PYTORCH_CUDA_ALLOC_CONF": case.value}}
        reason = f"is not read by the PyTorch in the image of vLLM {case.release.version}"
        return case.error(reason, "Write it as PYTORCH_CUDA_ALLOC_CONF", remedy)
    if "expandable_segments:True" in case.value and case.spec.engine.get("kv_transfer_config"):
        return case.warning(
            "has expandable_segments:True, which breaks transfers of the cache; vLLM refuses it only under the name "
            "PYTORCH_CUDA_ALLOC_CONF",
            "Remove it",
        )
    return None


_CACHE = "Remove it; host_hub_cache of the host is mounted and used"
_EVERYBODY = "opens the server to everybody who reaches its port:"
_SPECIAL: t.Mapping[str, Rule] = {
    # the collection's own (server.py of _render)
    "HF_HUB_CACHE": _own("hides the host's hub cache, which is mounted and inspected", _CACHE),
    "HUGGINGFACE_HUB_CACHE": _own("hides the host's hub cache, which is mounted and inspected", _CACHE),
    "TRANSFORMERS_CACHE": _own("is an old name for the cache of the hub, which the host has", _CACHE),
    "HF_HOME": _harmful(
        "moves what the hub writes besides models; the root file system is read-only",
        "Remove it, or name a folder in /tmp",
    ),
    "VLLM_CACHE_ROOT": _own(
        "leads away from the one folder of the container that is kept and writable",
        "Remove it; compiled kernels are kept below state_dir of the host, for each image",
    ),
    "HF_TOKEN_PATH": _token_path,
    "HF_HUB_OFFLINE": _offline,
    "TRANSFORMERS_OFFLINE": _offline,
    "VLLM_ENGINE_READY_TIMEOUT_S": _ready_timeout,
    "VLLM_PORT": _harmful(
        "is the first port for vLLM's own processes, not the port of the API", "Remove it; listen.port is the API's"
    ),
    "VLLM_HOST_IP": _harmful(
        "is the address for servers on several hosts, and another one on each of them; a server here is on one host",
        "Remove it; listen.address is the API's",
    ),
    "HF_HUB_ENABLE_HF_TRANSFER": _xet,
    # devices and memory
    "CUDA_VISIBLE_DEVICES": _devices,
    "NVIDIA_VISIBLE_DEVICES": _devices,
    "HIP_VISIBLE_DEVICES": _devices,
    "ROCR_VISIBLE_DEVICES": _devices,
    "CUDA_DEVICE_ORDER": _device_order,
    "PYTORCH_CUDA_ALLOC_CONF": _allocator,
    "PYTORCH_ALLOC_CONF": _new_allocator,
    # NCCL
    "NCCL_TIMEOUT": _nccl_timeout,
    "NCCL_BLOCKING_WAIT": _torch_alias,
    "NCCL_DESYNC_DEBUG": _torch_alias,
    "NCCL_ENABLE_TIMING": _torch_alias,
    "NCCL_USE_TENSOR_REGISTER_ALLOCATOR_HOOK": _torch_alias,
    "NCCL_ASYNC_ERROR_HANDLING": _async_errors,
    "NCCL_LAUNCH_MODE": _launch_mode,
    "NCCL_CUMEM_ENABLE": _cumem,
    "NCCL_DEBUG": _nccl_debug,
    "NCCL_P2P_DISABLE": _harmful(
        "also switches NVLink off, and all GPUs of a server then talk through the host's memory",
        "Remove it; where PCIe transfers hang, switch the IOMMU's translation or ACS off, and until then set "
        "engine.disable_custom_all_reduce: true as well",
    ),
    "NCCL_SHM_DISABLE": _harmful("sends what goes between GPUs through sockets where P2P is not there", "Remove it"),
    "NCCL_IB_DISABLE": _harmful("sends what goes between hosts through TCP instead of InfiniBand or RoCE", "Remove it"),
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": _torch_async_errors,
    "TORCH_NCCL_BLOCKING_WAIT": _harmful(
        "makes each transfer between GPUs hold the process until it is over", "Remove it"
    ),
    # vLLM's own
    "VLLM_USE_V1": _engine,
    "VLLM_LOGGING_LEVEL": _logging_level,
    "VLLM_ENGINE_ITERATION_TIMEOUT_S": _iteration_timeout,
    "VLLM_SERVER_DEV_MODE": _harmful(
        f"{_EVERYBODY} /sleep, /collective_rpc, /server_info and others need no key then", "Remove it"
    ),
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": _harmful(
        f"{_EVERYBODY} a request can load adapters from the hub or from a path", "Remove it, or trust every client"
    ),
    "VLLM_ALLOW_INSECURE_SERIALIZATION": _harmful(
        "lets vLLM's processes run whatever they are sent (pickle)", "Remove it, or keep its ports closed"
    ),
    # what is for looking into a fault
    "VLLM_TRACE_FUNCTION": _harmful(
        "records every call of a Python function, so that starts and answers are very slow", "Keep it for one start"
    ),
    "CUDA_LAUNCH_BLOCKING": _harmful(
        "makes each kernel wait for the one before, so that starts and answers are very slow", "Keep it for one start"
    ),
    "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": _harmful(
        "keeps the server up when its engine is dead: it answers 503 for ever and is never restarted", "Remove it"
    ),
}
