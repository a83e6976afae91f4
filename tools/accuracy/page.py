# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The accuracy report as text, as a page and as pictures. Same input, same bytes."""

from __future__ import annotations

import html
import math
import typing as t

import compare
import score
import splits
from packaging.version import Version
from predict import GIB, Prediction

# Below so many records a bar says little.
THIN = 10
# First and last minor of ranges of releases.
_RANGES = ((0, 5), (6, 8), (9, 12), (13, 19), (20, 25), (26, 33))
_UNITS = {"tokens": "tokens", "concurrency": "requests"}
_WORDS = {True: "reached", False: "**not reached**", None: "no record"}

Row = t.Sequence[str]


def table(head: Row, rows: t.Iterable[Row]) -> str:
    """A table in Markdown, which is readable as text; numbers are on the right."""
    rows = [list(row) for row in rows]
    widths = [max(len(row[at]) for row in [list(head), *rows]) for at in range(len(head))]
    right = [all(_is_number(row[at]) for row in rows) and bool(rows) for at in range(len(head))]

    def line(cells: Row) -> str:
        padded = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(cells, widths, right, strict=True)
        )
        return "| " + " | ".join(padded) + " |"

    rule = (
        "|"
        + "|".join("-" * (width + 1) + (":" if number else "-") for width, number in zip(widths, right, strict=True))
        + "|"
    )
    return "\n".join([line(head), rule, *(line(row) for row in rows)])


def _is_number(cell: str) -> bool:
    return not cell or cell[0] in "-+0123456789"


def bars(found: t.Sequence[score.Bar]) -> str:
    """What must hold."""
    head = ("what must hold", "limit", "measured", "n", "")
    return table(head, ((one.name, one.limit, one.measured, str(one.count), _word(one)) for one in found))


def _word(one: score.Bar) -> str:
    """Whether it holds; thin where few records say so."""
    return _WORDS[one.reached] + (", thin" if 0 < one.count < THIN else "")


def without_assumed(predictions: t.Sequence[Prediction]) -> str:
    """What must hold end to end, without the records whose gpu_memory_utilization is the release's default."""
    stated = [one for one in predictions if "utilization" not in one.case.assumed]
    every = {one.name: one for one in score.bars(predictions)}
    parts = [
        f"{one.name}: {one.measured} (n {one.count}, {_word(one)})"
        for one in score.bars(stated)
        if one.count != every[one.name].count and one.name in score.END_TO_END
    ]
    if not parts:
        return "No record of use end to end leaves gpu_memory_utilization unstated."
    return "Without those that do not state gpu_memory_utilization: " + "; ".join(parts) + "."


def without_sources(predictions: t.Sequence[Prediction], plain: t.Sequence[Prediction]) -> str:
    """What changes where records are read alone, without what their sources say beside them."""
    ids = [one.case.id for one in predictions if one.case.sourced]
    if not ids or not plain:
        return "Nothing is known of these records' sources but what the records say."
    every = {one.name: one for one in score.bars(predictions)}
    parts = [
        f"{one.name}: {one.measured} (n {one.count}, {_word(one)})"
        for one in score.bars(plain)
        if one.measured != every[one.name].measured
    ]
    return f"Without what the sources of {', '.join(ids)} say beside the records: " + "; ".join(parts) + "."


def unseen(halves: t.Sequence[Prediction], families: t.Sequence[Prediction], times: int) -> str:
    """What holds where the constants were fitted to other models: to half of them, and to all but one's own family."""
    rows = [
        (half.name, half.limit, half.measured, _word(half), family.measured, _word(family))
        for half, family in zip(splits.bars(halves), splits.bars(families), strict=True)
    ]
    head = ("what must hold", "limit", "fitted to the other half", "", "fitted to the other families", "")
    text = (
        f"The models dealt into halves {times} times, each half scored by constants fitted to the other;\n"
        "and each family by constants fitted to all others. What `tools/memory/refit.py` states where few starts tell "
        "stays."
    )
    return f"{text}\n\n{table(head, rows)}"


