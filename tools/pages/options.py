# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/options.md: every option of `vllm serve` in every catalogued release."""

from __future__ import annotations

import json
import typing as t

from pages.facts import life, states
from pages.markdown import code, codes, one_line, sentence, table, years

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.catalogue import Facts
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migrations_options import MIGRATIONS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.options import OWN_OPTIONS

HEAD = """# Options of the engine

What stands under `engine` of a model: {count} options of `vllm serve`, as the parsers of the {releases} releases from
{oldest} to {newest} have them; {present} of them are in {newest}. This page is made by `tools/reference.py` from
`plugins/plugin_utils/data/catalogue`, and the catalogue by running each release's own parser.

- Names are vLLM's own, in full and in snake_case.
- Booleans are `true` or `false`, without quotes; how a release spells them (`--no-x`, `--disable-x`) is not the user's
  concern. Where it has no word for `false`, the option is left out.
- JSON options are mappings. Lists are lists, also with one element.
- Types, choices and defaults are those of the newest release that has the option; a default in parentheses is an
  earlier one. A default of "none" means that the parser leaves the decision to the engine.
- What a given release says is shown by `make catalogue-show RELEASE=0.11.0`.

"""
# The most choices that are all shown, and how many of more are.
_CHOICES, _SHOWN = 8, 6
_TYPES = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "size": "whole number, also 16k (16000) or 16K (16384)",
    "size-or-auto": "whole number, also 16k (16000) or 16K (16384), or `auto`",
    "json": "JSON",
    "json-or-key=int": "mapping of names to whole numbers",
    "json-or-str": "JSON or text",
    "key=int": "mapping of names to whole numbers",
    "literal": "JSON",
    "comma-separated": "list",
    "text": "text",
}


def page() -> str:
    """The whole page."""
    every = sorted(catalogue.names("options"))
    present = [name for name in every if life("options", name).until is None]
    removed = [name for name in every if name not in present]
    order = catalogue.releases()
    head = HEAD.format(count=len(every), releases=len(order), oldest=order[0], newest=order[-1], present=len(present))
    now = table(("option", "takes", "default", "since", "notes"), map(_present, present))
    gone = table(("option", "releases", "took", "instead"), map(_removed, removed))
    return f"{head}## Options of {order[-1]}\n\n{now}\n## Options that are gone\n\n{gone}"


def takes(state: Facts) -> str:
    """What an option takes, in a few words."""
    if state.get("boolean"):
        return "`true`" if state["boolean"]["off"] is None else "`true`, `false`"
    choices = state.get("choices") or state.get("known")
    if choices:
        shown = codes(choices if len(choices) <= _CHOICES else choices[:_SHOWN])
        more = f" and {len(choices) - _SHOWN} more" if len(choices) > _CHOICES else ""
        what = f"{shown}{more}" + (", and others of plugins" if "known" in state else "")
    elif state.get("config"):
        what = f"mapping ({code(state['config'])})"
    else:
        what = _TYPES[state["type"]]
    if state.get("repeat") or state.get("nargs") not in (None, "?"):
        return f"list of {what}" if choices else f"list of {what}s"
    return f"{what}, or `true`" if state.get("nargs") == "?" else what


def default(state: Facts) -> str:
    """An option's default."""
    value = state.get("default")
    if value is None:
        return "none"
    return code(one_line(json.dumps(value) if not isinstance(value, str) else value or '""', 60))


def _present(name: str) -> tuple[str, ...]:
    past = states("options", name)
    notes = []
    if name in OWN_OPTIONS:
        notes.append(f"Not set here. {OWN_OPTIONS[name]}.")
    if text := past[-1].get("deprecated"):
        removal = past[-1].get("removal")
        notes.append(f"**Deprecated**{f', removal announced for {removal}' if removal else ''}: {one_line(text, 200)}")
    if past[-1].get("serve_only"):
        notes.append("Only `vllm serve` has it.")
    there = life("options", name)
    since = there.since if len(there.spans) == 1 else years(there)
    return code(name), takes(past[-1]), _defaults(past), since, " ".join(notes)


def _defaults(past: t.Sequence[Facts]) -> str:
    """The newest default, and the one before it with the last release that had it."""
    now = default(past[-1])
    before = next((state for state in reversed(past) if default(state) != now), None)
    return now if before is None else f"{now} ({default(before)} until {before['until']})"


def _removed(name: str) -> tuple[str, ...]:
    return code(name), years(life("options", name)), takes(states("options", name)[-1]), instead(name)


def instead(name: str) -> str:
    """What to do instead of an option that is gone, and why."""
    if name in OWN_OPTIONS:
        return f"{OWN_OPTIONS[name]}."
    migration = MIGRATIONS[name]
    return " ".join(map(sentence, filter(None, (migration.reason, migration.advice))))
