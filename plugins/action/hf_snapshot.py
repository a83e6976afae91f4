# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show how far a download is while the module runs on the host."""

from __future__ import annotations

import secrets
import time
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.fetching import fetching_line
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.progress import read_events

# Seconds. A download ends by itself, or by lack of progress; this bound keeps a lost job from being followed for ever.
FOLLOWED_SECONDS = 48 * 3600
# Seconds between two looks, the first few of which are sooner, for small repos.
LOOK_SECONDS = 2
FIRST_LOOKS = (0.3, 0.3, 0.5, 1, 1)
# What async_status adds to the module's own result.
JOB_KEYS = {"ansible_job_id", "started", "finished", "stdout", "stderr", "stdout_lines", "stderr_lines"}


class ActionModule(ActionBase):
    """First asks the module what it would do; only what takes time runs as a job on the host, which is followed."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        foreseen = {}
        if self._task.args.get("state") != "verified":
            foreseen = self._module(task_vars, dict(self._task.args), check_mode=True)
            is_done = not (foreseen.get("changed") or foreseen.get("pending"))
            if foreseen.get("failed") or self._task.check_mode or is_done:
                return {**result, **foreseen}
        return {**result, **self._follow(task_vars)}

    def _module(
        self, task_vars: t.Any, args: dict[str, t.Any], check_mode: bool = False, job: bool = False
    ) -> dict[str, t.Any]:
        wanted = self._task.check_mode
        self._task.check_mode, self._task.async_val = check_mode, FOLLOWED_SECONDS if job else 0
        try:
            return self._execute_module("gpufleet.vllm.hf_snapshot", args, task_vars=task_vars, wrap_async=job)
        finally:
            self._task.check_mode, self._task.async_val = wanted, 0

    def _follow(self, task_vars: t.Any) -> dict[str, t.Any]:
        """Run the module as a job and show its progress; its result."""
        folder = self._remote_expand_user(self.get_shell_option("async_dir", default="~/.ansible_async"))
        progress = self._connection._shell.join_path(folder, f"progress-{secrets.token_hex(8)}")
        job = self._module(task_vars, dict(self._task.args, progress_file=progress), job=True)
        if not job.get("ansible_job_id"):
            return job
        status = {"jid": job["ansible_job_id"], "mode": "status", "_async_dir": folder}
        read, looks, state = 0, 0, {}
        try:
            while not (state.get("finished") or state.get("failed")):
                time.sleep(FIRST_LOOKS[looks] if looks < len(FIRST_LOOKS) else LOOK_SECONDS)
                looks += 1
                state = self._execute_module("ansible.legacy.async_status", status, task_vars=task_vars)
                text = self._low_level_execute_command(f"tail -c +{read + 1} {progress} 2>/dev/null || true")["stdout"]
                events, news = read_events(text)
                read += news
                # Of what was told since the last look, the end is what matters.
                for event in events[-1:]:
                    self._display.display(fetching_line(task_vars["inventory_hostname"], event))
        finally:
            self._execute_module("ansible.legacy.async_status", {**status, "mode": "cleanup"}, task_vars=task_vars)
            self._low_level_execute_command(f"rm -f {progress}")
        return {key: value for key, value in state.items() if key not in JOB_KEYS}
