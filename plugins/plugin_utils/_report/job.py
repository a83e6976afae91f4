# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that takes long runs as one of ansible-core's jobs on the host, and its progress is shown meanwhile.

The action plugin is handed in, for only it can reach the host.
"""

from __future__ import annotations

import itertools
import secrets
import time
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.progress import LOST, Following

# What async_status adds to the module's own result.
_JOB_KEYS = {"ansible_job_id", "started", "finished", "stdout", "stderr", "stdout_lines", "stderr_lines"}


class Job(t.NamedTuple):
    """How a module is followed.

    limit_seconds: after which ansible-core kills it, which only keeps a lost job from staying for ever; pauses: seconds
    before each look, the last of which is repeated; line: what a person reads of an event of a host; each: whether
    every event is shown, or only the last one of each look.
    """

    module: str
    limit_seconds: int
    pauses: tuple[float, ...]
    line: t.Callable[[str, t.Mapping[str, t.Any]], str]
    each: bool


def run_module(
    action: t.Any, job: Job, task_vars: t.Any, check_mode: bool = False, progress: str | None = None
) -> dict[str, t.Any]:
    """The module's result; of one that tells its progress to a file on the host, that of having begun the job."""
    args = {**action._task.args, "progress_file": progress} if progress else dict(action._task.args)
    wanted = action._task.check_mode
    action._task.check_mode, action._task.async_val = check_mode, job.limit_seconds if progress else 0
    try:
        result: dict[str, t.Any] = action._execute_module(
            job.module, args, task_vars=task_vars, wrap_async=progress is not None
        )
        return result
    finally:
        action._task.check_mode, action._task.async_val = wanted, 0


def follow(action: t.Any, job: Job, task_vars: t.Any) -> dict[str, t.Any]:
    """Run the module as a job and show its progress; its result."""
    # Where ansible-core keeps jobs on the host; only their user can read it.
    folder = action._remote_expand_user(action.get_shell_option("async_dir", default="~/.ansible_async"))
    progress = action._connection._shell.join_path(folder, f"progress-{secrets.token_hex(8)}")
    begun = run_module(action, job, task_vars, progress=progress)
    if not begun.get("ansible_job_id"):
        return begun
    status = {"jid": begun["ansible_job_id"], "mode": "status", "_async_dir": folder}
    following, pauses = Following(progress), itertools.chain(job.pauses, itertools.repeat(job.pauses[-1]))
    result: dict[str, t.Any] | None = None
    try:
        while result is None:
            time.sleep(next(pauses))
            if following.asks:
                state = action._execute_module("ansible.legacy.async_status", status, task_vars=task_vars)
                result = state if state.get("finished") or state.get("failed") else None
            # After the job's end this shows what it said last.
            events = following.look(action._low_level_execute_command(following.command)["stdout"])
            for event in events if job.each else events[-1:]:
                action._display.display(job.line(task_vars["inventory_hostname"], event))
            if result is None and following.lost:
                result = {"failed": True, "changed": True, "msg": LOST}
    finally:
        action._execute_module("ansible.legacy.async_status", {**status, "mode": "cleanup"}, task_vars=task_vars)
        action._low_level_execute_command(f"rm -f {progress}")
    return {key: value for key, value in result.items() if key not in _JOB_KEYS}
