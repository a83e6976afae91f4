# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory as text, as a drawing and as files."""

from __future__ import annotations

import copy
import json
import pathlib
import typing as t
from xml.etree import ElementTree

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.files import write_files
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.memory import (
    advice_text,
    fit_files,
    fit_svg,
    fit_text,
    ledger_text,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.plan import plan_text

GIB = 2**30
SVG = "{http://www.w3.org/2000/svg}"


def term(name: str, low: float, expected: float, high: float) -> dict[str, t.Any]:
    return {"name": name, "low": int(low * GIB), "expected": int(expected * GIB), "high": int(high * GIB)}


LEDGER: dict[str, t.Any] = {
    "device": "NVIDIA L4",
    "total": 22 * GIB,
    "budget": 20 * GIB,
    "terms": [
        term("weights", 15, 15, 16),
        term("activation", 0.5, 1, 1.5),
        term("runtime", 0.25, 0.25, 0.5),
        term("graphs reserved", 0.5, 0.75, 1),
    ],
    "outside": [term("context", 0.25, 0.5, 0.75), term("graphs beyond", 0, 0, 0.5)],
    "kv": term("kv cache", 1.5, 3, 3.75),
    "room": term("room", 0.75, 1.5, 1.75),
    "kv_needed": 2 * GIB,
    "max_model_len": 8192,
    "max_positions": 40960,
    "block_tokens": 16,
    "blocks": 768,
    "tokens": 12288,
    "concurrency": 1.5,
    "largest_length": 12288,
    "safe_length": 6144,
    "confidence": "fitted",
    "notes": ["a note"],
    "verdict": "tight",
}
LEVER = {
    "engine": {"max_num_seqs": 128},
    "frees_gib": 0.5,
    "tokens_after": 14336,
    "concurrency_after": 1.75,
    "max_model_len_after": 8192,
    "verdict_after": "fits",
    "gpus": 1,
    "cost": "at most 128 requests run at once",
}
DEVICE: dict[str, t.Any] = {
    "device": "NVIDIA L4",
    "hosts": ["a", "b"],
    "gpus_there": 2,
    "gpus_needed": 1,
    "verdict": "tight",
    "ledger": LEDGER,
    "levers": [LEVER],
    "together": None,
    "needed": None,
}
MODEL: dict[str, t.Any] = {
    "name": "probe",
    "model": "org/probe",
    "release": "0.33.0",
    "note": "",
    "fits": True,
    "unknown": None,
    "deadline_seconds": 1056,
    "devices": [DEVICE],
}
ROOMY = {**DEVICE, "verdict": "fits", "ledger": {**LEDGER, "verdict": "fits"}, "levers": []}
UNKNOWN = {**MODEL, "name": "other", "fits": False, "unknown": "its files are not there", "devices": []}


def found(*models: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"fits": all(one["fits"] for one in models), "models": list(models), "problems": []}


def test_the_whole_report() -> None:
    assert fit_text(found(MODEL)) == [
        "MEMORY: every model fits somewhere",
        "model  device     GPUs      GiB  weights  activation  graphs  other  KV cache  tokens  requests  longest  "
        "verdict",
        "-----  ---------  ------  -----  -------  ----------  ------  -----  --------  ------  --------  -------  "
        "-------",
        "probe  NVIDIA L4  1 of 2  22.00    15.00        1.00    0.75   0.75      3.00  12,288       1.5   12,288  "
        "tight",
        "",
        "MEMORY of probe on NVIDIA L4: 22.00 GiB, of which the engine takes 20.00",
        "[WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWAARGGKKKKKKKC...] W weights, A activation, R runtime, G graphs "
        "reserved, K kv cache, C context, g graphs beyond",
        "GiB                 low  expected    high",
        "---------------  ------  --------  ------",
        "weights          15.000    15.000  16.000",
        "activation        0.500     1.000   1.500",
        "runtime           0.250     0.250   0.500",
        "graphs reserved   0.500     0.750   1.000",
        "kv cache          1.500     3.000   3.750",
        "context           0.250     0.500   0.750",
        "graphs beyond     0.000     0.000   0.500",
        "left free         0.750     1.500   1.750",
        "tight: 12,288 tokens of KV cache, 1.5 requests of 8,192 tokens at once; the longest request that model and "
        "memory allow has 12,288 tokens",
        "confidence: fitted, to starts of other releases or GPUs",
        "note: a note",
        "What would make it fit, by what it frees on each device:",
        "- max_num_seqs: 128 frees 0.50 GiB and then fits (14,336 tokens, 1.75 requests of 8,192): at most 128 "
        "requests run at once",
        "A start of probe may take up to 1,056 s.",
    ]


def test_a_brief_report_shows_more_only_of_what_does_not_fit() -> None:
    assert len(fit_text(found({**MODEL, "devices": [ROOMY]}), brief=True)) == 4
    assert fit_text(found({**MODEL, "devices": [ROOMY, DEVICE]}), brief=True)[5:7] == [
        "",
        "MEMORY of probe on NVIDIA L4: 22.00 GiB, of which the engine takes 20.00",
    ]


@pytest.mark.parametrize(
    ("models", "summary"),
    [
        ([], "there is no model to look at"),
        ([MODEL, UNKNOWN], "every model fits somewhere, but 1 are unknown"),
        ([MODEL, {**MODEL, "name": "b", "fits": False}], "1 of 2 models fit on none of these devices: b"),
    ],
)
def test_the_summary(models: list[dict[str, t.Any]], summary: str) -> None:
    assert fit_text(found(*models))[0] == f"MEMORY: {summary}"


def test_what_is_unknown_is_said() -> None:
    assert "MEMORY of other: unknown, for its files are not there" in fit_text(found(UNKNOWN))


@pytest.mark.parametrize(
    ("hosts", "line"),
    [
        (["a"], "It needs 4 of these GPUs on one host, and a has 2."),
        ([], "It needs 4 of these GPUs on one host, and the most that one has is 2."),
    ],
)
def test_too_few_gpus(hosts: list[str], line: str) -> None:
    device = {**DEVICE, "gpus_needed": 4, "verdict": "too few GPUs", "hosts": hosts}
    assert line in fit_text(found({**MODEL, "devices": [device]}))


@pytest.mark.parametrize(
    ("advice", "last"),
    [
        (
            {"together": {**LEVER, "engine": {"max_num_seqs": 64, "enforce_eager": True}}},
            "- together: max_num_seqs: 64 and enforce_eager: true frees 0.50 GiB and then fits",
        ),
        (
            {"needed": {"engine": {"tensor_parallel_size": 4}, "gpus": 4, "device_gib": 48.0}},
            "- No option without offloading is enough: it needs 4 of these GPUs, with tensor_parallel_size: 4, or "
            "devices of at least 48 GiB each, or smaller weights",
        ),
        (
            {"needed": {"engine": None, "gpus": None, "device_gib": None}},
            "- No number of such devices that was tried is enough: take smaller weights",
        ),
    ],
)
def test_advice(advice: dict[str, t.Any], last: str) -> None:
    assert advice_text({**DEVICE, **advice})[-1].startswith(last)


@pytest.mark.parametrize("advice", [None, {"levers": [], "together": None, "needed": None}])
def test_no_advice(advice: dict[str, t.Any] | None) -> None:
    assert advice_text(advice) == []


def test_the_plan_shows_it_as_well() -> None:
    placement = {
        "server": "vllm-probe-0",
        "host": "a",
        "gpus": [{"index": 0, "uuid": "GPU-0", "name": "NVIDIA L4"}],
        "listen": "127.0.0.1:8000",
        "vllm": "0.33.0",
        "runs_already": False,
        "ledger": LEDGER,
        "advice": {"levers": [LEVER], "together": None, "needed": None},
    }
    text = plan_text([placement], [])
    assert text[5:-2] == ledger_text("vllm-probe-0", LEDGER)
    assert text[-2:] == advice_text(DEVICE)


def test_a_device_without_a_bar_to_draw() -> None:
    short = {**LEDGER, "kv": term("kv cache", -30, -20, -10)}
    assert len(ledger_text("probe", short)[1].partition("]")[0]) == 51


# ---- the drawing


def drawn(model: dict[str, t.Any]) -> ElementTree.Element:
    text = fit_svg(model)
    assert fit_svg(copy.deepcopy(model)) == text
    return ElementTree.fromstring(text)


def texts(root: ElementTree.Element) -> str:
    return "\n".join("".join(one.itertext()) for one in root.iter(f"{SVG}text"))


def bars(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    """Place and width of each term by its name."""
    found_bars = {}
    for rect in root.iter(f"{SVG}rect"):
        title = rect.find(f"{SVG}title")
        if title is not None and title.text:
            found_bars[title.text.partition(":")[0]] = (float(rect.attrib["x"]), float(rect.attrib["width"]))
    return found_bars


def test_the_drawing_tells_all_in_words() -> None:
    root = drawn(MODEL)
    assert root.attrib["role"] == "img" and root.attrib["aria-labelledby"] == "title desc"
    title, desc = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None and title.text == "GPU memory of probe with vLLM 0.33.0"
    assert desc is not None and desc.text is not None
    for part in ("NVIDIA L4 of 22.00 GiB: tight", "weights 15.00 GiB", "1.50 to 3.75 GiB of KV cache"):
        assert part in desc.text
    for name in ("W weights", "K kv cache", "C context"):
        assert name in texts(root)


def test_the_bars_are_as_long_as_what_they_show() -> None:
    found_bars = bars(drawn(MODEL))
    end = 0.0
    for name, gib in (
        ("weights", 15),
        ("activation", 1),
        ("runtime", 0.25),
        ("graphs reserved", 0.75),
        ("kv cache", 3),
    ):
        place, width = found_bars[name]
        assert width == pytest.approx(gib * 920 / 22, abs=0.1)
        assert end == pytest.approx(place, abs=0.2) or end == 0
        end = place + width
    # What takes nothing is not drawn.
    assert "graphs beyond" not in found_bars


def test_a_bar_stays_within_the_drawing() -> None:
    ledger = {**LEDGER, "terms": [term("weights", 50, 60, 70)], "kv": term("kv cache", -50, -40, -30)}
    root = drawn({**MODEL, "devices": [{**DEVICE, "ledger": ledger}]})
    for place, width in bars(root).values():
        assert place >= 20 and place + width <= 940.1
    assert "kv cache" not in bars(root)


def test_names_are_escaped() -> None:
    evil = '</text><script>alert("1")</script>\x00&'
    device = {**DEVICE, "device": evil, "ledger": {**LEDGER, "device": evil}}
    root = drawn({**MODEL, "name": evil, "model": evil, "devices": [device]})
    assert not list(root.iter(f"{SVG}script"))
    assert '<script>alert("1")</script>&' in texts(root)


def test_unknown_terms_are_drawn_as_well() -> None:
    ledger = {**LEDGER, "terms": [*LEDGER["terms"], term("adapters", 1, 1, 1)]}
    root = drawn({**MODEL, "devices": [{**DEVICE, "ledger": ledger}]})
    assert "adapters" in bars(root) and "? adapters" in texts(root)


def test_a_model_of_which_nothing_is_known() -> None:
    assert "its files are not there" in texts(drawn(UNKNOWN))


# ---- files


def test_the_files_hold_everything() -> None:
    files = fit_files(found(MODEL, UNKNOWN))
    assert sorted(files) == ["fit.json", "other.svg", "probe.svg"]
    assert json.loads(files["fit.json"]) == found(MODEL, UNKNOWN)
    assert files["probe.svg"] == fit_svg(MODEL)


def test_files_are_written_where_they_differ(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "a/b"
    both = {"x": "1\n", "y": "2\n"}
    assert [one["after"] for one in write_files(str(folder), both, pretend=True)] == ["1\n", "2\n"]
    assert not folder.parent.exists()
    write_files(str(folder), both, pretend=False)
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == both
    assert write_files(str(folder), both, pretend=False) == []
    (difference,) = write_files(str(folder), {**both, "y": "3\n"}, pretend=False)
    assert (difference["before"], difference["after"]) == ("2\n", "3\n")
    assert difference["before_header"] == difference["after_header"] == str(folder / "y")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError):
        write_files(str(tmp_path), {"x": "1"}, pretend=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
