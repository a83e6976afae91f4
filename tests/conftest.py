# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every kind of test shares."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Write the marker `optional` into the JUnit file, where tools/ci_check.py looks for it when a test was skipped."""
    for item in items:
        if item.get_closest_marker("optional") is not None:
            item.user_properties.append(("optional", "true"))
