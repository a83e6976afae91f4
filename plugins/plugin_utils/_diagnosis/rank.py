# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Order what was found by causality: the root first, then its symptoms, then lines that only wrap it. Pure.

A line counts when it is an error or has no level, and when the start that it is of was not ready afterwards; of several
API servers each has its own. Of a start that goes well, warnings count where they repeat themselves and nothing else
goes on. Only where no such line shows anything, and the log does not tell of a start that goes well, the others are
taken, with little confidence.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.remedy import (
    change_for,
    sentence,
    values_of,
    within,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.scan import Hit, Scan
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.signatures import (
    RANKS,
    Signature,
    signatures,
)

# The most characters of a line that are shown.
_SHOWN = 300
# Processes that are named of those that show a cause.
_NAMED = 16
# Sorts behind every time of a log.
_LATE = "~"
# Marks of a log after which a start, or its engine, has got further.
_PROGRESS = ("begun", "alive", "ready", "working")
# One of several processes of the same kind, as APIServerProcessManager of vLLM's v1/utils.py names them: ApiServer_0.
_NUMBERED = re.compile(r"(?P<kind>.+)_\d+ pid=\d+")


@dataclasses.dataclass(frozen=True)
class Cause:
    """One cause.

    cause and remedy: a sentence or two each; change: the part of the specification to set, and remove: the fields to
    take out, where that mends it; evidence: the line that showed it, None for a fact of the container or of a GPU;
    source, line and process: where that line stands (source: the log's name; line: from 1); processes and seen: who
    else said the same and how often; rank: one of RANKS; confidence: high, medium or low; link: documentation or an
    issue.
    """

    id: str
    cause: str
    remedy: str
    evidence: str | None
    change: dict[str, t.Any]
    remove: list[str]
    rank: str
    confidence: str
    source: str | None
    line: int | None
    process: str | None
    processes: tuple[str, ...]
    seen: int
    link: str | None


def ranked(scans: t.Sequence[Scan], facts: t.Mapping[str, t.Any]) -> list[Cause]:
    """All causes that the logs and the facts show, the root first.

    facts: oom_killed, exit_code, xids (codes), and whatever else signatures ask for; release (version) and engine
    (options of the specification) choose the remedy; without a release the one that a log tells is taken.
    """
    release = facts.get("release") or next((scan.release for scan in scans if scan.release), None)
    facts = {**facts, "release": release}
    hits = [
        hit
        for scan in scans
        for hit in scan.hits
        if hit.signature.not_after not in hit.after and within_or_unknown(release, hit.signature)
    ]
    last = {scan.source: scan.starts for scan in scans}
    ready = {scan.source: scan.ready for scan in scans}
    failed = _failed(facts)
    strong = [
        hit
        for hit in hits
        if (hit.pattern.any_level or hit.level in ("error", "plain"))
        and hit.number >= _ready(hit, ready[hit.source].get(hit.start, {}), failed and hit.start == last[hit.source])
    ]
    well = bool(scans) and all(_well(scan) for scan in scans) and not failed
    of_facts = [signature for signature in signatures() if _holds(signature, facts)]
    if well:
        waiting = _waiting(strong, scans)
        strong = [
            hit for hit in strong if hit in waiting or (hit.pattern.rank != "notice" and not hit.pattern.any_level)
        ]
    # Information is never an error, however much it reads like one.
    taken = strong or ([] if well or of_facts else [hit for hit in hits if hit.level != "info"])
    return _ordered(taken, of_facts, last, facts, weak=not strong)


def within_or_unknown(release: str | None, signature: Signature) -> bool:
    """Whether this release may print it; so may one that is not known."""
    return release is None or within(release, signature.since, signature.until)


def _ready(hit: Hit, told: t.Mapping[str, tuple[int, int]], failed: bool) -> int:
    """The line that says that what this one is of was ready; 0 where none does.

    told: the first and the last such line of its start, by process. Of several API servers the others' lines do not
    tell that this one got over it; where lines do not name them and the start has failed, the first one counts.
    """
    own = told.get(hit.process) if hit.process else None
    if own:
        return own[1]
    numbered = _NUMBERED.fullmatch(hit.process)
    if numbered and any(
        other["kind"] == numbered["kind"] for other in (_NUMBERED.fullmatch(process) for process in told) if other
    ):
        return 0
    if failed:
        return min((first for first, _last in told.values()), default=0)
    return max((last for _first, last in told.values()), default=0)


def _waiting(hits: t.Sequence[Hit], scans: t.Sequence[Scan]) -> list[Hit]:
    """Those of the hits that show a start, or an engine, that waits for what does not come.

    An idle engine's workers say so too where DEBUG is shown (acquire_read of vLLM's shm_broadcast.py).
    """
    moved = {scan.source: max(scan.marks.get(mark, 0) for mark in _PROGRESS) for scan in scans}
    late = [
        hit
        for hit in hits
        if hit.pattern.any_level
        and hit.pattern.rank in ("cause", "symptom")
        and hit.number > moved[hit.source]
        and " DEBUG " not in f" {hit.line}"
    ]
    # Several patterns may show a line.
    seen = collections.Counter(
        (source, name) for source, name, _number in {(hit.source, hit.signature.id, hit.number) for hit in late}
    )
    enough = {
        (hit.source, hit.signature.id) for hit in late if seen[hit.source, hit.signature.id] >= hit.pattern.repeats
    }
    return [hit for hit in late if (hit.source, hit.signature.id) in enough]


def _well(scan: Scan) -> bool:
    """Whether the log tells of a start that is ready, or on its way there without an error."""
    failed = scan.marks.get("failed", 0)
    if not failed:
        return bool({"begun", "ready", "serving", "alive"} & set(scan.marks))
    return max(scan.marks.get("ready", 0), scan.marks.get("serving", 0)) > failed


def _failed(facts: t.Mapping[str, t.Any]) -> bool:
    return bool(facts.get("failed") or facts.get("oom_killed") or facts.get("exit_code"))


def _holds(signature: Signature, facts: t.Mapping[str, t.Any]) -> bool:
    """Whether the facts show this signature: each fact that it names is one of the values that it wants."""
    return bool(signature.facts) and all(
        any(value in wanted for value in (told if isinstance(told, list) else [told]))
        for told, wanted in ((facts.get(name), wanted) for name, wanted in signature.facts.items())
    )


def _ordered(
    hits: t.Sequence[Hit],
    of_facts: t.Sequence[Signature],
    last: t.Mapping[str, int],
    facts: t.Mapping[str, t.Any],
    weak: bool,
) -> list[Cause]:
    by_id: dict[str, list[Hit]] = {}
    for hit in sorted(hits, key=lambda hit: _when(hit, last, len(last) > 1)):
        by_id.setdefault(hit.signature.id, []).append(hit)
    found = {hit.signature.id: hit.signature for hit in hits} | {signature.id: signature for signature in of_facts}
    ranks = {
        name: min(
            [
                *(RANKS.index(hit.pattern.rank) for hit in by_id.get(name, [])),
                *([RANKS.index(signature.rank)] if any(signature is other for other in of_facts) else []),
            ]
        )
        for name, signature in found.items()
    }
    # A symptom is no reason for what may be its cause.
    explained = {
        other
        for name, signature in found.items()
        for other in signature.explains - {name}
        if other in ranks and ranks[name] <= ranks[other]
    }
    order: list[tuple[tuple[t.Any, ...], Cause]] = []
    for name, signature in found.items():
        # A fact of the container is certain, and is the reason for whatever the log says.
        of_fact = any(signature is other for other in of_facts)
        first = by_id.get(name, [None])[0]
        when = _when(first, last, len(last) > 1) if first else (-1 if of_fact else 0, _LATE, 0)
        if of_fact and signature.rank == "cause":
            when = (-(10**6), "", 0)
        key = (ranks[name], name in explained, *when)
        order.append((key, _cause(signature, RANKS[ranks[name]], by_id.get(name, []), facts, weak)))
    return [cause for _key, cause in sorted(order, key=lambda item: item[0])]


def _when(hit: Hit, last: t.Mapping[str, int], several: bool) -> tuple[t.Any, ...]:
    """The last start first; then the first line, by time where several logs are compared."""
    return hit.start - last[hit.source] and 1, (hit.moment or _LATE) if several else "", hit.number


def _cause(signature: Signature, rank: str, hits: t.Sequence[Hit], facts: t.Mapping[str, t.Any], weak: bool) -> Cause:
    # Of the lines of that rank the one that tells the most, else the first.
    hit = max((hit for hit in hits if hit.pattern.rank == rank), key=lambda hit: len(hit.groups), default=None)
    wording = hit.pattern if hit else signature
    values = values_of(hit.groups if hit else {}, facts)
    change, remove = change_for(wording.change, values, facts.get("release"))
    processes = tuple(dict.fromkeys(other.process for other in hits if other.process))
    return Cause(
        id=signature.id,
        cause=sentence(wording.cause, {**facts, **values}),
        remedy=sentence(wording.remedy, {**facts, **values}),
        evidence=hit.line[:_SHOWN] if hit else None,
        change=change,
        remove=remove,
        rank=rank,
        confidence="low" if weak and hit else {"cause": "high", "symptom": "medium"}.get(rank, "low"),
        source=hit.source if hit else None,
        line=hit.number if hit else None,
        process=hit.process or None if hit else None,
        processes=processes[:_NAMED],
        seen=len({(hit.source, hit.number) for hit in hits}),
        link=signature.link,
    )
