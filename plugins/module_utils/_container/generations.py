# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The definitions of a server that became ready: which are kept, which is the former, how they are written. Pure.

The newest generation is the one that was deployed last. A rollback adds none: it marks those after its target as left,
so that the next definition that becomes ready does not find a bad one as its former, and so that rolling back to the
former one twice is the same as once.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import spec as types
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec, differences

# The word for the newest generation before the one that was deployed last.
FORMER = "previous"


class Generation(t.NamedTuple):
    """A definition that became ready.

    number: counted for each server from 1 on; at: UTC, RFC 3339; server: what the task said of the server beside its
    container (how it is watched), empty where that is not known; result: how its start came out; left: it was rolled
    back from.
    """

    number: int
    at: str
    spec: ContainerSpec
    server: t.Mapping[str, t.Any]
    result: t.Mapping[str, t.Any]
    left: bool = False


Generations = t.Sequence[Generation]


def added(
    kept: Generations,
    spec: ContainerSpec,
    at: str,
    server: t.Mapping[str, t.Any],
    result: t.Mapping[str, t.Any],
    bound: int,
) -> list[Generation]:
    """The generations after this definition became ready, at most bound of them.

    The definition that is the newest already stays what it is; one that was kept before becomes the newest.
    """
    newest = kept[-1] if kept else None
    if newest and not newest.left and not differences(newest.spec, spec):
        return [*kept[:-1], newest._replace(server=server or newest.server)][-bound:]
    others = [one for one in kept if differences(one.spec, spec)]
    number = newest.number + 1 if newest else 1
    return [*others, Generation(number, at, spec, server, result)][-bound:]


def rolled_back(kept: Generations, number: int) -> list[Generation]:
    """The generations after a rollback to the one of this number."""
    return [one._replace(left=one.number > number or (one.left and one.number != number)) for one in kept]


def target(kept: Generations, which: str) -> Generation | str:
    """The generation that a rollback goes to, or why there is none. which: FORMER or a number."""
    if not kept:
        return (
            "no generation of it is kept on this host. One is kept each time that it becomes ready; deploy what it is "
            "to be"
        )
    numbers = ", ".join(str(one.number) for one in kept)
    if which == FORMER:
        found = next((one for one in reversed(kept[:-1]) if not one.left), None)
        return found or (
            f"there is no generation before {kept[-1].number}, which was deployed last (kept: {numbers}). Deploy what "
            "it is to be"
        )
    if not which.isdigit():
        return f"generation is {which!r}. Write {FORMER}, or one of the numbers {numbers}"
    named = next((one for one in kept if one.number == int(which)), None)
    return named or f"there is no generation {which}; kept are {numbers}. Name one of these"


def current(kept: Generations, present: ContainerSpec | None) -> Generation | None:
    """The generation that the present container is of."""
    if present is None:
        return None
    return next((one for one in reversed(kept) if not differences(one.spec, present)), None)


def listed(
    kept: Generations, present: ContainerSpec | None, has_image: t.Callable[[str], bool]
) -> list[dict[str, t.Any]]:
    """The generations as a result shows them, the newest first; differs: what the present container has otherwise."""
    now = current(kept, present)
    return [
        {
            "number": one.number,
            "at": one.at,
            "image": one.spec.image,
            "image_id": one.spec.image_id,
            "image_found": has_image(one.spec.image_id),
            "current": one is now,
            "rolled_back": one.left,
            "differs": differences(one.spec, present) if present is not None else [],
            "result": dict(one.result),
        }
        for one in reversed(kept)
    ]


def marks(kept: Generations) -> set[str]:
    """The marks of the secrets that the generations need."""
    return {one.spec.secrets_mark for one in kept if one.spec.secrets_mark is not None}


def written(kept: Generations) -> list[dict[str, t.Any]]:
    """The generations as plain JSON data."""
    return [{**one._asdict(), "spec": _packed(one.spec)} for one in kept]


def read(data: t.Any) -> list[Generation]:
    """The generations of such data; what is of another form, or has other fields than containers now, is left out."""
    found = []
    for entry in data if isinstance(data, list) else ():
        try:
            one = Generation(**{**entry, "spec": _unpacked(entry["spec"])})
        except (TypeError, KeyError, AttributeError):
            continue
        if isinstance(one.spec, ContainerSpec) and isinstance(one.number, int):
            found.append(one)
    return sorted(found, key=lambda one: one.number)


def _packed(value: t.Any) -> t.Any:
    if dataclasses.is_dataclass(value):
        fields = {field.name: _packed(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"is": type(value).__name__, "fields": fields}
    if isinstance(value, (list, tuple)):
        return [_packed(one) for one in value]
    return dict(value) if isinstance(value, t.Mapping) else value


def _unpacked(value: t.Any) -> t.Any:
    if isinstance(value, list):
        return tuple(_unpacked(one) for one in value)
    # The values of a plain mapping are texts and lists, so "fields" tells the two apart.
    if isinstance(value, dict) and isinstance(value.get("fields"), dict):
        kind = getattr(types, value["is"])
        return kind(**{name: _unpacked(one) for name, one in value["fields"].items()})
    return {name: _unpacked(one) for name, one in value.items()} if isinstance(value, dict) else value
