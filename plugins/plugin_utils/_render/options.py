# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine options of a spec as arguments. Pure."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import render_option
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec


def option_arguments(spec: ModelSpec, release: Release) -> list[str]:
    """The arguments of all engine options, sorted by name so that equal specs give equal arguments.

    The options must have no problem.
    """
    return [
        argument for name in sorted(spec.engine) for argument in render_option(release.options[name], spec.engine[name])
    ]
