# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of a collective check as a result or as a reason, and what the container of the check is."""

from __future__ import annotations

import json

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._collective import check, rank
from ansible_collections.gpufleet.vllm.plugins.module_utils._collective.report import Report, trouble
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.wanted import Image

TASK = {
    "backend": "nccl",
    "address": "10.0.0.5",
    "port": 29500,
    "world_size": 4,
    "first_rank": 2,
    "processes": 2,
    "sizes": [1024, 4096],
    "repeat": 5,
    "timeout_seconds": 60,
}
PARAMS = {
    "image": "some/image:1",
    "gpus": None,
    "processes": 2,
    "world_size": None,
    "first_rank": 0,
    "master_address": "127.0.0.1",
    "master_port": 29500,
    "network": "none",
    "env": {},
    "sizes": [1024],
    "repeat": 5,
    "timeout_seconds": 60,
    "shm_bytes": 2**30,
    "user": "",
}


def report(*events, lines=()):
    made = Report()
    for number, kind, facts in events:
        made.line(rank.MARK + json.dumps({"rank": number, "event": kind, **facts}))
    for line in lines:
        made.line(line)
    return made


def reduced(number, size, seconds, right=True):
    algorithm, bus = rank.bandwidth(size, seconds, 4)
    return number, "reduced", {"bytes": size, "seconds": seconds, "right": right, "algorithm": algorithm, "bus": bus}


def test_the_slowest_rank_counts_and_the_bus_is_what_a_link_carries():
    done = [(number, "done", {}) for number in (2, 3)]
    made = report(reduced(2, 10**9, 0.5), reduced(3, 10**9, 1.0), *done)
    assert made.sizes() == [
        {
            "bytes": 10**9,
            "correct": True,
            "seconds": 1.0,
            "algorithm_gb_per_second": 1.0,
            "bus_gb_per_second": 1.5,
        }
    ]
    assert trouble(made, TASK, 0) is None


def test_a_wrong_sum_is_told_though_all_went_through():
    made = report(reduced(2, 1024, 0.1), reduced(3, 1024, 0.1, False), (2, "done", {}), (3, "done", {}))
    assert "sum of 1024 bytes is wrong on ranks 2, 3" in trouble(made, TASK, 0)


@pytest.mark.parametrize(
    ("events", "code", "said"),
    [
        (
            [(2, "waited", {"at": {"0": "joined", "1": None, "2": "joined", "3": "joined"}})],
            3,
            "Rank 1 of 4 did not come",
        ),
        (
            [
                (3, "failed", {"error": "RuntimeError: closed", "at": {"error": "no"}}),
                (
                    2,
                    "waited",
                    {"at": {"0": "reducing 4096 bytes", "1": "in the group", "2": "reducing 4096 bytes", "3": "done"}},
                ),
            ],
            3,
            "Rank 1 of 4 is still in the group while others are done",
        ),
        (
            [(2, "waited", {"at": {"0": "joined", "1": "reducing 1024 bytes"}, "silent": [1]})],
            3,
            "Rank 1 of 4 was reducing 1024 bytes and gives no sign of life any more",
        ),
        (
            [(2, "waited", {"at": {str(number): "reducing 1024 bytes" for number in range(4)}})],
            3,
            "All 4 ranks are reducing 1024 bytes and nothing has come through between them for 60 s",
        ),
        (
            [(2, "no_store", {"error": "refused\nmore", "address": "10.0.0.5:29500"})],
            1,
            "did not reach rank 0 at 10.0.0.5:29500: refused.",
        ),
        (
            [(0, "no_store", {"error": "in use", "address": "10.0.0.5:29500"})],
            1,
            "Rank 0 cannot listen at 10.0.0.5:29500: in use.",
        ),
        (
            [(2, "failed", {"error": "ModuleNotFoundError: torch", "at": {}})],
            1,
            "Rank 2 failed: ModuleNotFoundError: torch.",
        ),
        ([(3, "killed", {"signal": 9})], 1, "Rank 3 was ended by signal 9"),
        ([], None, "Nothing came to an end within 60 s"),
        ([], 127, "exit code 127"),
        ([(2, "done", {})], 0, "before all ranks of this host were through"),
    ],
)
def test_why_it_did_not_succeed(events, code, said):
    assert said in trouble(report(*events), TASK, code)


def test_what_nccl_chose_is_read_from_its_log():
    lines = [
        "gpu01:53:53 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM",
        "gpu01:53:53 [0] NCCL INFO Channel 01/0 : 0[0] -> 1[1] via P2P/CUMEM",
        "gpu01:53:53 [0] NCCL INFO Channel 00/0 : 3[1] -> 0[0] [send] via NET/IB/0/GDRDMA",
        "gpu01:53:53 [0] NCCL INFO Channel 00..03 : 0[0] -> 1[1] via SHM/direct/direct",
        "frame #2: c10::Error",
        "something else",
    ]
    made = report(lines=lines)
    assert made.transports == {"P2P/CUMEM": 2, "NET/IB/GDRDMA": 1, "SHM/direct/direct": 1}
    assert made.others == ["something else"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"processes": 0, "world_size": 2}, "processes is less than 1"),
        ({"processes": 1}, "needs two ranks"),
        ({"world_size": 4, "first_rank": 3, "network": "host"}, "do not fit into a world_size of 4"),
        ({"world_size": 4}, "Several hosts need a network"),
        ({"sizes": [2]}, "sizes are bytes"),
        ({"sizes": []}, "sizes are bytes"),
        ({"timeout_seconds": 0}, "1 at least"),
    ],
)
def test_what_cannot_work_is_refused(changes, said):
    assert said in " ".join(check.refusals({**PARAMS, **changes}))
    assert check.refusals(PARAMS) == []


def test_the_container_has_the_policy_of_a_server_and_is_none():
    image = Image("sha256:1", ("vllm", "serve"), {}, {}, "")
    spec = check.container(PARAMS, image, "gpufleet-check-1")
    assert (spec.cap_drop, spec.security_opt, spec.read_only_root) == (("ALL",), ("no-new-privileges",), True)
    assert (spec.network, spec.health, spec.argv[:2]) == ("none", None, ("python3", "-c"))
    assert spec.env["GLOO_SOCKET_IFNAME"] == "lo" and "NCCL_DEBUG" not in spec.env
    assert dict(spec.labels) == {"gpufleet.vllm.check": "gpufleet-check-1"}
    compile(spec.argv[2], "rank", "exec")
    assert json.loads(spec.argv[3])["world_size"] == 2


def test_one_rank_a_gpu_over_nccl():
    params = {
        **PARAMS,
        "gpus": {"runtime": "nvidia", "ids": ["GPU-1", "GPU-2", "GPU-2"]},
        "env": {"NCCL_DEBUG": "WARN", "A": 1},
    }
    task = check.task(params)
    assert (task["backend"], task["processes"], task["world_size"]) == ("nccl", 2, 2)
    assert check.environment(params)["NCCL_DEBUG"] == "WARN" and check.environment(params)["A"] == "1"


def test_a_line_that_broke_off_is_no_end_of_the_report() -> None:
    report = Report()
    report.line(rank.MARK + '{"rank": 1, "event": "fai')
    report.line(rank.MARK + json.dumps({"rank": 0, "event": "failed", "error": "no memory"}))
    assert [one["rank"] for one in report.of("failed")] == [0] and report.others == [
        rank.MARK + '{"rank": 1, "event": "fai'
    ]
