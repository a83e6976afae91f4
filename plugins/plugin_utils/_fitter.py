# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every model takes of every kind of device that it may get, and what would make it fit where it does not.

Pure; joins the rooms as _planner.py does, without placing anything.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.estimate import estimate
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry, Unreadable
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.levers import Advice, Case, Tried, advise
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, settings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.offer import Gpu
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.server import deadline_seconds
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem, did_you_mean
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.image import is_for_cpu
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.validate import Evidence, validate
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validator import (
    Subject,
    as_messages,
    device_of,
    is_sound,
    read_subjects,
    shape_of,
    weights_of,
    without_version,
)

TOO_FEW = "too few GPUs"
# Bytes; no checkpoint is as large.
_GREATEST_SIZE = 2**60
_BOUNDS = {
    "memory_gib": (0.1, 10_000),
    "memory_bytes": (2**26, 10_000 * GIB),
    "count": (1, 1024),
    "compute_capability": (1, 99),
}
_DEVICE_KEYS = ("name", *_BOUNDS)
_EXAMPLE = "Write for example {name: NVIDIA L40S, memory_gib: 44.5, count: 4}"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of device: the GPUs of one product and size, or the memory of a host for its CPU.

    count: the most of them that one host has; hosts: those that have it, none for a device that was made up.
    """

    device: Device
    count: int
    hosts: tuple[str, ...] = ()


def fit_models(
    models: t.Any,
    inspections: t.Mapping[str, t.Any] | None = None,
    devices: t.Any = None,
    profiles: t.Any = None,
    release: str | None = None,
) -> dict[str, t.Any]:
    """The memory of every model on every kind of device. Never raises.

    models: what the inventory declares; inspections: the fact vllm_inspection of every host, where there are any;
    devices: GPUs that are thought of, beside or instead of those of the hosts; profiles: what model_info returned,
    for models that no host has; release: of vLLM, for all models; without it each model's image tells it.
    The result's problems are those of what was declared; models that have some are left out.
    """
    subjects, problems = read_subjects(models, inspections)
    made_up, odd = read_devices(devices)
    problems += odd
    known, odd = _read_profiles(profiles)
    problems += odd
    results = []
    for subject in subjects:
        version = release or subject.version
        if version is None:
            problems.append(without_version(subject, "release"))
            continue
        profile = subject.profile or known.get((subject.spec.model, subject.spec.revision))
        found = subject.release(version)
        problems += [problem for problem in subject.problems(found) if not problem.warning]
        results.append(_fit(subject, found, profile, kinds_of(subject) + made_up))
    return {
        "fits": not problems and all(one["fits"] for one in results),
        "models": results,
        "problems": as_messages(problems),
    }


def failure(found: t.Mapping[str, t.Any], strict: bool) -> str | None:
    """What to fail with, for the result of fit_models; None where nothing is wrong.

    strict: that a model fits nowhere is wrong.
    """
    texts = [problem["text"] for problem in found["problems"]]
    if strict:
        texts += [f"{one['name']}: {_why_not(one)}" for one in found["models"] if not one["fits"]]
    head = f"{len(texts)} problem{'s' if len(texts) > 1 else ''}:"
    return "\n- ".join([head, *texts]) if texts else None


def _why_not(model: t.Mapping[str, t.Any]) -> str:
    if model["unknown"]:
        return f"its memory is unknown, for {model['unknown']}"
    verdicts = (f"{one['device']}: {one['verdict']}" for one in model["devices"])
    return f"fits on none of these devices ({'; '.join(verdicts)}). The text says what would make it fit."


def kinds_of(subject: Subject) -> list[Kind]:
    """The kinds of devices that the model may get on the hosts that were inspected."""
    found: dict[tuple[str, int], Kind] = {}
    for offer in subject.offers:
        image, gpus = subject.image_on(offer), subject.gpus_on(offer)
        devices = [device_of(offer, gpu) for gpu in gpus]
        if image and (is_for_cpu(image) or image["stand_in"]) and not gpus:
            devices = [device_of(offer, None)]
        for device in devices:
            key = (device.name, device.total)
            count = sum(1 for other in devices if (other.name, other.total) == key)
            before = found.get(key, Kind(device, 0))
            hosts = tuple(dict.fromkeys((*before.hosts, offer.host)))
            found[key] = Kind(device, max(before.count, count), hosts)
    return [found[key] for key in sorted(found)]


def advice(
    subject: Subject, release: Release, profile: t.Mapping[str, t.Any] | None, device: Device, gpus: int
) -> Advice:
    """What would make the model fit on this device.

    profile: of model_info; gpus: how many of this kind one host has. Nothing where the memory cannot be computed.
    """
    try:
        shape = shape_of(profile)
    except Unreadable:
        return Advice()
    evidence = Evidence(profile=profile, gpus=_accelerators(device))
    before = {str(problem) for problem in validate(subject.spec, release, evidence)}
    done: dict[str, Tried] = {}
    allowed: dict[str, bool] = {}

    def evaluate(engine: t.Mapping[str, t.Any], total: int | None) -> Tried:
        key = repr((sorted(engine.items()), total))
        if key not in done:
            target = device if total is None else dataclasses.replace(device, total=total)
            done[key] = _tried(subject, engine, release, profile, shape, target)
        return done[key]

    def allows(engine: t.Mapping[str, t.Any]) -> bool:
        key = repr(sorted(engine.items()))
        if key not in allowed:
            found = validate(_changed(subject.spec, engine), release, evidence)
            allowed[key] = is_sound(problem for problem in found if str(problem) not in before)
        return allowed[key]

    return advise(Case(Version(release.version), shape, device, gpus, evaluate, allows))


def read_devices(devices: t.Any) -> tuple[list[Kind], list[Problem]]:
    """The devices that are thought of, and the problems of those that are malformed. Never raises."""
    if devices is None:
        return [], []
    if not isinstance(devices, list):
        return [], [Problem("devices", "devices", "is no list", _EXAMPLE)]
    found, problems = [], []
    for number, device in enumerate(devices):
        where = f"devices[{number}]"
        if not isinstance(device, dict):
            problems.append(Problem(where, "device", "is no mapping", _EXAMPLE))
            continue
        odd = _odd_device(where, device)
        problems += odd
        if not odd:
            found.append(_kind(device))
    return found, problems


def _fit(
    subject: Subject, release: Release, profile: t.Mapping[str, t.Any] | None, kinds: t.Sequence[Kind]
) -> dict[str, t.Any]:
    devices: list[dict[str, t.Any]] = []
    unknown = None if kinds else _no_device(subject)
    try:
        _refuse_broken(profile)
        shape = shape_of(profile)
        devices = [_fit_on(subject, release, profile, shape, kind) for kind in kinds]
    except Unreadable as error:
        unknown = str(error)
    return {
        "name": subject.spec.name,
        "model": subject.spec.model,
        "release": release.version,
        "note": release.note,
        "fits": any(one["verdict"] in ("fits", "tight") for one in devices),
        "unknown": unknown,
        "deadline_seconds": deadline_seconds(profile, subject.spec.env),
        "devices": devices,
    }


def _no_device(subject: Subject) -> str:
    reasons = "; ".join(f"{offer.host} has no GPU that it may get: {offer.no_gpu_reason}" for offer in subject.offers)
    return reasons or "no host was inspected, and no device is thought of: name some in devices"


def _refuse_broken(profile: t.Mapping[str, t.Any] | None) -> None:
    """Raises Unreadable where files are missing or cut off: their sizes say nothing of the model's."""
    for problem in (profile or {}).get("problems", ()):
        if problem["severity"] == "error":
            raise Unreadable(problem["message"])


