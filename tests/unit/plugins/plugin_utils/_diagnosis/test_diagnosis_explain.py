# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From logs and facts to ranked causes. The lines are written from the formats of vLLM and the others' programs."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.explain import (
    causes,
    causes_of_logs,
    diagnose_all,
    explain_failures,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.signatures import signatures

LOGS = pathlib.Path(__file__).parents[3] / "fixtures" / "engine_logs"

SAMPLE = {signature.id: signature.sample for signature in signatures()}


def test_killed_for_memory_is_a_fact_and_comes_first() -> None:
    found = causes([SAMPLE["engine-core-init-failed"]], {"oom_killed": True})
    assert [(cause.id, cause.evidence is None) for cause in found] == [
        ("mem-host-oom-killed", True),
        ("engine-core-init-failed", False),
    ]


def test_consequence_ranks_behind_its_cause() -> None:
    lines = [SAMPLE["engine-core-init-failed"], SAMPLE["mem-kv-too-small-v1"]]
    assert [cause.id for cause in causes(lines, {})] == ["mem-kv-too-small-v1", "engine-core-init-failed"]


def test_explanation_stands_before_the_message() -> None:
    failure = {"server": "vllm-a-0", "log": [SAMPLE["no-device"]], "reason": "exited with 1", "oom_killed": False}
    text, data = explain_failures("1 server failed", [failure, {**failure, "server": "vllm-b-0", "log": []}])
    assert text.splitlines() == [
        "vllm-a-0: The engine sees no GPU in its container. Give the host's GPUs to Docker (NVIDIA container toolkit "
        "or CDI, host_gpu_runtime), or use an image built for the CPU.",
        f"  evidence: {SAMPLE['no-device']}",
        "  see https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html",
        "1 server failed",
    ]
    assert [(one["server"], len(one["causes"])) for one in data] == [("vllm-a-0", 1), ("vllm-b-0", 0)]


def test_cause_in_the_engine_s_answer_is_found() -> None:
    failure = {"server": "s", "log": [], "reason": SAMPLE["docker-no-gpu-driver"], "oom_killed": False}
    assert explain_failures("m", [failure])[1][0]["causes"][0]["id"] == "docker-no-gpu-driver"


def test_a_server_without_a_tokenizer_that_refuses_every_request() -> None:
    """The reason as vllm_servers gave it of real vLLM 0.32.0."""
    body = '{"error":{"message":"The decoder prompt cannot be empty","type":"BadRequestError","param":null,"code":400}}'
    reason = f"/health answers 200, but a request to /v1/completions was answered 400: {body}"
    log = ["INFO:     Application startup complete.", 'INFO:     1.2.3.4:5 - "GET /health HTTP/1.1" 200 OK']
    failure = {"server": "s", "kind": "wrong", "log": log, "reason": reason, "oom_killed": False}
    text, data = explain_failures("m", [failure])
    assert [cause["id"] for cause in data[0]["causes"]] == ["tokenizer-load-failed"]
    assert "without a tokenizer" in text and "tokenizer.json" in text
    # The same of a client's own request is no fault of the server.
    assert causes([*log, f"ValueError: {body}"], {}) == []


def test_release_and_options_of_a_failure_decide_the_remedy() -> None:
    failure = {"server": "s", "log": [SAMPLE["mem-cuda-oom"]], "reason": "exited", "oom_killed": False}
    _text, (bare,) = explain_failures("m", [failure])
    _text, (known,) = explain_failures("m", [{**failure, "release": "0.33.0", "engine": {"max_num_seqs": "256"}}])
    assert bare["causes"][0]["change"] == {}
    assert known["causes"][0]["change"] == {"engine": {"max_num_seqs": 128}}


def test_who_else_holds_memory_of_the_gpu_is_named_first() -> None:
    big = {"gpu": "GPU-1", "pid": 4242, "name": "python3", "used_bytes": 20 * 2**30}
    told = [
        big,
        {**big, "pid": 7, "name": "Xorg", "used_bytes": 2**20},
        {**big, "pid": 8, "name": "x", "used_bytes": None},
    ]
    failure = {"server": "s", "log": [SAMPLE["mem-free-less-than-requested"]], "reason": "exited", "oom_killed": False}
    first, second, *_rest = explain_failures("m", [{**failure, "gpu_processes": told}])[0].splitlines()
    assert first == (
        "s: other processes hold memory of its GPUs: python3 (PID 4242) 20.0 GiB of GPU-1, x (PID 8) some memory of "
        "GPU-1. End what is not needed, or choose other GPUs under placement.gpus."
    )
    assert second.startswith("s: Other processes hold memory of the GPU")
    # They are named for what they can be the reason of only.
    for other in ({"log": [SAMPLE["no-device"]]}, {"gpu_processes": told[1:2]}):
        assert "PID" not in explain_failures("m", [{**failure, "gpu_processes": told, **other}])[0]


