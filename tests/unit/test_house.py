# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The house is held up by these tests: who may import whom, how big a file may be, what stands beside what.

Each check is a function from the collection's root to a list of sentences, one for each thing that is wrong. Every
check runs twice: on this collection, where it must find nothing, and on a small bad sample, where it must find exactly
the fault.
"""

from __future__ import annotations

import ast
import functools
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = "ansible_collections.gpufleet.vllm.plugins"

# What the files of each folder of plugins/ may import from other folders of plugins/ (and from their own libraries).
MAY_IMPORT = {
    "modules": {"module_utils"},
    "module_utils": {"module_utils"},
    "plugin_utils": {"plugin_utils"},
    "action": {"plugin_utils"},
    "callback": {"plugin_utils"},
    "filter": {"plugin_utils"},
    "doc_fragments": set(),
}
# The rooms of plugin_utils from the hilltop down: each may import rooms that stand lower, never one of its own height.
HEIGHT = {
    "_report": 3,
    "_diagnosis": 3,
    "_render": 3,
    "_placement": 3,
    "_validation": 3,
    "_memory": 2,
    "_release": 1,
    "data": 0,
}
SPEC = "_spec"  # every room may use it, and it uses no other room

MODULE_LINES = 120
ACTION_LINES = 60
DOC_NAMES = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
# The one in C where it was built: the documentation is 100 kB.
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


# --- what the checks read -------------------------------------------------------------------------------------------


def files(root: Path, pattern: str) -> list[Path]:
    """The files below root that match the pattern, without byte code."""
    return sorted(path for path in root.glob(pattern) if path.is_file() and "__pycache__" not in path.parts)


@functools.cache
def imports(path: Path) -> tuple[tuple[int, str], ...]:
    """Line number and full dotted name of everything that a Python file imports, wherever in the file it does."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def within(name: str, package: str) -> bool:
    """Whether a dotted name is this package or something in it."""
    return name == package or name.startswith(package + ".")


def code_lines(source: str) -> int:
    """Lines that hold code: no blank lines, comments, docstrings or documentation constants."""
    docs: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        candidates = []
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False):
            candidates.append(body[0])
        if isinstance(node, ast.Module):
            candidates += [
                item
                for item in body
                if isinstance(item, ast.Assign) and {getattr(target, "id", "") for target in item.targets} & DOC_NAMES
            ]
        for item in candidates:
            docs.update(range(item.lineno, item.end_lineno + 1))
    idle = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in idle:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docs)


def load(path: Path) -> Any:
    """A YAML file as data."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def modules(root: Path) -> set[str]:
    """The names of the collection's modules."""
    return {path.stem for path in files(root, "plugins/modules/*.py") if path.stem != "__init__"}


def roles(root: Path) -> list[Path]:
    """The folders of the collection's roles."""
    return sorted(path for path in root.glob("roles/*") if path.is_dir())


# --- the checks -----------------------------------------------------------------------------------------------------


def check_folders(root: Path) -> list[str]:
    """Arrows between the folders of plugins/, and from the libraries to Ansible, other collections and pydantic."""
    found = []
    for path in files(root, "plugins/**/*.py"):
        place = path.relative_to(root / "plugins")
        folder = place.parts[0]
        if folder not in MAY_IMPORT:
            found.append(f"{place}: plugins/{folder} has no entry in MAY_IMPORT")
            continue
        for line, name in imports(path):
            where = f"{place}:{line}"
            if name.startswith("."):
                found.append(f"{where}: relative import {name}; write {PLUGINS}...")
            elif within(name, PLUGINS):
                target = name.removeprefix(PLUGINS).lstrip(".").split(".")[0]
                if target not in MAY_IMPORT[folder]:
                    found.append(f"{where}: {folder} must not import {target}")
            elif within(name, "ansible_collections"):
                found.append(f"{where}: imports another collection, {name}")
            elif folder == "plugin_utils" and within(name, "ansible"):
                found.append(f"{where}: plugin_utils must not import ansible")
            elif within(name, "pydantic") and place.parts[:2] != ("plugin_utils", SPEC):
                found.append(f"{where}: only plugin_utils/{SPEC} imports pydantic")
    return found


