# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""placement.gpus: what it takes, which GPUs it gives, and what every refusal says."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.offer import Offer, read_offer
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._placement.place import Demand, place, selectable
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.fields import GpuSelector, show_gpus
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.load import load_specs
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import (
    GIB,
    card,
    host,
    mig_host,
    mig_uuid,
    spec,
)


def mixed(**changes: t.Any) -> Offer:
    """A host with a T4, two A10 and an H100; sizes as NVML reports them."""
    cards = (
        card(0, "Tesla T4", 15360 * 2**20, compute_capability="7.5"),
        card(1, "NVIDIA A10", 23028 * 2**20, compute_capability="8.6"),
        card(2, "NVIDIA A10", 23028 * 2**20, compute_capability="8.6"),
        card(3, "NVIDIA H100 80GB HBM3", 81559 * 2**20, compute_capability="9.0"),
    )
    return read_offer("mixed", host(*cards, **changes))


def selection(gpus: t.Any) -> t.Any:
    """What placement.gpus becomes."""
    specs, found = load_specs([spec(placement={"gpus": gpus})])
    assert found == []
    return specs[0].placement.gpus


def demand(server: str, gpus: t.Any, count: int = 1) -> Demand:
    """A server without any known memory that wants these GPUs."""
    chosen = selection(gpus)
    return Demand(
        server=server,
        model=server,
        hosts=None,
        gpus=tuple(chosen) if isinstance(chosen, list) else chosen,
        spread="host",
        port="auto",
        device="gpu",
        gpu_count=count,
        ledger=lambda offer, gpu: None,
        refusal=lambda offer: None,
        has_files=lambda offer: True,
    )


def indices(*demands: Demand, offer: Offer | None = None) -> dict[str, list[int | None]]:
    """The GPUs that each server gets."""
    assigned, unplaced = place(demands, [offer or mixed()])
    assert unplaced == []
    return {one.demand.server: [gpu.index for gpu in one.gpus] for one in assigned}


def refusal(*demands: Demand, offer: Offer | None = None) -> tuple[str, str, str]:
    """Field, reason and fix for the one server without a place."""
    _assigned, unplaced = place(demands, [offer or mixed()])
    assert len(unplaced) == 1
    (found,) = unplaced[0].refusals.values()
    return found.field, found.reason, found.fix


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ({"count": 2}, GpuSelector(count=2)),
        ({"count": "2", "name": " *H100* "}, GpuSelector(count=2, name="*H100*")),
        ('{"memory": "80GiB"}', GpuSelector(memory=80 * GIB)),
        ('"{\\"compute_capability\\": 9.0}"', GpuSelector(compute_capability=(9, 0))),
        ({"compute_capability": 9}, GpuSelector(compute_capability=(9, 0))),
        ({"compute_capability": "12.1"}, GpuSelector(compute_capability=(12, 1))),
        ({"count": None, "name": "*A10"}, GpuSelector(name="*A10")),
    ],
)
def test_a_mapping_selects_in_the_forms_that_inventories_bring(gpus: t.Any, expected: GpuSelector) -> None:
    assert selection(gpus) == expected


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        ({}, "selects nothing"),
        ("{}", "selects nothing"),
        ({"count": None}, "selects nothing"),
        ({"cuont": 2}, "cuont is unknown. Did you mean count?"),
        ({1: 2}, "1 is unknown. Known are compute_capability, count, memory, name"),
        ({"count": 0}, "count is no number of GPUs"),
        ({"count": True}, "count is no number of GPUs"),
        ({"count": 1.5}, "count is no number of GPUs"),
        ({"name": ""}, "name is no pattern of a name"),
        ({"name": ["*H100*"]}, "name is no pattern of a name"),
        ({"memory": "much"}, "memory is no size"),
        ({"compute_capability": "sm_90"}, "compute_capability is no compute capability"),
        ({"compute_capability": True}, "compute_capability is no compute capability"),
        ('{"count": 2', "begins as JSON and is none"),
    ],
)
def test_a_mapping_that_selects_nothing_is_refused(gpus: t.Any, reason: str) -> None:
    specs, found = load_specs([spec(placement={"gpus": gpus})])
    assert specs == []
    assert [problem.field for problem in found] == ["placement.gpus"]
    assert found[0].reason.startswith(reason)


@pytest.mark.parametrize(
    ("gpus", "shown"),
    [
        (None, None),
        ([0, "GPU-1"], "0, GPU-1"),
        (
            {"count": 2, "name": "*H100*", "memory": "80GiB", "compute_capability": 9.0},
            "count: 2, name: *H100*, memory: 80GiB, compute_capability: 9.0",
        ),
    ],
)
def test_a_selection_in_one_line(gpus: t.Any, shown: str | None) -> None:
    assert show_gpus(selection(gpus)) == shown


