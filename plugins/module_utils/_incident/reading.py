# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Logs of any length as lines without secrets, and what of them is worth sending to the controller. Pure."""

from __future__ import annotations

import codecs
import collections
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._redact import HIDDEN, Redactor

# Characters of a line that are kept; of a longer one, what is read before the rest of it is left out.
LINE_CHARACTERS = 1 << 16
READ_CHARACTERS = 1 << 20
# A secret that the end of what was read has cut in two is not recognised, so that much before the end is not shown.
_UNSURE_CHARACTERS = 1 << 14

# Lines of an excerpt: the first, the last, and between them the distinct ones that tell of something.
FIRST_LINES = 1500
LAST_LINES = 3000
TELLING_LINES = 2500
# Characters of a line in an excerpt.
EXCERPT_CHARACTERS = 2000
_EXCERPT_READ = 2 * _UNSURE_CHARACTERS
_TELLING = re.compile(
    r"ERROR|CRITICAL|FATAL|WARN|[Ee]rror|Exception|Traceback|File \"|[Ff]ailed|[Kk]illed|Xid|out of memory|version |"
    r"shutdown|terminat|died|[Tt]imed out|[Cc]annot|[Uu]nable|[Nn]o space|Permission|Interrupt|startup complete"
)
_NUMBERS = re.compile(r"\d+")
_KEY_BEGINS = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")
_KEY_ENDS = "-----END"


def lines_of(pieces: t.Iterable[bytes]) -> t.Iterator[str]:
    """The lines of a text that comes in pieces, cut anywhere. A carriage return, as of progress bars, ends one too."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest, skipping = "", False
    for piece in pieces:
        *whole, rest = (rest + decoder.decode(piece).replace("\r", "\n")).split("\n")
        for line in whole:
            if not skipping:
                yield line
            skipping = False
        if len(rest) > READ_CHARACTERS:
            if not skipping:
                yield rest
            rest, skipping = "", True
    rest += decoder.decode(b"", True)
    if rest and not skipping:
        yield rest


def redacted(lines: t.Iterable[str], redactor: Redactor) -> t.Iterator[str]:
    """The lines without secrets."""
    for line in _without_keys(lines):
        shown = redactor.text(line)
        if len(line) > LINE_CHARACTERS:
            keep = max(0, min(LINE_CHARACTERS, len(shown) - _UNSURE_CHARACTERS))
            shown = f"{shown[:keep]} ... {len(line) - keep} characters left out"
        yield shown


def excerpt(lines: t.Iterable[str], redactor: Redactor) -> list[tuple[int, str]]:
    """(number, line) of what a diagnosis needs, without secrets, in bounded memory and in the time of one reading."""
    first: list[tuple[int, str]] = []
    telling: list[tuple[int, str]] = []
    last: collections.deque[tuple[int, str]] = collections.deque()
    shapes: set[str] = set()
    for number, whole in enumerate(_without_keys(lines), 1):
        line = whole[:_EXCERPT_READ]
        if len(first) < FIRST_LINES:
            first.append((number, line))
            continue
        last.append((number, line))
        if len(last) <= LAST_LINES:
            continue
        old = last.popleft()
        if len(telling) < TELLING_LINES and _TELLING.search(old[1]):
            shape = _NUMBERS.sub("", old[1][:EXCERPT_CHARACTERS])
            if shape not in shapes:
                shapes.add(shape)
                telling.append(old)
    return [(number, redactor.text(line)[:EXCERPT_CHARACTERS]) for number, line in (*first, *telling, *last)]


def _without_keys(lines: t.Iterable[str]) -> t.Iterator[str]:
    """The lines, those of a private key hidden from its second one on; the first is the redactor's."""
    in_key = False
    for line in lines:
        if in_key:
            in_key = _KEY_ENDS not in line
            yield HIDDEN
            continue
        if "-----BEGIN" in line:
            begins = _KEY_BEGINS.search(line)
            in_key = begins is not None and _KEY_ENDS not in line[begins.end() :]
        yield line
