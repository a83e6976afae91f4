# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The refusal of a controller that lacks what the library needs."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._controller import lacking

ACTIONS = Path(__file__).resolve().parents[4] / "plugins" / "action"


def test_it_names_what_lacks_and_what_to_do() -> None:
    text = lacking(ImportError("No module named 'pydantic'", name="pydantic"))
    assert "lacks pydantic" in text
    assert "meta/ee-requirements.txt" in text


def test_every_plugin_that_can_lack_something_says_it_like_this() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in ACTIONS.glob("*.py")}
    guarded = [name for name, source in sources.items() if "except ImportError" in source]
    assert {"fleet_plan.py", "model_validate.py", "upgrade_check.py", "vram_fit.py"} <= set(guarded)
    assert all("AnsibleActionFail(lacking(error)) from error" in sources[name] for name in guarded)
