# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts, images and models as the role host would find them. Sizes are those of real cards and checkpoints."""

from __future__ import annotations

import typing as t

GIB = 2**30
IMAGE = "vllm/vllm-openai:v0.33.0"
CPU_IMAGE = "registry.example/vllm-cpu:0.32.0"
COMMIT = "9c925d64d72725edaf899c6cb9c377fd0709d9c5"

# What CUDA reports: 23.63 GiB of an RTX 4090, 79.19 of an H100 80GB, 19.62 of a half of an A100 40GB.
RTX_4090 = int(23.63 * GIB)
H100 = int(79.19 * GIB)
MIG_HALF = int(19.62 * GIB)

QWEN3_8B_CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12288,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "max_position_embeddings": 40960,
}
LLAMA_8B_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
}


def weights(total: int, dtype: str = "BF16", layers: int = 0, **classes: int) -> dict[str, t.Any]:
    """What model_info says of weights; what no class names is mlp, and spread evenly over the layers."""
    by_class = {name: {dtype: size} for name, size in classes.items()}
    by_class["mlp"] = {dtype: total - sum(size for name, size in classes.items() if name != "mlp")}
    body = total - classes.get("embedding", 0) - classes.get("lm_head", 0)
    return {
        "format": "safetensors",
        "total_bytes": total,
        "bytes_by_dtype": {dtype: total},
        "bytes_by_class": by_class,
        "bytes_by_layer": [body // layers] * layers if layers else [],
    }


def model(name: str = "Qwen/Qwen3-8B", **changes: t.Any) -> dict[str, t.Any]:
    """An entry of model_info: Qwen3-8B, found in the hub cache or, for a path, in a folder."""
    head = 151936 * 4096 * 2
    entry = {
        "model": name,
        "revision": None,
        "found": True,
        "reason": None,
        "path": name if name.startswith("/") else "/srv/hub/snapshot",
        "commit": None if name.startswith("/") else COMMIT,
        "config": QWEN3_8B_CONFIG,
        "text_config_path": "",
        "weights": weights(int(15.26 * GIB), embedding=head, lm_head=head),
        "problems": [],
    }
    return {**entry, **changes}


def absent_model(name: str = "Qwen/Qwen3-8B", reason: str = "it is not in the cache") -> dict[str, t.Any]:
    """An entry of model_info for a model that is not there."""
    return {"model": name, "revision": None, "found": False, "reason": reason}


def image(name: str = IMAGE, version: str | None = "0.33.0", **changes: t.Any) -> dict[str, t.Any]:
    """An entry of image_info."""
    entry = {
        "image": name,
        "found": True,
        "reason": None,
        "id": "sha256:" + "ab" * 32,
        "version": version,
        "version_source": "package",
        "entrypoint": ["vllm", "serve"],
        "stand_in": False,
    }
    return {**entry, **changes}


def cpu_image(**changes: t.Any) -> dict[str, t.Any]:
    """vLLM's build for the CPU."""
    return image(CPU_IMAGE, "0.32.0+cpu", **changes)


def absent_image(name: str = IMAGE) -> dict[str, t.Any]:
    """An entry of image_info for an image that is not there."""
    reason = "the Docker Engine of this host does not have it"
    return {"image": name, "found": False, "reason": reason, "stand_in": False, "version": None}


def card(index: int, name: str, total: int, **changes: t.Any) -> dict[str, t.Any]:
    """A GPU as gpu_facts gives it, with nothing on it."""
    entry = {
        "index": index,
        "uuid": f"GPU-{index:08d}-0000-0000-0000-000000000000",
        "name": name,
        "memory_total_bytes": total,
        "memory_free_bytes": total,
        "mig_enabled": False,
        "mig_devices": [],
        "error": None,
    }
    return {**entry, **changes}


def host(*cards: dict[str, t.Any], **changes: t.Any) -> dict[str, t.Any]:
    """The fact vllm_inspection of a host with 256 GiB of memory, the GPU image and Qwen3-8B in its cache."""
    entry = {
        "groups": [],
        "gpu": {
            "reason": None if cards else "no NVIDIA GPU was found on the PCI bus",
            "gpus": list(cards),
            "host": {"memory_total_bytes": 256 * GIB, "memory_available_bytes": 250 * GIB},
        },
        "images": [image()],
        "models": [model()],
        "servers": [],
        "measured": [],
        "ports_in_use": [22],
        "settings": {
            "fleet": "vllm",
            "state_dir": "/var/lib/gpufleet-vllm",
            "hub_cache": "/srv/vllm/hub",
            "port_range": [8000, 8099],
            "gpu_runtime": "nvidia",
        },
    }
    return {**entry, **changes}


def cpu_host(**changes: t.Any) -> dict[str, t.Any]:
    """A host without a GPU, with the CPU image."""
    return host(**{"images": [cpu_image()], **changes})


def rtx_host(**changes: t.Any) -> dict[str, t.Any]:
    """A workstation with two RTX 4090."""
    return host(*(card(index, "NVIDIA GeForce RTX 4090", RTX_4090) for index in range(2)), **changes)


def h100_host(**changes: t.Any) -> dict[str, t.Any]:
    """A server with eight H100."""
    return host(*(card(index, "NVIDIA H100 80GB HBM3", H100) for index in range(8)), **changes)


def mig_uuid(number: int) -> str:
    """The UUID of a MIG device of mig_host."""
    return f"MIG-{number:08d}-1111-1111-1111-111111111111"


def mig_host(**changes: t.Any) -> dict[str, t.Any]:
    """A server with one A100 40GB, split into two halves."""
    name = "NVIDIA A100-SXM4-40GB"
    halves = [
        {
            "uuid": mig_uuid(number),
            "name": f"{name} MIG 3g.20gb",
            "memory_total_bytes": MIG_HALF,
            "memory_free_bytes": MIG_HALF,
        }
        for number in range(2)
    ]
    return host(card(0, name, int(39.5 * GIB), mig_enabled=True, mig_devices=halves), **changes)


def running(placements: t.Sequence[t.Mapping[str, t.Any]], hosts: t.Mapping[str, t.Any], name: str) -> list[t.Any]:
    """The servers of a plan as vllm_info would report them once they run on the host of this name."""
    ports = {server["name"]: server["listen"]["port"] for server in hosts[name]}
    return [
        {"name": one["server"], "port": ports[one["server"]], "gpus": [gpu["uuid"] for gpu in one["gpus"]]}
        for one in placements
        if one["host"] == name
    ]


def spec(name: str = "qwen3-8b", **changes: t.Any) -> dict[str, t.Any]:
    """What a user declares: Qwen3-8B with 8192 tokens."""
    entry = {"name": name, "model": "Qwen/Qwen3-8B", "image": IMAGE, "engine": {"max_model_len": 8192}}
    return {**entry, **changes}


def cpu_spec(name: str = "qwen3-8b", **changes: t.Any) -> dict[str, t.Any]:
    """The same on the CPU, with 16 GiB of KV cache."""
    engine = {"max_model_len": 8192, "kv_cache_memory_bytes": "16G"}
    return spec(name, **{"image": CPU_IMAGE, "engine": engine, **changes})
