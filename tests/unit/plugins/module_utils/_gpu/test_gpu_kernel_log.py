# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Xid errors from the kernel's buffer and from the journal."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import kernel_log

BOOT = 1763800000


@pytest.mark.parametrize(
    "message, expected",
    [
        (
            "NVRM: Xid (PCI:0000:18:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            ("0000:18:00.0", 79, "pid='<unknown>', name=<unknown>, GPU has fallen off the bus."),
        ),
        ("[  12.5] NVRM: Xid (PCI:0000:C1:00): 63, Row Remapper", ("0000:c1:00.0", 63, "Row Remapper")),
        # Drivers of before.
        ("NVRM: Xid (0000:03:00): 13, 0003 00000000", ("0000:03:00.0", 13, "0003 00000000")),
        ("NVRM: Xid (PCI:0001:00:00): 48,", ("0001:00:00.0", 48, "")),
        # Gone before the driver was up: without a number, over several lines.
        (
            "NVRM: The NVIDIA GPU 0000:b3:00.0\n               NVRM: (PCI ID: 10de:26b5) installed in this system has\n"
            "               NVRM: fallen off the bus and is not responding to commands.",
            ("0000:b3:00.0", 79, "GPU has fallen off the bus."),
        ),
        # Said again beside the Xid.
        ("NVRM: GPU 0000:18:00.0: GPU has fallen off the bus.", None),
        ("NVRM: Xid (PCI:nonsense): 79, x", None),
        ("NVRM: loading NVIDIA UNIX Open Kernel Module", None),
        ("usb 1-1: new device", None),
    ],
)
def test_xid(message, expected):
    found = kernel_log.xids([(None, message)])
    assert [(entry["pci_bus_id"], entry["code"], entry["text"]) for entry in found] == ([expected] if expected else [])


def test_the_last_of_many_counts():
    messages = [(BOOT + number, f"NVRM: Xid (PCI:0000:18:00): 31, {number}") for number in range(3)]
    messages.append((BOOT, "NVRM: Xid (PCI:0000:17:00): 31, " + "x" * 5000))
    first, second = kernel_log.xids(messages)
    assert first["pci_bus_id"] == "0000:17:00.0" and len(first["text"]) == 200
    assert second == {
        "pci_bus_id": "0000:18:00.0",
        "code": 31,
        "count": 3,
        "last": "2025-11-22T08:26:42Z",
        "text": "2",
    }


def test_records_of_the_kernels_buffer():
    text = (
        "6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n DEVICE=+net:a;b\n"
        "4,340,6500000,-,caller=T1;NVRM: one\\x0aNVRM: two; three\nbroken\n1,x,y;z\n"
    )
    first, second = kernel_log.buffer(text, BOOT)
    assert first == (BOOT + 5.1409, "NET: Registered")
    assert second == (BOOT + 6.5, "NVRM: one\nNVRM: two; three")
    assert kernel_log.buffer(text, None)[0] == (None, "NET: Registered")


def test_lines_of_the_journal():
    text = (
        "-- Boot 1 --\n1763800001.250000 box kernel: NVRM: one\n               NVRM: two\n"
        "1763800002.000000 box kernel: NVRM: three\n"
    )
    assert kernel_log.journal(text) == [
        (1763800001.25, "NVRM: one\n               NVRM: two"),
        (1763800002.0, "NVRM: three"),
    ]


def refuse(command):
    raise FileNotFoundError(2, "No such file or directory", command[0])


@pytest.mark.parametrize(
    "run, words",
    [
        (None, ["/dev/kmsg: No such file"]),
        (refuse, ["journalctl: No such file", "become"]),
        (lambda command: (1, "", "Access denied\n"), ["journalctl: Access denied"]),
        (lambda command: (0, "", ""), ["journalctl: nothing to see, status 0"]),
    ],
)
def test_a_closed_log_has_a_reason(tmp_path, run, words):
    found, reason = kernel_log.read(run, str(tmp_path))
    assert found is None
    for word in words:
        assert word in reason


def test_a_log_without_xids_is_readable(tmp_path):
    found, reason = kernel_log.read(lambda command: (0, "1763800001.0 box kernel: Linux\n", ""), str(tmp_path))
    assert (found, reason) == ([], None)


def test_the_log_of_this_machine():
    """Whatever this machine allows: a list or a reason, never both."""
    found, reason = kernel_log.read(None)
    assert (found is None) == bool(reason)
