# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of starts, from the file that vllm_servers writes to lines that people read. Pure."""

from __future__ import annotations

import json
import typing as t

_BAR_CELLS = 20


def progress_line(host: str, event: t.Mapping[str, t.Any]) -> str:
    """What a person reads while a server starts.

    event: one line of the progress file of vllm_servers: server, stage, text, done, total, seconds (since the task
    began).
    """
    line = f"{host} | {event['server']} | {event['seconds']:6.1f} s | {event['stage']:<11} | {event['text']}"
    if event.get("total"):
        full = min(_BAR_CELLS, _BAR_CELLS * event["done"] // event["total"])
        line += f" [{'#' * full}{'.' * (_BAR_CELLS - full)}]"
    return line


def read_events(text: str) -> tuple[list[dict[str, t.Any]], int]:
    """The whole events at the beginning of a piece of the progress file, and the bytes of the file that they take.

    A terminal of a remote connection turns line ends into CR LF, and sudo may print a lecture before the first line;
    neither is in the file, so neither is counted.
    """
    events, size = [], 0
    for line in text.replace("\r\n", "\n").splitlines(keepends=True):
        if line.endswith("\n") and line.startswith("{"):
            events.append(json.loads(line))
            size += len(line.encode())
    return events, size
