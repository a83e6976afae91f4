# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show how far a download is while the module runs on the host."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.fetching import fetching_line
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.job import Job, follow, run_module

# A download ends by itself, or by lack of progress. The first looks are sooner, for small repositories; of what was
# told since the last look, the end is what matters.
JOB = Job("gpufleet.vllm.hf_snapshot", 48 * 3600, (0.3, 0.3, 0.5, 1, 1, 2), fetching_line, each=False)


class ActionModule(ActionBase):
    """First asks the module what it would do; only what takes time runs as a job on the host, which is followed."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        if self._task.args.get("state") != "verified":
            foreseen = run_module(self, JOB, task_vars, check_mode=True)
            is_done = not (foreseen.get("changed") or foreseen.get("pending"))
            if foreseen.get("failed") or self._task.check_mode or is_done:
                return {**result, **foreseen}
        return {**result, **follow(self, JOB, task_vars)}
