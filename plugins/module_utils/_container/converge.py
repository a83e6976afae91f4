# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Bring the servers of one host to the wanted state: observe, decide, check, act, tell."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import preflight, rehearsed
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.address import endpoint_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import (
    PREVIOUS,
    RESTART_POLICY,
    Action,
    Observed,
    decide,
    decide_end,
    server_state,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.devices import device_problems
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.ending import end
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.fleet import observe
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.generations import (
    FORMER,
    Generation,
    current,
    listed,
    target,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.history import History
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.measured import keep
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import observed_image
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.order import (
    MAKE_WAY,
    MENDS,
    Step,
    beside,
    order,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.patient import PatientEngine, patiently
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.runtimes import amd_devices, read_runtimes
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.schedule import Skipped, carry_out
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.transaction import (
    NOT_ENDED,
    Outcome,
    Report,
    Start,
    not_ended,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import (
    NO_DEVICES,
    Image,
    container_user,
    secrets_mark,
    wanted_container,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError, Refused, StartFailed
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.host import host_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe.sick import find_sick
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.stages import Event

ROLLED_BACK = "rolled_back"
# Definitions of a server that are kept by default.
KEPT_GENERATIONS = 5

Server = t.Mapping[str, t.Any]


class Wish(t.NamedTuple):
    """What a task asks for on one host; the fields are the options of vllm_servers of the same names."""

    fleet: str
    servers: t.Sequence[Server]
    secrets: t.Mapping[str, t.Any]
    state: str
    prune: bool
    generation: str = FORMER
    keep_generations: int = KEPT_GENERATIONS
    heal: bool = True


class Converger:
    """One run on one host."""

    def __init__(self, wish: Wish, store: Store, report: Report) -> None:
        """report is called from several threads."""
        self._wish = wish
        self._secrets = _secret_texts(wish.secrets)
        self._store = store
        self._history = History(store, wish.keep_generations)
        # By server, of a rollback: where it goes.
        self._targets: dict[str, Generation] = {}
        self._report = report
        self._engine = PatientEngine(store)
        self._servers = {server["name"]: server for server in wish.servers}

    def run(self, check_mode: bool) -> dict[str, t.Any]:
        """The module's result.

        Raises Refused before anything is touched, StartFailed after what failed was put back.
        """
        wish = self._wish
        problems = list(preflight.name_problems([server["name"] for server in wish.servers], self._secrets))
        if wish.keep_generations < 1:
            problems.append(f"keep_generations is {wish.keep_generations}. Keep at least one, the present one.")
        problems.extend(self._engine.problems())
        if problems:
            raise _refused(problems)
        if check_mode:
            return self._run(check_mode=True)
        with self._store.locked(f"state {wish.state} of the fleet {wish.fleet}"):
            return self._run(check_mode=False)

    def _run(self, check_mode: bool) -> dict[str, t.Any]:
        observed = self._observe()
        actions, problems = self._decide(observed, check_mode)
        problems += preflight.problems(actions, observed, self._store, lambda name: self._is_foreign(name, observed))
        made = [action.after for action in actions if action.after and action.kind in ("create", "replace")]
        problems += device_problems(made, lambda: read_runtimes(self._engine), os.path.exists)
        if problems:
            refused = _refused(problems)
            if self._wish.state == ROLLED_BACK:
                refused.details["generations"] = {name: self._listed(name, observed) for name in self._servers}
            raise refused
        result: dict[str, t.Any] = {
            "changed": any(action.changes for action in actions),
            "pending": any(not action.changes for action in actions),
            "actions": [{"server": a.name, "action": a.kind, "because": list(a.because)} for a in actions if a.changes],
            "diff": _diff(actions, self._numbers(observed)),
            "notes": list(_other_builds(actions)),
        }
        try:
            if _ends(self._wish) and rehearsed.is_left(self._engine, self._wish.fleet, self._store.folder):
                left = None if check_mode else rehearsed.clear(self._engine, self._wish.fleet, self._store.folder)
                result["changed"] = result["changed"] or left is None
                result["notes"] += [left] if left else []
            outcomes, skipped = ([], {}) if check_mode else self._apply(actions, observed)
        except FleetError as error:
            error.details.update(result)
            raise
        ended = [one for outcome in outcomes for one in outcome.ended]
        result["ended"] = [dict(one._asdict(), notes=list(one.notes)) for one in ended]
        failed = [outcome.problem for outcome in outcomes if outcome.problem]
        told = {"failures": failed, "not_attempted": list(skipped)} if failed else {}
        try:
            if not check_mode:
                patiently(self._engine.forget_removed)
            result["unused_caches"] = patiently(self._unused_caches)
            result["servers"] = patiently(lambda: self._describe(outcomes)) if self._wish.state != "absent" else []
        except FleetError as error:
            # What was done is told though it can't be looked at.
            text = f"{_failure_text(failed, skipped)} {error}".strip()
            raise StartFailed(text, **told, **result) from error
        if failed:
            raise StartFailed(_failure_text(failed, skipped), **told, **result)
        return result

    # ---- observe and decide

    def _observe(self) -> dict[str, Observed]:
        found, down = {}, self._store.noted_down()
        for one in observe(self._engine, self._wish.fleet):
            found[one.spec.name] = one._replace(
                complete=self._store.has_secrets(one.spec),
                taken_down=one.spec.server in down,
                seen_ready=self._store.was_ready(one.spec.server, one.state.start),
            )
        return found

    def _decide(self, observed: t.Mapping[str, Observed], check_mode: bool) -> tuple[list[Action], list[str]]:
        """The actions, and what already speaks against them."""
        wish, kept = self._wish, self._kept_of_fleet()
        if wish.state in ("stopped", "absent"):
            return decide_end(list(self._servers), observed, wish.state, wish.prune, kept), []
        if wish.state == ROLLED_BACK:
            specs, problems = self._former()
            return self._decided(specs, observed, "started", False, (), problems), problems
        salt = self._store.salt(create=bool(self._secrets) and not check_mode)
        specs, problems = self._wanted(salt)
        return self._decided(specs, observed, wish.state, wish.prune, kept, problems), problems

    def _decided(
        self,
        specs: t.Sequence[ContainerSpec],
        observed: t.Mapping[str, Observed],
        state: str,
        prune: bool,
        kept: t.Iterable[str],
        problems: t.Sequence[str],
    ) -> list[Action]:
        """The actions. Servers that are as wanted are looked at closely, for a /health of 200 proves little."""
        actions = decide(specs, observed, state, prune, kept)
        if not self._wish.heal or state != "started" or problems:
            return actions
        acting = {action.name for action in actions if action.changes}
        running = [observed[spec.name] for spec in specs if spec.name in observed and spec.name not in acting]
        sick = find_sick(
            self._engine, running, self._api_key, lambda name, text: self._report(name, Event("ready", text))
        )
        return decide(specs, {**observed, **sick}, state, prune, kept) if sick else actions

    def _api_key(self, one: Observed) -> str | None:
        """The API key that the present container wants."""
        return self._store.read_secrets(one.spec.server, one.spec.secrets_mark).get("api_key")

    def _kept_of_fleet(self) -> list[str]:
        """The servers of which something is kept but for those of other fleets, which may share the state folder."""
        kept = self._store.servers()
        if not (kept and _ends(self._wish)):
            return kept
        others = self._engine.servers_of_others(self._wish.fleet)
        return [name for name in kept if name not in others and self._history.fleet(name) in (None, self._wish.fleet)]

    def _former(self) -> tuple[list[ContainerSpec], list[str]]:
        """The containers of the generations that a rollback goes to, and why it cannot."""
        specs, problems = [], []
        for name in self._servers:
            found = target(self._history.of(name), self._wish.generation)
            if isinstance(found, str):
                problems.append(f"{name}: {found}.")
                continue
            spec = dataclasses.replace(found.spec, name=name)
            tagged = self._engine.inspect_image(spec.image)
            if tagged is None or tagged["Id"] != spec.image_id:
                # The tag means another build now, or is gone; the image itself may still be there.
                spec = dataclasses.replace(spec, image=spec.image_id)
            if self._engine.inspect_image(spec.image) is None:
                problems.append(
                    f"{name}: this host does not have the image of generation {found.number} any more, {spec.image_id} "
                    f"(it was {found.spec.image}). Bring it back with docker pull or docker load, or name another "
                    "generation."
                )
            if not self._store.has_secrets(spec):
                problems.append(
                    f"{name}: the secret files of generation {found.number} are gone from {self._store.folder}. Deploy "
                    "what it is to be, or name another generation."
                )
            self._targets[name] = found
            specs.append(spec)
        return specs, problems

    def _wanted(self, salt: bytes) -> tuple[list[ContainerSpec], list[str]]:
        """The wanted containers, also of servers whose image is wrong, so that all that is wrong is found at once."""
        specs, problems = [], []
        for server in self._wish.servers:
            name, label = server["image"], server["model"] or server["name"]
            inspect = self._engine.inspect_image(name) if name else None
            if not name or server["listen"] is None:
                problems.append(f"{label}: image and listen are needed to run a server. Take servers from the plan.")
                continue
            if inspect is None:
                problems.append(
                    f"image of {label}: this host does not have {name}. Bring it with `docker pull {name}`, or `docker "
                    "load` when the host is offline."
                )
            elif server["image_id"] and server["image_id"] != inspect["Id"]:
                problems.append(
                    f"image of {label}: {name} is now {inspect['Id']} on this host, and the plan was made for "
                    f"{server['image_id']}: the same tag means another build. Plan again."
                )
            image = observed_image(inspect) if inspect else Image("", (), {}, {}, "")
            mark = secrets_mark(self._secrets_of(server), container_user(server, image), salt)
            folder = self._store.secrets_folder(server["name"], mark or "")
            gpus = server.get("gpus") or {}
            devices = amd_devices(gpus.get("pci") or ()) if gpus.get("runtime") == "amd" and gpus["ids"] else NO_DEVICES
            specs.append(wanted_container(server, image, self._wish.fleet, folder, mark, devices))
        return specs, problems

    def _secrets_of(self, server: Server) -> t.Mapping[str, str]:
        return self._secrets.get(server["model"], {})

    def _is_foreign(self, name: str, observed: t.Mapping[str, Observed]) -> bool:
        return name not in observed and self._engine.inspect(name) is not None

    # ---- act

    def _apply(
        self, actions: t.Sequence[Action], observed: t.Mapping[str, Observed]
    ) -> tuple[list[Outcome], dict[str, str]]:
        """How what was attempted came out, in the order of the actions, and what was not, each with why."""
        for one in observed.values():
            if one.taken_down and one.state.running and one.state.restart_policy == RESTART_POLICY:
                # It serves; the run that stopped it, or what it replaced, was cut off after that.
                self._store.note_up(one.spec.server)
        for action in actions:
            if action.kind in MENDS:
                self._mend(action)
        rest = [action for action in actions if action.kind not in MENDS]
        both = self._serving_on(rest)
        starts = {action.name: self._start(action, action.name in both) for action in rest if action.starts}

        def do(step: Step) -> Outcome:
            action = rest[step.place]
            if not action.starts:
                return self._end(action)
            start = starts[action.name]
            return start.make_way() if step.kind == MAKE_WAY else start.run()

        ended: dict[int, Outcome] = {}
        skipped: dict[int, str] = {}
        for step, result in carry_out(order(rest), do, lambda outcome: outcome.problem is not None):
            if isinstance(result, Skipped):
                skipped[step.place] = f"waits for what {rest[result.because.place].name} leaves or has"
            elif step.kind != MAKE_WAY or result.problem:
                # What it ended to make way is told with the rest of it.
                ended[step.place] = result
                keep(self._store.folder, [result.measurement] if result.measurement else [])
        for index in skipped:
            if rest[index].starts:
                how = starts[rest[index].name].take_back()
                skipped[index] += f", and was stopped for it: {how}" if how else ""
        return [ended[index] for index in sorted(ended)], {
            rest[index].name: skipped[index] for index in sorted(skipped)
        }

    def _kept(self) -> t.Container[str]:
        """The servers of which everything else is kept though one of their containers is removed."""
        return self._servers if self._wish.state != "absent" else ()

    def _mend(self, action: Action) -> None:
        """Names and files as they should be; takes no time."""
        engine, name, before = self._engine, action.name, action.before
        if action.kind == "forget":
            self._store.forget(name)
        elif before is not None and action.kind == "rename":
            engine.rename(before.name, name)
        elif action.kind == "put_back":
            engine.remove(name)
            engine.rename(name + PREVIOUS, name)

    def _end(self, action: Action) -> Outcome:
        """The actions that end a container. Each has one of its own, so they may run at the same time."""
        name = action.name + PREVIOUS if action.kind == "drop" else action.name
        ended = []
        try:
            if action.before is not None:
                one = end(self._engine, name, action.before, name)
                ended = [one] if one.exit_code is not None else []
                if action.kind != "stop":
                    self._engine.remove(name)
                if action.kind == "stop":
                    self._store.note_up(action.before.server)
                if action.kind == "remove" and action.before.server not in self._kept():
                    self._store.note_up(action.before.server)
                    self._store.forget(action.before.server)
        except FleetError as error:
            return Outcome(action.name, [], not_ended(action.name, str(error).rstrip(".")), ended=ended)
        return Outcome(action.name, [], ended=ended)

    def _serving_on(self, actions: t.Sequence[Action]) -> set[str]:
        """The servers whose present container serves until its replacement is ready."""
        found, free = set(), host_facts()["memory_available_bytes"]
        for action in actions:
            if action.kind == "replace" and action.served and beside(action.before, action.after, free):
                found.add(action.name)
                if free is not None and action.after is not None and action.after.gpus is None:
                    free -= action.after.memory_bytes
        return found

    def _start(self, action: Action, serves_on: bool) -> Start:
        server = self._servers[action.name]
        must_run = self._wish.state != "present" or action.served
        secrets, number = self._secrets_of(server), None
        former = self._targets.get(action.name)
        if former is not None and action.after is not None:
            address, port = action.after.listen
            server = {**server, **former.server, "listen": {"address": address, "port": port}}
            secrets, number = self._store.read_secrets(action.name, action.after.secrets_mark), former.number
        return Start(action, server, secrets, must_run, serves_on, number, self._store, self._history, self._report)

    # ---- tell

    def _unused_caches(self) -> list[str]:
        """Folders of compiled kernels that no container mounts, nor one to which a rollback could go."""
        used = self._engine.mounted()
        for server in {*self._servers, *self._store.servers()}:
            used.update(mount.source for one in self._history.of(server) for mount in one.spec.mounts)
        return [path for path in self._store.caches() if path not in used]

    def _describe(self, outcomes: t.Sequence[Outcome]) -> list[dict[str, t.Any]]:
        """The servers of the task as they are now."""
        started = {outcome.server: outcome for outcome in outcomes}
        observed = self._observe()
        described = []
        for name, server in self._servers.items():
            one = observed.get(name)
            described.append(
                {
                    "name": name,
                    "model": server["model"],
                    "state": server_state(one),
                    "url": endpoint_of(one.spec).url if one else None,
                    "container_id": one.state.id if one else None,
                    "started_at": one.state.started_at if one else None,
                    "timeline": started[name].timeline if name in started else [],
                    "memory": started[name].memory if name in started else None,
                    "generations": self._listed(name, observed),
                }
            )
        return described

    def _listed(self, name: str, observed: t.Mapping[str, Observed]) -> list[dict[str, t.Any]]:
        """The generations of a server as the result shows them."""
        present = observed.get(name)
        return listed(
            self._history.of(name),
            present.spec if present else None,
            lambda image: self._engine.inspect_image(image) is not None,
        )

    def _numbers(self, observed: t.Mapping[str, Observed]) -> dict[str, tuple[int | None, int]]:
        """By server, of a rollback: the number of its generation before and after."""
        found = {}
        for name, former in self._targets.items():
            present = observed.get(name)
            now = current(self._history.of(name), present.spec if present else None)
            found[name] = (now.number if now else None, former.number)
        return found


def _ends(wish: Wish) -> bool:
    """Whether what servers had is to go."""
    return wish.prune or wish.state == "absent"


def _secret_texts(secrets: t.Mapping[str, t.Any]) -> dict[str, dict[str, str]]:
    """The secrets as texts: what is written in YAML as a number is the text of that number. Values are never shown."""
    problems, texts = [], {}
    for model, values in secrets.items():
        if not isinstance(values, dict):
            problems.append(f"secrets of {model}: must map names to values. Write {{{model}: {{api_key: ...}}}}.")
            continue
        texts[model] = {str(name): str(value) for name, value in values.items() if value is not None}
        problems.extend(
            f"secrets of {model}: {name} must be one text. Write it as one, with quotes."
            for name, value in values.items()
            if isinstance(value, (dict, list, bool))
        )
    if problems:
        raise _refused(problems)
    return {model: values for model, values in texts.items() if values}


def _refused(problems: t.Sequence[str]) -> Refused:
    return Refused("Nothing was changed, for:\n- " + "\n- ".join(problems), problems=list(problems))


def _other_builds(actions: t.Iterable[Action]) -> t.Iterator[str]:
    """A sentence for each server that is replaced because the name of its image means another build than it runs."""
    for action in actions:
        before, after = action.before, action.after
        if action.kind != "replace" or before is None or after is None:
            continue
        if before.image == after.image and before.image_id != after.image_id:
            yield (
                f"{action.name}: {after.image} is another build on this host than that which runs, and replaces it. "
                "Where that is not wanted, declare a tag that does not move."
            )


def _failure_text(failed: t.Sequence[t.Mapping[str, t.Any]], skipped: t.Mapping[str, str]) -> str:
    parts = []
    for problem in failed:
        if problem["kind"] == NOT_ENDED:
            parts.append("{server} was not ended: {reason}.".format(**problem))
            continue
        parts.append("{server} did not become ready in the stage {stage}: {reason}.".format(**problem))
        if problem["restored"]:
            parts.append("{server}: {restored}.".format(**problem))
        if problem["log_file"]:
            parts.append("Its whole log is in {log_file} on the host.".format(**problem))
    if skipped:
        parts.append("Not attempted: {}.".format("; ".join(f"{name}, which {why}" for name, why in skipped.items())))
    return " ".join(parts)


def _diff(actions: t.Sequence[Action], numbers: t.Mapping[str, tuple[int | None, int]]) -> dict[str, t.Any]:
    """Ansible's before and after: the whole container of each server that changes, by property.

    numbers: of a rollback, the numbers of the generations before and after by server.
    """
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    for action in actions:
        name = action.name
        if action.kind in ("create", "replace", "remove"):
            before[name] = _shown(action.before, None)
            after[name] = _shown(action.after, action.before)
            if name in numbers:
                before[name] = {"generation": numbers[name][0], **(before[name] or {})}
                after[name] = {"generation": numbers[name][1], **(after[name] or {})}
        elif action.kind in ("put_back", "drop"):
            before[name + PREVIOUS] = "kept from a replacement that was cut off"
            after[name + PREVIOUS] = None
        elif action.kind == "forget":
            before[name], after[name] = {"kept": "secrets and generations"}, {"kept": None}
        elif action.kind == "rename":
            before[name], after[name] = {"name": action.before.name if action.before else None}, {"name": name}
        elif action.changes:
            before[name] = {"state": action.because[0]}
            after[name] = {"state": "stopped" if action.kind == "stop" else "ready"}
    return {"before": before, "after": after} if before or after else {}


def _shown(spec: ContainerSpec | None, other: ContainerSpec | None) -> dict[str, t.Any] | None:
    """A container in a diff.

    Of its secrets only: whether there are some, and whether they differ from those of the other one.
    """
    if spec is None:
        return None
    data = spec.as_diff()
    if spec.secrets_mark is None:
        data["secrets"] = None
    elif other is not None and other.secrets_mark is not None and other.secrets_mark != spec.secrets_mark:
        data["secrets"] = "other values"
    else:
        data["secrets"] = "there"
    return data
