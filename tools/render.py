# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print as JSON what models become at a vLLM release: arguments, environment and messages.

    PYTHONPATH=.build/collections python tools/render.py --spec FILE --release 0.33.0

FILE is YAML: one model, a list of models, or a mapping with the list vllm_models. One model gives an object, several
give a list. A model needs no image here. Exit status: 0 without errors, 1 with errors, 2 when FILE cannot be read.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import typing as t

import yaml

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validator import as_messages, read_subjects, render_model


class Unreadable(Exception):
    """The file holds no models; the text says in one line why."""


def read(path: pathlib.Path) -> list[t.Any]:
    """The models that the file declares. Raises Unreadable."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path}: is no UTF-8 text") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # The place and the problem; YAML's own text has several lines and repeats the file's.
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise Unreadable(f"{path}{place}: is no YAML: {what}") from error
    if isinstance(found, dict) and "vllm_models" in found:
        found = found["vllm_models"]
    models = found if isinstance(found, list) else [found]
    if found is None or not all(isinstance(model, dict) for model in models):
        raise Unreadable(f"{path}: holds no model; write a mapping with name and model, or a list of them")
    return models


def render(models: t.Sequence[t.Any], version: str) -> list[dict[str, t.Any]]:
    """What each model becomes, in their order; those that are malformed have messages only."""
    release = load(version)
    with_image = [{"image": f"vllm/vllm-openai:v{release.version}", **model} for model in models]
    subjects, problems = read_subjects(with_image)
    results = [render_model(subject, release).as_data() for subject in subjects]
    malformed: dict[str, list[Problem]] = {}
    for problem in problems:
        malformed.setdefault(problem.where, []).append(problem)
    for name, found in malformed.items():
        nothing = {"release": release.version, "entrypoint": None, "argv": None, "env": None, "engine": {}}
        results.append({"name": name, **nothing, "messages": as_messages(found)})
    order = {
        str(model.get("name", f"vllm_models[{index}]")): index for index, model in reversed(list(enumerate(models)))
    }
    return sorted(results, key=lambda result: order.get(result["name"], len(models)))


def main() -> int:
    """Read, render, print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=pathlib.Path, required=True, metavar="FILE")
    parser.add_argument("--release", required=True)
    arguments = parser.parse_args()
    try:
        models = read(arguments.spec)
    except Unreadable as error:
        print(f"render.py: {error}", file=sys.stderr)
        return 2
    results = render(models, arguments.release)
    print(json.dumps(results[0] if len(results) == 1 else results, indent=2, ensure_ascii=False))
    failing = any(message["severity"] == "error" for result in results for message in result["messages"])
    return 1 if failing else 0


if __name__ == "__main__":
    raise SystemExit(main())
