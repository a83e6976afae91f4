# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the stages of the starts while the module runs on the host, and the cause when one fails."""

from __future__ import annotations

import secrets
import time
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.explain import explain_failures
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.progress import LOST, Following, progress_line

# Seconds. The module itself ends a start by evidence; this bound only keeps a lost job from being followed for ever.
FOLLOWED_SECONDS = 24 * 3600
# Seconds between two looks at the progress.
LOOK_SECONDS = 0.3
# What async_status adds to the module's own result.
JOB_KEYS = {"ansible_job_id", "started", "finished", "stdout", "stderr", "stdout_lines", "stderr_lines"}


class ActionModule(ActionBase):
    """First asks the module what it would do. What takes time runs as a job on the host, so that it can be followed."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        foreseen = self._module(task_vars, dict(self._task.args), check_mode=True)
        if foreseen.get("failed") or self._task.check_mode or not (foreseen.get("changed") or foreseen.get("pending")):
            result.update(foreseen)
            return result
        result.update(self._follow(task_vars))
        if result.get("failures"):
            result["msg"], result["diagnosis"] = explain_failures(result["msg"], result["failures"])
        return result

    def _module(
        self, task_vars: t.Any, args: dict[str, t.Any], check_mode: bool = False, job: bool = False
    ) -> dict[str, t.Any]:
        wanted = self._task.check_mode
        self._task.check_mode, self._task.async_val = check_mode, FOLLOWED_SECONDS if job else 0
        try:
            return self._execute_module("gpufleet.vllm.vllm_servers", args, task_vars=task_vars, wrap_async=job)
        finally:
            self._task.check_mode, self._task.async_val = wanted, 0

    def _follow(self, task_vars: t.Any) -> dict[str, t.Any]:
        """Run the module as a job and show its progress; its result."""
        progress = self._connection._shell.join_path(self._job_folder(), f"progress-{secrets.token_hex(8)}")
        job = self._module(task_vars, dict(self._task.args, progress_file=progress), job=True)
        if not job.get("ansible_job_id"):
            return job
        following, result = Following(progress), None
        try:
            while result is None:
                time.sleep(LOOK_SECONDS)
                if following.asks:
                    state = self._job(task_vars, job["ansible_job_id"], "status")
                    result = state if state.get("finished") or state.get("failed") else None
                # After the job's end this shows what it said last.
                for event in following.look(self._low_level_execute_command(following.command)["stdout"]):
                    self._display.display(progress_line(task_vars["inventory_hostname"], event))
                if result is None and following.lost:
                    result = {"failed": True, "changed": True, "msg": LOST}
        finally:
            self._job(task_vars, job["ansible_job_id"], "cleanup")
            self._low_level_execute_command(f"rm -f {progress}")
        return {key: value for key, value in result.items() if key not in JOB_KEYS}

    def _job(self, task_vars: t.Any, job_id: str, mode: str) -> dict[str, t.Any]:
        """What async_status says of the job; mode is status, or cleanup to remove what the job has left."""
        args = {"jid": job_id, "mode": mode, "_async_dir": self._job_folder()}
        return self._execute_module("ansible.legacy.async_status", args, task_vars=task_vars)

    def _job_folder(self) -> str:
        """Where ansible-core keeps jobs on the host; only their user can read it."""
        return self._remote_expand_user(self.get_shell_option("async_dir", default="~/.ansible_async"))
