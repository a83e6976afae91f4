# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory as people see it: the ledger of a device, what would make a model fit, and both as a drawing. Pure."""

from __future__ import annotations

import html
import json
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.levers import needed_text, text_of
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report.table import table

GIB = 2**30
_BAR_CELLS = 50
# One letter a term in the bar; the KV cache is what the terms leave.
_LETTERS = {
    "weights": "W",
    "activation": "A",
    "runtime": "R",
    "graphs": "G",
    "graphs reserved": "G",
    "kv cache": "K",
    "context": "C",
    "graphs beyond": "g",
}
_OTHER_LETTER = "?"
# Fill and ink: colours that people with any colour vision tell apart (Okabe and Ito).
_COLOURS = {
    "weights": ("#0072b2", "#fff"),
    "activation": ("#e69f00", "#000"),
    "runtime": ("#cc79a7", "#000"),
    "graphs": ("#f0e442", "#000"),
    "graphs reserved": ("#f0e442", "#000"),
    "kv cache": ("#009e73", "#000"),
    "context": ("#56b4e9", "#000"),
    "graphs beyond": ("#d55e00", "#000"),
}
_OTHER_COLOUR = ("#767676", "#fff")
_CONFIDENCE = {
    "calibrated": "calibrated, on starts of this release on such a GPU",
    "fitted": "fitted, to starts of other releases or GPUs",
    "low": "low, for something about model, release or device is not known; see the notes",
}
# Pixels of the drawing.
_WIDTH, _MARGIN, _HEAD, _ROW, _BAR, _LEGEND = 960, 20, 76, 96, 34, 60
_LETTER_WIDTH = 16
_OTHER = "other"
_COLUMNS = ("weights", "activation", "graphs")
_LEFT_FREE = "left free"


def fit_text(found: t.Mapping[str, t.Any], brief: bool = False) -> list[str]:
    """Lines of the whole report.

    found: what fit_models returned; brief: of what fits no more than the table.
    """
    models = found["models"]
    lines = [f"MEMORY: {_summary(models)}"]
    rows = [_row(model, device) for model in models for device in model["devices"]]
    if rows:
        heads = ["model", "device", "GPUs", "GiB", *_COLUMNS, _OTHER, "KV cache", "tokens", "requests", "longest"]
        lines += table([*heads, "verdict"], rows)
    for model in models:
        lines += _model_text(model, brief)
    return lines


def ledger_text(server: str, ledger: t.Mapping[str, t.Any]) -> list[str]:
    """The ledger of one server: a bar, the terms with their error, and what they leave. GiB."""
    terms = _terms(ledger)
    shown = [*terms, {**ledger["room"], "name": _LEFT_FREE}]
    rows = [[term["name"], *(f"{term[column] / GIB:.3f}" for column in ("low", "expected", "high"))] for term in shown]
    found = (
        f"{ledger['verdict']}: {_short(ledger)}{ledger['tokens']:,} tokens of KV cache, "
        f"{ledger['concurrency']:g} requests of {ledger['max_model_len']:,} tokens at once; "
        f"the longest request that model and memory allow has {ledger['largest_length']:,} tokens"
    )
    return [
        f"MEMORY of {server} on {ledger['device']}: {ledger['total'] / GIB:.2f} GiB, "
        f"of which the engine takes {ledger['budget'] / GIB:.2f}",
        _bar(terms, ledger["total"]),
        *table(["GiB", "low", "expected", "high"], rows),
        found,
        f"confidence: {_CONFIDENCE[ledger['confidence']]}",
        *(f"note: {note}" for note in ledger["notes"]),
    ]


