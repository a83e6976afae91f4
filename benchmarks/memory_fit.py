# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the memory of one model on one GPU takes to compute, and what would make it fit; no host is needed.

PYTHONPATH=.build/collections python benchmarks/memory_fit.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import typing as t

from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import GIB, QWEN3_8B_CONFIG, weights

TIMES = 200
RUNS = 5
RELEASE = "0.33.0"
# Qwen3-8B as its checkpoint gives it, and the layers of a hybrid model with windows.
DENSE = {**QWEN3_8B_CONFIG, "torch_dtype": "bfloat16"}
HYBRID = {
    **DENSE,
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_attention_heads": 64,
    "head_dim": 64,
    "num_hidden_layers": 24,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "vocab_size": 201088,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "max_position_embeddings": 131072,
}


def known(config: t.Mapping[str, t.Any], total: int = 16 * GIB) -> dict[str, t.Any]:
    """What model_info says of weights, in 16 bits."""
    head = config["vocab_size"] * config["hidden_size"] * 2
    classes = {"embedding": head, "lm_head": head}
    if "num_local_experts" in config:
        classes["expert"] = total - 2 * head
    return weights(total, layers=config["num_hidden_layers"], **classes)


def once() -> None:
    """Print the milliseconds after the imports: the first fit, the median of many, the advice for one that fails."""
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._fitter import advice
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import read_asked
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.estimate import estimate
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import geometry
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, settings
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validator import Subject

    device = Device("gpu", "NVIDIA GeForce RTX 4090", int(23.63 * GIB))

    def fit(config: t.Mapping[str, t.Any], found: t.Mapping[str, t.Any]) -> None:
        shape = geometry(config)
        asked, _faults = read_asked({"max_model_len": 32768}, {})
        estimate(found, shape, settings(RELEASE, asked, shape, device), device)

    def each(config: t.Mapping[str, t.Any]) -> float:
        found, taken = known(config), []
        for _time in range(TIMES):
            started = time.perf_counter()
            fit(config, found)
            taken.append(time.perf_counter() - started)
        return statistics.median(taken)

    dense = known(DENSE)
    started = time.perf_counter()
    fit(DENSE, dense)
    first = time.perf_counter() - started
    seconds = [first, each(DENSE), each(HYBRID)]
    declared = {"name": "m", "model": "Qwen/Qwen3-8B", "image": f"x:{RELEASE}", "engine": {"max_model_len": 40960}}
    (spec,), _problems = load_specs([declared])
    profile = {"config": DENSE, "text_config_path": "", "weights": dense}
    started = time.perf_counter()
    advice(Subject(spec), load(RELEASE), profile, device, 2)
    print(*(value * 1000 for value in [*seconds, time.perf_counter() - started]))


def main() -> int:
    """Print the medians."""
    if sys.argv[1:] == ["--once"]:
        once()
        return 0
    runs = [
        subprocess.run([sys.executable, __file__, "--once"], capture_output=True, text=True, check=True).stdout.split()
        for _run in range(RUNS)
    ]
    names = (
        "the first fit, reading the catalogue",
        "a fit of a dense model on a GPU",
        "a fit of a model with windows",
        "what would make it fit, all levers",
    )
    for name, values in zip(names, zip(*runs, strict=True), strict=True):
        found = sorted(map(float, values))
        print(f"{name:40} {found[RUNS // 2]:8.2f} ms  ({found[0]:.2f} to {found[-1]:.2f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
