# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes the model gpufleet/tiny-qwen3 as a Hugging Face cache: `make_model.py HUB_DIR` prints the snapshot folder.

A real Qwen3 architecture with random weights (0.3 MB) and a tokenizer of its own. It needs nothing but Python, and
every run on every machine writes the same bytes: so its commit is known and tests can name it.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
import sys
from itertools import product
from pathlib import Path

REPO_ID = "gpufleet/tiny-qwen3"
WEIGHTS = "model.safetensors"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "use_cache": True,
    "use_sliding_window": False,
    "bos_token_id": 509,
    "eos_token_id": 511,
    "torch_dtype": "bfloat16",
}
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint and its shape, by the names that transformers gives Qwen3's parameters."""
    hidden, inner, head = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["head_dim"]
    queries, keys = CONFIG["num_attention_heads"] * head, CONFIG["num_key_value_heads"] * head
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (CONFIG["vocab_size"], hidden)}
    for layer in range(CONFIG["num_hidden_layers"]):
        parts: dict[str, tuple[int, ...]] = {
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
            "self_attn.q_norm": (head,),
            "self_attn.k_norm": (head,),
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        found.update({f"model.layers.{layer}.{part}.weight": shape for part, shape in parts.items()})
    return {**found, "model.norm.weight": (hidden,)}


def weights() -> bytes:
    """The safetensors file: header length, JSON header, bfloat16 data. Norms are ones, the rest uniform in +-0.1."""
    rng = random.Random(20260101)  # random() is the same on every platform, gauss() depends on the C library
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, shape in sorted(shapes().items()):
        start, count = len(data), shape[0] * (shape[1] if len(shape) == 2 else 1)
        values = [1.0] * count if len(shape) == 1 else [(rng.random() - 0.5) / 5 for _number in range(count)]
        data += b"".join(struct.pack("<f", value)[2:] for value in values)  # a float's upper half is the bfloat16
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(data)


def tokenizer() -> dict[str, object]:
    """A byte-level BPE: 256 bytes, pairs of frequent letters and three special tokens fill the vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
    room = CONFIG["vocab_size"] - len(alphabet) - len(SPECIAL)
    merges = list(product("etaoinshrdlucmfw", repeat=2))[:room]
    vocab = alphabet + ["".join(pair) for pair in merges]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": len(vocab) + i, "content": token, **flags} for i, token in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(vocab)},
            "merges": [list(pair) for pair in merges],
        },
    }


def files() -> dict[str, bytes]:
    """The repository's files."""
    documents = {
        "config.json": CONFIG,
        "generation_config.json": {
            "bos_token_id": 509,
            "eos_token_id": 511,
            "do_sample": True,
            "temperature": 0.7,
            "top_p": 0.8,
        },
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|endoftext|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": CONFIG["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    }
    return {
        WEIGHTS: weights(),
        **{name: (json.dumps(value, indent=1) + "\n").encode() for name, value in documents.items()},
    }


def blob_name(name: str, content: bytes) -> str:
    """A blob's name in the cache, as the hub's ETag: the sha256 of a large file, git's object id of the others."""
    if name == WEIGHTS:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def write_cache(hub: Path) -> Path:
    """Write the repository below the hub cache folder and return its snapshot."""
    blobs = {name: (blob_name(name, content), content) for name, content in sorted(files().items())}
    commit = hashlib.sha1("".join(f"{name} {blob}\n" for name, (blob, _size) in blobs.items()).encode()).hexdigest()
    repo = hub / ("models--" + REPO_ID.replace("/", "--"))
    snapshot = repo / "snapshots" / commit
    for folder in (repo / "blobs", repo / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (repo / "refs" / "main").write_text(commit)
    for name, (blob, content) in blobs.items():
        (repo / "blobs" / blob).write_bytes(content)
        link = snapshot / name
        link.unlink(missing_ok=True)
        link.symlink_to(Path("../../blobs") / blob)
    return snapshot


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_model.py HUB_DIR (the folder that holds models--gpufleet--tiny-qwen3)")
    print(write_cache(Path(sys.argv[1])))
