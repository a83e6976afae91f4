# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters take out of model specifications; what is malformed is the plan's to report."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.filter import model_secrets, model_sources

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


@pytest.mark.parametrize("models", MALFORMED)
def test_malformed_models_give_nothing(models: t.Any) -> None:
    assert model_secrets.model_secrets(models, [{"model": "a"}]) == {}
    assert model_sources.model_sources(models) == []


@pytest.mark.parametrize("plugin", [model_secrets, model_sources])
def test_ansible_finds_them(plugin: t.Any) -> None:
    name = plugin.__name__.rpartition(".")[2]
    assert plugin.FilterModule().filters() == {name: getattr(plugin, name)}
