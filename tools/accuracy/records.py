# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded starts of vLLM: what was asked, on which GPU, and what vLLM reported.

A record is one JSON object a line, in the long form in which starts are collected (with log lines and notes) or in the
short form that is kept here: figures, options, names and sources, no line of anybody's log. `reduce` makes the short
form of either, and `read_cases` makes of it what our library takes.

    python3 tools/accuracy/records.py LONG.jsonl > tools/accuracy/records.jsonl

Where a record does not say its release, one is assumed, by the first of these that applies; such a record never counts
as calibrated:

1. a development build is the release that it precedes (0.8.5.dev22: 0.8.5; 0.20.2rc1.dev249: 0.20.2)
2. an image that the source names (vllm-openai:v0.11.0)
3. the newest release that was out two weeks before the source's date
4. the form of what was reported: "consumed memory" is of 0.26.0 and later (0.30.0 is taken), and so is a build of a
   checkout without tags (0.1.dev20051: 0.27.0); KV tokens that are no multiple of 16, or with windowed layers are the
   concurrency times the length, are counted as from 0.23.0 on; an estimate of graphs exists from 0.18.0 on; recurrent
   state and sparse attention are reported sensibly from 0.20.0 on, and their KV tokens are no longer blocks from 0.20.1
   on: 0.20.0 where they are, else 0.20.2; CPU blocks, or GPU blocks where the engine is V0, are of V0: 0.8.5 where the
   terms are told apart, else 0.6.3; all else 0.11.0

By date or form, KV tokens that are the blocks of one of several groups move the release to 0.20.0 at the latest, the
last that counts so. An assumed release is never older than the first that has the model's architecture. A record of V0
is moved to 0.10.2 at the latest, the last release that has it.

What a record's own source says and the record does not is in sources.json, each with where it stands: options,
variables, packages of the image, the release. It is used where a report asks for it, and never where constants are
fitted.

Records are strangers' files: what is no number where one belongs is left out, and a record that cannot be read at all
is a case that says so.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import pathlib
import re
import sys
import typing as t

from columns import OPTIONS
from packaging.version import InvalidVersion, Version

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.geometry import Geometry, Unreadable, geometry
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Device
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._release.release import load

GIB = 2**30
HERE = pathlib.Path(__file__).resolve().parent
RECORDS = HERE / "records.jsonl"
MODELS = HERE / "models.json"
SOURCES = HERE / "sources.json"

Record = t.Mapping[str, t.Any]

# The day before which most files of a release's package were last changed, which is its day but for a few.
RELEASED = {
    "0.6.0": "2024-09-04",
    "0.6.2": "2024-09-25",
    "0.6.3": "2024-10-14",
    "0.6.4": "2024-11-15",
    "0.6.5": "2024-12-17",
    "0.6.6": "2024-12-27",
    "0.7.0": "2025-01-27",
    "0.7.2": "2025-02-06",
    "0.7.3": "2025-02-20",
    "0.8.0": "2025-03-18",
    "0.8.2": "2025-03-25",
    "0.8.3": "2025-04-06",
    "0.8.4": "2025-04-15",
    "0.8.5": "2025-04-28",
    "0.9.0": "2025-05-28",
    "0.9.1": "2025-06-10",
    "0.9.2": "2025-07-07",
    "0.10.0": "2025-07-25",
    "0.10.1": "2025-08-18",
    "0.10.2": "2025-09-13",
    "0.11.0": "2025-10-04",
    "0.11.1": "2025-11-18",
    "0.12.0": "2025-12-03",
    "0.13.0": "2025-12-19",
    "0.14.0": "2026-01-20",
    "0.16.0": "2026-02-26",
    "0.17.0": "2026-03-07",
    "0.18.0": "2026-03-20",
    "0.19.0": "2026-04-03",
    "0.20.0": "2026-04-27",
    "0.20.2": "2026-05-09",
    "0.21.0": "2026-05-14",
    "0.22.0": "2026-05-29",
    "0.23.0": "2026-06-13",
    "0.24.0": "2026-06-30",
    "0.25.0": "2026-07-11",
    "0.26.0": "2026-07-25",
    "0.27.0": "2026-08-10",
    "0.28.0": "2026-08-26",
    "0.29.0": "2026-09-09",
    "0.30.0": "2026-09-22",
    "0.31.0": "2026-10-04",
    "0.32.0": "2026-10-18",
    "0.33.0": "2026-11-02",
}
_SETTLED_DAYS = 14
_LAST_V0 = Version("0.10.2")
# KV tokens are the concurrency times the length from 0.20.1 on, where layers are in several groups.
_LAST_BY_GROUPS = Version("0.20.0")
_FIRST_V1_DEFAULT = Version("0.8.0")

