# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models against a release, without placing them: what is wrong, and what their servers would get.

Pure; joins the rooms, as _planner.py and _upgrader.py do with what is here. Inspections are welcome here and needed by
the planner.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.correction import (
    Earlier,
    expected_memory,
    measurement_key,
    read_earlier,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.estimate import estimate
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry, geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Ledger
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.reading import Unreadable
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings, settings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.offer import Gpu, Offer, Unread, read_offer
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.place import selectable
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release, load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.server import command, environment
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.image import is_for_cpu, version_of_tag
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.validate import Evidence, mended, validate

INSPECT = "Run the role host with tasks_from inspect on every host of the play first"
# The builds beside the one for CUDA, by what stands behind + in their version.
_VARIANTS = ("cpu", "rocm", "xpu", "tpu")
# The options of all releases whose values are secrets; checks refuse them.
_SECRET_OPTIONS = ("api_key", "hf_token")


@dataclasses.dataclass(frozen=True)
class Subject:
    """One model, and the hosts that it may get and that were inspected; there may be none.

    earlier: what starts on any host have told of their memory.
    """

    spec: ModelSpec
    offers: tuple[Offer, ...] = ()
    earlier: Earlier = dataclasses.field(default_factory=dict, compare=False)

    @property
    def image(self) -> t.Mapping[str, t.Any] | None:
        """The image as the first host has it that has it."""
        return next(filter(None, map(self.image_on, self.offers)), None)

    @property
    def profile(self) -> t.Mapping[str, t.Any] | None:
        """The model's files as the first host has them that has them."""
        return next(filter(None, map(self.profile_on, self.offers)), None)

    @property
    def version(self) -> str | None:
        """The vLLM version of the image: what a host found in it, else what its tag claims."""
        return (self.image or {}).get("version") or version_of_tag(self.spec.image)

    @property
    def variant(self) -> str:
        """The kind of build in the image: cuda, cpu, rocm ..., as its version says, or else its name."""
        local = str((self.image or {}).get("version") or "").partition("+")[2]
        repository = self.spec.image.partition("@")[0].rpartition("/")[2].partition(":")[0]
        return next((one for one in _VARIANTS if local.startswith(one) or repository.endswith(f"-{one}")), "cuda")

    def release(self, version: str) -> Release:
        """The facts of a release, as the build that the image is of."""
        is_build = "+" in version or self.variant != "cpu"
        return load(version if is_build else f"{version}+cpu")

    def gpus_on(self, offer: Offer) -> list[Gpu]:
        """The GPUs of a host that the model may get; none when the image is the build for the CPU."""
        image = self.image_on(offer)
        return [] if image and is_for_cpu(image) else selectable(offer, self.spec.placement.gpus)

    def image_on(self, offer: Offer) -> t.Mapping[str, t.Any] | None:
        """The image as this host has it."""
        image = offer.images.get(self.spec.image)
        return image if image and image["found"] else None

    def profile_on(self, offer: Offer) -> t.Mapping[str, t.Any] | None:
        """The model's files as this host has them."""
        model = offer.models.get((self.spec.model, self.spec.revision))
        return model if model and model.get("found") else None

    def problems(self, release: Release, strict: bool = False) -> list[Problem]:
        """Every problem with the release. What only some of the hosts cannot do is a warning that names the host."""
        shared, own = self.findings(release, strict)
        nowhere = all(not is_sound(problems) for problems in own.values())
        return shared + [
            dataclasses.replace(
                problem,
                reason=f"on {host}: {problem.reason}",
                warning=problem.warning or not (nowhere or strict),
                remedy=None,
            )
            for host, problems in own.items()
            for problem in problems
        ]

    def findings(self, release: Release, strict: bool = False) -> tuple[list[Problem], dict[str, list[Problem]]]:
        """The problems with the release that all hosts have, and those that each has besides."""
        # A host without GPUs can disprove nothing that the others show of theirs.
        offers = [offer for offer in self.offers if self.gpus_on(offer)] or self.offers
        evidence = {offer.host: self._evidence(offer, release) for offer in offers} or {"": Evidence()}
        # Hosts of a fleet are mostly alike: each kind is validated once.
        kinds: dict[str, list[Problem]] = {}
        found = {}
        for host, known in evidence.items():
            kind = repr(known)
            if kind not in kinds:
                kinds[kind] = validate(self.spec, release, known, strict)
            found[host] = kinds[kind]
        common = set.intersection(*({str(problem) for problem in problems} for problems in found.values()))
        own = {host: [one for one in problems if str(one) not in common] for host, problems in found.items()}
        return [one for one in next(iter(found.values())) if str(one) in common], own

    def _evidence(self, offer: Offer, release: Release) -> Evidence:
        image = self.image_on(offer)
        # What is in the image says nothing of an image with another release.
        own = image if image and _holds(image, release) else None
        # The files of a model at its revision are the same wherever they are.
        return Evidence(own, self.profile_on(offer) or self.profile, self.gpus_on(offer), offer.driver)

    def packages(self, release: Release) -> t.Mapping[str, str] | None:
        """What the image of this release holds beside vLLM; None where no host has it."""
        image = self.image
        return image.get("packages") if image and _holds(image, release) else None

    def ledger(self, release: Release, profile: t.Mapping[str, t.Any] | None, device: Device) -> Ledger:
        """The memory on a device, with the model's files as some host has them. Raises Unreadable."""
        shape, chosen = self._settled(release, profile, device)
        return estimate(weights_of(profile), shape, chosen, device, self.earlier)

    def expected_memory(
        self, release: Release, profile: t.Mapping[str, t.Any], device: Device, ledger: Ledger
    ) -> dict[str, t.Any]:
        """The prediction that is shown beside what the engine tells, in the form of vllm_servers."""
        shape, chosen = self._settled(release, profile, device)
        return expected_memory(ledger, measurement_key(profile["weights"], shape, chosen, device))

    def _settled(
        self, release: Release, profile: t.Mapping[str, t.Any] | None, device: Device
    ) -> tuple[Geometry, Settings]:
        shape = shape_of(profile)
        asked, _faults = read_asked(self.spec.engine, self.spec.env, self.packages(release))
        return shape, settings(release.version, asked, shape, device)


@dataclasses.dataclass(frozen=True)
class Rendered:
    """One model at one release.

    argv, env: what its server gets, as it is when there is no error, with the remedies written in when every error has
    one, else None. engine: the engine options with all remedies written in that there are.
    """

    name: str
    release: str
    entrypoint: list[str]
    argv: list[str] | None
    env: dict[str, str] | None
    engine: dict[str, t.Any]
    problems: tuple[Problem, ...]

    def as_data(self) -> dict[str, t.Any]:
        """Plain data; the problems are the messages."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "problems"}
        return {**own, "messages": as_messages(self.problems)}


@dataclasses.dataclass(frozen=True)
class Validation:
    """All models that are well formed, and the problems of all."""

    models: tuple[Rendered, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> list[Problem]:
        """The problems that are no warnings."""
        return [problem for problem in self.problems if not problem.warning]

    def as_data(self) -> dict[str, t.Any]:
        """Plain data."""
        return {
            "valid": not self.errors,
            "messages": as_messages(self.problems),
            "models": [model.as_data() for model in self.models],
        }


def read_offers(inspections: t.Any) -> tuple[list[Offer], list[Problem]]:
    """The offers of all hosts that were inspected, and the problems of the others. Never raises."""
    if not isinstance(inspections, dict):
        reason = "is no mapping of hosts to their fact vllm_inspection"
        return [], [Problem("inspections", "inspections", reason, INSPECT)]
    offers, problems = [], []
    for host, inspection in inspections.items():
        try:
            offers.append(read_offer(host, inspection))
        except Unread as error:
            problems.append(Problem(str(host), "vllm_inspection", str(error), INSPECT))
    return offers, problems


def read_subjects(
    models: t.Any, inspections: t.Mapping[str, t.Any] | None = None
) -> tuple[list[Subject], list[Problem]]:
    """The models that are well formed, and the problems of the others and of the inspections. Never raises.

    models: what the inventory declares; inspections: the fact vllm_inspection of every host, or nothing.
    """
    specs, problems = load_specs(models)
    offers, unread = read_offers(inspections or {})
    problems += unread
    earlier = earlier_starts(offers)
    return [subject_of(spec, offers, earlier) for spec in specs], problems


def earlier_starts(offers: t.Iterable[Offer]) -> Earlier:
    """What starts on any host have told of their memory: GPUs of a kind are alike wherever they are."""
    return read_earlier(entry for offer in offers for entry in offer.measured)


def subject_of(spec: ModelSpec, offers: t.Iterable[Offer], earlier: Earlier) -> Subject:
    """The model with the hosts that it may get."""
    return Subject(spec, tuple(offer for offer in offers if offer.matches(spec.placement.hosts)), earlier)


def without_version(subject: Subject, option: str) -> Problem:
    """The problem that nothing tells the release of a model; option: of the module, which would tell it."""
    reason = "does not tell its vLLM release: no host has it, and its tag is no version"
    return Problem(subject.spec.name, "image", reason, f"Set {option} to a release of vLLM", subject.spec.image)


def validate_models(
    models: t.Any,
    release: str | None = None,
    inspections: t.Mapping[str, t.Any] | None = None,
    strict: bool = False,
) -> Validation:
    """Validate every model, all problems at once. Never raises.

    release: of vLLM, for all models; without it each model's image tells it. strict: warnings are errors.
    """
    subjects, problems = read_subjects(models, inspections)
    rendered = []
    for subject in subjects:
        version = release or subject.version
        if version is None:
            problems.append(without_version(subject, "release"))
        else:
            rendered.append(render_model(subject, subject.release(version), strict))
    return Validation(tuple(rendered), tuple(problems) + tuple(found for one in rendered for found in one.problems))


def render_model(subject: Subject, release: Release, strict: bool = False) -> Rendered:
    """What is wrong with a model at this release, and what its server would get."""
    problems = subject.problems(release, strict)
    final: ModelSpec | None = subject.spec
    if not is_sound(problems):
        final = mended(subject.spec, problems)
        # Two remedies may contradict each other.
        if final is not None and not is_sound(dataclasses.replace(subject, spec=final).problems(release)):
            final = None
    entrypoint, profile = entrypoint_of(subject, release), subject.profile
    return Rendered(
        name=subject.spec.name,
        release=release.version,
        entrypoint=entrypoint,
        argv=command(final, release, entrypoint, profile) if final else None,
        env=environment(final, release, profile) if final else None,
        engine=mended_engine(subject.spec, problems),
        problems=tuple(problems),
    )


def entrypoint_of(subject: Subject, release: Release) -> list[str]:
    """The entrypoint that the spec names, else that of the image at hand, else that of the release's image."""
    image = subject.image
    own = image["entrypoint"] if image and _holds(image, release) else None
    # Archives without a recipe of the image have neighbours whose image takes vllm serve.
    return list(subject.spec.entrypoint or own or release.entrypoint or ("vllm", "serve"))


def weights_of(profile: t.Mapping[str, t.Any] | None) -> t.Mapping[str, t.Any]:
    """What is known of the weights, of the model's files. Raises Unreadable."""
    return _readable(profile)["weights"]


def shape_of(profile: t.Mapping[str, t.Any] | None) -> Geometry:
    """What the memory depends on, of the model's files. Raises Unreadable with what is not known of them."""
    known = _readable(profile)
    return geometry(known["config"], known["text_config_path"])


def _readable(profile: t.Mapping[str, t.Any] | None) -> t.Mapping[str, t.Any]:
    if profile is None:
        raise Unreadable("the model's files are not there yet, the engine fetches them")
    if not profile["weights"]:
        raise Unreadable("no size of its weights can be read")
    return profile


def device_of(offer: Offer, gpu: Gpu | None) -> Device:
    """A GPU of a host, or its CPU, as a device with memory."""
    if gpu is None:
        return Device("cpu", f"the CPU of {offer.host}", offer.memory)
    major, minor = gpu.compute_capability or (0, 0)
    return Device("gpu", gpu.name, gpu.total, 10 * major + minor or None)


def mended_engine(spec: ModelSpec, problems: t.Iterable[Problem]) -> dict[str, t.Any]:
    """The engine options with all remedies of errors written in that there are.

    Secrets do not belong there; they are left out, and so is whatever no release knows, which may be one misspelt.
    """
    final = mended(spec, [problem for problem in problems if problem.remedy is not None]) or spec
    return {name: value for name, value in final.engine.items() if _may_be_shown(name)}


def _may_be_shown(name: str) -> bool:
    key = name.lstrip("-").replace("-", "_").partition(".")[0]
    return key not in _SECRET_OPTIONS and catalogue.life("options", key) is not None


def as_messages(problems: t.Iterable[Problem]) -> list[dict[str, t.Any]]:
    """Problems as plain data."""
    return [
        {
            "name": problem.where,
            "severity": "warning" if problem.warning else "error",
            "field": problem.field,
            "value": problem.value,
            "reason": problem.reason,
            "fix": problem.fix,
            "remedy": problem.remedy,
            "text": str(problem),
        }
        for problem in problems
    ]


def is_sound(problems: t.Iterable[Problem]) -> bool:
    """Whether nothing but warnings was found."""
    return all(problem.warning for problem in problems)


def _holds(image: t.Mapping[str, t.Any], release: Release) -> bool:
    return bool(image["version"]) and load(image["version"]).version == release.version
