# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that are on the hub only: the real client against a local hub, in processes of their own.

The client takes its address from the environment when it is imported, so each look has its own process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.models import model_facts
from support import hub as hub_support
from support.hub import Hub

SHARDS = 20
SECRET = "hf_SECRETsecretSECRETsecret"
LOOK = """
import json, sys
from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.models import model_facts
requests, online = json.loads(sys.argv[1])
print(json.dumps(model_facts([tuple(one) for one in requests], "/nowhere", online)))
"""


def look(hub, *requests, online=True, **environ):
    """What model_facts says of (model, revision)s; all that the process put out comes with it."""
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": "/nowhere",
        **environ,
    }
    done = subprocess.run(
        [sys.executable, "-c", LOOK, json.dumps([requests, online])],
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stdout + done.stderr


@pytest.fixture
def root(writer, tmp_path):
    """Repos: acme/big in 20 shards, acme/gated, acme/gguf."""
    big, gated, gguf = (tmp_path / "acme" / name for name in ("big", "gated", "gguf"))
    for folder in (big, gated, gguf):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", "num_hidden_layers": SHARDS}))
    weight_map = {}
    for shard in range(SHARDS):
        file = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors"
        # Shards differ: the last one has a header that no guess from the average would fetch.
        experts = 2000 if shard == SHARDS - 1 else 50
        tensors = {
            f"model.layers.{shard}.mlp.experts.{n}.up_proj.weight": ("BF16", (64, 2**14)) for n in range(experts)
        }
        writer.safetensors(big / file, tensors)
        weight_map.update(dict.fromkeys(tensors, file))
    (big / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}, indent=2))
    (big / "tokenizer.json").write_text("{}" * 100_000)
    writer.safetensors(gated / "model.safetensors", {"lm_head.weight": ("BF16", (64, 64))})
    metadata = {"general.architecture": "llama", "tokenizer.ggml.tokens": [f"token{n}" for n in range(100_000)]}
    writer.gguf(gguf / "m-Q8_0.gguf", metadata, {"output.weight": (8, (32,) * 2, 34 * 32)})
    return tmp_path


def test_the_same_as_from_a_folder(root):
    with Hub(root) as hub:
        (entry,), _output = look(hub, ("acme/big", None))
        assert (entry["source"], entry["path"], entry["commit"]) == ("hub", None, hub.commit("acme/big"))
    (local,) = model_facts([(str(root / "acme" / "big"), None)], "/nowhere")
    same = ("weights", "config", "architectures", "tokenizer", "chat_template", "remote_code", "problems")
    assert {key: entry[key] for key in same} == {key: local[key] for key in same}
    assert local["weights"]["files"] == SHARDS and local["problems"] == []


def header_bytes(path):
    with open(path, "rb") as handle:
        return int.from_bytes(handle.read(8), "little")


def test_one_request_a_shard_and_little_more(root):
    with Hub(root) as hub:
        look(hub, ("acme/big", None))
    asked = [request for request in hub.asked("/resolve/") if request.origin == "hub"]
    shards = [request.path for request in asked if "-of-" in request.path]
    # The large header of the last shard needs a second one.
    assert len(set(shards)) == SHARDS and len(shards) == SHARDS + 1
    assert shards.count(next(path for path in shards if f"-{SHARDS:05d}-of-" in path)) == 2
    # Of the index its beginning and its end; of the tokenizer nothing.
    assert len([request for request in asked if "index.json" in request.path]) == 2
    assert not hub.asked("tokenizer.json")
    assert all(request.range for request in asked)
    headers = sum(header_bytes(root / "acme" / "big" / path.rsplit("/", 1)[1]) for path in set(shards))
    assert headers < sum(request.sent for request in hub.requests) < 4 * headers


def test_only_who_allows_it_asks_the_hub(root):
    with Hub(root) as hub:
        (entry,), _output = look(hub, ("acme/big", None), online=False)
        assert not entry["found"] and "Pre-stage" in entry["reason"]
        # A wrong name is not asked for either.
        (entry,), _output = look(hub, ("no//repo", None))
        assert not entry["found"] and "no repo id" in entry["reason"]
        assert hub.requests == []


@pytest.mark.parametrize("part", [":Q8_0", "/m-Q8_0.gguf"])
def test_gguf(root, part):
    with Hub(root) as hub:
        (entry,), _output = look(hub, (f"acme/gguf{part}", None))
        asked = [request for request in hub.asked(".gguf") if request.origin == "hub"]
    assert (entry["weights"]["format"], entry["weights"]["total_bytes"]) == ("gguf", 34 * 32)
    assert (entry["config_source"], entry["tokenizer"]["present"], entry["problems"]) == ("config.json", True, [])
    assert len(asked) == 1


