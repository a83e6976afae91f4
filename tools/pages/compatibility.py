# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/compatibility.md: what each release's image holds, and which names came and went."""

from __future__ import annotations

import json
import typing as t

from pages.facts import life, states
from pages.markdown import code, codes, details, one_line, table, years

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.catalogue import Facts, Life
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.consequences import BEHAVIOURS, OF_DEFAULT
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.upgrade import oldest_driver

HEAD = """# Compatibility

What the {count} releases of vLLM from {oldest} to {newest} hold, each by its own archive. This page is made by
`tools/reference.py` from `plugins/plugin_utils/data/catalogue`; the options themselves are in [options.md](options.md).
A release that is not in the catalogue is treated as the nearest one that is, with a warning.

"0.9.0 on" is: from 0.9.0 to {newest}. A compute capability is the least that the release's code asks for: 7.5 is Turing
(T4), 8.0 Ampere (A100), 8.6 its smaller kin (A10, RTX 3090), 8.9 Ada (L4, L40S), 9.0 Hopper (H100), 10.0 and 12.0
Blackwell.
"""
# Sections whose names have no facts that a table of their own would need.
_PLAIN = {
    "kv_cache_dtypes": ("KV cache types", "`kv_cache_dtype`"),
    "executor_backends": ("Executors", "`distributed_executor_backend`"),
    "structured_outputs_backends": ("Structured outputs", "backends of `structured_outputs_config`"),
    "speculative_methods": ("Speculative decoding", "`method` of `speculative_config`"),
    "tool_parsers": ("Tool call parsers", "`tool_call_parser`"),
    "reasoning_parsers": ("Reasoning parsers", "`reasoning_parser`"),
    "pooling_tasks": ("Pooling tasks", "the tasks of models that do not generate text"),
}
_TASKS = ("generate", "multimodal", "pooling", "speculative", "transformers")


def page() -> str:
    """The whole page."""
    order = catalogue.releases()
    parts = [
        HEAD.format(count=len(order), oldest=order[0], newest=order[-1]),
        f"## Releases and their CUDA images\n\n{_releases()}",
        f"## Other images\n\n{_variants()}",
        f"## What came and went\n\n{_changes()}",
        f"## Defaults that matter\n\n{_defaults()}",
        f"## Quantization\n\n{_gap('quantization')}{_capable('quantization')}",
        f"## Attention backends\n\n{_gap('attention_backends')}{_capable('attention_backends')}",
        *(
            f"## {title}\n\nNames of {where}, as far as the releases list them.\n\n{_gap(section)}{_lives(section)}"
            for section, (title, where) in _PLAIN.items()
        ),
        f"## Architectures\n\n{_architectures()}",
    ]
    return "\n".join(parts)


# --- releases -------------------------------------------------------------------------------------------------------


def runs() -> list[list[str]]:
    """The releases in order; those of one minor version with the same image, options and variables are one run."""
    found: list[list[str]] = []
    for version in catalogue.releases():
        if found and _minor(found[-1][-1]) == _minor(version) and _holds(found[-1][-1]) == _holds(version):
            found[-1].append(version)
        else:
            found.append([version])
    return found


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _holds(version: str) -> tuple[t.Any, ...]:
    return _image(version), set(catalogue.facts("options", version)), set(catalogue.facts("environment", version))


def _title(run: t.Sequence[str]) -> str:
    return run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}"


def _image(version: str) -> tuple[str, ...]:
    facts = catalogue.facts("images", version).get("cuda")
    if facts is None:
        return ("not in the archive", "", "", "", "")
    entrypoint = " ".join(facts["entrypoint"]).replace("python3 -m vllm.entrypoints.openai.api_server", "api_server")
    cuda = facts.get("cuda", "")
    driver = (cuda and oldest_driver(cuda)) or ""
    return code(entrypoint), cuda, driver, facts.get("user", ""), " ".join(facts.get("capabilities", ()))


def _releases() -> str:
    rows = [
        (
            _title(run),
            *_image(run[-1]),
            str(len(catalogue.facts("options", run[-1]))),
            str(len(catalogue.facts("environment", run[-1]))),
            str(len(catalogue.facts("architectures", run[-1]))),
        )
        for run in reversed(runs())
    ]
    head = ("release", "entrypoint", "CUDA", "driver", "user", "compiled for", "options", "variables", "architectures")
    return (
        "`vllm serve` takes the model as its first argument, `api_server` "
        "(`python3 -m vllm.entrypoints.openai.api_server`) as `--model`. Driver is the oldest one of Linux that the "
        "image's CUDA runs on without the compatibility libraries of data-centre GPUs.\n\n" + table(head, rows)
    )


def _variants() -> str:
    rows = [
        (variant, years(life("images", variant)), code(" ".join(facts["entrypoint"])), facts.get("user", ""))
        for variant in catalogue.names("images")
        if variant != "cuda"
        for facts in states("images", variant)[-1:]
        if "entrypoint" in facts
    ]
    note = "Variants for which the archives hold a recipe with an entrypoint; entrypoint and user are of the last one."
    return f"{note}\n\n{table(('variant', 'releases', 'entrypoint', 'user'), rows)}"


