# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs of starts as records, by the command line that people use."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOGS = ROOT / "tests" / "unit" / "fixtures" / "engine_logs"
SPEC = """
vllm_models:
  - name: a
    model: gpufleet/tiny-qwen3
    env: {VLLM_CPU_OMP_THREADS_BIND: nobind}
    engine: {dtype: bfloat16, max_model_len: 1024, gpu_memory_utilization: 0.1, async_scheduling: false}
  - {name: b, model: gpufleet/other}
"""
# The wording of 0.32.0 (v1/worker/gpu_worker.py) on a GPU.
ON_A_GPU = """vLLM server version 0.32.0, serving model a
(EngineCore pid=9) INFO 1 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: x
(EngineCore pid=9) INFO 1 [m.py:1] Model loading took 15.27 GiB memory and 4.0 seconds
(EngineCore pid=9) INFO 1 [m.py:1] Available KV cache memory: 54.9 GiB
(EngineCore pid=9) INFO 1 [m.py:1] CUDA graph memory profiling is enabled (default since v0.21.0).
(EngineCore pid=9) INFO 1 [m.py:1] CUDA graph pool memory: 0.91 GiB (actual), 0.85 GiB (estimated), difference: 0.06
(EngineCore pid=9) INFO 1 [m.py:1] Free memory on device (78.68/79.19 GiB) on startup. Desired GPU memory utilization \
is (0.92, 72.86 GiB). Actual usage is 15.52 GiB for consumed memory (weights + non-torch), 2.44 GiB for peak \
activation, and 0.91 GiB for CUDAGraph memory.
"""


def run(tmp_path: pathlib.Path, log: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The command with this log on its standard input."""
    spec = tmp_path / "spec.yml"
    spec.write_text(SPEC)
    # The collection is found where the tests find it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(ROOT / "tools" / "memory" / "log_record.py"), "--spec", str(spec), "--gpu", "H100"]
    return subprocess.run(
        [*command, *arguments], input=log, env=environment, capture_output=True, check=False, cwd=tmp_path
    )


def recorded(tmp_path: pathlib.Path, log: bytes, *arguments: str) -> dict[str, t.Any]:
    """The record that the command prints."""
    result = run(tmp_path, log, "--name", "a", *arguments)
    assert result.returncode == 0, result.stderr.decode()
    return t.cast("dict[str, t.Any]", json.loads(result.stdout))


def test_a_real_start(tmp_path: pathlib.Path) -> None:
    found = recorded(tmp_path, (LOGS / "good_start_kv_share.log").read_bytes())
    wanted = {
        "id": "gpufleet/tiny-qwen3 0.32.0 H100",
        "vllm_version": "0.32.0",
        "engine": "V1",
        "max_model_len": 1024,
        "gpu_memory_utilization": 0.1,
        "dtype": "bfloat16",
        "instance_budget_gib": 1.83,
        "available_kv_gib": 1.3,
        "kv_cache_tokens": 2732416,
        "outcome": "ok",
        "weights_gib_per_gpu": None,
        "log_lines": [],
    }
    assert {name: found[name] for name in wanted} == wanted
    assert json.loads(found["other_flags"]) == {"async_scheduling": False, "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def test_a_start_on_a_gpu(tmp_path: pathlib.Path) -> None:
    found = recorded(tmp_path, ON_A_GPU.encode(), "--id", "mine", "--outcome", "ok")
    wanted = {
        "id": "mine",
        "gpu_total_gib": 79.19,
        "weights_gib_per_gpu": 15.27,
        "non_torch_gib": 0.25,
        "activation_peak_gib": 2.44,
        "cudagraph_actual_gib": 0.91,
        "cudagraph_estimate_gib": 0.85,
        "notes": "consumed memory 15.52 GiB; at the engine's start (context and NCCL, outside the budget): 0.51 GiB",
    }
    assert {name: found[name] for name in wanted} == wanted


ENDS = [
    ("Loading model weights took 1.0 GB\n", "loaded"),
    ("Loading model weights took 1.0 GB\nApplication startup complete\n", "ok"),
    ("Loading model weights took 1.0 GB\ntorch.OutOfMemoryError: CUDA out of memory.\n", "oom_profile"),
    ("Available KV cache memory: 1.0 GiB\ntorch.OutOfMemoryError: CUDA out of memory.\n", "oom_load"),
    (
        "Model loading took 1.0 GiB\nAvailable KV cache memory: 1.0 GiB\ntorch.OutOfMemoryError: CUDA out of memory.\n",
        "oom_after_kv",
    ),
    ("Model loading took 1.0 GiB\nValueError: No available memory for the cache blocks.\n", "no_kv_memory"),
    (
        "(1.0 GiB KV cache is needed, which is larger than the available KV cache memory (0.5 GiB). Based",
        "kv_too_small",
    ),
    ("Available KV cache memory: 1.0 GiB\n", "other"),
]


@pytest.mark.parametrize(("log", "outcome"), ENDS)
def test_how_it_ended(tmp_path: pathlib.Path, log: str, outcome: str) -> None:
    assert recorded(tmp_path, log.encode())["outcome"] == outcome


REFUSED = [
    (b"", ["--name", "a"], "the log tells nothing of memory"),
    (ON_A_GPU.encode(), [], "holds 2 models that may be meant"),
    (ON_A_GPU.encode(), ["--name", "c"], "holds 0 models that may be meant"),
    (ON_A_GPU.encode(), ["--name", "a", "/no/such/file"], "No such file"),
]


@pytest.mark.parametrize(("log", "arguments", "reason"), REFUSED)
def test_refused(tmp_path: pathlib.Path, log: bytes, arguments: list[str], reason: str) -> None:
    result = run(tmp_path, log, *arguments)
    assert result.returncode == 1
    assert reason in result.stderr.decode()
    assert result.stdout == b""
