# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of one start of vLLM as a record: one line of JSON, in the form of those that the memory model is fitted to.

    docker logs NAME 2>&1 | python tools/memory/log_record.py --spec models.yml --gpu "NVIDIA L4" >>records.jsonl

The spec is a model as in `vllm_models` (or a list of them, with --name). With VLLM_LOGGING_LEVEL=DEBUG every release
tells more. Nothing of the log itself goes into the record.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import sys
import typing as t

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "accuracy"))
from columns import OPTIONS  # noqa: E402  (the folder of the tool is no package)

from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.memory import read_log

# Fields of a record and the figures of the log that they are.
FIGURES = {
    "gpu_total_gib": "total_gib",
    "weights_gib_per_gpu": "weights_gib",
    "instance_budget_gib": "budget_gib",
    "non_torch_gib": "non_torch_gib",
    "activation_peak_gib": "activation_gib",
    "cudagraph_actual_gib": "graphs_gib",
    "cudagraph_estimate_gib": "graphs_estimate_gib",
    "available_kv_gib": "available_kv_gib",
    "kv_cache_tokens": "kv_tokens",
    "gpu_blocks": "gpu_blocks",
    "max_concurrency": "max_concurrency",
    "max_concurrency_len": "max_concurrency_len",
    "kv_needed_gib": "kv_needed_gib",
    "estimated_max_model_len": "estimated_max_model_len",
}
# vllm/engine/llm_engine.py of 0.6.0-0.10.2 and vllm/v1/engine/core.py of 0.6.4-0.33.0.
ENGINE = re.compile(r"Initializing (?:an LLM|a (V0|V1) LLM) engine")
# vllm/v1/core/kv_cache_utils.py and vllm/worker/worker.py; the text of torch.OutOfMemoryError.
NO_KV = "No available memory for the cache blocks"
OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|CUDA out of memory|HIP out of memory")
STARTED = "Application startup complete"


class Unusable(Exception):
    """The spec or the log cannot become a record; the text says in one line why."""


def read_spec(path: pathlib.Path, name: str | None) -> dict[str, t.Any]:
    """The model of this name, or the only one of the file. Raises Unusable."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise Unusable(f"{path}: cannot be read as YAML: {reason}") from error
    if isinstance(found, dict) and "vllm_models" in found:
        found = found["vllm_models"]
    models = found if isinstance(found, list) else [found]
    chosen = [model for model in models if isinstance(model, dict) and name in (None, model.get("name"))]
    if len(chosen) != 1 or not chosen[0].get("model"):
        raise Unusable(f"{path}: holds {len(chosen)} models that may be meant; name one of them with --name")
    return chosen[0]


def outcome_of(lines: t.Sequence[str], figures: t.Mapping[str, t.Any]) -> str:
    """How the start ended, in the words of the records."""
    if figures.get("kv_needed_gib") is not None:
        return "kv_too_small"
    if any(NO_KV in line for line in lines):
        return "no_kv_memory"
    if any(OUT_OF_MEMORY.search(line) for line in lines):
        if figures.get("weights_gib") is None:
            return "oom_load"
        return "oom_profile" if figures.get("available_kv_gib") is None else "oom_after_kv"
    if any(STARTED in line for line in lines):
        return "ok"
    return "loaded" if figures.get("weights_gib") is not None else "other"


def record(lines: t.Sequence[str], spec: t.Mapping[str, t.Any], given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The record of a start.

    lines: of its log; spec: the model that was started; given: what neither says: id, gpu, gpu_count, sources, outcome.
    Raises Unusable when the log tells nothing of memory.
    """
    report = read_log(lines)
    figures = report.figures()
    if figures is None:
        raise Unusable("the log tells nothing of memory; is it whole, and of a start of vLLM?")
    options = dict(spec.get("engine") or {})
    engine = next((match for line in lines if (match := ENGINE.search(line))), None)
    found: dict[str, t.Any] = {
        "id": given["id"],
        "category": [],
        "model": spec["model"],
        "model_as_written": spec["model"],
        "model_basis": "stated",
        "source_repo": given["source_repo"],
        "source_thread": given["source_thread"],
        "source_date": given["source_date"],
        "vllm_version": report.version,
        "engine": (engine[1] or "V0") if engine else None,
        "gpu": given["gpu"],
        "gpu_count": given["gpu_count"],
        "usage_context": "vllm serve",
    }
    found.update({field: options.pop(option, None) for field, option in OPTIONS.items()})
    # The rest in the form of a mapping, with the variables.
    others = {**options, **(spec.get("env") or {})}
    found["other_flags"] = json.dumps(others, sort_keys=True) if others else None
    found.update({field: figures[name] for field, name in FIGURES.items()})
    if figures["peak_told_gib"] is not None:
        # Records have it as the release tells it.
        found["activation_peak_gib"] = figures["peak_told_gib"]
    found["outcome"] = given["outcome"] or outcome_of(lines, figures)
    found["log_lines"] = []
    found["notes"] = _notes(figures) or None
    return found


def _notes(figures: t.Mapping[str, t.Any]) -> str:
    notes = []
    if figures["consumed_gib"] is not None:
        notes.append(f"consumed memory {figures['consumed_gib']} GiB")
    if figures["free_gib"] is not None and figures["total_gib"] is not None:
        outside = round(figures["total_gib"] - figures["free_gib"], 2)
        notes.append(f"at the engine's start (context and NCCL, outside the budget): {outside} GiB")
    ranks = [one["activation_gib"] for _name, one in sorted(figures["per_rank"].items()) if "activation_gib" in one]
    if len(ranks) > 1:
        notes.append("activation per rank: " + ",".join(map(str, ranks)))
    return "; ".join(notes)


def main() -> int:
    """Print the record of the log."""
    parser = argparse.ArgumentParser(description="The log of one start of vLLM as one line of records.jsonl.")
    parser.add_argument("log", nargs="?", type=pathlib.Path, help="the log; standard input by default")
    parser.add_argument("--spec", required=True, type=pathlib.Path, help="YAML or JSON file with the model")
    parser.add_argument("--name", help="which model of the file")
    parser.add_argument("--gpu", required=True, help="the GPU as nvidia-smi names it")
    parser.add_argument("--gpu-count", type=int, default=1)
    parser.add_argument("--id", default=None, help="of the record; the model, release and GPU by default")
    parser.add_argument("--outcome", default=None, help="where the log does not tell it, such as oom_runtime")
    parser.add_argument("--source-repo", default=None)
    parser.add_argument("--source-thread", default=None)
    parser.add_argument("--source-date", default=None, help="YYYY-MM-DD")
    args = parser.parse_args()
    try:
        with args.log.open("rb") if args.log else sys.stdin.buffer as handle:
            lines = handle.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
        made = record(lines, read_spec(args.spec, args.name), vars(args))
    except (OSError, Unusable) as error:
        print(f"log_record: {error}", file=sys.stderr)
        return 1
    made["id"] = made["id"] or f"{made['model']} {made['vllm_version']} {made['gpu']}"
    print(json.dumps(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