# GiB that CUDA reports as total, by what a GPU's name holds, in any case; the first that is found counts. Read off the
# starts recorded here, but for those with a remark.
_TOTALS = (
    (r"B300", 267.69),
    (r"(?<!G)B200", 178.36),
    (r"(?<!G)H200", 139.72),
    (r"H100.*NVL|NC\d+adis_H100", 93.11),  # nvidia-smi's 95830 MiB
    (r"H100|H800", 79.19),
    (r"(?<!G)H20\b", 95.08),  # nvidia-smi's 97871 MiB
    (r"(A100|A800).*40", 39.49),
    (r"A100|A800", 79.25),
    (r"MI300A", 127.51),  # 128 GiB of the product's sheet
    (r"MI300X", 191.69),
    (r"GB10\b|DGX Spark", 121.69),
    (r"RTX PRO 6000", 94.97),
    (r"L40S?\b", 44.32),
    (r"A40\b", 44.35),
    (r"A6000", 44.55),
    (r"A10G", 21.99),
    (r"A10\b", 22.09),
    (r"\bL4\b", 22.16),
    (r"(?<![A-Z])T4\b", 14.74),
    (r"V100.*32", 31.73),
    (r"V100", 15.77),  # nvidia-smi's 16160 MiB
    (r"5090", 31.36),
    (r"4090.*48", 47.38),  # nvidia-smi's 49140 MiB
    (r"4090", 23.63),
    (r"3090", 23.56),
    (r"7900 XTX", 23.98),
    (r"W6800", 29.98),  # 30 GiB that ROCm leaves of 32
)
# GB of the product's sheet, of GPUs that no start recorded here is of: their total is assumed, as is one of a slice or
# of a name that states a size. MI250: one of its two halves.
_SHEETS = (
    (r"GB200", 186),
    (r"GH200.*144", 144),
    (r"GH200", 96),
    (r"3060", 12),
    (r"4060 ?Ti", 16),
    (r"4070", 12),
    (r"5060 ?Ti", 16),
    (r"6000 Ada", 48),
    (r"A30\b", 24),
    (r"A16\b", 16),
    (r"P40\b", 24),
    (r"RTX PRO 4500", 32),
    (r"MI250", 64),
    (r"MI325X", 256),
    (r"MI355X", 288),
)
# Of a size that is sold, what CUDA reports; about what it is for most GPUs above.
_SHARE_OF_SHEET = 0.985

# Options of the server that decide about memory; all others of a record are of no use here.
_OPTIONS = frozenset(
    {
        "async_scheduling",
        "attention_backend",
        "block_size",
        "compilation_config",
        "cpu_offload_gb",
        "cudagraph_capture_sizes",
        "data_parallel_size",
        "decode_context_parallel_size",
        "disable_hybrid_kv_cache_manager",
        "dtype",
        "enable_chunked_prefill",
        "enable_expert_parallel",
        "enable_lora",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_dtype",
        "kv_cache_memory_bytes",
        "language_model_only",
        "limit_mm_per_prompt",
        "mamba_block_size",
        "mamba_cache_dtype",
        "mamba_cache_mode",
        "mamba_ssm_cache_dtype",
        "max_cudagraph_capture_size",
        "max_lora_rank",
        "max_loras",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_seqs",
        "num_gpu_blocks_override",
        "performance_mode",
        "pipeline_parallel_size",
        "prefill_context_parallel_size",
        "quantization",
        "runner",
        "speculative_config",
        "tensor_parallel_size",
    }
)
_ALIASES = {
    "kv_cache_memory": "kv_cache_memory_bytes",
    "dcp": "decode_context_parallel_size",
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "ep": "enable_expert_parallel",
    "prefix_caching": "enable_prefix_caching",
    "chunked_prefill": "enable_chunked_prefill",
    "tensor_parallel": "tensor_parallel_size",
    "eager": "enforce_eager",
    "speculative": "speculative_config",
}
_UNITS = {"gib": GIB, "gb": 10**9, "mib": 2**20, "mb": 10**6, "k": 1000}
_FLAG = re.compile(
    r"""(?P<dashes>--?)?(?P<name>[A-Za-z][A-Za-z0-9_-]*)
        (?:\s*=\s*|\s+(?=[\d'"{\[])|(?<=[a-z0-9])\s+(?=(?:[a-z0-9_]+)(?:\s|,|;|$)))?
        (?P<value>'[^']*'|"[^"]*"|\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|\[[^\]]*\]|[^\s,;=]+)?
        (?:\s*(?P<unit>GiB|GB|MiB|MB)\b)?""",
    re.VERBOSE,
)

