# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the recorder's lines to what was asked for and why."""

from __future__ import annotations

import json

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal.attempts import (
    Moment,
    attempts,
    read,
    sentence,
    source,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal.recorder import MARK

HUB = {"event": "lookup", "name": "huggingface.co", "address": "198.18.0.1", "process": "vllm", "at": 108.0}


def connect(address: str, port: int, at: float, protocol: str = "tcp") -> dict:
    return {"event": "connect", "protocol": protocol, "address": address, "port": port, "at": at}


def test_lines_of_others_are_passed_over() -> None:
    log = f"warning: something\n{MARK}{json.dumps(HUB)}\nREHEARSALS\n"
    assert read(log) == [HUB]


def test_a_name_its_connections_and_an_address() -> None:
    unknown = {**HUB, "process": None, "at": 107.5}
    told = [unknown, HUB, connect("198.18.0.1", 443, 108.26), connect("10.0.0.1", 80, 109.0)]
    told += [connect("198.18.0.1", 443, 110.0), connect("198.18.0.1", 80, 111.0)]
    moments = [Moment(0.4, "created", "one"), Moment(8.2, "loading", "two"), Moment(8.9, "loading", "three")]
    found = attempts(told, 100.0, moments, {})
    assert [(a["host"], a["port"], a["times"], a["second"], a["process"], a["during"]) for a in found] == [
        ("huggingface.co", 443, 2, 8.3, "vllm", "loading: two"),
        ("10.0.0.1", 80, 1, 9.0, None, "loading: three"),
        ("huggingface.co", 80, 1, 11.0, "vllm", "loading: three"),
    ]
    assert sentence(found[0]).startswith(
        "asked for huggingface.co:443 (from the process vllm, at second 8.3, 2 times, during loading: two). That is "
        "the Hugging Face hub"
    )
    assert sentence(found[1]).startswith(
        "asked for 10.0.0.1:80 (at second 9.0, during loading: three). Who asks is not"
    )


def test_what_was_only_looked_up_and_what_is_no_tcp() -> None:
    told = [HUB, {**HUB, "at": 109.0}, connect("9.9.9.9", 53, 99.0, "udp"), connect("9.9.9.9", 0, 112.0, "icmp")]
    found = attempts(told, 100.0, [], {})
    assert [(a["host"], a["port"], a["protocol"], a["times"], a["second"]) for a in found] == [
        ("huggingface.co", None, "dns", 2, 8.0),
        ("9.9.9.9", 53, "udp", 1, 0.0),
        ("9.9.9.9", None, "icmp", 1, 12.0),
    ]
    texts = [sentence(one) for one in found]
    assert texts[0].startswith("asked for the address of huggingface.co (")
    assert texts[1].startswith("asked for 9.9.9.9:53 (udp) (")
    assert texts[2].startswith("asked for 9.9.9.9 (icmp) (")


@pytest.mark.parametrize(
    ("host", "env", "words"),
    [
        ("huggingface.co", {}, "Set offline: true"),
        ("cas-bridge.xethub.hf.co", {}, "Set offline: true"),
        ("huggingface.co", {"HF_HUB_OFFLINE": "0"}, "Set offline: true"),
        ("huggingface.co", {"HF_HUB_OFFLINE": "1"}, "asks by itself"),
        ("huggingface.co", {"TRANSFORMERS_OFFLINE": "true"}, "asks by itself"),
        ("hub.site", {"HF_ENDPOINT": "https://hub.site/hf"}, "Set offline: true"),
        ("stats.vllm.ai", {}, "VLLM_NO_USAGE_STATS=1"),
        ("stats.site", {"VLLM_USAGE_STATS_SERVER": "http://stats.site:80"}, "VLLM_NO_USAGE_STATS=1"),
        ("edge.urm.nvidia.com", {}, "FlashInfer"),
    ],
)
def test_known_sources(host: str, env: dict[str, str], words: str) -> None:
    assert words in source(host, env)


@pytest.mark.parametrize("host", ["huggingface.co.example", "nothuggingface.co", "10.0.0.1"])
def test_unknown_sources(host: str) -> None:
    assert source(host, {"HF_ENDPOINT": "", "FLASHINFER_CUBINS_REPOSITORY": "/opt/kernels"}) is None
