# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""The one place that takes secrets out of what is shown or kept: logs, errors, inspections, incident folders. Pure.

Two nets: the values that the task knows, in every form in which programs print them, and what looks like a secret
wherever it stands, for a log may tell of secrets that somebody else has set.
"""

from __future__ import annotations

import base64
import json
import re
import typing as t
from urllib.parse import quote

HIDDEN = "********"
# A line of a longer secret (a key in PEM form) that is shorter says nothing, and hiding it would hide half the log.
_LINE_CHARACTERS = 8

_NAME = r"(?:TOKEN|API_?KEYS?|PASSWORD|PASSWD|PASSPHRASE|SECRET|SECRET_KEY|ACCESS_KEY|PRIVATE_KEY)"
# A value in quotes, or up to a blank; a reference to a variable or a program's output ("$(cat file)") is no secret.
_VALUE = r"(?!\"?\$)(?:\"[^\"]*\"|'[^']*'|[^\s\"',;}\]]+)"
# Each pattern's group `kept` stays, and what follows it is hidden.
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # Variables as docker inspect and env show them. Small letters are names of other things (eos_token=</s>).
        rf"(?P<kept>\b(?:[A-Z0-9]+_)*{_NAME}=){_VALUE}",
        rf"(?P<kept>[\"'](?:[A-Z0-9]+_)*{_NAME}[\"']\s*:\s*){_VALUE}",
        # vLLM's options of these names, as arguments, in its line "non-default args" and in its Namespace.
        rf"(?P<kept>--(?:api|ssl-keyfile-pass|hf)[-_](?:key|word|token)(?:\s+|=)){_VALUE}",
        rf"(?P<kept>\b(?:api_key|hf_token)[\"']?\s*[:=]\s*\[?)(?!None\b|null\b|\[|/){_VALUE}",
        # Headers of requests, and passwords in addresses.
        r"(?i:(?P<kept>authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic)\s+)?))[^\s\"',]+",
        r"(?i:(?P<kept>\bbearer\s+))[A-Za-z0-9._~+/=-]{8,}",
        r"(?P<kept>\b[a-z][a-z0-9+.-]*://[^\s/:@\"']*:)[^\s/@\"']+(?=@)",
        # Tokens that say what they are: Hugging Face (hf_), OpenAI's form (sk-), NVIDIA's NGC (nvapi-).
        r"(?P<kept>\bhf_)[A-Za-z0-9]{20,}",
        r"(?P<kept>\bsk-)[A-Za-z0-9_-]{16,}",
        r"(?P<kept>\bnvapi-)[A-Za-z0-9_-]{16,}",
        r"(?P<kept>-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----)[\s\S]*?(?=-----END|\Z)",
    )
)
_SECRET_KEY = re.compile(rf"(?:^|_){_NAME}$", re.IGNORECASE)


class Redactor:
    """Hides secrets in texts and in plain data."""

    def __init__(self, values: t.Iterable[str] = ()) -> None:
        """values: the secrets that are known."""
        forms = {form for value in values for part in _parts(value) for form in _forms(part)}
        # The longest first: one secret may be a part of another one.
        self._known = sorted(forms, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without secrets."""
        for form in self._known:
            text = text.replace(form, HIDDEN)
        for pattern in _PATTERNS:
            text = pattern.sub(lambda match: match["kept"] + HIDDEN, text)
        return text

    def data(self, data: t.Any) -> t.Any:
        """Plain data without secrets: in every text, and whole where a mapping's key is a secret's name."""
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, dict):
            return {
                self.data(key): HIDDEN
                if isinstance(value, str) and value and isinstance(key, str) and _SECRET_KEY.search(key)
                else self.data(value)
                for key, value in data.items()
            }
        if isinstance(data, (list, tuple)):
            return [self.data(one) for one in data]
        return data


def _parts(value: str) -> t.Iterator[str]:
    """What a program may print of a value: the whole, and each line of one with several."""
    if value.strip():
        yield value
        yield value.strip()
    lines = value.strip().splitlines()
    if len(lines) > 1:
        yield from (
            line.strip() for line in lines if len(line.strip()) >= _LINE_CHARACTERS and not line.startswith("-----")
        )


def _forms(part: str) -> t.Iterator[str]:
    """The forms in which programs print a text: as it is, as Python and JSON quote it, in an address, in base64."""
    yield part
    yield repr(part)[1:-1]
    yield json.dumps(part)[1:-1]
    yield json.dumps(part, ensure_ascii=False)[1:-1]
    if len(part) >= _LINE_CHARACTERS:
        yield quote(part, safe="")
        yield quote(part)
        yield base64.b64encode(part.encode()).decode()
