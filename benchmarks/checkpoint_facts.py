# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of a checkpoint of 689 GB in 163 shards, from a folder and from a local hub, beside what others take.

    PYTHONPATH=.build/collections:tests python benchmarks/checkpoint_facts.py

The checkpoint has the tensors of DeepSeek-V3 (92 thousand) in real headers over sparse files. Each contender runs in
processes of its own: ours, safetensors and huggingface_hub with this Python, hf-mem where it is installed there. Times
are those after the imports; bytes are what the process read of files, or what the hub sent.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from support.hub import Hub

SHARDS = 163
RUNS = 5
DTYPE_BYTES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}
# DeepSeek-V3's config.json.
HIDDEN, DENSE, EXPERT, VOCABULARY, LAYERS, EXPERTS = 7168, 18432, 2048, 129280, 61, 256
Shapes = dict[str, tuple[str, list[int]]]

OURS = """
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.models import model_facts
def look():
    (entry,) = model_facts([(model, None)], "/nowhere", online)
    assert entry["problems"] == [], entry
    return entry["weights"]["total_bytes"]
"""
SAFETENSORS = """
import math, os
from safetensors import safe_open
BYTES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}
def look():
    total = 0
    for name in os.listdir(model):
        if name.endswith(".safetensors"):
            with safe_open(os.path.join(model, name), "np") as file:
                for tensor in file.keys():
                    part = file.get_slice(tensor)
                    total += math.prod(part.get_shape()) * BYTES[part.get_dtype()]
    return total
"""
HUGGINGFACE_HUB = """
import huggingface_hub
BYTES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}
def look():
    counts = huggingface_hub.HfApi().get_safetensors_metadata(model).parameter_count
    return sum(count * BYTES[dtype] for dtype, count in counts.items())
"""
# The address of the hub is fixed in hf-mem, so the library below it is told another one.
HF_MEM = """
import asyncio, contextlib, io, os, httpx2
from hf_mem.run import arun
init = httpx2.URL.__init__
def local(self, url="", **kwargs):
    if isinstance(url, str):
        url = url.replace("https://huggingface.co", os.environ["HF_ENDPOINT"])
    init(self, url, **kwargs)
httpx2.URL.__init__ = local
def look():
    with contextlib.redirect_stdout(io.StringIO()):
        asyncio.run(arun(model_id=model))
    return None
"""
MEASURE = """
import json, sys, time
model, online = sys.argv[1], sys.argv[2] == "online"
{0}
def read():
    return int(open("/proc/self/io").read().split()[1])
before, began = read(), time.perf_counter()
total = look()
print(json.dumps([time.perf_counter() - began, read() - before, total]))
"""


