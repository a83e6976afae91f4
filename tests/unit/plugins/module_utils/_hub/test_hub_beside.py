# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokenizer and configuration beside weights that came without."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.beside import PROVENANCE, materialize
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access

NAMES = ["chat_template.jinja", "config.json", "tokenizer.json", "tokenizer_config.json"]


class Beside:
    """A folder with weights, and the tokenizer of acme/tiny."""

    def __init__(self, bench):
        self.bench = bench
        self.dest = bench.folder / "weights"
        self.dest.mkdir()
        (self.dest / "model.gguf").write_bytes(b"GGUF")

    def run(self, overwrite=False, check=False, **changes):
        snapshot = self.bench.present(scope="tokenizer", check=check, **changes)
        return materialize(snapshot, str(self.dest), Access(), overwrite, check)

    def names(self):
        return sorted(path.name for path in self.dest.iterdir())


@pytest.fixture
def beside(bench):
    return Beside(bench)


def test_copies_with_their_origin(beside):
    result = beside.run()
    assert result["changed"] and result["copied"] == NAMES
    assert beside.names() == sorted([*NAMES, PROVENANCE, "model.gguf"])
    assert not any((beside.dest / name).is_symlink() for name in NAMES)
    origin = json.loads((beside.dest / PROVENANCE).read_text())
    assert (
        origin["repo"] == "acme/tiny" and origin["commit"] == beside.bench.commit() and sorted(origin["files"]) == NAMES
    )
    assert not beside.run()["changed"]


def test_check_mode_before_and_after_the_fetch(beside):
    foreseen = beside.run(check=True)
    assert foreseen["changed"] and foreseen["copied"] == NAMES and beside.names() == ["model.gguf"]
    beside.bench.present(scope="tokenizer")
    assert beside.run(check=True)["copied"] == NAMES and beside.names() == ["model.gguf"]
    assert beside.run()["copied"] == NAMES
    assert not beside.run(check=True)["changed"]


def test_somebody_s_own_file_is_never_replaced_silently(beside):
    (beside.dest / "config.json").write_text("my own")
    with pytest.raises(FleetError, match="files of its own that differ from those of the repo: config.json") as failed:
        beside.run()
    assert failed.value.details["files"] == ["config.json"]
    assert beside.names() == ["config.json", "model.gguf"]
    assert beside.run(overwrite=True)["copied"] == NAMES
    assert (beside.dest / "config.json").read_bytes() == beside.bench.stored["config.json"]


def test_what_was_copied_is_updated_and_what_was_changed_since_is_not(beside):
    beside.run()
    beside.bench.add("acme/tiny", {"config.json": b'{"new": 1}', "tokenizer.json": b'{"new": 2}'})
    assert beside.run(update=True)["copied"] == ["config.json", "tokenizer.json"]
    (beside.dest / "tokenizer.json").write_text("edited")
    beside.bench.add("acme/tiny", {"config.json": b'{"new": 3}'})
    with pytest.raises(FleetError, match="tokenizer.json"):
        beside.run(update=True)
    assert (beside.dest / "config.json").read_bytes() == b'{"new": 1}'


def test_the_same_file_is_left_alone_whoever_brought_it(beside):
    (beside.dest / "config.json").write_bytes(beside.bench.stored["config.json"])
    assert "config.json" not in beside.run()["copied"]


def test_links_lead_nowhere(beside, tmp_path):
    (tmp_path / "elsewhere").write_text("untouched")
    (beside.dest / "config.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FleetError, match="config.json"):
        beside.run()
    beside.run(overwrite=True)
    assert (tmp_path / "elsewhere").read_text() == "untouched" and not (beside.dest / "config.json").is_symlink()
    beside.bench.add("acme/tiny", {"additional_chat_templates/rag.jinja": b"x"})
    os.symlink(tmp_path, beside.dest / "additional_chat_templates")
    with pytest.raises(FleetError, match="is a link, and nothing is written through it"):
        beside.run(update=True)


def test_a_file_is_no_folder(beside):
    beside.dest = beside.dest / "model.gguf"
    with pytest.raises(FleetError, match="is no folder"):
        beside.run()