# Options that are numbers.
_NUMBERS = frozenset(
    {
        "block_size",
        "cpu_offload_gb",
        "data_parallel_size",
        "decode_context_parallel_size",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "mamba_block_size",
        "max_cudagraph_capture_size",
        "max_lora_rank",
        "max_loras",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_seqs",
        "num_gpu_blocks_override",
        "pipeline_parallel_size",
        "prefill_context_parallel_size",
        "tensor_parallel_size",
    }
)

# More than any figure is, and than an option can be meant to be, where loops run over it.
_MOST = 10**15
_MOST_OF = {
    "kv_cache_memory_bytes": _MOST,
    "max_model_len": 10**9,
    "max_num_batched_tokens": 10**9,
    "num_gpu_blocks_override": 10**9,
    "pipeline_parallel_size": 1024,
}

# What of a long record is kept as it is.
_KEPT = (
    "id",
    "category",
    "model",
    "source_repo",
    "source_thread",
    "source_date",
    "vllm_version",
    "engine",
    "gpu",
    "gpu_count",
    "gpu_total_gib",
    "quantization",
    "usage_context",
    "outcome",
)
_BLOCKS = (1, 8, 16, 32, 64, 128, 256)
# What vLLM reported. GiB, tokens, blocks, requests.
FIGURES = (
    "weights_gib_per_gpu",
    "instance_budget_gib",
    "non_torch_gib",
    "activation_peak_gib",
    "cudagraph_actual_gib",
    "cudagraph_estimate_gib",
    "available_kv_gib",
    "kv_cache_tokens",
    "gpu_blocks",
    "cpu_blocks",
    "max_concurrency",
    "max_concurrency_len",
    "kv_needed_gib",
    "estimated_max_model_len",
    "outside_gib",
    "consumed_gib",
    "activation_by_rank_gib",
    "taken_by_rank_gib",
    "block_tokens",
)
# Those of FIGURES that are lists, one number a rank.
_BY_RANK = frozenset({"activation_by_rank_gib", "taken_by_rank_gib"})
# Outcomes of starts that failed for want of GPU memory, and of those that did not. Others say nothing of it.
FAILED = frozenset(
    {"kv_too_small", "no_kv_memory", "oom_load", "oom_profile", "oom_graph", "oom_after_kv", "mamba_blocks_too_few"}
)
STARTED = frozenset({"ok"})


@dataclasses.dataclass(frozen=True)
class Case:
    """One start as our library takes it.

    engine, env: as a spec would have them; release: the stated or assumed one, release_basis: stated, development
    build, image, date or form; device: None where neither the GPU's name nor its size is known; shape, profile: None
    where the model is not known (profile: {"weights": ...} as model_info has it, or None where no bytes are known);
    truth: FIGURES that the record has; family: one of FAMILIES; shared: others held memory of the GPU; unbudgeted: why
    nothing can be said of the budget as a whole, "" where something can; unusable: why nothing at all can be predicted,
    "" where something can; packages: of the image, where they are known; sourced: whether anything of it is from
    sources.json; assumed: of "utilization" and "gpu", what the record does not state and the release's
    default or the product's sheet stands for; notes: what else was assumed.
    """

    id: str
    model: str
    engine: t.Mapping[str, t.Any]
    env: t.Mapping[str, str]
    release: str
    release_basis: str
    device: Device | None
    shape: Geometry | None
    profile: t.Mapping[str, t.Any] | None
    truth: t.Mapping[str, t.Any]
    family: str
    outcome: str
    category: tuple[str, ...]
    shared: bool
    unbudgeted: str
    unusable: str
    assumed: frozenset[str]
    notes: tuple[str, ...]
    packages: t.Mapping[str, str] | None = None
    sourced: bool = False

    @property
    def stated(self) -> bool:
        """Whether the release is known and not assumed."""
        return self.release_basis in ("stated", "image")


# In the order of precedence: a model is of the first family that applies.
FAMILIES = ("mxfp4", "mla", "hybrid", "moe", "sliding", "multimodal", "dense")


