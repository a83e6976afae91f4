# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Causes of failed starts.

The lines are written from the formats of vLLM 0.32.0, huggingface_hub 2.4 and the Docker Engine.
"""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.explain import (
    causes,
    explain_failures,
    signatures,
)

LOGS = pathlib.Path(__file__).parents[3] / "fixtures" / "engine_logs"

# id of the signature: a line that shows it, and a word of its own values that cause or remedy must hold.
SAMPLES = {
    "cli-unrecognized-arguments": ("vllm: error: unrecognized arguments: --fast 1", "--fast 1"),
    "cli-invalid-choice": (
        "vllm serve: error: argument --dtype: invalid choice: 'int3' (choose from 'auto')",
        "'int3'",
    ),
    "cli-invalid-value": (
        "vllm serve: error: argument --tensor-parallel-size/-tp: invalid int value: 'two'",
        "invalid int value: 'two'",
    ),
    "hf-bad-path-as-repo-id": (
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': "
        "'/data/llm/mine'. Use `repo_type` argument if needed.",
        "/data/llm/mine",
    ),
    "hf-invalid-repo-or-dir": (
        "  Value error, Invalid repository ID or local directory specified: '/models/mine'.",
        "/models/mine",
    ),
    "hf-offline-mode-error": (
        "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://hub.example/api/models/a/b: offline mode is "
        "enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable.",
        "https://hub.example/api/models/a/b",
    ),
    "hf-offline-not-cached": (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the "
        "specified revision on the local disk and outgoing traffic has been disabled.",
        "cache",
    ),
    "hf-gated-401": ("Cannot access gated repo for url https://hub.example/a/b/resolve/main/config.json.", "token"),
    "hf-no-network": (
        "urllib3.exceptions.NameResolutionError: Failed to resolve 'hub.example' ([Errno -3] Temporary failure in name "
        "resolution)",
        "hub",
    ),
    "trust-remote-code-required": (
        "  Value error, The repository a/b contains custom code which must be executed to correctly load the model.",
        "trust_remote_code",
    ),
    "tokenizer-load-failed": (
        "OSError: Can't load tokenizer for 'acme/tiny'. If you were trying to load it from the hub, check the name.",
        "acme/tiny",
    ),
    "arch-not-supported": (
        "  Value error, Model architectures ['AcmeForCausalLM'] are not supported for now.",
        "['AcmeForCausalLM']",
    ),
    "arch-transformers-unknown": (
        "  Value error, The checkpoint you are trying to load has model type `acme` but Transformers does not "
        "recognize this architecture.",
        "type acme",
    ),
    "weights-not-found": (
        "(Worker pid=7) ERROR 11-20 10:00:00 [multiproc_executor.py:9] RuntimeError: Cannot find any model weights "
        "with `/models/empty`",
        "/models/empty",
    ),
    "weights-corrupt-safetensors": (
        "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata",
        "cut off",
    ),
    "max-model-len-too-large": (
        "  Value error, User-specified max_model_len (99000) is greater than the derived max_model_len "
        "(max_position_embeddings=40960 or model_max_length=None in model's config.json).",
        "engine.max_model_len: 40960",
    ),
    "tp-heads-divisibility": (
        "  Value error, Total number of attention heads (28) must be divisible by tensor parallel size (8).",
        "divisor of 28",
    ),
    "mem-free-less-than-requested": (
        "ValueError: Free memory on device cuda:0 (3.10/23.63 GiB) on startup is less than desired GPU memory "
        "utilization (0.92, 21.74 GiB).",
        "Only 3.10 of 23.63 GiB",
    ),
    "mem-cpu-kv-too-large": (
        "ValueError: Available memory on node 0 (5.00/31.20 GiB) on kv cache allocation is less than requested memory "
        "for kv (8.00 GiB).",
        "5.00 of 31.20 GiB",
    ),
    "mem-kv-too-small-v1": (
        "ValueError: To serve at least one request with the model's max seq len (40960), 5.62 GiB KV cache is needed, "
        "which is larger than the available KV cache memory (4.70 GiB). Based on the available memory, the estimated "
        "maximum model length is 34240.",
        "engine.max_model_len: 34240",
    ),
    "mem-no-cache-blocks": ("ValueError: No available memory for the cache blocks.", "KV cache"),
    "mem-cuda-oom": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has 23.63 GiB",
        "1.16 GiB",
    ),
    "no-device": ("RuntimeError: Failed to infer device type, please set VLLM_LOGGING_LEVEL=DEBUG", "container"),
    "docker-no-gpu-driver": (
        'Error response from daemon: could not select device driver "nvidia" with capabilities: [[gpu]]',
        "nvidia-ctk",
    ),
    "docker-unknown-runtime": ("Error response from daemon: unknown or invalid runtime name: nvidia", "runtime nvidia"),
    "cdi-unresolvable": (
        "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-5c89852c",
        "nvidia.com/gpu=GPU-5c89852c",
    ),
    "nvml-mismatch": ("Failed to initialize NVML: Driver/library version mismatch", "Restart the host"),
    "docker-port-allocated": (
        "driver failed programming external connectivity: Bind for 127.0.0.1:8000 failed: port is already allocated",
        "listen.port",
    ),
    "port-in-use": ("OSError: [Errno 98] Address already in use", "port"),
    "disk-full": ("OSError: [Errno 28] No space left on device: '/var/cache/vllm/x'", "disk"),
    "permission-cache": (
        "PermissionError: [Errno 13] Permission denied: '/var/hub/models--a--b'",
        "/var/hub/models--a--b",
    ),
    "shm-too-small": (
        "RuntimeError: Insufficient space in /dev/shm for shared-memory allocation: 320 MiB required, 60 MiB free. "
        "Increase /dev/shm (e.g. --shm-size or --ipc=host).",
        "320 MiB of shared memory, and 60 MiB",
    ),
    "nccl-shm": ("NCCL WARN Error: failed to extend /dev/shm/nccl-a1b2c3 to 33030532 bytes", "limits.shm"),
    "bus-error-shm": ("Fatal Python error: Bus error", "limits.shm"),
    "engine-ready-timeout": ("TimeoutError: Timed out waiting for engine core processes to start.", "TIMEOUT_S"),
    "engine-core-init-failed": ("RuntimeError: Engine core initialization failed. See root cause above.", "EngineCore"),
}


def test_every_signature_has_its_sample() -> None:
    patterns = [entry["id"] for entry in signatures() if entry["pattern"]]
    assert sorted(patterns) == sorted(SAMPLES)
    assert len(patterns) == len(set(patterns))


@pytest.mark.parametrize(("cause", "line", "word"), [(name, *sample) for name, sample in SAMPLES.items()], ids=SAMPLES)
def test_sample_shows_its_cause_first(cause: str, line: str, word: str) -> None:
    first = causes(["INFO before", line, "INFO after"], {})[0]
    assert (first.id, first.evidence) == (cause, line.strip())
    assert word in first.cause + first.remedy
    assert "{" not in first.cause + first.remedy


def test_every_cause_says_what_to_do() -> None:
    for entry in signatures():
        assert entry["cause"].endswith(("}", ".")) and entry["remedy"].endswith("."), entry["id"]


def test_killed_for_memory_is_a_fact_and_comes_first() -> None:
    found = causes([SAMPLES["engine-core-init-failed"][0]], {"oom_killed": True})
    assert [(cause.id, cause.evidence is None) for cause in found] == [
        ("mem-host-oom-killed", True),
        ("engine-core-init-failed", False),
    ]


def test_consequence_ranks_behind_its_cause() -> None:
    lines = [SAMPLES["engine-core-init-failed"][0], SAMPLES["mem-kv-too-small-v1"][0]]
    assert [cause.id for cause in causes(lines, {})] == ["mem-kv-too-small-v1", "engine-core-init-failed"]


def test_explanation_stands_before_the_message() -> None:
    failure = {"server": "vllm-a-0", "log": [SAMPLES["no-device"][0]], "reason": "exited with 1", "oom_killed": False}
    text, data = explain_failures("1 server failed", [failure, {**failure, "server": "vllm-b-0", "log": []}])
    assert text.splitlines() == [
        "vllm-a-0: The engine sees no GPU in its container. Give the host's GPUs to Docker (NVIDIA container toolkit "
        "or CDI), or use an image built for the CPU.",
        f"  evidence: {SAMPLES['no-device'][0]}",
        "1 server failed",
    ]
    assert [(one["server"], len(one["causes"])) for one in data] == [("vllm-a-0", 1), ("vllm-b-0", 0)]


def test_cause_in_the_engine_s_answer_is_found() -> None:
    failure = {"server": "s", "log": [], "reason": SAMPLES["docker-no-gpu-driver"][0], "oom_killed": False}
    assert explain_failures("m", [failure])[1][0]["causes"][0]["id"] == "docker-no-gpu-driver"


def test_long_evidence_is_cut() -> None:
    evidence = causes(["error: unrecognized arguments: " + "x" * 5000], {})[0]
    assert len(evidence.evidence or "") <= 400 and len(evidence.cause) <= 400


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("good_start_and_stop", None),
        ("good_start_kv_bytes", None),
        ("good_start_read_only", None),
        ("stopped_while_starting", None),
        ("bad_flag", "cli-unrecognized-arguments"),
        ("bad_model_path", "hf-bad-path-as-repo-id"),
        ("repo_not_cached", "hf-offline-not-cached"),
        ("max_model_len_too_long", "max-model-len-too-large"),
        ("kv_cache_too_small", "mem-no-cache-blocks"),
        ("memory_too_small", "mem-cpu-kv-too-large"),
        ("shm_too_small", "shm-too-small"),
        ("port_taken", "port-in-use"),
    ],
)
def test_real_starts_of_0_32(log: str, expected: str | None) -> None:
    lines = (LOGS / f"{log}.log").read_text(encoding="utf-8").splitlines()
    assert next((cause.id for cause in causes(lines, {})), None) == expected
