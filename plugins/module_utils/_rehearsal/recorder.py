# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Runs inside a container without network, whose network and processes the rehearsed engine shares.

It answers every look-up with an address of its own making (198.18.0.0/15, which RFC 2544 keeps from the internet),
makes every IPv4 address one of this container, so that a connection is tried and refused, and tells each attempt as a
JSON line on standard output. Its text is handed to the image's python3, so it imports the standard library alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import socket
import struct
import sys
import threading
import time
import typing as t

MARK = "REHEARSAL "
# Where the host's folder is mounted, and the socket in it that leads to the engine.
FOLDER, SOCKET = "/run/rehearsal", "s"
# What the recorder itself looks up and connects to: what it does not see of itself it would not see of others.
PROOF, PROOF_PORT, PROOF_SECONDS = "rehearsal.invalid", 9, 60
# Lines that are told at most; one who asks without end says nothing new.
MOST_LINES = 5000
# Seconds for the next piece of a query that comes by TCP.
STREAM_SECONDS = 60

_PIECE = 65536
_A, _AAAA = 1, 28
_ICMP, _TCP, _UDP = 1, 6, 17
_ECHO = 8
# struct rtmsg and its attributes (linux/rtnetlink.h)
_RTM_NEWROUTE, _REQUEST_ACK_CREATE = 24, 0x405
_LOCAL_TABLE, _BOOT, _HOST_SCOPE, _LOCAL = 255, 3, 254, 2
_RTA_OIF, _RTA_PREFSRC = 4, 7
# linux/if_packet.h, linux/filter.h, asm-generic/socket.h
_ALL_PROTOCOLS, _SO_ATTACH_FILTER = 3, 26
# Of what goes out: IPv4 packets whose destination (byte 16) does not begin with 127.
_FILTER = (
    (0x30, 0, 0, 0xFFFFF004),  # the kind of the packet (SKF_AD_PKTTYPE)
    (0x15, 0, 5, 4),  # PACKET_OUTGOING
    (0x28, 0, 0, 0xFFFFF000),  # its protocol (SKF_AD_PROTOCOL)
    (0x15, 0, 3, 0x0800),
    (0x30, 0, 0, 16),
    (0x15, 1, 0, 127),
    (0x06, 0, 0, 128),
    (0x06, 0, 0, 0),
)


def question(packet: bytes) -> tuple[str, int, int] | None:
    """Name and type that a DNS query asks for, and where its question ends; None when it is no query (RFC 1035)."""
    if len(packet) < 17 or packet[2] & 0x80 or packet[4:6] == b"\0\0":
        return None
    labels, place = [], 12
    while place < len(packet) and packet[place]:
        size = packet[place]
        if size > 63:
            return None
        labels.append(packet[place + 1 : place + 1 + size].decode("ascii", "backslashreplace"))
        place += 1 + size
    if place + 5 > len(packet):
        return None
    return ".".join(labels).lower(), int(struct.unpack_from(">H", packet, place + 1)[0]), place + 5


def streamed(connection: socket.socket) -> bytes:
    """The message that comes by TCP after two bytes of its length; what there is of it when it ends early."""
    head = _exactly(connection, 2)
    return _exactly(connection, int(struct.unpack(">H", head)[0])) if len(head) == 2 else b""


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            break
        found += piece
    return found


def answer(packet: bytes, end: int, address: str | None) -> bytes:
    """The answer to a query whose question ends there: this address, or that the name has none of the asked type."""
    head = packet[:2] + struct.pack(">HHHHH", 0x8180, 1, 1 if address else 0, 0, 0)
    record = struct.pack(">HHHIH", 0xC00C, _A, 1, 60, 4) + socket.inet_aton(address) if address else b""
    return head + packet[12:end] + record


def address_of(number: int) -> str:
    """The address that stands for the name of this number, from 1 on."""
    return socket.inet_ntoa(struct.pack(">I", (198 << 24 | 18 << 16) + number % (1 << 17)))


def attempt(packet: bytes) -> tuple[str, str, int] | None:
    """Protocol, address and port to which an IPv4 packet that goes out tries to get; None when it tries nothing."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[16] == 127:
        return None
    inner = packet[(packet[0] & 15) * 4 :]
    protocol, address = packet[9], socket.inet_ntoa(packet[16:20])
    if struct.unpack_from(">H", packet, 6)[0] & 0x1FFF or len(inner) < 4:
        return None
    port = int(struct.unpack_from(">H", inner, 2)[0])
    if protocol == _TCP and len(inner) > 13 and inner[13] & 0x12 == 0x02:
        return "tcp", address, port
    if protocol == _UDP:
        return "udp", address, port
    if protocol == _ICMP and inner[0] == _ECHO:
        return "icmp", address, 0
    return None


def owner(protocol: str, port: int) -> str | None:
    """The name of the process whose socket has this port; None when it is gone, or may not be looked at."""
    inodes = set()
    for table in (f"/proc/net/{protocol}", f"/proc/net/{protocol}6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as handle:
            rows = [line.split() for line in handle.readlines()[1:]]
            inodes.update(row[9] for row in rows if int(row[1].rpartition(":")[2], 16) == port)
    wanted = {f"socket:[{inode}]" for inode in inodes - {"0"}}
    for path in glob.iglob("/proc/[0-9]*/fd/*") if wanted else ():
        with contextlib.suppress(OSError):
            if os.readlink(path) in wanted:
                with open(path.split("/fd/")[0] + "/comm", encoding="utf-8", errors="replace") as handle:
                    return handle.read().strip()
    return None


def pump(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until both sides have ended, then close both."""

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                piece = source.recv(_PIECE)
                if not piece:
                    break
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=carry, args=(other, one), daemon=True)
    back.start()
    carry(one, other)
    back.join()
    one.close()
    other.close()


