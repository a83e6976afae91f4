# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What options demand of each other, whatever the model and the GPU: what vLLM refuses at start, and what it ignores.

A rule holds from one release to another and is asked only where the spec has the option that it is about; a rule that
needs a value that it cannot read says nothing, for the checks of single values name that one. The comment above a group
names where vLLM itself says so; the spans come from the sources of every release. Pure.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem, did_you_mean
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.engine import Engine, holds_in
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules import Range, Rule
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules_features import FEATURES
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules_memory import MEMORY
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules_parallel import PARALLEL
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules_scheduling import SCHEDULING
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules_serving import SERVING

_COMMIT = re.compile(r"[0-9a-f]{40}")

# Fields of the configuration classes (config/*.py) with gt, ge, lt or le, and what their __post_init__ checked before;
# sizes whose limits read_asked knows are not repeated.
RANGES = (
    # config/cache.py; cpu_offload_gb moved to config/offload.py in 0.18.0
    Range("block_size", "0.23.0", at_least=1),
    Range("cpu_offload_gb", "0.6.0", at_least=0),
    Range("mamba_block_size", "0.11.1", at_least=1),
    Range("prefix_cache_retention_interval", "0.29.0", at_least=0),
    Range("prefix_match_unit", "0.26.0", at_least=1),
    Range("replayssm_buffer_len", "0.27.0", at_least=1),
    Range("swap_space", "0.11.1", "0.17.1", at_least=0),
    # config/load.py, config/model.py, config/multimodal.py, config/observability.py
    Range("safetensors_prefetch_block_size", "0.21.0", at_least=1),
    Range("safetensors_prefetch_num_threads", "0.21.0", at_least=1),
    Range("max_logprobs", "0.25.0", at_least=-1),
    Range("mm_encoder_fp8_scale_save_margin", "0.21.0", above=0),
    Range("mm_ipc_gpu_memory_gb", "0.25.0", at_least=0),
    Range("mm_processor_cache_gb", "0.11.1", at_least=0),
    Range("mm_shm_cache_max_object_size_mb", "0.11.1", at_least=0),
    Range("video_pruning_rate", "0.11.1", at_least=0, below=1),
    Range("kv_cache_metrics_sample", "0.12.0", above=0, at_most=1),
    # config/offload.py
    Range("offload_group_size", "0.17.0", at_least=0),
    Range("offload_num_in_group", "0.17.0", at_least=1),
    Range("offload_prefetch_step", "0.17.0", at_least=0),
    # config/parallel.py
    Range("data_parallel_rank", "0.23.0", at_least=0),
    Range("data_parallel_rpc_port", "0.28.0", at_least=1, at_most=65535),
    Range("dbo_decode_token_threshold", "0.23.0", at_least=0),
    Range("dbo_prefill_token_threshold", "0.23.0", at_least=0),
    Range("decode_context_parallel_size", "0.23.0", at_least=1),
    Range("dp_sync_interval", "0.30.0", at_least=1),
    Range("elastic_ep_max_dp_size", "0.30.0", at_least=1),
    Range("max_parallel_loading_workers", "0.23.0", at_least=1),
    Range("ubatch_size", "0.23.0", at_least=0),
    # config/scheduler.py; the oldest in SchedulerConfig._verify_args of config.py
    Range("long_prefill_token_threshold", "0.25.0", at_least=0),
    Range("max_long_partial_prefills", "0.7.3", "0.26.0", at_least=1),
    Range("max_num_active_seqs", "0.31.0", at_least=1),
    Range("max_num_partial_prefills", "0.7.3", "0.26.0", at_least=1),
    Range("max_num_queued_reqs", "0.29.0", at_least=0),
    Range("max_num_queued_tokens", "0.29.0", at_least=0),
    Range("max_num_scheduled_tokens", "0.26.0", "0.31.0", at_least=0),
    Range("max_num_scheduled_tokens", "0.32.0", at_least=1),
    Range("num_scheduler_steps", "0.6.0", "0.10.0", at_least=1),
    Range("prefill_schedule_interval", "0.24.0", at_least=1),
    Range("stream_interval", "0.11.1", at_least=1),
    Range("watermark", "0.24.0", at_least=0, below=1),
    # config/vllm.py; entrypoints/common/cli_args.py; entrypoints/cli/serve.py, where 0 means headless
    Range("shutdown_timeout", "0.18.0", at_least=0),
    Range("sse_keep_alive_interval", "0.29.0", at_least=0),
    Range("api_server_count", "0.9.1", at_least=1),
    Range("grpc_port", "0.32.0", at_least=0, at_most=65535),
)

