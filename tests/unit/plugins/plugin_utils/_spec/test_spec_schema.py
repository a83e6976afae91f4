# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published JSON Schema says of a model what the model of a specification itself says."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import jsonschema
import pytest
import yaml

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import check_value
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.configs import OWNERS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.options import OWN_OPTIONS
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import spec

ROOT = pathlib.Path(__file__).resolve().parents[5]
SCHEMA = json.loads((ROOT / "docs/vllm_models.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def accepts(models: t.Any) -> bool:
    """Whether the schema takes them."""
    return bool(VALIDATOR.is_valid(models))


def declarations() -> list[t.Any]:
    """Every example of vllm_models: in inventories, and in the pages of the documentation."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "inventories").rglob("*.yml"))]
    for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))):
        texts += re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [
        declared for text in texts if isinstance(declared := yaml.safe_load(text), dict) and "vllm_models" in declared
    ]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("declared", declarations())
def test_examples_are_taken(declared: dict[str, t.Any]) -> None:
    assert list(VALIDATOR.iter_errors(declared)) == []
    assert load_specs(declared["vllm_models"])[1] == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": 12},
        {"name": "Upper"},
        {"name": ""},
        {"name": "a" * 63},
        {"model": "/models/a b"},
        {"model": "a/b/c"},
        {"model": "-x/y"},
        {"model": "x-y/_z"},
        {"revision": 1234567},
        {"revision": "refs/pr/1"},
        {"revision": "-main"},
        {"revision": None},
        {"image": ""},
        {"replicas": 0},
        {"replicas": 512},
        {"replicas": 513},
        {"replicas": "2"},
        {"replicas": "two"},
        {"replicas": 1.5},
        {"replica": 2},
        {"offline": "yes"},
        {"offline": "perhaps"},
        {"offline": None},
        {"engine": None},
        {"engine": [1]},
        {"entrypoint": ["vllm", "serve"]},
        {"entrypoint": "vllm serve"},
        {"user": 1000},
        {"user": "1000:1000"},
        {"user": "root"},
        {"user": None},
        {"env": {"OMP_NUM_THREADS": 4}},
        {"env": {"A B": "1"}},
        {"env": {"A": True}},
        {"env": {"HF_TOKEN": "x"}},
        {"env": {"TOKENIZERS_PARALLELISM": "false"}},
        {"placement": None},
        {"placement": {"hosts": "a,b"}},
        {"placement": {"hosts": ["a", "b"]}},
        {"placement": {"hosts": {"a": 1}}},
        {"placement": {"spread": "rack"}},
        {"placement": {"gpuz": 1}},
        {"placement": {"gpus": 1}},
        {"placement": {"gpus": [0, 1]}},
        {"placement": {"gpus": {"count": 2, "memory": "80GiB", "compute_capability": 9.0}}},
        {"placement": {"gpus": {"cuont": 2}}},
        {"placement": {"gpus": {}}},
        {"placement": {"gpus": "card0"}},
        {"placement": {"gpus": "0,1"}},
        {"placement": {"gpus": "[0, 1]"}},
        {"placement": {"gpus": ["GPU-5c89852c-d268", "MIG-GPU-5c89852c/1/0"]}},
        {"placement": {"gpus": []}},
        {"placement": {"gpus": [True]}},
        {"placement": {"gpus": ["card0"]}},
        {"placement": {"gpus": None}},
        {"listen": {"port": 0}},
        {"listen": {"port": 65536}},
        {"listen": {"port": "8000"}},
        {"listen": {"port": "0"}},
        {"listen": {"port": "auto"}},
        {"listen": {"port": "any"}},
        {"listen": {"address": "0.0.0.0"}},
        {"listen": {"address": "::1"}},
        {"listen": {"address": "myhost"}},
        {"limits": {"memory": "64GiB"}},
        {"limits": {"memory": "64 Gb"}},
        {"limits": {"memory": 0}},
        {"limits": {"memory": "0"}},
        {"limits": {"memory": "much"}},
        {"limits": {"shm": None, "cpus": "2.5"}},
        {"limits": {"cpus": 0}},
        {"secrets": {"api_key": "sk-1"}},
        {"secrets": {"api_key": ""}},
        {"secrets": {"apikey": "sk-1"}},
        {"secrets": "sk-1"},
    ],
    ids=str,
)
def test_verdicts_agree(changes: dict[str, t.Any]) -> None:
    declared = [spec(**changes)]
    assert accepts(declared) == (load_specs(declared)[1] == [])
    assert accepts({"vllm_models": declared, "other_variable": 1}) == accepts(declared)


@pytest.mark.parametrize("missing", ["name", "model", "image"])
def test_what_is_required(missing: str) -> None:
    declared = {key: value for key, value in spec().items() if key != missing}
    assert not accepts([declared])


@pytest.mark.parametrize(
    "changes",
    [{"name": "{{ prefix }}-8b"}, {"engine": "{{ common | combine(mine) }}"}, {"replicas": "{{ n }}"}],
    ids=str,
)
def test_templates_may_stand_anywhere(changes: dict[str, t.Any]) -> None:
    assert accepts([spec(**changes)])
    assert accepts({"vllm_models": "{{ small + large }}"})
    assert accepts(["{{ qwen }}"])


VALUES: tuple[t.Any, ...] = (
    True, 1, 0.5, "1", "16k", "auto", "text", [], [1], ["a"], [0.5], {"a": 1}, {"a": "b"}, [{"a": 1}], '{"a": 1}',
)  # fmt: skip


@pytest.mark.parametrize("version", ["0.6.0", "0.8.5", "0.10.2", "0.17.1", catalogue.releases()[-1]])
def test_what_an_option_of_a_release_takes_is_taken(version: str) -> None:
    """The schema is for all releases, so it may take more than one of them does, but never less."""
    refused = [
        (name, value)
        for name, option in load(version).options.items()
        if name not in OWN_OPTIONS
        for value in (*(option.choices or VALUES), option.default)
        # The engine makes a configuration of these; that they are mappings is not for their parser to check.
        if name not in OWNERS or isinstance(value, dict)
        if value is not None and check_value(option, value) is None and not accepts([spec(engine={name: value})])
    ]
    assert refused == []


@pytest.mark.parametrize(
    "engine",
    [
        {"max_modle_len": 1},
        {"max-model-len": 1},
        {"max_model_len": "long"},
        {"enforce_eager": "yes"},
        {"dtype": "int8"},
        {"compilation_config": 3.5},
        {"api_key": "sk-1"},
        {"max_model_len": None},
        {"speculative_config": 3},
        {"speculative_config": {"num_speculative_tokens": "many"}},
        {"compilation_config": {"cudagraph_capture_sizes": {}}},
    ],
    ids=str,
)
def test_what_no_release_takes_is_refused(engine: dict[str, t.Any]) -> None:
    assert not accepts([spec(engine=engine)])


def test_every_option_is_described_and_marked() -> None:
    options = SCHEMA["$defs"]["model"]["properties"]["engine"]["properties"]
    assert set(options) == set(catalogue.names("options"))
    assert [name for name, facts in options.items() if not facts.get("description")] == []
    assert "0.17.1" in options["swap_space"]["deprecationMessage"]
