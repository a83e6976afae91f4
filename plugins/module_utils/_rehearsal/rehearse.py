# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Start one server of each model without network, beside the fleet, and say what it asked for. Leaves nothing."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import leaving, preflight, rehearsed
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.address import endpoint_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.arguments import options
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import Action
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.devices import device_problems
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.ending import end
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine, rehearsal_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import (
    ContainerState,
    observed_container,
    observed_image,
    observed_state,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.runtimes import amd_devices, read_runtimes
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import LABEL_FLEET, ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import (
    NO_DEVICES,
    container_user,
    secrets_mark,
    wanted_container,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineUnreachable, FleetError, Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.host import process_name
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.usage import others, usage
from ansible_collections.gpufleet.vllm.plugins.module_utils._redact import Redactor
from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal.attempts import Moment, attempts, sentence
from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal.stage import Stage
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.follow import Expected, follow
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.stages import Event
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.watch import Failure, Watch

SUFFIX = ".rehearsal"
# Seconds from SIGTERM to SIGKILL at the end: it serves nobody.
END_SECONDS = 10
# Seconds without progress at most. The plan gives an engine that is to fetch its model a day; here it fetches nothing.
STALL_SECONDS = 2400
REPORTED_LINES = 60
# Variables that name an address or interface of the host, and what is there instead.
_PLACES = {
    "VLLM_HOST_IP": "127.0.0.1",
    "NCCL_SOCKET_IFNAME": "lo",
    "GLOO_SOCKET_IFNAME": "lo",
    "TP_SOCKET_IFNAME": "lo",
}
_NEEDED = ("name", "model", "image", "command", "env", "mounts", "listen", "probe", "stall_seconds")

Server = t.Mapping[str, t.Any]


class NotClean(FleetError):
    """A server did not start without network, or asked for something."""


class Wish(t.NamedTuple):
    """What a task asks for; the fields are the options of vllm_rehearse of the same names."""

    servers: t.Sequence[Server]
    secrets: t.Mapping[str, t.Any]
    only: t.Sequence[str]
    listen_seconds: int
    fleet: str


class Rehearsal:
    """The rehearsals of one host, one after the other."""

    def __init__(self, wish: Wish, store: Store) -> None:
        """store: the fleet's on this host."""
        self._wish, self._store = wish, store
        self._own = Store(os.path.join(store.folder, rehearsed.FOLDER))
        self._fleet = rehearsal_of(wish.fleet)
        self._engine = Engine()

    def run(self, check_mode: bool) -> dict[str, t.Any]:
        """The module's result. Raises Refused before anything is started, NotClean after everything is gone again."""
        chosen = self._chosen()
        planned = [{"server": server["name"], "model": server["model"]} for server in chosen]
        if check_mode:
            self._specs(chosen, check_mode=True)
            names = ", ".join(server["name"] for server in chosen) or "nothing"
            result: dict[str, t.Any] = {"changed": False, "planned": planned, "rehearsals": []}
            return {**result, "failures": [], "notes": [], "msg": f"To be rehearsed: {names}."}
        with self._store.locked(f"rehearsal of the fleet {self._wish.fleet}"):
            left = rehearsed.clear(self._engine, self._wish.fleet, self._store.folder)
            if left is not None:
                # Nor is it to be taken for what this one has written: a new host has no compiled kernels.
                raise _refused([left])
            try:
                os.makedirs(self._own.folder, mode=0o700)
                specs = self._specs(chosen, check_mode=False)
                outcomes = [self._one(server, spec) for server, spec in zip(chosen, specs)]
            finally:
                left = rehearsed.clear(self._engine, self._wish.fleet, self._store.folder)
        result = {
            "changed": False,
            "planned": planned,
            "rehearsals": [
                {key: one[key] for key in one if key not in ("failure", "notes", "seen")} for one in outcomes
            ],
            "failures": [one["failure"] for one in outcomes if one["failure"]],
            "notes": [note for one in outcomes for note in one["notes"]] + ([left] if left else []),
        }
        text = "\n".join(line for one in outcomes for line in _words(one))
        if any(one["verdict"] != "clean" for one in outcomes):
            raise NotClean(text, **result)
        return {**result, "msg": text or "There is nothing to rehearse on this host."}

    def _chosen(self) -> list[Server]:
        """The first server of each model that is asked for: those of one model differ in their GPUs and ports alone."""
        first: dict[str, Server] = {}
        problems = []
        for server in self._wish.servers:
            lacking = [key for key in _NEEDED if server.get(key) is None]
            if lacking:
                problems.append(f"servers: one lacks {', '.join(lacking)}. Take them from the plan.")
                continue
            if not self._wish.only or {server["name"], server["model"]} & set(self._wish.only):
                first.setdefault(server["model"] or server["name"], server)
        known = {server.get(key) for server in self._wish.servers for key in ("name", "model")} - {None, ""}
        problems += [
            f"only: {name} is no server or model of this host. It has {', '.join(sorted(map(str, known))) or 'none'}."
            for name in self._wish.only
            if name not in known
        ]
        if problems:
            raise _refused(problems)
        return list(first.values())

    # ---- what could not work

    def _specs(self, chosen: t.Sequence[Server], check_mode: bool) -> list[ContainerSpec]:
        """The containers, before they have a network. Raises Refused with all that speaks against them."""
        names = [server["name"] for server in chosen]
        problems = list(preflight.name_problems(names, {model: dict(of) for model, of in self._secrets().items()}))
        if self._engine.podman is not None:
            problems.append(
                "engine of this host: it is Podman, with which rehearsals have not been tried. Rehearse on a host with "
                "the Docker Engine."
            )
        specs = []
        # Secrets are written where this rehearsal alone reads them, with a key of its own.
        salt = self._own.salt(create=not check_mode and any(self._secrets().values()))
        for server in chosen:
            found = self._engine.inspect_image(server["image"])
            if found is None:
                problems.append(
                    f"image of {server['name']}: this host does not have {server['image']}. Load it (docker load, or "
                    "the playbook load)."
                )
                continue
            if server.get("image_id") and server["image_id"] != found["Id"]:
                problems.append(
                    f"image of {server['name']}: {server['image']} is now {found['Id']} on this host, and the plan was "
                    f"made for {server['image_id']}. Plan again."
                )
            specs.append(self._spec(server, observed_image(found), salt))
        for spec in specs:
            problems += preflight.problems([Action("create", spec.name, after=spec)], {}, self._own, self._is_foreign)
            problems += self._gpu_problems(spec)
        problems += device_problems(specs, lambda: read_runtimes(self._engine), os.path.exists)
        if problems:
            raise _refused(problems)
        return specs

    def _secrets(self) -> dict[str, dict[str, str]]:
        return {
            model: {str(name): str(value) for name, value in dict(values).items() if value is not None}
            for model, values in self._wish.secrets.items()
        }

    def _spec(self, server: Server, image: t.Any, salt: bytes) -> ContainerSpec:
        """As the plan has it, but with empty folders for what engines keep on the host, and with no port there."""
        mark = secrets_mark(self._secrets().get(server["model"], {}), container_user(server, image), salt)
        gpus = server.get("gpus") or {}
        is_amd = gpus.get("runtime") == "amd" and gpus.get("ids")
        devices = amd_devices(gpus.get("pci") or ()) if is_amd else NO_DEVICES
        secrets_folder = self._own.secrets_folder(server["name"], mark or "")
        spec = wanted_container(server, image, self._fleet, secrets_folder, mark, devices)
        kernels = os.path.join(self._store.folder, "cache") + os.sep
        mounts = tuple(
            dataclasses.replace(mount, source=os.path.join(self._folder(server), str(number)))
            if mount.source.startswith(kernels)
            else mount
            for number, mount in enumerate(spec.mounts)
        )
        env = {name: _PLACES.get(name, value) for name, value in spec.env.items()}
        # The recorder's first process is theirs too, and takes care of those whose parents are gone.
        return dataclasses.replace(
            spec, name=server["name"] + SUFFIX, mounts=mounts, env=env, listen=("127.0.0.1", 0), init=False
        )

    def _folder(self, server: Server) -> str:
        return os.path.join(self._own.folder, server["name"])

    def _is_foreign(self, name: str) -> bool:
        there = self._engine.inspect(name)
        labels = (there or {}).get("Config", {}).get("Labels") or {}
        return there is not None and labels.get(LABEL_FLEET) != self._fleet

    def _gpu_problems(self, spec: ContainerSpec) -> t.Iterator[str]:
        """GPUs that somebody uses: two engines on one GPU would both fail, and one of them serves."""
        wanted = set(leaving.gpus(spec))
        if not wanted:
            return
        what = f"GPUs of {spec.server}: "
        advice = (
            "Rehearse where they are free (on the host on which the bundle was made, or before the deployment), or "
            "stop what uses them first."
        )
        taken: set[str] = set()
        for inspect in self._engine.fleet_containers(None):
            running = observed_container(inspect, None)
            if observed_state(inspect).running and running.labels.get(LABEL_FLEET) != self._fleet:
                shared = wanted & set(leaving.gpus(running))
                taken |= shared
                if shared:
                    yield f"{what}{running.name} runs on {', '.join(sorted(shared))}. {advice}"
        for uuid, used in sorted(usage(wanted - taken).items()):
            users = [f"{process_name(pid) or 'process'} ({pid})" for pid in sorted(used.processes or {})]
            if users:
                yield f"{what}{', '.join(users)} computes on {uuid}. {advice}"

    # ---- one server

    def _one(self, server: Server, spec: ContainerSpec) -> dict[str, t.Any]:
        """How the rehearsal of one server came out. What is refused to it costs the others nothing."""
        secrets = self._secrets().get(server["model"], {})
        redactor = Redactor(secrets.values())
        watch = Watch(spec.server, min(float(server["stall_seconds"]), STALL_SECONDS), time.monotonic())
        try:
            return self._rehearsed(server, spec, secrets, redactor, watch)
        except FleetError as error:
            if isinstance(error, EngineUnreachable):
                # One answer that did not come in time is no Engine that is gone; one that is gone raises here.
                self._engine.version()
            failure = Failure("refused", str(error).rstrip("."))
            problem = self._described(server, spec, watch, failure, None, redactor)
            problem["log"] = problem["log"] or [redactor.text(line) for line in error.details.get("log", ())]
        return {
            "server": server["name"],
            "model": server["model"],
            "verdict": "not_started",
            "started": False,
            "seconds": watch.timeline[-1]["seconds"] if watch.timeline else None,
            "attempts": [],
            "failure": problem,
            "notes": [],
            "seen": False,
        }

    def _rehearsed(
        self, server: Server, spec: ContainerSpec, secrets: t.Mapping[str, str], redactor: Redactor, watch: Watch
    ) -> dict[str, t.Any]:
        notes: list[str] = []
        moments: list[Moment] = []
        self._own.make_own_mounts(spec)
        self._own.write_secrets(spec, secrets)
        with Stage(self._engine, spec, os.path.join(self._folder(server), "stage")) as stage:
            spec = dataclasses.replace(spec, network=stage.network, listen=stage.address)
            made = self._engine.create(spec)
            began = time.time()

            def note(event: Event) -> None:
                moments.append(Moment(round(time.time() - began, 1), event.stage, event.text))

            try:
                failure = self._follow(made, server, spec, watch, note, secrets)
                if failure is None:
                    # What it does in the background once it serves is asked for too.
                    time.sleep(max(0, self._wish.listen_seconds))
                problem = self._problem(made, server, spec, watch, failure, redactor)
                notes.extend(end(self._engine, made, spec, spec.server, END_SECONDS).notes)
                told = stage.told()
            finally:
                self._engine.remove(made)
        asked = redactor.data(attempts(told, began, moments, spec.env))
        return {
            "server": server["name"],
            "model": server["model"],
            "verdict": "asked" if asked else "clean" if problem is None else "not_started",
            "started": problem is None,
            "seconds": watch.timeline[-1]["seconds"] if watch.timeline else None,
            "attempts": asked,
            "failure": problem,
            "notes": notes,
            "seen": True,
        }

    def _follow(
        self,
        made: str,
        server: Server,
        spec: ContainerSpec,
        watch: Watch,
        report: t.Callable[[Event], None],
        secrets: t.Mapping[str, str],
    ) -> Failure | None:
        probe = server["probe"]
        names = tuple(probe.get("served_names") or ())
        expected = Expected(
            probe.get("kind") or "generate", names, probe.get("max_model_len"), tuple(probe.get("adapters") or ())
        )
        answers = endpoint_of(spec, secrets.get("api_key"))
        return follow(
            self._engine,
            made,
            answers,
            expected if names else None,
            watch,
            report,
            begin=lambda: self._engine.start(made),
        )

    def _problem(
        self,
        made: str,
        server: Server,
        spec: ContainerSpec,
        watch: Watch,
        failure: Failure | None,
        redactor: Redactor,
    ) -> dict[str, t.Any] | None:
        """The failure in the form of those of vllm_servers; None when there is none."""
        if failure is None:
            return None
        found = self._engine.inspect(made)
        state = observed_state(found) if found else None
        return self._described(server, spec, watch, failure, state, redactor)

    def _described(
        self,
        server: Server,
        spec: ContainerSpec,
        watch: Watch,
        failure: Failure,
        state: ContainerState | None,
        redactor: Redactor,
    ) -> dict[str, t.Any]:
        planned = ((server.get("expected_memory") or {}).get("key") or {}).get("same") or {}
        return {
            "server": server["name"],
            "kind": failure.kind,
            "reason": redactor.text(failure.reason),
            "stage": watch.stage,
            "exit_code": state.exit_code if state and failure.kind == "exited" else None,
            "oom_killed": bool(state and state.oom_killed),
            "log": [redactor.text(line) for line in watch.tail][-REPORTED_LINES:],
            "log_file": None,
            "restored": None,
            "release": watch.memory.version or planned.get("release"),
            "engine": redactor.data(options(spec.argv)),
            "gpu_processes": others(leaving.gpus(spec), state.id if state else "") if spec.gpus else [],
        }


def _words(one: t.Mapping[str, t.Any]) -> list[str]:
    """What a person reads of one rehearsal."""
    failure = one["failure"]
    if failure is not None:
        head = f"{one['server']}: does not start without network, in the stage {failure['stage']}: {failure['reason']}"
    else:
        head = f"{one['server']}: starts without network; {one['seconds']:.0f} seconds"
    if not one["seen"]:
        return [f"{head}. What it asks for was not seen."]
    if not one["attempts"]:
        return [f"{head}; nothing was asked for."]
    return [f"{head}. It", *(f"  - {sentence(attempt)}" for attempt in one["attempts"])]


def _refused(problems: t.Sequence[str]) -> Refused:
    return Refused("Nothing was rehearsed, for:\n- " + "\n- ".join(problems), problems=list(problems))
