# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What another release changes for a spec. Expected values are those of vLLM's own sources at the releases named."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.consequences import (
    BEHAVIOURS,
    METRIC_SUCCESSORS,
    OF_DEFAULT,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.upgrade import (
    A100,
    B200,
    CPU,
    GPUS,
    H100,
    SMALL,
    Change,
    Device,
    changed_behaviour,
    changed_defaults,
    device_of,
    differences,
    image_changes,
    oldest_driver,
    removed_metrics,
    removed_routes,
)
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import GIB, spec
from ansible_collections.gpufleet.vllm.tests.unit.plugins.plugin_utils.builders import H100 as H100_BYTES

CLASSES = [Device(kind, kind) for kind in GPUS]


def model(**changes: t.Any) -> ModelSpec:
    """A spec, with max_model_len as its only option."""
    return ModelSpec.model_validate(spec(**changes))


def defaults(before: str, after: str, *devices: Device, **engine: t.Any) -> dict[str, list[Change]]:
    """Changed defaults by option."""
    found: dict[str, list[Change]] = {}
    for change in changed_defaults(model(engine=engine), load(before), load(after), devices or CLASSES):
        found.setdefault(change.topic, []).append(change)
    return found


@pytest.mark.parametrize(
    ("before", "after", "option", "values"),
    [
        ("0.19.1", "0.20.0", "gpu_memory_utilization", (0.9, 0.92)),
        ("0.20.0", "0.19.1", "gpu_memory_utilization", (0.92, 0.9)),
        ("0.6.6", "0.33.0", "gpu_memory_utilization", (0.9, 0.92)),
        # None means in 0.7.3 what "vllm" means in 0.8.0.
        ("0.7.3", "0.8.0", "generation_config", ("vllm", "auto")),
        ("0.31.0", "0.32.0", "allowed_origins", (["*"], [])),
        ("0.10.1.1", "0.10.2", "prefix_caching_hash_algo", ("builtin", "sha256")),
    ],
)
def test_a_changed_default(before: str, after: str, option: str, values: tuple[t.Any, t.Any]) -> None:
    (change,) = defaults(before, after)[option]
    assert (change.before, change.after) == values
    assert change.is_option and change.devices == ()
    assert change.means and change.source


@pytest.mark.parametrize(
    ("before", "after", "option"),
    [
        ("0.20.0", "0.33.0", "gpu_memory_utilization"),
        ("0.8.0", "0.31.0", "allowed_origins"),
        ("0.33.0", "0.33.0", "max_num_seqs"),
        # None, [] and {} are one default: additional_config was None up to 0.8.5.post1, and {} from 0.9.0 on.
        ("0.8.5", "0.9.0", "additional_config"),
    ],
)
def test_a_default_that_stays(before: str, after: str, option: str) -> None:
    assert option not in defaults(before, after)


def test_what_the_spec_sets_is_no_default() -> None:
    assert "gpu_memory_utilization" not in defaults("0.19.1", "0.20.0", gpu_memory_utilization=0.8)


def test_the_former_value_can_be_kept_where_the_release_takes_it() -> None:
    assert defaults("0.19.1", "0.20.0")["gpu_memory_utilization"][0].keep == {"engine": {"gpu_memory_utilization": 0.9}}
    # builtin is no choice of 0.10.2 any more.
    assert defaults("0.10.1.1", "0.10.2")["prefix_caching_hash_algo"][0].keep is None
    assert defaults("0.7.3", "0.8.0")["generation_config"][0].keep == {"engine": {"generation_config": "vllm"}}


def test_more_of_a_gpu_is_said_in_gib() -> None:
    (change,) = defaults("0.19.1", "0.20.0", device_of("NVIDIA H100 80GB HBM3", H100_BYTES))["gpu_memory_utilization"]
    assert str(change.means).startswith("+1.58 GiB on NVIDIA H100 80GB HBM3: ")
    (change,) = defaults("0.20.0", "0.19.1", device_of("NVIDIA L4", 22 * GIB))["gpu_memory_utilization"]
    assert str(change.means).startswith("-0.44 GiB on NVIDIA L4: ")


def test_the_share_decides_nothing_beside_a_fixed_cache() -> None:
    (change,) = defaults("0.19.1", "0.20.0", kv_cache_memory_bytes=GIB)["gpu_memory_utilization"]
    assert change.means is None


@pytest.mark.parametrize(
    ("before", "after", "option", "values"),
    [
        ("0.9.2", "0.33.0", "async_scheduling", (False, None)),
        ("0.33.0", "0.9.2", "async_scheduling", (None, False)),
        ("0.6.0", "0.33.0", "generation_config", ("vllm", "auto")),
    ],
)
def test_what_a_release_does_that_has_no_such_option(
    before: str, after: str, option: str, values: tuple[t.Any, t.Any]
) -> None:
    (change,) = defaults(before, after)[option]
    assert (change.before, change.after) == values


