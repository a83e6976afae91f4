# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What the Docker Engine's refusals mean for a person, and what to do about them. Pure.

The patterns follow the messages of Docker Engine 20.10.24, recorded from it, which 28 and 29 still give.
"""

from __future__ import annotations

import re
import typing as t

_REFUSALS: tuple[tuple[t.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), advice)
    for pattern, advice in (
        (
            r"could not select device driver",
            "The Engine of this host cannot give GPUs to containers. Install the NVIDIA Container Toolkit and restart "
            "the Engine, or set the host's GPU runtime to cdi where CDI specifications exist.",
        ),
        (
            r"port is already allocated|address already in use",
            "Something else listens there. Choose another listen.port, or end what listens (ss -ltnp names it).",
        ),
        (r"cannot assign requested address", "This host does not have that address. Correct listen.address."),
        (r"bind source path does not exist", "Create the path on this host, or correct it in the inventory."),
        (r"no space left on device", "Free some space on the disk of the Engine (docker system df)."),
        (r"is already in use by container", "Rename or remove that container, or give the model another name."),
    )
)


def explained(reason: str) -> str:
    """The Engine's words, followed by what to do where that is known."""
    return " ".join([reason.rstrip(".") + ".", *(advice for pattern, advice in _REFUSALS if pattern.search(reason))])
