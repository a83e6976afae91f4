# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of starts, from the file that vllm_servers writes to lines that people read. Pure."""

from __future__ import annotations

import json
import typing as t

_BAR_CELLS = 20
# Figures of a start in the order in which they are told; the others are in the result of vllm_servers.
_GIB = {
    "weights_gib": "weights",
    "activation_gib": "activation",
    "non_torch_gib": "runtime",
    "graphs_gib": "graphs",
    "available_kv_gib": "KV cache",
}


def progress_line(host: str, event: t.Mapping[str, t.Any]) -> str:
    """What a person reads while a server starts.

    event: one line of the progress file of vllm_servers: server, stage, text, done, total, memory, seconds (since the
    task began).
    """
    text = memory_text(event["memory"]) if event.get("memory") else event["text"]
    line = f"{host} | {event['server']} | {event['seconds']:6.1f} s | {event['stage']:<11} | {text}"
    if event.get("total"):
        full = min(_BAR_CELLS, _BAR_CELLS * event["done"] // event["total"])
        line += f" [{'#' * full}{'.' * (_BAR_CELLS - full)}]"
    return line


def memory_text(memory: t.Mapping[str, t.Any]) -> str:
    """What an engine told of its memory, each figure with its prediction behind it.

    memory: that of a server in the result of vllm_servers: predicted (may be None) and measured.
    """
    measured, predicted = memory["measured"], memory["predicted"] or {}
    parts = []
    for name, words in _GIB.items():
        if measured.get(name) is not None:
            parts.append(f"{words} {measured[name]:.2f} GiB{_predicted(predicted.get(name), '.2f', not parts)}")
    if measured.get("kv_tokens") is not None:
        parts.append(f"{measured['kv_tokens']:,} tokens{_predicted(predicted.get('kv_tokens'), ',', not parts)}")
    return "memory: " + (", ".join(parts) or "the log tells none of it")


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


class Following:
    """What one who follows a job's progress file knows, and does next. Pure; look() is called after each look."""

    # Looks between two at the job itself, which costs a module call, while there is no news; and the looks after news
    # of an end in which the job is asked each time, for its own end is near.
    JOB_LOOKS = 10
    END_LOOKS = 12
    # Looks in which the job's process is gone without a result, after which there will be none.
    LOST_LOOKS = 4

    def __init__(self, path: str) -> None:
        """path: of the progress file on the host."""
        self._path = path
        self._read = 0
        self._looks = 0
        self._near = 0
        self._gone = 0
        self._news = False
        self._pid: int | None = None

    @property
    def command(self) -> str:
        """The command of the next look, for any POSIX shell."""
        lives = f"; kill -0 {self._pid} 2>/dev/null || echo gone" if self._pid else ""
        return f"tail -c +{self._read + 1} {self._path} 2>/dev/null{lives}; true"

    def look(self, text: str) -> list[dict[str, t.Any]]:
        """The new events in what the command has printed."""
        events, size = read_events(text)
        self._read += size
        self._looks += 1
        self._gone = self._gone + 1 if "gone" in text.split() else 0
        self._near -= 1
        for event in events:
            self._pid = event.get("pid", self._pid)
            if event.get("stage") == "ready" or str(event.get("text")).startswith("failed"):
                self._near = self.END_LOOKS
        self._news = bool(events)
        return [event for event in events if "stage" in event]

    @property
    def asks(self) -> bool:
        """Whether the job is to be asked for its end now."""
        due = self._looks > 0 and self._looks % self.JOB_LOOKS == 0
        return self._news or self._near > 0 or self._gone > 0 or due

    @property
    def lost(self) -> bool:
        """Whether the job was killed, so that it will never have a result."""
        return self._gone >= self.LOST_LOOKS


LOST = (
    "The run was killed on the host before it had a result. What it did not finish is mended by the next run; what it "
    "began may go on meanwhile."
)


def _predicted(value: float | None, form: str, is_first: bool) -> str:
    """The prediction in brackets; the first one says that it is one."""
    if value is None:
        return ""
    return f" ({'predicted ' if is_first else ''}{value:{form}})"
