# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What options of parallel ranks and of their load balancing demand of each other. Pure."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import whole
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.engine import Engine, holds_in
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.image import is_for_cpu
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rules import (
    EITHER,
    LEAVE_OUT,
    Rule,
    below,
    both_on,
    more_than_one,
    on_without,
    product,
    without,
)


def _one_rank(engine: Engine) -> bool:
    sizes = ("tensor_parallel_size", "prefill_context_parallel_size", "data_parallel_size")
    # Prefill context parallelism counts since 0.26.0.
    counted = sizes if holds_in(engine.release.version, "0.26.0", None) else (sizes[0], sizes[2])
    ranks = product(engine, *counted)
    return ranks is not None and ranks <= 1


def _context_ranks_do_not_fit(engine: Engine) -> bool:
    tensor, decode = engine.number("tensor_parallel_size"), engine.number("decode_context_parallel_size")
    prefill = engine.number("prefill_context_parallel_size") or 1
    if not tensor or not decode or tensor < 1 or decode < 1:
        return False
    if prefill > 1 and holds_in(engine.release.version, "0.26.0", None):
        return decode not in (1, prefill, tensor * prefill)
    return tensor % decode != 0


def _interleave_does_not_fit(engine: Engine) -> bool:
    block, interleave = engine.number("block_size"), engine.number("cp_kv_cache_interleave_size")
    nixl = "Nixl" in str(engine.mapping("kv_transfer_config").get("kv_connector"))
    if not more_than_one(engine, "decode_context_parallel_size") or not block or not interleave or nixl:
        return False
    return interleave > block or block % interleave != 0


def _external_balancing(engine: Engine) -> bool:
    return engine.on("data_parallel_external_lb") or engine.has("data_parallel_rank")


def _balancing_modes(engine: Engine) -> int:
    multi_port, hybrid = engine.on("data_parallel_multi_port_external_lb"), engine.on("data_parallel_hybrid_lb")
    if not multi_port and not hybrid:
        hybrid = engine.has("data_parallel_start_rank")
    return sum((multi_port, hybrid, _external_balancing(engine)))


def _rank_outside(engine: Engine) -> bool:
    rank, size = engine.number("data_parallel_rank"), engine.number("data_parallel_size")
    return rank is not None and size is not None and size > 1 and not 0 <= rank < size


def _no_microbatch_backend(*backends: str) -> Callable[[Engine], bool]:
    def broken(engine: Engine) -> bool:
        # Switched off with a warning: platforms/cpu.py.
        if is_for_cpu({"version": engine.release.requested}):
            return False
        if not engine.on("enable_dbo") and not more_than_one(engine, "ubatch_size"):
            return False
        return "VLLM_ALL2ALL_BACKEND" not in engine.spec.env and engine.text("all2all_backend") not in backends

    return broken


def _no_executor(engine: Engine) -> bool:
    name = engine.text("distributed_executor_backend")
    # The parser reads the text None as if the option were left out: optional_type in engine/arg_utils.py.
    return name not in ("", "None", *engine.release.facts("executor_backends")) and "." not in name


def _duplicates(engine: Engine) -> bool:
    ids = engine.items("device_ids")
    texts = [part.strip() for item in ids for part in str(item).split(",")]
    return len(set(texts)) < len(texts)


