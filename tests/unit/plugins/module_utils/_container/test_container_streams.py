# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of logs, times and statistics of the Docker Engine."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import streams
from ansible_collections.gpufleet.vllm.plugins.module_utils._startup.progress import Usage


def frame(text: bytes) -> bytes:
    """A frame of the standard error as Docker Engine API 1.41 describes it."""
    return struct.pack(">BxxxI", 2, len(text)) + text


WHOLE = frame(b"one\n") + frame(b"") + frame(b"two\n" * 100) + frame(b"end")


@pytest.mark.parametrize("size", [1, 3, 8, 9, 12, 50, 1000])
def test_frames_are_whole_however_they_come(size: int) -> None:
    pieces = [WHOLE[at : at + size] for at in range(0, len(WHOLE), size)]
    assert b"".join(streams._unframed(pieces)) == b"one\n" + b"two\n" * 100 + b"end"


def test_one_frame_a_piece() -> None:
    assert list(streams._unframed([frame(b"one\n"), frame(b"two\n")])) == [b"one\n", b"two\n"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-30T22:34:50.006550074Z", "1796078090.006550074"),
        ("2026-11-30T22:34:50.5Z", "1796078090.500000000"),
        ("2026-11-30T22:34:50Z", "1796078090.000000000"),
    ],
)
def test_times(text: str, seconds: str) -> None:
    assert streams.docker_time(text) == seconds


V1 = {
    "cpu_stats": {"cpu_usage": {"total_usage": 2500000000}},
    "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 5}, {"op": "Total", "value": 5}]},
    "memory_stats": {"usage": 7},
    "networks": {"eth0": {"rx_bytes": 3}, "eth1": {"rx_bytes": 4}},
}
V2 = {**V1, "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 5}, {"op": "write", "value": 6}]}}


def test_statistics() -> None:
    assert streams.observed_usage(V1) == Usage(2.5, 5, 7, 7)
    assert streams.observed_usage(V2) == Usage(2.5, 11, 7, 7)
    # A container that has ended, one with the host's network, and an Engine that tells nothing.
    assert streams.observed_usage({"blkio_stats": {"io_service_bytes_recursive": None}}) == Usage(0.0, 0, 0, 0)
    assert streams.observed_usage(None) is None
