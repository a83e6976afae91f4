# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user reads of an engine option, in the release where that begins and in the one before or after."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.options import OWN_OPTIONS, check_options

RELEASES = catalogue.releases()


def problems(version: str, engine: dict[str, t.Any]) -> list[Problem]:
    spec = ModelSpec(name="m", model="org/model", image="vllm/vllm-openai", engine=engine)
    return check_options(spec, load(version))


def test_good_options_have_no_problem() -> None:
    engine = {"max_model_len": "32k", "kv_cache_dtype": "fp8", "enable_prefix_caching": False, "max_num_seqs": 64}
    assert problems("0.33.0", engine) == []


@pytest.mark.parametrize("version", ["0.6.6.post1", "0.8.5.post1", "0.11.2", "0.17.1", "0.33.0"])
def test_every_default_of_a_release_is_taken(version: str) -> None:
    defaults = {
        name: option.default
        for name, option in load(version).options.items()
        if isinstance(option.default, int | float | str) and name not in OWN_OPTIONS
    }
    assert len(defaults) > 50
    assert [str(problem) for problem in problems(version, defaults) if not problem.warning] == []


@pytest.mark.parametrize("name", [*OWN_OPTIONS, "api-key", "--port"])
def test_options_of_the_collection_are_refused_with_their_place(name: str) -> None:
    (problem,) = problems("0.33.0", {name: "s3cret"})
    assert (problem.reason, problem.remedy) == ("is not set here", None)
    assert problem.fix.startswith(("Write", "Leave it out"))
    assert "s3cret" not in str(problem)


