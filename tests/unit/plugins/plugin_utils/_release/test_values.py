# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values and arguments. That vLLM's own parsers agree is shown by tools/catalogue/verify.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.catalogue import releases
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import check_value, render_option


@pytest.mark.parametrize(
    ("version", "name", "value", "arguments"),
    [
        ("0.33.0", "max_model_len", 32768, ["--max-model-len", "32768"]),
        ("0.33.0", "max_model_len", "32k", ["--max-model-len", "32k"]),
        ("0.33.0", "max_model_len", "auto", ["--max-model-len", "auto"]),
        ("0.33.0", "max_model_len", -1, ["--max-model-len=-1"]),
        ("0.33.0", "tensor_parallel_size", "2", ["--tensor-parallel-size", "2"]),
        ("0.33.0", "kv_cache_dtype", "fp8", ["--kv-cache-dtype", "fp8"]),
        ("0.33.0", "enable_prefix_caching", False, ["--disable-prefix-caching"]),
        ("0.32.0", "enable_prefix_caching", False, ["--no-enable-prefix-caching"]),
        ("0.33.0", "headless", False, []),
        ("0.33.0", "hf_token", True, ["--hf-token"]),
        ("0.33.0", "served_model_name", ["a", "b"], ["--served-model-name", "a", "b"]),
        ("0.33.0", "served_model_name", "a", ["--served-model-name", "a"]),
        ("0.33.0", "served_model_name", ["-a"], ["--served-model-name=-a"]),
        ("0.33.0", "middleware", ["a.b", "c.d"], ["--middleware", "a.b", "--middleware", "c.d"]),
        ("0.33.0", "allowed_origins", ["*"], ["--allowed-origins", '["*"]']),
        ("0.33.0", "hf_overrides", {"a": [1, None]}, ["--hf-overrides", '{"a":[1,null]}']),
        ("0.33.0", "lora_modules", [{"name": "n", "path": "/p"}], ["--lora-modules", "n=/p"]),
        (
            "0.33.0",
            "lora_modules",
            [{"name": "n", "path": "/p", "base_model_name": "b"}],
            ["--lora-modules", '{"name":"n","path":"/p","base_model_name":"b"}'],
        ),
        ("0.33.0", "limit_mm_per_prompt", {"image": 2}, ["--limit-mm-per-prompt", '{"image":2}']),
        ("0.33.0", "lora_modules", '{"name": "n", "path": "/p"}', ["--lora-modules", "n=/p"]),
        ("0.33.0", "lora_modules", [{"name": "n", "path": "/a,b"}], ["--lora-modules", '{"name":"n","path":"/a,b"}']),
        ("0.33.0", "cudagraph_capture_sizes", [1, -2], ["--cudagraph-capture-sizes", "1", "-2"]),
        ("0.33.0", "max_model_len", "2T", ["--max-model-len", str(2 * 2**40)]),
        ("0.33.0", "max_model_len", "1.5t", ["--max-model-len", "1500000000000"]),
        ("0.33.0", "hf_overrides", ' {"a":\n 1} ', ["--hf-overrides", '{"a":1}']),
        ("0.33.0", "hf_overrides", "package.function", ["--hf-overrides", "package.function"]),
        ("0.33.0", "tokenizer", "--config", ["--tokenizer=--config"]),
        ("0.8.4", "limit_mm_per_prompt", {"image": 2, "video": 1}, ["--limit-mm-per-prompt", "image=2,video=1"]),
        ("0.8.4", "limit_mm_per_prompt", "image=2", ["--limit-mm-per-prompt", "image=2"]),
        ("0.8.4", "model_loader_extra_config", {"a": None}, ["--model-loader-extra-config", '{"a":null}']),
        ("0.8.2", "speculative_config", {"a": None}, ["--speculative-config", "{'a': None}"]),
        ("0.8.2", "speculative_config", '{"a": true}', ["--speculative-config", "{'a': True}"]),
        ("0.8.2", "speculative_config", "{'a': True}", ["--speculative-config", "{'a': True}"]),
    ],
)
def test_arguments(version: str, name: str, value: Any, arguments: list[str]) -> None:
    assert load(version).exact
    assert render_option(load(version).options[name], value) == arguments


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("max_model_len", "long", "or auto, not 'long'"),
        ("max_model_len", "1.5K", "16384"),
        ("max_model_len", [1], "not a list"),
        ("max_num_batched_tokens", "auto", "not 'auto'"),
        ("tensor_parallel_size", "two", "a whole number, not 'two'"),
        ("tensor_parallel_size", 2.5, "a whole number, not '2.5'"),
        ("tensor_parallel_size", True, "not true or false"),
        ("gpu_memory_utilization", "90%", "a number, not '90%'"),
        ("dtype", "bfloat1", "not 'bfloat1'; the nearest is 'bfloat16'"),
        ("enable_prefix_caching", "yes", "must be true or false"),
        ("enable_prefix_caching", 1, "must be true or false"),
        ("chat_template", None, "text, not null"),
        ("served_model_name", [], "at least one value"),
        ("served_model_name", ["a", "--port"], "begins with a dash"),
        ("served_model_name", ["a", "-1.5"], "begins with a dash"),
        ("served_model_name", ["a", "-1e5"], "begins with a dash"),
        ("served_model_name", ["a", {"b": 1}], "text, not a mapping"),
        ("lora_modules", ["word"], "name=path, or mappings with name and path"),
        ("lora_modules", [{"name": "n"}], "a mapping with name and path"),
        ("lora_modules", ["a=1,b=2"], "name=path"),
        ("moe_backend", "TRITON", "the nearest is 'triton'"),
        ("hf_overrides", "{abc}", "the text is no JSON"),
        ("hf_overrides", [1], "a mapping or text, not a list"),
        ("compilation_config", [1], "a mapping of CompilationConfig fields"),
        ("compilation_config", 3, "a mapping of CompilationConfig fields"),
        ("allowed_origins", "*", "must be a list or JSON text of one; the text is no JSON"),
        ("speculative_config", "*", "must be a mapping or JSON text; the text is no JSON"),
        ("hf_overrides", {"a": float("nan")}, "cannot be written as JSON"),
        ("hf_overrides", {"a": {1, 2}}, "cannot be written as JSON"),
    ],
)
def test_refusals(name: str, value: Any, reason: str) -> None:
    option = load("0.33.0").options[name]
    assert reason in (check_value(option, value) or "")
    with pytest.raises(ValueError, match=option.flag):
        render_option(option, value)