def whole_address_space_here() -> None:
    """Make every IPv4 address one of this host's, reached from 127.0.0.1.

    It is `ip route add local default dev lo src 127.0.0.1`.
    """
    attributes = struct.pack("HHi", 8, _RTA_OIF, socket.if_nametoindex("lo"))
    attributes += struct.pack("HH", 8, _RTA_PREFSRC) + socket.inet_aton("127.0.0.1")
    body = struct.pack("BBBBBBBBI", socket.AF_INET, 0, 0, 0, _LOCAL_TABLE, _BOOT, _HOST_SCOPE, _LOCAL, 0) + attributes
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.send(struct.pack("IHHII", 16 + len(body), _RTM_NEWROUTE, _REQUEST_ACK_CREATE, 1, 0) + body)
        code = -struct.unpack_from("i", link.recv(_PIECE), 16)[0]
    if code:
        raise OSError(code, os.strerror(code))


def tap() -> socket.socket:
    """A socket that sees what goes out to other addresses than 127.0.0.0/8."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _FILTER))
    seen = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS))
    seen.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(_FILTER), ctypes.addressof(program)))
    return seen


class Recorder:
    """Answers, sees, and tells."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._addresses: dict[str, str] = {}
        self._lines = 0
        self.proven = threading.Event()

    def open(self) -> None:
        """Set everything up. Raises OSError."""
        whole_address_space_here()
        with open("/etc/resolv.conf", "w", encoding="ascii") as handle:
            handle.write("nameserver 127.0.0.1\n")
        # Engines ask for the address of their own name, which Docker writes here in every network but this.
        with open("/etc/hosts", "a", encoding="ascii") as handle:
            handle.write(f"127.0.0.1\t{socket.gethostname()}\n")
        packets = tap()
        plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        plain.bind(("127.0.0.1", 53))
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        stream.bind(("127.0.0.1", 53))
        stream.listen(16)
        for work, given in ((self._see, packets), (self._answer, plain), (self._answer_streams, stream)):
            threading.Thread(target=work, args=(given,), daemon=True).start()
        with contextlib.suppress(OSError), socket.create_connection((PROOF, PROOF_PORT), timeout=PROOF_SECONDS):
            pass
        if not self.proven.wait(PROOF_SECONDS):
            raise OSError(0, "a connection that the recorder made itself was not seen")

    def say(self, event: str, **facts: t.Any) -> None:
        """Tell one line."""
        with self._lock:
            self._lines += 1
            if self._lines <= MOST_LINES:
                sys.stdout.write(MARK + json.dumps(dict(facts, event=event, at=time.time())) + "\n")
                sys.stdout.flush()

    def _reply(self, packet: bytes, protocol: str, port: int) -> bytes | None:
        """The answer to one query, which is told."""
        asked = question(packet)
        if asked is None:
            return None
        name, kind, end = asked
        with self._lock:
            address = self._addresses.setdefault(name, address_of(len(self._addresses) + 1))
        if name != PROOF:
            self.say("lookup", name=name, address=address, process=owner(protocol, port))
        return answer(packet, end, address if kind == _A else None)

    def _answer(self, plain: socket.socket) -> None:
        while True:
            packet, peer = plain.recvfrom(_PIECE)
            reply = self._reply(packet, "udp", peer[1])
            if reply:
                plain.sendto(reply, peer)

    def _answer_streams(self, stream: socket.socket) -> None:
        while True:
            connection, peer = stream.accept()
            # One who is slow to ask keeps nobody else from being answered.
            threading.Thread(target=self._answer_stream, args=(connection, peer[1]), daemon=True).start()

    def _answer_stream(self, connection: socket.socket, port: int) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(STREAM_SECONDS)
            reply = self._reply(streamed(connection), "tcp", port)
            if reply:
                connection.sendall(struct.pack(">H", len(reply)) + reply)

    def _see(self, packets: socket.socket) -> None:
        while True:
            tried = attempt(packets.recv(_PIECE))
            if tried is None:
                continue
            with self._lock:
                proof = self._addresses.get(PROOF)
            if tried == ("tcp", proof, PROOF_PORT):
                self.proven.set()
            else:
                self.say("connect", protocol=tried[0], address=tried[1], port=tried[2])


def lead_to(connection: socket.socket, port: int) -> None:
    """Join a connection of the host's to the engine."""
    try:
        inner = socket.create_connection(("127.0.0.1", port))
    except OSError:
        connection.close()
        return
    pump(connection, inner)


def main(port: int) -> None:
    """Record until whoever rehearses lets go of its first connection; port: the engine's."""
    recorder = Recorder()
    try:
        recorder.open()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"{FOLDER}/{SOCKET}")
        os.chmod(f"{FOLDER}/{SOCKET}", 0o666)
        listener.listen(64)
    except OSError as error:
        recorder.say("failed", why=str(error))
        raise SystemExit(1) from error
    recorder.say("ready")
    held, _peer = listener.accept()

    def until_let_go() -> None:
        with contextlib.suppress(OSError):
            held.recv(1)
        # The first process of all that the engine runs in ends with this, and so does the engine.
        os._exit(0)

    threading.Thread(target=until_let_go, daemon=True).start()
    while True:
        connection, _peer = listener.accept()
        threading.Thread(target=lead_to, args=(connection, port), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