@pytest.mark.parametrize(
    ("gpus", "count", "expected"),
    [
        ({"count": 1}, 1, [0]),
        ({"name": "*a10*"}, 1, [1]),
        ({"name": "*A10*"}, 2, [1, 2]),
        ({"count": 2, "name": "*A10*"}, 2, [1, 2]),
        # The nominal size: an A10 of 24 GB reports 22.5 GiB and an H100 of 80 GB 79.6 GiB.
        ({"memory": "24GiB"}, 2, [1, 2]),
        ({"memory": "80GiB"}, 1, [3]),
        ({"compute_capability": 9.0}, 1, [3]),
        ({"compute_capability": 8.6}, 3, [1, 2, 3]),
        ({"compute_capability": 8.6, "memory": "40GiB"}, 1, [3]),
        ([3], 1, [3]),
    ],
)
def test_the_gpus_that_a_selection_gives(gpus: t.Any, count: int, expected: list[int]) -> None:
    assert indices(demand("a", gpus, count)) == {"a": expected}


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ([0, 2, 9], [0, 2]),
        (["GPU-00000003-0000-0000-0000-000000000000"], [3]),
        ({"count": 2}, [0, 1, 2, 3]),
        ({"compute_capability": 8.0}, [1, 2, 3]),
    ],
)
def test_the_gpus_that_a_selection_leaves_to_choose_from(gpus: t.Any, expected: list[int]) -> None:
    assert [gpu.index for gpu in selectable(mixed(), selection(gpus))] == expected


def test_what_is_placed_are_uuids() -> None:
    assigned, _unplaced = place([demand("a", {"name": "*H100*"})], [mixed()])
    assert [gpu.uuid for gpu in assigned[0].gpus] == ["GPU-00000003-0000-0000-0000-000000000000"]


def test_mig_devices_have_the_capability_of_their_card() -> None:
    offer = read_offer("mig", mig_host())
    assert [gpu.compute_capability for gpu in offer.gpus] == [None, None]
    inspection = mig_host()
    inspection["gpu"]["gpus"][0]["compute_capability"] = "8.0"
    offer = read_offer("mig", inspection)
    assert [gpu.compute_capability for gpu in offer.gpus] == [(8, 0), (8, 0)]
    assigned, _unplaced = place([demand("a", {"name": "*MIG 3g*", "compute_capability": 8.0})], [offer])
    assert [gpu.uuid for gpu in assigned[0].gpus] == [mig_uuid(0)]


def test_the_driver_of_a_host() -> None:
    inspection = host(card(0, "NVIDIA A10", 23028 * 2**20))
    assert read_offer("a", inspection).driver is None
    inspection["gpu"]["driver_version"] = "580.95.05"
    assert read_offer("a", inspection).driver == "580.95.05"


def test_each_gpu_says_why_it_is_not_taken() -> None:
    field, reason, fix = refusal(demand("a", {"name": "*A10*", "memory": "40GiB", "compute_capability": 8.0}))
    uuids = {index: f"GPU-{index:08d}-0000-0000-0000-000000000000" for index in range(4)}
    assert field == "placement.gpus"
    assert reason == (
        f"GPU 0 ({uuids[0]}): its name is Tesla T4 and its memory is 15.0 GiB and its compute capability is 7.5; "
        f"GPU 1 ({uuids[1]}): its memory is 22.5 GiB; "
        f"GPU 2 ({uuids[2]}): its memory is 22.5 GiB; "
        f"GPU 3 ({uuids[3]}): its name is NVIDIA H100 80GB HBM3"
    )
    assert fix == "Select others, or add a host"


def test_an_unknown_capability_is_not_taken() -> None:
    offer = read_offer("a", host(card(0, "NVIDIA A10", 23028 * 2**20)))
    _field, reason, _fix = refusal(demand("a", {"compute_capability": 8.0}), offer=offer)
    assert "its compute capability is unknown" in reason


def test_a_count_other_than_the_parallel_sizes_names_both() -> None:
    assert refusal(demand("a", {"count": 3}, count=2)) == (
        "placement.gpus",
        "asks for 3 and the parallel sizes need 2",
        "Leave count out, or set engine.tensor_parallel_size to 3",
    )


def test_two_servers_never_get_one_gpu() -> None:
    assert indices(demand("a", {"name": "*A10*"}), demand("b", {"name": "*A10*"})) == {"a": [1], "b": [2]}
    _field, reason, _fix = refusal(*(demand(name, {"name": "*H100*"}) for name in "ab"))
    assert "GPU 3 (GPU-00000003-0000-0000-0000-000000000000): it is taken by a" in reason


def test_named_gpus_come_before_selected_ones_and_these_before_any() -> None:
    assert indices(demand("a", None), demand("b", {"name": "*A10*"}), demand("c", [1])) == {
        "a": [0],
        "b": [2],
        "c": [1],
    }


@pytest.mark.parametrize("second", [[1], ["GPU-00000001-0000-0000-0000-000000000000"], '["1"]'])
def test_naming_the_gpu_of_another_server_is_refused(second: t.Any) -> None:
    field, reason, fix = refusal(demand("a", 1), demand("b", second))
    assert field == "placement.gpus"
    assert reason == "GPU 1 (GPU-00000001-0000-0000-0000-000000000000) is taken by a"
    assert fix == "Name other GPUs in one of the two models"
