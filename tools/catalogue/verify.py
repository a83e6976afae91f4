# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Round trip: what we render for every option of a release must be taken, and understood, by that release's own parser.

    python3.11 tools/catalogue/verify.py --releases 0.32.0 0.33.0

For each release, the commands that are rendered are parsed by `vllm serve` and by the module entrypoint, until
every option was given every sample of samples.py, and what the parser made of it is compared. Then the reverse: what
check_value refuses, the parser must refuse, and the other way round. Exit 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / ".build" / "catalogue"
CATALOGUE = ROOT / "plugins" / "plugin_utils" / "data" / "catalogue"
# One release of each kind of parser; the newest of the catalogue comes on top.
CI = ("0.6.6", "0.8.5", "0.10.2", "0.11.2", "0.17.1")
# Of one release; two at a time take a minute on an idle machine.
SECONDS = 900


def unpacked(versions: list[str]) -> None:
    """Bring the sources of the releases that are not there yet."""
    import extract

    extract.prepare()
    missing = [version for version in versions if not (WORK / "sources" / version).exists()]
    if missing:
        (WORK / "archives").mkdir(exist_ok=True)
        names = extract.fetch(missing)
        for version in missing:
            extract.unpack(WORK / "archives" / names[version], version)


def verify(version: str) -> tuple[str, dict[str, Any] | None, float, str]:
    """Verify a release in a process of its own: result (None: could not be done), seconds, errors."""
    environment = {**os.environ, "PYTHONPATH": str(WORK / "collections"), "PYTHONHASHSEED": "0"}
    command = [WORK / "venv" / "bin" / "python", HERE / "roundtrip.py", version, WORK / "sources" / version]
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=WORK
        )
    except subprocess.TimeoutExpired:
        return version, None, SECONDS, f"nothing after {SECONDS} s"
    result = None if done.returncode else json.loads(done.stdout.splitlines()[-1])
    return version, result, time.monotonic() - started, done.stderr[-1500:]


def main() -> int:
    """Verify the releases, print a line for each and every problem."""
    known = list(json.loads((CATALOGUE / "releases.json").read_text(encoding="utf-8")))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--releases", nargs="+", required=True, help=f"versions, all, or ci ({', '.join(CI)} and the newest)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="releases at a time; each takes about 1.5 GiB")
    arguments = parser.parse_args()
    versions = {("all",): known, ("ci",): [*CI, known[-1]]}.get(tuple(arguments.releases), arguments.releases)
    if unknown := set(versions) - set(known):
        parser.error(f"not in the catalogue: {', '.join(sorted(unknown))}")
    unpacked(versions)

    link = WORK / "collections" / "ansible_collections" / "gpufleet" / "vllm"
    link.parent.mkdir(parents=True, exist_ok=True)
    # The folder may have been made from another place, which may be gone.
    if not link.exists() or link.resolve() != ROOT:
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT)
    bad, skipped = 0, Counter()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for version, result, seconds, errors in pool.map(verify, versions):
            if result is None:
                bad += 1
                print(f"vLLM {version}: could not be verified:\n{errors}", flush=True)
                continue
            skipped.update(result["skipped"])
            problems = [f"{kind}: {problem}" for kind, found in result["problems"].items() for problem in found]
            bad += len(problems)
            print(
                f"vLLM {version}: {result['options']} options, {result['renderings']} renderings in "
                f"{result['commands']} commands, {result['texts']} texts;",
                *(f"{len(found)} {kind}," for kind, found in result["problems"].items()),
                f"{sum(result['skipped'].values())} skipped, {seconds:.0f} s",
                flush=True,
            )
            for problem in problems:
                print(f"  {problem}", flush=True)
    for why, times in sorted(skipped.items()):
        print(f"skipped {times} times: {why}")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
