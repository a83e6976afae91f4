# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain text tables. Pure."""

from __future__ import annotations

import typing as t


def table(heads: t.Sequence[str], rows: t.Sequence[t.Sequence[object]]) -> list[str]:
    """Lines of a table with columns as wide as they need; numbers stand right."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(heads), *texts]) for column in range(len(heads))]
    right = [all(_is_number(row[column]) for row in texts) and bool(texts) for column in range(len(heads))]
    lines = [_line(heads, widths, right), "  ".join("-" * width for width in widths)]
    return lines + [_line(row, widths, right) for row in texts]


def _line(cells: t.Sequence[str], widths: t.Sequence[int], right: t.Sequence[bool]) -> str:
    columns = zip(cells, widths, right, strict=True)
    return "  ".join(cell.rjust(width) if is_right else cell.ljust(width) for cell, width, is_right in columns).rstrip()


def _is_number(text: str) -> bool:
    return text.replace(".", "").replace(",", "").replace("-", "").isdigit() or text == "-"
