# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One line of text for one event of a start. Pure."""

from __future__ import annotations

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
