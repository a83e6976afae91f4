# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts that a release's source tells without being executed: syntax trees and names, nothing imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

Facts = dict[str, dict[str, Any]]

METRIC = re.compile(r"vllm:\w+")
KIND = re.compile(r"gauge|counter|histogram", re.I)
VARIABLE = re.compile(r"VLLM_[A-Z0-9_]+")
# Servers of their own, beside the one that `vllm serve` starts: the demonstration server and helpers' health checks.
OTHER_SERVERS = ("entrypoints/api_server.py", "entrypoints/launchers/dp_supervisor.py", "entrypoints/cli/")
VERBS = {"get", "post", "put", "delete", "patch", "api_route", "websocket"}
# "`--x` is deprecated": the option that an announcement is about comes before the word.
ANNOUNCED = re.compile(
    r"(?:the\s+)?[`'\"]*(?P<dashes>--)?(?P<name>[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*)[`'\"]*(?:\s+\(--[\w-]+\))?"
    r"(?:\s+(?P<option>flag|argument|option))?\s+(?:(?:is|are|has been)\s+(?:now\s+)?deprecated|will be removed)",
    re.I,
)


class Tree:
    """The syntax tree of a file, with the way up."""

    def __init__(self, text: str) -> None:
        self.root = ast.parse(text)
        self.parents = {child: node for node in ast.walk(self.root) for child in ast.iter_child_nodes(node)}

    def up(self, node: ast.AST) -> Iterator[ast.AST]:
        """The node's parent, its parent, and so on."""
        while node in self.parents:
            node = self.parents[node]
            yield node


def texts(package: Path) -> dict[str, str]:
    """Every Python file of the package, by its path below it."""
    return {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))
    }


def name_of(node: ast.AST) -> str:
    """The last part of a dotted name; empty for anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def text_of(node: ast.AST) -> str:
    """A literal text, with {} where a formatted one has a value."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def metrics(files: dict[str, str]) -> Facts:
    """Metrics by the name that /metrics shows (of a counter that ends in _total): kind, hidden, engine where known."""
    files = {path: text for path, text in files.items() if not path.startswith("benchmarks/")}
    trees = {path: Tree(text) for path, text in files.items() if re.search(r"vllm:\w", text)}
    found: dict[str, dict[str, Any]] = {}
    constants: dict[tuple[str, str], str] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree.root):
            if not METRIC.fullmatch(text_of(node)):
                continue
            parent = tree.parents[node]
            if isinstance(parent, ast.Call) and name_of(parent.func) in ("startswith", "getattr"):
                continue
            if isinstance(parent, ast.Compare) or "orca" in path:
                continue  # a reader of metrics, not their source
            owner = tree.parents[parent] if isinstance(parent, ast.Assign) else None
            if isinstance(owner, ast.ClassDef | ast.Module):
                constants[getattr(owner, "name", ""), name_of(parent.targets[0])] = node.value
            facts = found.setdefault(node.value, {"kinds": set(), "engines": set(), "hidden": True})
            facts["kinds"] |= kinds(tree, node)
            facts["engines"].add("V1" if "v1/" in path else "V0")
            tests = [ast.unparse(above.test) for above in tree.up(node) if isinstance(above, ast.If)]
            facts["hidden"] &= any("show_hidden_metrics" in test for test in tests)
    owners = re.compile("|".join(rf"\b{owner}\." for owner, _name in constants if owner) or "(?!)")
    for path, text in files.items():
        if path not in trees and not owners.search(text):
            continue
        tree = trees.get(path) or Tree(text)
        for node in ast.walk(tree.root):
            owner = name_of(node.value) if isinstance(node, ast.Attribute) else ""
            metric = constants.get((owner, name_of(node)))
            if metric and isinstance(getattr(node, "ctx", None), ast.Load):
                found[metric]["kinds"] |= kinds(tree, node)
    return shown(found, both="engine/metrics.py" in trees and any(path.startswith("v1/") for path in trees))


def shown(found: Facts, both: bool) -> Facts:
    """Metrics as /metrics shows them. Releases that have both engines name counters differently in each."""
    merged: Facts = {}
    for name, facts in found.items():
        kind = facts["kinds"].pop() if len(facts["kinds"]) == 1 else None
        if kind == "counter" and not name.endswith("_total"):
            name += "_total"
        same = merged.setdefault(name, {"kind": kind, "hidden": True, "engines": set()})
        same["hidden"] &= facts["hidden"]
        same["engines"] |= facts["engines"]
    for facts in merged.values():
        engines = facts.pop("engines")
        facts["engine"] = engines.pop() if both and len(engines) == 1 else None
    return {name: {key: value for key, value in facts.items() if value} for name, facts in merged.items()}


def kinds(tree: Tree, node: ast.AST) -> set[str]:
    """gauge, counter or histogram: in the call that the name is given to, or the list of names that it is in."""
    child = node
    for above in tree.up(node):
        candidates = []
        if isinstance(above, ast.Call):
            candidates = [above.func]
        elif isinstance(above, ast.Dict) and child in above.keys:
            value = above.values[above.keys.index(child)]
            candidates = [value.func] if isinstance(value, ast.Call) else []
        elif isinstance(above, ast.Subscript):
            statement = tree.parents[above]
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
                candidates = [statement.value.func]
        elif isinstance(above, ast.Assign):
            candidates = above.targets
        for candidate in candidates:
            if match := KIND.search(name_of(candidate)):
                return {match[0].lower()}
        if isinstance(above, ast.stmt):
            break
        child = above
    # name = "vllm:..." and below, in the same function, SomeGauge(name=name)
    statement = tree.parents[node]
    if isinstance(statement, ast.Assign):
        function = next((above for above in tree.up(node) if isinstance(above, ast.FunctionDef)), None)
        calls = [call for call in ast.walk(function) if isinstance(call, ast.Call)] if function else []
        for call in calls:
            given = {name_of(keyword.value) for keyword in call.keywords}
            if name_of(statement.targets[0]) in given and (match := KIND.search(name_of(call.func))):
                return {match[0].lower()}
    return set()


