# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refresh the catalogue of vLLM releases from vLLM's own packages.

    python3.11 tools/catalogue/extract.py --releases 0.32.0 0.33.0 --out plugins/plugin_utils/data

Archives come from the package index through pip; a release's own code builds the parser of `vllm serve`, and what
that parser has is merged into OUT/catalogue.json as soon as it is known. `--releases all` does every release from 0.6.0
on. Archives and sources stay in .build/catalogue and are used again.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WORK = HERE.parents[1] / ".build" / "catalogue"
PYTHON = WORK / "venv" / "bin" / "python"
OLDEST = (0, 6, 0)
# Of an archive only this is unpacked: the package, its metadata (vLLM asks for its own version) and the image's recipe.
WANTED = re.compile(r"[^/]+/(vllm/.*\.(py|json|txt|jinja)|vllm\.egg-info/.*|(docker/)?Dockerfile)")
PROBE_SECONDS = 300

Facts = dict[str, Any]


def prepare() -> None:
    """Make the virtual environment in which vLLM's code runs, or bring it to what requirements.txt asks for."""
    requirements = HERE / "requirements.txt"
    stamp = WORK / "venv" / hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists():
        return
    if sys.version_info[:2] != (3, 11):
        raise SystemExit("extract.py: run it with Python 3.11: the pinned requirements are for that version only")
    print("Setting up .build/catalogue/venv with PyTorch and transformers: about 2 minutes, 2 GB", flush=True)
    venv.create(WORK / "venv", with_pip=True, clear=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "-r", requirements], check=True)
    stamp.touch()


def fetch(versions: Iterable[str]) -> dict[str, str]:
    """Download the archives of the versions; the names of all archives on offer, by version."""
    archives = WORK / "archives"
    archives.mkdir(exist_ok=True)
    command = [PYTHON, HERE / "fetch.py", archives, *versions]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def unpack(archive: Path, version: str) -> Path:
    """The folder with the release's `vllm` package in it."""
    folder = WORK / "sources" / version
    if folder.exists():
        return folder
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(partial, [name for name in wheel.namelist() if not name.endswith(".so")])
        for metadata in partial.glob("*.dist-info"):
            shutil.rmtree(metadata)
        # vLLM asks for the version of a distribution named vllm, which the CPU wheel is not.
        (partial / f"vllm-{version}.dist-info").mkdir()
        (partial / f"vllm-{version}.dist-info" / "METADATA").write_text(f"Name: vllm\nVersion: {version}\n")
    else:
        with tarfile.open(archive) as sdist:
            for member in sdist:
                if member.isfile() and WANTED.fullmatch(member.name):
                    member.name = member.name.partition("/")[2]
                    sdist.extract(member, partial, filter="data")
    partial.rename(folder)
    return folder


