# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What rehearsals of a fleet have on the host, and its removal: one that was killed leaves containers and secrets."""

from __future__ import annotations

import os
import shutil

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine, rehearsal_of

FOLDER = "rehearsal"


def is_left(engine: Engine, fleet: str, state_dir: str) -> bool:
    """Whether there is something. While the fleet's lock is held, no rehearsal runs."""
    return os.path.lexists(os.path.join(state_dir, FOLDER)) or bool(engine.fleet_containers(rehearsal_of(fleet)))


def clear(engine: Engine, fleet: str, state_dir: str) -> str | None:
    """Remove all of it; what could not be removed, in a sentence."""
    for inspect in engine.fleet_containers(rehearsal_of(fleet)):
        engine.remove(inspect["Id"])
    folder = os.path.join(state_dir, FOLDER)
    # Who may use the Docker Engine without being root cannot remove what the container's root has written.
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.lexists(folder):
        return None
    return (
        f"{folder}: what a rehearsal has left there, some of it as root, could not be removed, and the next one is "
        "refused while it is there. Remove it as root, and rehearse as root (become: true)."
    )
