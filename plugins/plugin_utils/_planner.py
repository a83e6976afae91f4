# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a whole fleet: specs and inspections in, servers of every host out.

Pure; the one place that joins the rooms.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.estimate import Device, estimate, settings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Unreadable, geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import GIB, Ledger
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.offer import Gpu, Offer, Unread, read_offer
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.place import (
    Assignment,
    Demand,
    Refusal,
    Unplaced,
    host_bytes,
    place,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release, load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.options import check_environment, check_options
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.server import render_server
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Invalid, Problem

_INSPECT = "Run the role host with tasks_from inspect on every host of the play first"


@dataclasses.dataclass(frozen=True)
class Plan:
    """hosts: servers of each host as vllm_servers takes them; placements: what was decided for each server, and why."""

    hosts: dict[str, list[dict[str, t.Any]]]
    placements: list[dict[str, t.Any]]
    removals: list[dict[str, str]]
    warnings: list[str]


def plan_fleet(models: t.Any, inspections: t.Mapping[str, t.Mapping[str, t.Any]], allow_stand_in: bool = False) -> Plan:
    """Validate every spec, place every replica, render every server.

    models: what the inventory declares (vllm_models); inspections: the fact vllm_inspection of every host.
    Raises Invalid with all problems of all models at once; then no part of the plan exists.
    """
    specs, problems = load_specs(models)
    offers, unread = _offers(inspections)
    problems.extend(unread)
    if not offers:
        raise Invalid(problems or [Problem("inspections", "inspections", "names no host", _INSPECT)])
    drafts = {spec.name: _Draft(spec, offers, allow_stand_in) for spec in specs}
    problems.extend(problem for draft in drafts.values() for problem in draft.problems)
    demands = [demand for draft in drafts.values() if draft.is_sound for demand in draft.demands()]
    assigned, unplaced = place(demands, offers)
    problems.extend(_unplaced_problem(one) for one in unplaced)
    by_host = {offer.host: offer for offer in offers}
    for one in assigned:
        problems.extend(drafts[one.demand.model].remarks(one, by_host[one.host]))
    errors = [problem for problem in problems if not problem.warning]
    if errors:
        raise Invalid(errors)
    hosts: dict[str, list[dict[str, t.Any]]] = {offer.host: [] for offer in offers}
    placements = []
    for one in assigned:
        draft, offer = drafts[one.demand.model], by_host[one.host]
        hosts[one.host].append(draft.render(one, offer))
        placements.append(draft.describe(one, offer))
    planned = {(one.host, one.demand.server) for one in assigned}
    removals = [
        {"host": offer.host, "server": name}
        for offer in offers
        for name in sorted(offer.servers)
        if (offer.host, name) not in planned
    ]
    return Plan(
        hosts, placements, removals, list(dict.fromkeys(str(problem) for problem in problems if problem.warning))
    )


def _offers(inspections: t.Any) -> tuple[list[Offer], list[Problem]]:
    """The offers of all hosts that were inspected, and the problems of the others."""
    if not isinstance(inspections, dict):
        return [], [
            Problem("inspections", "inspections", "is no mapping of hosts to their fact vllm_inspection", _INSPECT)
        ]
    offers, problems = [], []
    for host, inspection in inspections.items():
        try:
            offers.append(read_offer(host, inspection))
        except Unread as error:
            problems.append(Problem(str(host), "vllm_inspection", str(error), _INSPECT))
    return offers, problems


class _Draft:
    """One spec on its way into the plan: its release, its problems, and what it demands of hosts."""

    def __init__(self, spec: ModelSpec, offers: t.Sequence[Offer], allow_stand_in: bool) -> None:
        self.spec = spec
        self.problems: list[Problem] = []
        self._release: Release | None = None
        self._asked, _faults = read_asked(spec.engine, spec.env)
        self._candidates = [offer for offer in offers if offer.matches(spec.placement.hosts)]
        self._image = next((image for image in map(self._image_on, self._candidates) if image), None)
        if not self._candidates:
            known = ", ".join(offer.host for offer in offers) or "none"
            wanted = ", ".join(spec.placement.hosts or ())
            self._add(
                "placement.hosts",
                f"names no host or group of the play; its hosts are {known}",
                "Write one of these",
                wanted,
            )
        elif self._image is None:
            self._add(
                "image",
                self._image_reasons(),
                "Bring it with docker pull, or with docker load when offline",
                spec.image,
            )
        else:
            self._check_image(self._image, allow_stand_in)
        self._check_model()

    @property
    def is_sound(self) -> bool:
        """Whether nothing but warnings was found."""
        return all(problem.warning for problem in self.problems)

    def demands(self) -> list[Demand]:
        """One for each replica."""
        spec = self.spec
        return [
            Demand(
                server=f"vllm-{spec.name}-{replica}",
                model=spec.name,
                hosts=tuple(spec.placement.hosts) if spec.placement.hosts is not None else None,
                gpus=tuple(spec.placement.gpus) if spec.placement.gpus is not None else None,
                spread=spec.placement.spread,
                port=spec.listen.port,
                device=self._device(),
                gpu_count=self._asked.gpu_count,
                ledger=self._ledger,
                refusal=self._refusal,
                has_files=lambda offer: self._profile(offer) is not None,
            )
            for replica in range(spec.replicas)
        ]

    def remarks(self, one: Assignment, offer: Offer) -> list[Problem]:
        """What is to be known of a placement before it is carried out."""
        found = []
        if one.ledger is None:
            why = self._memory_unknown(offer)
            reason = f"{one.demand.server} is planned on {one.host} without knowing its memory: {why}"
            fix = "Watch the start, or pre-stage the model" if self._profile(offer) is None else "Watch the start"
            found.append(Problem(self.spec.name, "model", reason, fix, self.spec.model, warning=True))
        elif one.ledger.verdict == "tight":
            reason = f"{one.demand.server} is expected to fit on {one.host}, but not in the worst case of the estimate"
            fix = (
                f"{one.ledger.safe_length} fits in the worst case as well"
                if one.ledger.safe_length
                else "Watch the start"
            )
            found.append(
                Problem(self.spec.name, "engine.max_model_len", reason, fix, one.ledger.max_model_len, warning=True)
            )
        needed = host_bytes(one.demand, one.ledger) if one.ledger and not one.gpus else 0
        if self.spec.limits.memory and self.spec.limits.memory < needed:
            reason = f"is less than the {needed / GIB:.1f} GiB that {one.demand.server} takes on the CPU"
            found.append(
                Problem(self.spec.name, "limits.memory", reason, f"Set it to {needed} or more", self.spec.limits.memory)
            )
        if self._device() == "cpu" and offer.gpus:
            reason = f"holds vLLM's build for the CPU, so {one.demand.server} leaves the GPUs of {one.host} alone"
            found.append(
                Problem(
                    self.spec.name,
                    "image",
                    reason,
                    "Use an image for GPUs if that is not meant",
                    self.spec.image,
                    warning=True,
                )
            )
        return found

    def render(self, one: Assignment, offer: Offer) -> dict[str, t.Any]:
        """The server of this placement."""
        release, image = self._known(offer)
        gpus = [gpu.uuid for gpu in one.gpus]
        return render_server(
            self.spec, one.demand.server, gpus, one.port, release, image, self._profile(offer), offer.settings
        )

    def describe(self, one: Assignment, offer: Offer) -> dict[str, t.Any]:
        """What the plan's report shows of this placement."""
        release, image = self._known(offer)
        address = str(self.spec.listen.address)
        return {
            "server": one.demand.server,
            "model": self.spec.name,
            "host": one.host,
            "gpus": [{"index": gpu.index, "uuid": gpu.uuid, "name": gpu.name} for gpu in one.gpus],
            "listen": f"[{address}]:{one.port}" if ":" in address else f"{address}:{one.port}",
            "image": self.spec.image,
            "vllm": image["version"],
            "catalogue": release.version,
            "runs_already": one.demand.server in offer.servers,
            "ledger": one.ledger.as_data() if one.ledger else None,
            "memory_unknown": None if one.ledger else self._memory_unknown(offer),
        }

    def _known(self, offer: Offer) -> tuple[Release, t.Mapping[str, t.Any]]:
        """The release, and the image as this host has it: the same name may be another build on another host."""
        image = self._image_on(offer)
        if self._release is None or image is None:
            raise ValueError(f"{self.spec.name} has problems and cannot be rendered")
        return self._release, image

    # ---- checks

    def _check_image(self, image: t.Mapping[str, t.Any], allow_stand_in: bool) -> None:
        spec = self.spec
        if image["stand_in"] and not allow_stand_in:
            self._add(
                "image",
                "is the stand-in engine of the tests, which answers without any model",
                "Use a vLLM image",
                spec.image,
            )
        if not image["version"]:
            self._add("image", f"holds no vLLM: {image['reason']}", "Use a vLLM image", spec.image)
            return
        if not spec.entrypoint and not image["entrypoint"]:
            self._add(
                "entrypoint",
                "is needed, for the image has none",
                'Write entrypoint: ["vllm", "serve"] for a vLLM image',
            )
        if self._device() == "cpu" and spec.placement.gpus is not None:
            reason = f"asks for GPUs, and the image {spec.image} holds vLLM's build for the CPU ({image['version']})"
            self._add(
                "placement.gpus",
                reason,
                "Leave it out, or use an image for GPUs",
                ", ".join(map(str, spec.placement.gpus)),
            )
        release = load(image["version"])
        if not release.exact:
            self._add("image", release.note, "Options are checked against it", spec.image, warning=True)
        if image["version_source"] == "tag":
            self._add(
                "image",
                "its version is taken from its tag",
                "Check that the tag tells the truth",
                spec.image,
                warning=True,
            )
        self.problems.extend(check_options(spec, release))
        self.problems.extend(check_environment(spec, release))
        self._release = release

    def _check_model(self) -> None:
        spec = self.spec
        found = [(offer, profile) for offer in self._candidates if (profile := self._profile(offer))]
        for offer, profile in found:
            for problem in profile["problems"]:
                self._add(
                    "model",
                    f"on {offer.host}: {problem['message']}",
                    "Mend the files",
                    spec.model,
                    problem["severity"] != "error",
                )
        if found:
            self._check_shape(found[0][1])
        elif self._candidates and (spec.is_path or spec.offline):
            reasons = "; ".join(f"on {offer.host}: {self._model_reason(offer)}" for offer in self._candidates)
            if spec.is_path:
                self._add("model", reasons, "Correct the path, or bring the model to the host", spec.model)
            else:
                self._add(
                    "model", f"offline is true, and {reasons}", "Pre-stage it, or set offline to false", spec.model
                )

    def _check_shape(self, profile: t.Mapping[str, t.Any]) -> None:
        """What vLLM itself would refuse after it has started to load (config/model.py of 0.32.0)."""
        try:
            shape = geometry(profile["config"], profile["text_config_path"])
        except Unreadable:
            return
        # Overrides change the shape, and a variable lifts the limit of the length.
        if "hf_overrides" in self.spec.engine:
            return
        size, length = self._asked.tensor_parallel, self._asked.max_model_len
        if shape.heads % size:
            fits = ", ".join(str(number) for number in range(1, 17) if shape.heads % number == 0)
            self._add(
                "engine.tensor_parallel_size",
                f"cannot split the model's {shape.heads} attention heads",
                f"Write one of {fits}",
                size,
            )
        lifted = self.spec.env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0") not in ("", "0")
        if length and length > shape.max_positions and shape.is_length_certain and not lifted:
            reason = f"is more than the {shape.max_positions} tokens that the model is made for"
            self._add("engine.max_model_len", reason, f"Set it to {shape.max_positions}, or less", length)

    def _add(self, field: str, reason: str, fix: str, value: t.Any = None, warning: bool = False) -> None:
        self.problems.append(Problem(self.spec.name, field, reason, fix, value, warning))

    # ---- what hosts have

    def _image_on(self, offer: Offer) -> t.Mapping[str, t.Any] | None:
        image = offer.images.get(self.spec.image)
        return image if image and image["found"] else None

    def _image_reasons(self) -> str:
        return "; ".join(
            f"on {offer.host}: {(offer.images.get(self.spec.image) or {}).get('reason') or 'it was not inspected'}"
            for offer in self._candidates
        )

    def _model_on(self, offer: Offer) -> t.Mapping[str, t.Any]:
        return offer.models.get((self.spec.model, self.spec.revision), {})

    def _profile(self, offer: Offer) -> t.Mapping[str, t.Any] | None:
        model = self._model_on(offer)
        return model if model.get("found") else None

    def _device(self) -> str:
        # vLLM's builds for the CPU say so in their version: 0.32.0+cpu.
        local = str((self._image or {}).get("version") or "").partition("+")[2]
        if self._image and self._image["stand_in"]:
            return "any"
        return "cpu" if "cpu" in local.split(".") else "gpu"

    def _model_reason(self, offer: Offer) -> str:
        return self._model_on(offer).get("reason") or "the model was not looked for"

    def _refusal(self, offer: Offer) -> Refusal | None:
        spec, image = self.spec, self._image_on(offer)
        if image is None:
            return Refusal("image", spec.image, "is not there", "Bring it to this host")
        if self._image is not None and image["version"] != self._image["version"]:
            reason = f"holds vLLM {image['version']} there and {self._image['version']} elsewhere"
            return Refusal("image", spec.image, reason, "Bring the same build to all hosts, best by its digest")
        if self._profile(offer) is None and (spec.offline or spec.is_path):
            return Refusal("model", spec.model, self._model_reason(offer), "Bring it to this host")
        return None

    def _memory_unknown(self, offer: Offer) -> str | None:
        """Why the memory on this host cannot be computed, or None when it can."""
        profile = self._profile(offer)
        if profile is None:
            return "the model's files are not there yet, the engine fetches them"
        if not profile["weights"]:
            return "no size of its weights can be read"
        try:
            geometry(profile["config"], profile["text_config_path"])
        except Unreadable as error:
            return str(error)
        return None

    def _ledger(self, offer: Offer, gpu: Gpu | None) -> Ledger | None:
        profile = self._profile(offer)
        if profile is None or self._release is None or self._memory_unknown(offer):
            return None
        shape = geometry(profile["config"], profile["text_config_path"])
        device = Device("gpu", gpu.name, gpu.total) if gpu else Device("cpu", f"the CPU of {offer.host}", offer.memory)
        utilization = self._release.options["gpu_memory_utilization"].default
        return estimate(
            profile["weights"], shape, settings(self._release.version, utilization, self._asked, shape, device), device
        )


def _unplaced_problem(one: Unplaced) -> Problem:
    """What keeps a replica from every host. One field and fix where all hosts agree, else those of the first one."""
    first = next(iter(one.refusals.values()))
    reasons = "; ".join(f"on {host}: {refusal.field} {refusal.reason}" for host, refusal in one.refusals.items())
    if all(refusal.field == first.field for refusal in one.refusals.values()):
        reasons = "; ".join(f"on {host}: {refusal.reason}" for host, refusal in one.refusals.items())
    return Problem(
        one.demand.model, first.field, f"{one.demand.server} has no place: {reasons}", first.fix, first.value
    )
