# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the recipes (Dockerfiles) in a release's archive say of its images; the images themselves are not pulled."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The recipe without a suffix is that of the CUDA image; suffixes with an underscore are bases and trials.
RECIPE = re.compile(r"Dockerfile(?:\.([a-z0-9]+))?")
TARGET = "vllm-openai"
# What the builder sets by itself.
BUILDER = {"TARGETARCH": "amd64", "TARGETPLATFORM": "linux/amd64"}


@dataclass
class Stage:
    """One FROM of a recipe and what it changes of the image it starts from."""

    base: str
    entrypoint: list[str] | None = None
    command: list[str] | None = None
    user: str | None = None
    arguments: dict[str, str] = field(default_factory=dict)


def images(folder: Path) -> dict[str, dict[str, Any]]:
    """Facts of each variant's image, by variant (cuda, cpu, rocm, ...)."""
    recipes = [*(folder / "docker").glob("Dockerfile*"), *folder.glob("Dockerfile*")]
    found = {}
    for recipe in recipes:
        if match := RECIPE.fullmatch(recipe.name):
            variant = match[1] or "cuda"
            facts = image(recipe.read_text(encoding="utf-8"), cuda=variant == "cuda")
            if "entrypoint" in facts or "command" in facts:
                found[variant] = facts
    return found


def image(recipe: str, cuda: bool) -> dict[str, Any]:
    """Facts of the vllm-openai stage, or the last one, through the stages that it is built on."""
    arguments, stages = parse(recipe)
    name = TARGET if TARGET in stages else list(stages)[-1]
    chain = []
    while name in stages:
        chain.append(stages[name])
        name = stages[name].base
    first = next((stage for stage in chain if stage.entrypoint), None)
    # A command of a stage below a new entrypoint is not inherited.
    own = chain if first is None else chain[: chain.index(first) + 1]
    command = next((stage.command for stage in own if stage.command), None)
    facts = {
        "entrypoint": first.entrypoint if first else None,
        "command": command,
        "base": None if "$" in name else name,
        "user": next((stage.user for stage in chain if stage.user), "root"),
    }
    if cuda:
        every = arguments | {key: value for stage in stages.values() for key, value in stage.arguments.items()}
        facts["cuda"] = every.get("CUDA_VERSION")
        facts["capabilities"] = every.get("torch_cuda_arch_list", "").split()
    return {key: value for key, value in facts.items() if value}


def parse(recipe: str) -> tuple[dict[str, str], dict[str, Stage]]:
    """The arguments above the first stage with their defaults, and the stages by name, in order."""
    arguments, stages = dict(BUILDER), {}
    stage: Stage | None = None
    for line in re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", recipe, flags=re.M)).splitlines():
        keyword, _blank, rest = line.strip().partition(" ")
        rest = rest.strip()
        if keyword.upper() == "FROM":
            words = [word for word in rest.split() if not word.startswith("--")]
            stage = Stage(substitute(words[0], arguments))
            stages[words[2] if len(words) > 2 else f"stage {len(stages)}"] = stage
        elif keyword == "ARG" and "=" in rest:
            name, _sign, value = rest.partition("=")
            scope = arguments if stage is None else stage.arguments
            scope[name] = substitute(value.strip("\"'"), arguments | (stage.arguments if stage else {}))
        elif stage and keyword == "ENTRYPOINT":
            stage.entrypoint = words_of(rest)
        elif stage and keyword == "CMD":
            stage.command = words_of(rest)
        elif stage and keyword == "USER":
            stage.user = rest
    return arguments, stages


def words_of(text: str) -> list[str]:
    """An entrypoint or command as a list; the form without brackets is run by a shell."""
    return json.loads(text) if text.startswith("[") else ["/bin/sh", "-c", text]


def substitute(text: str, arguments: dict[str, str]) -> str:
    """The text with ${NAME}, $NAME and ${NAME:-default} replaced; an argument without a value is left as it is."""

    def value(match: re.Match[str]) -> str:
        name, _sign, default = (match[1] or match[2]).partition(":-")
        return arguments.get(name) or default or match[0]

    return re.sub(r"\$(?:\{([^}]+)\}|(\w+))", value, text)
