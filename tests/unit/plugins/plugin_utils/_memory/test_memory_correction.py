# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Terms corrected by earlier starts."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import GIB, read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.correction import (
    Corrected,
    Load,
    Terms,
    correct,
    measurement_key,
    read_earlier,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device, settings
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import H100, QWEN3_8B_CONFIG, weights

FOUND = weights(int(15.26 * GIB))


def key(engine: dict[str, t.Any] | None = None, **changes: t.Any) -> dict[str, t.Any]:
    """The key of Qwen3-8B with these engine options, as it comes back from the host."""
    parts = {"release": "0.32.0", "device": "NVIDIA H100", "total": H100, "env": {}, **changes}
    asked, faults = read_asked(engine or {}, parts["env"])
    assert faults == {}
    shape, device = geometry(QWEN3_8B_CONFIG), Device("gpu", parts["device"], parts["total"])
    found = parts.get("found", FOUND)
    made = measurement_key(found, shape, settings(parts["release"], asked, shape, device), device)
    return t.cast("dict[str, t.Any]", json.loads(json.dumps(made)))


def term(name: str, expected: float, error: float) -> Term:
    """A term in GiB."""
    return Term(name, int(max(0.0, expected - error) * GIB), int(expected * GIB), int((expected + error) * GIB))


def gpu(activation: float = 2.0) -> dict[str, Term]:
    """The estimate of a release that takes its own estimate of the graphs off the budget."""
    return {
        "weights": term("weights", 15.0, 0.2),
        "activation": term("activation", activation, 0.4),
        "runtime": term("runtime", 0.3, 0.2),
        "graphs": term("graphs", 1.0, 0.9),
        "graphs reserved": term("graphs reserved", 1.0, 0.9),
        "context": term("context", 0.5, 0.2),
    }


# What vLLM 0.32.0 tells at INFO level, in a budget of 79.19 * 0.92 = 72.86 GiB.
MEASURED: dict[str, t.Any] = {
    "weights_gib": 15.27,
    "activation_gib": 1.59,
    "non_torch_gib": 0.25,
    "consumed_gib": 15.52,
    "graphs_gib": 0.91,
    "graphs_estimate_gib": 0.85,
    "available_kv_gib": 54.9,
    "kv_tokens": 399792,
    "budget_gib": 72.86,
    "free_gib": 78.68,
    "total_gib": 79.19,
    "per_rank": {},
}


def start(engine: dict[str, t.Any] | None = None, **measured: t.Any) -> dict[str, t.Any]:
    """An earlier start with these engine options and figures."""
    return {"key": key(engine), "predicted": None, "measured": {**MEASURED, **measured}}


def corrected(*earlier: t.Any, engine: dict[str, t.Any] | None = None, terms: Terms | None = None) -> Corrected:
    """The estimate after these starts; with fewer requests the estimate of the activation is 1 GiB less."""

    def again(load: Load) -> Terms:
        return gpu(2.0 if load["max_num_seqs"] == 1024 else 1.0)

    return correct(terms or gpu(), read_earlier(earlier), key(engine), again)


def gib(found: Corrected, name: str) -> tuple[float, float, float]:
    """A corrected term in GiB."""
    one = found.terms[name]
    return round(one.low / GIB, 2), round(one.expected / GIB, 2), round(one.high / GIB, 2)


def test_without_starts_nothing_changes() -> None:
    assert corrected() == Corrected(gpu(), ())


def test_the_same_settings_take_what_they_took() -> None:
    found = corrected(start())
    assert {name: gib(found, name) for name in gpu()} == {
        "weights": (15.24, 15.27, 15.3),
        "activation": (1.56, 1.59, 1.62),
        "runtime": (0.2, 0.25, 0.3),
        "graphs": (0.88, 0.91, 0.94),
        "graphs reserved": (0.82, 0.85, 0.88),
        "context": (0.48, 0.51, 0.54),
    }
    assert found.notes == (
        "weights, activation, runtime, graphs, graphs reserved, context corrected by 1 earlier start with the same "
        "settings",
    )


def test_what_the_terms_leave_is_then_what_was_left() -> None:
    found = corrected(start())
    inside = ("weights", "activation", "runtime", "graphs reserved")
    assert 72.86 - sum(found.terms[name].expected for name in inside) / GIB == pytest.approx(54.9, abs=0.02)