def probe(folder: Path) -> Facts:
    """Run the release's own code in a process of its own and read the facts from its last line."""
    # Some releases (0.8.5) take one of two lists of choices out of a set, by chance: the same chance every time.
    fixed = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [PYTHON, HERE / "probe.py", folder]
    done = subprocess.run(command, env=fixed, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError("its parser could not be built:\n" + "\n".join(done.stderr.splitlines()[-4:]))
    return json.loads(done.stdout.splitlines()[-1])


def entrypoint(folder: Path) -> list[str] | None:
    """Entrypoint of the vllm-openai stage in the release's Dockerfile, through the stages that it is built on."""
    recipe = next((path for path in (folder / "docker" / "Dockerfile", folder / "Dockerfile") if path.exists()), None)
    if recipe is None:
        return None
    stages: dict[str, tuple[str, list[str] | None]] = {}
    name = ""
    for line in re.sub(r"\\\n", " ", recipe.read_text(encoding="utf-8")).splitlines():
        if start := re.match(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", line, re.I):
            name = start[2] or f"stage {len(stages)}"
            stages[name] = (start[1], None)
        elif given := re.match(r"ENTRYPOINT\s+(\[.*\])", line, re.I):
            stages[name] = (stages[name][0], json.loads(given[1]))
    stage = "vllm-openai"
    while stage in stages and stages[stage][1] is None:
        stage = stages[stage][0]
    return stages[stage][1] if stage in stages else None


def facts_of(version: str, archive: Path) -> Facts:
    """All catalogued facts of one release."""
    folder = unpack(archive, version)
    facts = probe(folder)
    facts["release"] = {
        "entrypoint": entrypoint(folder),
        "method": "executed",
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "source": archive.name,
    }
    return facts


def ordered(versions: Iterable[str]) -> list[str]:
    """Releases, the oldest first (a post release follows its release)."""
    return sorted(versions, key=lambda version: [int(part) for part in re.findall(r"\d+", version)])


def expand(catalogue: Facts) -> dict[str, Facts]:
    """The catalogue as one complete set of facts for each release."""
    order = list(catalogue["releases"])
    releases: dict[str, Facts] = {
        version: {"release": catalogue["releases"][version], "options": {}, "environment": []} for version in order
    }
    for section in ("options", "environment"):
        for name, spans in catalogue[section].items():
            for span in spans:
                facts = {key: value for key, value in span.items() if key not in ("since", "until")}
                first, last = order.index(span["since"]), order.index(span["until"] or order[-1])
                for version in order[first : last + 1]:
                    if section == "options":
                        releases[version]["options"][name] = facts
                    else:
                        releases[version]["environment"].append(name)
    return releases


def compress(releases: dict[str, Facts]) -> Facts:
    """Facts stored once, with the first and last release in which they hold (`until` null: in the newest, too)."""
    order = ordered(releases)

    def spans(section: str, name: str) -> list[Facts]:
        found: list[Facts] = []
        before = None
        for version in order:
            content = releases[version][section]
            facts = None if name not in content else {} if section == "environment" else content[name]
            if facts is None or facts != before:
                if found and before is not None:
                    found[-1]["until"] = order[order.index(version) - 1]
                if facts is not None:
                    found.append({"since": version, "until": None, **facts})
            before = facts
        return found

    def section(name: str) -> Facts:
        return {key: spans(name, key) for key in sorted({key for facts in releases.values() for key in facts[name]})}

    return {
        "releases": {version: releases[version]["release"] for version in order},
        "options": section("options"),
        "environment": section("environment"),
    }


def write(catalogue: Facts, path: Path) -> None:
    """JSON with one line for each release and each span, so that a refresh shows as few changed lines."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def lines(value: Any) -> str:
        if not isinstance(value, list):
            return line(value)
        return "[\n" + ",\n".join(f"   {line(span)}" for span in value) + "\n  ]"

    def entries(content: Facts) -> str:
        return ",\n".join(f"  {line(name)}: {lines(value)}" for name, value in content.items())

    text = ",\n".join(f' "{section}": {{\n{entries(content)}\n }}' for section, content in catalogue.items())
    partial = path.with_suffix(".partial")
    partial.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
    partial.replace(path)


def main() -> int:
    """Extract, merge, write; exit 1 if a release could not be done (the others are written)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", nargs="+", required=True, help="versions, or `all`")
    parser.add_argument("--out", type=Path, required=True, help="folder of catalogue.json")
    parser.add_argument("--jobs", type=int, default=2, help="releases at a time; each takes about 1.5 GiB")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    prepare()
    wanted = arguments.releases
    if wanted == ["all"]:
        # Post releases of the CPU wheels alone (0.9.2.post2) are no releases of vLLM.
        offered = fetch([]).items()
        own = [version for version, archive in offered if not (".post" in version and archive.endswith(".whl"))]
        wanted = [version for version in own if tuple(map(int, re.findall(r"\d+", version)[:3])) >= OLDEST]
    print(f"Fetching {len(wanted)} archives", flush=True)
    names = fetch(wanted)

    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "catalogue.json"
    releases = expand(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    failed = 0
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        work = {pool.submit(facts_of, version, WORK / "archives" / names[version]): version for version in wanted}
        for done, future in enumerate(concurrent.futures.as_completed(work), 1):
            version = work[future]
            at = f"[{done}/{len(wanted)} after {time.monotonic() - started:.0f} s] vLLM {version}"
            try:
                releases[version] = future.result()
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"{at}: left as it was: {error}", flush=True)
            else:
                write(compress(releases), path)
                facts = releases[version]
                print(f"{at}: {len(facts['options'])} options, {len(facts['environment'])} variables", flush=True)
    print(f"{path}: {len(releases)} releases, {path.stat().st_size / 1000:.0f} kB")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
