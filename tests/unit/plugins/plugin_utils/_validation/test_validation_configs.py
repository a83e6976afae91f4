# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands inside mappings: unknown, renamed and misfitting fields, and what classes demand of several together."""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.configs import (
    check_configs,
    checks_types,
    refuses_unknown,
)

NEWEST = catalogue.releases()[-1]
NGRAM = {"method": "ngram", "num_speculative_tokens": 3}


def check(engine: dict[str, t.Any], version: str = NEWEST, **changes: t.Any) -> list[Problem]:
    """The problems of a spec with these engine options."""
    spec = ModelSpec.model_validate({"name": "m", "model": "a/b", "image": "i", "engine": engine, **changes})
    return check_configs(spec, load(version))


@pytest.mark.parametrize(
    ("owner", "version", "refused"),
    [
        ("SpeculativeConfig", "0.8.5.post1", True),
        ("CompilationConfig", "0.8.5.post1", False),
        ("CompilationConfig", "0.9.0", True),
        ("SpeculativeConfig", "0.9.1", False),
        ("CompilationConfig", "0.12.0", False),
        ("CompilationConfig", "0.13.0", True),
        ("PassConfig", "0.15.1", True),
        ("KVTransferConfig", "0.15.1", False),
        ("KVTransferConfig", "0.16.0", True),
    ],
)
def test_unknown_fields_are_refused_or_ignored(owner: str, version: str, refused: bool) -> None:
    assert refuses_unknown(owner, version) is refused


@pytest.mark.parametrize(
    ("owner", "version", "checked"),
    [
        ("KVTransferConfig", "0.8.5", True),
        ("SpeculativeConfig", "0.8.5", False),
        ("CompilationConfig", "0.9.0", False),
        ("SpeculativeConfig", "0.9.1", True),
    ],
)
def test_types_are_checked_where_pydantic_made_the_class(owner: str, version: str, checked: bool) -> None:
    assert checks_types(owner, version) is checked


@pytest.mark.parametrize(
    ("engine", "version", "field", "warning", "words"),
    [
        ({"speculative_config": {**NGRAM, "promt_lookup_max": 4}}, NEWEST, "speculative_config.promt_lookup_max", False,
         "Did you mean prompt_lookup_max"),
        ({"speculative_config": {**NGRAM, "promt_lookup_max": 4}}, "0.9.2", "speculative_config.promt_lookup_max", True,
         "which ignores it"),
        ({"speculative_config": {**NGRAM, "disable_by_batch_size": 4}}, "0.17.0",
         "speculative_config.disable_by_batch_size", False, "it existed from 0.8.2 to 0.16.0"),
        ({"kv_transfer_config": '{"kv_connector": "A", "kv_role": "kv_both", "kv_rol": "kv_both"}'}, NEWEST,
         "kv_transfer_config.kv_rol", False, "mean kv_role"),
        ({"compilation_config": {"pass_config": {"nope": 1}}}, "0.13.0", "compilation_config.pass_config.nope", False,
         "PassConfig has"),
        ({"attention_config": {"hisparse_config": {"nope": 1}}}, NEWEST, "attention_config.hisparse_config.nope", False,
         "no field of HiSparseConfig"),
        ({"watchdog_config": {"tiemout": 1}}, NEWEST, "watchdog_config.tiemout", False, "Did you mean timeout"),
    ],
)  # fmt: skip
def test_unknown_field(engine: dict[str, t.Any], version: str, field: str, warning: bool, words: str) -> None:
    (problem,) = check(engine, version)
    assert (problem.field, problem.warning) == (f"engine.{field}", warning)
    assert words in str(problem)