def read_cases(
    records: t.Iterable[Record],
    models: t.Mapping[str, t.Mapping[str, t.Any]],
    sources: t.Mapping[str, t.Mapping[str, t.Any]] | None = None,
) -> list[Case]:
    """The cases of records in either form.

    models: {id: {"config": ..., "weights": as model_info has them, "basis": ...}}, see `load_models`; sources: what the
    records' sources say beside them, see `load_sources`.
    """
    known = {name.lower(): entry for name, entry in models.items() if isinstance(entry, dict)}
    return [_read(record, known, f"line{at}", sources or {}) for at, record in enumerate(records, 1)]


def _read(
    record: t.Any,
    known: t.Mapping[str, t.Mapping[str, t.Any]],
    name: str,
    sources: t.Mapping[str, t.Mapping[str, t.Any]],
) -> Case:
    """The case of one record. Never raises."""
    try:
        short = {"id": name, **reduce(record)}
        said = sources.get(short["id"], {})
        # Another file may have another record of the same name.
        return _case(short, known, said if said.get("source_thread") == short.get("source_thread") else {})
    except Exception as error:  # strangers' files: one odd record must not take the others' report away
        given = record.get("id") if isinstance(record, dict) else None
        return Case(
            id=str(given or name),
            model="",
            engine={},
            env={},
            release=next(iter(RELEASED)),
            release_basis="form",
            device=None,
            shape=None,
            profile=None,
            truth={},
            family="dense",
            outcome="other",
            category=(),
            shared=False,
            unbudgeted="",
            unusable=f"unreadable: {error}",
            assumed=frozenset(),
            notes=(),
        )


def load_records(path: pathlib.Path = RECORDS) -> list[t.Any]:
    """The records of a file, one a line; a line that is no JSON is its text, of which read_cases makes a case."""
    return [_parsed(line) for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if line.strip()]


def _parsed(line: str) -> t.Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


def load_models(path: pathlib.Path = MODELS, beside: pathlib.Path = RECORDS) -> dict[str, t.Any]:
    """Facts of models by id: those of the file, then those of a model_configs.json beside the records."""
    own = _entries(path) if path.is_file() else {}
    other = beside.resolve().parent / "model_configs.json"
    if not other.is_file():
        return own
    names = {name.lower() for name in own}
    return {**{name: entry for name, entry in _resolved(_entries(other)).items() if name.lower() not in names}, **own}


def load_sources(path: pathlib.Path = SOURCES) -> dict[str, t.Any]:
    """What sources say beside their records, by the record's id."""
    return _entries(path)


def reduce(record: Record) -> dict[str, t.Any]:
    """The short form of a record in either form."""
    if not isinstance(record, dict):
        raise TypeError("it is no JSON object")
    return _tidy(record if "options" in record else _shortened(record))


def _tidy(short: Record) -> dict[str, t.Any]:
    """A short form without what is not of the kind that belongs there."""
    tidy = {key: value for key, value in short.items() if value is not None}
    for key in ("id", "vllm_version"):
        if key in tidy:
            tidy[key] = str(tidy[key])
    for key in ("model", "source_date", "engine", "gpu", "outcome", "usage_context", "quantization"):
        if not isinstance(tidy.get(key, ""), str):
            del tidy[key]
    for key in ("gpu_total_gib", "gpu_count"):
        number = _number(tidy.pop(key, None))
        if number is not None and number > 0:
            tidy[key] = number
    if "category" in tidy:
        words = tidy["category"]
        words = [words] if isinstance(words, str) else words if isinstance(words, (list, tuple)) else []
        tidy["category"] = [str(word) for word in words]
    if "env" in tidy and not isinstance(tidy["env"], dict):
        del tidy["env"]
    options = tidy["options"] if isinstance(tidy["options"], dict) else {}
    tidy["options"] = {
        name: _option(name, value)
        for name, value in options.items()
        if value is not None and (name not in ("dtype", "kv_cache_dtype") or isinstance(value, str))
    }
    given = tidy.get("figures")
    figures: dict[str, t.Any] = {}
    for name, value in (given if isinstance(given, dict) else {}).items():
        if name in _BY_RANK:
            numbers = [_number(one) for one in value] if isinstance(value, (list, tuple)) else []
            found: t.Any = numbers if numbers and None not in numbers else None
        else:
            found = _number(value) if name in FIGURES else None
        if found is not None:
            figures[name] = found
    tidy["figures"] = figures
    return tidy


def _number(value: t.Any) -> int | float | None:
    """A number that can be meant, also one in a text with commas between thousands; None of anything else."""
    if isinstance(value, str):
        value = value.strip().replace(",", "")
        try:
            value = int(value) if re.fullmatch(r"[-+]?\d+", value) else float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_MOST <= value <= _MOST:
        return None
    return value


