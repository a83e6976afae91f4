# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the known signatures in the logs of engines, in one pass and in bounded memory, however long a log is.

A log is cut into blocks of lines. Each pattern is first looked for by its run of plain characters, and only lines that
hold it are tried, so the time grows with the log's size and with the number of such lines, which is capped.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import functools
import itertools
import re
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._diagnosis.signatures import Pattern, Signature, signatures

# Characters of a block; one of a line that are looked at, around what was found in it.
BLOCK_CHARACTERS = 1 << 19
LINE_CHARACTERS = 2000
# Lines before a line in which what must be near it is looked for.
NEAR_LINES = 40
# Blocks from the beginning in which every line is tried; after them, of lines that differ by numbers only, the first
# and the last of each block.
WHOLE_BLOCKS = 8
# Places of one run of characters that are tried in a block, and hits that are kept of a signature.
TRIED_IN_BLOCK = 64
KEPT_HITS = 64

# Levels, the worst last. "plain" is a line without one: a traceback, or another program.
_LEVELS = {"DEBUG": "info", "INFO": "info", "WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}
# vLLM's own format (0.6.0 to 0.33.0: logging_utils/formatter.py, envs.py), then uvicorn's.
_LEVEL = re.compile(
    r"\b(?P<vllm>DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d"
    r"|^(?P<other>DEBUG|INFO|WARNING|ERROR|CRITICAL): "
)
# glog's format, which PyTorch writes: [W1130 22:29:51... or [rank0]:[W1130 ..., and before 2.4 [W socket.cpp:436].
_GLOG = re.compile(r"(?:^|\[)(?P<level>[IWEF])(?:\d{3,4} \d\d:\d\d:\d\d| \w+\.cpp:\d+\])")
_PYTHON_WARNING = re.compile(r"\.py:\d+: \w*Warning: |^\w*Warning: ")
_NCCL_INFO = re.compile(r" NCCL (?:INFO|TRACE) ")
# Errors after which vLLM or torch goes on: with_retry of 0.11.0 to 0.33.0 (transformers_utils/config.py, repo_utils.py)
# asks twice and then does without; caches that cannot be written (models/registry.py, 0.11.0 to 0.33.0) and plugins
# that cannot be loaded (plugins/__init__.py, 0.6.6 to 0.33.0) are done without; an attention kernel that the GPU lacks
# (fa_utils.py and attention/backends/utils.py, 0.7.3 to 0.33.0) gives way to another, and so does a choice of torch's
# autotuning (_inductor/select_algorithm.py, torch 2.4 to 2.13).
_GONE_ON = (
    "Error retrieving safetensors",
    "Error retrieving file list",
    ", retrying ",
    "Error saving model info cache",
    "Cached model info for class",
    "Failed to load plugin",
    "Cannot use FA version",
    "NVLink detection ",
    "Error ignored in ",
    "(non-fatal)",
    "; falling back to ",
    "Ignoring this choice",
    "may help. for benchmark choice",
    "No valid triton configs. ",
)
# Where in vLLM's source a line was written, which all lines of one message begin with.
_WRITTEN = re.compile(r"\b(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d (\[?[\w/]+\.py:\d+\])")
# The time in vLLM's lines, which compares as text within a year; and Docker's, when a log has them.
_TIME = re.compile(r"\b(\d\d-\d\d \d\d:\d\d:\d\d)\b")
_DOCKER_TIME = re.compile(r"^\d{4}-(\d\d-\d\d)T(\d\d:\d\d:\d\d)\S* ?")
# The process that a line is of: decorate_logs of 0.10.1.1 to 0.33.0, before it multiproc_worker_utils.py; then Ray's
# and torch's prefixes.
_PROCESS = re.compile(r"\((?P<name>[A-Za-z][\w ={}.-]*?) pid=(?P<pid>\d+)(?:, ip=[^)]*)?\)|^\[(?P<rank>rank\d+)\]:")
_VERSION = re.compile(r"(?:version |LLM engine \(v)(\d+\.\d+[\w.+]*)")
_NUMBERS = re.compile(r"\d+")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")

# What else a log tells. Of each, lines that show it.
_MARKS: dict[str, tuple[str, ...]] = {
    # The banner of a start: 0.6.0-0.13.0 api_server.py, then log_version_and_model.
    "begun": ("vLLM API server version ", "vLLM server version ", " █ ▀▄▀ █  version ", "█     █ ▀▄▀ █  version"),
    # A start that is over: uvicorn's line, in all releases. What went wrong before it has been got over.
    "ready": ("Application startup complete",),
    # A server that serves: answers to health checks, and the periodic figures. A frozen engine's server says so too.
    "serving": (
        '/health HTTP/1.1" 200',
        '/completions HTTP/1.1" 200',
        "Avg prompt throughput: ",
    ),
    # An engine that makes tokens, all releases. A frozen one's server answers 200 to a request of a stream as well.
    "working": ("Avg generation throughput: ",),
    # A start that goes well so far, of 0.6.0 to 0.33.0: arg_utils.py, model.py, default_loader.py, gpu_worker.py.
    "alive": (
        "Automatically detected platform ",
        "Resolved architecture: ",
        "This model supports multiple tasks: ",
        "Chunked prefill is enabled with ",
        "Using max model len ",
        "non-default args: ",
        "Loading weights took ",
        "Starting to load model ",
        "Initializing a V1 LLM engine",
        "Initializing an LLM engine",
        " in world size ",
        "Model loading took ",
        "torch.compile takes ",
        "Available KV cache memory: ",
        "KV cache size: ",
        "# GPU blocks: ",
        "Graph capturing finished",
        "init engine (profile",
        "Supported tasks: ",
        "Available routes are:",
        "Started server process",
    ),
    # An orderly end: 0.18.0-0.33.0 launchers, and uvicorn's line of all releases.
    "shutdown": ("shutdown triggered", "INFO:     Shutting down", "Received signal 15", "received signal 15"),
    "failed": ("Traceback (most recent call last)", " ERROR ", "Error: ", "FATAL", "CRITICAL"),
}


@dataclasses.dataclass(frozen=True)
class Hit:
    """A line that shows a signature.

    source: whose log; number: of the line, from 1; start: of the starts in that log, from 0; moment: the time of the
    line or of the last one before it that has one, as text; level: info, warning, error or plain.
    """

    signature: Signature
    pattern: Pattern
    groups: t.Mapping[str, str]
    source: str
    number: int
    start: int
    moment: str
    process: str
    level: str
    line: str
    after: frozenset[str]


@dataclasses.dataclass
class Scan:
    """All that a log tells: hits in the order of its lines, marks with the number of the last line that shows each.

    release: of vLLM, as the last start tells it; ready: of each start that was, the first and the last line that says
    so, by the process that does, "" where the line names none.
    """

    source: str
    hits: list[Hit]
    marks: dict[str, int]
    starts: int
    lines: int
    release: str | None = None
    ready: dict[int, dict[str, tuple[int, int]]] = dataclasses.field(default_factory=dict)


# The figures of an engine that makes no token.
_IDLE = "Avg generation throughput: 0.0 tokens/s"

# What a run of plain characters may show: a mark, or a pattern of a signature.
Meaning = str | tuple[Signature, Pattern]


@functools.cache
def _marks() -> dict[str, tuple[Meaning, ...]]:
    return {text: (mark,) for mark, texts in _MARKS.items() for text in texts}


@functools.cache
def _needles() -> dict[str, tuple[Meaning, ...]]:
    found: dict[str, list[Meaning]] = {}
    for signature in signatures():
        for pattern in signature.patterns:
            found.setdefault(pattern.literal, []).append((signature, pattern))
    return {text: tuple(found[text]) for text in found}


def _distinct(lines: t.Sequence[str]) -> list[int]:
    """The first and the last of the lines that differ by nothing but numbers."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for index, line in enumerate(lines):
        shape = _NUMBERS.sub("", line[:LINE_CHARACTERS])
        first.setdefault(shape, index)
        last[shape] = index
    return sorted({*first.values(), *last.values()})


def _places(
    lines: t.Sequence[str], indices: t.Sequence[int], needles: t.Mapping[str, tuple[Meaning, ...]]
) -> list[tuple[int, Meaning, int]]:
    """(index of the line, what it may show, where in it) for these lines of a block."""
    chosen = [lines[index] for index in indices]
    text = "\n".join(chosen)
    begins = list(itertools.accumulate((len(line) + 1 for line in chosen), initial=0))
    places: list[tuple[int, Meaning, int]] = []
    for needle, meanings in needles.items():
        at, found = text.find(needle), []
        while at >= 0:
            found.append(at)
            if len(found) == TRIED_IN_BLOCK:
                # What comes last in a flood says how it ended.
                found.append(text.rfind(needle))
                break
            at = text.find(needle, begins[bisect.bisect_right(begins, at)])
        for at in found:
            row = bisect.bisect_right(begins, at) - 1
            places += [(indices[row], meaning, at - begins[row]) for meaning in meanings]
    return places


def scan(source: str, lines: t.Iterable[str | tuple[int, str]]) -> Scan:
    """Read one log. lines: texts, or texts with their numbers where some were left out."""
    state = _State(source)
    block: list[tuple[int, str]] = []
    size = 0
    for count, item in enumerate(lines, 1):
        number, line = (count, item) if isinstance(item, str) else item
        block.append((number, line))
        size += len(line) + 1
        if size >= BLOCK_CHARACTERS:
            state.take(block)
            block, size = [], 0
    state.take(block)
    return state.result


class _State:
    """A scan under way."""

    def __init__(self, source: str) -> None:
        self.result = Scan(source, [], {}, 0, 0)
        self._before: list[str] = []
        self._moment = ""
        self._blocks = 0
        self._kept: collections.Counter[tuple[str, int]] = collections.Counter()

    def take(self, block: t.Sequence[tuple[int, str]]) -> None:
        """Look through the next lines."""
        if not block:
            return
        lines = [line for _number, line in block]
        self._blocks += 1
        tried = _distinct(lines) if self._blocks > WHOLE_BLOCKS else range(len(lines))
        places = [
            *_places(lines, range(len(lines)), _marks()),
            *_places(lines, tried, _needles()),
        ]
        # Of one line, marks come first: a banner begins the start that its line belongs to.
        for index, meaning, column in sorted(places, key=lambda place: (place[0], not isinstance(place[1], str))):
            if isinstance(meaning, str):
                if self._shows(meaning, lines, index):
                    self._mark(meaning, block[index][0], lines[index])
                if meaning in ("begun", "alive"):
                    version = _VERSION.search(lines[index][:LINE_CHARACTERS])
                    self.result.release = version[1] if version else self.result.release
            else:
                self._try(*meaning, lines, index, column, block[index][0])
        self._moment = _moment(lines, len(lines) - 1, self._moment)
        self._before = [line[:LINE_CHARACTERS] for line in [*self._before, *lines][-NEAR_LINES:]]
        self.result.lines = block[-1][0]

    def _shows(self, mark: str, lines: t.Sequence[str], index: int) -> bool:
        if mark == "failed":
            # A warning may speak of an error that could happen.
            return self._level(lines, index) in ("error", "plain")
        return mark != "working" or _IDLE not in lines[index]

    def _mark(self, mark: str, number: int, line: str) -> None:
        if mark == "begun" and number != self.result.marks.get("begun"):
            self.result.starts += 1
            # What was before belongs to a former start.
            self.result.marks.clear()
        if mark == "ready":
            told = self.result.ready.setdefault(self.result.starts, {})
            process = _process(line)
            told[process] = (told.get(process, (number, number))[0], number)
        self.result.marks[mark] = number

    def _try(
        self, signature: Signature, pattern: Pattern, lines: t.Sequence[str], index: int, column: int, number: int
    ) -> None:
        start = self.result.starts
        if self._kept[signature.id, start] >= KEPT_HITS:
            return
        first = max(0, column - LINE_CHARACTERS // 2)
        line = _COLOUR.sub("", lines[index][first : first + LINE_CHARACTERS])
        match = pattern.match.search(line)
        if match is None:
            return
        if pattern.near and not any(
            pattern.near.search(near[:LINE_CHARACTERS]) for near in (line, *self._lines_before(lines, index))
        ):
            return
        self._kept[signature.id, start] += 1
        self.result.hits.append(
            Hit(
                signature=signature,
                pattern=pattern,
                groups={name: value.strip() for name, value in match.groupdict().items() if value is not None},
                source=self.result.source,
                number=number,
                start=start,
                moment=_moment(lines, index, self._moment),
                process=_process(line),
                level=self._level(lines, index),
                line=line.strip(),
                after=frozenset(self.result.marks),
            )
        )

    def _level(self, lines: t.Sequence[str], index: int) -> str:
        """That of the line; a warning where it goes on with a message of an error that was got over."""
        line = _COLOUR.sub("", lines[index][:LINE_CHARACTERS])
        told = level(line)
        written = _WRITTEN.search(line) if told == "error" else None
        if written and any(
            written[1] in before and any(text in before for text in _GONE_ON)
            for before in self._lines_before(lines, index)
        ):
            return "warning"
        return told

    def _lines_before(self, lines: t.Sequence[str], index: int) -> t.Sequence[str]:
        here = list(lines[max(0, index - NEAR_LINES) : index])
        lacking = NEAR_LINES - len(here)
        return [*self._before[-lacking:], *here] if lacking else here


def level(line: str) -> str:
    """info, warning, error, or plain for a line that names no level."""
    head = line[:200]
    if any(text in line for text in _GONE_ON):
        return "warning"
    match = _LEVEL.search(head)
    if match:
        return _LEVELS[match["vllm"] or match["other"]]
    match = _GLOG.search(head)
    if match:
        return {"I": "info", "W": "warning"}.get(match["level"], "error")
    if _NCCL_INFO.search(line):
        return "info"
    return "warning" if _PYTHON_WARNING.search(line) else "plain"


def _moment(lines: t.Sequence[str], index: int, otherwise: str) -> str:
    """The time of this line, or of the last of the few before it that has one."""
    for at in range(index, max(-1, index - NEAR_LINES), -1):
        match = _TIME.search(lines[at][:200])
        if match:
            return match[1]
        docker = _DOCKER_TIME.match(lines[at])
        if docker:
            return f"{docker[1]} {docker[2]}"
    return otherwise


def _process(line: str) -> str:
    match = _PROCESS.search(line[:300])
    return (match["rank"] or f"{match['name']} pid={match['pid']}") if match else ""
