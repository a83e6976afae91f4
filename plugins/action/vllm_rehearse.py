# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearse on the host, and name the cause of each start that failed."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.explain import explain_failures


class ActionModule(ActionBase):
    """The module does the work; the signatures of failures are the controller's."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        result.update(self._execute_module("gpufleet.vllm.vllm_rehearse", dict(self._task.args), task_vars=task_vars))
        if result.get("failures"):
            result["msg"], result["diagnosis"] = explain_failures(result["msg"], result["failures"])
        return result