def _option(name: str, value: t.Any) -> t.Any:
    """The value of an option; of one that is a number and cannot be read, its text, which read_asked finds fault in."""
    if name not in _NUMBERS:
        return value
    if name == "gpu_memory_utilization" and isinstance(value, str):
        value = value.strip().removesuffix("%")
    number = _number(value)
    if number is None:
        return str(value)[:40]
    if number > _MOST_OF.get(name, 10**5):
        return "more than can be meant"
    if name == "gpu_memory_utilization":
        # 0.9 is 90 %; more than 1 can be meant as nothing but %.
        return number / 100 if 1 < number <= 100 else number
    return int(number) if name != "cpu_offload_gb" and number == int(number) else number


def _shortened(record: Record) -> dict[str, t.Any]:
    """The short form of a long one, as it is written there."""
    notes = str(record.get("notes") or "")
    options, env = _flags(record.get("other_flags"))
    for column, option in OPTIONS.items():
        # How a checkpoint is quantized is mostly written down as well where nobody asked for it.
        if record.get(column) is not None and column != "quantization":
            options[option] = record[column]
    # An odd block is what vLLM made of it for recurrent state, and nobody's wish.
    block = _number(options.get("block_size"))
    if block in _BLOCKS:
        block = None
    elif block is not None:
        del options["block_size"]
    # What is said per request of so many tokens is said of max_model_len.
    if record.get("max_concurrency_len") is not None:
        options.setdefault("max_model_len", record["max_concurrency_len"])
    short: dict[str, t.Any] = {key: record[key] for key in _KEPT if record.get(key) is not None}
    short["options"] = options
    if env:
        short["env"] = env
    figures = {key: record[key] for key in FIGURES if record.get(key) is not None}
    if block is not None:
        figures["block_tokens"] = block
    if found := re.search(r"outside the budget\): *(\d+\.?\d*) GiB", notes):
        figures["outside_gib"] = float(found[1])
    for figure, words in (
        ("activation_by_rank_gib", "activation per rank"),
        ("taken_by_rank_gib", "total_non_kv per rank"),
    ):
        if found := re.search(words + r": *(\d[\d.,]*)", notes):
            figures[figure] = found[1].strip(",").split(",")
    if found := re.search(r"consumed(?: memory)?(?: \(weights \+ non-torch\))?:? *(\d+\.?\d*)(?: GiB| =)", notes):
        figures["consumed_gib"] = float(found[1])
    short["figures"] = figures
    if found := re.search(r"\bv(0\.\d+\.\d+(?:\.post\d+)?)\b", notes):
        short["release_named"] = found[1]
    if re.search(
        r"other process|another process|shared memory|reserved on GPU0", notes + str(record.get("error") or "")
    ):
        short["shared"] = True
    if re.search(r"fails? .*\(not memory\)", notes):
        short["failed_otherwise"] = True
    if record.get("error"):
        short["error_kind"] = "out of memory" if "out of memory" in str(record["error"]).lower() else "other"
    return short


def _entries(path: pathlib.Path) -> dict[str, t.Any]:
    """The models of a file; names with an underscore in front are remarks."""
    data = json.loads(path.read_text(encoding="utf-8"))
    data = data.get("models", data)
    return {name: entry for name, entry in data.items() if not name.startswith("_") and isinstance(entry, dict)}


