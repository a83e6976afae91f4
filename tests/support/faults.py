# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of the fault table, and what bringing faults about needs."""

from __future__ import annotations

import http.client
import re
import threading
import time
import typing as t

import docker

# What is this test's own, and what it is called in the table.
_OWN = (
    (r"(?:library|test)-[0-9a-f]{8}", "vllm"),
    (r"/\S*/state(?=[/ :]|$)", "STATE_DIR"),
    (r"sha256:[0-9a-f]{64}", "sha256:..."),
    (r" \([0-9a-f]{64}\)", ""),
    (r"\b(?:[2-6][0-9]{4})\b", "PORT"),
    (r"since 2\d{3}-\S+", "since TIME"),
    (r"process \d+", "process N"),
)


class Fault:
    """One row of the table.

    name: the fault; reported: what the user reads, in one line; left: what runs afterwards; seconds: from the fault to
    the report, or until it serves again.
    """

    def __init__(self) -> None:
        self.name = ""
        self.engine = "stand-in"
        self.reported = ""
        self.left = ""
        self.seconds: float | None = None
        self._began = time.monotonic()

    def begins(self) -> None:
        """The fault is there from now on."""
        self._began = time.monotonic()

    def ends(self) -> float:
        """It is reported, or gone; the seconds since it began."""
        self.seconds = round(time.monotonic() - self._began, 2)
        return self.seconds

    def seen(self, reported: t.Any, left: str) -> None:
        """What came of it. Nothing of the test's own machine is to stand in the table."""
        text = str(reported)
        for pattern, word in _OWN:
            text = re.sub(pattern, word, text)
        self.reported, self.left = " ".join(text.split())[:600], left


def until(true: t.Callable[[], t.Any], seconds: float = 300) -> t.Any:
    """Wait for something, for so long at most; what it returned last."""
    end = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def beside(run: t.Callable[[], t.Any]) -> tuple[threading.Thread, list[t.Any]]:
    """Run something in a thread; its result or its error is the only element of the list."""
    found: list[t.Any] = []

    def body() -> None:
        try:
            found.append(run())
        except Exception as error:  # the test looks at whatever it was
            found.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    return thread, found


def served(server: t.Mapping[str, t.Any], path: str = "/health", timeout: float = 30) -> bool:
    """Whether the server answers with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", server["listen"]["port"], timeout=timeout)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Deaths:
    """When each container of a fleet last ended, by the Docker Engine's own clock, in seconds of the epoch by its name.

    Listened to while it happens, for the Engine keeps its last 256 events only.
    """

    def __init__(self, fleet: str) -> None:
        self._filters = {"label": f"gpufleet.vllm.fleet={fleet}", "event": ["die"]}
        self._at: dict[str, float] = {}

    def __enter__(self) -> Deaths:
        self._client = docker.from_env()
        # From now on by the clock: the Engine has answered a moment before it listens.
        self._events = self._client.api.events(since=int(time.time()), filters=self._filters, decode=True)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._events.close()
        self._client.close()

    def of(self, name: str, seconds: float = 120) -> float:
        """When this container ended; waits for the news."""
        assert until(lambda: name in self._at, seconds), f"{name} did not end: {self._at}"
        return self._at[name]

    def _listen(self) -> None:
        for event in self._events:
            self._at[event["Actor"]["Attributes"]["name"]] = event["timeNano"] / 10**9
