# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What another release changes, as text. Pure."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.table import table
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short

GIB = 2**30
# The most names of metrics and routes, and the most characters of a default, that are shown; the data has all.
_NAMES = 12
_VALUE = 40


def upgrade_text(found: t.Mapping[str, t.Any]) -> list[str]:
    """Lines of the whole report. found: what check_upgrade returned."""
    models = found["models"]
    failing = [one["name"] for one in models if one["breaks"] or one["already_broken"]]
    if failing:
        verdict = f"{len(failing)} of {len(models)} cannot start there as declared: {', '.join(failing)}"
    else:
        verdict = "every model can start there as declared"
    lines = [f"UPGRADE to vLLM {found['release']}: {verdict}"]
    lines += [f"note: {found['note']}"] if found["note"] else []
    for model in models:
        lines += ["", *_model(model, found["release"])]
    return lines


def _model(model: t.Mapping[str, t.Any], release: str) -> list[str]:
    lines = [f"{model['name']}: {model['current']} -> {release}"]
    lines += [f"  note: {model['note']}"] if model["note"] else []
    lines += _messages("breaks", model["breaks"])
    lines += _messages("is an error at the present release already", model["already_broken"])
    lines += _engine(model)
    lines += _messages("warnings that are new", model["deprecations"])
    lines += _changes(model["changed_defaults"])
    lines += [
        f"  image: {one['fact']} {_value(one['before'])} -> {_value(one['after'])}{_behind(one['means'])}"
        for one in model["image"]
    ]
    gone = [
        one["name"] + (f" (now {' and '.join(one['successors'])})" if one["successors"] else "")
        for one in model["metrics"]
    ]
    lines += _names("metrics that are gone", gone) + _names("routes that are gone", model["routes"])
    for one in model["memory"]:
        lines += _memory(one, model["current"], release)
    return lines if len(lines) > 1 else [*lines, "  nothing changes for it"]


def _messages(title: str, messages: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """The problems; what to write instead is part of each."""
    texts = [one["text"].removeprefix(f"{one['name']}: ") for one in messages]
    return [f"  {title}:", *(f"  - {text}" for text in texts)] if texts else []


def _engine(model: t.Mapping[str, t.Any]) -> list[str]:
    """The engine options to paste, where something is known to write instead of what fails."""
    if all(one["remedy"] is None for one in [*model["breaks"], *model["already_broken"]]):
        return []
    options = [f"      {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in model["engine"].items()]
    return ["  with all of that written in that is known:", "    engine:" if options else "    engine: {}", *options]


def _changes(changes: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    defaults = [one for one in changes if one["is_option"]]
    lines = []
    if defaults:
        rows = [
            [one["topic"], _value(one["before"]), _value(one["after"]), ", ".join(one["devices"]) or "everywhere"]
            for one in defaults
        ]
        lines = ["  defaults that change:"]
        lines += [f"    {line}" for line in table(["option", "before", "after", "on"], rows)]
    told = [one for one in changes if one["means"]]
    if told:
        lines.append("  what that means:")
    for one in told:
        lines.append(f"  - {one['topic']}: {one['means']} ({one['source']})")
        if one["keep"]:
            lines.append("    to have it as before: " + _yaml(one["keep"]))
    return lines


def _memory(one: t.Mapping[str, t.Any], current: str, release: str) -> list[str]:
    pair = (one["before"], one["after"])
    rows = [
        ["budget, GiB", *(f"{ledger['budget'] / GIB:.2f}" for ledger in pair)],
        ["KV cache, GiB", *(f"{ledger['kv']['expected'] / GIB:.2f}" for ledger in pair)],
        ["KV cache, tokens", *(f"{ledger['tokens']:,}" for ledger in pair)],
        ["requests of full length", *(f"{ledger['concurrency']:g}" for ledger in pair)],
        ["verdict", *(ledger["verdict"] for ledger in pair)],
    ]
    # The releases themselves are the heads; where both are one, the table still has two columns.
    lines = table(["memory", current, release], rows)
    return [f"  memory on {one['device']}:", *(f"    {line}" for line in lines)]


def _names(title: str, names: t.Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return [f"  {title}: {', '.join(names[:_NAMES])}{more}"]


def _value(value: t.Any) -> str:
    """A default as it is written in YAML."""
    return "(left open)" if value is None else short(json.dumps(value, ensure_ascii=False), _VALUE)


def _behind(words: str | None) -> str:
    return f", {words}" if words else ""


def _yaml(sections: t.Mapping[str, t.Any]) -> str:
    """One line of YAML for each section: JSON is YAML, and quotes what has to be quoted."""
    return "; ".join(f"{section}: {json.dumps(values, ensure_ascii=False)}" for section, values in sections.items())