def _resolved(entries: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Entries of a model_configs.json; what is known as another model's re-upload gets that one's configuration."""
    found = {}
    for name, entry in entries.items():
        base = entries.get(str(entry.get("architecture_of")), {}).get("config")
        found[name] = {**entry, "config": entry.get("config") or base}
    return found


def _case(short: Record, known: t.Mapping[str, t.Mapping[str, t.Any]], said: t.Mapping[str, t.Any]) -> Case:
    model = short.get("model") or ""
    entry = known.get(model.lower())
    engine = {**short["options"], **said.get("options", {})}
    env = {name: str(value) for name, value in {**short.get("env", {}), **said.get("env", {})}.items()}
    truth = _of_the_fullest(short.get("figures", {}))
    category = tuple(short.get("category", ()))
    notes: list[str] = []
    release, basis = _release(short, truth, category)
    architectures = (entry.get("config") or {}).get("architectures") if entry else None
    if basis in ("date", "form") and architectures:
        release = max(release, _first(str(architectures[0])), key=Version)
    if "release" in said:
        release, basis = said["release"], "image"
    version = Version(release)
    if short.get("engine") == "V0" and version >= _FIRST_V1_DEFAULT:
        env.setdefault("VLLM_USE_V1", "0")
    elif short.get("engine") == "V1" and version < _FIRST_V1_DEFAULT:
        env.setdefault("VLLM_USE_V1", "1")
    unbudgeted = _unbudgeted(short, engine, truth)
    split = any(f"{how}_parallel_size" in engine for how in ("tensor", "pipeline", "data"))
    if "tp" in category and not split:
        engine["tensor_parallel_size"] = short.get("gpu_count", 1)
        notes.append("tensor parallel over all GPUs is assumed")
    if "lora" in category:
        engine.setdefault("enable_lora", True)
    engine.update(
        {name: _DTYPES.get(engine[name], engine[name]) for name in ("dtype", "kv_cache_dtype") if name in engine}
    )
    device, is_sheet = _device(short)
    has_share = bool({"gpu_memory_utilization", "kv_cache_memory_bytes"} & set(engine))
    has_share = has_share or "all defaults" in str(short.get("usage_context"))
    assumed = {"gpu": is_sheet, "utilization": not (unbudgeted or has_share)}
    outcome = short.get("outcome") or "other"
    if short.get("usage_context") == "LLM class" and short.get("engine") == "V1" and device:
        # _set_default_args in engine/arg_utils.py of 0.10.2: the LLM class has other defaults than the server.
        large = device.total >= 70 * GIB and "a100" not in device.name.lower()
        engine.setdefault("max_num_batched_tokens", 16384 if large else 8192)
    shape, unusable = None, ""
    if not model:
        unusable = "the source does not state the model"
    elif entry is None or not entry.get("config"):
        unusable = "the model's configuration is not known"
    else:
        try:
            shape = geometry(entry["config"], _text_path(entry["config"]))
        except Unreadable as error:
            unusable = f"the model's configuration lacks something: {error}"
    if shape and not shape.is_quantized and str(short.get("quantization")) in ("fp8", "bitsandbytes", "experts_int8"):
        engine.setdefault("quantization", short["quantization"])
    if "tp" in category and engine.get("tensor_parallel_size", 1) == 1:
        unusable = unusable or "over how many GPUs the model is spread is not stated"
    if not truth and outcome not in FAILED:
        unusable = unusable or "it reports no figure"
    return Case(
        id=short["id"],
        model=model,
        engine=engine,
        env=env,
        release=release,
        release_basis=basis,
        device=device,
        shape=shape,
        profile=_profile(entry) if entry else None,
        truth=truth,
        family=_family(entry["config"] if shape and entry else {}, shape, category),
        outcome="other" if short.get("failed_otherwise") else outcome,
        category=category,
        shared=bool(short.get("shared")) or outcome == "oom_shared_gpu",
        unbudgeted=unbudgeted,
        unusable=unusable,
        assumed=frozenset(name for name, is_assumed in assumed.items() if is_assumed),
        notes=tuple(notes),
        packages=said.get("packages"),
        sourced=bool(said),
    )


def _unbudgeted(short: Record, engine: dict[str, t.Any], truth: Record) -> str:
    """Why nothing can be said of the budget; a share of the GPU that follows from the log is put in."""
    if short.get("shared") or short.get("outcome") == "oom_shared_gpu":
        return "others held memory of the GPU"
    if "gpu_memory_utilization" in engine or "kv_cache_memory_bytes" in engine:
        return ""
    if truth.get("instance_budget_gib") and short.get("gpu_total_gib"):
        engine["gpu_memory_utilization"] = round(truth["instance_budget_gib"] / short["gpu_total_gib"], 3)
    return ""


def _text_path(config: t.Mapping[str, t.Any]) -> str:
    """Where the decoder's fields lie, as model_info finds it (module_utils/_checkpoint/profile.py)."""
    for path in ("text_config", "llm_config", "language_config", "thinker_config.text_config"):
        value: t.Any = config
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, dict) and ("num_hidden_layers" in value or "hidden_size" in value):
            return path
    return ""


def _profile(entry: t.Mapping[str, t.Any]) -> dict[str, t.Any] | None:
    """What model_info would say; nothing where a part of the checkpoint is not known (basis of profiles.py)."""
    if not entry.get("weights") or entry.get("basis") == "incomplete":
        return None
    return {"weights": entry["weights"]}


def _of_the_fullest(figures: Record) -> Record:
    """The figures with the available KV of the rank that has least, which decides; the log's first is of another."""
    taken, budget = figures.get("taken_by_rank_gib", ()), figures.get("instance_budget_gib")
    if len(taken) < 2 or budget is None:
        return figures
    return {**figures, "available_kv_gib": round(budget - max(taken), 2)}


