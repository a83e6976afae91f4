# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What another release changes for one spec: problems, defaults, behaviour, image, metrics and routes.

Pure. Works in both directions; "before" is the release that the spec has now, "after" the one that it would get.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import check_value
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.consequences import (
    BEHAVIOURS,
    METRIC_SUCCESSORS,
    OF_DEFAULT,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.hardware import OLDEST_DRIVER

GIB = 2**30
# The devices that the catalogue's section defaults tells apart, by the tiers of get_batch_defaults in
# engine/arg_utils.py of 0.33.0.
CPU = "cpu"
B200, H100, A100, SMALL = "B200 180 GiB", "H100 80 GiB", "A100 80 GiB", "L4 24 GiB"
GPUS = (SMALL, A100, H100, B200)
# The first release whose default engine is V1 (envs.py).
_V1 = Version("0.8.0")
_VERSION = re.compile(r"\d+(?:\.\d+)+(?:\.post\d+)?")
_CAPABILITY = re.compile(r"(?P<major>\d+)\.(?P<minor>\d+)(?P<ptx>\+PTX)?")


@dataclasses.dataclass(frozen=True)
class Device:
    """A device that the model may get. kind: one of CPU and GPUS; total: bytes, or None for a class without a card."""

    kind: str
    name: str
    total: int | None = None


@dataclasses.dataclass(frozen=True)
class Change:
    """One changed default or behaviour.

    topic: the option (is_option), or what behaves otherwise; devices: where it changes, empty for everywhere; before,
    after: the defaults, None where the option is left open; means: the consequence in words, where there are
    any; keep: what to write to have it as before.
    """

    topic: str
    is_option: bool
    before: t.Any
    after: t.Any
    devices: tuple[str, ...] = ()
    means: str | None = None
    source: str | None = None
    keep: t.Mapping[str, t.Any] | None = None


@dataclasses.dataclass(frozen=True)
class Differences:
    """Problems at the new release: breaks are errors that the present one does not have, deprecations new warnings."""

    breaks: tuple[Problem, ...]
    already_broken: tuple[Problem, ...]
    deprecations: tuple[Problem, ...]


def device_of(name: str, total: int) -> Device:
    """The device of a GPU with this name and so many bytes."""
    if total >= 160 * GIB:
        return Device(B200, name, total)
    if total >= 70 * GIB:
        return Device(A100 if "a100" in name.lower() else H100, name, total)
    return Device(SMALL, name, total)


def differences(before: t.Sequence[Problem], after: t.Sequence[Problem]) -> Differences:
    """Sort the problems of the new release by whether the present one has them too.

    A field that has an error has it at both releases, whatever it is. A warning is another one when its words are.
    """
    errors = {problem.field for problem in before if not problem.warning}
    known = {_words(problem) for problem in before}
    failing = [problem for problem in after if not problem.warning]
    return Differences(
        breaks=tuple(problem for problem in failing if problem.field not in errors),
        already_broken=tuple(problem for problem in failing if problem.field in errors),
        deprecations=tuple(problem for problem in after if problem.warning and _words(problem) not in known),
    )


def oldest_driver(cuda: str) -> str | None:
    """NVIDIA's oldest driver that runs this version of CUDA, such as 525.60; None where it is not known."""
    needed = OLDEST_DRIVER.get(int(cuda.partition(".")[0]))
    return None if needed is None else ".".join(map(str, needed)).removesuffix(".0")


def changed_defaults(spec: ModelSpec, before: Release, after: Release, devices: t.Sequence[Device]) -> list[Change]:
    """The options that the spec leaves to vLLM and that get another value, those with a consequence first."""
    found = []
    for name in sorted({*before.options, *after.options} - set(spec.engine)):
        groups: dict[str, tuple[t.Any, t.Any, list[Device]]] = {}
        for device in devices:
            old, new = _default(before, name, device.kind), _default(after, name, device.kind)
            if old is not ... and new is not ... and not _same(old, new):
                groups.setdefault(repr((old, new)), (old, new, []))[2].append(device)
        for old, new, concerned in groups.values():
            everywhere = len(concerned) == len(devices)
            found.append(_change(spec, name, old, new, concerned, everywhere, after))
    return sorted(found, key=lambda change: change.means is None)


def changed_behaviour(spec: ModelSpec, before: Release, after: Release, devices: t.Sequence[Device]) -> list[Change]:
    """What the releases between do otherwise without an option that would show it."""
    old, new = Version(before.version), Version(after.version)
    has_gpu = any(device.kind != CPU for device in devices)
    found = []
    for one in BEHAVIOURS:
        if (one.gpu and not has_gpu) or set(one.engine) & set(spec.engine) or set(one.env) & set(spec.env):
            continue
        if old < Version(one.since) <= new:
            keep = one.keep if one.keep and _is_known(one.keep, after) else None
            found.append(
                Change(one.topic, False, None, None, (), f"from {one.since} on it {one.words}", one.source, keep)
            )
        elif new < Version(one.since) <= old:
            found.append(Change(one.topic, False, None, None, (), f"before {one.since} it {one.undone}", one.source))
    return found


def image_changes(spec: ModelSpec, before: Release, after: Release, variant: str) -> list[dict[str, t.Any]]:
    """Facts of the published image of this variant (cuda, cpu, ...) that differ: fact, before, after, means."""
    old, new = before.facts("images").get(variant), after.facts("images").get(variant)
    if old is None or new is None:
        return []
    facts = sorted((set(old) | set(new)) - {"since", "until"})
    return [
        {
            "fact": fact,
            "before": old.get(fact),
            "after": new.get(fact),
            "means": _image_means(spec, fact, old.get(fact), new.get(fact)),
        }
        for fact in facts
        if old.get(fact) != new.get(fact)
    ]


def removed_metrics(before: Release, after: Release) -> list[dict[str, t.Any]]:
    """Metrics that the new release does not show: name, and successors where it goes on under other names."""
    there = _shown_metrics(after)
    return [
        {"name": name, "successors": [one for one in METRIC_SUCCESSORS.get(name, ()) if one in there]}
        for name in sorted(_shown_metrics(before) - there)
    ]


def removed_routes(before: Release, after: Release) -> list[str]:
    """Routes that the new release does not answer any more."""
    return sorted(set(before.facts("routes")) - set(after.facts("routes")))


def _words(problem: Problem) -> tuple[str, str]:
    """What is the same at two releases: the field, and the reason without version numbers."""
    return problem.field, _VERSION.sub("", problem.reason)


def _change(
    spec: ModelSpec,
    name: str,
    old: t.Any,
    new: t.Any,
    devices: t.Sequence[Device],
    everywhere: bool,
    release: Release,
) -> Change:
    known = OF_DEFAULT.get(name)
    if name == "gpu_memory_utilization" and "kv_cache_memory_bytes" in spec.engine:
        known = None  # it decides nothing then
    means = known.words if known else None
    sized = [device for device in devices if device.total]
    if name == "gpu_memory_utilization" and known and sized:
        amounts = dict.fromkeys(f"{(new - old) * (one.total or 0) / GIB:+.2f} GiB on {one.name}" for one in sized)
        means = f"{', '.join(amounts)}: {means}"
    option = release.options.get(name)
    keepable = option is not None and old is not None and check_value(option, old) is None
    return Change(
        topic=name,
        is_option=True,
        before=old,
        after=new,
        devices=() if everywhere else tuple(dict.fromkeys(device.name for device in devices)),
        means=means,
        source=known.source if known else None,
        keep={"engine": {name: old}} if keepable else None,
    )


def _image_means(spec: ModelSpec, fact: str, old: t.Any, new: t.Any) -> str | None:
    if fact == "entrypoint":
        return "but the model has its own" if spec.entrypoint else "the arguments are written for it"
    if fact == "cuda" and old and new:
        driver = oldest_driver(new)
        return f"which needs NVIDIA driver {driver} or newer" if driver and driver != oldest_driver(old) else None
    if fact == "capabilities" and old and new:
        gone = [one.removesuffix("+PTX") for one in old if not _runs_on(one, new)]
        return f"so it has no kernels for {', '.join(gone)} any more" if gone else None
    return None


def _runs_on(capability: str, built: t.Sequence[str]) -> bool:
    """Whether a GPU of this compute capability runs what was built for these.

    Kernels run on their major version from their minor one on, PTX on everything from its version on.
    """
    wanted = _CAPABILITY.fullmatch(capability)
    if wanted is None:
        return capability in built
    here = (int(wanted["major"]), int(wanted["minor"]))
    found = [match for match in map(_CAPABILITY.fullmatch, built) if match]
    return any(
        (int(one["major"]), int(one["minor"])) <= here and (bool(one["ptx"]) or int(one["major"]) == here[0])
        for one in found
    )


def _default(release: Release, name: str, device: str) -> t.Any:
    """What the option is when nobody sets it; an ellipsis when the release has none, and nothing in its place."""
    # Where the device decides, the catalogue's section defaults knows what the parser does not.
    by_device = release.facts("defaults").get(name, {}).get("by_device", {})
    if device in by_device:
        return by_device[device]
    option, known = release.options.get(name), OF_DEFAULT.get(name)
    if option is None:
        return known.absent if known else ...
    return known.nothing if known and option.default is None else option.default


def _same(old: t.Any, new: t.Any) -> bool:
    # Nothing, an empty list and an empty mapping are one default, written by other generations of the parser.
    nothing = (None, {}, [], "")
    return (old == new and isinstance(old, bool) == isinstance(new, bool)) or (old in nothing and new in nothing)


def _is_known(keep: t.Mapping[str, t.Any], release: Release) -> bool:
    """Whether the release has the options and variables."""
    variables = keep.get("env", {})
    return all(name in release.options for name in keep.get("engine", {})) and all(
        name in release.environment for name in variables
    )


def _shown_metrics(release: Release) -> set[str]:
    """Those that a server of the release has without being asked for hidden ones, with its default engine."""
    engine = "V1" if Version(release.version) >= _V1 else "V0"
    return {
        name
        for name, facts in release.facts("metrics").items()
        if not facts.get("hidden") and facts.get("engine", engine) == engine
    }