def test_new_and_gone_options_are_no_changed_defaults() -> None:
    assert "structured_outputs_config" not in defaults("0.6.6", "0.33.0")
    assert "guided_decoding_backend" not in defaults("0.10.2", "0.33.0")


def test_words_stand_before_what_is_only_listed() -> None:
    changes = changed_defaults(model(), load("0.6.6"), load("0.33.0"), CLASSES)
    said = [change.means is not None for change in changes]
    assert said == sorted(said, reverse=True)
    assert True in said and False in said


# __post_init__ of EngineArgs in 0.7.3, _set_default_args_v1 of 0.8.0, get_batch_defaults of 0.33.0.
@pytest.mark.parametrize(
    ("before", "after", "option", "device", "values"),
    [
        ("0.7.3", "0.33.0", "max_num_seqs", H100, (256, 1024)),
        ("0.11.0", "0.33.0", "max_num_batched_tokens", B200, (8192, 16384)),
        ("0.11.0", "0.33.0", "max_num_batched_tokens", H100, None),
        ("0.11.0", "0.33.0", "max_num_seqs", SMALL, None),
        ("0.11.0", "0.33.0", "max_num_seqs", A100, None),
        ("0.7.3", "0.8.0", "enable_prefix_caching", SMALL, (False, True)),
        ("0.13.0", "0.14.0", "async_scheduling", SMALL, (False, None)),
    ],
)
def test_a_default_that_the_device_decides(
    before: str, after: str, option: str, device: str, values: tuple[t.Any, t.Any] | None
) -> None:
    found = defaults(before, after, Device(device, device)).get(option)
    assert ((found[0].before, found[0].after) if found else None) == values


def test_devices_with_the_same_change_stand_together() -> None:
    (change,) = defaults("0.27.1", "0.28.0")["max_num_batched_tokens"]
    assert (change.before, change.after, change.devices) == (8192, 16384, (B200,))


def test_the_devices_are_those_of_the_catalogue() -> None:
    named = {device for facts in load("0.33.0").facts("defaults").values() for device in facts.get("by_device", {})}
    assert named == {CPU, *GPUS}


@pytest.mark.parametrize(
    ("name", "gib", "kind"),
    [
        ("NVIDIA GeForce RTX 4090", 23.6, SMALL),
        ("NVIDIA A100-SXM4-40GB", 39.5, SMALL),
        ("NVIDIA A100-SXM4-80GB", 79.3, A100),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19.6, SMALL),
        ("NVIDIA H100 80GB HBM3", 79.2, H100),
        ("NVIDIA H200", 139.8, H100),
        ("NVIDIA B200", 178.4, B200),
    ],
)
def test_device_of(name: str, gib: float, kind: str) -> None:
    assert device_of(name, int(gib * GIB)).kind == kind


def behaviour(before: str, after: str, **changes: t.Any) -> dict[str, Change]:
    """Changed behaviour by topic."""
    found = changed_behaviour(model(**changes), load(before), load(after), CLASSES)
    return {change.topic: change for change in found}


@pytest.mark.parametrize("one", BEHAVIOURS, ids=lambda one: one.topic)
def test_a_changed_behaviour_shows_where_it_begins(one: t.Any) -> None:
    order = catalogue.releases()
    before = order[order.index(one.since) - 1]
    up, down = behaviour(before, one.since)[one.topic], behaviour(one.since, before)[one.topic]
    assert not up.is_option and one.words in str(up.means) and one.undone in str(down.means)
    assert down.keep is None
    assert one.topic not in behaviour(one.since, one.since)
    assert one.topic not in behaviour(order[0], before)


@pytest.mark.parametrize(("one", "section"), [(b, s) for b in BEHAVIOURS for s in ("engine", "env")])
def test_who_has_decided_himself_is_told_nothing(one: t.Any, section: str) -> None:
    for name in getattr(one, section):
        written = {section: {name: "1"}}
        assert one.topic not in behaviour("0.6.6", "0.33.0", **written)


def test_what_is_so_on_gpus_only_is_not_told_of_a_cpu() -> None:
    def topics(*devices: Device) -> set[str]:
        return {change.topic for change in changed_behaviour(model(), load("0.6.6"), load("0.33.0"), devices)}

    everywhere = {one.topic for one in BEHAVIOURS if not one.gpu}
    assert topics(Device(CPU, "the CPU")) == everywhere
    assert topics(Device(SMALL, SMALL)) == everywhere | {one.topic for one in BEHAVIOURS if one.gpu}


@pytest.mark.parametrize("one", [one for one in BEHAVIOURS if one.keep], ids=lambda one: one.topic)
def test_what_keeps_a_behaviour_exists_in_the_release(one: t.Any) -> None:
    release = load(one.since)
    assert behaviour("0.6.6", one.since)[one.topic].keep == one.keep
    assert set(one.keep.get("engine", {})) <= set(release.options)
    assert set(one.keep.get("env", {})) <= release.environment


