# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters take out of model specifications; what is malformed is the plan's to report."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.filter import (
    bundle_snapshots,
    engine_sources,
    model_folders,
    model_secrets,
    model_snapshots,
    model_sources,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render import server
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.sources import MODELS

MALFORMED = [
    None,
    "text",
    5,
    {},
    [None],
    ["text"],
    [{}],
    [{"name": "a", "model": 5, "secrets": "text"}],
    [{"secrets": [1]}],
]


def test_secrets_by_model() -> None:
    models = [
        {"name": "a", "secrets": {"api_key": "k", "hub_token": None}},
        {"name": "b", "secrets": {}},
        {"name": "c"},
        {"name": "d", "secrets": {"api_key": 123}},
    ]
    servers = [{"model": name} for name in "abcd"]
    assert model_secrets.model_secrets(models, servers) == {"a": {"api_key": "k"}, "d": {"api_key": "123"}}


def test_a_host_is_not_sent_the_secrets_of_others() -> None:
    models = [{"name": name, "secrets": {"api_key": f"key of {name}"}} for name in "ab"]
    assert model_secrets.model_secrets(models, [{"model": "b"}]) == {"b": {"api_key": "key of b"}}
    assert model_secrets.model_secrets(models, []) == {}


def test_sources_once_each() -> None:
    models = [
        {"model": "a/b"},
        {"model": "a/b", "revision": None},
        {"model": "a/b", "revision": "main"},
        {"model": "/srv/x", "revision": 5},
    ]
    assert model_sources.model_sources(models) == [
        {"model": "a/b", "revision": None},
        {"model": "a/b", "revision": "main"},
        {"model": "/srv/x", "revision": "5"},
    ]


FULL = {
    "name": "a",
    "model": "org/model",
    "revision": 1234,
    "engine": {
        "tokenizer": "org/tokenizer",
        "tokenizer_revision": "v1",
        "hf_config_path": "org/config",
        "speculative_config": '{"model": "org/draft", "revision": "v2", "num_speculative_tokens": 3}',
        "lora_modules": ["one=org/adapter", {"name": "two", "path": "/models/a/two"}, "three=/in/the/image"],
        "chat_template": "/models/a/chat.jinja",
        "trust_remote_code": True,
    },
    "placement": {"hosts": "zone_a, gpu7"},
}


def test_all_that_an_engine_reads() -> None:
    assert [tuple(one.values()) for one in engine_sources.engine_sources([FULL, FULL])] == [
        ("org/model", "1234", "model"),
        ("org/tokenizer", "v1", "tokenizer"),
        ("org/config", None, "config"),
        ("org/draft", "v2", "model"),
        ("org/adapter", None, "model"),
    ]
    inside = {**FULL, "model": "/srv/own"}
    names = [one["source"] for one in engine_sources.engine_sources([inside])]
    assert {"/srv/own", "/srv/own/two", "/srv/own/chat.jinja"} < set(names) and "/in/the/image" not in names
    assert engine_sources.engine_sources([{"model": "a/b", "engine": {"speculative_config": {"method": "ngram"}}}]) == [
        {"source": "a/b", "revision": None, "scope": "model"}
    ]


def test_snapshots_of_the_models_that_a_host_may_get() -> None:
    found = model_snapshots.model_snapshots([FULL, {"model": "/srv/own"}], "gpu1", ["zone_a"])
    assert [(one["repo"], one["revision"], one["scope"], one["allow_code"]) for one in found] == [
        ("org/model", "1234", "model", True),
        ("org/tokenizer", "v1", "tokenizer", False),
        ("org/config", "main", "config", False),
        ("org/draft", "v2", "model", False),
        ("org/adapter", "main", "model", False),
    ]
    assert model_snapshots.model_snapshots([FULL], "gpu7")
    assert model_snapshots.model_snapshots([FULL], "gpu8", ["zone_b"]) == []
    assert model_snapshots.model_snapshots([FULL]) == model_snapshots.model_snapshots([FULL], "gpu7")


def test_a_bundle_takes_every_repo_that_models_name_and_the_whole_instead_of_a_part() -> None:
    other = {"model": "org/tokenizer", "revision": "v1", "placement": {"hosts": "elsewhere"}}
    found = bundle_snapshots.bundle_snapshots([FULL, other, {"model": "/srv/own"}])
    assert [tuple(one.values()) for one in found] == [
        ("org/model", "1234", "model"),
        ("org/config", "main", "config"),
        ("org/draft", "v2", "model"),
        ("org/adapter", "main", "model"),
        ("org/tokenizer", "v1", "model"),
    ]


def test_paths_of_hosts_without_those_inside_others_and_those_of_images() -> None:
    assert model_folders.model_folders([FULL, {**FULL, "model": "/srv/own"}, {"model": "/srv/x.gguf"}]) == [
        "/srv/own",
        "/srv/x.gguf",
    ]


def test_the_folder_of_a_model_is_where_its_server_sees_it() -> None:
    assert MODELS == server.MODELS


@pytest.mark.parametrize("models", MALFORMED)
def test_malformed_models_give_nothing(models: t.Any) -> None:
    assert engine_sources.engine_sources(models) == model_snapshots.model_snapshots(models, "a") == []
    assert model_secrets.model_secrets(models, [{"model": "a"}]) == {}
    assert model_sources.model_sources(models) == bundle_snapshots.bundle_snapshots(models) == []
    assert model_folders.model_folders(models) == []


@pytest.mark.parametrize(
    "plugin", [bundle_snapshots, engine_sources, model_folders, model_secrets, model_snapshots, model_sources]
)
def test_ansible_finds_them(plugin: t.Any) -> None:
    name = plugin.__name__.rpartition(".")[2]
    assert plugin.FilterModule().filters() == {name: getattr(plugin, name)}
