# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What real vLLM (its CPU build) tells of its memory: shown beside the plan, kept, and used by the next plan."""

from __future__ import annotations

import json
import os
import re
import typing as t

import pytest

from support.fleet import Fleet, Played
from support.real import real_fleet

GIB = 2**30
# What the engine may take of the host. More than the plan's worst case for a CPU, so that it fits on any machine.
SHARE_BYTES = 3 * GIB


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Fleet]:
    """One fleet for all tests of this file, which follow each other: a real start takes a minute."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    options = {
        "max_num_seqs": 8,
        # Without a size in bytes the engine measures itself and takes what its share leaves.
        "kv_cache_memory_bytes": None,
        "gpu_memory_utilization": round(SHARE_BYTES / total, 3),
    }
    made = real_fleet(tmp_path_factory.mktemp("e2e"), "told", options)
    try:
        yield made
    finally:
        made.remove()


def told(played: Played) -> dict[str, t.Any]:
    """What the one server that was started has told."""
    assert played.rc == 0, played.output
    (result,) = played.results("vllm_servers")
    (server,) = result["servers"]
    return t.cast("dict[str, t.Any]", server["memory"])


def notes(played: Played) -> list[str]:
    """The notes of the plan's ledger."""
    (placement,) = played.results("fleet_plan")[0]["placements"]
    return t.cast("list[str]", placement["ledger"]["notes"])


def kept(fleet: Fleet) -> list[dict[str, t.Any]]:
    """The measurements on the host."""
    lines = (fleet.state_dir / "measured.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_start_is_shown_beside_its_prediction_and_kept(fleet: Fleet) -> None:
    played = fleet.play("deploy")
    memory = told(played)
    assert not [note for note in notes(played) if "earlier start" in note]
    measured, predicted = memory["measured"], memory["predicted"]
    # The CPU build tells these and no others.
    assert min(measured[name] for name in ("available_kv_gib", "budget_gib", "consumed_gib", "kv_tokens")) > 0
    assert measured["budget_gib"] == pytest.approx(measured["consumed_gib"] + measured["available_kv_gib"], abs=0.02)
    assert measured["weights_gib"] is None
    off = measured["available_kv_gib"] - predicted["available_kv_gib"]
    assert memory["difference"]["available_kv_gib"] == pytest.approx(off, abs=0.001)
    assert re.search(
        r"one \| vllm-told-0 \| .*\| memory: KV cache \d+\.\d\d GiB \(predicted \d+\.\d\d\), ", played.output
    )
    (entry,) = kept(fleet)
    assert (entry["server"], entry["version"], entry["measured"]) == ("vllm-told-0", "0.32.0", measured)
    assert (fleet.state_dir / "measured.jsonl").stat().st_mode & 0o777 == 0o644


def test_a_run_that_changes_nothing_reads_and_writes_nothing_of_it(fleet: Fleet) -> None:
    before = (fleet.state_dir / "measured.jsonl").stat().st_mtime_ns
    identities = fleet.identities()
    played = fleet.play("deploy")
    # The prediction is now another one, and that alone replaces no server.
    assert played.unchanged
    assert fleet.identities() == identities
    assert told(played) is None
    assert (fleet.state_dir / "measured.jsonl").stat().st_mtime_ns == before


def test_the_next_plan_is_corrected_and_says_so(fleet: Fleet) -> None:
    first = kept(fleet)[0]["predicted"]["consumed_gib"]
    truth = kept(fleet)[0]["measured"]["consumed_gib"]
    planned = fleet.play("plan")
    assert any("runtime corrected by 1 earlier start" in line for line in planned.results("fleet_plan")[0]["text"]), (
        planned.output
    )
    assert [note for note in notes(planned) if "runtime corrected by 1 earlier start" in note]
    # With another length the start is another one; what the engine itself takes stays what it was.
    fleet.models[0]["engine"]["max_model_len"] = 512
    memory = told(fleet.play("deploy"))
    assert abs(memory["difference"]["consumed_gib"]) < max(0.1, abs(truth - first))
    assert [entry["key"]["load"]["max_model_len"] for entry in kept(fleet)] == [1024, 512]


def test_status_has_what_was_told(fleet: Fleet) -> None:
    (info,) = fleet.play("status").results("vllm_info")
    assert [entry["key"]["load"]["max_model_len"] for entry in info["measured"]] == [1024, 512]
