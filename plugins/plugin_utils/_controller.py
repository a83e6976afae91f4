# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller's plugins say where their Python lacks what the library needs. Pure."""

from __future__ import annotations


def lacking(error: ImportError) -> str:
    """The refusal of a controller whose Python has not what was to be imported."""
    return (
        f"The controller's Python lacks {error.name}, which this needs. Install the collection's "
        "meta/ee-requirements.txt into the environment of ansible-playbook, or use an execution environment."
    )