def shapes() -> Shapes:
    """The tensors of DeepSeek-V3, in their order."""
    found: Shapes = {"model.embed_tokens.weight": ("BF16", [VOCABULARY, HIDDEN])}

    def quantized(name: str, rows: int, columns: int) -> None:
        found[f"{name}.weight"] = ("F8_E4M3", [rows, columns])
        found[f"{name}.weight_scale_inv"] = ("F32", [-(-rows // 128), -(-columns // 128)])

    def feed_forward(name: str, width: int) -> None:
        for part in ("gate", "up"):
            quantized(f"{name}.{part}_proj", width, HIDDEN)
        quantized(f"{name}.down_proj", HIDDEN, width)

    for layer in range(LAYERS + 1):
        name = f"model.layers.{layer}"
        for part, rows, columns in (
            ("q_a_proj", 1536, HIDDEN),
            ("q_b_proj", 24576, 1536),
            ("kv_a_proj_with_mqa", 576, HIDDEN),
            ("kv_b_proj", 32768, 512),
            ("o_proj", HIDDEN, 16384),
        ):
            quantized(f"{name}.self_attn.{part}", rows, columns)
        for part, width in (
            ("self_attn.q_a_layernorm", 1536),
            ("self_attn.kv_a_layernorm", 512),
            ("input_layernorm", HIDDEN),
            ("post_attention_layernorm", HIDDEN),
        ):
            found[f"{name}.{part}.weight"] = ("BF16", [width])
        if layer < 3:
            feed_forward(f"{name}.mlp", DENSE)
        else:
            found[f"{name}.mlp.gate.weight"] = ("BF16", [EXPERTS, HIDDEN])
            found[f"{name}.mlp.gate.e_score_correction_bias"] = ("F32", [EXPERTS])
            for part in ("shared_experts", *(f"experts.{number}" for number in range(EXPERTS))):
                feed_forward(f"{name}.mlp.{part}", EXPERT)
    draft = f"model.layers.{LAYERS}"
    for name in (f"{draft}.embed_tokens", f"{draft}.shared_head.head", "lm_head"):
        found[f"{name}.weight"] = ("BF16", [VOCABULARY, HIDDEN])
    found[f"{draft}.eh_proj.weight"] = ("BF16", [HIDDEN, 2 * HIDDEN])
    for name in (f"{draft}.enorm", f"{draft}.hnorm", f"{draft}.shared_head.norm", "model.norm"):
        found[f"{name}.weight"] = ("BF16", [HIDDEN])
    return found


def write(folder: pathlib.Path) -> int:
    """Writes the checkpoint into an empty folder, and returns the bytes of its tensors."""
    found = shapes()
    sizes = {name: math.prod(shape) * DTYPE_BYTES[dtype] for name, (dtype, shape) in found.items()}
    total, done = sum(sizes.values()), 0
    shards: list[list[str]] = [[] for _shard in range(SHARDS)]
    for name, size in sizes.items():
        shards[done * SHARDS // total].append(name)
        done += size
    weight_map = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{SHARDS:05d}.safetensors"
        header, position = {}, 0
        for name in names:
            dtype, shape = found[name]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + sizes[name]]}
            position += sizes[name]
            weight_map[name] = file
        content = json.dumps(header, separators=(",", ":")).encode()
        with open(folder / file, "wb") as handle:
            handle.write(len(content).to_bytes(8, "little") + content)
            handle.truncate(8 + len(content) + position)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    config = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "num_hidden_layers": LAYERS}
    (folder / "config.json").write_text(json.dumps(config))
    return total


def measure(label: str, code: str, model: str, total: int, hub: Hub | None, home: str) -> None:
    """Runs it some times, and prints the median of the seconds, the bytes, and the requests to the hub."""
    env = {**os.environ, "HF_ENDPOINT": hub.endpoint if hub else "", "HF_HOME": home}
    where = "online" if hub else "offline"
    taken = []
    for _run in range(RUNS):
        asked = len(hub.requests) if hub else 0
        command = [sys.executable, "-c", MEASURE.replace("{0}", code), model, where]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{label:42} did not run: {done.stderr.strip().splitlines()[-1]}")
            return
        seconds, read, found = json.loads(done.stdout)
        assert found in (None, total), (label, found, total)
        answered = hub.requests[asked:] if hub else []
        taken.append((seconds, sum(one.sent for one in answered) if hub else read, len(answered)))
    seconds, read, requests = (statistics.median(column) for column in zip(*taken, strict=True))
    print(f"{label:42} {seconds:7.2f} {read / 1e6:9.1f} {int(requests) if hub else '':>9}")


def main() -> None:
    """Write, look, print."""
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        folder = root / "hub" / "acme" / "giant"
        folder.mkdir(parents=True)
        total = write(folder)
        home = str(root / "home")
        print(f"{total / 1e9:.0f} GB in {SHARDS} shards: median of {RUNS}")
        print(f"{'':42} {'seconds':>7} {'MB':>9} {'requests':>9}")
        measure("folder: ours", OURS, str(folder), total, None, home)
        measure("folder: safetensors (it maps, MB unseen)", SAFETENSORS, str(folder), total, None, home)
        with Hub(root / "hub") as hub:
            measure("hub: ours", OURS, "acme/giant", total, hub, home)
            measure("hub: huggingface_hub", HUGGINGFACE_HUB, "acme/giant", total, hub, home)
            measure("hub: hf-mem", HF_MEM, "acme/giant", total, hub, home)


if __name__ == "__main__":
    main()