def test_several_starts_count_by_their_middle_and_show_their_spread() -> None:
    found = corrected(start(weights_gib=15.2), start(weights_gib=15.3), start(weights_gib=15.4))
    assert gib(found, "weights") == (15.17, 15.3, 15.43)
    assert "by 3 earlier starts" in found.notes[0]


def test_other_settings_move_the_estimate() -> None:
    # With 256 requests the estimate was 1.0 and the truth 0.8: the estimate of 2.0 is moved by -0.2, its error halved.
    found = corrected(start({"max_num_seqs": 256}, activation_gib=0.8, available_kv_gib=55.69))
    assert gib(found, "activation") == (1.6, 1.8, 2.0)
    assert gib(found, "graphs") == (0.46, 0.91, 1.36)
    assert gib(found, "weights") == (15.24, 15.27, 15.3)
    assert gib(found, "runtime") == (0.15, 0.25, 0.35)
    assert found.notes[0].endswith("corrected by 1 earlier start with other settings")


def test_each_load_is_estimated_once() -> None:
    loads: list[Load] = []

    def again(load: Load) -> Terms:
        loads.append(load)
        return gpu()

    starts = [start({"max_num_seqs": requests}) for requests in (256, 128, 256, 256)]
    correct(gpu(), read_earlier(starts), key(), again)
    assert [load["max_num_seqs"] for load in loads] == [256, 128]


def test_the_same_settings_count_more_than_others() -> None:
    found = corrected(start({"max_num_seqs": 256}, weights_gib=14.0), start())
    assert gib(found, "weights") == (15.24, 15.27, 15.3)


OTHERS: list[tuple[str, dict[str, t.Any]]] = [
    ("another release", {"release": "0.31.0"}),
    ("another GPU", {"device": "NVIDIA H200"}),
    ("other weights", {"found": weights(int(8 * GIB))}),
    ("another split", {"engine": {"tensor_parallel_size": 2}}),
    ("a draft model", {"engine": {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}}}),
    ("other variables", {"env": {"VLLM_MLA_DISABLE": "1"}}),
    ("options that nothing is computed from", {"engine": {"enable_sleep_mode": True}}),
]


@pytest.mark.parametrize(("case", "changes"), OTHERS, ids=[case[0] for case in OTHERS])
def test_starts_of_something_else_say_nothing(case: str, changes: dict[str, t.Any]) -> None:
    changes = dict(changes)
    other = {**start(), "key": key(changes.pop("engine", None), **changes)}
    assert corrected(other) == Corrected(gpu(), ()), case


@pytest.mark.parametrize("name", ["VLLM_LOGGING_LEVEL", "HF_TOKEN", "https_proxy"])
def test_variables_that_the_estimate_does_not_read_make_no_difference(name: str) -> None:
    assert key(env={name: "DEBUG"}) == key()


def test_the_cpus_of_two_hosts_are_alike() -> None:
    shape = geometry(QWEN3_8B_CONFIG)
    devices = [Device("cpu", f"the CPU of {host}", 2**36) for host in ("a", "b")]
    asked, _faults = read_asked({}, {})
    first, second = (
        measurement_key(FOUND, shape, settings("0.32.0", asked, shape, device), device) for device in devices
    )
    assert first == second


@pytest.mark.parametrize("is_eager", [True, False])
def test_a_term_that_is_nothing_by_settings_stays_so(is_eager: bool) -> None:
    nothing = {name: Term(name, 0, 0, 0) for name in ("graphs", "graphs reserved")}
    eager, captured = {**gpu(), **nothing}, gpu()
    terms, then = (eager, captured) if is_eager else (captured, eager)
    measured = {"graphs_gib": 2.5} if is_eager else {"graphs_gib": 0.0, "graphs_estimate_gib": 0.0}
    earlier = read_earlier([start({"enforce_eager": not is_eager}, **measured)])
    found = correct(terms, earlier, key({"enforce_eager": is_eager}), lambda load: then)
    assert {name: found.terms[name] for name in nothing} == {name: terms[name] for name in nothing}
    assert gib(found, "weights")[1] == 15.27


