# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret is left in what is shown, and what is no secret stays readable."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._redact import HIDDEN, Redactor

KEY = "sk \"q'$(id)`;&\\ end-4711"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\nggSjAg==\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "shown",
    [
        KEY,
        repr(KEY),
        json.dumps(KEY),
        json.dumps({"a": [KEY]}),
        urllib.parse.quote(KEY, safe=""),
        base64.b64encode(KEY.encode()).decode(),
    ],
)
def test_a_known_secret_in_every_form(shown: str) -> None:
    assert "4711" not in Redactor([KEY]).text(f"before {shown} after")
    assert Redactor([KEY]).text(f"before {shown} after").endswith(" after")
    assert HIDDEN in Redactor([KEY]).text(f"before {shown} after")


def test_lines_of_a_key_are_hidden_and_its_frame_is_not() -> None:
    shown = Redactor([PEM]).text("line: MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\n-----END CERTIFICATE-----")
    assert shown == f"line: {HIDDEN}\n-----END CERTIFICATE-----"
    assert "MII" not in Redactor().text(PEM)
    assert "MII" not in Redactor([PEM]).text(f"read {PEM!r}")


def test_the_longer_secret_goes_first() -> None:
    assert Redactor(["abc", "abcdef", " "]).text("abcdef abc") == f"{HIDDEN} {HIDDEN}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HF_TOKEN=hf_abc", f"HF_TOKEN={HIDDEN}"),
        ('"VLLM_API_KEY=k 1", "A=1"', f'"VLLM_API_KEY={HIDDEN} 1", "A=1"'),
        ("{'HF_TOKEN': 'x y'}", f"{{'HF_TOKEN': {HIDDEN}}}"),
        ("vllm serve m --api-key k --port 1", f"vllm serve m --api-key {HIDDEN} --port 1"),
        ("--hf_token=k", f"--hf_token={HIDDEN}"),
        ("args: {'api_key': ['k'], 'port': 1}", f"args: {{'api_key': [{HIDDEN}], 'port': 1}}"),
        ("Namespace(api_key='k', hf_token=None)", f"Namespace(api_key={HIDDEN}, hf_token=None)"),
        ("authorization: Bearer abc", f"authorization: Bearer {HIDDEN}"),
        ("{'Authorization': 'Basic dTpw'}", f"{{'Authorization': 'Basic {HIDDEN}'}}"),
        ("sent Bearer abcdefgh1234", f"sent Bearer {HIDDEN}"),
        ("http://user:pass@host:1/x", f"http://user:{HIDDEN}@host:1/x"),
        ("token hf_" + "a" * 34, f"token hf_{HIDDEN}"),
        ("sk-proj-0123456789abcdef", f"sk-{HIDDEN}"),
        ("nvapi-0123456789abcdef", f"nvapi-{HIDDEN}"),
    ],
)
def test_what_looks_like_a_secret(text: str, expected: str) -> None:
    assert Redactor().text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        'VLLM_API_KEY="$(cat /run/secrets/vllm/api_key)" && export VLLM_API_KEY',
        "HF_TOKEN_PATH=/run/secrets/vllm/hub_token",
        "bos_token=None, eos_token='</s>', max_tokens=16",
        "--ssl-keyfile /run/secrets/vllm/tls_key",
        "http://127.0.0.1:8000/v1/models",
        "torch.bearer of news",
        "Set HF_TOKEN in the environment.",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor().text(text) == text


def test_data() -> None:
    data = {"Env": ["HF_TOKEN=x", "A=1"], "api_key": "k", "hub_token": "", "n": 1, "deep": [{"tls": PEM}], "t": ("a",)}
    assert Redactor().data(data) == {
        "Env": [f"HF_TOKEN={HIDDEN}", "A=1"],
        "api_key": HIDDEN,
        "hub_token": "",
        "n": 1,
        "deep": [{"tls": f"-----BEGIN PRIVATE KEY-----{HIDDEN}-----END PRIVATE KEY-----\n"}],
        "t": ["a"],
    }
