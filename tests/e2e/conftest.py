# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real vLLM fills rows of the fault table too."""

from __future__ import annotations

from integration.faults.conftest import fault, pytest_runtest_makereport

__all__ = ["fault", "pytest_runtest_makereport"]
