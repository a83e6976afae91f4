# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that work on the controller take of the fleet."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation fragments."""

    DOCUMENTATION = r"""
options:
  models:
    description: The models; see the collection's option reference for what each may hold.
    type: list
    elements: dict
    required: true
  inspections:
    description:
      - For each host what the role P(gpufleet.vllm.host#role) has inspected there (C(vllm_inspection)).
    type: dict
requirements:
  - pydantic >= 2.10 on the controller
"""
