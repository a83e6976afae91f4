# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/memory/refit.py: the constants that it makes of recorded starts."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
import types
import typing as t

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def refit() -> t.Iterator[types.ModuleType]:
    """The tool as a module; its own import of tools/accuracy must not outlast the tests."""
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("refit_under_test", ROOT / "tools" / "memory" / "refit.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before
    del sys.modules[spec.name]


def write(folder: pathlib.Path, layers: t.Sequence[int], slope: float, base: float) -> pathlib.Path:
    """Records of starts of 0.19.0 on H100 whose graphs grow by the slope with each layer, and their models."""
    models, lines = {}, []
    for count in layers:
        models[f"org/model-{count}"] = {
            "config": {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "vocab_size": 32000,
                "num_hidden_layers": count,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "max_position_embeddings": 8192,
            }
        }
        lines.append(
            {
                "id": f"r{count}",
                "model": f"org/model-{count}",
                "gpu": "H100 80GB",
                "gpu_total_gib": 79.19,
                "vllm_version": "0.19.0",
                "engine": "V1",
                "outcome": "ok",
                "options": {"tensor_parallel_size": 1},
                "figures": {
                    "activation_peak_gib": 1.2,
                    "cudagraph_actual_gib": base + slope * count,
                    "non_torch_gib": 0.3,
                    "outside_gib": 0.6,
                },
            }
        )
    (folder / "model_configs.json").write_text(json.dumps(models), encoding="utf-8")
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_least_squares(refit: types.ModuleType) -> None:
    left = [(1.0, float(x), float(x % 3)) for x in range(20)]
    found = refit._least_squares(left, [2.0 + 0.5 * x - 3.0 * (x % 3) for x in range(20)])
    assert found == pytest.approx([2.0, 0.5, -3.0], abs=0.01)


def test_the_slope_of_the_records_is_found(refit: types.ModuleType, tmp_path: pathlib.Path) -> None:
    found = refit.refit(refit.starts(write(tmp_path, range(10, 82, 4), 0.05, 0.2)))
    assert found["graphs"]["coefficients"][1] == pytest.approx(0.05, abs=0.001)
    assert found["runtime"]["larger"]["single datacentre"] == 0.3
    assert found["context"]["by_capability"]["90"] == 0.6
    quality = found["graphs"]["quality"]["calibrated"]["any"]
    assert quality["starts"] == 18
    assert quality["largest_error"] < 0.01


def test_few_records_change_nothing_but_what_is_noted(refit: types.ModuleType, tmp_path: pathlib.Path) -> None:
    found = refit.refit(refit.starts(write(tmp_path, [10, 20], 0.05, 0.2)))
    assert found["graphs"]["coefficients"] == refit.PRIOR["graphs"]["coefficients"]
    assert found["runtime"]["larger"] == refit.PRIOR["runtime"]["larger"]
    assert found["activation"]["spread"] == refit.PRIOR["activation"]["spread"]
    assert found["activation"]["quality"]["calibrated"]["dense"]["starts"] == 2


def test_an_interval_widens_to_what_the_records_show(refit: types.ModuleType, tmp_path: pathlib.Path) -> None:
    # A model of this shape takes 0.9 GiB; the records say 1.2.
    found = refit.refit(refit.starts(write(tmp_path, range(10, 82, 4), 0.05, 0.2)))
    below, above, _share = found["activation"]["spread"]["calibrated"]["dense"]
    assert below == refit.PRIOR["activation"]["spread"]["calibrated"]["dense"][0]
    assert above > refit.PRIOR["activation"]["spread"]["calibrated"]["dense"][1]


def test_repeated_runs_do_not_outweigh_others(refit: types.ModuleType, tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, range(10, 82, 4), 0.05, 0.2)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    once = refit.refit(refit.starts(path))["graphs"]["coefficients"]
    path.write_text("".join([*lines, *lines[:1] * 50]), encoding="utf-8")
    assert refit.refit(refit.starts(path))["graphs"]["coefficients"] == once


def test_the_same_records_give_the_same_text(refit: types.ModuleType, tmp_path: pathlib.Path) -> None:
    found = refit.starts(write(tmp_path, range(10, 82, 4), 0.05, 0.2))
    assert refit.text(refit.refit(found)) == refit.text(refit.refit(list(found)))


def test_the_stored_constants_are_those_of_the_kept_records(
    refit: types.ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["refit.py", "--check"])
    code = refit.main()
    assert code == 0, capsys.readouterr().out


def test_check_sees_a_change(refit: types.ModuleType, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, range(10, 82, 4), 0.05, 0.2)
    stored = refit.spread.FILE.read_bytes()
    monkeypatch.setattr(sys, "argv", ["refit.py", "--check", "--records", str(path)])
    assert refit.main() == 1
    assert refit.spread.FILE.read_bytes() == stored
