# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What another release changes, as people read it."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.upgrade import upgrade_text
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._upgrader import check_upgrade
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import h100_host, spec

GIB = 2**30


def message(field: str, remedy: t.Any = None) -> dict[str, t.Any]:
    return {"name": "m", "field": field, "remedy": remedy, "text": f"m: {field}: is gone. Do this."}


def change(topic: str, **facts: t.Any) -> dict[str, t.Any]:
    nothing = {"before": None, "after": None, "devices": [], "means": None, "source": None, "keep": None}
    return {"topic": topic, "is_option": True, **nothing, **facts}


def ledger(budget: int, kv: int, tokens: int, verdict: str) -> dict[str, t.Any]:
    return {
        "budget": budget * GIB,
        "kv": {"expected": kv * GIB},
        "tokens": tokens,
        "concurrency": 2.5,
        "verdict": verdict,
    }


def report(**changes: t.Any) -> list[str]:
    """The report of one model, from 0.10.2 to 0.33.0."""
    model = {
        "name": "m",
        "current": "0.10.2",
        "note": "",
        "breaks": [],
        "already_broken": [],
        "deprecations": [],
        "engine": {},
        "changed_defaults": [],
        "image": [],
        "metrics": [],
        "routes": [],
        "memory": [],
    }
    return upgrade_text({"release": "0.33.0", "note": "", "models": [{**model, **changes}]})


def test_nothing_changes() -> None:
    assert report() == [
        "UPGRADE to vLLM 0.33.0: every model can start there as declared",
        "",
        "m: 0.10.2 -> 0.33.0",
        "  nothing changes for it",
    ]


def test_problems_and_the_options_to_write() -> None:
    lines = report(
        breaks=[message("engine.a", {"engine": {"b": 4}, "env": {"C": "x"}}), message("engine.d", {})],
        already_broken=[message("engine.e")],
        deprecations=[message("engine.f", {"engine": {"g": True}})],
        engine={"b": 4, "config": {"x": None, "y": "é"}},
    )
    assert lines == [
        "UPGRADE to vLLM 0.33.0: 1 of 1 cannot start there as declared: m",
        "",
        "m: 0.10.2 -> 0.33.0",
        "  breaks:",
        "  - engine.a: is gone. Do this.",
        "  - engine.d: is gone. Do this.",
        "  is an error at the present release already:",
        "  - engine.e: is gone. Do this.",
        "  with all of that written in that is known:",
        "    engine:",
        "      b: 4",
        '      config: {"x": null, "y": "é"}',
        "  warnings that are new:",
        "  - engine.f: is gone. Do this.",
    ]


def test_no_options_to_write_where_none_are_known() -> None:
    lines = report(breaks=[message("engine.a")], engine={"a": 1})
    assert lines[3:] == ["  breaks:", "  - engine.a: is gone. Do this."]
    assert report(breaks=[message("engine.a", {})])[-2:] == [
        "  with all of that written in that is known:",
        "    engine: {}",
    ]


def test_a_warning_alone_stops_nothing() -> None:
    assert report(deprecations=[message("engine.f")])[0].endswith("every model can start there as declared")


def test_defaults() -> None:
    lines = report(
        changed_defaults=[
            change(
                "max_num_seqs",
                before=256,
                after=1024,
                devices=["H100", "B200"],
                means="more at once",
                source="a.py of 0.8.0",
                keep={"engine": {"max_num_seqs": 256}},
            ),
            change("origins", before=["*"], after=[]),
            change("seed", after="x" * 60),
            change("the engine", is_option=False, means="is another", source="b.py of 0.8.0"),
        ]
    )
    assert lines[3:] == [
        "  defaults that change:",
        "    option        before       after                                     on",
        "    ------------  -----------  ----------------------------------------  ----------",
        "    max_num_seqs  256          1024                                      H100, B200",
        '    origins       ["*"]        []                                        everywhere',
        '    seed          (left open)  "' + "x" * 36 + "...  everywhere",
        "  what that means:",
        "  - max_num_seqs: more at once (a.py of 0.8.0)",
        '    to have it as before: engine: {"max_num_seqs": 256}',
        "  - the engine: is another (b.py of 0.8.0)",
    ]


def test_image_metrics_and_routes() -> None:
    lines = report(
        image=[
            {"fact": "cuda", "before": "12.8.1", "after": "13.0.3", "means": "which needs a driver"},
            {"fact": "user", "before": None, "after": "vllm", "means": None},
        ],
        metrics=[{"name": "vllm:a", "successors": ["vllm:b", "vllm:d"]}, {"name": "vllm:c", "successors": []}],
        routes=[f"/{number}" for number in range(14)],
    )
    assert lines[3:] == [
        '  image: cuda "12.8.1" -> "13.0.3", which needs a driver',
        '  image: user (left open) -> "vllm"',
        "  metrics that are gone: vllm:a (now vllm:b and vllm:d), vllm:c",
        "  routes that are gone: /0, /1, /2, /3, /4, /5, /6, /7, /8, /9, /10, /11 and 2 more",
    ]


def test_memory() -> None:
    pair = {"before": ledger(70, 50, 12345, "fits"), "after": ledger(73, 9, 1234, "tight")}
    assert report(memory=[{"device": "NVIDIA H100", **pair}])[3:] == [
        "  memory on NVIDIA H100:",
        "    memory                   0.10.2  0.33.0",
        "    -----------------------  ------  ------",
        "    budget, GiB              70.00   73.00",
        "    KV cache, GiB            50.00   9.00",
        "    KV cache, tokens         12,345  1,234",
        "    requests of full length  2.5     2.5",
        "    verdict                  fits    tight",
    ]


def test_notes() -> None:
    lines = report(note="0.10.9 is not in the catalogue")
    assert "  note: 0.10.9 is not in the catalogue" in lines
    found = upgrade_text({"release": "0.33.0", "note": "0.99.0 is not in the catalogue", "models": []})
    assert found[1] == "note: 0.99.0 is not in the catalogue"


@pytest.mark.parametrize(("before", "after"), [("0.6.6", "0.33.0"), ("0.33.0", "0.6.6")])
def test_the_report_of_what_is_found(before: str, after: str) -> None:
    """The real thing fits a terminal's eye: no line is empty of meaning, no mapping is shown as Python."""
    found = check_upgrade([spec(), spec("b")], after, before, {"h": h100_host()})
    lines = upgrade_text(found)
    assert [line for line in lines if line.startswith(("qwen3-8b: ", "b: "))] == [
        f"qwen3-8b: {before} -> {after}",
        f"b: {before} -> {after}",
    ]
    text = "\n".join(lines)
    assert "None" not in text and "mappingproxy" not in text and "True" not in text
    assert "memory on NVIDIA H100 80GB HBM3" in text