RULES = (*SERVING, *SCHEDULING, *PARALLEL, *MEMORY, *FEATURES)


def check_combinations(spec: ModelSpec, release: Release) -> list[Problem]:
    """Every option that the release refuses or ignores because of another one, and every number outside its range."""
    engine = Engine(spec, release)
    ranges, rules = _tables(release.version)
    problems = []
    for name in spec.engine:
        if name not in release.options or not engine.has(name):
            continue
        for limits in ranges.get(name, ()):
            number = engine.real(name)
            if number is not None and not limits.holds(number):
                reason = f"must be {limits}, says vLLM {release.version}"
                problems.append(Problem(spec.name, f"engine.{name}", reason, "Write such a number", engine.shown(name)))
        for rule in rules.get(name, ()):
            if rule.broken(engine):
                problems.append(rule.problem(engine))
    problems.extend(_parser_names(engine))
    problems.extend(_remote_code(engine))
    return problems


@functools.cache
def _tables(version: str) -> tuple[Mapping[str, Sequence[Range]], Mapping[str, Sequence[Rule]]]:
    """The ranges and rules of a release, by the option that they are about."""
    ranges: dict[str, list[Range]] = {}
    rules: dict[str, list[Rule]] = {}
    for limits in RANGES:
        if holds_in(version, limits.since, limits.until):
            ranges.setdefault(limits.name, []).append(limits)
    for rule in RULES:
        if holds_in(version, rule.since, rule.until):
            rules.setdefault(rule.field, []).append(rule)
    return ranges, rules


# ---- names that the release registers


def _parser_names(engine: Engine) -> Iterator[Problem]:
    """Tool-call and reasoning parsers that the release does not have.

    validate_api_server_args in entrypoints/common/cli_args.py of 0.33.0; run_server in entrypoints/openai/api_server.py
    of 0.6.3. Only a parser that is used is looked up, and a plugin may bring any.
    """
    version = engine.release.version
    tool = engine.text("tool_call_parser")
    if tool and engine.on("enable_auto_tool_choice") and not engine.text("tool_parser_plugin"):
        yield from _registered(engine, "tool_call_parser", tool, "tool_parsers", "tool_parser_plugin")
    # Until 0.8.5.post1 a switch of its own has to be on.
    if engine.on("enable_reasoning") or holds_in(version, "0.9.0", None):
        config = engine.mapping("structured_outputs_config").get("reasoning_parser")
        names = {"reasoning_parser": engine.text("reasoning_parser")}
        if isinstance(config, str):
            names["structured_outputs_config.reasoning_parser"] = config
        for field, name in names.items():
            if name and not engine.text("reasoning_parser_plugin"):
                yield from _registered(engine, field, name, "reasoning_parsers", "reasoning_parser_plugin")


def _registered(engine: Engine, field: str, name: str, section: str, plugin: str) -> Iterator[Problem]:
    if field.split(".")[0] not in engine.release.options:
        return
    known = engine.release.facts(section)
    if name in known:
        return
    life = catalogue.life(section, name)
    reason = f"is no parser of vLLM {engine.release.version}" + (f"; {life}" if life else "")
    otherwise = f"Known are {', '.join(sorted(known))}"
    if plugin in engine.release.options:
        otherwise += f"; another one comes with engine.{plugin}"
    yield Problem(engine.spec.name, f"engine.{field}", reason, did_you_mean(name, known, otherwise), short(name))


def _remote_code(engine: Engine) -> Iterator[Problem]:
    """The model's own code may run only where it cannot change: at a commit, or in a folder of the host."""
    spec = engine.spec
    if engine.on("trust_remote_code") and not spec.is_path and not _COMMIT.fullmatch(spec.revision or ""):
        yield Problem(
            spec.name,
            "revision",
            "must be a commit, because engine.trust_remote_code runs the code that the repository holds",
            "Write the 40 digits of the commit that was read, or set engine.trust_remote_code to false",
            None if spec.revision is None else short(spec.revision),
        )
    code = engine.spec.engine.get("code_revision")
    if engine.on("trust_remote_code") and code is not None and not _COMMIT.fullmatch(str(code)):
        yield Problem(
            spec.name,
            "engine.code_revision",
            "must be a commit, because engine.trust_remote_code runs the code that stands there",
            "Write the 40 digits of the commit that was read, or leave it out where the code is in the model's own "
            "repository",
            short(str(code)),
        )
