# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare two releases for all models on the controller."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._controller import lacking

ARGUMENTS = {
    # Models are checked by the library, so that all problems come at once; a wrong type here would be the only one.
    "models": {"type": "raw", "required": True},
    "release": {"type": "str", "required": True},
    "current": {"type": "str"},
    "inspections": {"type": "dict"},
    "strict": {"type": "bool", "default": False},
    "show": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """Read the arguments, ask the upgrader, show what it found."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _checked, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.upgrade import upgrade_text
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Invalid
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._upgrader import check_upgrade
        except ImportError as error:
            raise AnsibleActionFail(lacking(error)) from error
        try:
            found = check_upgrade(args["models"], args["release"], args["current"], args["inspections"])
        except Invalid as error:
            result.update(failed=True, msg=str(error), problems=[dataclasses.asdict(one) for one in error.problems])
            return result
        text = upgrade_text(found)
        if args["show"]:
            self._display.display("\n".join(text))
        result.update(found, text=text, changed=False)
        if args["strict"] and not found["upgradable"]:
            result.update(failed=True, msg="\n".join(text))
        return result
