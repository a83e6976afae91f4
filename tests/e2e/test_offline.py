# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Without network, real vLLM starts where the closure has nothing to say, and trips over the piece that it names."""

from __future__ import annotations

import json
import pathlib
import shutil
import struct
import time
import typing as t

import docker
import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._hub.sources import Asked, source_facts
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.sources import look_for
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.closure import check_closure
from support.bundle import Sides
from support.fleet import BUILD, engine

HUB = BUILD / "tests" / "hub"
REPO = "gpufleet/tiny-qwen3"
# Seconds; a start takes half a minute on two quiet cores.
LONG = 1800
READY = "Application startup complete"
# The server answers in its own network, which has no other end. It listens a moment after it says that it is ready.
ASK = """
import json, socket, sys, time, urllib.request, urllib.error
for _second in range(120):
    with socket.socket() as tried:
        if not tried.connect_ex(("127.0.0.1", 8000)):
            break
    time.sleep(1)
body = json.dumps({"model": "m", "prompt": "hello", "max_tokens": 4}).encode()
request = urllib.request.Request("http://127.0.0.1:8000/v1/completions", body, {"Content-Type": "application/json"})
try:
    print(json.dumps([200, json.loads(urllib.request.urlopen(request, timeout=600).read())]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode()]))
"""


class Case:
    """A copy of the tiny model's cache, and servers on it."""

    def __init__(self, folder: pathlib.Path, image: str) -> None:
        self.folder, self.image = folder, image
        self.cache = folder / "hub"
        shutil.copytree(
            HUB / "models--gpufleet--tiny-qwen3", self.cache / "models--gpufleet--tiny-qwen3", symlinks=True
        )
        (self.snapshot,) = (self.cache / "models--gpufleet--tiny-qwen3/snapshots").iterdir()

    def closure(self, model: str = REPO, **options: t.Any) -> str:
        """What the closure has to say."""
        spec = ModelSpec(name="m", model=model, image="x:v1", engine=options, offline=True)
        declared = {"name": "m", "model": model, "engine": options}
        asked = [Asked(**one) for one in look_for([declared])]
        facts = source_facts(asked, str(self.cache))
        entries = {(one["source"], one["revision"], one["scope"]): one for one in facts}
        return "\n".join(str(problem) for problem in check_closure(spec, entries, None))

    def serve(
        self, *arguments: str, model: str = REPO, mounts: t.Sequence[pathlib.Path] = ()
    ) -> tuple[bool, str, t.Any]:
        """Whether a server became ready, its log, and its answer to a completion: status and body."""
        client = docker.from_env()
        container = client.containers.run(
            self.image,
            [
                *(model, "--served-model-name", "m", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager"),
                *("--kv-cache-memory-bytes", "268435456", "--max-num-seqs", "4", *arguments),
            ],
            detach=True,
            network_mode="none",
            read_only=True,
            shm_size="1g",
            tmpfs={"/tmp": "exec"},
            environment={
                "HOME": "/tmp",
                "HF_HOME": "/tmp/hf",
                "HF_HUB_CACHE": "/var/hub",
                "HF_HUB_OFFLINE": "1",
                "VLLM_CACHE_ROOT": "/tmp/vllm",
                "VLLM_NO_USAGE_STATS": "1",
                "VLLM_HOST_IP": "127.0.0.1",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            },
            volumes=[f"{self.cache}:/var/hub:ro", *(f"{path}:/models/m:ro" for path in mounts)],
        )
        try:
            end = time.monotonic() + LONG
            while True:
                container.reload()
                log = container.logs().decode(errors="replace")
                if READY in log or container.status == "exited":
                    break
                assert time.monotonic() < end, log[-3000:]
                time.sleep(0.5)
            if READY not in log:
                return False, log, None
            asked = container.exec_run(["python3", "-c", ASK])
            return True, container.logs().decode(errors="replace"), json.loads(asked.output.splitlines()[-1])
        finally:
            container.remove(force=True)
            client.close()


@pytest.fixture(scope="module")
def image() -> str:
    engine("model", str(HUB))
    return engine("real")


@pytest.fixture
def case(tmp_path: pathlib.Path, image: str) -> Case:
    return Case(tmp_path, image)


def test_a_whole_cache_mounted_read_only(case: Case) -> None:
    assert case.closure() == ""
    is_ready, log, answer = case.serve()
    assert is_ready, log[-3000:]
    assert answer[0] == 200 and answer[1]["usage"]["completion_tokens"] > 0


def test_a_tokenizer_of_the_cache_and_weights_of_a_folder(case: Case) -> None:
    own = case.folder / "own"
    own.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(case.snapshot / name, own / name)
    (case.snapshot / "model.safetensors").unlink()
    assert "has no tokenizer" in case.closure(str(own))
    assert case.closure(str(own), tokenizer=REPO) == ""
    is_ready, log, answer = case.serve("--tokenizer", REPO, model="/models/m", mounts=[own])
    assert is_ready, log[-3000:]
    assert answer[0] == 200


def test_without_a_tokenizer_it_starts_and_fails_at_every_request(case: Case) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (case.snapshot / name).unlink()
    assert "has no tokenizer" in case.closure()
    is_ready, log, answer = case.serve()
    assert is_ready, log[-3000:]
    assert answer[0] != 200


@pytest.mark.parametrize(
    "lacking, named, words",
    [
        ("config.json", "has no config.json", "Invalid repository ID or local directory"),
        ("model.safetensors", "has no weights", "Cannot find any model weights"),
    ],
)
def test_without_a_file_that_it_needs_it_does_not_start(case: Case, lacking: str, named: str, words: str) -> None:
    (case.snapshot / lacking).unlink()
    assert named in case.closure()
    is_ready, log, _answer = case.serve()
    assert not is_ready and words in log, log[-3000:]


def test_a_chat_template_that_is_not_there(case: Case) -> None:
    own = case.folder / "own"
    shutil.copytree(case.snapshot, own)
    template = "/models/m/chat.jinja"
    found = case.closure(str(own), chat_template=template)
    assert template in found and "is not there" in found
    is_ready, log, _answer = case.serve("--chat-template", template, model="/models/m", mounts=[own])
    assert not is_ready and template in log, log[-3000:]


def in_shards(snapshot: pathlib.Path) -> list[str]:
    """Make two files and an index of a snapshot's weights; the names of the two."""
    content = (snapshot / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    data = content[8 + length :]
    tensors = [(name, one) for name, one in header.items() if name != "__metadata__"]
    (snapshot / "model.safetensors").unlink()
    index: dict[str, str] = {}
    for number, part in enumerate((tensors[::2], tensors[1::2]), 1):
        name = f"model-{number:05d}-of-00002.safetensors"
        texts, at, described = [], 0, {}
        for tensor, one in part:
            begin, end = one["data_offsets"]
            texts.append(data[begin:end])
            described[tensor] = {**one, "data_offsets": [at, at + end - begin]}
            at += end - begin
            index[tensor] = name
        text = json.dumps(described).encode()
        (snapshot / name).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(texts))
    whole = {"metadata": {"total_size": len(data)}, "weight_map": index}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(whole))
    return sorted(set(index.values()))


