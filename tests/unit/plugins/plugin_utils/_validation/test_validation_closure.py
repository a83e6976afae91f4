# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an offline server would miss on a host."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.closure import check_closure

WHOLE = ["config.json", "model.safetensors", "tokenizer.json"]


def entry(source: str, files: list[str] | None = None, scope: str = "model", **changes: t.Any) -> dict[str, t.Any]:
    found = {
        "source": source,
        "revision": None,
        "scope": scope,
        "found": files is not None,
        "reason": None if files is not None else f"{source} is not in the cache.",
        "path": f"/srv/hub/{source}",
        "files": files or [],
        "problems": [],
        "missing_code_repos": [],
    }
    return {**found, **changes}


def gaps(
    engine: dict[str, t.Any], *entries: dict[str, t.Any], config: dict[str, t.Any] | None = None, model: str = "a/b"
) -> list[str]:
    spec = ModelSpec(name="m", model=model, image="x:v1", engine=engine, offline=True)
    known = {(one["source"], one["revision"], one["scope"]): one for one in entries}
    return [str(problem) for problem in check_closure(spec, known, {"config": config or {}})]


def test_a_whole_model_lacks_nothing() -> None:
    assert gaps({}, entry("a/b", WHOLE)) == []


def test_what_nobody_looked_for_is_not_held_against_it() -> None:
    assert gaps({"tokenizer": "a/t"}) == []


@pytest.mark.parametrize("lacking", WHOLE)
def test_each_file_that_is_needed(lacking: str) -> None:
    (text,) = gaps({}, entry("a/b", [name for name in WHOLE if name != lacking]))
    assert lacking.partition(".")[0].replace("model", "weights") in text and "/srv/hub/a/b has no" in text
    assert "gpufleet.vllm.prestage, or hf_snapshot with repo a/b, revision main and scope model" in text


def test_damage_is_told_with_its_path() -> None:
    problem = {
        "file": "model.safetensors",
        "path": "/srv/x/model.safetensors",
        "kind": "size",
        "message": "it is short",
    }
    (text,) = gaps({}, entry("a/b", WHOLE, problems=[problem] * 7))
    assert "/srv/x/model.safetensors: it is short" in text and "and 2 more" in text


@pytest.mark.parametrize(
    "engine, other, words",
    [
        ({"tokenizer": "a/t"}, entry("a/t", scope="tokenizer"), "engine.tokenizer = 'a/t': a/t is not in the cache"),
        ({"tokenizer": "a/t"}, entry("a/t", ["config.json"], "tokenizer"), "has no tokenizer"),
        ({"hf_config_path": "a/c"}, entry("a/c", ["x"], "config"), "has no config.json"),
        ({"speculative_config": {"model": "a/d"}}, entry("a/d", ["config.json"]), "has no weights"),
        ({"lora_modules": ["l=a/l"]}, entry("a/l", ["adapter_model.safetensors"]), "has no adapter_config.json"),
        ({"lora_modules": ["l=a/l"]}, entry("a/l", ["adapter_config.json"]), "has no adapter_model"),
    ],
)
def test_what_else_the_engine_reads(engine: dict[str, t.Any], other: dict[str, t.Any], words: str) -> None:
    (text,) = gaps(engine, entry("a/b", WHOLE), other)
    assert words in text and "hf_snapshot" in text


def test_a_tokenizer_of_its_own_is_enough() -> None:
    own = entry("a/t", ["tokenizer.json"], "tokenizer")
    assert gaps({"tokenizer": "a/t"}, entry("a/b", ["config.json", "model.safetensors"]), own) == []
    assert gaps({"skip_tokenizer_init": True}, entry("a/b", ["config.json", "model.safetensors"])) == []


def test_a_configuration_of_its_own_is_enough() -> None:
    own = entry("a/c", ["config.json"], "config")
    assert gaps({"hf_config_path": "a/c"}, entry("a/b", ["tokenizer.json", "model.safetensors"]), own) == []


def test_code_is_needed_where_it_is_trusted() -> None:
    config = {
        "auto_map": {"AutoModel": "modeling_x.Model", "AutoTokenizer": ["tok_x.T", None], "AutoConfig": "o/r--c.C"}
    }
    there = entry("a/b", WHOLE, missing_code_repos=["o/r"])
    assert gaps({}, there, config=config) == []
    (text,) = gaps({"trust_remote_code": True}, there, config=config)
    assert "no modeling_x.py" in text and "no tok_x.py" in text and "its code lies in o/r" in text


def test_files_in_the_model_s_folder() -> None:
    model = entry("/srv/own", WHOLE)
    template = entry("/srv/own/chat.jinja")
    (text,) = gaps({"chat_template": "/models/m/chat.jinja"}, model, template, model="/srv/own")
    assert "engine.chat_template = '/models/m/chat.jinja'" in text and "Bring the files to the host" in text
    assert gaps({"chat_template": "/in/the/image.jinja"}, model, model="/srv/own") == []
