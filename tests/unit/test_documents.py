# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reader is told to write exists: examples of modules, commands, variables, declarations and links in the pages.

Each check is a function from the collection's root to a list of sentences, one for each thing that is wrong. Every
check runs twice: on this collection, where it must find nothing, and on a small bad sample, where it must find exactly
the fault.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validator import validate_models

ROOT = Path(__file__).resolve().parents[2]
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
COLLECTION = "gpufleet.vllm"
PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "roles/*/README.md", "benchmarks/*.md", "tests/engine/*.md")
COMMAND = re.compile(r"ansible-playbook [^\n`]*")
TARGET = re.compile(r"(?:`|^    )make ([a-z][a-z0-9.-]*[a-z0-9])", re.MULTILINE)


def yaml_of(text: str) -> Any:
    """YAML as data, by the loader in C where there is one."""
    return yaml.load(text, Loader=YAML_LOADER)


def constants(path: Path) -> dict[str, str]:
    """The texts that a Python file gives names to, in itself or in its classes."""
    return {
        node.targets[0].id: node.value.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def options_of(root: Path, documentation: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a module, with those of the fragments that it takes."""
    options = dict(documentation.get("options", {}))
    for name in documentation.get("extends_documentation_fragment", []):
        file, _dot, part = name.removeprefix(f"{COLLECTION}.").partition(".")
        text = constants(root / f"plugins/doc_fragments/{file}.py")[(part or "documentation").upper()]
        options.update(yaml_of(text).get("options", {}))
    return options


def pages(root: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every page for readers."""
    for path in itertools.chain.from_iterable(sorted(root.glob(pattern)) for pattern in PAGES):
        yield str(path.relative_to(root)), path.read_text(encoding="utf-8")


# --- the checks -----------------------------------------------------------------------------------------------------


def check_examples(root: Path) -> list[str]:
    """The tasks in EXAMPLES take options that there are, with values that they take, and leave out none they need."""
    texts = {path.stem: constants(path) for path in sorted(root.glob("plugins/modules/*.py"))}
    options = {
        f"{COLLECTION}.{name}": options_of(root, yaml_of(text["DOCUMENTATION"]))
        for name, text in texts.items()
        if "DOCUMENTATION" in text
    }
    found = []
    for name, text in texts.items():
        tasks = yaml_of(text.get("EXAMPLES", "[]"))
        for number, task in enumerate(tasks, 1):
            where = f"{name}: example {number}"
            for module in (key for key in task if str(key).startswith(f"{COLLECTION}.")):
                if module not in options:
                    found.append(f"{where}: there is no module {module}")
                else:
                    found += [f"{where}: {fault}" for fault in misfits(task[module] or {}, options[module])]
        if f"{COLLECTION}.{name}" in options and not any(f"{COLLECTION}.{name}" in task for task in tasks):
            found.append(f"{name}: no example shows it")
    return found


def misfits(given: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """What ansible would refuse of a task's options. A template may become anything."""
    plain = {key: value for key, value in given.items() if "{{" not in json.dumps(value, default=str)}
    wanted = {key: argument(option) for key, option in options.items()}
    for key in given.keys() - plain.keys():
        wanted.pop(key, None)
    said = ArgumentSpecValidator(wanted).validate(plain).error_messages
    return said + [f"{key} is no option" for key in given if key not in options and key not in plain]


def argument(option: Mapping[str, Any]) -> dict[str, Any]:
    """A documented option as an argument specification."""
    kept = {key: option[key] for key in ("type", "elements", "choices", "required", "aliases") if key in option}
    if isinstance(kept.get("choices"), dict):
        kept["choices"] = list(kept["choices"])
    if "suboptions" in option:
        kept["options"] = {key: argument(one) for key, one in option["suboptions"].items()}
    return kept


def check_commands(root: Path) -> list[str]:
    """Playbooks and inventories that commands name exist, and so do the variables that they set."""
    sources = [path for folder in ("playbooks", "roles") for path in root.glob(f"{folder}/**/*.yml")]
    known = set(re.findall(r"\w+", " ".join(path.read_text(encoding="utf-8") for path in sources)))
    found = []
    for page, text in pages(root):
        for command in COMMAND.findall(text):
            for name in re.findall(rf"{re.escape(COLLECTION)}\.(\w+)", command):
                if not (root / f"playbooks/{name}.yml").is_file():
                    found.append(f"{page}: there is no playbook {COLLECTION}.{name}")
            for place in re.findall(r"-i (inventories/\S+)", command):
                if not (root / place).exists():
                    found.append(f"{page}: there is no {place}")
            variables = re.findall(r"-e (\w+)=", command) + re.findall(r"""-e '\{"(\w+)":""", command)
            found += [f"{page}: no playbook or role knows {name}" for name in variables if name not in known]
    return found


def check_targets(root: Path) -> list[str]:
    """Targets of make that pages name exist."""
    text = (root / "Makefile").read_text(encoding="utf-8")
    cores = re.search(r"^CORES := (.*)", text, re.MULTILINE)
    targets = set(re.findall(r"^([a-z0-9.-]+):", text, re.MULTILINE))
    for rule, core in itertools.product(re.findall(r"\(CORES:%=([a-z]+-)%\)", text), cores[1].split() if cores else ()):
        targets.add(rule + core)
    return [
        f"{page}: make has no target {name}"
        for page, content in pages(root)
        for name in TARGET.findall(content)
        if name not in targets
    ]


def check_links(root: Path) -> list[str]:
    """Links from page to page lead to files."""
    return [
        f"{page}: there is no {link}"
        for page, text in pages(root)
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        if "://" not in link and not (root / page).parent.joinpath(link).exists()
    ]


def check_lists(root: Path) -> list[str]:
    """The README names every module, role and playbook."""
    text = (root / "README.md").read_text(encoding="utf-8")
    there = {
        **{path.stem: "module" for path in root.glob("plugins/modules/*.py") if path.stem != "__init__"},
        **{path.name: "role" for path in root.glob("roles/*") if path.is_dir()},
        **{path.stem: "playbook" for path in root.glob("playbooks/*.yml")},
    }
    return [
        f"README.md does not name the {kind} {name}"
        for name, kind in sorted(there.items())
        if f"`{name}`" not in text and f"[{name}](" not in text
    ]


def check_rooms(root: Path) -> list[str]:
    """The page on the architecture has every room of the two libraries."""
    text = (root / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = [path for folder in ("plugin_utils", "module_utils") for path in root.glob(f"plugins/{folder}/[a-z_]*")]
    return [
        f"docs/architecture.md does not name {path.relative_to(root)}"
        for path in sorted(rooms)
        if path.is_dir() and path.name != "__pycache__" and f"`{path.name}/" not in text
    ]


def check_declarations(root: Path) -> list[str]:
    """Models declared in pages are sound at the release of their image."""
    found = []
    for page, text in pages(root):
        for block in re.findall(r"^ *```ya?ml\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
            lines = block.splitlines()
            indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
            try:
                data = yaml_of("\n".join(line[indent:] for line in lines))
            except yaml.YAMLError as error:
                found.append(f"{page}: a block is no YAML: {error}")
                continue
            if isinstance(data, dict) and "vllm_models" in data:
                problems = validate_models(data["vllm_models"]).problems
                found += [f"{page}: {problem}" for problem in problems if not problem.warning]
    return found


CHECKS = [check_examples, check_commands, check_targets, check_links, check_lists, check_rooms, check_declarations]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_documents(check: Callable[[Path], list[str]]) -> None:
    found = check(ROOT)
    assert not found, "\n".join(found)


# --- each check finds its fault -------------------------------------------------------------------------------------

OPTIONS = "DOCUMENTATION = '{options: {a: {type: int, required: true}, b: {type: list, elements: str}}}'\n"


def example(options: str, module: str = "one") -> dict[str, str]:
    """A sample with one module and one example."""
    return {"plugins/modules/one.py": f"{OPTIONS}EXAMPLES = '[{{gpufleet.vllm.{module}: {options}}}]'\n"}


SAMPLES: list[tuple[Callable[[Path], list[str]], dict[str, str], str]] = [
    (check_examples, example("{a: 1, c: 2}"), "one: example 1: c. Supported parameters include: a, b."),
    (check_examples, example('{a: 1, c: "{{ x }}"}'), "one: example 1: c is no option"),
    (check_examples, example("{b: [x]}"), "one: example 1: missing required arguments: a"),
    (check_examples, example("{a: some}"), "one: example 1: argument 'a' is of type"),
    (check_examples, {**example("{a: 1}"), "plugins/modules/two.py": OPTIONS}, "two: no example shows it"),
    (check_commands, {"README.md": "    ansible-playbook -i x gpufleet.vllm.gone\n"}, "no playbook gpufleet.vllm.gone"),
    (check_commands, {"README.md": "    ansible-playbook -i inventories/x a.yml\n"}, "there is no inventories/x"),
    (
        check_commands,
        {"docs/a.md": "`ansible-playbook gpufleet.vllm.a -e b=1 -e c=2`", "playbooks/a.yml": "{{ b }}"},
        "docs/a.md: no playbook or role knows c",
    ),
    (
        check_targets,
        {"Makefile": "CORES := 2\n$(CORES:%=unit-%): unit-%:\none:\n", "README.md": "`make unit-2`\n    make tow\n"},
        "README.md: make has no target tow",
    ),
    (check_links, {"docs/a.md": "[b](b.md#c) [a](a.md) [w](https://w.org)"}, "docs/a.md: there is no b.md"),
    (check_lists, {"README.md": "`a`", "playbooks/a.yml": "", "playbooks/b.yml": ""}, "not name the playbook b"),
    (
        check_rooms,
        {"docs/architecture.md": "`_a/`", "plugins/module_utils/_a/x.py": "", "plugins/module_utils/_b/x.py": ""},
        "does not name plugins/module_utils/_b",
    ),
    (
        check_declarations,
        {"README.md": "```yaml\nvllm_models:\n  - {name: a, model: b/c, image: 'x:v0.33.0', replcas: 2}\n```\n"},
        "README.md: a: replcas: is unknown",
    ),
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
    assert len(found) == 1, found
    assert fault in found[0]


def test_every_check_is_shown_to_fail() -> None:
    assert {sample[0] for sample in SAMPLES} == set(CHECKS)
