# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Xid errors of NVIDIA's driver from the kernel log of this boot."""

from __future__ import annotations

import datetime
import os
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import host

# Runs a command and returns its exit status, output and errors; raises OSError when it cannot be started.
Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]
# (seconds since the epoch or None, text) of every message.
Messages = t.List[t.Tuple[t.Optional[float], str]]

_JOURNAL = ["journalctl", "--dmesg", "--boot", "--quiet", "--no-pager", "--output=short-unix", "--lines=50000"]
# "NVRM: Xid (PCI:0000:18:00): 79, pid=1234, name=python3, GPU has fallen off the bus."; old drivers
# leave "PCI:" out.
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?(?P<bus>[0-9a-fA-F:.]+)\): (?P<code>\d+),?\s*(?P<text>.*)", re.DOTALL)
# A card that is gone before the driver is up gets no Xid: "NVRM: The NVIDIA GPU 0000:b3:00.0 ... fallen off the bus"
# over several lines. It is the fault that Xid 79 stands for.
_GONE = re.compile(r"NVRM: The NVIDIA GPU (?P<bus>[0-9a-fA-F:.]+).*?fallen off the bus", re.DOTALL)
_OFF_THE_BUS = 79
_TEXT_LENGTH = 200


def read(run: Run | None, root: str = "/") -> tuple[list[dict[str, t.Any]] | None, str | None]:
    """The Xid errors of this boot, or None and the reason when the kernel log cannot be read.

    The kernel's buffer first; where it is closed to this user, the journal.
    """
    reasons = []
    messages = None
    try:
        messages = _buffer(os.path.join(root, "dev/kmsg"), host.read_text(os.path.join(root, "proc/stat")) or "")
    except OSError as error:
        reasons.append(f"/dev/kmsg: {error.strerror}")
    if not messages and run is not None:
        try:
            status, output, problem = run(_JOURNAL)
            messages = journal(output)
            if not messages:
                reasons.append(f"journalctl: {problem.strip()[:_TEXT_LENGTH] or f'nothing to see, status {status}'}")
        except OSError as error:
            reasons.append(f"journalctl: {error.strerror}")
    # The log of a running kernel is never empty: who sees nothing may not see it.
    if not messages:
        return None, "; ".join(reasons or ["/dev/kmsg is empty"]) + ". Run the task with become to see Xid errors."
    return xids(messages), None


def _buffer(path: str, stat: str) -> Messages:
    """The messages of /dev/kmsg, which gives one record a read. Raises OSError."""
    records: list[bytes] = []
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                record = os.read(handle, 16384)
            except BlockingIOError:
                break  # that was the newest
            except BrokenPipeError:
                continue  # overwritten while we read; the next read gets what is there now
            if not record:
                break
            records.append(record)
    finally:
        os.close(handle)
    booted = re.search(r"^btime (\d+)$", stat, re.MULTILINE)
    return buffer(b"".join(records).decode("utf-8", "replace"), int(booted.group(1)) if booted else None)


def buffer(text: str, booted: int | None) -> Messages:
    """The messages of records "priority,sequence,microseconds since boot,flags;text"; booted: seconds since the epoch.

    Lines that begin with a space are the record's details, and "\\x0a" is a line break in the text.
    """
    messages: Messages = []
    for line in text.splitlines():
        head, found, message = line.partition(";")
        fields = head.split(",")
        if line.startswith(" ") or not found or len(fields) < 3 or not fields[2].isdigit():
            continue
        seconds = None if booted is None else booted + int(fields[2]) / 1e6
        messages.append((seconds, message.replace("\\x0a", "\n")))
    return messages


def journal(text: str) -> Messages:
    """The messages of `journalctl --output=short-unix`: "1763850000.123456 host kernel: text"."""
    found = re.findall(r"^(\d+\.\d+) \S+ kernel: (.*(?:\n\s+.*)*)", text, re.MULTILINE)
    return [(float(seconds), message) for seconds, message in found]


def xids(messages: Messages) -> list[dict[str, t.Any]]:
    """Xid errors by card and code: how often, when last (UTC), and the last one's text."""
    found: dict[tuple[str, int], dict[str, t.Any]] = {}
    for seconds, message in messages:
        match = _XID.search(message) or _GONE.search(message)
        address = host.pci_address(match.group("bus")) if match else None
        if match is None or address is None:
            continue
        parts = match.groupdict()
        code = int(parts.get("code", _OFF_THE_BUS))
        text = parts.get("text", "GPU has fallen off the bus.")
        entry = found.setdefault((address, code), {"pci_bus_id": address, "code": code, "count": 0})
        entry["count"] += 1
        entry["last"] = None if seconds is None else _utc(seconds)
        entry["text"] = text.strip()[:_TEXT_LENGTH]
    return [found[key] for key in sorted(found)]


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
