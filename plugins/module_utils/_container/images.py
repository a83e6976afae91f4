# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Facts of engine images, read from the images themselves."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import LABEL_PREFIX
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineRefused

LABEL_STAND_IN = LABEL_PREFIX + "stand-in"
# Prints the version of the installed distribution without importing vLLM, which takes ten seconds and fails without a
# GPU, and those of the distributions that change what vLLM can do: named ones, and all that register a plugin
# (vllm/plugins/__init__.py) which is not vLLM's own. One line of JSON, because warnings may come before it.
_PROGRAM = """
import importlib.metadata as m, json
version, packages = m.version("vllm"), {}
for d in m.distributions():
    try:
        name = d.metadata["Name"].lower().replace("_", "-").replace(".", "-")
        own = any(e.group in GROUPS and not e.value.startswith("vllm.") for e in d.entry_points)
        if own or name in NAMES:
            packages.setdefault(name, d.version)
    except Exception:  # a distribution whose metadata is broken tells nothing
        pass
print(json.dumps({"version": version, "packages": packages}))
"""
_NAMES = ("bitsandbytes", "flashinfer", "flashinfer-python", "ray", "vllm-bnb-plugin", "vllm-gguf-plugin")
_GROUPS = ("vllm.general_plugins", "vllm.platform_plugins")
_VERSION = re.compile(r"^v?\d+\.\d+\.\d+\S*$")
_TAG_VERSION = re.compile(r":v?(?P<version>\d+(?:\.\d+){2,3}(?:\.post\d+)?)")


def image_facts(engine: Engine, name: str) -> dict[str, t.Any]:
    """What the image holds; found is False with the reason when this host does not have it.

    version_source: package (asked of the image's Python), tag (the image's Python could not be asked; may be wrong) or
    None. packages: versions of the distributions beside vLLM that change what it can do, by name; None when the image's
    Python could not be asked. cuda_version: what NVIDIA's base images say of themselves; None in images without CUDA.
    """
    inspect = engine.inspect_image(name)
    if inspect is None:
        return {
            "image": name,
            "found": False,
            "reason": "the Docker Engine of this host does not have it",
            "stand_in": False,
            "version": None,
            "packages": None,
        }
    config = inspect.get("Config") or {}
    version, source, packages, reason = _ask(engine, name, inspect["Id"])
    return {
        "image": name,
        "found": True,
        "reason": reason,
        "id": inspect["Id"],
        "repo_digests": list(inspect.get("RepoDigests") or ()),
        "digest": _digest(name, inspect.get("RepoDigests") or ()),
        "version": version,
        "version_source": source,
        "packages": packages,
        "cuda_version": _variable(config, "CUDA_VERSION"),
        "entrypoint": list(config.get("Entrypoint") or ()),
        "cmd": list(config.get("Cmd") or ()),
        "user": config.get("User") or "",
        "architecture": inspect.get("Architecture"),
        "size_bytes": int(inspect.get("Size") or 0),
        "stand_in": (config.get("Labels") or {}).get(LABEL_STAND_IN) == "true",
    }


def _digest(name: str, known: t.Iterable[str]) -> str | None:
    """The digest under which the registry of this name knows the image; None when it did not come from there."""
    repository = name.partition("@")[0]
    # A colon behind the last slash begins a tag; before it, a port.
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    names = {repository, repository[len("docker.io/") :] if repository.startswith("docker.io/") else repository}
    found = [one.partition("@")[2] for one in known if one.partition("@")[0] in names]
    return found[0] if found else None


def _variable(config: dict[str, t.Any], name: str) -> str | None:
    """A variable of the image's environment."""
    found = [
        value for key, _equals, value in (str(one).partition("=") for one in config.get("Env") or ()) if key == name
    ]
    return found[-1] if found else None


def _ask(engine: Engine, name: str, image_id: str) -> tuple[str | None, str | None, dict[str, str] | None, str | None]:
    """(version, its source, packages, reason why these are not from the image's Python)."""
    program = f"NAMES, GROUPS = {_NAMES!r}, {_GROUPS!r}{_PROGRAM}"
    try:
        status, output = engine.run_once(image_id, ["python3", "-c", program])
    except EngineRefused as error:
        status, output = -1, str(error)
    answer = _answer(output) if status == 0 else None
    if answer is not None:
        return answer["version"].lstrip("v"), "package", answer["packages"], None
    reason = "python3 in the image did not find the distribution vllm: {}".format(
        " ".join(output.split())[-200:] or "no output"
    )
    tag = _TAG_VERSION.search(name)
    if tag and "No module" not in output and "PackageNotFoundError" not in output:
        return tag["version"], "tag", None, reason
    return None, None, None, reason


def _answer(output: str) -> dict[str, t.Any] | None:
    """What the program printed last, or None when that is not its answer."""
    try:
        answer = json.loads(output.strip().rpartition("\n")[2])
        return answer if _VERSION.match(answer["version"]) and isinstance(answer["packages"], dict) else None
    except (ValueError, TypeError, KeyError):
        return None