# At INFO level 0.17 to 0.25 tell neither activation nor runtime.
UNTOLD = {"activation_gib": None, "non_torch_gib": None, "consumed_gib": None, "budget_gib": None}


def test_what_is_not_told_follows_from_the_sum() -> None:
    found = corrected(start(**UNTOLD))
    # Together 72.85 - 54.9 - 15.27 - 0.85 = 1.83, which is 0.47 less than estimated; the larger error takes more of it.
    together = found.terms["activation"].expected + found.terms["runtime"].expected
    assert together / GIB == pytest.approx(72.855 - 54.9 - 15.27 - 0.85, abs=0.01)
    assert gib(found, "activation")[1] == pytest.approx(2.0 - 0.466 * 2 / 3, abs=0.01)


@pytest.mark.parametrize(
    ("measured", "engine"),
    [
        ({"weights_gib": None}, {}),
        ({"available_kv_gib": None}, {}),
        ({}, {"kv_cache_memory_bytes": 2**34}),
    ],
)
def test_without_all_parts_of_the_sum_nothing_follows(measured: dict[str, t.Any], engine: dict[str, t.Any]) -> None:
    found = corrected(start(engine, **{**UNTOLD, **measured}), engine=engine)
    assert found.terms["activation"] == gpu()["activation"]
    assert found.terms["runtime"] == gpu()["runtime"]


def test_what_only_the_sum_tells_of_is_shared_by_error() -> None:
    # consumed 15.52 is weights and runtime; activation and graphs reserved together 72.86 - 54.9 - 15.52 = 2.44.
    found = corrected(start(activation_gib=None, non_torch_gib=None, weights_gib=None, graphs_estimate_gib=None))
    assert gib(found, "weights")[1] == 15.0
    assert gib(found, "runtime")[1] == 0.52
    # 0.56 less than estimated: 0.4 / 1.3 of it at the activation (2.0 +- 0.4), 0.9 / 1.3 at the graphs (0.1 to 1.9).
    assert gib(found, "activation")[1] == pytest.approx(2.0 - 0.56 * 0.8 / 2.6, abs=0.02)
    assert gib(found, "graphs reserved")[1] == pytest.approx(1.0 - 0.56 * 1.8 / 2.6, abs=0.02)


def test_graphs_that_gave_memory_back_are_left_out_alone() -> None:
    found = corrected(start(graphs_gib=-0.76))
    assert found.terms["graphs"] == gpu()["graphs"]
    assert gib(found, "weights")[1] == 15.27


def test_a_release_that_reserves_nothing_for_graphs() -> None:
    terms = {**gpu(), "graphs reserved": Term("graphs reserved", 0, 0, 0)}
    found = corrected(start(**UNTOLD, graphs_estimate_gib=None), terms=terms)
    together = found.terms["activation"].expected + found.terms["runtime"].expected
    assert together / GIB == pytest.approx(72.855 - 54.9 - 15.27, abs=0.01)


IMPOSSIBLE: list[tuple[dict[str, t.Any], str]] = [
    ({"weights_gib": 3.0}, "it tells of 3 GiB of weights, and the checkpoint has 15.00 for a GPU"),
    ({"weights_gib": 40.0}, "it tells of 40 GiB of weights"),
    ({"available_kv_gib": 70.0}, "it tells of 15.27 GiB of weights and 70 of KV cache in a budget of 72.86"),
    ({"total_gib": 39.4}, "it tells of a device of 39.4 GiB, and it is of one of 79.19"),
    ({"activation_gib": -3.0}, "it tells of less than no memory"),
]


@pytest.mark.parametrize(("measured", "reason"), IMPOSSIBLE)
def test_the_impossible_is_left_out_and_said(measured: dict[str, t.Any], reason: str) -> None:
    found = corrected(start(**measured))
    assert found.terms == gpu()
    assert len(found.notes) == 1
    assert found.notes[0].startswith(f"an earlier start was left out: {reason}")


def test_a_possible_start_beside_an_impossible_one_counts() -> None:
    found = corrected(start(weights_gib=3.0), start())
    assert gib(found, "weights") == (15.24, 15.27, 15.3)
    assert len(found.notes) == 2


