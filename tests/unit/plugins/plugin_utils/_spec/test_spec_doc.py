# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tools/reference.py makes is current, and leaves the check of the models to the plan."""

from __future__ import annotations

import pathlib
import re
import runpy
import typing as t

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = pathlib.Path(__file__).resolve().parents[5]


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> dict[str, t.Any]:
    """The tool's names, as if it were run."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    return runpy.run_path(str(ROOT / "tools" / "reference.py"))


def test_every_generated_file_is_what_the_tool_writes(reference: dict[str, t.Any]) -> None:
    stale = [
        path.relative_to(ROOT).as_posix()
        for path, text in reference["wanted"]().items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run 'make reference'"


def test_pages_can_be_read(reference: dict[str, t.Any]) -> None:
    for path, text in reference["wanted"]().items():
        assert len(text.encode()) < 200_000, path
        if path.suffix == ".md":
            columns = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()]
            torn = [(one, next_one) for one, next_one in zip(columns, columns[1:], strict=False) if one and next_one]
            assert all(one == next_one for one, next_one in torn), path


@pytest.mark.parametrize(("role", "entry"), [("server", "main"), ("server", "plan"), ("host", "inspect")])
@pytest.mark.parametrize("models", ["no list", [1], [{"nmae": "a", "placement": 1, "listen": {"prot": 1}}]])
def test_ansible_leaves_the_check_of_models_to_the_plan(role: str, entry: str, models: t.Any) -> None:
    text = (ROOT / "roles" / role / "meta/argument_specs.yml").read_text(encoding="utf-8")
    options = yaml.safe_load(text)["argument_specs"][entry]["options"]
    assert {"name", "engine", "secrets"} < set(options["vllm_models"]["options"])
    found = ArgumentSpecValidator(options).validate({"vllm_models": models}, validate_role_argument_spec=True)
    assert found.error_messages == []
    assert ArgumentSpecValidator(options).validate({}).error_messages == ["missing required arguments: vllm_models"]
