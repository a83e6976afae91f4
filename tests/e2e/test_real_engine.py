# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real vLLM (its CPU build) on the tiny model, through the collection's playbooks, from deployment to teardown."""

from __future__ import annotations

import json
import pathlib
import ssl
import subprocess
import typing as t
import urllib.request

import pytest

from support.fleet import Fleet
from support.real import real_fleet

KEY = "sk-e2e-4b7f0c"


def certificate(folder: pathlib.Path) -> dict[str, str]:
    """A key and the certificate that it signed itself, as secrets."""
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=llm.example"
    key, cert = folder / "tls.key", folder / "tls.crt"
    subprocess.run([*make.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return {"tls_key": key.read_text(), "tls_cert": cert.read_text()}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Fleet]:
    """One fleet for all tests of this file, which follow each other: a real start takes a minute."""
    folder = tmp_path_factory.mktemp("e2e")
    options = {
        "kv_cache_memory_bytes": 2**29,
        # One of each kind of option that the CPU build supports: what we render must start.
        "tensor_parallel_size": 1,
        "distributed_executor_backend": "mp",
        "attention_backend": "CPU_ATTN",
        "speculative_config": {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4},
        "async_scheduling": False,
        "enable_auto_tool_choice": True,
        "tool_call_parser": "hermes",
        "reasoning_parser": "qwen3",
        "structured_outputs_config": {"backend": "xgrammar"},
        "enable_lora": True,
        "max_lora_rank": 16,
        "max_num_seqs": 8,
        "max_logprobs": 5,
        "enable_prefix_caching": True,
        "prefix_caching_hash_algo": "sha256_cbor",
        "enable_log_requests": True,
        "generation_config": "vllm",
        "override_generation_config": {"temperature": 0.5},
    }
    made = real_fleet(folder, "real", options, secrets={"api_key": KEY, **certificate(folder)})
    try:
        yield made
    finally:
        made.remove()


def ask(fleet: Fleet, path: str, body: dict[str, t.Any] | None = None) -> t.Any:
    trusted = ssl.create_default_context(cafile=str(fleet.folder / "tls.crt"))
    trusted.check_hostname = False
    request = urllib.request.Request(
        f"https://127.0.0.1:{fleet.first_port}{path}",
        json.dumps(body).encode() if body else None,
        {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
    )
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
    with urllib.request.build_opener(*handlers).open(request, timeout=600) as answer:
        return json.loads(answer.read())


def test_deploy_serves_what_was_declared(fleet: Fleet) -> None:
    played = fleet.play("deploy")
    assert played.rc == 0, played.output
    (result,) = played.results("vllm_servers")
    assert result["servers"][0]["state"] == "ready"
    stages = [entry["stage"] for entry in result["servers"][0]["timeline"]]
    assert stages[-1] == "ready" and "loading" in stages
    assert KEY not in played.output and "PRIVATE KEY" not in played.output
    assert result["servers"][0]["url"] == f"https://127.0.0.1:{fleet.first_port}"
    (card,) = ask(fleet, "/v1/models")["data"]
    assert (card["id"], card["max_model_len"]) == ("real", 1024)
    answer = ask(
        fleet,
        "/v1/chat/completions",
        {"model": "real", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4},
    )
    assert answer["usage"]["completion_tokens"] >= 1
    container = fleet.containers()["vllm-real-0"]
    seen = json.dumps(container.attrs) + container.logs().decode()
    assert KEY not in seen and "PRIVATE KEY" not in seen


def test_second_deploy_touches_nothing(fleet: Fleet) -> None:
    before = fleet.identities()
    played = fleet.play("deploy")
    assert played.rc == 0 and not played.changed, played.output
    assert fleet.identities() == before


def test_status_reads_the_real_metrics(fleet: Fleet) -> None:
    (info,) = fleet.play("status").results("vllm_info")
    (server,) = info["servers"]
    assert (server["state"], server["version"]) == ("ready", "0.32.0")
    # Nothing is between the tokens of answers that have one.
    told = {name: value for name, value in server["metrics"].items() if "between_tokens" not in name}
    assert all(value is not None for value in told.values()), server["metrics"]
    assert server["metrics"]["generation_tokens_total"] >= 1


def test_what_real_vllm_refuses_is_diagnosed_and_the_former_server_serves_again(fleet: Fleet) -> None:
    before = fleet.containers()["vllm-real-0"].id
    # Only the engine can tell, for this is a path in the container.
    fleet.models[0]["engine"]["tokenizer"] = "/no/such/tokenizer"
    played = fleet.play("deploy")
    del fleet.models[0]["engine"]["tokenizer"]
    assert played.rc != 0
    (result,) = played.results("vllm_servers")
    assert result["diagnosis"][0]["causes"][0]["id"] == "hf-bad-path-as-repo-id"
    assert "/no/such/tokenizer" in played.failure.splitlines()[0]
    assert fleet.containers()["vllm-real-0"].id == before
    assert ask(fleet, "/v1/models")["data"][0]["max_model_len"] == 1024
    assert fleet.play("deploy").unchanged


def test_teardown_leaves_nothing(fleet: Fleet) -> None:
    assert fleet.play("teardown").rc == 0
    assert not fleet.containers()
    assert not [path for path in pathlib.Path(fleet.state_dir / "secrets").rglob("*") if path.is_file()]