def test_long_evidence_is_cut() -> None:
    evidence = causes(["error: unrecognized arguments: " + "x" * 5000], {})[0]
    assert len(evidence.evidence or "") <= 400 and len(evidence.cause) <= 400 and len(evidence.remedy) <= 400


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("good_start_and_stop", None),
        ("good_start_kv_bytes", None),
        ("good_start_kv_share", None),
        ("engine_core_killed", "engine-dead"),
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


@pytest.mark.parametrize("log", sorted(path.stem for path in LOGS.glob("good_start*.log")))
def test_no_part_of_a_good_start_shows_a_cause(log: str) -> None:
    """As far as it has come, from anywhere on, and one start after the other."""
    lines = (LOGS / f"{log}.log").read_text(encoding="utf-8").splitlines()
    for at in range(1, len(lines), 9):
        for part in (lines[:at], lines[at:], lines[at:] + lines[:at]):
            assert [cause.id for cause in causes(part, {})] == [], (log, at)
    assert [cause.id for cause in causes(lines * 2, {})] == []


ERROR = "(Worker_TP{rank} pid=3{rank}) ERROR 11-20 10:00:{second:02d} [multiproc_executor.py:9] {text}"
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
GONE = "RuntimeError: NCCL error: remote process exited or there was a network error"
WARNING = "(APIServer pid=6) WARNING 11-20 10:00:00 [system_utils.py:255] "
READY = "INFO:     Application startup complete."
ALIVE = "(APIServer pid=6) INFO 11-20 10:00:00 [model.py:10] Using max model len 1024"


def ids(lines: list[str], facts: dict[str, object] | None = None) -> list[str]:
    return [cause.id for cause in causes(lines, facts or {})]


def test_root_comes_before_what_other_ranks_say_of_it_and_is_told_once() -> None:
    lines = [
        ERROR.format(rank=0, second=1, text=GONE),
        ERROR.format(rank=1, second=2, text=OOM),
        ERROR.format(rank=2, second=2, text=OOM),
    ]
    found = causes(lines, {"engine": {"max_num_seqs": 64}})
    assert [cause.id for cause in found] == ["mem-cuda-oom", "nccl-remote-gone"]
    assert (found[0].line, found[0].process, found[0].processes, found[0].seen) == (
        2,
        "Worker_TP1 pid=31",
        ("Worker_TP1 pid=31", "Worker_TP2 pid=32"),
        2,
    )
    assert found[0].change == {"engine": {"max_num_seqs": 32}} and found[0].confidence == "high"


def test_first_node_in_time_is_the_first_cause() -> None:
    logs = {
        "node-a": [
            ERROR.format(rank=0, second=9, text="RuntimeError: CUDA error: uncorrectable ECC error encountered")
        ],
        "node-b": ["", "", ERROR.format(rank=1, second=2, text="OSError: [Errno 28] No space left on device")],
    }
    assert [(cause.id, cause.source, cause.line) for cause in causes_of_logs(logs, {})] == [
        ("disk-full", "node-b", 3),
        ("ecc-uncorrectable", "node-a", 1),
    ]


def test_warnings_of_a_start_that_goes_well_are_no_causes() -> None:
    notice = SAMPLE["fd-limit"]
    assert ids([notice]) == ["fd-limit"]
    assert ids([ALIVE, notice]) == ids([notice, READY]) == []
    assert ids([ALIVE, notice, "OSError: [Errno 24] Too many open files"]) == ["fd-limit"]
    assert ids([ALIVE, WARNING + "CUDA out of memory is possible with these settings"]) == []


def test_an_error_that_the_engine_got_over_is_no_cause() -> None:
    error = ERROR.format(rank=0, second=1, text="ImportError: libcuda.so.1: cannot open shared object file")
    assert ids([ALIVE, error, READY]) == []
    assert ids([ALIVE, READY, error]) == ["libcuda-missing"]


