# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/render.py and tools/catalogue/show.py, run as people run them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import runpy
import subprocess
import sys
import typing as t
import unittest.mock

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = "name: tiny\nmodel: Qwen/Qwen3-0.6B\n"


class Done(t.NamedTuple):
    """What a tool left behind; the names are those of subprocess.CompletedProcess."""

    returncode: int
    stdout: str
    stderr: str


def run(tool: str, *arguments: str) -> Done:
    """Run a tool as a program, but in this process: starting a Python for each costs a second."""
    printed, errors = io.StringIO(), io.StringIO()
    command = [str(ROOT / "tools" / tool), *arguments]
    with (
        unittest.mock.patch.object(sys, "argv", command),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_path(command[0], run_name="__main__")
    return Done(int(ended.value.code or 0), printed.getvalue(), errors.getvalue())


def test_the_tools_run_as_processes(tmp_path: pathlib.Path) -> None:
    # The collection is found where the tests find it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONIOENCODING": "utf-8"}
    path = tmp_path / "spec.yml"
    path.write_text(MODEL)
    command = [sys.executable, str(ROOT / "tools/render.py"), "--spec", str(path), "--release", "0.33.0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == run("render.py", *command[2:])


class Rendered:
    """What render.py made of a file with this text."""

    def __init__(self, folder: pathlib.Path, text: str | bytes, release: str = "0.33.0") -> None:
        path = folder / "spec.yml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        done = run("render.py", "--spec", str(path), "--release", release)
        self.status, self.errors = done.returncode, done.stderr
        self.found: t.Any = json.loads(done.stdout) if done.stdout else None
        assert "Traceback" not in done.stderr


def test_one_model(tmp_path: pathlib.Path) -> None:
    done = Rendered(tmp_path, MODEL + "engine: {max_model_len: 1024, enforce_eager: true}\n")
    assert (done.status, done.errors) == (0, "")
    assert done.found["entrypoint"] == ["vllm", "serve"]
    assert done.found["argv"] == [
        *("Qwen/Qwen3-0.6B", "--served-model-name", "tiny", "--host", "0.0.0.0", "--port", "8000"),
        *("--shutdown-timeout", "45", "--enforce-eager", "--max-model-len", "1024"),
    ]
    assert done.found["env"]["HF_HUB_CACHE"]
    assert (done.found["name"], done.found["release"], done.found["messages"]) == ("tiny", "0.33.0", [])
    assert done.found["engine"] == {"max_model_len": 1024, "enforce_eager": True}


def test_an_older_release_gets_its_own_arguments(tmp_path: pathlib.Path) -> None:
    done = Rendered(tmp_path, MODEL, "0.11.0")
    assert done.found["entrypoint"] == ["python3", "-m", "vllm.entrypoints.openai.api_server"]
    assert done.found["argv"][:2] == ["--model", "Qwen/Qwen3-0.6B"]
    assert "VLLM_ENGINE_READY_TIMEOUT_S" not in done.found["env"]


@pytest.mark.parametrize("form", ["- {a}\n- {b}\n", "vllm_models:\n- {a}\n- {b}\n", '[{"name": "a"}]'])
def test_the_forms_of_a_file(tmp_path: pathlib.Path, form: str) -> None:
    a, b = "{name: a, model: x/y}", "{name: b, model: x/y}"
    done = Rendered(tmp_path, form.replace("{a}", a).replace("{b}", b))
    names = [model["name"] for model in done.found] if isinstance(done.found, list) else done.found["name"]
    assert names == (["a", "b"] if "\n" in form else "a")


def test_errors_are_messages(tmp_path: pathlib.Path) -> None:
    done = Rendered(tmp_path, MODEL + "engine: {max_model_length: 1024}\nenv: {VLLM_NO_SUCH: 1}\n")
    assert (done.status, done.errors) == (1, "")
    assert done.found["argv"] is None and done.found["env"] is None
    messages = {message["field"]: message for message in done.found["messages"]}
    assert messages["engine.max_model_length"]["severity"] == "error"
    assert "max_model_len" in messages["engine.max_model_length"]["fix"]
    assert messages["env.VLLM_NO_SUCH"]["severity"] == "warning"
    assert set(messages["env.VLLM_NO_SUCH"]) == {
        *("name", "severity", "field", "value", "reason", "fix", "remedy", "text")
    }


def test_warnings_alone_are_no_failure(tmp_path: pathlib.Path) -> None:
    done = Rendered(tmp_path, MODEL + "env: {VLLM_NO_SUCH: 1}\n")
    assert done.status == 0 and done.found["argv"]


def test_an_error_with_a_remedy_is_rendered_with_it(tmp_path: pathlib.Path) -> None:
    done = Rendered(tmp_path, MODEL + "engine: {guided_decoding_backend: xgrammar}\n")
    assert done.status == 1
    assert done.found["argv"] and "guided_decoding_backend" not in done.found["engine"]
    (message,) = [message for message in done.found["messages"] if message["severity"] == "error"]
    assert message["remedy"]


def test_malformed_models_stand_at_their_place(tmp_path: pathlib.Path) -> None:
    done = Rendered(tmp_path, "- {name: a, modle: x/y}\n- {model: x/y}\n- {name: c, model: x/y}\n")
    assert done.status == 1
    assert [model["name"] for model in done.found] == ["a", "vllm_models[1]", "c"]
    assert [model["argv"] is None for model in done.found] == [True, True, False]


def test_a_release_that_is_not_catalogued(tmp_path: pathlib.Path) -> None:
    done = Rendered(tmp_path, MODEL, "0.99.0")
    assert (done.status, done.found["release"]) == (0, "0.33.0")
    (message,) = done.found["messages"]
    assert message["severity"] == "warning" and "0.99.0" in message["reason"]
    assert done.found["argv"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [\n", "line 2, column 1"),
        ("a: b: c\n", "line 1"),
        ("x: !vault abc\n", "no YAML"),
        ("", "holds no model"),
        ("- text\n", "holds no model"),
        ("7\n", "holds no model"),
        (b"\xff\xfe\xfa", "spec.yml"),
        ("a: \x01\n", "no YAML"),
        ("[" * 3000, "no YAML"),
        ("d: 2026-99-99\n", "no YAML"),
    ],
)
def test_an_unreadable_file(tmp_path: pathlib.Path, text: str | bytes, said: str) -> None:
    done = Rendered(tmp_path, text)
    assert (done.status, done.found) == (2, None)
    assert said in done.errors and len(done.errors.splitlines()) == 1


def test_no_file_at_all(tmp_path: pathlib.Path) -> None:
    done = run("render.py", "--spec", str(tmp_path / "absent.yml"), "--release", "0.33.0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "absent.yml: No such file or directory" in done.stderr and len(done.stderr.splitlines()) == 1


def show(release: str) -> dict[str, t.Any]:
    """What show.py prints."""
    done = run("catalogue/show.py", "--release", release)
    assert (done.returncode, done.stderr) == (0, "")
    return t.cast("dict[str, t.Any]", json.loads(done.stdout))


def test_a_release() -> None:
    found = show("0.11.0")
    assert (found["release"], found["exact"], found["note"]) == ("0.11.0", True, "")
    flag = found["flags"]["--tensor-parallel-size"]
    assert flag["aliases"] == ["-tp"]
    assert (flag["boolean"], flag["type"], flag["default"], flag["since"], flag["until"]) == (
        *(None, "int", 1, "0.6.0", None),
    )
    assert found["flags"]["--dtype"]["choices"] == ["auto", "bfloat16", "float", "float16", "float32", "half"]
    assert found["flags"]["--enforce-eager"]["boolean"] == {
        "on": "--enforce-eager",
        "off": "--no-enforce-eager",
        "style": "no",
    }
    assert found["flags"]["--swap-space"]["until"] == "0.17.1"
    assert "VLLM_USE_V1" in found["env"]
    assert found["images"]["cuda"]["entrypoint"] == ["python3", "-m", "vllm.entrypoints.openai.api_server"]
    assert all(name.startswith("--") for name in found["flags"])


def test_every_section_is_there() -> None:
    found = show("0.33.0")
    folder = ROOT / "plugins/plugin_utils/data/catalogue"
    sections = {path.stem for path in folder.glob("*.json")} - {"releases", "options", "environment"}
    assert sections <= set(found)
    assert "vllm:num_requests_running" in found["metrics"]
    assert "/v1/models" in found["routes"]
    assert set(found["env_dead"]) <= set(found["env"])
    assert "since" not in json.dumps([found[section] for section in sections])


@pytest.mark.parametrize(("release", "nearest"), [("0.11.9", "0.11.2"), ("0.99.0", "0.33.0"), ("main", "0.33.0")])
def test_the_nearest_release(release: str, nearest: str) -> None:
    found = show(release)
    assert (found["release"], found["exact"], found["requested"]) == (nearest, False, release)
    assert release in found["note"]


def test_a_build_of_a_release_is_the_release() -> None:
    assert show("0.32.0+cpu")["exact"] is True
