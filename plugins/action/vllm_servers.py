# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the stages of the starts while the module runs on the host, and the cause when one fails."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.explain import explain_failures
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.job import Job, follow, run_module
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.progress import progress_line

# The module itself ends a start by evidence. A model that the engine fetches may take a day until it counts as stalled,
# and servers of one GPU start one after the other.
JOB = Job("gpufleet.vllm.vllm_servers", 7 * 24 * 3600, (0.3,), progress_line, each=True)


class ActionModule(ActionBase):
    """First asks the module what it would do. What takes time runs as a job on the host, so that it can be followed."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        foreseen = run_module(self, JOB, task_vars, check_mode=True)
        if foreseen.get("failed") or self._task.check_mode or not (foreseen.get("changed") or foreseen.get("pending")):
            result.update(foreseen)
            return result
        result.update(follow(self, JOB, task_vars))
        if result.get("failures"):
            result["msg"], result["diagnosis"] = explain_failures(result["msg"], result["failures"])
        return result
