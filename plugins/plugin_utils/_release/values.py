# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a value fits an option of a release, and the arguments that the two become.

Values are judged by what vLLM's own converters accept: the text "8192" is as good as the number. Reasons never repeat
what was given for an option that takes any text, because it may be a secret; they do where only numbers or choices fit.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import json
import re
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import Option

# human_readable_int in vllm/utils/argparse_utils.py (0.33.0): decimals only with the decimal (small) suffixes.
_SIZE = re.compile(r"\d+(?:\.\d+)?[kmgt]|\d+[KMGT]")
_TERA = {"t": 10**12, "T": 2**40}
# union_dict_and_str in engine/arg_utils.py (0.33.0) takes such text for JSON, and any other as it is.
_BRACES = re.compile(r"\s*{.*}\s*", re.DOTALL)
# Options that are text to the parser; the engine reads it later (engine/arg_utils.py and config.py of 0.6.0 to 0.8.4).
READ_LATER = {
    "model_loader_extra_config": "json",
    "tokenizer_pool_extra_config": "json",
    "speculative_config": "literal",
}
# from_cli of CompilationConfig in config.py (0.6.5 to 0.8.5) takes its level alone, too.
_LEVELS = {"0", "1", "2", "3"}
_JSON = {"json", "json-or-str", "json-or-key=int", "literal"}
# Options whose items are name=path or, for LoRA, JSON objects (LoRAParserAction in entrypoints/openai/cli_args.py).
_ADAPTERS = {"lora_modules", "prompt_adapters"}


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
    check = _check_adapter if option.name in _ADAPTERS else _check_one
    reason = next((reason for item in values if (reason := check(option, item))), None)
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


def _form(option: Option) -> str:
    """The option's type; for text that the engine reads later, what it reads there."""
    return READ_LATER.get(option.name, "str") if option.type in ("str", None) else option.type


def _check_one(option: Option, value: Any) -> str | None:
    """Check a value that is not a list of the option's own."""
    if _form(option) in _JSON:
        return _check_json(option, value)
    if option.type == "key=int":
        fits = value == {} or isinstance(value, str | dict) and _is_counts(_render_one(option, value))
        return None if fits else f"must be a mapping of names to whole numbers, not {_what(value)}"
    if option.type == "comma-separated" and isinstance(value, list | tuple):
        fits = all(isinstance(item, str | int) and "," not in str(item) for item in value)
        return None if value and fits else "must be text or a list of texts without commas, and not empty"
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
    near = difflib.get_close_matches(text.lower(), choices, n=1)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    return f"must be one of {', '.join(choices)}, not {text!r}{hint}"


def _check_adapter(option: Option, value: Any) -> str | None:
    """Check an item of a list of adapters."""
    value = _adapter(option, value)
    if isinstance(value, dict) and option.name == "lora_modules":
        return _serialisable(value) if {"name", "path"} <= set(value) else "must be a mapping with name and path"
    if isinstance(value, str) and "=" in value and "," not in value:
        return None
    also = ", or mappings with name and path" if option.name == "lora_modules" else ""
    return f"must be texts of the form name=path{also}"


def _adapter(option: Option, value: Any) -> Any:
    """An item of a list of adapters: what its JSON text says; name=path wherever that says all."""
    if option.name == "lora_modules" and isinstance(value, str) and value.lstrip().startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if (
        isinstance(value, dict)
        and set(value) == {"name", "path"}
        and "," not in (text := "{name}={path}".format(**value))
    ):
        return text
    return value


def _check_json(option: Option, value: Any) -> str | None:
    if option.type in ("json-or-str", "json-or-key=int") and not isinstance(value, dict) and not _is_object(value):
        if not isinstance(value, str):
            return f"must be a mapping or text, not {_what(value)}"
        fits = option.type == "json-or-str" or _is_counts(value)
        return None if fits else "must be a mapping, JSON text of one, or text of the form name=7,other=8"
    wanted = "a list or JSON text of one" if isinstance(option.default, list) else "a mapping or JSON text"
    try:
        value = _object(option, value)
    except (json.JSONDecodeError, SyntaxError) as error:
        return f"must be {wanted}; the text is no JSON: {error}"
    except (ValueError, TypeError):
        return f"must be {wanted}; the text is neither JSON nor a literal of Python"
    except (RecursionError, MemoryError):
        return "is nested too deeply"
    if option.config is not None and not isinstance(value, dict):
        if _is_level(option, value):
            return None
        return f"must be a mapping of {option.config} fields, not {_what(value)}"
    return _serialisable(value)


def _object(option: Option, value: Any) -> Any:
    """What JSON text says; for options that vLLM reads as a literal of Python, what such text says, too."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        if _form(option) != "literal":
            raise
        return ast.literal_eval(value)


def _is_level(option: Option, value: Any) -> bool:
    return option.type == "literal" and option.config == "CompilationConfig" and repr(value) in _LEVELS


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


def _is_object(value: Any) -> bool:
    """Whether vLLM would take the value for JSON where it takes other texts as they are."""
    return isinstance(value, str) and bool(_BRACES.fullmatch(value))


def _is_counts(text: str) -> bool:
    """Whether nullable_kvs in engine/arg_utils.py (0.8.5) takes the text."""
    counts: dict[str, int] = {}
    for item in text.split(","):
        parts = [part.lower().strip() for part in item.split("=")]
        if len(parts) != 2 or not _converts(int, parts[1]):
            return False
        if counts.setdefault(parts[0], int(parts[1])) != int(parts[1]):
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
    if option.name in _ADAPTERS:
        return _text(_adapter(option, value))
    if option.type == "key=int" and isinstance(value, dict):
        return ",".join(f"{key}={number}" for key, number in value.items())
    if option.type == "comma-separated" and isinstance(value, list | tuple):
        return ",".join(map(str, value))
    form = _form(option)
    if form == "literal":
        # from_cli in config.py (0.6.5 to 0.8.5) knows True and None, but neither true nor null.
        return repr(json.loads(_json(_object(option, value))))
    if form in _JSON:
        # On one line, for before 0.10 vLLM looked for braces in one line only (engine/arg_utils.py).
        return _json(json.loads(value)) if _is_object(value) else value if isinstance(value, str) else _json(value)
    text = _text(value)
    if option.type in ("size", "size-or-auto") and text[-1:] in _TERA:
        # As a number, for vLLM knows this suffix from 0.13.0 on only.
        return str(int(float(text[:-1]) * _TERA[text[-1]]))
    return text


def _pair(flag: str, text: str) -> list[str]:
    """Flag and value as two arguments, or as one where the parser would take the value for another option."""
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _text(value: Any) -> str:
    return _json(value) if isinstance(value, dict) else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _looks_like_flag(text: str) -> bool:
    # Whole numbers are none; those with a dot vLLM would split as it does --option.field.
    return text.startswith("-") and not re.fullmatch(r"-\d+", text)


def _what(value: Any) -> str:
    """Names a value's type in the words of YAML, never the value."""
    names = {"NoneType": "null", "str": "text", "bool": "true or false", "int": "a number", "float": "a number"}
    names |= {"list": "a list", "tuple": "a list", "dict": "a mapping"}
    return names.get(type(value).__name__, type(value).__name__)