def test_the_words_are_of_options_that_exist() -> None:
    known = set(catalogue.names("options"))
    assert set(OF_DEFAULT) <= known


def problem(field: str, warning: bool = False, reason: str = "is gone") -> Problem:
    return Problem("m", field, reason, "fix", warning=warning)


def test_differences() -> None:
    before = [
        problem("engine.a"),
        problem("engine.w", True, "is deprecated in 0.32.0"),
        problem("engine.soon", True),
        problem("image", True, "is an old one"),
    ]
    after = [
        problem("engine.a", reason="is something else"),
        problem("engine.b"),
        problem("engine.soon"),
        problem("engine.w", True, "is deprecated in 0.33.0"),
        problem("engine.new", True),
        problem("image", True, "needs a driver"),
    ]
    found = differences(before, after)
    assert [one.field for one in found.breaks] == ["engine.b", "engine.soon"]
    assert [one.field for one in found.already_broken] == ["engine.a"]
    assert [one.field for one in found.deprecations] == ["engine.new", "image"]


def test_image() -> None:
    found = {one["fact"]: one for one in image_changes(model(), load("0.11.0"), load("0.33.0"), "cuda")}
    assert found["entrypoint"]["after"] == ["vllm", "serve"]
    assert found["entrypoint"]["means"] == "the arguments are written for it"
    assert (found["cuda"]["before"], found["cuda"]["after"]) == ("12.8.1", "13.0.3")
    assert found["cuda"]["means"] == "which needs NVIDIA driver 580 or newer"
    assert "7.0" in found["capabilities"]["means"] and "8" not in found["capabilities"]["means"]


def test_the_image_of_a_model_with_its_own_entrypoint() -> None:
    own = model(entrypoint=["vllm", "serve"])
    found = {one["fact"]: one["means"] for one in image_changes(own, load("0.11.0"), load("0.11.1"), "cuda")}
    assert found["entrypoint"] == "but the model has its own"
    # CUDA 12.8 and 12.9 run with the same drivers.
    assert found["cuda"] is None


@pytest.mark.parametrize(
    ("cuda", "driver"), [("11.8.0", "450.80"), ("12.9.1", "525.60"), ("13.0.3", "580"), ("99.0", None)]
)
def test_drivers(cuda: str, driver: str | None) -> None:
    assert oldest_driver(cuda) == driver


def test_no_change_of_an_image_that_is_not_known() -> None:
    assert image_changes(model(), load("0.11.0"), load("0.33.0"), "cuda") != []
    assert image_changes(model(), load("0.11.0"), load("0.33.0"), "abacus") == []
    assert image_changes(model(), load("0.33.0"), load("0.33.0"), "cuda") == []


def test_metrics() -> None:
    found = {one["name"]: one["successors"] for one in removed_metrics(load("0.6.6"), load("0.33.0"))}
    assert found["vllm:gpu_cache_usage_perc"] == ["vllm:kv_cache_usage_perc"]
    assert found["vllm:gpu_prefix_cache_hit_rate"] == [
        "vllm:prefix_cache_hits_total",
        "vllm:prefix_cache_queries_total",
    ]
    assert found["vllm:num_requests_swapped"] == []
    assert "vllm:prompt_tokens_total" not in found
    assert removed_metrics(load("0.33.0"), load("0.33.0")) == []


@pytest.mark.parametrize(
    ("before", "after", "metric", "is_gone"),
    [
        # Hidden from 0.11.1 on, gone from 0.12.0 on: who upgrades then does not miss it any more.
        ("0.11.0", "0.11.1", "vllm:gpu_cache_usage_perc", True),
        ("0.11.1", "0.12.0", "vllm:gpu_cache_usage_perc", False),
        # Only V0 counts it, which is not the default any more from 0.8.0 on.
        ("0.7.3", "0.8.0", "vllm:num_requests_swapped", True),
        ("0.7.1", "0.7.3", "vllm:num_requests_swapped", False),
        # Only V1 counted it, which was not the default in 0.7.3.
        ("0.7.3", "0.12.0", "vllm:gpu_prefix_cache_hits_total", False),
        ("0.8.0", "0.12.0", "vllm:gpu_prefix_cache_hits_total", True),
    ],
)
def test_a_metric_counts_as_long_as_it_is_shown(before: str, after: str, metric: str, is_gone: bool) -> None:
    assert (metric in [one["name"] for one in removed_metrics(load(before), load(after))]) is is_gone


@pytest.mark.parametrize("name", METRIC_SUCCESSORS)
def test_a_metric_with_successors_is_gone_and_they_are_there(name: str) -> None:
    assert catalogue.life("metrics", name) is not None
    newest = load("0.33.0").facts("metrics")
    assert name not in newest and set(METRIC_SUCCESSORS[name]) <= set(newest)


def test_routes() -> None:
    there, back = load("0.6.6"), load("0.33.0")
    assert "/v1/models" not in removed_routes(there, back)
    assert removed_routes(back, there)
    assert removed_routes(back, back) == []
