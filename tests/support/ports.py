# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports for the servers of tests.

A port that the kernel chose is given to somebody else as soon as it is let go, for example to a connection of a test
beside this one. These lie below the range from which it chooses (ip(7), ip_local_port_range), each process of the tests
has a share of its own, and none is given twice while others are left.
"""

from __future__ import annotations

import os
import random
import socket

# The demonstration (18000) and the molecule scenarios (19100 to 19199) have theirs outside of these.
_SINGLE = range(10000, 17000)
_RUNS = range(20000, 30000)
_SHARES = 4
# Ports of a run are this many apart.
RUN = 50


def _share(ports: range) -> range:
    """This process's share: pytest-xdist numbers its workers (PYTEST_XDIST_WORKER is gw0, gw1 ...)."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    size = len(ports) // _SHARES
    return ports[number * size : (number + 1) * size]


class _Ports:
    """The ports of a share, each of a group of some, from a place of chance on."""

    def __init__(self, ports: range, step: int) -> None:
        starts = list(_share(ports))[::step]
        first = random.randrange(len(starts))
        self._starts = starts[first:] + starts[:first]
        self._next = 0

    def take(self, needed: int) -> int:
        """The first of the next ports, so many of which nobody has."""
        for _port in self._starts:
            start = self._starts[self._next % len(self._starts)]
            self._next += 1
            if all(_is_free(port) for port in range(start, start + needed)):
                return start
        raise RuntimeError("every port of the tests is in use")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


_single = _Ports(_SINGLE, 1)
_runs = _Ports(_RUNS, RUN)


def free_port() -> int:
    """A TCP port that nobody has on any address."""
    return _single.take(1)


def free_run() -> int:
    """The first of RUN ports, the first ten of which nobody has."""
    return _runs.take(10)
