# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of logs, times and statistics of the Docker Engine."""

from __future__ import annotations

import contextlib
import http.server
import struct
import threading
import typing as t

import pytest
import requests

from ansible_collections.gpufleet.vllm.plugins.module_utils._container import streams
from ansible_collections.gpufleet.vllm.plugins.module_utils._container.connection import translated
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import EngineUnreachable
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


@pytest.fixture(params=["silent", "slow"])
def endless(request: pytest.FixtureRequest) -> t.Iterator[requests.Session]:
    """An engine whose answer begins and has no end: nothing follows, or a little every now and then."""
    over = threading.Event()
    piece = frame(b"one\n")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with contextlib.suppress(OSError):  # nobody reads on
                while not over.is_set():
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    over.wait(None if request.param == "silent" else 0.01)
            self.close_connection = True

        def log_message(self, *_arguments: t.Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, requests.Session() as api:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        # What a stream needs of the SDK's client, which is a session too.
        vars(api).update(base_url=f"http://127.0.0.1:{server.server_address[1]}", api_version="1.41")
        try:
            yield api
        finally:
            over.set()
            server.shutdown()
            thread.join()


def test_an_answer_that_is_bounded_ends(endless: requests.Session) -> None:
    with pytest.raises(EngineUnreachable, match="containers/a/logs"), translated("read containers/a/logs"):
        for piece in streams.Stream(endless, "containers/a/logs", {}, True, translated, 0.5):
            assert piece == b"one\n"


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