def calibrated_on(predictions: t.Sequence[Prediction]) -> str:
    """What the calibrated records are of."""
    known = [one for one in predictions if one.calibrated and one.chosen]
    if not known:
        return "No record is calibrated."
    gpus = sorted({one.case.device.name for one in known if one.case.device})
    splits = [
        ", ".join(str(size) for size in sorted({getattr(one.chosen.asked, how) for one in known if one.chosen}))
        for how in ("tensor_parallel", "pipeline_parallel")
    ]
    releases = sorted({score.by_release(one) for one in known})
    return (
        f"All {len(known)} calibrated records are of {', '.join(gpus)}, tensor parallel {splits[0]}, pipeline parallel "
        f"{splits[1]}, releases {', '.join(releases)}; nothing else is calibrated."
    )


def releases(predictions: t.Sequence[Prediction]) -> str:
    """Records and errors end to end by range of releases."""
    rows = []
    for first, last in _RANGES:
        members = [one for one in predictions if not one.fault and first <= Version(one.case.release).minor <= last]
        found = score.error(score.measures(members, "available KV"))
        tokens = score.error(score.measures(members, "tokens"))
        rows.append(
            [
                f"0.{first} to 0.{last}",
                str(len(members)),
                str(sum(one.case.stated for one in members)),
                str(sum(one.calibrated for one in members)),
                *([str(found.count), f"{found.mean:.3f}"] if found else ["0", ""]),
                *([str(tokens.count), f"{tokens.mean_percent:.2f}"] if tokens else ["0", ""]),
            ]
        )
    head = ["releases", "of use", "release stated", "calibrated", "n KV", "mean GiB", "n tokens", "mean %"]
    return table(head, rows)


def terms(predictions: t.Sequence[Prediction], key: t.Callable[[Prediction], str] | None, name: str) -> str:
    """Errors by term, and by group where a key is given."""
    rows = []
    groups = score.grouped(predictions, key) if key else {"": list(predictions)}
    for term in score.TERMS:
        for group, members in groups.items():
            found = score.error(score.measures(members, term))
            if found is None:
                continue
            cells = [term, group] if key else [term]
            rows.append([*cells, *_error(term, found)])
    head = ["term", name] if key else ["term"]
    return table([*head, "n", "mean error", "bias", "worst", "mean %", "in low..high %"], rows)


def _error(term: str, found: score.Error) -> list[str]:
    digits = 0 if term == "tokens" else 2 if term == "concurrency" else 3
    return [
        str(found.count),
        f"{found.mean:.{digits}f}",
        f"{found.bias:+.{digits}f}",
        f"{found.worst:+.{digits}f}",
        f"{found.mean_percent:.2f}",
        f"{found.covered:.0f}",
    ]


def capacity(predictions: t.Sequence[Prediction]) -> str:
    """The capacity by family: exact of testable."""
    groups = score.grouped(predictions, score.by_family)
    head = ["family", *score.EXACTS]
    rows = []
    for family, members in {"all": list(predictions), **groups}.items():
        found = score.exacts(members)
        if found:
            rows.append(
                [family, *(f"{found[name][0]}/{found[name][1]}" if name in found else "" for name in score.EXACTS)]
            )
    return table(head, rows)


def confusion(predictions: t.Sequence[Prediction]) -> str:
    """The verdict against what happened."""
    found = score.confusion(predictions)
    rows = []
    for started, name in ((True, "came up"), (False, "failed for want of memory")):
        rows.append([name, *(str(len(found.get((started, verdict), ()))) for verdict in ("fits", "tight", "misfit"))])
    return table(["the start", "fits", "tight", "misfit"], rows)


def interval(predictions: t.Sequence[Prediction]) -> str:
    """low..high of the available KV against the truth, in GiB."""
    rows = []
    for one in sorted(predictions, key=lambda one: one.case.id):
        if "available KV" in one.terms:
            found = one.terms["available KV"]
            rows.append(
                [
                    one.case.id,
                    one.case.model,
                    _release(one),
                    f"{found.low:.2f}",
                    f"{found.expected:.2f}",
                    f"{found.high:.2f}",
                    f"{found.truth:.2f}",
                    f"{found.error:+.2f}",
                    "yes" if found.covered else "no",
                ]
            )
    return table(["record", "model", "release", "low", "expected", "high", "truth", "error", "in"], rows)


