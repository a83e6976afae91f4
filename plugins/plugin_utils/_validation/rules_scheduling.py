# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What options of batches and of asynchronous scheduling demand of each other. Pure."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules import (
    EITHER,
    LEAVE_OUT,
    Rule,
    below,
    more_than_one,
)

# Methods that no release with this rule lists beside async scheduling: config/vllm.py, VllmConfig.__post_init__.
_NEVER_ASYNC = ("ngram", "medusa", "mlp_speculator", "suffix", "custom_class")


def _async_with_method(*methods: str) -> Callable[[Engine], bool]:
    return lambda engine: engine.on("async_scheduling") and engine.speculative_method in methods


SCHEDULING = (
    # -- batches: SchedulerConfig.verify_max_model_len in config/scheduler.py of 0.33.0, _verify_args in config.py of
    #    0.6.0
    Rule(
        "max_num_batched_tokens",
        "0.6.0",
        None,
        lambda engine: engine.has("max_num_seqs") and below(engine, "max_num_batched_tokens", "max_num_seqs"),
        "is less than engine.max_num_seqs, which is {max_num_seqs}",
        "Write {max_num_seqs} or more",
    ),
    # From 0.8.0 to 0.11.0 the V1 engine always uses chunked prefill for generation: engine/arg_utils.py of 0.10.2,
    # _set_default_args_v1
    *(
        Rule(
            "max_num_batched_tokens",
            since,
            until,
            lambda engine: (
                engine.off("enable_chunked_prefill")
                and engine.has("max_model_len")
                and below(engine, "max_num_batched_tokens", "max_model_len")
            ),
            "is less than engine.max_model_len, which is {max_model_len}, while engine.enable_chunked_prefill is off",
            "Write {max_model_len} or more, or leave engine.enable_chunked_prefill out",
        )
        for since, until in (("0.6.0", "0.7.3"), ("0.11.1", None))
    ),
    Rule(
        "max_num_partial_prefills",
        "0.7.3",
        "0.7.3",
        lambda engine: more_than_one(engine, "max_num_partial_prefills") and engine.off("enable_chunked_prefill"),
        "cannot be more than 1 while engine.enable_chunked_prefill is off",
        EITHER,
    ),
    # EngineArgs._check_feature_supported in engine/arg_utils.py of 0.11.1 to 0.26.0
    *(
        Rule(
            name,
            "0.11.1",
            "0.26.0",
            lambda engine, name=name: engine.number(name) not in (None, 1),
            "is not supported: only 1 prompt is prefilled in part at a time",
            "Leave it out",
            remedy=LEAVE_OUT,
        )
        for name in ("max_num_partial_prefills", "max_long_partial_prefills")
    ),
    Rule(
        "logits_processor_pattern",
        "0.11.1",
        "0.16.0",
        lambda engine: True,
        "is not supported by the V1 engine",
        "Leave it out; engine.logits_processors loads processors",
        remedy=LEAVE_OUT,
    ),
    Rule(
        "pipeline_parallel_size",
        "0.11.1",
        None,
        lambda engine: (
            more_than_one(engine, "pipeline_parallel_size")
            and engine.text("distributed_executor_backend") not in ("", "ray", "mp", "external_launcher")
        ),
        "of more than 1 needs engine.distributed_executor_backend: mp or ray",
        "Write mp, or leave the backend out",
    ),
    Rule(
        "max_long_partial_prefills",
        "0.7.3",
        "0.11.0",
        lambda engine: below(engine, "max_num_partial_prefills", "max_long_partial_prefills"),
        "is more than engine.max_num_partial_prefills, which is {max_num_partial_prefills}",
        "Write {max_num_partial_prefills} or less",
    ),
    Rule(
        "long_prefill_token_threshold",
        "0.7.3",
        "0.11.0",
        lambda engine: (
            more_than_one(engine, "max_num_partial_prefills")
            and engine.has("max_model_len")
            and below(engine, "max_model_len", "long_prefill_token_threshold")
        ),
        "is more than engine.max_model_len, which is {max_model_len}, while engine.max_num_partial_prefills is not 1",
        "Write {max_model_len} or less",
    ),
    Rule(
        "long_prefill_token_threshold",
        "0.27.0",
        None,
        lambda engine: (
            engine.has("max_model_len")
            and (engine.number("max_model_len") or 0) > 0
            and below(engine, "max_model_len", "long_prefill_token_threshold")
        ),
        "is more than engine.max_model_len, which is {max_model_len}",
        "Write {max_model_len} or less",
    ),
    Rule(
        "max_num_active_seqs",
        "0.31.0",
        None,
        lambda engine: engine.has("max_num_seqs") and below(engine, "max_num_seqs", "max_num_active_seqs"),
        "is more than engine.max_num_seqs, which is {max_num_seqs}",
        "Write {max_num_seqs} or less",
    ),
    # SchedulerConfig._verify_args and EngineArgs.create_engine_config of 0.6.0 to 0.10.0
    Rule(
        "num_scheduler_steps",
        "0.6.0",
        "0.10.0",
        lambda engine: more_than_one(engine, "num_scheduler_steps") and engine.speculates,
        "cannot be more than 1 together with speculative decoding",
        EITHER,
    ),
    Rule(
        "num_scheduler_steps",
        "0.6.0",
        "0.6.2",
        lambda engine: more_than_one(engine, "num_scheduler_steps") and engine.on("enable_chunked_prefill"),
        "cannot be more than 1 together with engine.enable_chunked_prefill before 0.6.3",
        EITHER,
    ),
    Rule(
        "num_scheduler_steps",
        "0.6.3",
        "0.10.0",
        lambda engine: (
            more_than_one(engine, "num_scheduler_steps")
            and engine.on("enable_chunked_prefill")
            and more_than_one(engine, "pipeline_parallel_size")
        ),
        "cannot be more than 1 together with engine.enable_chunked_prefill and engine.pipeline_parallel_size",
        "Leave one of the three out",
    ),
    # -- asynchronous scheduling: EngineArgs.create_engine_config of 0.10.0 to 0.11.0, VllmConfig.__post_init__ in
    #    config/vllm.py since
    Rule(
        "async_scheduling",
        "0.10.0",
        "0.10.2",
        lambda engine: engine.on("async_scheduling") and engine.text("distributed_executor_backend") == "uni",
        "is not supported with engine.distributed_executor_backend: uni before 0.11.0",
        EITHER,
    ),
    Rule(
        "async_scheduling",
        "0.11.1",
        "0.18.1",
        lambda engine: engine.on("async_scheduling") and engine.text("distributed_executor_backend") == "ray",
        "is not supported with engine.distributed_executor_backend: ray",
        EITHER,
    ),
    Rule(
        "async_scheduling",
        "0.10.0",
        "0.14.1",
        lambda engine: engine.on("async_scheduling") and more_than_one(engine, "pipeline_parallel_size"),
        "is not supported with engine.pipeline_parallel_size before 0.15.0",
        EITHER,
    ),
    Rule(
        "async_scheduling",
        "0.10.0",
        "0.11.0",
        lambda engine: engine.on("async_scheduling") and engine.speculates,
        "is not supported with speculative decoding before 0.11.1",
        EITHER,
    ),
    Rule(
        "async_scheduling",
        "0.11.1",
        "0.32.0",
        _async_with_method(*_NEVER_ASYNC),
        "is not supported with this method of speculative decoding",
        "Leave it out; vLLM then decides itself",
        remedy=LEAVE_OUT,
    ),
    Rule(
        "async_scheduling",
        "0.11.1",
        "0.32.0",
        lambda engine: (
            engine.on("async_scheduling")
            and engine.mapping("speculative_config").get("disable_padded_drafter_batch") is True
        ),
        "is not supported with speculative_config.disable_padded_drafter_batch",
        EITHER,
    ),
)