def _short(ledger: t.Mapping[str, t.Any]) -> str:
    """What is lacking, at the beginning of a sentence; empty where all fits."""
    if ledger["largest_length"] < ledger["max_model_len"]:
        terms = sum(term["expected"] for term in ledger["terms"])
        lacking = ledger["kv_needed"] - ledger["kv"]["expected"]
        return (
            f"{lacking / GIB:.2f} GiB are lacking inside the engine's {ledger['budget'] / GIB:.2f}, for the terms take "
            f"{terms / GIB:.2f} and one request of {ledger['max_model_len']:,} tokens {ledger['kv_needed'] / GIB:.2f}; "
        )
    if ledger["room"]["expected"] < 0:
        outside = sum(term["expected"] for term in ledger["outside"])
        return (
            f"{-ledger['room']['expected'] / GIB:.2f} GiB are lacking outside the engine's "
            f"{ledger['budget'] / GIB:.2f}, where {outside / GIB:.2f} are taken; "
        )
    return ""


def advice_text(advice: t.Mapping[str, t.Any] | None) -> list[str]:
    """What would make it fit, what frees most first.

    advice: the data of an Advice, or what holds its keys; None where nothing is to be said.
    """
    if not advice:
        return []
    lines = [f"- {text_of(lever)}" for lever in advice["levers"]]
    if advice["together"]:
        lines.append(f"- together: {text_of(advice['together'])}")
    if advice["needed"]:
        lines.append(f"- {needed_text(advice['needed'])}")
    return ["What would make it fit, by what it frees on each device:", *lines] if lines else []


def fit_svg(model: t.Mapping[str, t.Any]) -> str:
    """A drawing of one model: a bar for each kind of device. model: one of what fit_models returned."""
    devices = model["devices"]
    names = list(dict.fromkeys(term["name"] for device in devices for term in _terms(device["ledger"])))
    height = _HEAD + _ROW * max(1, len(devices)) + _LEGEND
    title = f"GPU memory of {model['name']} with vLLM {model['release']}"
    told = "; ".join(_told(device) for device in devices) or f"unknown: {model['unknown']}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title desc" font-family="system-ui, sans-serif" font-size="13" fill="#000">',
        f'<title id="title">{_escape(title)}</title>',
        f'<desc id="desc">{_escape(told)}</desc>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        _text(_MARGIN, 30, title, 'font-size="18" font-weight="bold"'),
        _text(_MARGIN, 50, str(model["model"]), 'fill="#444"'),
    ]
    for number, device in enumerate(devices):
        lines += _drawn(device, _HEAD + number * _ROW)
    if not devices:
        lines.append(_text(_MARGIN, _HEAD + 24, f"Unknown: {model['unknown']}"))
    lines += _legend(names, height - _LEGEND + 14) if names else []
    return "\n".join([*lines, "</svg>", ""])


