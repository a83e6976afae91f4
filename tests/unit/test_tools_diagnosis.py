# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The score of the diagnosis."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools/diagnosis/score.py"))
MESSAGES = Path(__file__).with_name("fixtures") / "failures/messages.json"


def test_known_causes_are_first_on_their_own_samples() -> None:
    result = TOOL["score"](TOOL["own_samples"]())
    assert result["samples"] == result["first"] >= 150
    assert result["missed"] == []


def test_messages_of_public_reports_show_their_causes_first() -> None:
    result = TOOL["score"](json.loads(MESSAGES.read_text(encoding="utf-8")))
    assert (result["missed"], result["false"]) == ([], [])
    assert result["first"] >= 180 and result["healthy"] >= 10


def test_misses_and_false_matches_are_listed() -> None:
    full, notice = "OSError: [Errno 28] No space left on device", "CUDA out of memory"
    result = TOOL["score"](
        [
            {"id": "disk-full", "samples": [{"text": full}, {"text": "nothing of the kind"}]},
            {"id": "healthy-start", "samples": [{"text": "INFO:     Application startup complete."}, {"text": notice}]},
            {"id": None, "samples": [full]},
        ]
    )
    assert (result["samples"], result["first"], result["share"]) == (2, 1, 0.5)
    assert result["missed"] == [{"id": "disk-full", "found": [], "text": "nothing of the kind"}]
    assert [false["found"] for false in result["false"]] == [["mem-cuda-oom"], ["disk-full"]]
    assert (result["healthy"], result["ids"]) == (3, {"disk-full": {"samples": 2, "first": 1, "found": 1}})
    text = TOOL["shown"](result)
    assert "right cause first: 1 of 2 (50.0%)" in text and "false matches: 2 of 3 healthy logs" in text
