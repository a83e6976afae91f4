# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The errors that the target's library raises; modules catch FleetError once, in main()."""

from __future__ import annotations

import typing as t


class FleetError(Exception):
    """Something the user can act on. The text says what was attempted, on what, why it failed, and what to do now.

    details: machine-readable facts that go into the module's failure beside the message.
    """

    def __init__(self, message: str, **details: t.Any) -> None:
        super().__init__(message)
        self.details = details


class EngineUnreachable(FleetError):
    """The Docker Engine does not answer."""


class EngineRefused(FleetError):
    """The Docker Engine refused a request."""


class Refused(FleetError):
    """The wanted state cannot be reached; nothing has been changed."""


class StartFailed(FleetError):
    """Servers did not become ready; what ran before was put back where there was something."""
