# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of a spec: that its name means one build, and that it holds what the spec needs. Pure."""

from __future__ import annotations

import re
import typing as t

from packaging.version import Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release import catalogue
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Release
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.fields import show_gpus
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.model import ModelSpec
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.policy import Policy
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.problem import Problem

# A tag with one of these words is moved to another build whenever its maker likes.
_FLOATING = re.compile(r"(?:^|[-_.])(?:latest|nightly|main|master|dev|edge|stable|rolling|rc|canary)(?:$|[-_.])")
# A tag that is no more than the beginning of a version (v0, v0.33) moves with every patch release.
_SHORT_VERSION = re.compile(r"v?\d+(?:\.\d+)?")
_VERSION = re.compile(r"v?(?P<version>\d+(?:\.\d+){2,3}(?:\.post\d+|rc\d+)?)")


def tag_of(image: str) -> str | None:
    """The tag of an image's name ("latest" where none is written), or None when a digest names the build."""
    if "@" in image:
        return None
    _repository, colon, tag = image.rpartition("/")[2].partition(":")
    return tag if colon else "latest"


def version_of_tag(image: str) -> str | None:
    """The vLLM version that the tag claims, e.g. 0.33.0 of vllm/vllm-openai:v0.33.0-x86_64; None if it claims none."""
    match = _VERSION.match(image.partition("@")[0].rpartition("/")[2].partition(":")[2])
    if match is None:
        return None
    # Images of others have versions of their own, such as 3.2.2 or 2024.1.0.
    order, claimed = catalogue.releases(), Version(match["version"])
    is_vllm = claimed >= Version(order[0]) and claimed.major <= Version(order[-1]).major + 1
    return match["version"] if is_vllm else None


def check_tag(spec: ModelSpec, policy: Policy) -> list[Problem]:
    """A name that may mean another build tomorrow: what was checked would then not be what starts."""
    tag = tag_of(spec.image)
    if tag is None or policy.allow_floating_tags or not (_FLOATING.search(tag) or _SHORT_VERSION.fullmatch(tag)):
        return []
    return [
        Problem(
            spec.name,
            "image",
            f"its tag {tag} can mean another build at any time",
            "Write the tag of one release, such as v0.33.0, or a digest",
            spec.image,
        )
    ]


def check_image(spec: ModelSpec, image: t.Mapping[str, t.Any], policy: Policy) -> list[Problem]:
    """What is wrong with the image as a host has it. image: of image_info, found."""
    problems = []

    def add(field: str, reason: str, fix: str, value: str | None = None, warning: bool = False) -> None:
        problems.append(Problem(spec.name, field, reason, fix, value, warning))

    if image["stand_in"] and not policy.allow_stand_in:
        reason = "is the stand-in engine of the tests, which answers without any model"
        add("image", reason, "Use a vLLM image", spec.image)
    if not image["version"]:
        add("image", f"holds no vLLM: {image['reason']}", "Use a vLLM image", spec.image)
        return problems
    if not spec.entrypoint and not image["entrypoint"]:
        fix = 'Write entrypoint: ["vllm", "serve"] for a vLLM image'
        add("entrypoint", "is needed, for the image has none", fix)
    if is_for_cpu(image) and spec.placement.gpus is not None:
        reason = f"asks for GPUs, and the image {spec.image} holds vLLM's build for the CPU ({image['version']})"
        shown = show_gpus(spec.placement.gpus)
        add("placement.gpus", reason, "Leave it out, or use an image for GPUs", shown)
    claimed = version_of_tag(spec.image)
    if image["version_source"] == "tag":
        add("image", "its version is taken from its tag", "Check that the tag tells the truth", spec.image, True)
    elif claimed and claimed != str(image["version"]).partition("+")[0]:
        reason = f"its tag says {claimed}, and it holds vLLM {image['version']}, against which all is checked"
        add("image", reason, "Check where it comes from", spec.image, True)
    return problems


def check_catalogued(spec: ModelSpec, release: Release) -> list[Problem]:
    """A release that the catalogue does not know is checked against the nearest one, and that is said."""
    if release.exact:
        return []
    return [Problem(spec.name, "image", release.note, "Options are checked against it", spec.image, warning=True)]


def is_for_cpu(image: t.Mapping[str, t.Any]) -> bool:
    """Whether the image holds vLLM's build for the CPU, which says so in its version: 0.32.0+cpu."""
    return "cpu" in str(image["version"] or "").partition("+")[2].split(".")
