# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes tests/sanity/ignore-*.txt: the controller's files that the sanity test `import` cannot import.

That test imports everything below plugins/ in an environment with no other library than Jinja2 and PyYAML. On a
controller pydantic is there (meta/ee-requirements.txt), and packaging too (ansible-core itself needs it). The files
that reach one of them when they are imported are found by following the imports, so that nothing else can hide behind
an ignore line.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

PLUGINS = "ansible_collections.gpufleet.vllm.plugins"
# ansible-core release -> the controller's Python versions that its ansible-test knows
PYTHONS = {
    "2.19": ("3.11", "3.12", "3.13"),
    "2.20": ("3.12", "3.13", "3.14"),
    "2.21": ("3.12", "3.13", "3.14"),
}
REASONS = {
    "packaging": "reaches packaging, which ansible-core brings",
    "pydantic": "reaches pydantic, see meta/ee-requirements.txt",
}


@functools.cache
def imported(path: Path) -> set[str]:
    """Dotted names that a file imports when it is imported itself: those at its top level."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def reached(path: Path, plugins: Path, seen: set[Path]) -> set[str]:
    """Which of the libraries in REASONS the import of this file leads to."""
    seen.add(path)
    found: set[str] = set()
    for name in imported(path):
        if name.split(".")[0] in REASONS:
            found.add(name.split(".")[0])
        elif name.startswith(PLUGINS + "."):
            # `from a.b import c` may name the file a/b/c.py, or c in the file a/b.py.
            base = plugins.joinpath(*name.removeprefix(PLUGINS + ".").split("."))
            for target in (base.with_suffix(".py"), base.parent.with_suffix(".py")):
                if target.is_file() and target not in seen:
                    found |= reached(target, plugins, seen)
    return found


def ignore_files(root: Path) -> dict[str, str]:
    """Name -> text of the ignore files that this collection needs."""
    files = sorted(path for path in (root / "plugins").rglob("*.py") if path.parts[-2] != "__pycache__")
    reasons = {
        path.relative_to(root).as_posix(): REASONS[max(libraries)]
        for path in files
        if (libraries := reached(path, root / "plugins", set()))
    }
    return {
        f"ignore-{core}.txt": "".join(
            f"{path} import-{python}!skip # {reason}\n" for path, reason in reasons.items() for python in pythons
        )
        for core, pythons in PYTHONS.items()
    }


if __name__ == "__main__":
    repository = Path(__file__).resolve().parent.parent
    for name, text in ignore_files(repository).items():
        (repository / "tests/sanity" / name).write_text(text, encoding="utf-8")
        print(f"tests/sanity/{name}: {text.count(chr(10))} lines")
