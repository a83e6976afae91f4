# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capacity against the answers of vLLM's own code, and what must hold of it whatever the model.

fixtures/capacity/answers.json is written by tools/memory/capacity_cases.py.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, Asked, read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.capacity import (
    Capacity,
    capacity,
    holder,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry, geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, Settings, settings

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures" / "capacity"
LAYOUTS = json.loads((FIXTURES / "layouts.json").read_text(encoding="utf-8"))
ANSWERS = json.loads((FIXTURES / "answers.json").read_text(encoding="utf-8"))
H100 = Device("gpu", "NVIDIA H100 80GB HBM3", 85_028_765_696)
LENGTHS = st.integers(1, 2**20)
SETTINGS = ("0.8.5", "0.10.2", "0.19.1", "0.33.0")


def computed(layout: t.Mapping[str, t.Any], release: str, kv_bytes: int) -> Capacity:
    shape = geometry(layout["config"])
    env = {"VLLM_USE_V1": "1", "VLLM_PP_LAYER_PARTITION": ",".join(map(str, layout.get("stages", [])))}
    asked, faults = read_asked(layout["engine"], env)
    assert faults == {}
    return capacity(shape, settings(release, asked, shape, H100), kv_bytes, H100)


def answers_of(release: str) -> list[tuple[t.Any, int, t.Any]]:
    pairs = [(layout, kv_bytes) for layout in LAYOUTS for kv_bytes in layout["kv_bytes"]]
    return [
        (layout, kv_bytes, answer)
        for (layout, kv_bytes), answer in zip(pairs, ANSWERS[release], strict=True)
        if answer is not None
    ]


@pytest.mark.parametrize("release", ANSWERS)
def test_capacity_is_what_vllm_computes(release: str) -> None:
    wrong = []
    for layout, kv_bytes, answer in answers_of(release):
        found = dataclasses.asdict(computed(layout, release, kv_bytes))
        # What does not fit has no blocks, and what fits needs no estimate.
        wrong += [
            (layout["name"], kv_bytes, key, found[key], expected)
            for key, expected in answer.items()
            if found[key] != expected
        ]
    assert wrong == []


def test_the_answers_speak_of_most_layouts() -> None:
    assert len(ANSWERS) >= 15
    assert {release: len(answers_of(release)) for release in ANSWERS if len(answers_of(release)) < 110} == {}


@pytest.mark.parametrize(
    ("release", "env", "tokens"),
    [
        # worker/cache_engine.py of 0.7.3 pads a latent of 576 values to 640, that of 0.8.5 does not.
        ("0.6.3", {}, GIB // (61 * 2 * 128 * 256 * 2 * 16) * 16),
        ("0.7.3", {}, GIB // (61 * 640 * 2 * 16) * 16),
        ("0.8.5", {"VLLM_USE_V1": "0"}, GIB // (61 * 576 * 2 * 64) * 64),
    ],
)
def test_latent_attention_of_the_v0_engine(release: str, env: dict[str, str], tokens: int) -> None:
    config = next(layout["config"] for layout in LAYOUTS if layout["name"] == "mla tp8")
    shape = geometry({**config, "model_type": "deepseek_v2"})
    asked, _faults = read_asked({"max_model_len": 4096}, env)
    found = capacity(shape, settings(release, asked, shape, H100), GIB, device=H100)
    assert found.tokens == tokens


@pytest.mark.parametrize("release", SETTINGS)
def test_a_stage_may_keep_nothing(release: str) -> None:
    config = {**LAYOUTS[0]["config"], "num_hidden_layers": 2}
    shape = geometry(config)

    def blocks(partition: str) -> int:
        env = {"VLLM_USE_V1": "1", "VLLM_PP_LAYER_PARTITION": partition}
        asked = Asked(pipeline_parallel=4, max_model_len=1024, env=env)
        return capacity(shape, settings(release, asked, shape, H100), GIB).blocks

    assert blocks("1,0,1,0") == blocks("0,1,1,0") > blocks("0,2,0,0") > 0


def test_the_stage_with_the_fewest_blocks_decides() -> None:
    shape = geometry(LAYOUTS[0]["config"])
    asked = Asked(pipeline_parallel=2, max_model_len=8192)
    chosen = settings("0.19.0", asked, shape, H100)
    # Figures of a start of 0.19.0 on two GPUs, whose last stage had 0.91 GiB less.
    found = capacity(shape, chosen, [int(66.54 * GIB), int(65.63 * GIB)], device=H100)
    assert found.tokens == pytest.approx(1_075_312, rel=0.0005)
    assert capacity(shape, chosen, int(65.63 * GIB), device=H100) == found


SHAPES = [(layout, geometry(layout["config"])) for layout in LAYOUTS if len(layout.get("stages", [])) < 2]


def shape_of(data: t.Any) -> tuple[t.Any, Geometry]:
    return data.draw(st.sampled_from(SHAPES))


def chosen_of(layout: t.Any, shape: Geometry, release: str, **changes: t.Any) -> Settings:
    asked, _faults = read_asked(layout["engine"], {"VLLM_USE_V1": "1"})
    asked = dataclasses.replace(asked, gpu_blocks_override=None, **changes)
    return settings(release, asked, shape, H100)


@given(data=st.data(), release=st.sampled_from(SETTINGS), kv_bytes=st.integers(0, 80 * GIB), more=st.integers(0, GIB))
def test_more_memory_never_holds_less(data: st.DataObject, release: str, kv_bytes: int, more: int) -> None:
    layout, shape = shape_of(data)
    chosen = chosen_of(layout, shape, release)
    less, greater = capacity(shape, chosen, kv_bytes), capacity(shape, chosen, kv_bytes + more)
    assert (less.blocks, less.tokens, less.longest) <= (greater.blocks, greater.tokens, greater.longest)
    assert less.fits <= greater.fits


@given(data=st.data(), release=st.sampled_from(SETTINGS), longer=st.integers(1, 100_000))
def test_a_longer_request_never_needs_less(data: st.DataObject, release: str, longer: int) -> None:
    layout, shape = shape_of(data)
    chosen = dataclasses.replace(chosen_of(layout, shape, release), max_model_len=1000)
    more = dataclasses.replace(chosen, max_model_len=1000 + longer)
    assert capacity(shape, chosen, GIB).request_bytes <= capacity(shape, more, GIB).request_bytes


@given(data=st.data(), release=st.sampled_from(SETTINGS))
def test_more_gpus_and_smaller_values_never_need_more(data: st.DataObject, release: str) -> None:
    layout, shape = shape_of(data)
    kinds = {cache.kind for cache in shape.caches}
    # A state takes whole blocks of attention, whose number of tokens changes with both.
    if "state" in kinds:
        return
    changes = ({"kv_cache_dtype": "auto"}, {"kv_cache_dtype": "auto", "tensor_parallel": 2}, {"kv_cache_dtype": "fp8"})
    one, two, half = (
        capacity(shape, chosen_of(layout, shape, release, **{"tensor_parallel": 1, **change}), GIB).request_bytes
        for change in changes
    )
    assert two <= one
    assert half <= one


@given(data=st.data(), release=st.sampled_from(SETTINGS), kv_bytes=st.integers(0, 20 * GIB), length=LENGTHS)
def test_what_is_computed_once_is_that_of_every_length(
    data: st.DataObject, release: str, kv_bytes: int, length: int
) -> None:
    layout, shape = shape_of(data)
    chosen = chosen_of(layout, shape, release)
    given_bytes = [kv_bytes] * chosen.asked.pipeline_parallel
    found = holder(shape, chosen, H100)(given_bytes, length)
    assert found == capacity(shape, dataclasses.replace(chosen, max_model_len=length), kv_bytes, H100)


@given(data=st.data(), release=st.sampled_from(SETTINGS), kv_bytes=st.integers(1, 20 * GIB))
def test_the_longest_request_fits_and_a_longer_one_does_not(data: st.DataObject, release: str, kv_bytes: int) -> None:
    layout, shape = shape_of(data)
    chosen = chosen_of(layout, shape, release)
    found = capacity(shape, chosen, kv_bytes)
    if found.longest:
        # The estimate keeps other limits, among them the tokens in flight.
        assert capacity(shape, dataclasses.replace(chosen, max_model_len=found.longest), kv_bytes).fits
    if not found.fits and Version(release) >= Version("0.19.0"):
        longer = dataclasses.replace(chosen, max_model_len=found.longest + 1)
        assert not capacity(shape, longer, kv_bytes).fits