def _fit_on(
    subject: Subject, release: Release, profile: t.Mapping[str, t.Any] | None, shape: Geometry, kind: Kind
) -> dict[str, t.Any]:
    tried = _tried(subject, {}, release, profile, shape, kind.device)
    gpus = kind.count if kind.device.kind == "gpu" else 0
    needed = tried.chosen.asked.gpu_count if gpus else 0
    found = advice(subject, release, profile, kind.device, gpus)
    return {
        "device": kind.device.name,
        "hosts": list(kind.hosts),
        "gpus_there": gpus,
        "gpus_needed": needed,
        "verdict": TOO_FEW if needed > gpus else tried.ledger.verdict,
        "ledger": tried.ledger.as_data(),
        **found.as_data(),
    }


def _tried(
    subject: Subject,
    changes: t.Mapping[str, t.Any],
    release: Release,
    profile: t.Mapping[str, t.Any] | None,
    shape: Geometry,
    device: Device,
) -> Tried:
    spec = _changed(subject.spec, changes)
    asked, _faults = read_asked(spec.engine, spec.env, subject.packages(release))
    chosen = settings(release.version, asked, shape, device)
    return Tried(chosen, estimate(weights_of(profile), shape, chosen, device, subject.earlier))


def _changed(spec: ModelSpec, engine: t.Mapping[str, t.Any]) -> ModelSpec:
    return spec.model_copy(update={"engine": {**spec.engine, **engine}})


