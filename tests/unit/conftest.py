# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the unit tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How fast an example is made and runs depends on what else the machine does; speed is measured in benchmarks/. The
# examples are the same wherever and whenever the tests run, so a failure comes of a change and not of chance.
settings.register_profile(
    "any machine", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