def reasons(predictions: t.Sequence[Prediction]) -> str:
    """Why records or parts of them are not used, counted."""
    counts: dict[tuple[str, str], int] = {}
    for one in predictions:
        if one.fault:
            counts[("everything", one.fault)] = counts.get(("everything", one.fault), 0) + 1
        for what, why in one.unused.items():
            counts[(what, why)] = counts.get((what, why), 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return table(["not used", "because", "n"], ([what, why, str(count)] for (what, why), count in ordered))


def peers(found: t.Sequence[compare.Pair], quantity: str) -> str:
    """Ours against each peer by family, the mean on the records that both say something of."""
    unit = compare.QUANTITIES[quantity]
    names = list(dict.fromkeys(pair.peer for pair in found))
    families = list(dict.fromkeys(pair.family for pair in found if pair.quantity == quantity))
    rows = []
    for family in families:
        row = [family]
        for name in names:
            one = next((p for p in found if (p.peer, p.family, p.quantity) == (name, family, quantity)), None)
            mark = "" if one is None or one.nearer != "theirs" else " **better**"
            row.append(f"{one.ours:.2f} / {one.theirs:.2f} ({one.count}){mark}" if one else "")
        rows.append(row)
    return table([f"{quantity}, {unit}: ours / theirs (n)", *names], rows)


def best_peers(found: t.Sequence[compare.Pair]) -> str:
    """Ours against the best peer of each family."""
    rows = [
        [
            one.quantity,
            one.family,
            one.peer,
            f"{one.ours:.2f}",
            f"{one.theirs:.2f}",
            str(one.count),
            {"theirs": "**the peer**"}.get(one.nearer, one.nearer),
        ]
        for one in compare.best(found)
    ]
    return table(["quantity", "family", "best peer", "ours", "the peer's", "n", "nearer to the truth"], rows)


def refusals(found: t.Mapping[str, t.Mapping[str, int]], versions: t.Mapping[str, str]) -> str:
    """What peers said nothing of."""
    rows = [
        [f"{peer} {versions[peer]}", why, str(count)] for peer, counts in found.items() for why, count in counts.items()
    ]
    return table(["peer", "says nothing because", "n"], rows)


def weak(
    found: t.Sequence[score.Bar], compared: t.Sequence[compare.Pair], predictions: t.Sequence[Prediction] = ()
) -> str:
    """What is not reached, where a peer is nearer to the truth, and whose low..high misses the truth; said first."""
    missed = [one for one in found if one.reached is False]
    untested = [one.name for one in found if one.reached is None]
    lines = [f"- {one.name}: {one.measured} against {one.limit}, of {one.count} records." for one in missed]
    beyond = {name for one in missed if one.name.startswith("weights") for name in one.beyond}
    lora = [one.case.id for one in predictions if one.case.id in beyond and "lora" in one.case.category]
    if lora:
        lines.append(
            f"- Of the weights beyond, {', '.join(lora)} serve LoRA: slots of a rank that is not stated are inside the "
            "log's figure."
        )
    for pair in compared:
        if pair.nearer == "theirs":
            unit, family = compare.QUANTITIES[pair.quantity], pair.family
            lines.append(
                f"- {pair.peer} is nearer to the truth: {pair.quantity} of {family}, {pair.theirs:.2f} against our "
                f"{pair.ours:.2f} {unit}, of {pair.count} records."
            )
    lines += _uncovered(predictions)
    if untested:
        lines.append(f"- Not tested by any record: {', '.join(untested)}.")
    return "\n".join(lines) or "Everything that must hold does on these records."


def _uncovered(predictions: t.Sequence[Prediction]) -> list[str]:
    """The terms by family, release and GPU whose truth is in low..high in less than 90 % of records."""
    lines = []
    for key in (score.by_family, score.by_release, score.by_gpu):
        for group, members in score.grouped(predictions, key).items():
            for term in score.TERMS:
                error = score.error(score.measures(members, term))
                if error and error.covered < 90:
                    lines.append(f"- {term}, {group}: truth in low..high in {error.covered:.0f} % of {error.count}.")
    return lines


def _release(one: Prediction) -> str:
    """The release, and what is assumed."""
    text = one.case.release + ("" if one.case.stated else " (assumed)")
    return text + "".join(f" ({what} assumed)" for what in sorted(one.case.assumed))


def picture(predictions: t.Sequence[Prediction]) -> str:
    """Predicted against true available KV with low..high, as SVG; both axes in GiB, logarithmic."""
    points = [one for one in predictions if "available KV" in one.terms and one.terms["available KV"].truth > 0]
    size, edge = 520, 56
    least = 0.5
    most = max((max(one.terms["available KV"].truth, one.terms["available KV"].high) for one in points), default=100)
    top = 10 ** math.ceil(math.log10(most) * 4) if most <= 1 else most * 1.15

    def at(value: float) -> float:
        share = math.log(max(value, least) / least) / math.log(top / least)
        return round(edge + share * (size - 2 * edge), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" font-family="sans-serif" font-size="12">',
        "<title>Predicted against true bytes for the KV cache</title>",
        f'<rect width="{size}" height="{size}" fill="#ffffff"/>',
    ]
    ticks = [value for value in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if value <= top]
    for value in ticks:
        x, y = at(value), size - at(value)
        parts.append(f'<line x1="{x}" y1="{size - edge}" x2="{x}" y2="{edge}" stroke="#e5e7eb"/>')
        parts.append(f'<line x1="{edge}" y1="{y}" x2="{size - edge}" y2="{y}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{x}" y="{size - edge + 18}" text-anchor="middle" fill="#4b5563">{value:g}</text>')
        parts.append(f'<text x="{edge - 8}" y="{y + 4}" text-anchor="end" fill="#4b5563">{value:g}</text>')
    low, high = at(least), at(top)
    parts.append(
        f'<line x1="{low}" y1="{size - low}" x2="{high}" y2="{size - high}" stroke="#9ca3af" stroke-dasharray="4 3"/>'
    )
    for one in sorted(points, key=lambda one: one.case.id):
        found = one.terms["available KV"]
        x, colour = at(found.truth), "#0f766e" if one.calibrated else "#b45309"
        name = html.escape(
            f"{one.case.id} {one.case.model} {one.case.release}: {found.expected:.2f}, true {found.truth:.2f} GiB"
        )
        parts.append(
            f'<g stroke="{colour}" fill="{colour}"><title>{name}</title>'
            f'<line x1="{x}" y1="{size - at(found.low)}" x2="{x}" y2="{size - at(found.high)}" stroke-opacity="0.5"/>'
            f'<circle cx="{x}" cy="{size - at(found.expected)}" r="3" fill-opacity="0.7"/></g>'
        )
    middle = size / 2
    parts += [
        f'<text x="{middle}" y="{size - 12}" text-anchor="middle" fill="#111827">true available KV cache, GiB</text>',
        f'<text x="16" y="{middle}" text-anchor="middle" fill="#111827" transform="rotate(-90 16 {middle})">'
        "predicted, GiB: expected and low..high</text>",
        f'<circle cx="{edge + 10}" cy="24" r="4" fill="#0f766e"/>',
        f'<text x="{edge + 20}" y="28">calibrated release</text>',
        f'<circle cx="{edge + 170}" cy="24" r="4" fill="#b45309"/>',
        f'<text x="{edge + 180}" y="28">any other</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def worst(predictions: t.Sequence[Prediction], term: str, count: int) -> str:
    """The records that are furthest off."""
    rows = []
    for one in score.worst(predictions, term, count):
        found = one.terms[term]
        total = f"{one.case.device.total / GIB:.2f}" if one.case.device else ""
        rows.append(
            [
                one.case.id,
                one.case.model,
                one.case.family,
                _release(one),
                total,
                f"{found.expected:.2f}",
                f"{found.truth:.2f}",
                f"{100 * found.relative:+.1f}",
            ]
        )
    return table(["record", "model", "family", "release", "GPU GiB", "predicted", "truth", "error %"], rows)
