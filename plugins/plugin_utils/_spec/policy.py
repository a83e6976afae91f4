# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan accepts, beyond what models declare."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Policy:
    """strict: what would only be warned of in a declaration stops the plan.

    The others accept images that are refused otherwise.
    """

    strict: bool = False
    allow_floating_tags: bool = False
    allow_stand_in: bool = False
