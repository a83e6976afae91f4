# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the catalogue takes to load, and 300 specs to be validated and rendered; no host is needed.

PYTHONPATH=.build/collections python benchmarks/validation.py
"""

from __future__ import annotations

import subprocess
import sys
import time
import typing as t

PLUGIN_UTILS = "ansible_collections.gpufleet.vllm.plugins.plugin_utils"
SPECS = 300
RUNS = 5
VERSIONS = ("0.8.5", "0.11.2", "0.17.1", "0.28.0", "0.32.0", "0.33.0")
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12288,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
}


def fleet() -> list[dict[str, t.Any]]:
    """300 models with the options that people write, and in every tenth a mistake."""
    models = []
    for number in range(SPECS):
        engine: dict[str, t.Any] = {
            "tensor_parallel_size": 1 + number % 2,
            "max_model_len": "32k",
            "max_num_seqs": 64,
            "gpu_memory_utilization": 0.9,
            "enable_prefix_caching": True,
            "kv_cache_dtype": "fp8",
            "enable_auto_tool_choice": True,
            "tool_call_parser": "hermes",
            "speculative_config": {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4},
        }
        if number % 10 == 0:
            engine["swap_space"] = 4
        version = VERSIONS[number % len(VERSIONS)]
        models.append({"name": f"m{number}", "model": "Qwen/Qwen3-8B", "image": f"x:{version}", "engine": engine})
    return models


def load_seconds() -> float:
    """Loading the first release in a process of its own, after the imports."""
    program = (
        f"import time; from {PLUGIN_UTILS}._release.release import load; t = time.perf_counter(); "
        "load('0.33.0'); print(time.perf_counter() - t)"
    )
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def fleet_seconds() -> float:
    """Validating and rendering the fleet in a process of its own, after the imports, catalogue included."""
    return float(
        subprocess.run([sys.executable, __file__, "--once"], capture_output=True, text=True, check=True).stdout
    )


def once() -> float:
    """Seconds for the fleet, from what the inventory holds to arguments and problems."""
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._render.server import command
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.validate import Evidence, validate

    models = fleet()
    started = time.perf_counter()
    specs, problems = load_specs(models)
    for spec in specs:
        release = load(spec.image.partition(":")[2])
        found = validate(spec, release, Evidence(profile={"config": CONFIG, "text_config_path": "", "weights": None}))
        problems += found
        if all(problem.warning for problem in found):
            command(spec, release, release.entrypoint or ("vllm", "serve"), None)
    return time.perf_counter() - started


def main() -> int:
    """Print the medians."""
    if sys.argv[1:] == ["--once"]:
        print(once())
        return 0
    for what, measure in (
        ("load the catalogue, first release", load_seconds),
        (f"validate and render {SPECS} specs", fleet_seconds),
    ):
        seconds = sorted(measure() for _run in range(RUNS))
        print(f"{what:40} {seconds[RUNS // 2] * 1000:8.1f} ms  ({seconds[0] * 1000:.1f} to {seconds[-1] * 1000:.1f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
