# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print as JSON all that the catalogue knows of a vLLM release.

    PYTHONPATH=.build/collections python tools/catalogue/show.py --release 0.11.0

A release that is not catalogued shows the nearest one, and says so in "note". "env" are the variables that the release
knows, "env_dead" those of them that nothing reads. Every other section of the catalogue stands under its own name: a
list of names, or a mapping of names to facts where there are any.
"""

from __future__ import annotations

import argparse
import json
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Option, Release, load

# These are shown in a form of their own.
_OWN = ("releases", "options", "environment", "metrics")


def show(version: str) -> dict[str, t.Any]:
    """The facts of a release as one object."""
    release = load(version)
    environment, metrics = release.facts("environment"), release.facts("metrics")
    own = {
        "release": release.version,
        "requested": version,
        "exact": release.exact,
        "note": release.note,
        "source": _facts(release.facts("releases")[release.version]),
        "entrypoint": release.entrypoint,
        "positional_model": release.positional_model,
        "flags": {option.flag: _flag(option) for option in release.options.values()},
        "env": sorted(environment),
        "env_dead": sorted(name for name, facts in environment.items() if facts.get("dead")),
        "metrics": sorted(metrics),
        "metric_facts": {name: _facts(facts) for name, facts in metrics.items()},
    }
    sections = sorted(path.stem for path in catalogue.FOLDER.glob("*.json"))
    return {**own, **{section: _section(release, section) for section in sections if section not in _OWN}}


def _flag(option: Option) -> dict[str, t.Any]:
    boolean = None
    if option.on is not None:
        boolean = {"on": option.on, "off": option.off, "style": option.boolean_style}
    life = catalogue.life("options", option.name)
    return {
        "aliases": list(option.aliases),
        "boolean": boolean,
        "type": option.type,
        "nargs": option.nargs,
        "repeat": option.repeat,
        "choices": list(option.choices) if option.choices is not None else None,
        "known": list(option.known),
        "default": option.default,
        "config": option.config,
        "deprecated": option.deprecated,
        "removal": option.removal,
        "serve_only": option.serve_only,
        "since": life.since if life else None,
        "until": life.until if life else None,
    }


def _section(release: Release, section: str) -> dict[str, t.Any] | list[str]:
    found = {name: _facts(facts) for name, facts in release.facts(section).items()}
    return found if any(found.values()) else sorted(found)


def _facts(facts: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {name: value for name, value in facts.items() if name not in ("since", "until")}


def main() -> int:
    """Print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", required=True)
    print(json.dumps(show(parser.parse_args().release), indent=1, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
