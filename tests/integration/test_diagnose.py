# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook diagnose on containers that something else has started, and on log files."""

from __future__ import annotations

import pathlib
import stat
import tarfile
import typing as t

import pytest

from support.fleet import Fleet

TOKEN = "hf_" + "Zz19" * 8
GONE = "(Worker_TP0 pid=7) ERROR 11-20 10:00:01 [x.py:1] NCCL error: remote process exited or there was a network error"
OOM = "(Worker_TP1 pid=8) ERROR 11-20 10:00:02 [x.py:1] torch.OutOfMemoryError: Tried to allocate 2.00 GiB"
OOM = OOM.replace("Tried", "CUDA out of memory. Tried")


@pytest.fixture
def ranks(fleet: Fleet) -> t.Iterator[list[str]]:
    """Two ended containers that are not of this collection: the ranks of one server, by name."""
    made = []
    for rank, text in enumerate((GONE, f"env HF_TOKEN={TOKEN} password\n{OOM}")):
        name = f"{fleet.name}-rank{rank}"
        one = fleet.docker.containers.run(
            fleet.stand_in,
            entrypoint=["sh", "-c", "printf '%s\\n' \"$TEXT\"; exit 1"],
            environment={"TEXT": text, "HF_TOKEN": TOKEN, "MY_PASSWORD": "opensesame42"},
            name=name,
            detach=True,
        )
        one.wait(timeout=600)
        made.append(one)
    try:
        yield [one.name for one in made]
    finally:
        for one in made:
            one.remove(force=True)


def test_ranks_are_read_together_and_an_incident_is_brought_back(
    fleet: Fleet, ranks: list[str], tmp_path: pathlib.Path
) -> None:
    wanted = {"diagnose_containers": ranks, "diagnose_joined": True, "diagnose_fetch_to": str(tmp_path / "incidents")}
    foreseen = fleet.play("diagnose", "--check", **wanted)
    assert foreseen.rc == 0, foreseen.output
    (result,) = foreseen.results("vllm_diagnose")
    assert result["changed"] and not pathlib.Path(result["archive"]).exists()

    done = fleet.play("diagnose", **wanted)
    assert done.rc == 0, done.output
    (result,) = done.results("vllm_diagnose")
    assert result["changed"]
    (one,) = result["diagnosis"]
    assert [(cause["id"], cause["source"]) for cause in one["causes"]] == [
        ("mem-cuda-oom", ranks[1]),
        ("nccl-remote-gone", ranks[0]),
    ]
    assert "The GPU has no memory left for 2.00 GiB." in result["msg"]
    assert f"DIAGNOSIS on one\n{result['msg']}\narchive: {result['archive']}\n" in done.output
    for path in (result["archive"], result["fetched"]):
        assert stat.S_IMODE(pathlib.Path(path).stat().st_mode) == 0o600
    with tarfile.open(result["fetched"]) as tar:
        content = {member.name.partition("/")[2]: tar.extractfile(member).read() for member in tar.getmembers()}
    assert sorted(content) == [
        "diagnosis.json",
        "diagnosis.txt",
        "gpu.json",
        f"inspect/0-{ranks[0]}.json",
        f"inspect/1-{ranks[1]}.json",
        f"logs/0-{ranks[0]}.log",
        f"logs/1-{ranks[1]}.log",
    ]
    for text in (*content.values(), done.output.encode(), str(result).encode()):
        assert TOKEN[3:].encode() not in text and b"opensesame42" not in text
    assert OOM.encode() in content[f"logs/1-{ranks[1]}.log"]


def test_a_log_file_needs_no_engine_and_nothing_is_written_unasked(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text("vllm: error: unrecognized arguments: --max-model-length 9\n", encoding="utf-8")
    done = fleet.play("diagnose", diagnose_logs=[str(log)], diagnose_write=False)
    assert done.rc == 0, done.output
    (result,) = done.results("vllm_diagnose")
    assert not result["changed"] and "archive" not in result
    assert result["diagnosis"][0]["causes"][0]["remove"] == ["engine.max_model_length"]
    missing = fleet.play("diagnose", diagnose_containers=["no-such-container"], diagnose_write=False)
    assert missing.rc != 0 and "There is no container no-such-container on this host" in missing.failure
