# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate models on the controller."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._controller import lacking

ARGUMENTS = {
    # Models are checked by the library, so that all problems come at once; a wrong type here would be the only one.
    "models": {"type": "raw", "required": True},
    "release": {"type": "str"},
    "inspections": {"type": "dict"},
    "strict": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """Read the arguments, ask the validator."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _checked, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Invalid
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validator import validate_models
        except ImportError as error:
            raise AnsibleActionFail(lacking(error)) from error
        found = validate_models(args["models"], args["release"], args["inspections"], args["strict"])
        result.update(found.as_data(), changed=False)
        if found.errors:
            result.update(failed=True, msg=str(Invalid(found.errors)))
        for problem in found.problems:
            if problem.warning:
                self._display.warning(str(problem))
        return result
