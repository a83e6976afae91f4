# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests that run playbooks."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from support.fleet import BUILD, Fleet, engine


@pytest.fixture(scope="session")
def core() -> str:
    """The ansible-core that the playbooks run on."""
    return os.environ.get("GPUFLEET_CORE", "2.21")


@pytest.fixture(scope="session")
def stand_in() -> str:
    """The stand-in engine's image."""
    return engine("stand-in")


@pytest.fixture(scope="session")
def hub() -> pathlib.Path:
    """A Hugging Face cache with the tiny model."""
    folder = BUILD / "tests" / "hub"
    engine("model", str(folder))
    return folder


@pytest.fixture(scope="module")
def fleets(
    tmp_path_factory: pytest.TempPathFactory, core: str, stand_in: str, hub: pathlib.Path
) -> t.Iterator[t.Callable[[], Fleet]]:
    """Makes fleets that live as long as the test file; what they leave is removed."""
    made: list[Fleet] = []

    def make() -> Fleet:
        made.append(Fleet(tmp_path_factory.mktemp("fleet"), core, stand_in, hub))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture
def fleet(tmp_path: pathlib.Path, core: str, stand_in: str, hub: pathlib.Path) -> t.Iterator[Fleet]:
    """A fleet of the test's own; what it leaves is removed."""
    made = Fleet(tmp_path, core, stand_in, hub)
    try:
        yield made
    finally:
        made.remove()