def _changes() -> str:
    text = (
        "Options and variables (`VLLM_*`) by the release that was the first to have them, or the first to lack them.\n"
    )
    order = runs()
    for before, after in reversed(list(zip(order, order[1:], strict=False))):
        lines = []
        counts = []
        for section, one in (("options", "option"), ("environment", "variable")):
            old, new = (set(catalogue.facts(section, run[-1])) for run in (before, after))
            old_deprecated, deprecated = (_deprecated(section, run[-1]) for run in (before, after))
            for word, names in (
                ("new", new - old),
                ("gone", old - new),
                ("deprecated", (deprecated - old_deprecated) & old),
            ):
                if names:
                    what = one if len(names) == 1 else f"{one}s"
                    counts.append(f"{len(names)} {word} {what}")
                    lines.append(f"- {word} {what}: {codes(sorted(names))}")
        if counts:
            text += "\n" + details(f"{after[0]}: {', '.join(counts)}", "\n".join(lines))
    return text


def _deprecated(section: str, version: str) -> set[str]:
    return {name for name, facts in catalogue.facts(section, version).items() if facts.get("deprecated")}


# --- names ----------------------------------------------------------------------------------------------------------


def _lives(section: str, names: t.Iterable[str] | None = None) -> str:
    """Names by the releases that have them; the longest-lived first."""
    groups: dict[str, list[str]] = {}
    found = sorted(names if names is not None else catalogue.names(section), key=str.lower)
    for name in sorted(found, key=lambda name: _rank(life(section, name))):
        groups.setdefault(years(life(section, name)), []).append(name)
    return table(("releases", "names"), [(releases, codes(names)) for releases, names in groups.items()])


def _rank(there: Life) -> tuple[bool, int, int]:
    order = catalogue.releases()
    return there.until is not None, order.index(there.since), -order.index(there.until or order[-1])


def _history(past: t.Sequence[Facts], show: t.Callable[[Facts], str]) -> str:
    """What a fact is now, and what it was before, by the last release of each value."""
    texts: list[tuple[str, str]] = []
    for state in past:
        if texts and texts[-1][0] == show(state):
            texts.pop()
        texts.append((show(state), state["until"] or ""))
    earlier = "; ".join(f"{text} until {until}" for text, until in reversed(texts[:-1]) if text)
    return texts[-1][0] + (f" ({earlier})" if earlier else "")


def _gap(section: str) -> str:
    """Which releases have names that could not be extracted; empty if there are none."""
    releases = {version: catalogue.facts("releases", version)[version] for version in catalogue.releases()}
    missing = [version for version, facts in releases.items() if section in facts.get("not_extracted", ())]
    return f"Nothing is known of {', '.join(missing)}.\n\n" if missing else ""


def _capable(section: str) -> str:
    """Names with their minimum compute capability."""

    def capability(state: Facts) -> str:
        least = state.get("min_capability")
        every = state.get("capabilities", [] if least is None else [least])
        return ", ".join(f"{one // 10}.{one % 10}" for one in every)

    rows = []
    for name in sorted(catalogue.names(section), key=lambda name: (life(section, name).until is not None, name)):
        past = states(section, name)
        marked = next((state for state in past if state.get("deprecated")), None)
        note = f"deprecated from {marked['since']} on" if marked else ""
        rows.append((code(name), _history(past, capability), years(life(section, name)), note))
    return table(("name", "compute capability", "releases", ""), rows)


def _architectures() -> str:
    newest = catalogue.releases()[-1]
    counts = [
        (_title(run), *(str(_count(run[-1], task)) for task in _TASKS))
        for run in reversed(runs())
        if run[-1] == newest or _count(run[-1], None) != _count(_after(run), None)
    ]
    every = catalogue.names("architectures")
    gone = [name for name in every if life("architectures", name).until is not None]
    here = [name for name in every if name not in gone]
    return (
        table(("release", *_TASKS), counts)
        + "\nDropped, with the releases that have them:\n\n"
        + _lives("architectures", gone)
        + "\n"
        + details(f"The {len(here)} architectures of {newest}", _lives("architectures", here))
    )


def _after(run: t.Sequence[str]) -> str:
    order = catalogue.releases()
    return order[order.index(run[-1]) + 1]


def _count(version: str, task: str | None) -> int:
    facts = catalogue.facts("architectures", version).values()
    return sum(task is None or one.get("task") == task for one in facts)


# --- defaults -------------------------------------------------------------------------------------------------------


def _defaults() -> str:
    rows = []
    for name, consequence in OF_DEFAULT.items():
        by_device = states("defaults", name)
        devices = list(by_device[-1]["by_device"]) if by_device else [""]
        groups: dict[str, list[str]] = {}
        for device in devices:
            groups.setdefault(_default_of(name, device), []).append(device)
        for number, (history, concerned) in enumerate(groups.items()):
            where = "" if len(groups) == 1 else ", ".join(concerned)
            title, words = (code(name), consequence.words) if number == 0 else ("", "")
            rows.append((title, where, history, words))
    order = catalogue.releases()
    newest_first = sorted(BEHAVIOURS, key=lambda one: order.index(one.since), reverse=True)
    behaviours = [(one.since, one.topic, one.words) for one in newest_first]
    return (
        table(("option", "device", "default", "which means"), rows)
        + "\nChanges that no option's default shows:\n\n"
        + table(("from", "what", "since then"), behaviours)
    )


def _default_of(name: str, device: str) -> str:
    """The default that the engine ends up with on a device, and those before it."""

    def value(state: Facts) -> str:
        found = state["by_device"].get(device) if "by_device" in state else state.get("default")
        return "none" if found in (None, "") else code(one_line(json.dumps(found), 40))

    return _history(states("defaults", name) or states("options", name), value)