# Converters of some releases, whatever the option that has them.
@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        ("literal", {"a": [True, None, "it's"]}, """{'a': [True, None, "it's"]}"""),
        ("literal", '{"a": true}', "{'a': True}"),
        ("literal", "{'a': True}", "{'a': True}"),
        ("literal", 3, "3"),
        ("literal", "3", "3"),
        ("json-or-key=int", {"a": 0.5}, '{"a":0.5}'),
        ("json-or-key=int", '{"a":\n0.5}', '{"a":0.5}'),
        ("json-or-key=int", "image=2,video=1", "image=2,video=1"),
    ],
)
def test_forms_of_objects(form: str, value: Any, text: str) -> None:
    option = dataclasses.replace(load("0.8.5").options["compilation_config"], type=form)
    assert render_option(option, value) == [option.flag, text]


@pytest.mark.parametrize(
    ("form", "value"),
    [
        *(("literal", value) for value in (4, True, [1], "{'a': b}", "{[]: 1}", "__import__('os')", "[" * 100_000)),
        *(("json-or-key=int", value) for value in (1, [1], "", "word", "a=b", "a=1,a=2", "{a}")),
    ],
)
def test_forms_of_objects_refuse(form: str, value: Any) -> None:
    option = dataclasses.replace(load("0.8.5").options["compilation_config"], type=form)
    assert check_value(option, value)


@pytest.mark.parametrize("version", releases())
def test_only_full_names_are_options(version: str) -> None:
    release = load(version)
    names = {*release.options, *(a.lstrip("-").replace("-", "_") for o in release.options.values() for a in o.aliases)}
    for option in release.options.values():
        assert release.option(f"{option.name}.field") is None
        assert release.option(f"{option.flag}.field") is None
        assert (release.option(option.name[:-1]) is not None) == (option.name[:-1] in names)


@pytest.mark.parametrize("value", [{"hush": 1}, ["ok", {"hush": {1}}], ["ok", ["hush"]], ["ok", "-hush"]])
def test_reasons_do_not_tell_secrets(value: Any) -> None:
    reason = check_value(load("0.33.0").options["api_key"], value)
    assert "hush" not in (reason or "")


@pytest.mark.parametrize("version", releases())
@pytest.mark.parametrize("value", [None, True, -1, 1.5, "", "x", "-", [], [[]], {}, {1: {}}, b"x", object], ids=repr)
def test_no_value_is_too_odd(version: str, value: Any) -> None:
    for option in load(version).options.values():
        if check_value(option, value) is None:
            assert all(isinstance(argument, str) for argument in render_option(option, value))


def test_json_text_of_many_brackets_is_a_reason_and_no_crash() -> None:
    option = load("0.33.0").option("speculative_config")
    assert option is not None
    assert check_value(option, "[" * 100_000)
