# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What a line of an engine's start-up log says about the stage that the start is in. Pure.

The patterns follow the log calls of vLLM 0.6.0 to 0.33.0; each names the releases of its wording, as far as the sources
of 0.6.6, 0.8.5, 0.10.2, 0.11.2, 0.17.1 and 0.33.0 show them, and the file below vllm/.
"""

from __future__ import annotations

import re
import typing as t

# In the order in which a start goes through them; "created" and "ready" are not read from the log.
STAGES = ("created", "starting", "downloading", "loading", "compiling", "sizing", "capturing", "warming", "ready")


class Event(t.NamedTuple):
    """What a line tells.

    stage: one of STAGES; done and total: parts of the stage's work, when the line tells; text: what a person reads;
    memory: what a start has told of its memory, at its end; process: the engine's process that wrote the line, by the
    name that it gives itself (EngineCore_DP0, Worker_TP1, APIServer), None when the line does not tell it.
    """

    stage: str
    text: str
    done: int | None = None
    total: int | None = None
    memory: t.Mapping[str, t.Any] | None = None
    process: str | None = None


_COUNTED = r".*?(?P<done>\d+)/(?P<total>\d+)"
_PATTERNS: tuple[tuple[t.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern), stage, text)
    for pattern, stage, text in (
        # The banner of 0.2x and later, or the line of earlier ones: entrypoints/openai/api_server.py,
        # entrypoints/serve/utils/api_utils.py.
        (r"(?:vLLM (?:API )?server|█ ) version (?P<value>[^\s,]+)", "starting", "vLLM {value} starts"),
        # 0.10.2-0.33.0 config/__init__.py, config/model.py
        (r"Resolved architecture: (?P<value>\S+)", "starting", "architecture {value}"),
        # 0.6.6 engine/llm_engine.py, v1/engine/core.py; with V0 or V1 from 0.8.5 on
        (r"Initializing an? (?:V\d )?LLM engine", "starting", "engine process starts"),
        # 0.6.6-0.33.0 distributed/device_communicators/pynccl.py, distributed/parallel_state.py
        (r"vLLM is using nccl==(?P<value>\S+)", "starting", "ranks join over NCCL {value}"),
        (r"world_size=(?P<value>\d+) rank=\d+ local_rank=", "starting", "one of {value} ranks starts"),
        # huggingface_hub: snapshot_download and the bar of one file
        (r"Fetching \d+ files:" + _COUNTED, "downloading", "downloading files {done}/{total}"),
        (
            r"(?P<value>[\w.-]+\.(?:safetensors|bin|pt|gguf)):\s+(?P<done>\d+)%\|",
            "downloading",
            "downloading {value} {done} %",
        ),
        # 0.8.5-0.33.0 model_executor/model_loader/weight_utils.py
        (r"Time spent downloading weights for .*: (?P<value>[\d.]+) seconds", "downloading", "downloaded in {value} s"),
        (r"Prefetching checkpoint files: \d+% \(" + _COUNTED, "loading", "reading files ahead {done}/{total}"),
        # 0.6.6-0.33.0 model_executor/model_loader/weight_utils.py; the multi-threaded ones by 0.33.0
        (
            r"(?:Loading \S+ checkpoint shards|Loading safetensors using [\w ]+|"
            r"Multi-thread loading (?:\w+ checkpoint )?shards)[^:]*:" + _COUNTED,
            "loading",
            "loading weights {done}/{total}",
        ),
        # 0.6.6-0.33.0 worker/model_runner.py, v1/worker/gpu_model_runner.py, v1/worker/cpu_model_runner.py; from
        # 0.17.1 on v1/worker/gpu/model_runner.py
        (r"Starting to load model|Loading model from scratch", "loading", "loading weights"),
        # 0.8.5 model_loader/loader.py, 0.10.2-0.33.0 model_loader/default_loader.py
        (r"Loading weights took (?P<value>[\d.]+) seconds", "loading", "weights loaded in {value} s"),
        # 0.6.0-0.7.3 worker/model_runner.py, then gpu_model_runner.py
        (r"(?:Loading model weights|Model loading) took (?P<value>[\d.]+) Gi?B", "loading", "model takes {value} GiB"),
        # 0.33.0 compilation/monitor.py, 0.32.0 v1/worker/cpu_model_runner.py
        (r"Starting torch\.compile|Start compiling function", "compiling", "compiling"),
        (r"Warming up model for the compilation", "compiling", "compiling"),
        # 0.6.6-0.17.1 compilation/backends.py; the takes of older and the took of newer releases in monitor.py
        (r"Dynamo bytecode transform time: (?P<value>[\d.]+) s", "compiling", "traced in {value} s"),
        (r"Compiling a graph for .* takes (?P<value>[\d.]+) s", "compiling", "a graph compiled in {value} s"),
        (r"Directly load the .*graph", "compiling", "compiled graphs come from the cache"),
        (r"torch\.compile (?:takes|took) (?P<value>[\d.]+) s", "compiling", "compiled in {value} s"),
        # 0.8.5-0.33.0 v1/core/kv_cache_utils.py; before it executor/*_executor.py
        (r"KV cache size: (?P<value>[\d,]+) tokens", "sizing", "KV cache of {value} tokens"),
        (r"# \w+ blocks: (?P<value>\d+)", "sizing", "KV cache of {value} blocks"),
        # 0.10.2-0.33.0 v1/worker/gpu_worker.py
        (r"Available KV cache memory: (?P<value>-?[\d.]+) GiB", "sizing", "{value} GiB for the KV cache"),
        # 0.6.6-0.10.2 worker/model_runner.py, 0.10.2-0.33.0 v1/worker/gpu_model_runner.py
        (r"Capturing cudagraphs for decoding", "capturing", "capturing graphs"),
        (r"Capturing CUDA graphs?[^:]*:" + _COUNTED, "capturing", "capturing graphs {done}/{total}"),
        (r"Graph capturing finished in (?P<value>\d+) secs", "capturing", "graphs captured in {value} s"),
        # 0.17.1-0.33.0 model_executor/warmup/: before, between or after the graphs
        (
            r"(?:DeepGEMM warmup|JIT kernel warmup[^:]*|Compiling CuTeDSL kernels):" + _COUNTED,
            "capturing",
            "preparing kernels {done}/{total}",
        ),
        # 0.6.6-0.33.0 v1/engine/core.py
        (r"init engine .* took (?P<value>[\d.]+) s", "warming", "engine initialised in {value} s"),
        # 0.8.5-0.17.1 entrypoints/openai/api_server.py, 0.33.0 entrypoints/launchers/api_server/entry.py
        (r"Starting vLLM (?:API )?server", "warming", "API server starts"),
    )
)
# One search that nearly every line of a log fails: of the sentences above and of FATAL.
_ANY = re.compile(
    r"version |Resolved arch|Initializing an? |nccl==|world_size=|Fetching \d|%\||downloading weights|Prefetching|"
    r"[Ll]oading |Starting |Start compiling|Warming up|Dynamo|Compiling |Directly load|torch\.compile|KV cache|"
    r"blocks: |Capturing |capturing |warmup|init engine|fail|died|error"
)
# After one of these the engine does not become ready, whether its process ends or not. 0.8.5-0.33.0 v1/engine/core.py;
# 0.8.5-0.33.0 v1/engine/core_client.py, v1/engine/utils.py; v1/executor/multiproc_executor.py;
# 0.6.6-0.8.5 entrypoints/openai/api_server.py; argparse.
FATAL = re.compile(
    r"EngineCore failed to start|Engine core initialization failed|"
    r"WorkerProc (?:initialization failed|failed to start)|(?:Engine core|Worker) proc \S+ died unexpectedly|"
    r"Engine process failed to start|error: unrecognized arguments"
)
# The process that a line is of: decorate_logs in 0.10.1.1-0.33.0 (utils/__init__.py, utils/system_utils.py), before it
# executor/multiproc_worker_utils.py.
_PROCESS = re.compile(r"\((?P<name>[A-Za-z][\w ={}-]*?) pid=\d+")


def speaks(line: str) -> bool:
    """Whether the line may tell of a stage or of an end; False is certain, and cheap."""
    return _ANY.search(line) is not None


def read_line(line: str) -> Event | None:
    """The event that this line reports, or None."""
    if not speaks(line):
        return None
    for pattern, stage, text in _PATTERNS:
        match = pattern.search(line)
        if match:
            found = match.groupdict()
            counted = found.get("done") is not None
            process = _PROCESS.search(line)
            return Event(
                stage,
                text.format(**found),
                int(found["done"]) if counted else None,
                # A bar of one file tells percents.
                int(found.get("total") or 100) if counted else None,
                process=process["name"] if process else None,
            )
    return None
