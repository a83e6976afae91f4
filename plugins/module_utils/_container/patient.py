# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The Docker Engine with the patience that its restart needs: a change that it did not answer is tried again.

A change that was cut off may have been made. Stopping, starting, removing and setting a policy twice is the same as
once; for the others it is looked at what is there.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import ContainerSpec
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineUnreachable

# Seconds for which the Engine may be away, and between two tries.
AWAY_SECONDS = 60
TRY_SECONDS = 0.5

Result = t.TypeVar("Result")


class PatientEngine(Engine):
    """An Engine whose changes survive that it is away for AWAY_SECONDS; what only looks does not wait."""

    def create(self, spec: ContainerSpec) -> str:
        def again() -> str:
            # Nobody else has the name: that was looked at before the first try.
            there = self.inspect(spec.name)
            return str(there["Id"]) if there is not None else super(PatientEngine, self).create(spec)

        return patiently(lambda: super(PatientEngine, self).create(spec), again)

    def rename(self, container: str, name: str) -> None:
        def again() -> None:
            renamed, present = self.inspect(name), self.inspect(container)
            # A container that is named by its ID is found under that after its renaming too.
            if renamed is None or (present is not None and present["Id"] != renamed["Id"]):
                super(PatientEngine, self).rename(container, name)

        patiently(lambda: super(PatientEngine, self).rename(container, name), again)

    def start(self, container: str) -> None:
        patiently(lambda: super(PatientEngine, self).start(container))

    def stop(self, container: str, seconds: int) -> None:
        patiently(lambda: super(PatientEngine, self).stop(container, seconds))

    def remove(self, container: str) -> None:
        patiently(lambda: super(PatientEngine, self).remove(container))

    def set_restart_policy(self, container: str, policy: str) -> None:
        patiently(lambda: super(PatientEngine, self).set_restart_policy(container, policy))


def patiently(first: t.Callable[[], Result], again: t.Callable[[], Result] | None = None) -> Result:
    """What the first call returns; where the Engine does not answer, what `again` (or the same) returns when it does.

    The call may take long before the Engine is away; the patience begins when it is.
    """
    until: float | None = None
    attempt = first
    while True:
        try:
            return attempt()
        except EngineUnreachable:
            until = until or time.monotonic() + AWAY_SECONDS
            if time.monotonic() > until:
                raise
        attempt = again or first
        time.sleep(TRY_SECONDS)
