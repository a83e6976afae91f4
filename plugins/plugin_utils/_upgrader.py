# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What another release would change for every model of a fleet.

Pure; joins the rooms as _planner.py does.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Ledger
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.reading import Unreadable
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release, load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Invalid, Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation import upgrade
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.image import is_for_cpu
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.validate import mended
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validator import (
    Subject,
    as_messages,
    device_of,
    mended_engine,
    read_subjects,
    without_version,
)


def check_upgrade(
    models: t.Any,
    release: str,
    current: str | None = None,
    inspections: t.Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    """Every model at the release that it has, beside the same model at another one; nothing is changed.

    release: the one to go to; current: the one that the models have, by default what their images hold or their tags
    say; inspections: the fact vllm_inspection of every host, where there are any.
    Raises Invalid with all problems at once when models or inspections are malformed, or the present release unknown.
    """
    subjects, problems = read_subjects(models, inspections)
    problems += [without_version(one, "current") for one in subjects if not (current or one.version)]
    if problems:
        raise Invalid(problems)
    target = load(release)
    results = [_compare(one, one.release(current or str(one.version)), one.release(release)) for one in subjects]
    return {
        "release": target.version,
        "note": target.note,
        "breaks": sum(len(one["breaks"]) for one in results),
        "upgradable": not any(one["breaks"] or one["already_broken"] for one in results),
        "models": results,
    }


def _compare(subject: Subject, before: Release, after: Release) -> dict[str, t.Any]:
    spec = subject.spec
    now = _problems(subject, before)
    then = [_without_image(spec, problem) for problem in _problems(subject, after)]
    final = dataclasses.replace(subject, spec=mended(spec, then) or spec)
    ledgers = _ledgers(subject, before), _ledgers(final, after)
    then += _misfits(spec, *ledgers)
    found = upgrade.differences(now, then)
    devices = _devices(subject)
    changes = [
        *upgrade.changed_defaults(spec, before, after, devices),
        *upgrade.changed_behaviour(spec, before, after, devices),
    ]
    return {
        "name": spec.name,
        "current": before.version,
        "note": before.note,
        "breaks": as_messages(found.breaks),
        "already_broken": as_messages(found.already_broken),
        "deprecations": as_messages(found.deprecations),
        "engine": mended_engine(spec, then),
        "changed_defaults": [dataclasses.asdict(change) for change in changes],
        "image": upgrade.image_changes(spec, before, after, subject.variant),
        "metrics": upgrade.removed_metrics(before, after),
        "routes": upgrade.removed_routes(before, after),
        "memory": [_beside(*pair) for pair in zip(*ledgers, strict=True)],
    }


def _problems(subject: Subject, release: Release) -> list[Problem]:
    """The problems at a release; that it is not catalogued is told apart."""
    return [problem for problem in subject.problems(release) if problem.reason != release.note]


def _without_image(spec: ModelSpec, problem: Problem) -> Problem:
    """The same without the name of the present image: what is wrong is wrong with the other release's."""
    return dataclasses.replace(problem, value=None) if problem.value == spec.image else problem


def _devices(subject: Subject) -> list[upgrade.Device]:
    """What the model may run on; every class of GPUs when no host was inspected."""
    if subject.variant == "cpu":
        return [upgrade.Device(upgrade.CPU, "the CPU")]
    gpus = {(gpu.name, gpu.total) for offer in subject.offers for gpu in subject.gpus_on(offer)}
    if gpus:
        return [upgrade.device_of(name, total) for name, total in sorted(gpus)]
    return [upgrade.Device(kind, kind) for kind in upgrade.GPUS]


def _ledgers(subject: Subject, release: Release) -> list[Ledger]:
    """The memory on every kind of device that the model may get; none where the model's shape is not known."""
    try:
        return [subject.ledger(release, subject.profile, device) for device in _memories(subject)]
    except Unreadable:
        return []


def _memories(subject: Subject) -> list[Device]:
    found = {}
    for offer in subject.offers:
        gpus, image = subject.gpus_on(offer), subject.image_on(offer)
        for gpu in gpus:
            found[gpu.name, gpu.total] = device_of(offer, gpu)
        if image and (is_for_cpu(image) or image["stand_in"]) and not gpus:
            found["", offer.memory] = device_of(offer, None)
    return [found[key] for key in sorted(found)]


def _misfits(spec: ModelSpec, before: t.Sequence[Ledger], after: t.Sequence[Ledger]) -> list[Problem]:
    """Where the model has room at the present release, and would have none at the other one."""
    problems = []
    for old, new in zip(before, after, strict=True):
        if new.verdict == "misfit" and old.verdict != "misfit":
            fix = f"Set engine.max_model_len to {new.largest_length}" if new.largest_length else "Take a larger GPU"
            reason = f"has no room on {new.device} any more: the KV cache holds {new.tokens} tokens there"
            problems.append(Problem(spec.name, "engine.max_model_len", reason, fix, new.max_model_len))
    return problems


def _beside(before: Ledger, after: Ledger) -> dict[str, t.Any]:
    return {"device": before.device, "before": before.as_data(), "after": after.as_data()}
