# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The generations of the servers of this host as they are kept in the state folder, with the secrets that they need."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import generations
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.generations import Generation
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import LABEL_FLEET, ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store

# What a task says of a server that is not kept with a generation: its container tells it, or it concerns the plan.
_NOT_KEPT = ("entrypoint", "command", "env", "mounts", "tmpfs", "gpus", "image", "image_id", "expected_memory")


class History:
    """What the run that holds the host's lock does with generations; each server is one thread's at a time."""

    def __init__(self, store: Store, bound: int) -> None:
        """bound: generations of a server that are kept."""
        self._store = store
        self._bound = bound

    def of(self, server: str) -> list[Generation]:
        """The kept generations, the newest last."""
        return generations.read(self._store.read_generations(server))

    def fleet(self, server: str) -> str | None:
        """The fleet of its newest generation; None where none is kept."""
        kept = self.of(server)
        return kept[-1].spec.labels.get(LABEL_FLEET) if kept else None

    def became_ready(self, spec: ContainerSpec, server: t.Mapping[str, t.Any], result: t.Mapping[str, t.Any]) -> None:
        """A definition became ready. server: the element of the option `servers` of vllm_servers."""
        kept = {name: value for name, value in server.items() if name not in _NOT_KEPT}
        self._add(spec, kept, result)

    def adopt(self, spec: ContainerSpec) -> None:
        """Keep a definition that serves, where none is kept: it became ready before generations were."""
        if not self.of(spec.server):
            self._add(spec, {}, {"adopted": True})

    def rolled_back(self, server: str, number: int) -> None:
        """A rollback to the generation of this number became ready."""
        self._write(server, generations.rolled_back(self.of(server), number))

    def drop_secrets(self, server: str, present: t.Iterable[str | None]) -> None:
        """Remove this server's secret files but for those that a kept generation or a present container needs."""
        marks = generations.marks(self.of(server)) | {mark for mark in present if mark is not None}
        self._store.drop_secrets(server, marks)

    def _add(self, spec: ContainerSpec, server: t.Mapping[str, t.Any], result: t.Mapping[str, t.Any]) -> None:
        at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._write(spec.server, generations.added(self.of(spec.server), spec, at, server, result, self._bound))

    def _write(self, server: str, kept: generations.Generations) -> None:
        self._store.write_generations(server, generations.written(kept))