# version, options, text of the first problem, whether it is a warning, its remedy
ERROR, WARNING = False, True
CASES: dict[str, tuple[str, dict[str, t.Any], str, bool, t.Any]] = {
    "another spelling": (
        "0.33.0",
        {"tensor-parallel-size": 2},
        "m: engine.tensor-parallel-size: is another spelling of tensor_parallel_size. "
        "Write engine.tensor_parallel_size.",
        ERROR,
        {"engine": {"tensor_parallel_size": 2}},
    ),
    "a short flag": (
        "0.33.0",
        {"tp": 2},
        "m: engine.tp: is another spelling of tensor_parallel_size. Write engine.tensor_parallel_size.",
        ERROR,
        {"engine": {"tensor_parallel_size": 2}},
    ),
    "two spellings that differ": (
        "0.33.0",
        {"tp": 2, "tensor_parallel_size": 4},
        "m: engine.tp: is another spelling of tensor_parallel_size. Write engine.tensor_parallel_size.",
        ERROR,
        None,
    ),
    "two spellings that agree": (
        "0.33.0",
        {"tp": 2, "tensor_parallel_size": 2},
        "m: engine.tp: is another spelling of tensor_parallel_size. Write engine.tensor_parallel_size.",
        ERROR,
        {},
    ),
    "no value": (
        "0.33.0",
        {"max_num_seqs": None},
        "m: engine.max_num_seqs: has no value. Write one, or leave the option out.",
        ERROR,
        {},
    ),
    "bad value": (
        "0.33.0",
        {"max_num_seqs": "many"},
        "m: engine.max_num_seqs = 'many': must be a whole number, not 'many'. Correct it; --max-num-seqs takes int.",
        ERROR,
        None,
    ),
    "value out of range": (
        "0.33.0",
        {"gpu_memory_utilization": 92},
        "m: engine.gpu_memory_utilization = 92: must be more than 0 and at most 1. "
        "Correct it; --gpu-memory-utilization takes float, and its default is 0.92.",
        ERROR,
        None,
    ),
    "choice of a later release": (
        "0.17.1",
        {"kv_cache_dtype": "nvfp4"},
        "m: engine.kv_cache_dtype = 'nvfp4': must be one of auto, bfloat16, fp8, fp8_ds_mla, fp8_e4m3, fp8_e5m2, "
        "fp8_inc, not 'nvfp4'. Correct it; --kv-cache-dtype takes str, and its default is auto; "
        "0.20.0 has that choice.",
        ERROR,
        None,
    ),
    "choice of an earlier release": (
        "0.6.5",
        {"block_size": "64"},
        "m: engine.block_size = '64': must be one of 16, 32, 8, not '64'. Correct it; --block-size takes int; "
        "0.6.6 has that choice.",
        ERROR,
        None,
    ),
    "removed choice": (
        "0.10.2",
        {"prefix_caching_hash_algo": "builtin"},
        "m: engine.prefix_caching_hash_algo: does not take 'builtin': Python's own hash is not safe against "
        "collisions. Write engine.prefix_caching_hash_algo: sha256 instead.",
        ERROR,
        {"engine": {"prefix_caching_hash_algo": "sha256"}},
    ),
    "removed value of an open list": (
        "0.31.0",
        {"tokenizer_mode": "slow"},
        "m: engine.tokenizer_mode: does not take 'slow': tokenizers written in Python are not chosen by this option "
        "any more. Write engine.tokenizer_mode: hf instead. transformers decides which of its tokenizers it loads.",
        ERROR,
        {"engine": {"tokenizer_mode": "hf"}},
    ),
    "opposite spelling of 0.33": (
        "0.33.0",
        {"disable_prefix_caching": True},
        "m: engine.disable_prefix_caching: is the opposite of enable_prefix_caching. "
        "Write engine.enable_prefix_caching: false.",
        ERROR,
        {"engine": {"enable_prefix_caching": False}},
    ),
    "opposite spelling of 0.32": (
        "0.32.0",
        {"no_enable_prefix_caching": True},
        "m: engine.no_enable_prefix_caching: is the opposite of enable_prefix_caching. "
        "Write engine.enable_prefix_caching: false.",
        ERROR,
        {"engine": {"enable_prefix_caching": False}},
    ),
    "opposite spelling that 0.33 hides": (
        "0.33.0",
        {"no-enable-prefix-caching": False},
        "m: engine.no-enable-prefix-caching: is the opposite of enable_prefix_caching. "
        "Write engine.enable_prefix_caching: true.",
        ERROR,
        {"engine": {"enable_prefix_caching": True}},
    ),
    "opposite of a disabling option": (
        "0.33.0",
        {"enable_custom_all_reduce": False},
        "m: engine.enable_custom_all_reduce: is the opposite of disable_custom_all_reduce. "
        "Write engine.disable_custom_all_reduce: true.",
        ERROR,
        {"engine": {"disable_custom_all_reduce": True}},
    ),
    "opposite without a value": (
        "0.33.0",
        {"disable_prefix_caching": "yes"},
        "m: engine.disable_prefix_caching: is the opposite of enable_prefix_caching. "
        "Write engine.enable_prefix_caching: true or false.",
        ERROR,
        None,
    ),
    "dotted": (
        "0.33.0",
        {"speculative_config.method": "ngram", "speculative_config": {"num_speculative_tokens": 5}},
        "m: engine.speculative_config.method: is a field of speculative_config, which is a mapping. "
        "Write engine.speculative_config: {method: ...}.",
        ERROR,
        {"engine": {"speculative_config": {"num_speculative_tokens": 5, "method": "ngram"}}},
    ),
    "dotted twice": (
        "0.33.0",
        {"hf-overrides.text_config.rope": 1},
        "m: engine.hf-overrides.text_config.rope: is a field of hf_overrides, which is a mapping. "
        "Write engine.hf_overrides: {text_config: {rope: ...}}.",
        ERROR,
        {"engine": {"hf_overrides": {"text_config": {"rope": 1}}}},
    ),
    "dotted field of an option that came later": (
        "0.10.2",
        {"structured_outputs_config.backend": "guidance"},
        "m: engine.structured_outputs_config.backend: is not in vLLM 0.10.2: it came with 0.11.0. "
        "Write engine.guided_decoding_backend: guidance instead.",
        ERROR,
        {"engine": {"guided_decoding_backend": "guidance"}},
    ),
    "prefix of one": (
        "0.33.0",
        {"kv_cache_memory": 1073741824},
        "m: engine.kv_cache_memory: is only a prefix of kv_cache_memory_bytes. Write engine.kv_cache_memory_bytes.",
        ERROR,
        {"engine": {"kv_cache_memory_bytes": 1073741824}},
    ),
    "a name of guides that no release has": (
        "0.33.0",
        {"request-timeout": 60},
        "m: engine.request-timeout: is in no release of vLLM. vLLM has no time limit for requests: set one at the "
        "gateway; max_num_queued_reqs (0.29.0 and later) limits the queue.",
        ERROR,
        None,
    ),
    "kv_cache_memory before its option": (
        "0.10.1.1",
        {"kv_cache_memory": "4G"},
        "m: engine.kv_cache_memory: is in no release of vLLM. The option is kv_cache_memory_bytes, which 0.10.2 "
        "brought; before, gpu_memory_utilization decides.",
        ERROR,
        None,
    ),
    "disable_log_requests in the releases without": (
        "0.32.0",
        {"disable_log_requests": True},
        "m: engine.disable_log_requests: is not in vLLM 0.32.0: it was removed in 0.17.0: requests are logged only "
        "where enable_log_requests asks for it. Write engine.enable_log_requests: false instead.",
        ERROR,
        {"engine": {"enable_log_requests": False}},
    ),
    "disable_log_requests as the argument for no": (
        "0.33.0",
        {"disable_log_requests": True},
        "m: engine.disable_log_requests: is the opposite of enable_log_requests. "
        "Write engine.enable_log_requests: false.",
        ERROR,
        {"engine": {"enable_log_requests": False}},
    ),
    "prefix of several": (
        "0.33.0",
        {"max_num_s": 1},
        "m: engine.max_num_s: is only a prefix of 2 options. Did you mean max_num_seqs or max_num_scheduled_tokens?",
        ERROR,
        None,
    ),
    "removed": (
        "0.18.0",
        {"swap_space": 4},
        "m: engine.swap_space: is not in vLLM 0.18.0: it was removed in 0.18.0: the V1 engine never swapped KV blocks "
        "to host memory, it computes a preempted request anew. Leave it out. For a KV cache that goes on in host "
        "memory there is kv_offloading_size; cpu_offload_gb is something else and moves weights.",
        ERROR,
        {},
    ),
    "removed, with the line to write": (
        "0.8.3",
        {"speculative_model": "[ngram]", "num_speculative_tokens": 5, "ngram_prompt_lookup_max": 4},
        "m: engine.speculative_model: is not in vLLM 0.8.3: it was removed in 0.8.3: all options for speculation moved "
        'into speculative_config. Write engine.speculative_config: {"method": "ngram", "num_speculative_tokens": 5, '
        '"prompt_lookup_max": 4, "prompt_lookup_min": 1} instead.',
        ERROR,
        {
            "engine": {
                "speculative_config": {
                    "method": "ngram",
                    "num_speculative_tokens": 5,
                    "prompt_lookup_max": 4,
                    "prompt_lookup_min": 1,
                }
            }
        },
    ),
    "removed, and nothing does the same": (
        "0.28.0",
        {"calculate_kv_scales": True},
        "m: engine.calculate_kv_scales: is not in vLLM 0.28.0: it was removed in 0.28.0: scales of the KV cache are "
        "read from the checkpoint and are 1.0 without, never computed at the start. Leave it out and use a checkpoint "
        "that holds the scales, or a kv_cache_dtype with scales per token and head (fp8_per_token_head).",
        ERROR,
        None,
    ),
    "not there yet, with an older name": (
        "0.10.0",
        {"runner": "pooling", "convert": "embed"},
        "m: engine.runner: is not in vLLM 0.10.0: it came with 0.10.1. Write engine.task: embed instead.",
        ERROR,
        {"engine": {"task": "embed"}},
    ),
    "not there yet, said by a variable": (
        "0.10.2",
        {"attention_backend": "TRITON_ATTN"},
        "m: engine.attention_backend: is not in vLLM 0.10.2: it came with 0.13.0. "
        "Write env.VLLM_ATTENTION_BACKEND: TRITON_ATTN_VLLM_V1 instead.",
        ERROR,
        {"env": {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN_VLLM_V1"}},
    ),
    "not there yet": (
        "0.10.1.1",
        {"kv_cache_memory_bytes": 1},
        "m: engine.kv_cache_memory_bytes: is not in vLLM 0.10.1.1: it came with 0.10.2. Leave it out; the KV cache "
        "takes what gpu_memory_utilization leaves to it, or use an image of vLLM 0.10.2 or newer.",
        ERROR,
        None,
    ),
    "not there yet, and no older name": (
        "0.28.0",
        {"max_num_queued_reqs": 8},
        "m: engine.max_num_queued_reqs: is not in vLLM 0.28.0: it came with 0.29.0. "
        "Leave it out, or use an image of vLLM 0.29.0 or newer.",
        ERROR,
        None,
    ),
    "never existed": (
        "0.33.0",
        {"max_model_length": 8192},
        "m: engine.max_model_length: is no option of vLLM 0.33.0. Did you mean max_model_len?",
        ERROR,
        None,
    ),
    "never existed, and nothing is near": (
        "0.33.0",
        {"frobnicate": 1},
        "m: engine.frobnicate: is no option of vLLM 0.33.0. See the options of this release: vllm serve --help=all.",
        ERROR,
        None,
    ),
    "deprecated": (
        "0.16.0",
        {"disable_log_requests": True},
        "m: engine.disable_log_requests: is deprecated in 0.16.0: [DEPRECATED] Disable logging requests (it is in no "
        "release after 0.16.0). Write engine.enable_log_requests: false instead.",
        WARNING,
        {"engine": {"enable_log_requests": False}},
    ),
    "deprecated in the newest": (
        "0.33.0",
        {"disable_cascade_attn": True},
        "m: engine.disable_cascade_attn: is deprecated in 0.33.0: --disable-cascade-attn is deprecated and has no "
        "effect since cascade attention has been removed. It will be removed in v0.33.0. Leave it out.",
        WARNING,
        {},
    ),
    "gone later": (
        "0.17.1",
        {"swap_space": 4},
        "m: engine.swap_space: is in no release after 0.17.1: the V1 engine never swapped KV blocks to host memory, it "
        "computes a preempted request anew. It is taken here; for vLLM 0.33.0: Leave it out. For a KV cache that goes "
        "on in host memory there is kv_offloading_size; cpu_offload_gb is something else and moves weights.",
        WARNING,
        None,
    ),
    "not there yet, and gone again": (
        "0.8.3",
        {"cuda_graph_sizes": [1, 2]},
        "m: engine.cuda_graph_sizes: is not in vLLM 0.8.3: it came with 0.9.0. "
        'Write engine.compilation_config: {"cudagraph_capture_sizes": [1, 2]} instead.',
        ERROR,
        {"engine": {"compilation_config": {"cudagraph_capture_sizes": [1, 2]}}},
    ),
    "gone later, and its successor is there": (
        "0.11.0",
        {"cuda_graph_sizes": [1, 2]},
        "m: engine.cuda_graph_sizes: is in no release after 0.12.0: cudagraph_capture_sizes lists the batch sizes, "
        "max_cudagraph_capture_size ends the default series. "
        'Write engine.compilation_config: {"cudagraph_capture_sizes": [1, 2]} instead.',
        WARNING,
        {"engine": {"compilation_config": {"cudagraph_capture_sizes": [1, 2]}}},
    ),
}


@pytest.mark.parametrize(("version", "engine", "text", "warning", "remedy"), CASES.values(), ids=CASES)
def test_what_is_said(version: str, engine: dict[str, t.Any], text: str, warning: bool, remedy: t.Any) -> None:
    problem = problems(version, engine)[0]
    assert str(problem) == text
    assert (problem.warning, problem.remedy) == (warning, remedy)


@pytest.mark.parametrize(
    ("version", "engine"),
    [
        ("0.10.1.1", {"prefix_caching_hash_algo": "builtin"}),
        ("0.30.0", {"tokenizer_mode": "slow"}),
        ("0.10.1", {"runner": "pooling", "convert": "embed"}),
        ("0.10.2", {"kv_cache_memory_bytes": 1}),
        ("0.20.0", {"kv_cache_dtype": "nvfp4"}),
        ("0.31.0", {"disable_cascade_attn": True}),
        ("0.29.0", {"max_num_queued_reqs": 8}),
        ("0.33.0", {"enable_log_requests": False}),
    ],
)
def test_nothing_is_said_where_all_is_well(version: str, engine: dict[str, t.Any]) -> None:
    assert [str(problem) for problem in problems(version, engine)] == []


def test_every_option_that_is_gone_warns_in_its_last_release() -> None:
    """By what the catalogue knows, whether the release announced it or not."""
    for name in catalogue.names("options"):
        life = catalogue.life("options", name)
        if life is None or life.until is None or name in OWN_OPTIONS:
            continue
        option = load(life.until).options[name]
        value = True if option.on is not None else option.choices[0] if option.choices else 1
        value = {"json": {}, "list": [value]}.get(option.kind, value)
        value = ["name=path"] if name == "prompt_adapters" else value
        (problem,) = problems(life.until, {name: value})
        assert problem.warning and f"in no release after {life.until}" in problem.reason, str(problem)


@pytest.mark.parametrize(
    ("version", "dtype", "good"),
    [("0.33.0", "fp8", True), ("0.33.0", "auto", True), ("0.33.0", "fp9", False), ("0.24.0", "fp9", False)],
)
def test_types_of_the_kv_cache_are_checked_where_the_parser_does_not(version: str, dtype: str, good: bool) -> None:
    assert (problems(version, {"kv_cache_dtype": dtype}) == []) is good


def test_all_problems_are_told_at_once() -> None:
    found = problems("0.33.0", {"swap_space": 4, "max_num_seqs": "many", "api_key": "x", "dtype": None, "frob": 1})
    assert len(found) == 5


@pytest.mark.parametrize(
    "engine",
    [
        {"frobnicate_key": "s3cret"},
        {"ssl_keyfile_passwor": "s3cret"},
        {"tensor-parallel-size": "s3cret"},
        {"kv_transfer_config.extra": "s3cret"},
        {"kv-transfer-config": {"password": "s3cret"}},
        {"no_enable_lora": "s3cret"},
        {"middlewar": ["s3cret"]},
        {"chat_template": ["s3cret"]},
    ],
)
def test_what_may_be_a_secret_is_not_shown(engine: dict[str, t.Any]) -> None:
    assert [problem for problem in problems("0.33.0", engine) if "s3cret" in str(problem)] == []
    assert problems("0.33.0", engine)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = (
    st.sampled_from(catalogue.names("options"))
    | st.sampled_from(["-O", "--no-enable-lora", "speculative_config.method", "a..b", ".", "", "no_", "disable_", "--"])
    | st.text(max_size=20)
)


@settings(max_examples=300)
@given(engine=st.dictionaries(NAMES, ODD, max_size=5), version=st.sampled_from(RELEASES))
def test_no_input_raises(engine: dict[str, t.Any], version: str) -> None:
    found = problems(version, engine)
    assert len(found) <= len(engine)
    assert all(str(problem) and problem.fix for problem in found)
