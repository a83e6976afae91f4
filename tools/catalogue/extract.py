# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refresh the catalogue of vLLM releases from vLLM's own packages.

    python3.11 tools/catalogue/extract.py --releases new --out plugins/plugin_utils/data/catalogue

Archives come from the package index through pip. A release's own code is executed (probe.py) and its source is read
(source.py, images.py); the facts are merged into OUT, one file for each section, when all releases asked for are done.
`new` does every release on the index that OUT lacks, `all` every one from 0.6.0 on. Archives and sources stay in
.build/catalogue and are used again.
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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import images
import source

HERE = Path(__file__).resolve().parent
WORK = HERE.parents[1] / ".build" / "catalogue"
PYTHON = WORK / "venv" / "bin" / "python"
OLDEST = (0, 6, 0)
# Of an archive only this is unpacked: the package, its metadata (vLLM asks for its own version) and the image's recipe.
WANTED = re.compile(r"[^/]+/(vllm/.*\.(py|json|txt|jinja)|vllm\.egg-info/.*|(docker/)?Dockerfile(\.\w+)?)")
PROBE_SECONDS = 300
OTHERS = {"nccl"}  # sections that nccl.py makes
MARKED = "marked deprecated by the parser"  # probe.py's text for an option whose help says nothing

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


def offered() -> list[str]:
    """Every release on the index from OLDEST on; post releases of the CPU wheels alone (0.9.2.post2) are none."""
    own = [version for version, archive in fetch([]).items() if not (".post" in version and archive.endswith(".whl"))]
    return [version for version in own if tuple(map(int, re.findall(r"\d+", version)[:3])) >= OLDEST]


def unpack(archive: Path, version: str) -> Path:
    """The folder with the release's `vllm` package in it."""
    folder = WORK / "sources" / version
    stamp = f".{hashlib.sha256(WANTED.pattern.encode()).hexdigest()[:12]}"  # of what was unpacked
    if (folder / stamp).exists():
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
    (partial / stamp).touch()
    shutil.rmtree(folder, ignore_errors=True)
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


def facts_of(version: str, archive: Path) -> dict[str, Facts]:
    """All catalogued facts of one release, by section."""
    folder = unpack(archive, version)
    files = source.texts(folder / "vllm")
    facts = {
        "images": images.images(folder),
        "metrics": source.metrics(files),
        "routes": source.routes(files),
        "generation_defaults": source.generation_defaults(files),
    }
    how: Facts = {"method": "executed", "by_syntax_tree": ["generation_defaults", "metrics", "routes"]}
    try:
        executed = probe(folder)
    except RuntimeError as error:
        print(f"vLLM {version}: by syntax tree: {error}", flush=True)
        executed = {"options": source.options(files), "environment": source.environment(files)}
        how = {"method": "syntax tree"}
    if failed := executed.pop("failed", None):
        how["not_extracted"] = failed
    facts |= executed
    if not facts.get("structured_outputs_backends"):
        facts["structured_outputs_backends"] = source.structured_outputs_backends(files)
        how.setdefault("by_syntax_tree", []).append("structured_outputs_backends")
    read = source.read_variables(files)
    facts["environment"] = {name: {} if name in read else {"dead": True} for name in facts["environment"]}
    announce(facts["options"], source.deprecations(files, facts["options"]))
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    facts["releases"] = {version: {**how, "sha256": sha256, "source": archive.name}}
    return facts


def announce(options: Facts, announced: Mapping[str, str]) -> None:
    """Add what is announced elsewhere than in an option's help, and for which release the removal is announced."""
    for name, option in options.items():
        told, elsewhere = option.get("deprecated", MARKED), announced.get(name)
        if elsewhere and told == MARKED:
            option["deprecated"] = elsewhere
        if removal := source.removal(told) or source.removal(elsewhere or ""):
            option["removal"] = removal


def ordered(versions: Iterable[str]) -> list[str]:
    """Releases, the oldest first (a post release follows its release)."""
    return sorted(versions, key=lambda version: [int(part) for part in re.findall(r"\d+", version)])


