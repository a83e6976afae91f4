# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a value fits an option of a release, and the arguments that the two become.

Values are judged by what vLLM's own converters accept: the text "8192" is as good as the number. Reasons never repeat
what was given for an option that takes any text, because it may be a secret; they do where only numbers or choices fit.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Option

# human_readable_int in vllm/utils/argparse_utils.py (0.33.0): decimals only with the decimal (small) suffixes.
_SIZE = re.compile(r"\d+(?:\.\d+)?[kmgt]|\d+[KMGT]")


def check_value(option: Option, value: Any) -> str | None:
    """None if the option takes the value, else the reason why not, to be read behind the option's name."""
    if option.on is not None:
        return None if isinstance(value, bool) else f"must be true or false, without quotes, not {_what(value)}"
    if value is True and option.nargs == "?":
        return None
    if option.kind != "list":
        return _check_one(option, value)
    values = value if isinstance(value, list | tuple) else [value]
    if isinstance(option.nargs, int) and len(values) != option.nargs:
        return f"needs {option.nargs} values, not {len(values)}"
    if not values and (option.nargs == "+" or option.repeat):
        return "needs at least one value; leave the option out instead of an empty list"
    reason = next((reason for item in values if (reason := _check_one(option, item))), None)
    if reason is None and len(values) > 1 and not option.repeat and any(map(_looks_like_flag, map(_text, values))):
        return "holds a value that begins with a dash, which vLLM's parser would take for an option"
    return reason


def render_option(option: Option, value: Any) -> list[str]:
    """The arguments for an option and its value: the full flag first. Options that take lists go behind the model."""
    reason = check_value(option, value)
    if reason:
        raise ValueError(f"{option.flag} {reason}")
    if option.on is not None:
        spelling = option.on if value else option.off
        return [spelling] if spelling else []
    if value is True and option.nargs == "?":
        return [option.flag]
    if option.kind != "list":
        return _pair(option.flag, _render_one(option, value))
    texts = [_render_one(option, item) for item in (value if isinstance(value, list | tuple) else [value])]
    if option.repeat:
        return [argument for text in texts for argument in _pair(option.flag, text)]
    return _pair(option.flag, texts[0]) if len(texts) == 1 else [option.flag, *texts]


def _check_one(option: Option, value: Any) -> str | None:
    """Check a value that is not a list of the option's own."""
    if option.type in ("json", "json-or-str"):
        return _check_json(option, value)
    if option.type == "key=int":
        fits = isinstance(value, dict) and all(isinstance(v, int) and not isinstance(v, bool) for v in value.values())
        return None if fits else f"must be a mapping of names to whole numbers, not {_what(value)}"
    if option.type == "comma-separated" and isinstance(value, list | tuple):
        fits = all(isinstance(item, str | int) and "," not in str(item) for item in value)
        return None if value and fits else "must be text or a list of texts without commas, and not empty"
    if isinstance(value, dict) and option.kind == "list" and option.type == "str":
        return _serialisable(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return f"must be {_EXPECTED[option.type or 'str']}, not {_what(value)}"
    text = _text(value)
    if option.choices is not None:
        return _check_choice(option, text)
    if not _CONVERTS[option.type or "str"](text):
        return f"must be {_EXPECTED[option.type or 'str']}, not {text!r}"
    return None


def _check_choice(option: Option, text: str) -> str | None:
    choices = [_text(choice) for choice in option.choices or ()]
    if text in choices:
        return None
    near = difflib.get_close_matches(text, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"must be one of {', '.join(choices)}, not {text!r}{hint}"


def _check_json(option: Option, value: Any) -> str | None:
    if isinstance(value, str):
        if option.type == "json-or-str":
            return None
        try:
            value = json.loads(value)
        except ValueError as error:
            return f"must be a mapping or JSON text; the text is no JSON: {error}"
        except RecursionError:
            return "is nested too deeply"
    if option.config is not None and not isinstance(value, dict):
        return f"must be a mapping of {option.config} fields, not {_what(value)}"
    return _serialisable(value)


def _serialisable(value: Any) -> str | None:
    try:
        _json(value)
    except (TypeError, ValueError) as error:
        return f"cannot be written as JSON: {error}"
    return None


def _converts(convert: type, text: str) -> bool:
    try:
        convert(text)
    except ValueError:
        return False
    return True


def _is_size(text: str) -> bool:
    return _converts(int, text) or bool(_SIZE.fullmatch(text.strip()))


_CONVERTS = {
    "str": lambda text: True,
    "text": lambda text: True,
    "int": lambda text: _converts(int, text),
    "float": lambda text: _converts(float, text),
    "comma-separated": bool,
    "size": _is_size,
    "size-or-auto": lambda text: text.strip().lower() == "auto" or _is_size(text),
}
_EXPECTED = {
    "str": "text",
    "text": "text",
    "int": "a whole number",
    "float": "a number",
    "comma-separated": "text with commas between the items, or a list",
    "size": "a whole number, or one with a suffix such as 16k (16000) or 16K (16384)",
    "size-or-auto": "a whole number, one with a suffix such as 16k (16000) or 16K (16384), or auto",
}


def _render_one(option: Option, value: Any) -> str:
    if option.type == "key=int":
        return ",".join(f"{key}={number}" for key, number in value.items())
    if option.type == "comma-separated" and isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if option.type in ("json", "json-or-str"):
        return value if isinstance(value, str) else _json(value)
    return _text(value)


def _pair(flag: str, text: str) -> list[str]:
    """Flag and value as two arguments, or as one where the parser would take the value for another option."""
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _text(value: Any) -> str:
    return _json(value) if isinstance(value, dict) else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _looks_like_flag(text: str) -> bool:
    return text.startswith("-") and not _converts(float, text)


def _what(value: Any) -> str:
    """Names a value's type in the words of YAML, never the value."""
    names = {"NoneType": "null", "str": "text", "bool": "true or false", "int": "a number", "float": "a number"}
    names |= {"list": "a list", "tuple": "a list", "dict": "a mapping"}
    return names.get(type(value).__name__, type(value).__name__)