def test_where_the_same_settings_tell_the_impossible_others_count() -> None:
    found = corrected(start(weights_gib=3.0), start({"max_num_seqs": 256}, weights_gib=15.1))
    assert gib(found, "weights")[1] == 15.1
    assert found.notes[0].endswith("with other settings")


def test_another_process_on_the_gpu_is_no_context() -> None:
    found = corrected(start(free_gib=60.0))
    assert found.terms["context"] == gpu()["context"]
    assert gib(found, "weights") == (15.24, 15.27, 15.3)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        1,
        [],
        {},
        {"key": 1},
        {"key": {"same": 1, "load": {}}, "measured": {}},
        {"key": key(), "measured": None},
        {"key": {**key(), "load": {**key()["load"], "max_num_seqs": "many"}}, "measured": MEASURED},
        {"key": {**key(), "load": {}}, "measured": MEASURED},
        {"key": {**key(), "load": {**key()["load"], "utilization": float("nan")}}, "measured": MEASURED},
        {"key": {**key(), "load": {**key()["load"], "utilization": 0}}, "measured": MEASURED},
        {"key": {**key(), "load": {**key()["load"], "max_num_seqs": 2.5}}, "measured": MEASURED},
        {"key": {**key(), "load": {**key()["load"], "max_num_seqs": -1}}, "measured": MEASURED},
        {"key": {**key(), "load": {**key()["load"], "device_bytes": 10**400}}, "measured": MEASURED},
    ],
)
def test_another_form_is_left_out(entry: t.Any) -> None:
    assert corrected(entry) == Corrected(gpu(), ())


@pytest.mark.parametrize("value", ["15.27", None, True, float("nan"), 10**400, [15.27]])
def test_figures_that_are_none_are_left_out(value: t.Any) -> None:
    found = corrected(start(weights_gib=value, consumed_gib=None))
    assert found.terms["weights"] == gpu()["weights"]


def test_of_a_pipeline_each_stage_has_its_own_figures() -> None:
    engine = {"pipeline_parallel_size": 2}
    ranks = {
        "Worker_PP0_TP0": {"weights_gib": 15.1},
        "Worker_PP0_TP1": {"weights_gib": 15.2},
        "Worker_PP1_TP0": {"weights_gib": 14.8, "activation_gib": 1.5},
    }
    earlier = read_earlier([start(engine, per_rank=ranks, weights_gib=15.2)])
    first = correct(gpu(), earlier, key(engine), lambda load: gpu(), stage=0)
    second = correct(gpu(), earlier, key(engine), lambda load: gpu(), stage=1)
    third = correct(gpu(), earlier, key(engine), lambda load: gpu(), stage=2)
    assert (gib(first, "weights")[1], gib(second, "weights")[1]) == (15.2, 14.8)
    assert first.terms["activation"] == gpu()["activation"]
    assert gib(second, "activation")[1] == 1.5
    assert third == Corrected(gpu(), ())


def test_the_cpu_build_tells_of_weights_and_runtime_in_one() -> None:
    terms = {"weights": term("weights", 0.1, 0.01), "runtime": term("runtime", 1.4, 0.6)}
    told = {name: None for name in MEASURED}
    earlier = start(**{**told, "consumed_gib": 0.53, "available_kv_gib": 1.3, "budget_gib": 1.83, "total_gib": 18.34})
    found = corrected(earlier, terms=terms)
    assert gib(found, "runtime") == (0.38, 0.43, 0.48)
    assert found.terms["weights"] == terms["weights"]


def test_what_else_was_taken_off_counts_as_runtime() -> None:
    # 0.3 less for the KV cache than the parts leave of the budget.
    found = corrected(start(available_kv_gib=54.6))
    assert gib(found, "runtime") == (0.5, 0.55, 0.6)


def test_an_error_does_not_grow() -> None:
    terms = {**gpu(), "weights": term("weights", 15.0, 0.01)}
    assert gib(corrected(start(), terms=terms), "weights") == (15.26, 15.27, 15.28)


def test_no_term_is_below_nothing() -> None:
    found = corrected(start(non_torch_gib=-0.02, graphs_gib=0.0))
    assert gib(found, "graphs") == (0.0, 0.0, 0.03)
    assert all(0 <= one.low <= one.expected <= one.high for one in found.terms.values())
