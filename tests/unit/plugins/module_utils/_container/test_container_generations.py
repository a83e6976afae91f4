# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which definitions are kept, where a rollback goes, and that what is written is read back as the same."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import generations
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.generations import Generation
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.history import History
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import (
    LABEL_SECRETS,
    LABEL_SERVER,
    ContainerSpec,
    Gpus,
    HealthCheck,
    Mount,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.store import Store


def spec(letter: str, mark: str | None = None) -> ContainerSpec:
    """A definition that differs from that of any other letter in its environment."""
    fields: dict[str, t.Any] = {field.name: "" for field in dataclasses.fields(ContainerSpec)}
    labels = {LABEL_SERVER: "s", **({LABEL_SECRETS: mark} if mark else {})}
    own = {
        "image_id": "sha256:1",
        "argv": ("vllm", "serve"),
        "env": {"LETTER": letter, "is": "ContainerSpec", "fields": "{}"},
        "mounts": (Mount("/a", "/b"), Mount("/c", "/d", False)),
        "tmpfs": {},
        "ulimits": {"memlock": (-1, -1)},
        "listen": ("127.0.0.1", 8000),
        "gpus": Gpus("nvidia", ("GPU-1",)),
        "health": HealthCheck(("CMD", "x"), 1, 2, 3, 4),
        "labels": labels,
    }
    return ContainerSpec(**{**fields, **own})


def history(letters: str, bound: int = 5) -> list[Generation]:
    """The generations after these definitions became ready one after the other."""
    kept: list[Generation] = []
    for letter in letters:
        kept = generations.added(kept, spec(letter), "now", {"stall_seconds": 1}, {}, bound)
    return kept


def shown(kept: t.Sequence[Generation]) -> str:
    """Each with its number and letter; those that were left in parentheses."""
    return " ".join(
        f"({one.number}{one.spec.env['LETTER']})" if one.left else f"{one.number}{one.spec.env['LETTER']}"
        for one in kept
    )


@pytest.mark.parametrize(
    ("letters", "bound", "expected"),
    [
        ("", 5, ""),
        ("a", 5, "1a"),
        ("aa", 5, "1a"),
        ("aba", 5, "2b 3a"),
        ("abcdefg", 5, "3c 4d 5e 6f 7g"),
        ("abc", 1, "3c"),
    ],
)
def test_what_became_ready_is_kept(letters: str, bound: int, expected: str) -> None:
    assert shown(history(letters, bound)) == expected


def test_a_rollback_twice_is_the_same_as_once_and_what_was_left_is_nobodys_former() -> None:
    kept = history("abc")
    for _turn in range(2):
        former = generations.target(kept, "previous")
        assert isinstance(former, Generation)
        kept = generations.rolled_back(kept, former.number)
        assert shown(kept) == "1a 2b (3c)"
    kept = generations.rolled_back(kept, 1)
    assert shown(kept) == "1a (2b) (3c)"
    kept = generations.rolled_back(kept, 2)
    assert shown(kept) == "1a 2b (3c)"
    kept = generations.added(kept, spec("d"), "now", {}, {}, 5)
    assert shown(kept) == "1a 2b (3c) 4d"
    assert generations.target(kept, "previous") == kept[1]
    # The bad one is deployed again, and is ready now.
    kept = generations.added(kept, spec("c"), "now", {}, {}, 5)
    assert shown(kept) == "1a 2b 4d 5c"


@pytest.mark.parametrize(
    ("letters", "which", "words"),
    [
        ("", "previous", "no generation of it is kept"),
        ("a", "previous", "no generation before 1"),
        ("ab", "7", "there is no generation 7; kept are 1, 2"),
        ("ab", "former", "generation is 'former'. Write previous, or one of the numbers 1, 2"),
        ("ab", "-1", "generation is '-1'"),
    ],
)
def test_a_rollback_that_cannot_be_says_why(letters: str, which: str, words: str) -> None:
    found = generations.target(history(letters), which)
    assert isinstance(found, str)
    assert words in found


def test_the_list_says_which_runs_and_in_what_others_differ() -> None:
    kept = history("abc")
    rows = generations.listed(kept, spec("b"), lambda image: image == "sha256:1")
    assert [(row["number"], row["current"], row["differs"]) for row in rows] == [
        (3, False, ["env"]),
        (2, True, []),
        (1, False, ["env"]),
    ]
    assert all(row["image_found"] for row in rows)
    assert [row["current"] for row in generations.listed(kept, None, bool)] == [False] * 3


def test_what_is_written_is_read_back_and_what_is_strange_is_left_out() -> None:
    kept = generations.rolled_back(history("abc"), 2)
    data = json.loads(json.dumps(generations.written(kept)))
    assert generations.read(data) == kept
    other = json.loads(json.dumps(data[0]))
    other["spec"]["fields"]["of_a_later_release"] = 1
    less = json.loads(json.dumps(data[1]))
    del less["spec"]["fields"]["argv"]
    evil = {**data[0], "spec": {"is": "dataclasses", "fields": {}}}
    for strange in (
        other,
        less,
        evil,
        {},
        7,
        {**data[0], "spec": {"is": "Mount", "fields": {"source": "", "target": ""}}},
    ):
        assert generations.read([strange, data[2]]) == [kept[2]]
    assert generations.read(None) == generations.read({"a": 1}) == []


def test_secrets_stay_as_long_as_a_generation_needs_them(tmp_path: pathlib.Path) -> None:
    store = Store(str(tmp_path))
    kept = History(store, 2)

    def folders() -> list[str]:
        return sorted(path.name[0] for path in (tmp_path / "secrets" / "s").iterdir())

    for letter in "123":
        pathlib.Path(store.secrets_folder("s", letter * 64)).mkdir(parents=True)
        kept.became_ready(spec(letter, letter * 64), {"probe": {}, "env": {"A": "B"}}, {})
        kept.drop_secrets("s", [letter * 64])
    assert (shown(kept.of("s")), folders()) == ("2" + "2 33", ["2", "3"])
    assert kept.of("s")[0].server == {"probe": {}}
    path = tmp_path / "generations" / "s.json"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    kept.rolled_back("s", 2)
    kept.adopt(spec("9"))
    assert shown(kept.of("s")) == "22 (33)"
    assert store.servers() == ["s"]
    store.forget("s")
    store.forget("s")
    assert (store.servers(), kept.of("s")) == ([], [])
    kept.adopt(spec("9"))
    assert (shown(kept.of("s")), kept.of("s")[0].result) == ("19", {"adopted": True})
