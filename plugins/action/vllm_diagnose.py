# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge on the controller what the module has read on the host, and have it written down there."""

from __future__ import annotations

import base64
import os
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.explain import diagnose_all


class ActionModule(ActionBase):
    """Two calls of the module: one that only reads, and one that writes where that is wanted."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        read = self._execute_module("gpufleet.vllm.vllm_diagnose", {**args, "found": None}, task_vars=task_vars)
        if read.get("failed"):
            result.update(read)
            return result
        text, diagnosis = diagnose_all(read.pop("subjects"), args.get("release"))
        if read.get("archive") and not self._task.check_mode:
            found = {"archive": read["archive"], "text": text, "diagnosis": diagnosis}
            read = self._execute_module("gpufleet.vllm.vllm_diagnose", {**args, "found": found}, task_vars=task_vars)
            if not read.get("failed") and args.get("fetch_to"):
                read.update(self._fetch(read["archive"], args["fetch_to"], task_vars))
        result.update(read)
        result["diagnosis"] = diagnosis
        result["msg"] = f"{text}\n{read['msg']}" if read.get("msg") else text
        lines = [f"DIAGNOSIS on {(task_vars or {}).get('inventory_hostname')}", result["msg"]]
        lines += [f"{key}: {read[key]}" for key in ("archive", "fetched") if read.get(key)]
        self._display.display("\n".join(lines))
        return result

    def _fetch(self, archive: str, folder: str, task_vars: t.Any) -> dict[str, t.Any]:
        """Copy the archive to the controller. slurp reads it as the task's user, who may not be the login's."""
        got = self._execute_module("ansible.legacy.slurp", {"src": archive}, task_vars=task_vars)
        if got.get("failed"):
            return {"failed": True, "msg": f"{archive} is written and was not fetched: {got.get('msg')}"}
        host = str(task_vars["inventory_hostname"])
        place = os.path.join(os.path.abspath(os.path.expanduser(folder)), f"{host}-{os.path.basename(archive)}")
        try:
            os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
            with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
                handle.write(base64.b64decode(got["content"]))
        except OSError as error:
            return {"failed": True, "msg": f"{archive} is written and was not fetched to {place}: {error.strerror}"}
        return {"fetched": place}
