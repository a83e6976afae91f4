# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What options of the HTTP server demand of each other: tools, reasoning, logs, certificates. Pure."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules import (
    EITHER,
    LEAVE_OUT,
    Rule,
    both_on,
    more_than_one,
    on_without,
    without,
)


def _is_no_version(text: str) -> bool:
    try:
        Version(text or "0")
    except InvalidVersion:
        return True
    return False


SERVING = (
    # -- tools, reasoning and logs: validate_parsed_serve_args in entrypoints/openai/cli_args.py (entrypoints/common/
    #    cli_args.py of 0.33.0); before 0.6.3 OpenAIServingChat.__init__
    Rule(
        "enable_auto_tool_choice",
        "0.6.0",
        None,
        on_without("enable_auto_tool_choice", "tool_call_parser"),
        "needs engine.tool_call_parser",
        "Add engine.tool_call_parser, the parser of the model's tool calls",
    ),
    # get_tool_parser in parser/parser_manager.py of 0.33.0; OpenAIServingChat.__init__ of 0.6.0
    Rule(
        "tool_call_parser",
        "0.6.0",
        None,
        without("enable_auto_tool_choice"),
        "has no effect, because engine.enable_auto_tool_choice is not on",
        "Add engine.enable_auto_tool_choice: true, or leave it out",
        warning=True,
        remedy=LEAVE_OUT,
    ),
    Rule(
        "enable_reasoning",
        "0.7.1",
        "0.8.5.post1",
        on_without("enable_reasoning", "reasoning_parser"),
        "needs engine.reasoning_parser",
        "Add engine.reasoning_parser, the parser of the model's reasoning",
    ),
    Rule(
        "enable_reasoning",
        "0.7.1",
        "0.8.1",
        both_on("enable_reasoning", "enable_auto_tool_choice"),
        "cannot be on together with engine.enable_auto_tool_choice before 0.8.2",
        EITHER,
    ),
    # run_server in entrypoints/openai/api_server.py of 0.7.1 to 0.8.5 passes it on only when the switch is on
    Rule(
        "reasoning_parser",
        "0.7.1",
        "0.8.5.post1",
        without("enable_reasoning"),
        "has no effect, because engine.enable_reasoning is not on",
        "Add engine.enable_reasoning: true, or leave it out",
        warning=True,
        remedy=LEAVE_OUT,
    ),
    Rule(
        "enable_log_outputs",
        "0.11.0",
        None,
        on_without("enable_log_outputs", "enable_log_requests"),
        "needs engine.enable_log_requests",
        "Add engine.enable_log_requests: true",
        remedy={"engine": {"enable_log_outputs": True, "enable_log_requests": True}},
    ),
    # init_app_state in entrypoints/openai/api_server.py of 0.10.1
    Rule(
        "max_log_len",
        "0.10.1",
        None,
        without("enable_log_requests"),
        "has no effect, because engine.enable_log_requests is not on",
        "Add engine.enable_log_requests: true, or leave it out",
        warning=True,
        remedy=LEAVE_OUT,
    ),
    Rule(
        "enable_per_request_metrics",
        "0.25.0",
        None,
        both_on("enable_per_request_metrics", "disable_log_stats"),
        "cannot be on while engine.disable_log_stats is",
        "Leave engine.disable_log_stats out",
    ),
    # The engine then counts nothing, so that /metrics says nothing of progress: v1/engine/async_llm.py of 0.33.0
    Rule(
        "disable_log_stats",
        "0.6.0",
        None,
        lambda engine: engine.on("disable_log_stats"),
        "switches off the engine's metrics, by which a server that hangs is told from one that is idle",
        "Leave it out; the interval of the lines in the log is the variable VLLM_LOG_STATS_INTERVAL",
        warning=True,
        remedy=LEAVE_OUT,
    ),
    # ObservabilityConfig: _validate_tracing_config of 0.33.0, __post_init__ of 0.6.0
    *(
        Rule(
            field,
            since,
            until,
            lambda engine: not engine.has("otlp_traces_endpoint"),
            "needs engine.otlp_traces_endpoint",
            "Add engine.otlp_traces_endpoint, or leave it out",
        )
        for field, since, until in (
            ("collect_detailed_traces", "0.6.0", "0.6.3.post1"),
            ("collect_detailed_traces", "0.11.1", None),
        )
    ),
    # _validate_show_hidden_metrics_for_version in config/observability.py of 0.11.1
    Rule(
        "show_hidden_metrics_for_version",
        "0.11.1",
        None,
        lambda engine: _is_no_version(engine.text("show_hidden_metrics_for_version")),
        "is no version",
        "Write the version before this one, in quotes, or leave it out",
    ),
    # -- HTTP: uvicorn's Config.load asserts a certificate when it has a key; validate_grpc_port_arg in
    #    entrypoints/common/cli_args.py of 0.33.0
    Rule(
        "ssl_keyfile",
        "0.6.0",
        None,
        lambda engine: not engine.has("ssl_certfile"),
        "needs engine.ssl_certfile",
        "Add engine.ssl_certfile",
    ),
    Rule(
        "grpc_port",
        "0.32.0",
        None,
        lambda engine: engine.on("grpc"),
        "cannot be set together with engine.grpc",
        EITHER,
    ),
    Rule(
        "grpc_port",
        "0.32.0",
        None,
        lambda engine: engine.spec.env.get("VLLM_USE_RUST_FRONTEND", "0") in ("", "0"),
        "needs the variable VLLM_USE_RUST_FRONTEND",
        'Add env.VLLM_USE_RUST_FRONTEND: "1", or leave it out',
    ),
    # run_multi_api_server in entrypoints/cli/serve.py
    Rule(
        "api_server_count",
        "0.9.1",
        None,
        lambda engine: (
            more_than_one(engine, "api_server_count")
            and engine.spec.env.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "").strip().lower() in ("1", "true")
        ),
        "cannot be more than 1 while VLLM_ALLOW_RUNTIME_LORA_UPDATING is on",
        "Leave it out, or remove env.VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    ),
)