PARALLEL = (
    # -- parallel ranks: ParallelConfig.__post_init__ and _validate_parallel_config in config/parallel.py (config.py
    #    before 0.10.0)
    Rule(
        "decode_context_parallel_size",
        "0.10.2",
        None,
        _context_ranks_do_not_fit,
        "does not fit engine.tensor_parallel_size, which is {tensor_parallel_size}",
        "Write a divisor of engine.tensor_parallel_size; with engine.prefill_context_parallel_size, that size itself or"
        " the product of both",
    ),
    Rule(
        "dcp_comm_backend",
        "0.18.0",
        "0.28.0",
        lambda engine: (
            engine.text("dcp_comm_backend") == "a2a" and not more_than_one(engine, "decode_context_parallel_size")
        ),
        "needs engine.decode_context_parallel_size of more than 1",
        "Add it, or leave this out",
    ),
    # validate_block_size in config/vllm.py of 0.33.0
    Rule(
        "block_size",
        "0.12.0",
        None,
        _interleave_does_not_fit,
        "is no multiple of engine.cp_kv_cache_interleave_size, which is {cp_kv_cache_interleave_size}",
        "Write a multiple of {cp_kv_cache_interleave_size}",
    ),
    Rule(
        "prefill_context_parallel_size",
        "0.12.0",
        "0.12.0",
        lambda engine: more_than_one(engine, "prefill_context_parallel_size"),
        "is refused by vLLM 0.12.0, which only prepares for it",
        "Leave it out, or use an image of 0.13.0 or later",
    ),
    Rule(
        "enable_eplb",
        "0.10.0",
        None,
        on_without("enable_eplb", "enable_expert_parallel"),
        "needs engine.enable_expert_parallel",
        "Add engine.enable_expert_parallel: true",
    ),
    Rule(
        "enable_eplb",
        "0.10.0",
        None,
        lambda engine: engine.on("enable_eplb") and _one_rank(engine),
        "needs more than one rank",
        "Set engine.tensor_parallel_size or engine.data_parallel_size to more than 1",
    ),
    Rule(
        "num_redundant_experts",
        "0.9.2",
        "0.11.2",
        lambda engine: (engine.number("num_redundant_experts") or 0) > 0 and not engine.on("enable_eplb"),
        "needs engine.enable_eplb",
        "Add engine.enable_eplb: true, or leave it out",
    ),
    Rule(
        "eplb_config",
        "0.10.2",
        None,
        lambda engine: (
            (whole(engine.mapping("eplb_config").get("num_redundant_experts")) or 0) > 0
            and not engine.on("enable_eplb")
        ),
        "asks for redundant experts, which need engine.enable_eplb",
        "Add engine.enable_eplb: true, or leave num_redundant_experts out",
    ),
    # ParallelConfig.__post_init__ in config/parallel.py of 0.33.0
    Rule(
        "enable_elastic_ep",
        "0.17.0",
        None,
        on_without("enable_elastic_ep", "enable_eplb"),
        "needs engine.enable_eplb",
        "Add engine.enable_eplb: true",
    ),
    Rule(
        "enable_elastic_ep",
        "0.17.0",
        None,
        lambda engine: engine.on("enable_elastic_ep") and more_than_one(engine, "pipeline_parallel_size"),
        "is not supported with engine.pipeline_parallel_size",
        EITHER,
    ),
    Rule(
        "enable_elastic_ep",
        "0.17.0",
        None,
        both_on("enable_elastic_ep", "data_parallel_hybrid_lb"),
        "is not supported with engine.data_parallel_hybrid_lb",
        EITHER,
    ),
    Rule(
        "enable_elastic_ep",
        "0.17.0",
        "0.32.0",
        lambda engine: engine.on("enable_elastic_ep") and engine.on("data_parallel_external_lb"),
        "is not supported with engine.data_parallel_external_lb before 0.33.0",
        EITHER,
    ),
    Rule(
        "elastic_ep_max_dp_size",
        "0.30.0",
        None,
        lambda engine: engine.on("enable_elastic_ep") and below(engine, "elastic_ep_max_dp_size", "data_parallel_size"),
        "is less than engine.data_parallel_size, which is {data_parallel_size}",
        "Write {data_parallel_size} or more",
    ),
    Rule(
        "numa_bind_nodes",
        "0.20.0",
        None,
        without("numa_bind"),
        "needs engine.numa_bind",
        "Add engine.numa_bind: true",
    ),
    Rule(
        "numa_bind_cpus",
        "0.20.0",
        None,
        without("numa_bind"),
        "needs engine.numa_bind",
        "Add engine.numa_bind: true",
    ),
    Rule(
        "numa_bind_nodes",
        "0.20.0",
        None,
        lambda engine: any((whole(node) or 0) < 0 for node in engine.items("numa_bind_nodes")),
        "holds a negative number",
        "Write the numbers of NUMA nodes",
    ),
    Rule(
        "ray_workers_use_nsight",
        "0.6.0",
        None,
        lambda engine: (
            engine.on("ray_workers_use_nsight") and engine.text("distributed_executor_backend") not in ("", "ray")
        ),
        "needs engine.distributed_executor_backend: ray",
        EITHER,
    ),
    # Read only where nnodes is more than 1 (create_engine_config in engine/arg_utils.py), which is not set here
    *(
        Rule(
            name,
            "0.11.1",
            None,
            lambda engine: True,
            "has no effect, for a server runs on one host",
            "Leave it out",
            warning=True,
            remedy=LEAVE_OUT,
        )
        for name in ("node_rank", "master_addr", "master_port")
    ),
    # Executor.get_class in v1/executor/abstract.py of 0.10.2; before, the parser lists the backends
    Rule(
        "distributed_executor_backend",
        "0.10.2",
        None,
        _no_executor,
        "is no backend of vLLM's, nor the import path of a class",
        "Write mp, ray, uni or external_launcher, or leave it out",
    ),
    # The requirements of the published CUDA image hold ray up to 0.17.1: requirements/cuda.txt
    Rule(
        "distributed_executor_backend",
        "0.18.0",
        None,
        lambda engine: engine.text("distributed_executor_backend") == "ray",
        "needs Ray, which vLLM's own images do not contain since 0.18.0",
        "Write mp for one host, or name an image that was derived from vLLM's with pip install ray",
        warning=True,
    ),
    # EngineArgs._resolve_device_ids in engine/arg_utils.py of 0.24.0
    Rule("device_ids", "0.24.0", None, _duplicates, "names a device twice", "Name each device once"),
    # VllmConfig.__post_init__ in config/vllm.py
    Rule(
        "enable_dbo",
        "0.11.0",
        "0.23.0",
        _no_microbatch_backend("deepep_low_latency", "deepep_high_throughput"),
        "needs DeepEP",
        "Add engine.all2all_backend: deepep_low_latency or deepep_high_throughput",
    ),
    Rule(
        "enable_dbo",
        "0.24.0",
        None,
        _no_microbatch_backend("deepep_low_latency", "deepep_high_throughput", "nixl_ep"),
        "needs another all-to-all backend",
        "Add engine.all2all_backend: deepep_low_latency, deepep_high_throughput or nixl_ep",
    ),
    Rule(
        "all2all_backend",
        "0.31.0",
        None,
        lambda engine: engine.text("all2all_backend") == "moonep" and engine.on("enable_eplb"),
        "is not supported with engine.enable_eplb",
        EITHER,
    ),
    # -- data parallel load balancing: ServeSubcommand.cmd in entrypoints/cli/serve.py, create_engine_config in
    #    engine/arg_utils.py, validate_multi_port_external_lb_args in entrypoints/launchers/dp_supervisor.py of 0.33.0
    *(
        Rule(
            field,
            since,
            None,
            lambda engine: _balancing_modes(engine) > 1,
            "is one way of load balancing, and another option of the spec asks for another one",
            "Leave out all but one of engine.data_parallel_external_lb (or _rank), _hybrid_lb (or _start_rank) and"
            " _multi_port_external_lb",
        )
        for field, since in (
            ("data_parallel_hybrid_lb", "0.11.1"),
            ("data_parallel_start_rank", "0.15.0"),
            ("data_parallel_multi_port_external_lb", "0.22.0"),
        )
    ),
    Rule(
        "data_parallel_external_lb",
        "0.11.1",
        None,
        lambda engine: engine.on("data_parallel_external_lb") and (product(engine, "data_parallel_size") or 2) <= 1,
        "needs engine.data_parallel_size of more than 1",
        "Add it, or leave this out",
    ),
    Rule(
        "data_parallel_external_lb",
        "0.11.1",
        None,
        on_without("data_parallel_external_lb", "data_parallel_rank"),
        "needs engine.data_parallel_rank",
        "Add it, another number for each server, or leave this out",
    ),
    Rule(
        "data_parallel_hybrid_lb",
        "0.10.0",
        None,
        lambda engine: engine.on("data_parallel_hybrid_lb") and not _external_balancing(engine),
        "needs data_parallel_size_local, and here a server runs on one host",
        "Leave it out",
        remedy=LEAVE_OUT,
    ),
    Rule(
        "data_parallel_multi_port_external_lb",
        "0.22.0",
        None,
        lambda engine: engine.on("data_parallel_multi_port_external_lb") and _balancing_modes(engine) == 1,
        "needs data_parallel_size_local and a port for each rank, and here a server has one",
        "Leave it out",
        remedy=LEAVE_OUT,
    ),
    # _validate_parallel_config in config/parallel.py of 0.32.0, for the rank asks for external load balancing
    Rule(
        "data_parallel_rank",
        "0.9.2",
        None,
        lambda engine: (product(engine, "data_parallel_size") or 2) <= 1,
        "needs engine.data_parallel_size of more than 1",
        "Add it, or leave this out",
    ),
    Rule(
        "data_parallel_rank",
        "0.9.2",
        None,
        _rank_outside,
        "must be less than engine.data_parallel_size, which is {data_parallel_size}",
        "Count ranks from 0",
    ),
    # EngineArgs.create_engine_config in engine/arg_utils.py of 0.9.1
    Rule(
        "data_parallel_backend",
        "0.9.1",
        None,
        lambda engine: engine.text("data_parallel_backend") not in ("mp", "ray"),
        "is neither mp nor ray",
        "Write mp",
    ),
    # EngineArgs.create_engine_config and ParallelConfig._validate_parallel_config of 0.27.0
    Rule(
        "enable_fault_tolerance",
        "0.27.0",
        None,
        lambda engine: engine.on("enable_fault_tolerance") and not _external_balancing(engine),
        "needs external load balancing",
        "Add engine.data_parallel_rank, or leave it out",
    ),
    Rule(
        "enable_fault_tolerance",
        "0.27.0",
        None,
        lambda engine: engine.on("enable_fault_tolerance") and more_than_one(engine, "api_server_count"),
        "needs a single API server",
        "Leave engine.api_server_count out",
    ),
)
