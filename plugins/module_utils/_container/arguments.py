# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""What a diagnosis asks of an engine's arguments. Pure."""

from __future__ import annotations

import typing as t


def options(arguments: t.Sequence[str]) -> dict[str, t.Any]:
    """The options among arguments, in the form --name value or --name=value, as names with underscores."""
    found: dict[str, t.Any] = {}
    for index, argument in enumerate(arguments):
        if argument.startswith("--"):
            name, sign, value = argument[2:].partition("=")
            following = arguments[index + 1] if index + 1 < len(arguments) else ""
            found[name.replace("-", "_")] = value if sign else ("" if following.startswith("--") else following)
    return found