def test_an_error_that_vllm_tries_again_is_no_cause() -> None:
    path = "Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/models/a.gguf'."
    retried = f"ERROR 11-20 10:00:00 [config.py:133] Error retrieving safetensors: {path}, retrying 1 of 2"
    assert ids([ALIVE, retried]) == []
    assert ids([ALIVE, retried, SAMPLE["gguf-arch-unsupported"]]) == ["gguf-arch-unsupported"]


def test_the_trace_of_an_error_that_was_got_over_belongs_to_it() -> None:
    place = "ERROR 11-20 10:00:00 [registry.py:810] "
    trace = [
        place + "Error saving model info cache.",
        place + "Traceback (most recent call last):",
        place + "PermissionError: [Errno 13] Permission denied: '/.cache'",
    ]
    assert ids([*trace, ALIVE]) == []
    assert ids([*trace, ALIVE, SAMPLE["disk-full"]]) == ["disk-full"]
    elsewhere = "ERROR 11-20 10:00:01 [core.py:9] PermissionError: [Errno 13] Permission denied: '/x'"
    assert ids([*trace, elsewhere]) == ["permission-cache"]


def test_a_kernel_that_autotuning_passes_over_is_no_cause() -> None:
    text = "OutOfResources: out of resource: shared memory, Required: 9, Hardware limit: 8. Smaller blocks may help."
    assert ids([ALIVE, f"No valid triton configs. {text}. ", "Ignoring this choice."]) == []
    assert ids([ALIVE, f"triton.runtime.errors.{text}"]) == ["shared-memory-of-kernel"]


def test_a_server_that_still_answers_may_have_lost_its_workers() -> None:
    serving = "(APIServer pid=1) INFO 11-20 10:00:09 [loggers.py:123] Engine 000: Avg prompt throughput: 0.0 tokens/s"
    assert ids([READY, serving, SAMPLE["worker-died"], serving]) == ["worker-died"]
    assert ids([SAMPLE["fd-limit"], serving]) == []


STALL = SAMPLE["shm-broadcast-stall"]
RAY = "INFO 11-20 10:00:00 [ray_utils.py:240] Waiting for creating a placement group of specs for {} seconds."
BANNER = "INFO 11-20 09:00:00 [api_server.py:1] vLLM API server version 0.11.0"
MAKES = (
    "INFO 11-20 10:00:09 [loggers.py:248] Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: {} tokens/s"
)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([READY, *[STALL] * 20], "shm-broadcast-stall"),
        ([*[STALL] * 20], "shm-broadcast-stall"),
        ([READY, *[STALL] * 3, MAKES.format("0.0"), 'INFO: "GET /health HTTP/1.1" 200 OK'], "shm-broadcast-stall"),
        ([RAY.format(1200)] * 3, "ray-placement-group"),
        ([RAY.format(150)], "ray-placement-group"),
        ([RAY.format(seconds) for seconds in (10, 30, 70)], "ray-placement-group"),
        # Fewer, or some that went by.
        ([READY, *[STALL] * 2], None),
        ([RAY.format(10), RAY.format(30)], None),
        ([*[STALL] * 20, ALIVE], None),
        ([RAY.format(1200), ALIVE, READY], None),
        ([READY, *[STALL] * 20, MAKES.format("41.0"), STALL], None),
        ([*[STALL] * 20, BANNER, READY], None),
        # An idle worker waits too, and a client without a key is no fault of the server.
        ([READY, *[STALL.replace("INFO", "DEBUG")] * 20], None),
        ([READY, *[SAMPLE["request-unauthorized"]] * 20], None),
    ],
)
def test_a_running_server_that_only_waits_is_not_said_to_be_well(lines: list[str], expected: str | None) -> None:
    logs = {"s": list(enumerate([BANNER, *lines], 1))}
    text, (data,) = diagnose_all([{"server": "s", "logs": logs, "containers": {"s": {"exit_code": None}}, "xids": []}])
    assert [cause["id"] for cause in data["causes"]] == ([expected] if expected else [])
    assert (text == "s: nothing known is wrong") is (expected is None)


@pytest.mark.parametrize("prefix", ["(ApiServer_{0} pid=1{0}) ", ""])
def test_one_of_several_api_servers_that_dies_is_not_hidden_by_another(prefix: str) -> None:
    died = "(ApiServer_1 pid=11) OSError: [Errno 24] Too many open files"
    lines = [BANNER, prefix.format(0) + READY, died, prefix.format(2) + READY]
    for facts in ({"failed": True}, {"exit_code": 1}):
        (cause,) = causes(lines, facts)
        assert (cause.id, cause.line, cause.confidence) == ("fd-limit", 3, "high")


