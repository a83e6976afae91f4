# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vLLM's own code answers for the layouts of tests/unit/fixtures/capacity, written beside them.

    python3 tools/memory/capacity_cases.py --releases 0.19.1 0.33.0 --out tests/unit/fixtures/capacity

layouts.json names configurations, options and bytes of KV cache; answers.json holds for each release one answer a
layout and amount of bytes, or null where the release refuses it.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import typing as t

from packaging.version import Version

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".build" / "collections"))

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import read_asked  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry, geometry  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.pages import limits, state_mode  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import (  # noqa: E402
    Device,
    Settings,
    settings,
)

WORK = ROOT / ".build" / "catalogue"
DEVICE = Device("gpu", "NVIDIA H100 80GB HBM3", 85_028_765_696)
SECONDS = 300

Layout = t.Mapping[str, t.Any]


def shape_and_settings(layout: Layout, release: str) -> tuple[Geometry, Settings]:
    """A layout as our library takes it."""
    shape = geometry(layout["config"])
    asked, faults = read_asked(layout["engine"], {"VLLM_USE_V1": "1"})
    if faults:
        raise ValueError(f"{layout['name']}: {faults}")
    return shape, settings(release, asked, shape, DEVICE)


def case(layout: Layout, release: str, kv_bytes: int) -> dict[str, t.Any]:
    """A layout as the oracle takes it."""
    shape, chosen = shape_and_settings(layout, release)
    asked, limit = chosen.asked, limits(shape, chosen)
    ranks, stages, own = asked.tensor_parallel, asked.pipeline_parallel, shape.kv_heads
    drafts = layout.get("drafts", [])
    parts = layout.get("stages", [shape.layers] if stages == 1 else [])
    workers: list[list[dict[str, t.Any]]] = []
    start = 0
    for part in parts:
        held = [cache for cache in shape.caches if start <= cache.layer < start + part]
        workers.append([_layer(cache, ranks, layout) for cache in held])
        start += part
    workers[-1] += drafts
    eight_bits = asked.kv_cache_dtype.startswith("fp8")
    model = 4 if asked.dtype == "float32" else 2
    return {
        "workers": workers,
        "kv_bytes": [kv_bytes] * stages,
        "length": chosen.max_model_len,
        "batched": chosen.max_num_batched_tokens,
        "in_flight": limit.in_flight,
        "encoder": limit.encoder,
        "block": asked.block_size or 16,
        "model_bytes": model,
        "kv_bytes_each": 1 if eight_bits else model,
        "kv_dtype": layout.get("kv_dtype", "fp8" if eight_bits else "auto"),
        # get_num_kv_heads in config/model.py: MLA has one.
        "own_heads": 1 if shape.mla_width else max(1, own // ranks),
        "own_width": shape.mla_width or shape.head_dim,
        "latent": bool(shape.mla_width),
        "ranks": ranks,
        "decode_context": asked.decode_context_parallel,
        "override": asked.gpu_blocks_override,
        "manager_off": asked.hybrid_manager_off or Version(release) >= Version(layout.get("manager_off_since", "9")),
        "drafted": chosen.speculative_tokens,
        "mode": state_mode(shape, chosen) if any(cache.kind == "state" for cache in shape.caches) else "none",
        "exports": exports(chosen, shape),
        "checkpoint": 64 if exports(chosen, shape) and shape.caches[0].mixer == "gdn" else None,
        "chunk": layout["config"].get("mamba_chunk_size") or layout["config"].get("chunk_size", 2048),
        "model_type": "qwen3_next" if chosen.speculative_tokens else shape.model_type,
    }


def exports(chosen: Settings, shape: Geometry) -> bool:
    """Whether states are written amid a prefill: Mamba 2 from 0.32.0 on, a gated delta net on Hopper from 0.33.0 on."""
    since = {"mamba2": Version("0.32.0"), "gdn": Version("0.33.0")}
    mixers = {cache.mixer for cache in shape.caches if cache.kind == "state"}
    return any(mixer in since and chosen.release >= since[mixer] for mixer in mixers)


def _layer(cache: t.Any, ranks: int, layout: Layout) -> dict[str, t.Any]:
    return {
        "layer": cache.layer,
        "kind": cache.kind,
        "heads": max(1, cache.heads // ranks),
        "key": cache.key,
        "value": cache.value or cache.key,
        "window": cache.window,
        "ratio": cache.ratio,
        "mixer": cache.mixer,
        "sizes": cache.sizes,
        "bytes": layout.get("state_bytes", []),
    }


def ask(release: str, layouts: t.Sequence[Layout]) -> list[t.Any]:
    """The release's answers, in the order of the layouts and their bytes; null before a layout's first release."""
    has = [Version(release) >= Version(layout.get("since", "0")) for layout in layouts for _bytes in layout["kv_bytes"]]
    cases = [
        case(layout, release, kv_bytes)
        for layout in layouts
        for kv_bytes in layout["kv_bytes"]
        if Version(release) >= Version(layout.get("since", "0"))
    ]
    command = [
        WORK / "venv" / "bin" / "python",
        ROOT / "tools" / "memory" / "oracle_capacity.py",
        WORK / "sources" / release,
    ]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command,
        input=json.dumps(cases),
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=WORK,
    )
    if done.returncode:
        raise RuntimeError(f"vLLM {release}: {done.stderr[-2000:]}")
    answers = json.loads(done.stdout.splitlines()[-1])
    for found, asked in zip(answers, cases, strict=True):
        if "error" in found:
            print(f"vLLM {release}: {asked['length']} tokens, {found['error']}", file=sys.stderr)
    rest = iter(answers)
    found = [next(rest) if one else None for one in has]
    return [None if one is None or "error" in one else one for one in found]


def prepare(releases: t.Sequence[str]) -> None:
    """The catalogue's environment and the releases' sources; its tools want the Python that they are pinned for."""
    python = os.environ.get("CATALOGUE_PYTHON", "python3.11")
    subprocess.run(
        [python, "-c", "import sys, verify; verify.unpacked(sys.argv[1:])", *releases],
        cwd=ROOT / "tools" / "catalogue",
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools" / "catalogue")},
        check=True,
    )


def main() -> int:
    """Write answers.json; releases that are not asked for keep theirs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", nargs="+", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    prepare(arguments.releases)
    layouts = json.loads((arguments.out / "layouts.json").read_text(encoding="utf-8"))
    path = arguments.out / "answers.json"
    answers = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for release in arguments.releases:
        answers[release] = ask(release, layouts)
    lines = [
        f"{json.dumps(release)}: [\n" + ",\n".join(json.dumps(one, separators=(",", ":")) for one in found) + "\n]"
        for release, found in sorted(answers.items(), key=lambda item: [int(part) for part in item[0].split(".")])
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
