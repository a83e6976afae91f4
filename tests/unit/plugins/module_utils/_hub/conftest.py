# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local hub with repos, and a cache to fill from it."""

from __future__ import annotations

import os
import pathlib
import types

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._hub import snapshot
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.selection import Wanted
from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.store import Access
from support.hub import Hub

KIB = 1 << 10
WEIGHTS = os.urandom(300 * KIB)
FILES = {
    "config.json": b'{"model_type": "qwen3"}',
    "tokenizer.json": b'{"tokens": []}',
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "README.md": b"# tiny",
    "empty.txt": b"",
    "also/empty.txt": b"",
    "model-00001-of-00002.safetensors": WEIGHTS,
    "model-00002-of-00002.safetensors": WEIGHTS[: 40 * KIB],
    "pytorch_model.bin": b"pickle",
    "modeling_tiny.py": b"print('code')",
    "onnx/model.onnx": b"foreign",
}


def write(root: pathlib.Path, repo: str, files: dict) -> None:
    for name, content in files.items():
        path = root / repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class Bench:
    """A hub with acme/tiny, an empty cache, and what was told meanwhile."""

    def __init__(self, folder: pathlib.Path, hub: Hub) -> None:
        self.hub = hub
        self.folder = folder
        self.cache = folder / "cache"
        self.repo = self.cache / "models--acme--tiny"
        self.told: list = []
        self.files = FILES
        self.stored = {name: body for name, body in FILES.items() if not name.endswith((".bin", ".py", ".onnx"))}

    def add(self, repo: str, files: dict) -> None:
        write(self.hub.root, repo, files)

    def request(self, repo="acme/tiny", revision="main", scope="model", **changes):
        wanted = {key: changes.pop(key) for key in list(changes) if key in Wanted._fields}
        defaults = {"endpoint": self.hub.endpoint, "segment_bytes": 64 * KIB, "connections": 4}
        return snapshot.Request(repo, revision, Wanted(scope, **wanted), **{**defaults, **changes})

    def tell(self, stage, **figures):
        self.told.append((stage, figures))

    def present(self, check=False, access=None, **changes):
        return snapshot.present(str(self.cache), access or Access(), self.request(**changes), check, self.tell)

    def verified(self, **changes):
        return snapshot.verified(str(self.cache), self.request(**changes), self.tell)

    def commit(self, repo="acme/tiny"):
        return self.hub.commit(repo)

    def snapshot(self) -> pathlib.Path:
        return self.repo / "snapshots" / self.commit()

    def content(self) -> dict:
        """The files of the snapshot."""
        found = {}
        for path in self.snapshot().rglob("*"):
            if path.is_file():
                found[str(path.relative_to(self.snapshot()))] = path.read_bytes()
        return found

    def sent(self, part="") -> int:
        """Bytes of files that the hub and its storage sent."""
        return sum(one.sent for one in self.hub.requests if "/api/" not in one.path and part in one.path)

    def left(self) -> list:
        """What is neither a blob nor belongs there."""
        return sorted(path.name for path in (self.repo / "blobs").iterdir() if "." in path.name)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("HF_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    write(tmp_path / "hub", "acme/tiny", FILES)
    with Hub(tmp_path / "hub", gated={"acme/gated": "hf_right"}, moved={"acme/former": "acme/tiny"}) as hub:
        yield Bench(tmp_path, hub)


@pytest.fixture
def places():
    """Names that the tests share."""
    return types.SimpleNamespace(weights=WEIGHTS, files=FILES, kib=KIB)