def test_api_servers_are_told_apart_by_their_names() -> None:
    """Each is ready for itself, whether the server as a whole has failed or not."""
    error = "(ApiServer_1 pid=11) OSError: [Errno 24] Too many open files"
    ready = [f"(ApiServer_{number} pid=1{number}) {READY}" for number in range(3)]
    assert ids([BANNER, error, ready[0], ready[2]]) == ["fd-limit"]
    assert ids([BANNER, ready[0], error, *ready[1:]]) == []
    (cause,) = causes([BANNER, ready[0], error, *ready[1:]], {"failed": True})
    assert cause.confidence == "low"
    # A start that went well after one that did not, of which lines do not name the server.
    assert ids([BANNER, READY, error, READY]) == []


@pytest.mark.parametrize(
    ("line", "name", "change"),
    [
        (
            "ValueError: Prequant BitsAndBytes models with tensor parallelism is not supported. Please try",
            "quant-shape-tp",
            {"engine": {"tensor_parallel_size": 1}},
        ),
        (
            "RuntimeError: KimiK2ReasoningParser could not locate think start/end tokens in the tokenizer!",
            "cli-reasoning-parser-unknown",
            {},
        ),
    ],
)
def test_what_a_model_does_not_go_with(line: str, name: str, change: dict[str, object]) -> None:
    (cause,) = causes([line], {})
    assert (cause.id, cause.change, cause.remove) == (name, change, [] if change else ["engine.reasoning_parser"])


def test_last_start_of_a_log_counts_first() -> None:
    lines = [BANNER, SAMPLE["disk-full"], BANNER, SAMPLE["no-device"]]
    assert ids(lines) == ["no-device", "disk-full"]


def test_death_after_an_orderly_stop_is_none() -> None:
    stop = "(APIServer pid=6) INFO 11-20 10:00:00 [launcher.py:9] [shutdown] API server: shutdown triggered"
    assert ids([READY, stop, SAMPLE["engine-dead"], SAMPLE["worker-died"]]) == []
    assert ids([READY, SAMPLE["worker-died"], SAMPLE["engine-dead"]]) == ["worker-died", "engine-dead"]


def test_exit_code_and_xid_are_facts() -> None:
    assert ids([], {"exit_code": 132}) == ["cpu-illegal-instruction"]
    assert ids([], {"exit_code": 0}) == []
    assert ids([SAMPLE["cuda-illegal-access"]], {"xids": [13, 79]}) == ["xid", "cuda-illegal-access"]


def test_remedy_is_for_the_release() -> None:
    line = [SAMPLE["engine-ready-timeout"]]
    assert causes(line, {"release": "0.33.0"})[0].change == {"env": {"VLLM_ENGINE_READY_TIMEOUT_S": "3600"}}
    assert causes(line, {"release": "0.11.0"})[0].change == {"engine": {"enforce_eager": True}}
    assert ids([SAMPLE["mem-kv-too-small-v0"]], {"release": "0.33.0"}) == []


def test_values_of_the_message_become_the_change() -> None:
    wanted = {
        "tp-heads-divisibility": {"engine": {"tensor_parallel_size": 7}},
        "mem-kv-too-small-v1": {"engine": {"max_model_len": 34240}},
        "mem-free-less-than-requested": {"engine": {"gpu_memory_utilization": 0.11}},
        "lora-rank-too-large": {"engine": {"max_lora_rank": 128}},
        "mem-oom-sampler-warmup": {"engine": {"max_num_seqs": 256}},
    }
    assert {name: causes([SAMPLE[name]], {})[0].change for name in wanted} == wanted
    assert causes([SAMPLE["cli-unrecognized-arguments"]], {})[0].remove == ["engine.quick_start"]


def test_replacement_of_an_option_is_suggested_from_the_catalogue() -> None:
    line = "vllm: error: unrecognized arguments: --max-model-length 9"
    assert "max_model_len" in causes([line], {"release": "0.33.0"})[0].remedy


def test_a_flood_is_bounded_and_its_end_is_seen() -> None:
    lines = [ERROR.format(rank=0, second=1, text="OSError: [Errno 24] Too many open files")] * 5_000
    found = causes([*lines, SAMPLE["disk-full"]], {})
    assert [cause.id for cause in found] == ["fd-limit", "disk-full"] and found[0].seen <= 64
