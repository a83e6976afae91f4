# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prints the `docker run` options, one a line, that give a container this machine's pip settings.

Each setting becomes a PIP_* variable of that one run, and each local file, folder or file:// index it names is mounted
read-only at its own path. So nothing of this machine is written in the repository or stays in an image.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

LEFT_OUT = {"cache-dir", "config-file", "user", "target", "prefix", "root", "src", "log", "require-virtualenv"}
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def settings() -> dict[str, str]:
    """pip's settings by option name; the environment wins over the files, as in pip itself."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.stdout.splitlines():
        key, _equals, value = line.partition("=")
        section, _dot, option = key.partition(".")
        if section in found and option not in LEFT_OUT:
            found[section][option] = str(ast.literal_eval(value))
    ca_bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    return {**({"cert": ca_bundle} if ca_bundle else {}), **found["global"], **found["install"], **found[":env:"]}


def main() -> None:
    """Print the options."""
    for name in PROXIES:
        if name in os.environ:
            print(f"--env={name}")
    for option, value in settings().items():
        words = value.split()
        print(f"--env=PIP_{option.upper().replace('-', '_')}={' '.join(words)}")
        for path in (Path(word.removeprefix("file://")) for word in words):
            if path.is_absolute() and path.exists():
                # An index's pages may link to files beside the index: pip follows them, so the parent is mounted too.
                mount = path.parent if path.name == "simple" else path
                print(f"--volume={mount}:{mount}:ro")


if __name__ == "__main__":
    main()
