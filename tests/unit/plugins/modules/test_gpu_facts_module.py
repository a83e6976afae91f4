# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module gpu_facts as Ansible runs it, and its documentation against what machines give."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.nvml import stand_in

ROOT = Path(__file__).resolve().parents[4]
TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}
# Keyed by what went wrong, so there is nothing to document below them.
FREE = ("field_errors",)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in.compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def documented() -> dict[str, Any]:
    """The documentation of the fact vllm_gpu in RETURN."""
    source = (ROOT / "plugins/modules/gpu_facts.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "RETURN":
            return yaml.safe_load(ast.literal_eval(node.value))["ansible_facts"]["contains"]["vllm_gpu"]
    raise AssertionError("gpu_facts.py has no RETURN")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with what the stand-in does not play: a network card, an InfiniBand port, NUMA, and Xid errors."""
    card = "sys/devices/pci0000:17/0000:17:01.0/0000:2b:00.0"
    xid = "NVRM: Xid (PCI:0000:{}:00): 79, GPU has fallen off the bus."
    for path, text in {
        "dev/kmsg": f"4,1,1000000,-;{xid.format('18')}\n4,2,1000000,-;{xid.format('99')}\n",
        "proc/stat": "cpu0 1\nbtime 1763800000\n",
        "proc/meminfo": "MemTotal: 67108864 kB\nMemAvailable: 33554432 kB\n",
        "proc/4242/comm": "VLLM::EngineCor\n",
        "sys/devices/system/node/node0/cpulist": "0-31\n",
        "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal: 67108864 kB\n",
        "sys/bus/pci/devices/0000:18:00.0/numa_node": "0\n",
        "sys/bus/pci/drivers/mlx5_core/new_id": "",
        f"{card}/numa_node": "0\n",
        f"{card}/net/ens1/mtu": "9000\n",
        "sys/class/net/ens1/operstate": "up\n",
        "sys/class/net/ens1/speed": "100000\n",
        "sys/class/net/ens1/mtu": "9000\n",
        "sys/class/net/bond0/bonding/slaves": "ens1\n",
        "proc/net/if_inet6": "fd000000000000000000000000000002 02 40 00 80     ens1\n",
        "sys/class/infiniband/mlx5_0/ports/1/state": "4: ACTIVE\n",
        "sys/class/infiniband/mlx5_0/ports/1/rate": "400 Gb/sec (4X NDR)\n",
        "sys/class/infiniband/mlx5_0/ports/1/link_layer": "InfiniBand\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    for link, target in {
        f"{card}/driver": "sys/bus/pci/drivers/mlx5_core",
        "sys/bus/pci/devices/0000:2b:00.0": card,
        "sys/class/net/ens1/device": card,
        "sys/class/infiniband/mlx5_0/device": card,
    }.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    return tmp_path


def differences(found: Any, doc: dict[str, Any], where: str, seen: set[str]) -> list[str]:
    """Where a value is not what its documentation says. seen: gets the path of every documented value with content."""
    if found is None:
        return []
    seen.add(where)
    if not isinstance(found, TYPES[doc["type"]]) or (isinstance(found, bool) and doc["type"] != "bool"):
        return [f"{where} is {found!r}, its documentation says {doc['type']}"]
    if isinstance(found, list):
        # Rows of a matrix are lists, whose elements RETURN has no words for.
        if doc["elements"] == "list":
            return [f"{where} is no list of lists" for item in found if not isinstance(item, list)]
        inner = {**doc, "type": doc["elements"]}
        return [line for item in found for line in differences(item, inner, where + "[]", seen)]
    if not isinstance(found, dict) or where.rpartition(".")[2] in FREE:
        return []
    fields = doc.get("contains", {})
    return [
        *(f"{where}.{name} is not documented" for name in found if name not in fields),
        *(f"{where}.{name} is documented and not there" for name in fields if name not in found),
        *(
            line
            for name in found
            if name in fields
            for line in differences(found[name], fields[name], f"{where}.{name}", seen)
        ),
    ]


def leaves(doc: dict[str, Any], where: str) -> list[str]:
    """The path of every value that is documented."""
    below = where + "[]" if doc["type"] == "list" else where
    return [
        where,
        *(leaf for name, inner in doc.get("contains", {}).items() for leaf in leaves(inner, f"{below}.{name}")),
    ]


def test_every_field_is_documented_and_every_documented_field_comes(
    library: Path, documented: dict[str, Any], root: Path
) -> None:
    seen: set[str] = set()
    found = [
        f"{path.stem}: {line}"
        for path in sorted(stand_in.PROFILES.glob("*.txt"))
        for line in differences(stand_in.gpu_facts(root, library, path.stem), documented, "vllm_gpu", seen)
    ]
    assert not found, "\n".join(found)
    # AMD's cards alone have the one, and a kernel log that cannot be read the other.
    elsewhere = {"vllm_gpu.gpus[].gfx_target", "vllm_gpu.kernel_log.reason"}
    assert sorted(set(leaves(documented, "vllm_gpu")) - seen - elsewhere) == []


def test_the_module_as_ansible_runs_it(library: Path, documented: dict[str, Any], tmp_path: Path) -> None:
    variables = {
        **stand_in.environment(library, "h100x8"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build/collections"),
        "ANSIBLE_HOME": str(tmp_path),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    ansible = os.path.join(os.path.dirname(sys.executable), "ansible")
    command = [ansible, "localhost", "--connection=local", "--inventory=localhost,", "-m", "gpufleet.vllm.gpu_facts"]
    done = subprocess.run(command, env=variables, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout[done.stdout.index("{") :])
    assert result["changed"] is False
    facts = result["ansible_facts"]["vllm_gpu"]
    assert facts["topology"]["link_islands"] == [[0, 1, 2, 3, 4, 5, 6, 7]]
    # This machine's own kernel log: readable, or a reason.
    assert facts["kernel_log"]["readable"] is not bool(facts["kernel_log"]["reason"])
    assert differences(facts, documented, "vllm_gpu", set()) == []
