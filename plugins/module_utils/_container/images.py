# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Facts of engine images, read from the images themselves."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.engine import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.spec import LABEL_PREFIX
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineRefused

LABEL_STAND_IN = LABEL_PREFIX + "stand-in"
# Prints the version of the installed distribution without importing vLLM, which takes ten seconds and fails without a
# GPU.
_VERSION_PROGRAM = "import importlib.metadata as m; print(m.version('vllm'))"
_VERSION = re.compile(r"^v?\d+\.\d+\.\d+\S*$")
_TAG_VERSION = re.compile(r":v?(?P<version>\d+\.\d+\.\d+(?:\.post\d+)?)")


def image_facts(engine: Engine, name: str) -> dict[str, t.Any]:
    """What the image holds; found is False with the reason when this host does not have it.

    version_source: package (asked of the image's Python), tag (the image's Python could not be asked; may be wrong) or
    None.
    """
    inspect = engine.inspect_image(name)
    if inspect is None:
        return {
            "image": name,
            "found": False,
            "reason": "the Docker Engine of this host does not have it",
            "stand_in": False,
            "version": None,
        }
    config = inspect.get("Config") or {}
    version, source, reason = _version(engine, name, inspect["Id"])
    return {
        "image": name,
        "found": True,
        "reason": reason,
        "id": inspect["Id"],
        "repo_digests": list(inspect.get("RepoDigests") or ()),
        "version": version,
        "version_source": source,
        "entrypoint": list(config.get("Entrypoint") or ()),
        "cmd": list(config.get("Cmd") or ()),
        "user": config.get("User") or "",
        "architecture": inspect.get("Architecture"),
        "size_bytes": int(inspect.get("Size") or 0),
        "stand_in": (config.get("Labels") or {}).get(LABEL_STAND_IN) == "true",
    }


def _version(engine: Engine, name: str, image_id: str) -> tuple[str | None, str | None, str | None]:
    """(version, its source, reason why it is not from the package)."""
    try:
        status, output = engine.run_once(image_id, ["python3", "-c", _VERSION_PROGRAM])
    except EngineRefused as error:
        status, output = -1, str(error)
    words = output.split()
    if status == 0 and words and _VERSION.match(words[-1]):
        return words[-1].lstrip("v"), "package", None
    reason = "python3 in the image did not find the distribution vllm: {}".format(
        words and " ".join(words)[-200:] or "no output"
    )
    tag = _TAG_VERSION.search(name)
    if tag and "No module" not in output and "PackageNotFoundError" not in output:
        return tag["version"], "tag", reason
    return None, None, reason
