# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A problem of what was declared, in the form in which all of them are reported. Everything in the house may use it."""

from __future__ import annotations

import dataclasses
import difflib
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._spec.plain import short

# The most characters of a value that are shown; paths are long.
_SHOWN = 300


@dataclasses.dataclass(frozen=True)
class Problem:
    """where: the model, or the host; field: dotted path as the user wrote it; reason: what is wrong; fix: what to do.

    value is shown, so it must never be a secret; None shows no value. A warning does not stop a plan.
    remedy: what to write instead of the field, as in a spec: {"engine": {"cpu_offload_gb": 4}}, {"offline": True}; an
    empty one: leave the field out. None where no other spelling says the same.
    """

    where: str
    field: str
    reason: str
    fix: str
    value: t.Any = None
    warning: bool = False
    remedy: t.Mapping[str, t.Any] | None = None

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {short(repr(self.value), _SHOWN)}"
        end = "" if self.fix.endswith(("?", ".")) else "."
        return f"{self.where}: {self.field}{shown}: {self.reason}. {self.fix}{end}"


class Invalid(Exception):
    """What was declared cannot be planned; carries all problems at once."""

    def __init__(self, problems: t.Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"- {problem}" for problem in self.problems)
        super().__init__(
            f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}, nothing was changed:\n{lines}"
        )


def did_you_mean(name: str, known: t.Iterable[str], otherwise: str | None = None) -> str:
    """'Did you mean ...?' for the nearest known names; when none is near, the other advice, or else the known names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(near) + "?"
    return otherwise or "Known are " + ", ".join(names) + "."
