# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What a line of an engine's start-up log says about the stage that the start is in. Pure.

The patterns follow the log calls of vLLM 0.6.0 to 0.33.0 (api_server.py, weight_utils.py, monitor.py,
gpu_model_runner.py, kv_cache_utils.py, core.py) and huggingface_hub's progress bar; each is tested on the recorded logs
of real starts.
"""

from __future__ import annotations

import re
import typing as t

# In the order in which a start goes through them; "created" and "ready" are not read from the log.
STAGES = ("created", "starting", "downloading", "loading", "compiling", "sizing", "capturing", "warming", "ready")


class Event(t.NamedTuple):
    """What a line tells.

    stage: one of STAGES; done and total: parts of the stage's work, when the line tells; text: what a person reads;
    memory: what a start has told of its memory, at its end.
    """

    stage: str
    text: str
    done: int | None = None
    total: int | None = None
    memory: t.Mapping[str, t.Any] | None = None


_COUNTED = r".*?(?P<done>\d+)/(?P<total>\d+)"
_PATTERNS: tuple[tuple[t.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern), stage, text)
    for pattern, stage, text in (
        # The banner of 0.2x and later, or the line of earlier ones.
        (r"(?:vLLM (?:API )?server|█ ) version (?P<value>[^\s,]+)", "starting", "vLLM {value} starts"),
        (r"Resolved architecture: (?P<value>\S+)", "starting", "architecture {value}"),
        (r"Initializing a V\d LLM engine", "starting", "engine process starts"),
        (r"Fetching \d+ files:" + _COUNTED, "downloading", "downloading files {done}/{total}"),
        (r"Loading (?:safetensors|pt) checkpoint shards[^:]*:" + _COUNTED, "loading", "loading weights {done}/{total}"),
        (r"Starting to load model|Loading model from scratch", "loading", "loading weights"),
        (r"Loading weights took (?P<value>[\d.]+) seconds", "loading", "weights loaded in {value} s"),
        (r"Starting torch\.compile|Start compiling function", "compiling", "compiling"),
        (r"torch\.compile (?:takes|took) (?P<value>[\d.]+) s", "compiling", "compiled in {value} s"),
        (r"KV cache size: (?P<value>[\d,]+) tokens", "sizing", "KV cache of {value} tokens"),
        (r"Capturing CUDA graphs?[^:]*:" + _COUNTED, "capturing", "capturing graphs {done}/{total}"),
        (r"init engine .* took (?P<value>[\d.]+) s", "warming", "engine initialised in {value} s"),
        (r"Starting vLLM (?:API )?server", "warming", "API server starts"),
    )
)


def read_line(line: str) -> Event | None:
    """The event that this line reports, or None."""
    for pattern, stage, text in _PATTERNS:
        match = pattern.search(line)
        if match:
            found = match.groupdict()
            counted = found.get("done") is not None
            return Event(
                stage,
                text.format(**found),
                int(found["done"]) if counted else None,
                int(found["total"]) if counted else None,
            )
    return None