def read(folder: Path) -> dict[str, dict[str, Facts]]:
    """The catalogue as one complete set of facts for each release: version, section, name."""
    if not (folder / "releases.json").exists():
        return {}
    paths = [path for path in folder.glob("*.json") if path.stem not in OTHERS]
    sections = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    order = list(sections["releases"])
    releases = {version: {section: {} for section in sections} for version in order}
    for version, facts in sections.pop("releases").items():
        releases[version]["releases"] = {version: facts}
    for section, names in sections.items():
        for name, spans in names.items():
            for span in spans:
                facts = {key: value for key, value in span.items() if key not in ("since", "until")}
                first, last = order.index(span["since"]), order.index(span["until"] or order[-1])
                for version in order[first : last + 1]:
                    releases[version][section][name] = facts
    return releases


def spans(states: list[tuple[str, Facts | None]]) -> list[Facts]:
    """Facts stored once, with the first and last release in which they hold (`until` null: in the newest, too)."""
    found: list[Facts] = []
    before, last = None, ""
    for version, facts in states:
        if facts != before:
            if before is not None:
                found[-1]["until"] = last
            if facts is not None:
                found.append({"since": version, "until": None, **dict(sorted(facts.items()))})
        before, last = facts, version
    return found


def write(releases: dict[str, dict[str, Facts]], folder: Path) -> None:
    """One file for each section, one line for each span, so that a refresh shows as few changed lines."""
    order = ordered(releases)
    every = {version: releases[version]["releases"][version] for version in order}
    # The list of releases first: whoever reads meanwhile finds every release that another section names.
    replace(folder / "releases.json", {version: json.dumps(facts) for version, facts in every.items()})
    for section in sorted({section for facts in releases.values() for section in facts} - {"releases"}):
        names = {name for facts in releases.values() for name in facts.get(section, ())}
        lines = {}
        for name in sorted(names):
            found = spans([(version, releases[version].get(section, {}).get(name)) for version in order])
            lines[name] = "[\n" + ",\n".join(f"  {json.dumps(span, ensure_ascii=False)}" for span in found) + "\n ]"
        replace(folder / f"{section}.json", lines)


def replace(path: Path, entries: dict[str, str]) -> None:
    """Write the entries of a section, at once."""
    text = ",\n".join(f" {json.dumps(name, ensure_ascii=False)}: {entry}" for name, entry in entries.items())
    partial = path.with_suffix(".partial")
    partial.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
    partial.replace(path)


def main() -> int:
    """Extract, merge, write; exit 1 if a release could not be done (the others are written)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", nargs="+", required=True, help="versions, `new` or `all`")
    parser.add_argument("--out", type=Path, required=True, help="folder of the catalogue")
    parser.add_argument("--jobs", type=int, default=2, help="releases at a time; each takes about 1.5 GiB")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    prepare()
    releases = read(arguments.out)
    wanted = arguments.releases
    if wanted in (["all"], ["new"]):
        wanted = [version for version in offered() if wanted == ["all"] or version not in releases]
    print(f"Fetching {len(wanted)} archives", flush=True)
    names = fetch(wanted)

    arguments.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        work = {pool.submit(facts_of, version, WORK / "archives" / names[version]): version for version in wanted}
        for done, future in enumerate(concurrent.futures.as_completed(work), 1):
            version = work[future]
            at = f"[{done}/{len(wanted)} after {time.monotonic() - started:.0f} s] vLLM {version}"
            try:
                releases[version] = future.result()
            except (OSError, SyntaxError, ValueError, LookupError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"{at}: left as it was: {type(error).__name__}: {error}", flush=True)
            else:
                facts = releases[version]
                counts = ", ".join(f"{len(content)} {section}" for section, content in sorted(facts.items()))
                print(f"{at}: {counts}; {facts['releases'][version].get('not_extracted', '')}", flush=True)
    write(releases, arguments.out)
    size = sum(path.stat().st_size for path in arguments.out.glob("*.json"))
    print(f"{arguments.out}: {len(releases)} releases, {size / 1000:.0f} kB")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