def check_rooms(root: Path) -> list[str]:
    """Arrows between the rooms of plugin_utils: downhill only, everybody may use _spec, _spec uses nobody."""
    found = []
    package = f"{PLUGINS}.plugin_utils"
    for path in files(root, "plugins/plugin_utils/*/**/*.py"):
        place = path.relative_to(root / "plugins/plugin_utils")
        room = place.parts[0]
        if room not in HEIGHT and room != SPEC:
            found.append(f"{place}: the room {room} has no entry in HEIGHT")
            continue
        for line, name in imports(path):
            if not within(name, package):
                continue
            target = name.removeprefix(package).lstrip(".").split(".")[0]
            if target == room or (target == SPEC and room != SPEC):
                continue
            if room == SPEC or target not in HEIGHT or HEIGHT[target] >= HEIGHT[room]:
                found.append(f"{place}:{line}: {room} must not import {target or 'plugin_utils itself'}")
    return found


def check_sizes(root: Path) -> list[str]:
    """Modules and action plugins stay small: the work is done in the libraries."""
    found = []
    for folder, limit in (("modules", MODULE_LINES), ("action", ACTION_LINES)):
        for path in files(root, f"plugins/{folder}/*.py"):
            count = code_lines(path.read_text(encoding="utf-8"))
            if count > limit:
                found.append(f"plugins/{folder}/{path.name}: {count} lines of code, {limit} at most")
    return found


def check_action_group(root: Path) -> list[str]:
    """One action group, `vllm`, with every module and nothing else."""
    groups = load(root / "meta/runtime.yml").get("action_groups", {})
    if list(groups) != ["vllm"]:
        return [f"meta/runtime.yml: action groups are {sorted(groups)}, there must be one, vllm"]
    listed, there = groups["vllm"], modules(root)
    return [
        *(f"meta/runtime.yml: action group vllm lacks {name}" for name in sorted(there - set(listed))),
        *(
            f"meta/runtime.yml: action group vllm names {name}, which is no module"
            for name in sorted(set(listed) - there)
        ),
        *([] if listed == sorted(set(listed)) else ["meta/runtime.yml: group vllm is not sorted, or names one twice"]),
    ]


def check_documentation(root: Path) -> list[str]:
    """The documentation of every module is YAML: without it ansible does not even know the module."""
    found = []
    for path in files(root, "plugins/modules/*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            name = node.targets[0].id if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) else ""
            if name in DOC_NAMES:
                try:
                    yaml.load(ast.literal_eval(node.value), Loader=YAML_LOADER)
                except yaml.YAMLError as error:
                    found.append(f"plugins/modules/{path.name}: {name} is no YAML: {error}")
    return found


def check_actions(root: Path) -> list[str]:
    """Every action plugin has the module of its name, which holds its documentation."""
    return [
        f"plugins/action/{path.name}: there is no plugins/modules/{path.name}"
        for path in files(root, "plugins/action/*.py")
        if path.stem != "__init__" and path.stem not in modules(root)
    ]


def check_role_files(root: Path) -> list[str]:
    """Every role has a README, argument specs and a molecule scenario of its name."""
    needed = (
        "roles/{role}/README.md",
        "roles/{role}/meta/argument_specs.yml",
        "extensions/molecule/{role}/molecule.yml",
    )
    return [
        f"role {role.name}: there is no {name.format(role=role.name)}"
        for role in roles(root)
        for name in needed
        if not (root / name.format(role=role.name)).is_file()
    ]


def check_role_defaults(root: Path) -> list[str]:
    """Defaults and argument specs name the same variables with the same values; required ones have no default."""
    found = []
    for role in roles(root):
        specs, defaults = role / "meta/argument_specs.yml", role / "defaults/main.yml"
        options: dict[str, Any] = {}
        for entry in (load(specs) if specs.is_file() else {}).get("argument_specs", {}).values():
            options.update(entry.get("options", {}))
        values = (load(defaults) if defaults.is_file() else None) or {}
        optional = {name for name, option in options.items() if not option.get("required")}
        where = f"role {role.name}"
        found += [f"{where}: {name} has a default but no argument spec" for name in sorted(set(values) - set(options))]
        found += [
            f"{where}: {name} is required and has a default" for name in sorted(set(values) & set(options) - optional)
        ]
        found += [
            f"{where}: {name} is optional and not in defaults/main.yml" for name in sorted(optional - set(values))
        ]
        found += [
            f"{where}: the default of {name} is {values[name]!r}, in its spec it is {options[name].get('default')!r}"
            for name in sorted(optional & set(values))
            if values[name] != options[name].get("default")
        ]
    return found


def check_headers(root: Path) -> list[str]:
    """Every Python and YAML file of plugins/, roles/ and playbooks/ says whose it is and under which licence."""
    found = []
    paths = [path for folder in ("plugins", "roles", "playbooks") for path in files(root, f"{folder}/**/*")]
    for path in paths:
        if path.suffix not in (".py", ".yml", ".yaml") or path.stat().st_size == 0:
            continue
        head = path.read_text(encoding="utf-8").splitlines()[:6]
        for line in (
            "# Copyright (c) 2026, the gpufleet.vllm contributors",
            "# SPDX-License-Identifier: GPL-3.0-or-later",
        ):
            if line not in head:
                found.append(f"{path.relative_to(root)}: its head lacks '{line}'")
    return found


def committed(root: Path) -> list[Path]:
    """What git tracks or would track; every file where there is no repository, as in a staged copy."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        return files(root, "**/*")
    return [root / name for name in sorted(set(listing.stdout.split("\0"))) if name and (root / name).is_file()]


def check_machine_paths(root: Path) -> list[str]:
    """No file names a path that exists only where it was written: this checkout, this interpreter, somebody's home."""
    places = [str(ROOT), str(Path.home() / ".pyenv")]
    if not sys.base_prefix.startswith("/usr"):
        places.append(sys.base_prefix)
    pattern = re.compile(
        "|".join([*(re.escape(place) + r"(?![\w-])" for place in places), r"/(?:home|Users)/[a-z][\w-]*/"])
    )
    found = []
    for path in committed(root):
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(root)}:{number}: names the path {match[0]}")
    return found