@pytest.mark.parametrize(
    ("option", "old", "since", "last", "remedy"),
    [
        ("compilation_config", {"level": 3}, "0.11.1", "0.17.1", {"mode": 3}),
        ("compilation_config", {"use_cudagraph": False}, "0.10.1", "0.11.0", {"cudagraph_mode": "NONE"}),
        ("compilation_config", {"full_cuda_graph": True}, "0.10.1", "0.11.0", {"cudagraph_mode": "FULL"}),
        ("compilation_config", {"compile_ranges_split_points": [8]}, None, "0.17.1", {"compile_ranges_endpoints": [8]}),
        ("compilation_config", {"pass_config": {"enable_noop": True}}, "0.12.0", "0.12.0",
         {"pass_config": {"eliminate_noops": True}}),
        ("compilation_config", {"pass_config": {"enable_fusion": True}}, "0.12.0", "0.12.0",
         {"pass_config": {"fuse_norm_quant": True, "fuse_act_quant": True}}),
        ("attention_config", {"disable_flashinfer_prefill": True}, "0.21.0", "0.21.0",
         {"mla_prefill_backend": "FLASH_ATTN"}),
        ("pooler_config", {"softmax": True}, "0.11.1", "0.15.1", {"use_activation": True}),
    ],
)  # fmt: skip
def test_renamed_field(option: str, old: dict[str, t.Any], since: str | None, last: str, remedy: t.Any) -> None:
    """Not named before the new field is there; a warning while both are there; then with the life of the old one."""
    order = catalogue.releases()
    written = {"engine": {option: remedy}}
    if since is not None:
        before = [one for one in check({option: old}, order[order.index(since) - 1]) if one.remedy == written]
        assert before == []
        for version in (since, last):
            (problem,) = check({option: old}, version)
            assert (problem.warning, problem.remedy) == (True, written), version
            assert "deprecated" in problem.reason
    (problem,) = check({option: old}, order[order.index(last) + 1])
    assert problem.remedy == written
    assert f"to {last}" in problem.reason


def test_old_switch_that_said_the_default_is_left_out() -> None:
    (problem,) = check({"compilation_config": {"use_cudagraph": True}}, "0.11.1")
    assert problem.remedy == {} and "Leave it out" in problem.fix


