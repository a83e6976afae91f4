# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What starts have told of their memory, beside the prediction and in the state folder."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.measured import (
    FILE,
    KEPT,
    compared,
    keep,
    kept,
    measurement,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.memory import FIGURES

MEASURED: dict[str, t.Any] = {"weights_gib": 15.27, "available_kv_gib": 54.9, "kv_tokens": 399792, "budget_gib": None}
KEY = {"same": {"release": "0.32.0"}, "load": {"max_model_len": 8192}}


def entry(length: int = 8192, kv: float = 54.9) -> dict[str, t.Any]:
    """What is kept of a start with this length."""
    server = {"name": "vllm-a-0", "expected_memory": {"key": {**KEY, "load": {"max_model_len": length}}}}
    found = measurement(server, compared(None, {**MEASURED, "available_kv_gib": kv}), "0.32.0", "2026-11-22T10:00:00Z")
    assert found is not None
    return found


COMPARED: list[tuple[dict[str, t.Any] | None, dict[str, t.Any] | None, dict[str, t.Any] | None]] = [
    (None, None, None),
    ({"predicted": {"weights_gib": 15.0}}, None, None),
    (None, MEASURED, {"predicted": None, "measured": MEASURED, "difference": {}}),
    ({"predicted": ["weights_gib"]}, MEASURED, {"predicted": None, "measured": MEASURED, "difference": {}}),
    (
        {"predicted": {"weights_gib": "15", "kv_tokens": True}},
        MEASURED,
        {"predicted": {"weights_gib": "15", "kv_tokens": True}, "measured": MEASURED, "difference": {}},
    ),
    (
        {"predicted": {"weights_gib": 15.0, "kv_tokens": 400000, "budget_gib": 72.0, "activation_gib": 1.0}},
        MEASURED,
        {
            "predicted": {"weights_gib": 15.0, "kv_tokens": 400000, "budget_gib": 72.0, "activation_gib": 1.0},
            "measured": MEASURED,
            "difference": {"weights_gib": 0.27, "kv_tokens": -208},
        },
    ),
]


@pytest.mark.parametrize(("expected", "measured", "result"), COMPARED)
def test_measured_beside_predicted(
    expected: dict[str, t.Any] | None, measured: dict[str, t.Any] | None, result: dict[str, t.Any] | None
) -> None:
    assert compared(expected, measured) == result


@pytest.mark.parametrize(
    ("server", "measured"),
    [
        ({"name": "a"}, MEASURED),
        ({"name": "a", "expected_memory": None}, MEASURED),
        ({"name": "a", "expected_memory": {"predicted": {}}}, MEASURED),
        ({"name": "a", "expected_memory": {"key": "a"}}, MEASURED),
        ({"name": "a", "expected_memory": {"key": KEY}}, None),
        ({"name": "a", "expected_memory": {"key": KEY}}, {**MEASURED, "available_kv_gib": None}),
    ],
)
def test_what_says_nothing_is_not_kept(server: dict[str, t.Any], measured: dict[str, t.Any] | None) -> None:
    assert measurement(server, compared(None, measured), None, "") is None


def test_the_latest_start_of_a_key_is_kept(tmp_path: pathlib.Path) -> None:
    folder = str(tmp_path)
    keep(folder, [entry(1, 1.0), entry(2, 2.0)])
    keep(folder, [entry(1, 3.0)])
    assert [one["measured"]["available_kv_gib"] for one in kept(folder)] == [2.0, 3.0]
    assert sorted(os.listdir(folder)) == [FILE]


def test_the_file_is_readable_by_all_whatever_the_umask(tmp_path: pathlib.Path) -> None:
    before = os.umask(0o077)
    try:
        keep(str(tmp_path), [entry()])
    finally:
        os.umask(before)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o644


def test_the_file_is_bounded(tmp_path: pathlib.Path) -> None:
    keep(str(tmp_path), [entry(length) for length in range(KEPT + 5)])
    keep(str(tmp_path), [entry(-1)])
    lengths = [one["key"]["load"]["max_model_len"] for one in kept(str(tmp_path))]
    assert lengths == [*range(6, KEPT + 5), -1]


def test_of_long_lines_the_latest_are_kept(tmp_path: pathlib.Path) -> None:
    ranks = {f"Worker_PP{rank}": {name: 1.25 for name in FIGURES} for rank in range(64)}
    starts = [entry(length) for length in range(KEPT)]
    keep(str(tmp_path), [{**start, "measured": {**start["measured"], "per_rank": ranks}} for start in starts])
    lengths = [one["key"]["load"]["max_model_len"] for one in kept(str(tmp_path))]
    assert 10 < len(lengths) < KEPT
    assert lengths == list(range(KEPT))[-len(lengths) :]


def test_nothing_is_written_for_nothing(tmp_path: pathlib.Path) -> None:
    keep(str(tmp_path), [])
    assert os.listdir(tmp_path) == []


FOREIGN = [
    b"",
    b"\xff\xfe",
    b"not json\n[1]\n{}\n",
    b'{"key": {}, "measured": 1}\n',
    b'{"key": ' + b"[" * 100000 + b"\n",
]


@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_what_is_not_ours_is_left_out(tmp_path: pathlib.Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert kept(str(tmp_path)) == []
    keep(str(tmp_path), [entry()])
    assert len(kept(str(tmp_path))) == 1


def test_a_torn_line_costs_only_itself(tmp_path: pathlib.Path) -> None:
    keep(str(tmp_path), [entry(1), entry(2)])
    path = tmp_path / FILE
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert len(kept(str(tmp_path))) == 1


def test_a_link_in_the_way_is_not_followed(tmp_path: pathlib.Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / (FILE + ".new")).symlink_to(victim)
    (tmp_path / FILE).symlink_to(victim)
    keep(str(tmp_path), [entry()])
    assert victim.read_text() == "mine"
    assert not (tmp_path / FILE).is_symlink()


def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path: pathlib.Path) -> None:
    keep(str(tmp_path / "none"), [entry()])
    assert kept(str(tmp_path / "none")) == []
