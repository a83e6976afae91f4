# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say on the controller what models take of GPUs, and what would make them fit."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._controller import lacking

ARGUMENTS = {
    # Models and devices are checked by the library, so that all problems come at once.
    "models": {"type": "raw", "required": True},
    "inspections": {"type": "dict"},
    "devices": {"type": "raw"},
    "profiles": {"type": "raw"},
    "release": {"type": "str"},
    "dest": {"type": "path"},
    "strict": {"type": "bool", "default": False},
    "show": {"type": "bool", "default": True},
    "brief": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """Read the arguments, ask the fitter, show and write what it found."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _checked, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._fitter import failure, fit_models
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.files import write_files
            from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.memory import fit_files, fit_text
        except ImportError as error:
            raise AnsibleActionFail(lacking(error)) from error
        given = (args[name] for name in ("models", "inspections", "devices", "profiles", "release"))
        found = fit_models(*given)
        text = fit_text(found, args["brief"])
        if args["show"]:
            self._display.display("\n".join(text))
        result.update(found, text=text, changed=False)
        if args["dest"]:
            try:
                differences = write_files(args["dest"], fit_files(found), self._task.check_mode)
            except OSError as error:
                raise AnsibleActionFail(
                    f"The report cannot be written to {args['dest']} on the controller: {error}. Choose another dest."
                ) from error
            result.update(changed=bool(differences), diff=differences)
        if message := failure(found, args["strict"]):
            result.update(failed=True, msg=message)
        return result
