# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What captured graphs take, and what vLLM sets aside for them."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.graphs import graphs, graphs_reserved
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device
from support.memory import A100, A100_40, H100, PRO6000, config, settled


def model(layers: int, experts: int = 0) -> dict[str, t.Any]:
    """A model of so many layers."""
    if not experts:
        return config(num_hidden_layers=layers)
    more = {"model_type": "mixtral", "num_local_experts": experts}
    return config("MixtralForCausalLM", num_hidden_layers=layers, **more)


def both(release: str, device: Device, shaped: t.Mapping[str, t.Any], **engine: t.Any) -> tuple[Term, Term]:
    """(what capture takes, what is set aside)."""
    shape, chosen = settled(release, device, shaped, **engine)
    return graphs(shape, chosen, device), graphs_reserved(shape, chosen, device)


@pytest.mark.parametrize(
    ("release", "device", "config", "engine", "logged"),
    [
        ("0.19.0", H100, model(32), {}, 0.91),
        ("0.19.0", H100, model(32), {"pipeline_parallel_size": 4}, 0.51),
        ("0.19.0", H100, model(32), {"tensor_parallel_size": 4}, 0.67),
        ("0.19.0", H100, model(80), {"tensor_parallel_size": 2}, 1.79),
        ("0.19.0", H100, model(48, 128), {}, 1.41),
        ("0.8.1", A100_40, model(28), {"max_num_seqs": 320}, 0.38),
        ("0.10.2", H100, model(32), {}, 0.67),
        ("0.31.0", A100, model(32), {}, 0.23),
    ],
)
def test_recorded_captures(
    release: str, device: Device, config: dict[str, t.Any], engine: dict[str, t.Any], logged: float
) -> None:
    captured, _set_aside = both(release, device, config, **engine)
    assert captured.expected / GIB == pytest.approx(logged, abs=0.25)
    assert captured.low <= logged * GIB <= captured.high


@pytest.mark.parametrize("release", ["0.8.5", "0.19.0", "0.32.0"])
def test_eager_takes_none(release: str) -> None:
    captured, set_aside = both(release, H100, model(32), enforce_eager=True)
    assert captured == Term("graphs", 0, 0, 0)
    assert set_aside == Term("graphs reserved", 0, 0, 0)


def test_nothing_is_set_aside_before_0_20_0() -> None:
    assert both("0.19.0", H100, model(32))[1].high == 0
    assert both("0.20.0", H100, model(32))[1].expected > 0


def test_fewer_sizes_take_less() -> None:
    sizes = [both("0.20.0", H100, model(32), max_num_seqs=count) for count in (1, 8, 64, 256)]
    for at in (0, 1):
        expected = [pair[at].expected for pair in sizes]
        assert expected == sorted(set(expected))


def test_the_estimate_is_known_less_well_than_the_capture() -> None:
    captured, set_aside = both("0.26.0", A100, model(32))
    assert set_aside.high - set_aside.low > captured.high - captured.low


def test_all_reduce_in_graphs_without_links() -> None:
    # 4.9 to 6.3 GiB were set aside on eight of these GPUs, and 1.2 to 2.4 taken.
    engine = {"tensor_parallel_size": 8, "max_num_seqs": 64}
    captured, set_aside = both("0.20.2", PRO6000, model(78, 256), **engine)
    assert captured.low < 1.23 * GIB < captured.high
    assert set_aside.low < 4.94 * GIB < set_aside.high
    linked = both("0.20.2", H100, model(78, 256), **engine)[1]
    assert linked.expected < set_aside.expected / 3


def test_adapters_are_captured_as_well() -> None:
    plain, with_adapters = (both("0.10.2", A100, model(36), enable_lora=lora)[0] for lora in (False, True))
    assert with_adapters.expected > 1.3 * plain.expected
