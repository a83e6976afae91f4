# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What is known of containers and log files when something is wrong with them. Reads only."""

from __future__ import annotations

import functools
import json
import os
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.address import endpoint_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.arguments import options
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.observed import (
    environment,
    observed_container,
    observed_state,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import LABEL_SECRETS, LABEL_SERVER
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint
from ansible_collections.gpufleet.vllm.plugins.module_utils._redact import Redactor

# Names of variables and arguments whose values are hidden wherever they are found; shorter values say nothing.
_SECRET = re.compile(r"(?:TOKEN|KEY|SECRET|PASS(?:WORD|WD|PHRASE)?|CREDENTIALS?)S?$", re.IGNORECASE)
_LEAST_CHARACTERS = 6
# Bytes that are read of a file at once.
_PIECE_BYTES = 1 << 16


class Source(t.NamedTuple):
    """One log and what is known of its container.

    subject: the server that it is of; pieces: gives its bytes anew; inspect: the Engine's answer, None for a file.
    """

    name: str
    subject: str
    pieces: t.Callable[[], t.Iterable[bytes]]
    inspect: dict[str, t.Any] | None


def sources(engine: Engine | None, params: t.Mapping[str, t.Any]) -> list[Source]:
    """What the module was asked to look at. Raises Refused where something of it is not there."""
    found: list[Source] = []
    if engine is not None:
        found += containers(engine, params["containers"])
        if params["servers"] or not (params["containers"] or params["logs"]):
            found += servers(engine, params["fleet"], params["servers"])
    return found + files(params["logs"])


def containers(engine: Engine, names: t.Sequence[str]) -> list[Source]:
    """Containers by name or ID, of this collection or not. Raises Refused with all that are not there."""
    found = [(name, engine.inspect(name)) for name in names]
    missing = [name for name, inspect in found if inspect is None]
    if missing:
        raise Refused(
            "There is no container {} on this host. Nothing was written; docker ps --all lists those that are.".format(
                ", ".join(missing)
            )
        )
    return [_of_container(engine, inspect) for _name, inspect in found if inspect is not None]


def servers(engine: Engine, fleet: str, names: t.Sequence[str]) -> list[Source]:
    """All containers of these servers of a fleet, of every server without names. Raises Refused for unknown ones."""
    found = [_of_container(engine, inspect) for inspect in engine.fleet_containers(fleet)]
    missing = sorted(set(names) - {source.subject for source in found})
    if missing:
        raise Refused(
            "The fleet {} has no server {} on this host; it has {}. Nothing was written.".format(
                fleet, ", ".join(missing), ", ".join(sorted({source.subject for source in found})) or "none"
            )
        )
    return sorted((one for one in found if not names or one.subject in names), key=lambda one: (one.subject, one.name))


def files(paths: t.Sequence[str]) -> list[Source]:
    """Log files of this host. Raises Refused with all that cannot be read."""
    unreadable = [path for path in paths if not os.access(path, os.R_OK) or os.path.isdir(path)]
    if unreadable:
        raise Refused(
            "These are no files that can be read on this host: {}. Nothing was written.".format(", ".join(unreadable))
        )
    return [Source(path, path, functools.partial(_read, path), None) for path in paths]


def facts_of(source: Source) -> dict[str, t.Any]:
    """What a diagnosis asks of the container: its state, how it ended, and the options that it was started with."""
    if source.inspect is None:
        return {}
    state = observed_state(source.inspect)
    ended = state.status in ("exited", "dead")
    return {
        "status": state.status,
        "exit_code": state.exit_code if ended else None,
        "oom_killed": state.oom_killed,
        "restarts": state.restart_count,
        "image": str((source.inspect.get("Config") or {}).get("Image") or ""),
        "engine": options([*(source.inspect.get("Args") or ())]),
    }


def secret_values(sources: t.Sequence[Source], state_dir: str) -> list[str]:
    """The secrets of these containers: of their environment and arguments, and those that are kept for them."""
    store = Store(state_dir)
    values = []
    for source in sources:
        config = (source.inspect or {}).get("Config") or {}
        values += [value for name, value in environment(config.get("Env")).items() if _SECRET.search(name)]
        values += _secret_arguments([*((source.inspect or {}).get("Args") or ())])
        labels = config.get("Labels") or {}
        if LABEL_SECRETS in labels:
            values += store.read_secrets(labels.get(LABEL_SERVER, source.name), labels[LABEL_SECRETS]).values()
    return [value for value in values if len(value) >= _LEAST_CHARACTERS]


def inspection(source: Source, redactor: Redactor) -> str:
    """The Engine's answer as text without secrets."""
    inspect = dict(source.inspect or {})
    for part, key in ((inspect, "Args"), (inspect.get("Config") or {}, "Cmd"), (inspect.get("Config") or {}, "Env")):
        if part.get(key):
            part[key] = [_without_secret(str(one)) for one in part[key]]
    return json.dumps(redactor.data(inspect), indent=1, sort_keys=True)


def metrics(source: Source, redactor: Redactor) -> str | None:
    """The metrics of a server that answers; None of any other."""
    if source.inspect is None or LABEL_SERVER not in ((source.inspect.get("Config") or {}).get("Labels") or {}):
        return None
    if observed_state(source.inspect).status != "running":
        return None
    answer = endpoint.get(endpoint_of(observed_container(source.inspect, None)), "/metrics")
    return redactor.text(answer.body) if answer.status == 200 else None


def _of_container(engine: Engine, inspect: dict[str, t.Any]) -> Source:
    name, config = str(inspect["Name"]).lstrip("/"), inspect.get("Config") or {}
    labels = config.get("Labels") or {}
    pieces = functools.partial(engine.whole_log, str(inspect["Id"]), not config.get("Tty"))
    return Source(name, labels.get(LABEL_SERVER, name), pieces, inspect)


def _read(path: str) -> t.Iterator[bytes]:
    with open(path, "rb") as handle:
        yield from iter(lambda: handle.read(_PIECE_BYTES), b"")


def _secret_arguments(arguments: t.Sequence[str]) -> list[str]:
    """All values of options whose names tell of a secret; --api-key takes several since
    vLLM 0.10.1 (nargs of the catalogue, plugin_utils/data/catalogue/options.json)."""
    values, name = [], ""
    for argument in arguments:
        if argument.startswith("--"):
            name, _sign, value = argument[2:].partition("=")
        else:
            value = argument
        if _SECRET.search(name):
            values.append(value)
    return values


def _without_secret(entry: str) -> str:
    """A variable or an argument of the form NAME=value, without the value of a secret."""
    name, sign, value = entry.partition("=")
    return name + "=********" if sign and value and _SECRET.search(name) else entry
