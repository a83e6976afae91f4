# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan the fleet on the controller."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._controller import lacking

ARGUMENTS = {
    # Models are checked by the planner, so that all problems come at once; a wrong type here would be the only one.
    "models": {"type": "raw", "required": True},
    "inspections": {"type": "dict", "required": True},
    "strict": {"type": "bool", "default": False},
    "allow_floating_tags": {"type": "bool", "default": False},
    "allow_stand_in": {"type": "bool", "default": False},
    "show": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """Read the arguments, ask the planner, show the plan."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _checked, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._planner import plan_fleet
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.plan import plan_text
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.policy import Policy
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Invalid
        except ImportError as error:
            raise AnsibleActionFail(lacking(error)) from error
        try:
            policy = Policy(args["strict"], args["allow_floating_tags"], args["allow_stand_in"])
            plan = plan_fleet(args["models"], args["inspections"], policy)
        except Invalid as error:
            result.update(failed=True, msg=str(error), problems=[dataclasses.asdict(one) for one in error.problems])
            return result
        text = plan_text(plan.placements, plan.removals)
        for warning in plan.warnings:
            self._display.warning(warning)
        if args["show"]:
            self._display.display("\n".join(text))
        result.update(dataclasses.asdict(plan), text=text, changed=False)
        return result
