# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps the tests that run beside each other apart: names of containers, and ports."""

from __future__ import annotations

import pathlib
import re
import socket

from support import ports

TESTS = pathlib.Path(__file__).resolve().parents[1]
# A server's container is named after its model alone, and two test files may run at the same time on one Docker Engine.
# `fleet.model()` without a name is for tests that deploy nothing.
NAMED = re.compile(r'\.model\(\s*"([^"]+)"')


def test_no_two_files_name_a_model_alike() -> None:
    files: dict[str, set[str]] = {}
    for path in [*TESTS.glob("integration/*.py"), *TESTS.glob("integration/faults/*.py"), *TESTS.glob("e2e/*.py")]:
        for name in NAMED.findall(path.read_text(encoding="utf-8")):
            files.setdefault(name, set()).add(path.name)
    assert len(files) > 10
    assert {name: sorted(found) for name, found in files.items() if len(found) > 1} == {}


def test_no_port_is_given_twice_nor_one_that_is_in_use() -> None:
    assert len({ports.free_port() for _port in range(20)}) == 20
    assert len({ports.free_run() // ports.RUN for _run in range(20)}) == 20
    with socket.create_server(("127.0.0.1", 0)) as busy:
        assert not ports._is_free(busy.getsockname()[1])