def _accelerators(device: Device) -> list[Gpu]:
    """The device as the checks of a spec see it."""
    if device.kind != "gpu":
        return []
    capability = divmod(device.capability, 10) if device.capability else None
    return [Gpu(None, "", device.name, device.total, device.total, capability)]


def _odd_device(where: str, device: t.Mapping[str, t.Any]) -> list[Problem]:
    problems = [
        Problem(where, str(key), "is no field of a device", did_you_mean(str(key), _DEVICE_KEYS))
        for key in device
        if key not in _DEVICE_KEYS
    ]
    if not isinstance(device.get("name"), str) or not device["name"].strip():
        problems.append(Problem(where, "name", "is no name of a GPU", _EXAMPLE))
    if ("memory_gib" in device) == ("memory_bytes" in device):
        reason = "one of memory_gib and memory_bytes has to be given, and not both"
        problems.append(Problem(where, "memory_gib", reason, _EXAMPLE))
    problems += [
        Problem(where, key, f"is no number from {least:g} to {most:g}", _EXAMPLE, device[key])
        for key, (least, most) in _BOUNDS.items()
        if key in device and not least <= (_number(device[key]) or 0) <= most
    ]
    return problems


def _kind(device: t.Mapping[str, t.Any]) -> Kind:
    """A device in which nothing is odd: its numbers are numbers, or texts that are."""
    size = float(device["memory_gib"]) * GIB if "memory_gib" in device else float(device["memory_bytes"])
    whole = round(float(device["compute_capability"]) * 10) if "compute_capability" in device else None
    return Kind(Device("gpu", device["name"].strip(), int(size), whole), int(float(device.get("count", 1))))


def _number(value: t.Any) -> float | None:
    """A finite number, also as templates write it; None for all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _read_profiles(profiles: t.Any) -> tuple[dict[tuple[str, str | None], t.Mapping[str, t.Any]], list[Problem]]:
    """What model_info returned, by model and revision; entries of models that it did not find are passed over."""
    fix = "Give it the models that model_info returned"
    if profiles is None:
        return {}, []
    if not isinstance(profiles, list) or not all(_is_named(one) for one in profiles):
        return {}, [Problem("profiles", "profiles", "is no list of what model_info found of each model", fix)]
    whole = [one for one in profiles if one.get("found")]
    odd = [key for key, is_sound_ in _PROFILE_KEYS.items() if not all(is_sound_(one.get(key)) for one in whole)]
    if odd:
        return {}, [Problem("profiles", "profiles", f"has no usable {' and '.join(odd)} for each model", fix)]
    return {(one["model"], one.get("revision")): one for one in whole}, []


def _is_named(profile: t.Any) -> bool:
    """Whether it is an entry with the names that it is looked up by."""
    return (
        isinstance(profile, dict)
        and isinstance(profile.get("model"), str)
        and isinstance(profile.get("revision"), (str, types.NoneType))
    )


def _are_weights(found: t.Any) -> bool:
    """Whether the estimate can use it: sizes in bytes; None stands for weights whose size cannot be read."""
    if found is None:
        return True
    if not isinstance(found, dict) or not _is_size(found.get("total_bytes")):
        return False
    classes, layers = found.get("bytes_by_class"), found.get("bytes_by_layer", [])
    return (
        isinstance(classes, dict)
        and all(isinstance(one, dict) and all(map(_is_size, one.values())) for one in classes.values())
        and isinstance(layers, list)
        and all(map(_is_size, layers))
    )


def _is_size(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _GREATEST_SIZE


# What model_info says of a model that it found, and whether that can be used.
_PROFILE_KEYS: dict[str, t.Callable[[t.Any], bool]] = {
    "config": lambda config: isinstance(config, dict),
    "text_config_path": lambda path: isinstance(path, str),
    "weights": _are_weights,
}