@pytest.mark.parametrize(
    ("engine", "version", "field", "words"),
    [
        ({"speculative_config": {"method": "medusa", "model": "a/b", "num_speculative_tokens": 3}}, "0.33.0",
         "speculative_config.method", "to 0.32.0"),
        ({"speculative_config": {**NGRAM, "num_speculative_tokens": "many"}}, NEWEST,
         "speculative_config.num_speculative_tokens", "must be a whole number"),
        ({"speculative_config": {**NGRAM, "num_speculative_tokens": 0}}, NEWEST,
         "speculative_config.num_speculative_tokens", "must be more than 0"),
        ({"structured_outputs_config": {"backend": "xgramar"}}, NEWEST, "structured_outputs_config.backend",
         "xgrammar"),
        ({"compilation_config": {"pass_config": {"eliminate_noops": 3}}}, NEWEST,
         "compilation_config.pass_config.eliminate_noops", "true or false"),
        ({"compilation_config": {"cudagraph_capture_sizes": 8}}, NEWEST, "compilation_config.cudagraph_capture_sizes",
         "must be a list"),
        ({"compilation_config": {"cudagraph_mode": "SOME"}}, NEWEST, "compilation_config.cudagraph_mode", "PIECEWISE"),
        ({"compilation_config": {"mode": 4}}, NEWEST, "compilation_config.mode", "0, 1, 2, 3"),
        ({"compilation_config": {"mode": "NOTHING"}}, "0.11.1", "compilation_config.mode", "VLLM_COMPILE"),
        ({"compilation_config": {"cudagraph_capture_sizes": []}}, "0.11.1",
         "compilation_config.cudagraph_capture_sizes", "as long as graphs"),
        ({"compilation_config": {"custom_ops": ["all", "none"]}}, "0.8.5", "compilation_config.custom_ops", "once"),
        ({"kv_transfer_config": {"kv_role": "kv_both"}}, NEWEST, "kv_transfer_config", "needs kv_connector"),
        ({"kv_transfer_config": {"kv_role": "kv_both"}}, "0.11.0", "kv_transfer_config", "needs kv_connector"),
        ({"kv_transfer_config": {"kv_connector": "NixlConnector"}}, NEWEST, "kv_transfer_config", "needs kv_role"),
        ({"kv_transfer_config": {"kv_connector": "A", "kv_role": "both"}}, NEWEST, "kv_transfer_config.kv_role",
         "kv_both"),
        ({"kv_transfer_config": {"kv_connector": "A", "kv_role": "both"}}, "0.8.5", "kv_transfer_config.kv_role",
         "kv_both"),
        ({"kv_transfer_config": {"kv_connector": "A", "kv_role": "both"}}, "0.9.0", "kv_transfer_config.kv_role",
         "kv_both"),
        ({"speculative_config": {**NGRAM, "acceptance_method": "all"}}, "0.8.5", "speculative_config.acceptance_method",
         "typical_acceptance_sampler"),
        ({"ec_transfer_config": {"ec_connector": "A"}}, "0.11.1", "ec_transfer_config", "needs ec_role"),
        ({"structured_outputs_config": {"disable_any_whitespace": True}}, "0.11.0",
         "structured_outputs_config.disable_any_whitespace", "xgrammar or guidance"),
        ({"structured_outputs_config": {"disable_additional_properties": True, "backend": "xgrammar"}}, NEWEST,
         "structured_outputs_config.disable_additional_properties", "guidance"),
        ({"profiler_config": {"profiler": "torch"}}, "0.13.0", "profiler_config", "torch_profiler_dir"),
        ({"profiler_config": {"torch_profiler_dir": "/t"}}, NEWEST, "profiler_config.torch_profiler_dir", "torch"),
        ({"pooler_config": {"pooling_type": "MEAN", "seq_pooling_type": "CLS"}}, "0.14.0",
         "pooler_config.pooling_type", "seq_pooling_type"),
        ({"eplb_config": {"use_async": True, "communicator": "pynccl"}}, "0.24.0", "eplb_config.communicator",
         "use_async"),
        ({"limit_mm_per_prompt": {"image": -1}}, NEWEST, "limit_mm_per_prompt.image", "from 0 on"),
        ({"limit_mm_per_prompt": {"image": {"count": -1}}}, "0.11.1", "limit_mm_per_prompt.image.count", "from 0 on"),
        ({"limit_mm_per_prompt": {"image": {"count": 1}}}, "0.11.0", "limit_mm_per_prompt.image", "from 0 on"),
        ({"limit_mm_per_prompt": {"image": "2"}}, NEWEST, "limit_mm_per_prompt.image", "without quotes"),
    ],
)  # fmt: skip
def test_value_that_does_not_fit(engine: dict[str, t.Any], version: str, field: str, words: str) -> None:
    (problem,) = check(engine, version)
    assert (problem.field, problem.warning) == (f"engine.{field}", False)
    assert words in str(problem)


@pytest.mark.parametrize(
    ("given_config", "since", "until", "field", "words"),
    [
        ({"method": "draft_model", "model": "a/b", "num_speculative_tokens": 3}, "0.10.0", "0.14.1", ".method",
         "without draft models"),
        ({"method": "ngram"}, "0.8.2", None, "", "needs num_speculative_tokens"),
        ({"method": "mtp"}, "0.8.2", None, "", "needs num_speculative_tokens"),
        ({"method": "eagle", "num_speculative_tokens": 3}, "0.11.0", None, "", "needs model, the draft"),
        ({"method": "custom_class", "num_speculative_tokens": 3}, "0.11.0", None, "", "needs model, a module"),
        ({**NGRAM, "prompt_lookup_min": 5, "prompt_lookup_max": 4}, "0.8.2", None, ".prompt_lookup_min", "which is 4"),
        ({**NGRAM, "prompt_lookup_max": 0}, "0.8.2", None, ".prompt_lookup_max", "must be at least 1"),
        ({**NGRAM, "tensor_parallel_size": 2}, "0.15.0", None, ".tensor_parallel_size", "draft_tensor_parallel_size"),
        ({**NGRAM, "draft_tensor_parallel_size": 3}, "0.8.2", None, ".draft_tensor_parallel_size", "neither 1 nor"),
        ({"method": "suffix", "suffix_decoding_max_tree_depth": 0}, "0.11.1", None, ".suffix_decoding_max_tree_depth",
         "must be at least 1"),
        ({**NGRAM, "use_heterogeneous_vocab": True}, "0.25.0", None, ".use_heterogeneous_vocab", "draft_model only"),
        ({**NGRAM, "rejection_sample_method": "synthetic"}, "0.20.0", None, ".rejection_sample_method", "synthetic"),
    ],
)  # fmt: skip
def test_speculative_config(given_config: t.Any, since: str, until: str | None, field: str, words: str) -> None:
    def found(version: str) -> list[Problem]:
        problems = check({"speculative_config": given_config, "tensor_parallel_size": 4}, version)
        named = [one for one in problems if one.field == f"engine.speculative_config{field}"]
        return [one for one in named if words in one.reason + one.fix]

    order = catalogue.releases()
    assert found(since) and found(until or NEWEST)
    before = order[order.index(since) - 1]
    assert words == "draft_tensor_parallel_size" or not found(before)
    assert until is None or not found(order[order.index(until) + 1])


