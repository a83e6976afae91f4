# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other estimators on the same records, each in an environment of its own; what they said is kept in results.json.

They get what a careful user would give them: the GPU's bytes as CUDA reports them, and the engine options with vLLM's
own defaults filled in. Those that ask the hub ask one on loopback, whose checkpoints are configurations and headers
over sparse files. A job (JSON on an adapter's stdin, a list) has:

    id, model, folder (config.json and headers), gpu, gpu_gib, utilization, tp, pp, max_model_len, max_num_seqs,
    max_num_batched_tokens, kv_cache_dtype, is_moe, bits (of most weights as loaded), weights_gib (of the whole
    checkpoint)

An adapter answers {"version": ..., "records": {id: {...}}} with, of a GPU, what it has: weights_gib, activation_gib,
kv_gib (left for the KV cache), tokens, fits, source; or refused: why it says nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import struct
import subprocess
import sys
import typing as t

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
RESULTS = HERE / "results.json"
BUILD = ROOT / ".build" / "peers"
_SECONDS = 1500


@dataclasses.dataclass(frozen=True)
class Peer:
    """One estimator: its name, and whether it is installed from the package index."""

    name: str
    installed: bool = True

    @property
    def adapter(self) -> pathlib.Path:
        """Its script."""
        return HERE / f"adapter_{self.name.replace('-', '_')}.py"

    def python(self) -> str:
        """The Python of its environment, which is made if it is not there."""
        if not self.installed:
            return sys.executable
        folder = BUILD / self.name / "venv"
        python = folder / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            wanted = HERE / f"requirements-{self.name}.txt"
            subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(wanted)], check=True)
        return str(python)


PEERS = (
    Peer("llm-d-planner"),
    Peer("aiconfigurator"),
    Peer("hf-mem"),
    Peer("accelerate"),
    Peer("gpustack", installed=False),
)

Job = t.Mapping[str, t.Any]


def load() -> dict[str, t.Any]:
    """What the peers said last time: {name: {"version": ..., "records": {id: {...}}}}."""
    found: dict[str, t.Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    return found


def run(jobs: t.Sequence[Job], checkpoints: t.Mapping[str, tuple[t.Any, t.Mapping[str, int]]]) -> dict[str, t.Any]:
    """Ask every peer.

    checkpoints: by model, its configuration and the bytes of its weights by data type.
    """
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from hub import Hub

    folder = BUILD / "hub"
    for model, (config, sizes) in checkpoints.items():
        write_checkpoint(folder / model, config, sizes)
    asked = [{**job, "folder": str(folder / job["model"])} for job in jobs]
    said: dict[str, t.Any] = {}
    with Hub(folder) as hub:
        quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
        env = {
            **os.environ,
            **quiet,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(BUILD / "home"),
            "NO_PROXY": "127.0.0.1",
        }
        for name in ("PYTHONPATH", "HF_HUB_OFFLINE", "HF_TOKEN"):
            env.pop(name, None)
        for peer in PEERS:
            print(f"{peer.name} ...", file=sys.stderr, flush=True)
            with (BUILD / f"{peer.name}.log").open("w", encoding="utf-8") as log:
                done = subprocess.run(
                    [peer.python(), str(peer.adapter)],
                    input=json.dumps(asked),
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=env,
                    timeout=_SECONDS,
                    check=True,
                )
            found = json.loads(done.stdout)
            records = {key: _rounded(value) for key, value in sorted(found["records"].items())}
            said[peer.name] = {"version": found["version"], "records": records}
    return said


def save(said: t.Mapping[str, t.Any]) -> None:
    """Keep what the peers said."""
    RESULTS.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def _rounded(found: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    kept = {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}
    if "refused" in kept:
        # Neither folders nor addresses of the machine that asked.
        kept["refused"] = kept["refused"].replace(str(ROOT), "").split("\n")[0]
    return kept


# Bytes of one value, by the name that safetensors gives the type; types of less than a byte are kept as bytes.
_WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}


def write_checkpoint(folder: pathlib.Path, config: t.Any, sizes: t.Mapping[str, int]) -> None:
    """A configuration, and a safetensors file of one tensor for each data type; the file is sparse."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors, start = {}, 0
    for dtype, size in sorted(sizes.items()):
        tensors[f"model.{dtype.lower()}.weight"] = {
            "dtype": dtype,
            "shape": [size // _WIDTHS.get(dtype, 1)],
            "data_offsets": [start, start + size],
        }
        start += size
    header = json.dumps(tensors).encode()
    header += b" " * (-len(header) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + start)