def fit_files(found: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The report as files: all figures as JSON, and a drawing a model. found: what fit_models returned."""
    drawings = {f"{model['name']}.svg": fit_svg(model) for model in found["models"]}
    return {"fit.json": json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n", **drawings}


# ---- text


def _summary(models: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    if not models:
        return "there is no model to look at"
    misfits = [one["name"] for one in models if not one["fits"] and not one["unknown"]]
    if misfits:
        return f"{len(misfits)} of {len(models)} models fit on none of these devices: {', '.join(misfits)}"
    unknown = sum(bool(one["unknown"]) for one in models)
    if unknown == len(models):
        return f"nothing can be said of {unknown} of {unknown} models"
    return "every model fits somewhere" if not unknown else f"every model fits somewhere, but {unknown} are unknown"


def _model_text(model: t.Mapping[str, t.Any], brief: bool) -> list[str]:
    lines = []
    if model["unknown"]:
        lines += ["", f"MEMORY of {model['name']}: unknown, for {model['unknown']}"]
    for device in model["devices"]:
        if brief and device["verdict"] == "fits":
            continue
        lines += ["", *ledger_text(model["name"], device["ledger"])]
        if device["gpus_needed"] > device["gpus_there"]:
            lines.append(f"It needs {device['gpus_needed']} of these GPUs on one host, and {_there(device)}.")
        lines += advice_text(device)
    if lines or not brief:
        lines.append(f"A start of {model['name']} may take up to {model['deadline_seconds']:,} s.")
        lines += [f"note: {model['note']}"] if model["note"] else []
    return lines


def _there(device: t.Mapping[str, t.Any]) -> str:
    where = f"{', '.join(device['hosts'])} has" if len(device["hosts"]) == 1 else "the most that one has is"
    return f"{where} {device['gpus_there']}"


def _row(model: t.Mapping[str, t.Any], device: t.Mapping[str, t.Any]) -> list[str]:
    ledger = device["ledger"]
    sizes: dict[str, int] = {}
    for term in [*ledger["terms"], *ledger["outside"]]:
        name = next((column for column in _COLUMNS if term["name"].startswith(column)), _OTHER)
        sizes[name] = sizes.get(name, 0) + term["expected"]
    gpus = f"{device['gpus_needed']} of {device['gpus_there']}" if device["gpus_there"] else "CPU"
    return [
        model["name"],
        device["device"],
        gpus,
        f"{ledger['total'] / GIB:.2f}",
        *(f"{sizes.get(name, 0) / GIB:.2f}" for name in (*_COLUMNS, _OTHER)),
        f"{ledger['kv']['expected'] / GIB:.2f}",
        f"{ledger['tokens']:,}",
        f"{ledger['concurrency']:g}",
        f"{ledger['largest_length']:,}",
        device["verdict"],
    ]


def _terms(ledger: t.Mapping[str, t.Any]) -> list[t.Mapping[str, t.Any]]:
    return [*ledger["terms"], ledger["kv"], *ledger["outside"]]


def _bar(terms: t.Sequence[t.Mapping[str, t.Any]], total: int) -> str:
    """The device from end to end; a dot is memory that the engine leaves."""
    cells = ""
    for term in terms:
        cells += _LETTERS.get(term["name"], _OTHER_LETTER) * round(max(0, term["expected"]) / total * _BAR_CELLS)
    key = ", ".join(f"{_LETTERS.get(term['name'], _OTHER_LETTER)} {term['name']}" for term in terms)
    return f"[{cells[:_BAR_CELLS]:.<{_BAR_CELLS}}] {key}"


# ---- drawing


def _told(device: t.Mapping[str, t.Any]) -> str:
    """The bar in words, for who cannot see it."""
    ledger = device["ledger"]
    terms = ", ".join(f"{term['name']} {term['expected'] / GIB:.2f} GiB" for term in _terms(ledger))
    low, high = (ledger["kv"][name] / GIB for name in ("low", "high"))
    return (
        f"{device['device']} of {ledger['total'] / GIB:.2f} GiB: {device['verdict']}; {terms} "
        f"({low:.2f} to {high:.2f} GiB of KV cache)"
    )


def _drawn(device: t.Mapping[str, t.Any], top: int) -> list[str]:
    """One bar with what stands above and below it."""
    ledger = device["ledger"]
    terms = _terms(ledger)
    # Where the terms are more than the device has, the bar goes on behind the device's end.
    whole = max(ledger["total"], sum(max(0, term["expected"]) for term in terms))
    scale = (_WIDTH - 2 * _MARGIN) / whole
    label = f"{device['device']}, {ledger['total'] / GIB:.2f} GiB: {device['verdict']}"
    kv = ledger["kv"]
    figures = (
        f"{ledger['tokens']:,} tokens, {ledger['concurrency']:g} requests of {ledger['max_model_len']:,}; "
        f"one of them needs {ledger['kv_needed'] / GIB:.2f} GiB, and the KV cache has {kv['expected'] / GIB:.2f} "
        f"({kv['low'] / GIB:.2f} to {kv['high'] / GIB:.2f})"
    )
    upper, end = top + 8, _MARGIN + ledger["total"] * scale
    lines = [
        _text(_MARGIN, top, label, 'font-weight="bold"'),
        f'<rect x="{_MARGIN}" y="{upper}" width="{ledger["total"] * scale:.1f}" height="{_BAR}" fill="#eee"/>',
    ]
    place = float(_MARGIN)
    whisker: list[str] = []
    for term in terms:
        width = max(0, term["expected"]) * scale
        lines += _segment(term, place, upper, width)
        if term is kv:
            whisker = _whisker(place, place + width, upper + _BAR - 9, term, scale)
        place += width
    lines += [*whisker, f'<path d="M{end:.1f} {upper - 4}v{_BAR + 8}" stroke="#000" stroke-width="2"/>']
    return [*lines, _text(_MARGIN, upper + _BAR + 18, figures, 'fill="#444" font-size="12"')]


def _segment(term: t.Mapping[str, t.Any], place: float, top: float, width: float) -> list[str]:
    colour, ink = _COLOURS.get(term["name"], _OTHER_COLOUR)
    if width <= 0:
        return []
    size = f"{term['name']}: {term['expected'] / GIB:.2f} GiB ({term['low'] / GIB:.2f} to {term['high'] / GIB:.2f})"
    lines = [
        f'<rect x="{place:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{colour}" stroke="#fff">'
        f"<title>{_escape(size)}</title></rect>"
    ]
    if width >= _LETTER_WIDTH:
        middle, letter = place + width / 2, _LETTERS.get(term["name"], _OTHER_LETTER)
        lines.append(_text(middle, top + 14, letter, f'text-anchor="middle" font-size="11" fill="{ink}"'))
    return lines


def _whisker(begin: float, end: float, middle: float, kv: t.Mapping[str, t.Any], scale: float) -> list[str]:
    """Where the KV cache may begin: the terms before it are what is not certain."""
    if kv["low"] == kv["high"]:
        return []
    real_end = begin + kv["expected"] * scale if kv["expected"] < 0 else end
    left, right = (min(max(real_end - kv[name] * scale, _MARGIN), _WIDTH - _MARGIN) for name in ("high", "low"))
    path = f"M{left:.1f} {middle - 6:.1f}v12m0 -6H{right:.1f}m0 -6v12"
    return [f'<path d="{path}" fill="none" stroke="#000" stroke-width="1.5"/>']


def _legend(names: t.Sequence[str], top: int) -> list[str]:
    """What the colours and the two marks mean, in two lines."""
    lines, place = [], _MARGIN
    for name in names:
        colour, _ink = _COLOURS.get(name, _OTHER_COLOUR)
        lines.append(f'<rect x="{place}" y="{top}" width="12" height="12" fill="{colour}"/>')
        text = f"{_LETTERS.get(name, _OTHER_LETTER)} {name}"
        lines.append(_text(place + 17, top + 11, text, 'font-size="12"'))
        place += 17 + 7 * len(text) + 14
    under, middle = top + 24, _WIDTH // 2
    whisker = f"M{_MARGIN} {under + 1}v10m0 -5h18m0 -5v10"
    end = f"M{middle} {under}v12"
    return [
        *lines,
        f'<path d="{whisker}" fill="none" stroke="#000" stroke-width="1.5"/>',
        _text(_MARGIN + 25, under + 11, "where the KV cache begins, at best to at worst", 'font-size="12"'),
        f'<path d="{end}" stroke="#000" stroke-width="2"/>',
        _text(middle + 8, under + 11, "the end of the device; grey is what stays free", 'font-size="12"'),
    ]


def _text(left: float, top: float, text: str, style: str = "") -> str:
    return f'<text x="{left:g}" y="{top:g}"{" " if style else ""}{style}>{_escape(text)}</text>'


def _escape(text: str) -> str:
    """Text for XML, without the control characters that no XML may have."""
    return html.escape("".join(one for one in text if one.isprintable()))