@pytest.mark.parametrize(
    ("method", "version", "warnings"),
    [
        ("eagle3", "0.8.5", []),
        ("deepseek_mtp", "0.8.5", []),
        ("[ngram]", "0.9.0", []),
        ("eagle3", "0.9.0.1", []),
        ("eagel", "0.8.5", [True]),
        (["eagle"], "0.9.0.1", [True]),
        ("eagel", "0.8.4", []),
        ("eagel", "0.9.1", [False]),
    ],
)
def test_methods_that_are_not_listed(method: t.Any, version: str, warnings: list[bool]) -> None:
    """Before pydantic made the class, the list of methods was neither complete nor enforced."""
    config = {"method": method, "model": "a/b", "num_speculative_tokens": 3}
    assert [one.warning for one in check({"speculative_config": config}, version)] == warnings


@pytest.mark.parametrize(
    ("name", "value", "version", "reason"),
    [
        ("speculative_config", [NGRAM], NEWEST, "must be a mapping, not a list"),
        ("speculative_config", "[1]", "0.8.2", "must be a mapping, not a list"),
        ("limit_mm_per_prompt", "3", NEWEST, "must be a mapping, not a number"),
        ("limit_mm_per_prompt", "image=2", "0.9.2", None),
        ("hf_overrides", "[1]", NEWEST, "must be a mapping, not a list"),
        ("hf_overrides", "package.function", NEWEST, None),
        ("hf_overrides", [1], "0.8.5", "must be a mapping, not a list"),
        ("override_generation_config", '"{}"', NEWEST, "is encoded twice"),
        ("default_chat_template_kwargs", True, NEWEST, "must be a mapping, not true or false"),
        ("mm_processor_kwargs", '"word"', NEWEST, "must be a mapping, not text"),
        ("mm_processor_kwargs", "null", NEWEST, None),
        ("media_io_kwargs", ["video"], NEWEST, "must be a mapping, not a list"),
        ("model_loader_extra_config", "[1]", NEWEST, "must be a mapping, not a list"),
        ("model_loader_extra_config", {"a": 1}, NEWEST, None),
        ("allowed_origins", ["*"], NEWEST, None),
        ("additional_config", "[1]", NEWEST, None),
        # Said with the other values, once.
        ("hf_overrides", [1], NEWEST, None),
        ("compilation_config", [1], NEWEST, None),
    ],
)
def test_what_the_engine_takes_as_a_mapping_alone(name: str, value: t.Any, version: str, reason: str | None) -> None:
    found = [(one.field, one.reason, one.warning) for one in check({name: value}, version)]
    assert found == ([] if reason is None else [(f"engine.{name}", reason, False)])


@pytest.mark.parametrize("name", ["speculative_config", "limit_mm_per_prompt", "hf_overrides"])
def test_a_mapping_encoded_twice_is_written_once(name: str) -> None:
    (problem,) = check({name: json.dumps(json.dumps({"image": 2}))})
    assert (problem.reason, problem.remedy) == ("is encoded twice", {"engine": {name: {"image": 2}}})