def check_sanity_ignores(root: Path) -> list[str]:
    """The sanity ignore files hold what tools/sanity_ignores.py derives from the imports, and not a line more."""
    ignore_files = runpy.run_path(str(ROOT / "tools/sanity_ignores.py"))["ignore_files"]
    return [
        f"tests/sanity/{name} is not what tools/sanity_ignores.py makes of plugins/: run 'make sanity-ignores'"
        for name, text in ignore_files(root).items()
        if (root / "tests/sanity" / name).read_text(encoding="utf-8") != text
    ]


def check_old_syntax(root: Path) -> list[str]:
    """Modules, what they import and the tests of both are Python 3.8: hosts run them, and so does ansible-test."""
    found = []
    for folder in ("plugins", "tests/unit/plugins"):
        for part in ("modules", "module_utils"):
            for path in files(root, f"{folder}/{part}/**/*.py"):
                try:
                    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
                except SyntaxError as error:
                    found.append(f"{path.relative_to(root)}:{error.lineno}: not Python 3.8: {error.msg}")
    return found


CHECKS = [
    check_folders,
    check_rooms,
    check_sizes,
    check_action_group,
    check_actions,
    check_documentation,
    check_role_files,
    check_role_defaults,
    check_headers,
    check_machine_paths,
    check_sanity_ignores,
    check_old_syntax,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_house(check: Callable[[Path], list[str]]) -> None:
    found = check(ROOT)
    assert not found, "\n".join(found)


# --- each check finds its fault -------------------------------------------------------------------------------------

HEAD = "# Copyright (c) 2026, the gpufleet.vllm contributors\n# SPDX-License-Identifier: GPL-3.0-or-later\n"
SPECS = "argument_specs: {{main: {{options: {{r_a: {{{}}}}}}}}}"
GROUP = "action_groups:\n  vllm:\n"

IGNORED = "".join(
    f"plugins/plugin_utils/{name}.py import-3.{minor}!skip # reaches pydantic, see meta/ee-requirements.txt\n"
    for name in ("_spec/b", "a")
    for minor in (12, 13, 14)
)


def importing(place: str, statement: str) -> dict[str, str]:
    """A sample with one plugin file that imports something."""
    return {f"plugins/{place}": f"def late():\n    {statement}\n"}


SAMPLES: list[tuple[Callable[[Path], list[str]], dict[str, str], str]] = [
    (
        check_folders,
        importing("plugin_utils/_memory/a.py", "import ansible.errors"),
        "plugin_utils must not import ansible",
    ),
    (
        check_folders,
        importing("plugin_utils/a.py", "from ansible import errors"),
        "plugin_utils must not import ansible",
    ),
    (
        check_folders,
        importing("plugin_utils/a.py", f"from {PLUGINS}.module_utils._gpu import nvml"),
        "plugin_utils must not import module_utils",
    ),
    (
        check_folders,
        importing("module_utils/_gpu/a.py", f"from {PLUGINS}.plugin_utils import _spec"),
        "module_utils must not import plugin_utils",
    ),
    (
        check_folders,
        importing("module_utils/a.py", f"from {PLUGINS} import plugin_utils"),
        "module_utils must not import plugin_utils",
    ),
    (
        check_folders,
        importing("module_utils/a.py", f"import {PLUGINS}.modules.gpu_facts"),
        "module_utils must not import modules",
    ),
    (check_folders, importing("modules/a.py", f"from {PLUGINS}.modules import b"), "modules must not import modules"),
    (
        check_folders,
        importing("action/a.py", f"from {PLUGINS}.module_utils import b"),
        "action must not import module_utils",
    ),
    (
        check_folders,
        importing("action/a.py", "from pydantic import BaseModel"),
        "only plugin_utils/_spec imports pydantic",
    ),
    (
        check_folders,
        importing("plugin_utils/_render/a.py", "import pydantic.types"),
        "only plugin_utils/_spec imports pydantic",
    ),
    (check_folders, importing("module_utils/a.py", "from ..plugin_utils import b"), "relative import ..plugin_utils.b"),
    (
        check_folders,
        importing("modules/a.py", "import ansible_collections.community.docker"),
        "imports another collection",
    ),
    (check_folders, importing("lookup/a.py", "import os"), "plugins/lookup has no entry in MAY_IMPORT"),
    (
        check_rooms,
        importing("plugin_utils/_memory/a.py", f"from {PLUGINS}.plugin_utils._render import b"),
        "_memory must not import _render",
    ),
    (
        check_rooms,
        importing("plugin_utils/_release/a.py", f"from {PLUGINS}.plugin_utils import _memory"),
        "_release must not import _memory",
    ),
    (
        check_rooms,
        importing("plugin_utils/_report/a.py", f"import {PLUGINS}.plugin_utils._placement.b"),
        "_report must not import _placement",
    ),
    (
        check_rooms,
        importing("plugin_utils/_spec/a.py", f"from {PLUGINS}.plugin_utils._release import b"),
        "_spec must not import _release",
    ),
    (check_rooms, importing("plugin_utils/_attic/a.py", "import os"), "the room _attic has no entry in HEIGHT"),
    (check_sizes, {"plugins/modules/a.py": "x = 1\n" * (MODULE_LINES + 1)}, "121 lines of code, 120 at most"),
    (check_sizes, {"plugins/action/a.py": "x = 1\n" * (ACTION_LINES + 1)}, "61 lines of code, 60 at most"),
    (check_action_group, {"meta/runtime.yml": "{}"}, "action groups are []"),
    (
        check_action_group,
        {"meta/runtime.yml": GROUP + "    - a\n", "plugins/modules/a.py": "", "plugins/modules/b.py": ""},
        "lacks b",
    ),
    (
        check_action_group,
        {"meta/runtime.yml": GROUP + "    - a\n    - b\n", "plugins/modules/a.py": ""},
        "names b, which is no module",
    ),
    (
        check_action_group,
        {"meta/runtime.yml": GROUP + "    - b\n    - a\n", "plugins/modules/a.py": "", "plugins/modules/b.py": ""},
        "is not sorted",
    ),
    (check_actions, {"plugins/action/a.py": "", "plugins/modules/b.py": ""}, "there is no plugins/modules/a.py"),
    (
        check_role_files,
        {"roles/r/README.md": "", "roles/r/meta/argument_specs.yml": ""},
        "there is no extensions/molecule/r/molecule.yml",
    ),
    (
        check_role_files,
        {"roles/r/meta/argument_specs.yml": "", "extensions/molecule/r/molecule.yml": ""},
        "there is no roles/r/README.md",
    ),
    (check_role_defaults, {"roles/r/defaults/main.yml": "r_a: 1\n"}, "r_a has a default but no argument spec"),
    (
        check_role_defaults,
        {"roles/r/meta/argument_specs.yml": SPECS.format("type: int")},
        "r_a is optional and not in defaults/main.yml",
    ),
    (
        check_role_defaults,
        {
            "roles/r/defaults/main.yml": "r_a: 1\n",
            "roles/r/meta/argument_specs.yml": SPECS.format("required: true"),
        },
        "r_a is required and has a default",
    ),
    (
        check_role_defaults,
        {
            "roles/r/defaults/main.yml": "r_a: 1\n",
            "roles/r/meta/argument_specs.yml": SPECS.format("default: 2"),
        },
        "the default of r_a is 1, in its spec it is 2",
    ),
    (
        check_documentation,
        {"plugins/modules/a.py": 'DOCUMENTATION = r"""\na: such as {b: 1}; c: 2\n"""\n'},
        "a.py: DOCUMENTATION is no YAML",
    ),
    (
        check_headers,
        {"plugins/modules/a.py": HEAD.splitlines()[0]},
        "its head lacks '# SPDX-License-Identifier: GPL-3.0-or-later'",
    ),
    (check_headers, {"roles/r/tasks/main.yml": HEAD.splitlines()[1]}, "its head lacks '# Copyright"),
    (check_machine_paths, {"docs/a.md": f"cd {ROOT}/docs\n"}, "docs/a.md:1: names the path"),
    (
        check_sanity_ignores,
        {
            "plugins/plugin_utils/_spec/b.py": "import pydantic\n",
            "plugins/plugin_utils/a.py": f"from {PLUGINS}.plugin_utils._spec.b import C\n",
            "tests/sanity/ignore-2.19.txt": "",
            "tests/sanity/ignore-2.20.txt": IGNORED,
            "tests/sanity/ignore-2.21.txt": IGNORED,
        },
        "ignore-2.19.txt is not what",
    ),
    (
        check_old_syntax,
        {"tests/unit/plugins/module_utils/test_a.py": "match a:\n    case 1:\n        pass\n"},
        "not Python 3.8: ",
    ),
    (check_machine_paths, {"tools/a.sh": "\nls /ho" + "me/someone/x\n"}, "tools/a.sh:2: names the path"),
]


@pytest.mark.parametrize(("check", "sample", "fault"), SAMPLES, ids=[f"{s[0].__name__}-{s[2]}" for s in SAMPLES])
def test_check_finds_its_fault(
    check: Callable[[Path], list[str]], sample: dict[str, str], fault: str, tmp_path: Path
) -> None:
    for name, text in sample.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = check(tmp_path)
    assert len(found) == 1
    assert fault in found[0]


def test_every_check_is_shown_to_fail() -> None:
    assert {sample[0] for sample in SAMPLES} == set(CHECKS)


def test_code_lines_counts_code_only() -> None:
    source = (
        '"""Doc."""\n# comment\n\nDOCUMENTATION = r"""\na: 1\n"""\n\nx = """a\nb"""\n\n\n'
        'def f():\n    """Doc."""\n    return (\n        x\n    )\n'
    )
    assert code_lines(source) == 6


# --- the collection is whole without its workshop -------------------------------------------------------------------


@pytest.mark.skipif(not list(ROOT.glob("playbooks/*.yml")), reason="there are no playbooks to check")
def test_playbooks_need_only_meta_plugins_roles_and_playbooks(tmp_path: Path) -> None:
    """What community inclusion asks: everything else can be deleted."""
    tree = tmp_path / "ansible_collections/gpufleet/vllm"
    for folder in ("meta", "plugins", "roles", "playbooks"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    names = [f"gpufleet.vllm.{path.stem}" for path in sorted(tree.glob("playbooks/*.yml"))]
    command = [Path(sys.executable).with_name("ansible-playbook"), "--syntax-check", "-i", "localhost,", *names]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "ANSIBLE_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
