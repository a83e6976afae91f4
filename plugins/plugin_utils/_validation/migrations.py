# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to write for an option, or a value of one, that the release at hand does not have, older or newer. Pure.

One entry for each name that any catalogued release removed, renamed or deprecated, and for the new names that an older
release says otherwise. What an entry proposes is taken only if the release at hand has it, so one entry may serve many
releases: it lists its proposals with the newest spelling first.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Option, Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import check_value
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migration import (
    Case,
    Migration,
    Remedy,
    Replacement,
    as_mapping,
    class_fields,
    rank,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migrations_options import MIGRATIONS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migrations_values import CHANGED

# The configuration classes of JSON options whose parser does not name one.
_CLASSES = {"speculative_config": "SpeculativeConfig", "override_pooler_config": "PoolerConfig"}


def migrate(name: str, value: t.Any, engine: t.Mapping[str, t.Any], release: Release) -> Replacement | None:
    """What to write instead of an option in this release; None if nothing is known of the name. Never raises.

    name: in snake_case.
    engine: the section of the spec that the option stands in. What it says under the new name already is kept, and is
    part of the remedy where both share a JSON option.
    """
    migration = MIGRATIONS.get(name)
    if migration is None:
        return None
    return _answer(migration, name, value, engine, release, lambda remedy: name not in remedy.get("engine", {}))


def migrate_value(name: str, value: t.Any, engine: t.Mapping[str, t.Any], release: Release) -> Replacement | None:
    """What to write instead of a value that the option took once; None if this one is not known as such."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    for changed in CHANGED:
        if changed.option == name and re.fullmatch(changed.pattern, str(value)):
            if changed.until is not None and rank(release.version) <= rank(changed.until):
                return None
            return _answer(changed.migration, name, value, engine, release, lambda _remedy: True)
    return None


def _answer(
    migration: Migration,
    name: str,
    value: t.Any,
    engine: t.Mapping[str, t.Any],
    release: Release,
    is_answer: t.Callable[[Remedy], bool],
) -> Replacement:
    notes = [
        note.text
        for note in migration.notes
        if (note.since is None or rank(note.since) <= rank(release.version))
        and (note.until is None or rank(release.version) <= rank(note.until))
    ]
    others = {key: inner for key, inner in engine.items() if key != name}
    for proposal in migration.rewrite(Case(value, {**engine, name: value}, release)):
        remedy = _beside(proposal, others)
        if is_answer(remedy) and _accepted(remedy, release):
            return Replacement(migration.reason, ". ".join(notes), remedy)
    advice = migration.advice or "Leave it out; nothing says the same"
    return Replacement(migration.reason, ". ".join([advice, *notes]), None)


def _beside(proposal: Remedy, others: t.Mapping[str, t.Any]) -> Remedy:
    """The proposal without what the spec says already under the new name, whole where both share a JSON option."""
    engine = {}
    for option, value in proposal.get("engine", {}).items():
        present = others.get(option)
        if present is None:
            engine[option] = value
        elif isinstance(value, dict) and (inner := as_mapping(present)) is not None:
            engine[option] = {**value, **inner}
    sections = {"engine": engine, "env": proposal.get("env", {})}
    return {section: dict(values) for section, values in sections.items() if values}


def _accepted(remedy: Remedy, release: Release) -> bool:
    for name, value in remedy.get("engine", {}).items():
        option = release.options.get(name)
        if option is None or check_value(option, value) is not None or not _fits_class(option, value, release):
            return False
    for name, value in remedy.get("env", {}).items():
        if name not in release.environment or "dead" in release.facts("environment")[name]:
            return False
        if name == "VLLM_ATTENTION_BACKEND" and value not in release.facts("attention_backends"):
            return False
    return True


def _fits_class(option: Option, value: t.Any, release: Release) -> bool:
    """Whether the option's configuration class has the fields of a mapping."""
    config = option.config or _CLASSES.get(option.name)
    if config is None or not isinstance(value, dict) or not (fields := class_fields(config, release.version)):
        return True
    facts = release.facts("configs")
    for field, inner in value.items():
        choices = facts[f"{config}.{field}"].get("choices") if field in fields else ()
        if choices is not None and inner not in choices:
            return False
    return True
