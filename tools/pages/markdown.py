# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of Markdown, and how the life of a name is written everywhere."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.catalogue import Life


def table(head: t.Sequence[str], rows: t.Iterable[t.Sequence[str]]) -> str:
    """A table; a cell may hold anything but a line break."""

    def line(cells: t.Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    return line(head) + "|" + "---|" * len(head) + "\n" + "".join(map(line, rows))


def details(summary: str, text: str) -> str:
    """Text that is unfolded by a click."""
    return f"<details><summary>{summary}</summary>\n\n{text.strip()}\n\n</details>\n"


def code(value: t.Any) -> str:
    """A name or value as code."""
    return f"`{value}`"


def codes(values: t.Iterable[t.Any]) -> str:
    """Names or values as code, separated by commas."""
    return ", ".join(map(code, values))


def years(life: Life) -> str:
    """The releases of a name: '0.6.0 to 0.9.2, 0.11.0 on'."""
    return ", ".join(
        f"{since} on" if until is None else since if since == until else f"{since} to {until}"
        for since, until in life.spans
    )


def one_line(text: str, limit: int) -> str:
    """At most so many characters of a text, on one line, cut between words."""
    line = " ".join(text.split()).replace("<", "&lt;")
    return line if len(line) <= limit else line[:limit].rpartition(" ")[0] + " ..."


def sentence(clause: str) -> str:
    """A clause as a sentence; names at its beginning are left as they are."""
    first = clause.split()[0]
    return f"{clause[0].upper() if first.isalpha() and first.islower() else clause[0]}{clause[1:]}."