def test_one_of_two_shards_is_not_there(case: Case) -> None:
    _first, second = in_shards(case.snapshot)
    assert case.closure() == ""
    (case.snapshot / second).unlink()
    assert f"{second}: model.safetensors.index.json lists it" in case.closure()
    is_ready, log, _answer = case.serve()
    assert not is_ready and second in log, log[-3000:]


@pytest.mark.parametrize(
    "field, options, arguments",
    [
        (
            "engine.speculative_config.model",
            {"speculative_config": {"model": "gpufleet/other", "num_speculative_tokens": 2}},
            ("--speculative-config", '{"model": "gpufleet/other", "num_speculative_tokens": 2}'),
        ),
        (
            "engine.lora_modules",
            {"enable_lora": True, "lora_modules": ["one=gpufleet/other"]},
            ("--enable-lora", "--lora-modules", "one=gpufleet/other"),
        ),
    ],
    ids=["draft", "adapter"],
)
def test_another_repo_that_is_not_there(
    case: Case, field: str, options: dict[str, t.Any], arguments: t.Sequence[str]
) -> None:
    found = case.closure(**options)
    assert f"{field} = 'gpufleet/other'" in found and "scope model" in found
    is_ready, log, _answer = case.serve(*arguments)
    errors = [line for line in log.splitlines() if "Error" in line or "error" in line]
    assert not is_ready and any("gpufleet/other" in line or "cached" in line for line in errors), log[-3000:]


def test_a_cache_that_was_filled_from_a_bundle(case: Case) -> None:
    sides = Sides(case.folder)
    made = sides.create(hub_cache=str(case.cache), snapshots=[{"repo_id": REPO, "scope": "model"}])
    assert made["snapshots"][0]["repo_id"] == REPO
    sides.load()
    case.cache = sides.far
    assert case.closure() == ""
    is_ready, log, answer = case.serve()
    assert is_ready, log[-3000:]
    assert answer[0] == 200 and answer[1]["usage"]["completion_tokens"] > 0


def test_a_repo_that_is_not_there(case: Case) -> None:
    found = case.closure(tokenizer="gpufleet/other")
    assert "engine.tokenizer = 'gpufleet/other'" in found and "scope tokenizer" in found
    is_ready, log, _answer = case.serve("--tokenizer", "gpufleet/other")
    assert not is_ready, log[-3000:]
    assert "Cannot find an appropriate cached snapshot folder" in log, log[-3000:]
