# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules as Ansible runs them: a process that takes its arguments and prints its result as JSON."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins import module_utils

pytest.importorskip("ansible", reason="modules run with the ansible-core that sent them")
MODULES = pathlib.Path(next(iter(module_utils.__path__))).parent / "modules"


def module(name: str, **arguments: t.Any) -> dict[str, t.Any]:
    """The result of a module's run."""
    done = subprocess.run(
        [sys.executable, str(MODULES / f"{name}.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("\n{"), done.stderr
    return json.loads(done.stdout)


def plain(server: dict[str, t.Any]) -> dict[str, t.Any]:
    """The server as a task has it: what is not set is not there."""
    return {name: value for name, value in server.items() if value is not None}


@pytest.mark.parametrize("diff", [True, False])
def test_a_diff_is_there_when_it_is_asked_for(host: t.Any, diff: bool) -> None:
    common = {"fleet": host.fleet, "state_dir": str(host.state_dir), "_ansible_diff": diff}
    good, bad = plain(host.server("a")), plain(host.server("b", env={"STAND_IN_DIE_AT": "config"}))
    foreseen = module("vllm_servers", servers=[good], state="present", _ansible_check_mode=True, **common)
    done = module("vllm_servers", servers=[good], state="present", **common)
    assert (foreseen["changed"], foreseen["actions"]) == (done["changed"], done["actions"]) != (False, [])
    assert foreseen.get("diff") == done.get("diff")
    failed = module("vllm_servers", servers=[bad], **common)
    assert (failed["failed"], failed["changed"], failed["failures"][0]["kind"]) == (True, True, "exited")
    assert ["diff" in result for result in (foreseen, done, failed)] == [diff] * 3


def test_no_result_shows_a_secret_and_progress_is_written(host: t.Any, tmp_path: pathlib.Path) -> None:
    progress = tmp_path / "progress"
    common = {"fleet": host.fleet, "state_dir": str(host.state_dir), "secrets": {"a": {"api_key": "sk-4711-end"}}}
    server = plain(host.server())
    done = module("vllm_servers", servers=[server], progress_file=str(progress), _ansible_diff=True, **common)
    assert done["servers"][0]["state"] == "ready"
    refused = module("vllm_servers", servers=[{**server, "image": "sk-4711-end"}], **common)
    assert refused["failed"]
    assert "4711" not in json.dumps([done, refused]) + progress.read_text()
    first, *events = [json.loads(line) for line in progress.read_text().splitlines()]
    assert list(first) == ["pid"]
    assert [event["stage"] for event in events][-1] == "ready"
    keys = ("done", "memory", "process", "seconds", "server", "stage", "text", "total")
    assert {tuple(sorted(event)) for event in events} == {keys}


def test_what_is_told_of_a_fleet(host: t.Any) -> None:
    host.run(host.server())
    told = module("vllm_info", fleet=host.fleet)
    assert [(server["state"], server["model"]) for server in told["servers"]] == [("ready", "a")]
    facts = module("image_info", images=[host.server()["image"], "no/such:1"])
    assert [image["found"] for image in facts["images"]] == [True, False]
