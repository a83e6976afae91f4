# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Bring the servers of one host to the wanted state: observe, decide, check, act, tell."""

from __future__ import annotations

import concurrent.futures
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import preflight
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.decide import (
    PREVIOUS,
    Action,
    Observed,
    decide,
    decide_end,
    server_state,
    waves,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.fleet import observe
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.measured import keep
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import observed_image
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.transaction import Outcome, Report, Start
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import (
    container_user,
    secrets_mark,
    wanted_container,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError, Refused, StartFailed
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint

Server = t.Mapping[str, t.Any]

# Containers that are stopped or removed at the same time.
_ENDS_AT_ONCE = 8


class Wish(t.NamedTuple):
    """What a task asks for on one host; the fields are the options of vllm_servers of the same names."""

    fleet: str
    servers: t.Sequence[Server]
    secrets: t.Mapping[str, t.Any]
    state: str
    prune: bool


class Converger:
    """One run on one host."""

    def __init__(self, wish: Wish, store: Store, report: Report) -> None:
        """report is called from several threads."""
        self._wish = wish
        self._secrets = _secret_texts(wish.secrets)
        self._store = store
        self._report = report
        self._engine = Engine()
        self._servers = {server["name"]: server for server in wish.servers}

    def run(self, check_mode: bool) -> dict[str, t.Any]:
        """The module's result.

        Raises Refused before anything is touched, StartFailed after what failed was put back.
        """
        problems = list(preflight.name_problems([server["name"] for server in self._wish.servers], self._secrets))
        if problems:
            raise _refused(problems)
        if check_mode:
            return self._run(check_mode=True)
        with self._store.locked():
            return self._run(check_mode=False)

    def _run(self, check_mode: bool) -> dict[str, t.Any]:
        observed = self._observe()
        actions = self._decide(observed, check_mode)
        problems = preflight.problems(actions, observed, self._store, lambda name: self._is_foreign(name, observed))
        if problems:
            raise _refused(problems)
        result = {
            "changed": any(action.changes for action in actions),
            "pending": any(not action.changes for action in actions),
            "actions": [{"server": a.name, "action": a.kind, "because": list(a.because)} for a in actions if a.changes],
            "diff": _diff(actions),
        }
        try:
            outcomes = [] if check_mode else self._apply(actions)
        except FleetError as error:
            error.details.update(result)
            raise
        result["servers"] = self._describe(outcomes) if self._wish.state != "absent" else []
        failed = [outcome.problem for outcome in outcomes if outcome.problem]
        if failed:
            done = {outcome.server for outcome in outcomes}
            waiting = [action.name for action in actions if action.starts and action.name not in done]
            raise StartFailed(_failure_text(failed, waiting), failures=failed, not_attempted=waiting, **result)
        return result

    # ---- observe and decide

    def _observe(self) -> dict[str, Observed]:
        found = {}
        for one in observe(self._engine, self._wish.fleet):
            mark = one.spec.secrets_mark
            complete = mark is None or self._store.has_secrets(one.spec.server, mark)
            found[one.spec.name] = one._replace(complete=complete)
        return found

    def _decide(self, observed: t.Mapping[str, Observed], check_mode: bool) -> list[Action]:
        wish, with_secrets = self._wish, self._store.servers_with_secrets()
        if wish.state in ("stopped", "absent"):
            return decide_end(list(self._servers), observed, wish.state, wish.prune, with_secrets)
        salt = self._store.salt(create=bool(self._secrets) and not check_mode)
        return decide(self._wanted(salt), observed, wish.state, wish.prune, with_secrets)

    def _wanted(self, salt: bytes) -> list[ContainerSpec]:
        specs, problems = [], []
        for server in self._wish.servers:
            name, label = server["image"], server["model"] or server["name"]
            inspect = self._engine.inspect_image(name) if name else None
            if not name or server["listen"] is None:
                problems.append(f"{label}: image and listen are needed to run a server. Take servers from the plan.")
            elif inspect is None:
                problems.append(
                    f"image of {label}: this host does not have {name}. Bring it with `docker pull {name}`, or `docker "
                    "load` when the host is offline."
                )
            elif server["image_id"] and server["image_id"] != inspect["Id"]:
                problems.append(
                    f"image of {label}: {name} is now {inspect['Id']} on this host, and the plan was made for "
                    f"{server['image_id']}. Plan again."
                )
            else:
                image = observed_image(inspect)
                mark = secrets_mark(self._secrets_of(server), container_user(server, image), salt)
                folder = self._store.secrets_folder(server["name"], mark or "")
                specs.append(wanted_container(server, image, self._wish.fleet, folder, mark))
        if problems:
            raise _refused(problems)
        return specs

    def _secrets_of(self, server: Server) -> t.Mapping[str, str]:
        return self._secrets.get(server["model"], {})

    def _is_foreign(self, name: str, observed: t.Mapping[str, Observed]) -> bool:
        return name not in observed and self._engine.inspect(name) is not None

    # ---- act

    def _apply(self, actions: t.Sequence[Action]) -> list[Outcome]:
        ends = [action for action in actions if not action.starts]
        with concurrent.futures.ThreadPoolExecutor(max_workers=_ENDS_AT_ONCE) as pool:
            list(pool.map(self._end, ends))
        for action in ends:
            if action.kind == "forget":
                self._store.drop_secrets(action.name, None)
            elif action.kind == "remove" and action.before is not None and action.before.server not in self._kept():
                self._store.drop_secrets(action.before.server, None)
        outcomes: list[Outcome] = []
        for wave in waves([action for action in actions if action.starts]):
            starts = [self._start(action) for action in wave]
            with concurrent.futures.ThreadPoolExecutor(max_workers=len(starts)) as pool:
                ended = list(pool.map(Start.run, starts))
            outcomes.extend(ended)
            keep(self._store.folder, [outcome.measurement for outcome in ended if outcome.measurement])
            if any(outcome.problem for outcome in outcomes):
                break
        return outcomes

    def _kept(self) -> t.Container[str]:
        """The servers that keep their secrets though one of their containers is removed."""
        return self._servers if self._wish.state != "absent" else ()

    def _end(self, action: Action) -> None:
        """The actions that need no watching. Each is about containers of its own, so they may run at the same time."""
        engine, name, before = self._engine, action.name, action.before
        if before is None:
            return
        if action.kind == "rename":
            engine.rename(before.name, name)
        elif action.kind == "put_back":
            engine.remove(name)
            engine.rename(name + PREVIOUS, name)
        elif action.kind == "drop":
            engine.remove(name + PREVIOUS)
        else:
            engine.stop(name, before.stop_seconds)
            if action.kind == "remove":
                engine.remove(name)

    def _start(self, action: Action) -> Start:
        server = self._servers[action.name]
        must_run = self._wish.state != "present" or action.served
        return Start(action, server, self._secrets_of(server), must_run, self._store, self._report)

    # ---- tell

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
                    "url": endpoint.Server(*one.spec.listen).url if one else None,
                    "container_id": one.state.id if one else None,
                    "started_at": one.state.started_at if one else None,
                    "timeline": started[name].timeline if name in started else [],
                    "memory": started[name].memory if name in started else None,
                }
            )
        return described


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


def _failure_text(failed: t.Sequence[t.Mapping[str, t.Any]], waiting: t.Sequence[str]) -> str:
    parts = []
    for problem in failed:
        parts.append("{server} did not become ready in the stage {stage}: {reason}.".format(**problem))
        if problem["restored"]:
            parts.append("{server}: {restored}.".format(**problem))
        if problem["log_file"]:
            parts.append("Its whole log is in {log_file} on the host.".format(**problem))
    if waiting:
        parts.append(f"Not attempted after that: {', '.join(waiting)}.")
    return " ".join(parts)


def _diff(actions: t.Sequence[Action]) -> dict[str, t.Any]:
    """Ansible's before and after: the whole container of each server that changes, by property."""
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    for action in actions:
        name = action.name
        if action.kind in ("create", "replace", "remove"):
            before[name] = _shown(action.before, None)
            after[name] = _shown(action.after, action.before)
        elif action.kind in ("put_back", "drop"):
            before[name + PREVIOUS] = "kept from a replacement that was cut off"
            after[name + PREVIOUS] = None
        elif action.kind == "forget":
            before[name], after[name] = {"secrets": "there"}, {"secrets": None}
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