_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32"}


def _release(short: Record, truth: Record, category: tuple[str, ...]) -> tuple[str, str]:
    """The release and what it rests on."""
    release, basis = _any_release(short, truth, category)
    if short.get("engine") == "V0" and basis not in ("stated", "image") and Version(release) > _LAST_V0:
        return str(_LAST_V0), basis
    if basis in ("date", "form") and Version(release) > _LAST_BY_GROUPS and _counts_by_groups(short, truth):
        return str(_LAST_BY_GROUPS), basis
    return release, basis


def _counts_by_groups(short: Record, truth: Record) -> bool:
    """Whether the KV tokens are the blocks that each of several groups of layers has, times a block's tokens."""
    tokens, blocks = truth.get("kv_cache_tokens"), truth.get("gpu_blocks")
    block = truth.get("block_tokens") or short["options"].get("block_size")
    if not tokens or not blocks or not isinstance(block, (int, float)):
        return False
    return any(blocks // groups * block == tokens for groups in range(2, 17))


def _any_release(short: Record, truth: Record, category: tuple[str, ...]) -> tuple[str, str]:
    stated = _version(short.get("vllm_version"))
    if stated and not stated.is_prerelease and not stated.is_devrelease:
        return str(stated.public), "stated"
    if stated and stated > Version("0.2"):
        # "0.6.6.post2.dev274" precedes a release that never was; what came next is meant then.
        target = Version(re.split(r"(?:rc\d+)?\.dev", stated.public)[0])
        after = [release for release in RELEASED if Version(release) >= target]
        return (str(target) if target.post is None else [*after, *RELEASED][0 if after else -1]), "development build"
    if named := _version(short.get("release_named")):
        return str(named), "image"
    if date := _days(short.get("source_date", "")):
        out = [release for release, day in RELEASED.items() if (_days(day) or 0) + _SETTLED_DAYS <= date]
        return (out[-1] if out else next(iter(RELEASED))), "date"
    if short.get("engine") == "V0" or truth.get("cpu_blocks") is not None:
        return ("0.8.5" if truth.get("non_torch_gib") is not None else "0.6.3"), "form"
    if truth.get("consumed_gib") is not None:
        return "0.30.0", "form"
    if stated:
        return "0.27.0", "form"
    if _counts_by_concurrency(truth, category):
        return "0.23.0", "form"
    if {"hybrid-ssm", "dsa"} & set(category):
        # What counts by concurrency has been seen to above.
        return (str(_LAST_BY_GROUPS) if truth.get("kv_cache_tokens") else "0.20.2"), "form"
    if truth.get("cudagraph_estimate_gib") is not None:
        return "0.20.2", "form"
    return "0.11.0", "form"


@functools.cache
def _first(architecture: str) -> str:
    """The first release that has an architecture; the oldest one where none has it."""
    having = (release for release in RELEASED if architecture in load(release).facts("architectures"))
    return next(having, next(iter(RELEASED)))


def _counts_by_concurrency(truth: Record, category: tuple[str, ...]) -> bool:
    """Whether the log's KV tokens are the concurrency times the length, which whole blocks are not."""
    tokens, length = truth.get("kv_cache_tokens"), truth.get("max_concurrency_len")
    if not tokens or tokens % 16:
        return bool(tokens)
    windowed = {"sliding", "chunked-local", "hybrid-ssm"} & set(category)
    return bool(windowed and length and abs(tokens / length - truth.get("max_concurrency", 0)) <= 0.005)


def _version(text: t.Any) -> Version | None:
    """A release as vLLM's are numbered, 0.x; None of anything else."""
    try:
        found = Version(str(text))
    except InvalidVersion:
        return None
    return found if found.release[0] == 0 and len(found.release) > 1 else None


def _days(date: str) -> int | None:
    """Days since the year 0, months counted as 31 days: good enough to compare by weeks. None of what is no date."""
    found = re.match(r"(\d{4})-(\d{1,2})-(\d{1,2})", date)
    if not found:
        return None
    year, month, day = (int(part) for part in found.groups())
    return (year * 12 + month) * 31 + day


def _device(short: Record) -> tuple[Device | None, bool]:
    """The GPU, and whether its total is assumed."""
    name = str(short.get("gpu") or "")
    total, is_assumed = short.get("gpu_total_gib"), False
    if not total:
        total, is_assumed = _total(name)
    figures = short.get("figures", {})
    share = _number(short["options"].get("gpu_memory_utilization"))
    if not total and figures.get("instance_budget_gib") and share:
        total = round(figures["instance_budget_gib"] / share, 2)
    if not total:
        return None, False
    return Device("gpu", name or "GPU", int(total * GIB)), is_assumed


def _total(name: str) -> tuple[float | None, bool]:
    """GiB of a GPU of this name, and whether they are assumed."""
    if found := re.search(r"MIG \dg\.(\d+)gb", name, re.IGNORECASE):
        return int(found[1]) * _SHARE_OF_SHEET, True
    for text, size in _TOTALS:
        if re.search(text, name, re.IGNORECASE):
            return size, False
    for text, sold in _SHEETS:
        if re.search(text, name, re.IGNORECASE):
            return sold * _SHARE_OF_SHEET, True
    if found := re.search(r"(\d+) ?Gi?B", name, re.IGNORECASE):
        return int(found[1]) * _SHARE_OF_SHEET, True
    return None, False


def _family(config: t.Mapping[str, t.Any], shape: Geometry | None, category: tuple[str, ...]) -> str:
    if shape is None:
        words = {"hybrid-ssm": "hybrid", "chunked-local": "sliding"}
        named = {words.get(word, word) for word in category}
        return next((family for family in FAMILIES if family in named), "dense")
    kinds = {cache.kind for cache in shape.caches}
    applies = {
        "mxfp4": shape.quantization == "mxfp4",
        "mla": bool(shape.mla_width),
        "hybrid": "state" in kinds,
        "moe": shape.is_moe,
        "sliding": bool(kinds & {"sliding", "chunked"}),
        "multimodal": shape.is_multimodal or bool(config.get("vision_config")),
        "dense": True,
    }
    return next(family for family in FAMILIES if applies[family])


def _flags(given: t.Any) -> tuple[dict[str, t.Any], dict[str, str]]:
    """Options and variables out of a mapping, the text of one, or a list of flags as people write them down."""
    if not given:
        return {}, {}
    if isinstance(given, str) and given.lstrip().startswith("{"):
        try:
            given = ast.literal_eval(given)
        except (ValueError, SyntaxError):
            try:
                given = json.loads(given)
            except ValueError:
                return {}, {}
    options: dict[str, t.Any] = {}
    env: dict[str, str] = {}
    if isinstance(given, dict):
        for name, value in given.items():
            _put(options, env, str(name), value)
        return options, env
    text = str(given)
    # Drafting by the model's own layers: MTP, MTP=on, MTP=3, MTP k=3.
    if (found := re.search(r"\bMTP(?:\s*[=:]\s*|\s+k\s*=\s*|\s*)(on|off|\d+)?", text)) and found[1] not in ("off", "0"):
        count = int(found[1]) if found[1] and found[1].isdigit() else 1
        options["speculative_config"] = {"method": "mtp", "num_speculative_tokens": count}
    for match in _FLAG.finditer(re.sub(r"\bMTP(?:\s+k)?(?:\s*[=:]\s*\w+)?", "", text)):
        name, value = match["name"], match["value"]
        if value is not None and match["unit"] and re.fullmatch(r"\d+(\.\d+)?", value):
            value = int(float(value) * _UNITS[match["unit"].lower()])
        _put(options, env, name, True if value is None else value)
    tokens = re.search(r"num_speculative_tokens\W+(\d+)", text)
    if tokens and "speculative_config" not in options:
        drafter = re.search(r"speculative_model\W+([\w./-]+)", text)
        options["speculative_config"] = {"num_speculative_tokens": int(tokens[1])}
        if drafter:
            options["speculative_config"]["model"] = drafter[1]
    return options, env


def _put(options: dict[str, t.Any], env: dict[str, str], name: str, value: t.Any) -> None:
    """Sort one flag in; what does not decide about memory is left out."""
    if name.startswith("VLLM_"):
        env[name] = str(value)
        return
    option = name.lower().replace("-", "_")
    option = _ALIASES.get(option, option)
    if option.startswith("no_") and value is True:
        option, value = option[3:], False
    if option not in _OPTIONS or value is None:
        return
    if isinstance(value, str):
        value = _value(value.strip("'\""))
    options[option] = value


def _value(text: str) -> t.Any:
    """A value as YAML would have it."""
    if text.lower() in ("true", "on", "false", "off"):
        return text.lower() in ("true", "on")
    if text[:1] in "{[":
        try:
            return json.loads(text)
        except ValueError:
            return text
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d+\.\d+", text) else text


def main() -> int:
    """Print the short form of the records of a file."""
    for record in load_records(pathlib.Path(sys.argv[1])):
        print(json.dumps(reduce(record), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
