# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a whole fleet: specs and inspections in, servers of every host out.

Pure; the one place that joins the rooms.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._fitter import advice
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.correction import Earlier
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Ledger
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.levers import Advice, fix_of
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.reading import Unreadable
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.offer import Gpu, Offer
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.place import (
    Assignment,
    Demand,
    Refusal,
    Unplaced,
    host_bytes,
    place,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release, load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.server import Gpu as RenderedGpu
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.server import render_server
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.policy import Policy
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Invalid, Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.closure import check_closure
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.image import check_image, check_tag, is_for_cpu
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validator import (
    INSPECT,
    device_of,
    earlier_starts,
    is_sound,
    read_offers,
    shape_of,
    subject_of,
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """hosts: servers of each host as vllm_servers takes them; placements: what was decided for each server, and why."""

    hosts: dict[str, list[dict[str, t.Any]]]
    placements: list[dict[str, t.Any]]
    removals: list[dict[str, str]]
    warnings: list[str]


def plan_fleet(models: t.Any, inspections: t.Mapping[str, t.Mapping[str, t.Any]], policy: Policy | None = None) -> Plan:
    """Validate every spec, place every replica, render every server.

    models: what the inventory declares (vllm_models); inspections: the fact vllm_inspection of every host.
    Raises Invalid with all problems of all models at once; then no part of the plan exists.
    """
    specs, problems = load_specs(models)
    offers, unread = read_offers(inspections)
    problems.extend(unread)
    if not offers:
        raise Invalid(problems or [Problem("inspections", "inspections", "names no host", INSPECT)])
    earlier = earlier_starts(offers)
    drafts = {spec.name: _Draft(spec, offers, policy or Policy(), earlier) for spec in specs}
    problems.extend(problem for draft in drafts.values() for problem in draft.problems)
    demands = [demand for draft in drafts.values() if is_sound(draft.problems) for demand in draft.demands()]
    assigned, unplaced = place(demands, offers)
    by_host = {offer.host: offer for offer in offers}
    problems.extend(drafts[one.demand.model].unplaced(one, by_host) for one in unplaced)
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


class _Draft:
    """One spec on its way into the plan: its release, its problems, and what it demands of hosts."""

    def __init__(self, spec: ModelSpec, offers: t.Sequence[Offer], policy: Policy, earlier: Earlier) -> None:
        self.spec = spec
        self.problems: list[Problem] = check_tag(spec, policy)
        self._against: dict[str, Problem] = {}  # by host, what only it cannot do
        self._release: Release | None = None
        self._asked, _faults = read_asked(spec.engine, spec.env)
        self._subject = subject_of(spec, offers, earlier)
        self._ways: dict[tuple[str, float, int], Advice] = {}
        self._profiles: list[t.Mapping[str, t.Any]] = []
        self._ledgers: dict[tuple[int, Device], Ledger | None] = {}
        self._image = self._subject.image
        if not self._subject.offers:
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
            version = self._subject.version
            if version and (release := self._subject.release(version)).exact:
                # What its tag claims tells the faults that the image would show, too.
                self.problems.extend(self._subject.problems(release, policy.strict))
        else:
            self._check_image(self._image, policy)
        self._check_model()

    def demands(self) -> list[Demand]:
        """One for each replica."""
        spec = self.spec
        return [
            Demand(
                server=f"vllm-{spec.name}-{replica}",
                model=spec.name,
                hosts=tuple(spec.placement.hosts) if spec.placement.hosts is not None else None,
                gpus=tuple(wanted) if isinstance(wanted := spec.placement.gpus, list) else wanted,
                spread=spec.placement.spread,
                port=spec.listen.port,
                device=self._device(),
                gpu_count=self._asked.gpu_count,
                ledger=self._ledger,
                refusal=self._refusal,
                has_files=lambda offer: self._subject.profile_on(offer) is not None,
            )
            for replica in range(spec.replicas)
        ]

    def remarks(self, one: Assignment, offer: Offer) -> list[Problem]:
        """What is to be known of a placement before it is carried out."""
        found = []
        if one.ledger is None:
            why = self._memory_unknown(offer)
            reason = f"{one.demand.server} is planned on {one.host} without knowing its memory: {why}"
            fix = "Watch the start" if self._subject.profile_on(offer) else "Watch the start, or pre-stage the model"
            found.append(Problem(self.spec.name, "model", reason, fix, self.spec.model, warning=True))
        elif one.ledger.verdict == "tight":
            found.append(self._tight(one.demand.server, one.host, one.ledger))
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

    def _tight(self, server: str, host: str, ledger: Ledger) -> Problem:
        reason = f"{server} is expected to fit on {host}, but not in the worst case of the estimate"
        if ledger.safe_length < ledger.max_model_len:
            fix = f"{ledger.safe_length} fits in the worst case as well" if ledger.safe_length else "Watch the start"
            return Problem(self.spec.name, "engine.max_model_len", reason, fix, ledger.max_model_len, warning=True)
        reason += f": beside the engine's {ledger.budget / GIB:.2f} GiB, {-ledger.room.low / GIB:.2f} may be lacking"
        fix = f"{ledger.safe_utilization:.2f} leaves room in the worst case as well"
        return Problem(self.spec.name, "engine.gpu_memory_utilization", reason, fix, warning=True)

    def unplaced(self, one: Unplaced, by_host: t.Mapping[str, Offer]) -> Problem:
        """What keeps a replica from every host. One field and fix where all hosts agree, else those of the first."""
        host, first = next(iter(one.refusals.items()))
        reasons = "; ".join(f"on {name}: {refusal.field} {refusal.reason}" for name, refusal in one.refusals.items())
        if all(refusal.field == first.field for refusal in one.refusals.values()):
            reasons = "; ".join(f"on {name}: {refusal.reason}" for name, refusal in one.refusals.items())
        fix = fix_of(self._advice(by_host[host], *first.misfit)) if first.misfit else ""
        reason = f"{one.demand.server} has no place: {reasons}"
        return Problem(one.demand.model, first.field, reason, fix or first.fix, first.value)

    def render(self, one: Assignment, offer: Offer) -> dict[str, t.Any]:
        """The server of this placement."""
        release, image = self._known(offer)
        gpus = [RenderedGpu(gpu.uuid, gpu.name, gpu.pci) for gpu in one.gpus]
        profile = self._subject.profile_on(offer)
        server = render_server(self.spec, one.demand.server, gpus, one.port, release, image, profile, offer.settings)
        if profile and one.ledger:
            device = device_of(offer, next(iter(one.gpus), None))
            server["expected_memory"] = self._subject.expected_memory(release, profile, device, one.ledger)
        return server

    def describe(self, one: Assignment, offer: Offer) -> dict[str, t.Any]:
        """What the plan's report shows of this placement."""
        release, image = self._known(offer)
        address = str(self.spec.listen.address)
        is_tight = one.ledger is not None and one.ledger.verdict == "tight"
        return {
            "server": one.demand.server,
            "model": self.spec.name,
            "host": one.host,
            "gpus": [{"index": gpu.index, "uuid": gpu.uuid, "name": gpu.name} for gpu in one.gpus],
            "listen": f"[{address}]:{one.port}" if ":" in address else f"{address}:{one.port}",
            "image": self.spec.image,
            "image_id": image["id"],
            "image_digest": image.get("digest"),
            "vllm": image["version"],
            "catalogue": release.version,
            "runs_already": one.demand.server in offer.servers,
            "ledger": one.ledger.as_data() if one.ledger else None,
            "memory_unknown": None if one.ledger else self._memory_unknown(offer),
            "advice": self._advice(offer, next(iter(one.gpus), None)).as_data() if is_tight else None,
        }

    def _known(self, offer: Offer) -> tuple[Release, t.Mapping[str, t.Any]]:
        """The release, and the image as this host has it: the same name may be another build on another host."""
        image = self._subject.image_on(offer)
        if self._release is None or image is None:
            raise ValueError(f"{self.spec.name} has problems and cannot be rendered")
        return self._release, image

    # ---- checks

    def _check_image(self, image: t.Mapping[str, t.Any], policy: Policy) -> None:
        self.problems.extend(check_image(self.spec, image, policy))
        if image["version"]:
            self._release = load(image["version"])
            self._validate(self._release, image["version"], policy.strict)

    def _validate(self, release: Release, version: str, strict: bool) -> None:
        """What no candidate host can do is a problem of the spec; what only some cannot is held against these."""
        same = [one for one in self._subject.offers if (self._subject.image_on(one) or {}).get("version") == version]
        shared, own = dataclasses.replace(self._subject, offers=tuple(same)).findings(release, strict)
        self.problems.extend(shared)
        for host, problems in own.items():
            self.problems.extend(
                dataclasses.replace(problem, reason=f"on {host}: {problem.reason}")
                for problem in problems
                if problem.warning
            )
            if error := next((problem for problem in problems if not problem.warning), None):
                self._against[host] = error

    def _check_model(self) -> None:
        spec = self.spec
        found = [(offer, profile) for offer in self._subject.offers if (profile := self._subject.profile_on(offer))]
        for offer, profile in found:
            for problem in profile["problems"]:
                self._add(
                    "model",
                    f"on {offer.host}: {problem['message']}",
                    "Mend the files",
                    spec.model,
                    problem["severity"] != "error",
                )
        if not found and self._subject.offers and (spec.is_path or spec.offline):
            reasons = "; ".join(f"on {offer.host}: {self._model_reason(offer)}" for offer in self._subject.offers)
            if spec.is_path:
                self._add("model", reasons, "Correct the path, or bring the model to the host", spec.model)
            else:
                self._add(
                    "model", f"offline is true, and {reasons}", "Pre-stage it, or set offline to false", spec.model
                )

    def _add(self, field: str, reason: str, fix: str, value: t.Any = None, warning: bool = False) -> None:
        self.problems.append(Problem(self.spec.name, field, reason, fix, value, warning))

    # ---- what hosts have

    def _image_reasons(self) -> str:
        return "; ".join(
            f"on {offer.host}: {(offer.images.get(self.spec.image) or {}).get('reason') or 'it was not inspected'}"
            for offer in self._subject.offers
        )

    def _device(self) -> str:
        if self._image is None:
            return "gpu"
        return "any" if self._image["stand_in"] else "cpu" if is_for_cpu(self._image) else "gpu"

    def _model_reason(self, offer: Offer) -> str:
        model = offer.models.get((self.spec.model, self.spec.revision), {})
        return model.get("reason") or "the model was not looked for"

    def _refusal(self, offer: Offer) -> Refusal | None:
        spec, image = self.spec, self._subject.image_on(offer)
        if image is None:
            return Refusal("image", spec.image, "is not there", "Bring it to this host")
        if self._image is not None and image["version"] != self._image["version"]:
            reason = f"holds vLLM {image['version']} there and {self._image['version']} elsewhere"
            return Refusal("image", spec.image, reason, "Bring the same build to all hosts, best by its digest")
        if against := self._against.get(offer.host):
            return Refusal(against.field, against.value, against.reason, against.fix)
        if self._subject.profile_on(offer) is None and (spec.offline or spec.is_path):
            return Refusal("model", spec.model, self._model_reason(offer), "Bring it to this host")
        if spec.offline:
            gaps = check_closure(spec, offer.sources, self._subject.profile_on(offer))
            if gaps:
                reasons = gaps[0].reason + "".join(f"; {gap.field} {gap.value}: {gap.reason}" for gap in gaps[1:])
                fix = "; ".join(dict.fromkeys(gap.fix for gap in gaps))
                return Refusal(gaps[0].field, gaps[0].value, f"offline is true, and {reasons}", fix)
        return None

    def _memory_unknown(self, offer: Offer) -> str | None:
        """Why the memory on this host cannot be computed, or None when it can."""
        try:
            shape_of(self._subject.profile_on(offer))
        except Unreadable as error:
            return str(error)
        return None

    def _advice(self, offer: Offer, gpu: Gpu | None) -> Advice:
        """What would make it fit, computed once for a kind of device; drivers differ in what they leave of one."""
        device = device_of(offer, gpu)
        kind = device.name, round(device.total / GIB, 1)
        count = sum(1 for one in self._subject.gpus_on(offer) if gpu and (one.name, round(one.total / GIB, 1)) == kind)
        if self._release is None:
            return Advice()
        if (*kind, count) not in self._ways:
            found = advice(self._subject, self._release, self._subject.profile_on(offer), device, count)
            self._ways[*kind, count] = found
        return self._ways[*kind, count]

    def _ledger(self, offer: Offer, gpu: Gpu | None) -> Ledger | None:
        """Computed once for each device and each state of the files that some host has."""
        profile = self._subject.profile_on(offer)
        if self._release is None or profile is None:
            return None
        if profile not in self._profiles:
            self._profiles.append(profile)
        key = self._profiles.index(profile), device_of(offer, gpu)
        if key not in self._ledgers:
            try:
                self._ledgers[key] = self._subject.ledger(self._release, profile, key[1])
            except Unreadable:
                self._ledgers[key] = None
        return self._ledgers[key]
