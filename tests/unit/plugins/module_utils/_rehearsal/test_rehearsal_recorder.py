# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the recorder reads of queries and packets, and what it answers."""

from __future__ import annotations

import socket
import threading

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._rehearsal import recorder

# Made by glibc's getaddrinfo("huggingface.co"), query for A.
QUERY = bytes.fromhex("5f1201000001000000000000") + b"\x0bhuggingface\x02co\x00\x00\x01\x00\x01"
# IPv4 packets as the kernel of Linux 6.18 made them: a SYN to 10.1.2.3:443, and the RST that answered it.
SYN = bytes.fromhex("4500003cdacb40004006d4eb7f0000010a010203df8c01bb89bd478300000000a002ffd78b330000")
RESET = bytes.fromhex("45000028000040004006afcb0a0102037f00000101bbdf8c0000000089bd47845014000072420000")


def packet(protocol: int, inner: bytes, to: str = "10.1.2.3", fragment: int = 0) -> bytes:
    head = bytes([0x45, 0, 0, 20 + len(inner), 0, 0]) + fragment.to_bytes(2, "big") + bytes([64, protocol, 0, 0])
    return head + socket.inet_aton("127.0.0.1") + socket.inet_aton(to) + inner


def test_a_query_and_its_answer() -> None:
    assert recorder.question(QUERY) == ("huggingface.co", 1, len(QUERY))
    answer = recorder.answer(QUERY, len(QUERY), "198.18.0.7")
    assert answer[:12].hex() == "5f1281800001000100000000"
    assert answer[12 : len(QUERY)] == QUERY[12:]
    assert answer[len(QUERY) :].hex() == "c00c00010001" + "0000003c" + "0004" + "c6120007"
    empty = recorder.answer(QUERY, len(QUERY), None)
    assert empty[:12].hex() == "5f1281800001000000000000" and empty[12:] == QUERY[12:]


def test_a_query_by_tcp_is_read_whole_in_whatever_pieces_it_comes() -> None:
    """Each read of such a socket gets one piece, however busy the machine is."""
    whole = len(QUERY).to_bytes(2, "big") + QUERY
    for pieces in ((whole[:2], whole[2:]), (whole[:1], whole[1:2], whole[2:9], whole[9:])):
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with one, other:
            for piece in pieces:
                one.send(piece)
            one.shutdown(socket.SHUT_WR)
            assert recorder.streamed(other) == QUERY
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        one.send(b"\0")
        one.shutdown(socket.SHUT_WR)
        assert recorder.streamed(other) == b""


def test_names_are_read_without_their_case() -> None:
    assert recorder.question(QUERY.replace(b"hugging", b"HuGGing"))[0] == "huggingface.co"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        QUERY[:16],
        QUERY[:-5],
        QUERY[:2] + b"\x81" + QUERY[3:],
        QUERY[:4] + b"\0\0" + QUERY[6:],
        QUERY[:12] + b"\xc0\x0c" + QUERY[14:],
        QUERY[:12] + b"\x3f" * 40,
    ],
)
def test_what_is_no_query(broken: bytes) -> None:
    assert recorder.question(broken) is None


def test_each_name_has_an_address_of_its_own() -> None:
    assert [recorder.address_of(number) for number in (1, 256, 65536)] == ["198.18.0.1", "198.18.1.0", "198.19.0.0"]


@pytest.mark.parametrize(
    ("seen", "tried"),
    [
        (SYN, ("tcp", "10.1.2.3", 443)),
        (RESET, None),
        (SYN[:33] + b"\x10" + SYN[34:], None),  # an ACK of a connection that stands
        (packet(17, bytes.fromhex("d43100350010fe0f")), ("udp", "10.1.2.3", 53)),
        (packet(17, bytes.fromhex("d43100350010fe0f"), to="127.0.0.53"), None),
        (packet(17, bytes.fromhex("d43100350010fe0f"), fragment=185), None),
        (packet(1, bytes.fromhex("0800f7ff00000000")), ("icmp", "10.1.2.3", 0)),
        (packet(1, bytes.fromhex("0303f7ff00000000")), None),  # an answer: port unreachable
        (packet(2, bytes.fromhex("1600f7ff00000000")), None),  # the kernel's own, of groups
        (b"", None),
        (b"\x60" + SYN[1:], None),
        (packet(6, b"\x01"), None),
    ],
)
def test_what_is_an_attempt(seen: bytes, tried: tuple[str, str, int] | None) -> None:
    assert recorder.attempt(seen) == tried


def test_the_owner_of_a_socket() -> None:
    with open("/proc/self/comm", encoding="utf-8") as handle:
        own = handle.read().strip()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.bind(("127.0.0.1", 0))
        assert recorder.owner("udp", plain.getsockname()[1]) == own
    # No socket has this port.
    assert recorder.owner("udp", 0) is None


def test_bytes_are_carried_both_ways_until_both_sides_end() -> None:
    (one, near), (far, other) = socket.socketpair(), socket.socketpair()
    carrying = threading.Thread(target=recorder.pump, args=(near, far))
    carrying.start()
    with one, other:
        one.sendall(b"asked")
        one.shutdown(socket.SHUT_WR)
        assert (other.recv(9), other.recv(9)) == (b"asked", b"")
        other.sendall(b"answered")
        other.shutdown(socket.SHUT_WR)
        assert (one.recv(9), one.recv(9)) == (b"answered", b"")
    carrying.join(30)
    assert not carrying.is_alive()