@pytest.mark.parametrize(
    ("draft", "changes", "words"),
    [
        ("meta/eagle", {"offline": True}, "offline is true"),
        ("meta/eagle", {}, None),
        ("/srv/models/eagle", {}, "path inside the container"),
    ],
)
def test_draft_model_is_another_model(draft: str, changes: dict[str, t.Any], words: str | None) -> None:
    config = {"method": "eagle", "model": draft, "num_speculative_tokens": 3}
    problems = check({"speculative_config": config}, **changes)
    assert [one.warning for one in problems] == ([] if words is None else [True])
    assert words is None or words in problems[0].reason


@pytest.mark.parametrize("method", ["medusa", "mlp_speculator"])
def test_a_method_that_is_gone_names_others(method: str) -> None:
    engine = {"speculative_config": {"method": method, "model": "a/b", "num_speculative_tokens": 3}}
    (problem,) = check(engine, "0.33.0")
    assert problem.fix == "Use an EAGLE head, a draft model or ngram"
    assert check(engine, "0.32.0") == []


def test_backend_that_will_go() -> None:
    engine = {"structured_outputs_config": {"backend": "lm-format-enforcer"}}
    (problem,) = check(engine, "0.33.0")
    assert problem.warning and "0.35.0" in problem.reason
    assert check(engine, "0.32.0") == []


@pytest.mark.parametrize(
    ("engine", "version"),
    [
        ({"speculative_config": NGRAM}, NEWEST),
        ({"speculative_config": {"model": "[ngram]", "num_speculative_tokens": 3}}, "0.8.5"),
        ({"speculative_config": {"method": "suffix"}}, NEWEST),
        ({"speculative_config": {"method": "mtp", "num_speculative_tokens": 1}}, "0.11.0"),
        ({"speculative_config": {**NGRAM, "quantization": "mine", "enable_chunked_prefill": 3}}, "0.9.2"),
        ({"compilation_config": {"cudagraph_mode": "full_and_piecewise", "mode": "vllm_compile"}}, NEWEST),
        ({"compilation_config": {"cudagraph_capture_sizes": [1, 2], "inductor_compile_config": {"any": 1}}}, NEWEST),
        ({"compilation_config": {"mode": 3, "pass_config": {"eliminate_noops": "true"}}}, NEWEST),
        ({"kv_transfer_config": {"kv_role": "kv_both", "kv_connector": "A", "kv_connector_extra_config": {}}}, NEWEST),
        ({"kv_transfer_config": {"kv_role": "kv_both"}}, "0.10.2"),
        ({"kv_transfer_config": {"kv_role": "kv_both"}, "kv_offloading_size": 4}, NEWEST),
        ({"structured_outputs_config": '{"backend": "guidance", "disable_any_whitespace": true}'}, NEWEST),
        ({"attention_config": {"backend": "flash_attn", "flash_attn_version": 3}}, NEWEST),
        ({"limit_mm_per_prompt": {"image": 2, "video": {"count": 1, "num_frames": 8}}}, NEWEST),
        ({"hf_overrides": {"anything": 1}, "additional_config": {"any": {"thing": 1}}}, NEWEST),
        ({"compilation_config": "3"}, "0.10.2"),
        ({"kernel_config": {"ir_op_priority": {"rms_norm": "native"}}}, NEWEST),
    ],
)  # fmt: skip
def test_what_the_release_takes(engine: dict[str, t.Any], version: str) -> None:
    assert check(engine, version) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OPTIONS = (
    "speculative_config", "compilation_config", "kv_transfer_config", "ec_transfer_config", "structured_outputs_config",
    "attention_config", "profiler_config", "pooler_config", "eplb_config", "limit_mm_per_prompt", "kernel_config",
)  # fmt: skip
FIELDS = sorted({name.partition(".")[2] for name in catalogue.names("configs")})


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(OPTIONS),
        st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), VALUES, max_size=8) | VALUES,
        max_size=4,
    ),
    st.sampled_from(catalogue.releases()),
)
def test_never_raises(engine: dict[str, t.Any], version: str) -> None:
    for problem in check(engine, version):
        assert str(problem)
