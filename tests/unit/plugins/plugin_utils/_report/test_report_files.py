# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports as files."""

from __future__ import annotations

import pathlib

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.files import write_files


def test_what_no_file_can_hold_is_escaped_and_written_once(tmp_path: pathlib.Path) -> None:
    texts = {"fit.json": "half \ud800, whole \u00e4\n"}
    (difference,) = write_files(str(tmp_path), texts, pretend=False)
    assert difference["after"] == (tmp_path / "fit.json").read_text(encoding="utf-8") == "half \\ud800, whole \u00e4\n"
    assert write_files(str(tmp_path), texts, pretend=False) == []
