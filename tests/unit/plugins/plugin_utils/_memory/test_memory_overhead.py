# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Libraries' memory inside and outside the budget, and the width of intervals."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory import spread
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.overhead import context, era, runtime
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, settings
from support.memory import A100, CPU, GB10, H100, L4, MI300X, T4, config, settled

DENSE = config()
EXPERTS = {
    **DENSE,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}


def both(release: str, device: Device, model: t.Mapping[str, t.Any], **engine: t.Any) -> tuple[Term, Term]:
    """(inside the budget, outside)."""
    shape, chosen = settled(release, device, model, **engine)
    return runtime(shape, chosen, device), context(shape, chosen, device)


@pytest.mark.parametrize(
    ("release", "device", "config", "engine", "inside", "outside"),
    [
        ("0.19.0", H100, DENSE, {}, 0.25, 0.51),
        ("0.19.0", H100, DENSE, {"tensor_parallel_size": 2}, 2.07, 1.53),
        ("0.19.0", H100, DENSE, {"tensor_parallel_size": 4}, 2.13, 1.55),
        ("0.19.0", H100, DENSE, {"pipeline_parallel_size": 2}, 0.07, 1.43),
        ("0.19.0", H100, EXPERTS, {"tensor_parallel_size": 2}, 2.07, 2.01),
        ("0.16.0", H100, DENSE, {}, 0.13, None),
        ("0.11.0", H100, DENSE, {"tensor_parallel_size": 2}, 0.55, None),
        ("0.10.2", L4, DENSE, {}, 0.02, None),
        ("0.8.5", T4, DENSE, {}, 0.03, None),
        ("0.8.2", T4, DENSE, {"tensor_parallel_size": 8}, 0.11, None),
        ("0.31.0", A100, DENSE, {}, 0.26, 0.41),
        ("0.6.4", A100, DENSE, {}, 1.79, None),
        ("0.9.0", MI300X, DENSE, {}, 0.59, None),
        ("0.27.1", GB10, DENSE, {}, 2.2, None),
    ],
)
def test_recorded_starts(
    release: str,
    device: Device,
    config: dict[str, t.Any],
    engine: dict[str, t.Any],
    inside: float,
    outside: float | None,
) -> None:
    found = both(release, device, config, **engine)
    for term, logged in zip(found, (inside, outside), strict=True):
        if logged is not None:
            assert term.low <= (logged + 0.005) * GIB
            assert (logged - 0.005) * GIB <= term.high


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("0.6.4", "all in use"),
        ("0.6.5", "V0"),
        ("0.8.5", "V1 all in use"),
        ("0.9.0", "V1 all in use"),
        ("0.9.1", "nccl inside"),
        ("0.10.2", "nccl inside"),
        ("0.11.0", "nccl outside"),
        ("0.17.1", "nccl outside"),
        ("0.18.0", "larger"),
        ("0.33.0", "larger"),
    ],
)
def test_eras(release: str, expected: str) -> None:
    assert era(settings(release, read_asked({}, {})[0], geometry(DENSE), H100)) == expected


@pytest.mark.parametrize(("before", "after"), [("0.6.4", "0.6.5"), ("0.9.0", "0.9.1")])
def test_what_is_all_taken_off_the_budget_is_not_outside_it(before: str, after: str) -> None:
    old, new = both(before, H100, DENSE), both(after, H100, DENSE)
    assert old[0].expected >= new[0].expected + 0.4 * GIB
    assert old[1].high == 0 < new[1].low


def test_nccl_moves_out_of_the_budget() -> None:
    engine = {"tensor_parallel_size": 2}
    old, new = both("0.10.2", A100, DENSE, **engine), both("0.11.0", A100, DENSE, **engine)
    assert old[0].expected > new[0].expected
    assert old[1].expected < new[1].expected


def test_the_host_has_its_own_figure() -> None:
    inside, outside = both("0.32.0", CPU, DENSE)
    assert (inside.low, inside.expected) < (outside.expected, GIB)
    assert outside.high < 2 * GIB


def test_what_experts_leave_is_counted_as_consumed() -> None:
    dense, experts = (both("0.32.0", H100, config)[0] for config in (DENSE, EXPERTS))
    # 8192 tokens x 2 experts x (14336 + 28672) values x 2 bytes.
    assert experts.expected - dense.expected == pytest.approx(1.3125 * GIB, rel=0.01)


@pytest.mark.parametrize(
    ("release", "device", "expected"),
    [
        ("0.19.0", H100, "calibrated"),
        ("0.16.0", H100, "nearby"),
        ("0.19.0", L4, "nearby"),
        ("0.20.0", H100, "far"),
        ("0.7.3", T4, "nearby"),
        ("0.6.6", T4, "far"),
        ("0.19.0", GB10, "far"),
        ("0.19.0", MI300X, "far"),
        ("0.19.0", Device("gpu", "a new GPU", 80 * GIB), "far"),
    ],
)
def test_basis(release: str, device: Device, expected: str) -> None:
    chosen = settings(release, read_asked({}, {})[0], geometry(DENSE), device)
    assert spread.basis(chosen, device) == expected


def test_an_interval_never_begins_below_nothing() -> None:
    with spread.replaced({"some": {"spread": {"far": {"any": [1.0, 2.0, 0.5]}}}}):
        assert spread.around("some", 4.0 * GIB, "dense", "far") == Term("some", GIB, 4 * GIB, 8 * GIB)
        assert spread.around("some", 1.0 * GIB, "dense", "far") == Term("some", 0, GIB, int(3.5 * GIB))
        assert spread.around("some", -5.0, "dense", "far") == Term("some", 0, 0, 2 * GIB)


def test_experts_in_four_bits_may_take_more_behind_the_capture() -> None:
    four_bits = {**EXPERTS, "quantization_config": {"quant_method": "mxfp4"}}
    plain, packed = (both("0.19.0", H100, config)[1] for config in (EXPERTS, four_bits))
    assert plain.expected == packed.expected
    # 1.6 GiB were left beside context and graphs, and were not enough.
    assert packed.high - packed.expected > 1.6 * GIB > plain.high - plain.expected


def test_other_constants_end_with_their_block() -> None:
    with spread.replaced({"x": 1}):
        assert spread.constants() == {"x": 1}
    assert "activation" in spread.constants()
