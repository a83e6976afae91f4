# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Round trip: what we render for every option of a release must be taken, and understood, by that release's own parser.

    python3.11 tools/catalogue/verify.py --releases 0.32.0 0.33.0

For the releases that extract.py has unpacked. Exit 1 if anything was rejected or came back as another value.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WORK = HERE.parents[1] / ".build" / "catalogue"
NESTED = {"a": {"b": [1, "x y", None, True, -2.5]}}
# Options that want texts of a form of their own; None: `vllm serve` wants a real file, or the model as its argument.
FORMS = {"lora_modules": "name=/path", "prompt_adapters": "name=/path", "config": None, "model": None}


def samples(option: Any) -> list[tuple[Any, Any]]:
    """Representative values of an option, each with what the parser must make of it (Ellipsis: anything)."""
    if option.on is not None:
        return [(True, True), *([(False, False)] if option.off else [])]
    if option.name in FORMS:
        return [] if FORMS[option.name] is None else [([FORMS[option.name]], ...)]
    if option.choices is not None:
        pairs = [(choice, choice) for choice in option.choices]
    else:
        pairs = {
            "str": [("word", "word"), ("two words", "two words"), ("-x", "-x"), ("./a.b=c,d", "./a.b=c,d"), ("", "")],
            "int": [(7, 7), (0, 0), (-1, -1), ("12", 12)],
            "float": [(0.5, 0.5), (2, 2.0), (-1.5, -1.5)],
            "size": [(4096, 4096), ("4k", 4000), ("4K", 4096), ("1.5m", 1500000)],
            "size-or-auto": [(4096, 4096), ("4k", 4000), ("4K", 4096), ("auto", -1), (-1, -1)],
            "json": [({}, ...)] if option.config else [(NESTED, NESTED), ({}, {})],
            "json-or-str": [(NESTED, NESTED), ("word", "word")],
            "text": [],
            "comma-separated": [(["a", "b"], ["a", "b"]), ("a,b", ["a", "b"])],
            "key=int": [({"image": 2, "video": 1}, {"image": 2, "video": 1})],
        }[option.type]
    if option.kind == "list":
        count = option.nargs if isinstance(option.nargs, int) else 2
        fit = [(v, e) for v, e in pairs if not str(v).startswith("-") and v != ""]
        many = ([fit[i % len(fit)][0] for i in range(count)], [fit[i % len(fit)][1] for i in range(count)])
        return [many] if isinstance(option.nargs, int) else [many, *(([v], [e]) for v, e in pairs if v != "")]
    return pairs + ([(True, True)] if option.nargs == "?" else [])


def inside(version: str, source: Path) -> dict[str, Any]:
    """In the catalogue's environment: render, parse, compare."""
    import probe

    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.values import render_option

    root, serve = probe.load_parser(source)
    actions = serve._option_string_actions
    release = load(version)
    result: dict[str, Any] = {"options": len(release.options), "renderings": 0, "rejected": [], "mismatched": []}
    for option in release.options.values():
        for value, expected in samples(option):
            arguments = render_option(option, value)
            result["renderings"] += 1
            errors = io.StringIO()
            try:
                with contextlib.redirect_stderr(errors):
                    parsed = root.parse_args(["serve", "model", *arguments])
            except (Exception, SystemExit) as error:
                result["rejected"].append(f"{arguments}: {(errors.getvalue().splitlines() or [repr(error)])[-1]}")
                continue
            got = getattr(parsed, actions[option.flag].dest)
            inverted = isinstance(actions[option.flag], argparse._StoreFalseAction)
            if value == "" and got is None:
                continue  # many options take empty text for "not given"
            if expected is not ... and got != (not expected if inverted else expected):
                result["mismatched"].append(f"{arguments}: {got!r} instead of {expected!r}")
    return result


def main() -> int:
    """Verify each release in a process of its own."""
    if sys.argv[1] == "--inside":
        print(json.dumps(inside(sys.argv[2], Path(sys.argv[3]))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", nargs="+", required=True, help="versions that extract.py has done")
    versions = parser.parse_args().releases

    link = WORK / "collections" / "ansible_collections" / "gpufleet" / "vllm"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(HERE.parents[1])
    environment = {**os.environ, "PYTHONPATH": str(WORK / "collections"), "PYTHONHASHSEED": "0"}
    bad = 0
    for version in versions:
        command = [WORK / "venv" / "bin" / "python", __file__, "--inside", version, WORK / "sources" / version]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            bad += 1
            print(f"vLLM {version}: could not be verified:\n{done.stderr[-1500:]}", flush=True)
            continue
        result = json.loads(done.stdout.splitlines()[-1])
        rejected, mismatched = result["rejected"], result["mismatched"]
        bad += len(rejected) + len(mismatched)
        print(
            f"vLLM {version}: {result['options']} options, {result['renderings']} renderings, "
            f"{len(rejected)} rejected, {len(mismatched)} mismatched",
            *rejected,
            *mismatched,
            sep="\n  ",
            flush=True,
        )
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