def routes(files: dict[str, str]) -> Facts:
    """Paths that the server answers, some of them only with certain models or options."""
    found: Facts = {}
    for path, text in files.items():
        if not path.startswith("entrypoints/") or path.startswith(OTHER_SERVERS) or "route" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call):
                continue
            name, owner = name_of(node.func), name_of(getattr(node.func, "value", None))
            if not (
                name in ("Mount", "add_api_route", "add_api_websocket_route", "mount")
                or (name in VERBS and (owner == "app" or owner.endswith("router")))
            ):
                continue
            given = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "path")]
            route = text_of(given[0]) if given else ""
            if route.startswith("/"):
                found[route] = {}
    return found


def read_variables(files: dict[str, str]) -> set[str]:
    """VLLM_* names that the package uses outside the table of them in envs.py; comments do not count."""
    used: set[str] = set()
    for path, text in files.items():
        if path != "envs.py" and "VLLM_" in text:
            used.update(VARIABLE.findall(re.sub(r"(?m)#.*$", "", text)))
    return used


def deprecations(files: dict[str, str], options: Container[str]) -> dict[str, str]:
    """Options whose deprecation is announced elsewhere than in their help, when they are used: the text, by name."""
    found: dict[str, str] = {}
    for path, text in files.items():
        if not path.startswith(("engine/arg_utils.py", "config")):
            continue
        for node in ast.walk(ast.parse(text)):
            message = " ".join(text_of(node).split())
            match = ANNOUNCED.match(message)
            # In the configuration, a bare name is that of a field, which may be another thing than the option.
            if match and (match["dashes"] or match["option"] or not path.startswith("config")):
                found.setdefault(match["name"].replace("-", "_"), message)
    return {name: message for name, message in found.items() if name in options}


def removal(text: str) -> str | None:
    """The release for which a text announces a removal."""
    found = re.search(r"removed in (?:vLLM )?v?(\d+\.\d+)(\.\d+)?", text)
    return found[1] + (found[2] or ".0") if found else None


def generation_defaults(files: dict[str, str]) -> Facts:
    """Parameters that the model's generation_config.json, or an override of it, sets for requests."""
    for path, text in files.items():
        if path.startswith("config") and "available_params = " in text:
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Assign) and name_of(node.targets[0]) == "available_params":
                    return {name: {} for name in ast.literal_eval(node.value)}
    return {}


def structured_outputs_backends(files: dict[str, str]) -> Facts:
    """Before 0.8.5 the option took any text, and the configuration looked it up in lists of its own."""
    found: Facts = {}
    for node in ast.walk(ast.parse(files.get("config.py", ""))):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.List):
            continue
        if name_of(node.targets[0]).endswith("valid_guided_backends"):
            found |= {name: {} for name in ast.literal_eval(node.value)}
    return found


def options(files: dict[str, str]) -> Facts:
    """Options of `vllm serve` as far as literals tell, for a release whose code cannot be executed.

    Of an option whose properties are computed, the type is "text"; what configuration classes hold is not looked up.
    """
    found: Facts = {}
    places = re.compile(r"engine/arg_utils\.py|entrypoints/.*cli_args\.py|entrypoints/cli/serve\.py|scripts\.py")
    for path, text in files.items():
        if not places.fullmatch(path):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and name_of(node.func) == "add_argument":
                flags = [text_of(argument) for argument in node.args if text_of(argument).startswith("-")]
                long = [flag for flag in flags if flag.startswith("--") and "{" not in flag]
                if long:
                    found[long[0][2:].replace("-", "_")] = option(long[0], flags, node)
            elif isinstance(node, ast.ClassDef) and node.name.endswith("FrontendArgs"):
                names = [name_of(field.target) for field in node.body if isinstance(field, ast.AnnAssign)]
                found.update({name: {"flag": "--" + name.replace("_", "-"), "type": "text"} for name in names})
    return found


def option(flag: str, flags: list[str], call: ast.Call) -> dict[str, Any]:
    """Facts of one add_argument call."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    facts: dict[str, Any] = {"flag": flag, "aliases": sorted(set(flags) - {flag})}
    if text_of(given.get("action")) in ("store_true", "store_false"):
        facts["boolean"] = {"on": flag, "off": None, "style": "flag"}
    else:
        known = {"str", "int", "float"}
        facts["type"] = name if (name := name_of(given.get("type"))) in known else "text"
    for key in ("choices", "default", "nargs"):
        try:
            facts[key] = ast.literal_eval(given[key])
        except (KeyError, ValueError):
            continue
    help_text = " ".join(text_of(given.get("help")).split())
    facts["deprecated"] = help_text if "deprecated" in help_text.lower() else None
    return {key: value for key, value in facts.items() if value is not None and value != []}


def environment(files: dict[str, str]) -> Facts:
    """Names of the table of VLLM_* variables in envs.py."""
    tables = [node for node in ast.walk(ast.parse(files["envs.py"])) if isinstance(node, ast.Dict)]
    keys = [text_of(key) for table in tables for key in table.keys if key is not None]
    return {name: {} for name in keys if name.startswith("VLLM_")}
