# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault table: each test brings one fault about on a real Docker Engine, and records what one sees of it.

A record is written only when the test has passed, so the table (tools/faults_report.py) holds nothing that was not
shown.
"""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest
from integration.library.conftest import Host

from support.faults import Fault
from support.fleet import BUILD, Fleet, engine

RECORDS = BUILD / "results" / "faults.jsonl"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: t.Any) -> t.Generator[None, t.Any, t.Any]:
    """Write the record of a test that has passed."""
    report = yield
    fault = item.stash.get(FAULT, None)
    if report.when == "call" and report.passed and fault is not None and fault.name:
        RECORDS.parent.mkdir(parents=True, exist_ok=True)
        record = {name: value for name, value in vars(fault).items() if not name.startswith("_")}
        handle = os.open(RECORDS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(handle, (json.dumps({**record, "test": item.name}, sort_keys=True) + "\n").encode())
        os.close(handle)
    return report


FAULT = pytest.StashKey[Fault]()


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """The row that this test fills."""
    made = Fault()
    request.node.stash[FAULT] = made
    return made


@pytest.fixture(scope="session")
def stand_in() -> str:
    """The stand-in engine's image."""
    return engine("stand-in")


@pytest.fixture
def host(tmp_path: pathlib.Path, stand_in: str) -> t.Iterator[Host]:
    """A host; its fleet is gone afterwards."""
    made = Host(tmp_path)
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture
def fleet(tmp_path: pathlib.Path, stand_in: str) -> t.Iterator[Fleet]:
    """A fleet with an inventory of its own, for what only a playbook shows."""
    hub = BUILD / "tests" / "hub"
    engine("model", str(hub))
    made = Fleet(tmp_path, os.environ.get("GPUFLEET_CORE", "2.21"), stand_in, hub)
    try:
        yield made
    finally:
        made.remove()