def test_what_the_hub_refuses_is_said_without_the_token(root):
    requests = [("acme/gated", None), ("acme/none", None), ("acme/big", "v9"), ("acme/gguf:Q4_0", None)]
    with Hub(root, gated={"acme/gated": "another"}) as hub:
        entries, output = look(hub, *requests, HF_TOKEN=SECRET)
        assert [entry["found"] for entry in entries] == [False] * 4
        reasons = [entry["reason"] for entry in entries]
        assert "Ask for access" in reasons[0] and "Correct the name" in reasons[1] and "Give a branch" in reasons[2]
        assert "no *-Q4_0.gguf is here; here are: m-Q8_0.gguf" in reasons[3]
        assert all(hub.endpoint in reason for reason in reasons)
        assert {request.token for request in hub.asked("acme/")} == {SECRET}
    assert SECRET not in output


def test_the_token_opens_and_never_leaves_the_hub(root):
    with Hub(root, gated={"acme/gated": SECRET}) as hub:
        (entry,), output = look(hub, ("acme/gated", None), HF_TOKEN=SECRET)
        assert entry["found"] and entry["weights"]["total_bytes"] == 64 * 64 * 2
        tokens = [(request.origin, request.token) for request in hub.asked("acme/")]
        assert set(tokens) == {("hub", SECRET), ("storage", None)}
    assert SECRET not in output


def test_a_password_in_the_address_is_not_shown(root):
    with Hub(root) as hub:
        endpoint = hub.endpoint.replace("//", f"//user:{SECRET}@")
        entries, output = look(hub, ("acme/none", None), ("acme/gguf:Q4_0", None), HF_ENDPOINT=endpoint)
    assert all(hub.endpoint in entry["reason"] for entry in entries)
    assert SECRET not in output


def test_without_a_way_to_the_hub(root):
    with Hub(root) as hub:
        (offline,), _output = look(hub, ("acme/big", None), HF_HUB_OFFLINE="1")
        assert hub.requests == []
    (gone,), _output = look(hub, ("acme/big", None))
    assert "HF_HUB_OFFLINE is set" in offline["reason"] and "Check HF_ENDPOINT" in gone["reason"]


def whole(handler, path, _headers):
    """Sends the whole file, whatever was asked for."""
    handler.headers.replace_header("Range", "")
    sent_whole(handler, path, _headers)


def too_little(handler, _path, _headers):
    handler._answer(206, {}, b"\x10")


def nothing(handler, _path, _headers):
    handler._refuse(404, "EntryNotFound", "gone")


sent_whole = hub_support._Handler._file


@pytest.mark.parametrize("answer, words", [(too_little, "1 bytes of the"), (nothing, "RemoteEntryNotFoundError")])
def test_a_hub_that_does_not_give_what_it_lists(root, monkeypatch, answer, words):
    monkeypatch.setattr(hub_support._Handler, "_file", answer)
    with Hub(root) as hub:
        (entry,), _output = look(hub, ("acme/gated", None))
    assert not entry["found"] and "/config.json: the hub" in entry["reason"] and words in entry["reason"]


def test_a_hub_that_knows_no_ranges_is_left_early(writer, root, monkeypatch):
    """The file has 1 GiB, of which its header is needed."""
    writer.safetensors(root / "acme" / "gated" / "model.safetensors", {"lm_head.weight": ("BF16", (2**15, 2**14))})
    monkeypatch.setattr(hub_support._Handler, "_file", whole)
    with Hub(root) as hub:
        (entry,), _output = look(hub, ("acme/gated", None))
    assert entry["weights"]["total_bytes"] == 2**30
    assert sum(request.sent for request in hub.requests) < 2**26


def test_without_the_client_only_the_hub_is_out_of_reach(root, tmp_path):
    """There is a package of its name, without what the first release that we use has."""
    (tmp_path / "huggingface_hub").mkdir()
    for name in ("__init__.py", "utils.py"):
        (tmp_path / "huggingface_hub" / name).touch()
    code = (
        LOOK.replace(
            "print(",
            "from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import FleetError\ntry:\n    print(",
        ).rstrip()
        + "\nexcept FleetError as error:\n    print(type(error).__name__, error)"
    )
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "HF_HOME": "/nowhere"}
    for online, words in (
        (False, "Pre-stage"),
        (True, "ClientMissing acme/big is to be looked up on the hub, for which"),
    ):
        arguments = [sys.executable, "-c", code, json.dumps([[["acme/big", None]], online])]
        done = subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=60, check=True)
        assert words in done.stdout
