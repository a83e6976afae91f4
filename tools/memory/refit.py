# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit the constants of the memory terms to recorded starts, and write plugins/plugin_utils/data/memory/terms.json.

    PYTHONPATH=.build/collections python3 tools/memory/refit.py [--records FILE] [--check]

What the source of vLLM says exactly (the tensors of the sampler, of the experts, of the encoder) is no constant here.
Fitted are the graphs, which no source tells, the memory of CUDA, NCCL and other libraries, and the width of every
interval. Where fewer than ten starts tell, what is stated in `PRIOR` stands, with its reason; a constant never rests on
one outlier. The same records give the same file, to the byte. --check writes nothing and fails if the file would
change.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
import typing as t

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "accuracy"))

import records

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory import activation, graphs, overhead, spread
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.asked import read_asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.ledger import Term
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._memory.settings import Settings, settings

GIB = 2**30
FEW = 10
_RIDGE = 1e-3

Data = dict[str, t.Any]
# GiB, but for shares and factors. What stands while fewer than ten starts tell otherwise.
PRIOR: Data = {
    "activation": {
        # Where starts calibrate, what a log's rounding and small tensors make; elsewhere the sizes of tensors are as
        # exact, but which sampler and which kernels run is not known.
        "spread": {
            "calibrated": {"dense": [0.08, 0.08, 0.0], "any": [0.2, 0.2, 0.0]},
            "nearby": {"dense": [0.15, 0.2, 0.1], "any": [0.25, 0.35, 0.15]},
            "far": {"dense": [0.25, 0.4, 0.2], "any": [0.3, 0.5, 0.25]},
        },
    },
    "graphs": {
        "coefficients": [0.19, 0.0165, 0.3, 0.7, 0.19],
        # One start of 0.31.0 (0.23 GiB where 0.75 would be fitted), and five of 0.27.0 or later whose models are not
        # stated (0.04 to 0.66).
        "after_estimate": 0.35,
        # Five starts of 0.11.0 on H100: -0.76 to 0.39 GiB where 0.9 to 1.7 would be fitted.
        "after_freeing": 0.2,
        # Six starts with adapters, of 0.7.3 to 0.10.2 on T4, L4, A100 and H20: 1.1 to 2.8, the median.
        "lora": 1.5,
        # Two configurations of one model of experts over eight GPUs without NVLink (0.20.2): 0.024 and 0.028.
        "layer_without_links": 0.026,
        # As wide as the errors on a family of models that the fit has not seen: 0.28 GiB on average, 0.83 at most.
        "spread": {
            "calibrated": {"any": [0.5, 0.6, 0.1]},
            "nearby": {"any": [0.4, 0.6, 0.4]},
            "far": {"any": [0.4, 0.8, 0.6]},
        },
    },
    "graphs reserved": {
        "coefficients": [0.3, 0.015, 0.2, 0.2, 0.1],
        # One start of 0.31.0: 1.2 GiB where the first runner's fit gives 0.7.
        "second_runner": 1.7,
        # The same two configurations as above: 4.9 and 6.2 GiB where the fit gives 0.5 and 1.0.
        "layer_without_links": 0.06,
        "spread": {
            "calibrated": {"any": [0.4, 0.6, 0.1]},
            "nearby": {"any": [0.4, 0.7, 0.5]},
            "far": {"any": [0.5, 0.9, 0.6]},
        },
    },
    # By what the budget holds (overhead.era) and GPUs that work together; "datacentre" are Hopper and Blackwell.
    "runtime": {
        # Context and allocator of the process are counted as well, and whatever else is on the GPU: 0.26 to 1.79 on one
        # GPU where it was logged, next to nothing by the blocks of two others; 3.6 on two, 7.7 on eight.
        "all in use": {"single": 1.0, "pipeline": 1.5, "pair": 3.0, "many": 4.5},
        # One start on eight T4: 0.11; on four GPUs 0.4 to 0.5 elsewhere.
        "V0": {"single": 0.05, "pipeline": 0.1, "pair": 0.3, "many": 0.3},
        "nccl inside": {"single": 0.05, "pipeline": 0.3, "pair": 1.4, "many": 1.0},
        "nccl outside": {"single": 0.05, "single datacentre": 0.13, "pipeline": 0.07, "pair": 0.55, "many": 0.6},
        "larger": {
            "single": 0.15,
            "single datacentre": 0.25,
            "pipeline": 0.07,
            "pair": 0.8,
            "pair datacentre": 2.08,
            "many": 0.9,
            "many datacentre": 2.15,
        },
        # One start of 0.9.0 on MI300X: 0.59.
        "amd": 0.5,
        # One start of 0.27.1 on GB10: 2.2 beside a model of 1.1 GiB.
        "unified": 2.0,
        "spread": {
            "calibrated": {"any": [0.1, 0.2, 0.0]},
            "nearby": {"single": [0.1, 0.25, 0.0], "any": [0.4, 0.7, 0.1]},
            "far": {
                "single": [0.2, 0.5, 0.2],
                "all in use": [0.4, 1.4, 0.4],
                "unified": [1.5, 5.0, 0.2],
                "any": [0.5, 1.0, 0.2],
            },
        },
    },
    "context": {
        # Total less free at the first look, out of starts on these generations: T4, A100, H100, RTX PRO 6000.
        "any": 0.5,
        "by_capability": {"75": 0.25, "80": 0.41, "90": 0.51, "120": 0.56},
        "connected": 1.0,
        "connected_elsewhere": 0.4,
        "connected_experts": 0.5,
        "spread": {
            "calibrated": {"four bits": [0.12, 2.5, 0.0], "any": [0.12, 0.12, 0.0]},
            "nearby": {
                "four bits": [0.2, 2.5, 0.2],
                "pair": [0.2, 1.0, 0.2],
                "many": [0.2, 1.2, 0.2],
                "any": [0.2, 0.2, 0.2],
            },
            "far": {
                "four bits": [0.3, 2.5, 0.3],
                "pair": [0.3, 1.2, 0.3],
                "many": [0.3, 1.4, 0.3],
                "any": [0.3, 0.5, 0.3],
            },
        },
    },
}


@dataclasses.dataclass(frozen=True)
class Start:
    """A recorded start with vLLM's defaults filled in."""

    case: records.Case
    chosen: Settings

    @property
    def truth(self) -> t.Mapping[str, t.Any]:
        """What the log said, GiB."""
        return self.case.truth

    @property
    def key(self) -> tuple[t.Any, ...]:
        """Equal for starts that tell the same: repeated runs must not outweigh other models."""
        asked = self.chosen.asked
        return (
            self.case.shape,
            self.chosen.release,
            asked.tensor_parallel,
            asked.pipeline_parallel,
            len(self.chosen.capture_sizes),
        )


def starts(path: pathlib.Path) -> list[Start]:
    """The records of a file, as they are, whose model and GPU are known."""
    return usable(records.read_cases(records.load_records(path), records.load_models(beside=path)))


def usable(cases: t.Iterable[records.Case]) -> list[Start]:
    """Those whose model and GPU are known."""
    found = []
    for case in cases:
        if case.shape is not None and case.device is not None and not case.shared:
            asked = read_asked(case.engine, case.env)[0]
            found.append(Start(case, settings(case.release, asked, case.shape, case.device)))
    return found


def refit(found: t.Sequence[Start]) -> Data:
    """All constants."""
    constants: Data = json.loads(json.dumps(PRIOR))
    for name, figure in (("graphs", "cudagraph_actual_gib"), ("graphs reserved", "cudagraph_estimate_gib")):
        fitted = _coefficients([start for start in found if start.chosen.calibrated], figure)
        constants[name]["coefficients"] = fitted or constants[name]["coefficients"]
    _runtime(constants["runtime"], found)
    _context(constants["context"], found)
    with spread.replaced(constants):
        for name in PRIOR:
            _spread(constants, name, found)
    return _rounded(constants)


def _coefficients(found: t.Sequence[Start], figure: str) -> list[float] | None:
    """Least squares over the mean of each distinct start, held near zero so that few starts cannot throw it."""
    rows: dict[tuple[t.Any, ...], list[tuple[tuple[float, ...], float]]] = {}
    for start in found:
        value = start.truth.get(figure)
        if value is not None and value >= 0 and start.chosen.capture_sizes and start.case.shape is not None:
            share = graphs.share(start.chosen)
            features = tuple(share * feature for feature in graphs.features(start.case.shape, start.chosen))
            rows.setdefault(start.key, []).append((features, float(value)))
    if len(rows) < FEW:
        return None
    points = [(group[0][0], statistics.mean(value for _features, value in group)) for group in rows.values()]
    return _least_squares([features for features, _value in points], [value for _features, value in points])


def _least_squares(left: t.Sequence[t.Sequence[float]], right: t.Sequence[float]) -> list[float]:
    """Solve the normal equations by elimination; with the ridge they are positive definite, so no pivot is sought."""
    size = len(left[0])
    table = [
        [sum(row[i] * row[j] for row in left) + (_RIDGE if i == j else 0.0) for j in range(size)]
        + [sum(row[i] * value for row, value in zip(left, right, strict=True))]
        for i in range(size)
    ]
    for at in range(size):
        for other in range(size):
            if other != at:
                factor = table[other][at] / table[at][at]
                table[other] = [a - factor * b for a, b in zip(table[other], table[at], strict=True)]
                table[other][at] = 0.0
    return [table[at][size] / table[at][at] for at in range(size)]


def _runtime(constants: Data, found: t.Sequence[Start]) -> None:
    """The median of each group that enough starts tell of."""
    seen: dict[tuple[str, str], list[float]] = {}
    for start in found:
        value = _beside_weights(start)
        if value is not None and start.case.device is not None:
            group = overhead.group(start.chosen)
            wide = start.case.device.capability in overhead.DATACENTRE
            name = f"{group} datacentre" if wide and f"{group} datacentre" in constants["larger"] else group
            seen.setdefault((overhead.era(start.chosen), name), []).append(value)
    for (era, name), values in sorted(seen.items()):
        if len(values) >= 3 and name in constants.get(era, {}):
            constants[era][name] = statistics.median(values)


def _beside_weights(start: Start) -> float | None:
    """GiB of the budget that are neither weights nor activation."""
    truth = start.truth
    if truth.get("non_torch_gib") is not None:
        return float(truth["non_torch_gib"])
    if truth.get("consumed_gib") and truth.get("weights_gib_per_gpu"):
        return float(truth["consumed_gib"] - truth["weights_gib_per_gpu"])
    return None


def _context(constants: Data, found: t.Sequence[Start]) -> None:
    single: dict[str, list[float]] = {}
    for start in found:
        value, device = start.truth.get("outside_gib"), start.case.device
        if value is not None and device is not None and overhead.group(start.chosen) == "single":
            single.setdefault(str(device.capability), []).append(value)
    for capability, values in sorted(single.items()):
        if len(values) >= 3:
            constants["by_capability"][capability] = statistics.median(values)
    dense: list[float] = []
    experts: list[float] = []
    for start in found:
        value, shape, device = start.truth.get("outside_gib"), start.case.shape, start.case.device
        if value is None or shape is None or device is None or overhead.group(start.chosen) == "single":
            continue
        alone = constants["by_capability"].get(str(device.capability), constants["any"])
        (experts if shape.is_moe else dense).append(value - alone)
    if len(dense) >= 3:
        constants["connected"] = statistics.median(dense)
    if len(experts) >= 3:
        constants["connected_experts"] = statistics.median(experts) - constants["connected"]


def _spread(constants: Data, name: str, found: t.Sequence[Start]) -> None:
    """Widen an interval to nine tenths of the residuals where enough starts tell, and note how good the term is."""
    residuals: dict[str, dict[str, list[float]]] = {}
    expected: dict[str, dict[str, list[float]]] = {}
    for start in found:
        for term, kind, value in _measured(name, start):
            base: str = spread.basis(start.chosen, start.case.device) if start.case.device else "far"
            residuals.setdefault(base, {}).setdefault(kind, []).append(value - term.expected / GIB)
            expected.setdefault(base, {}).setdefault(kind, []).append(term.expected / GIB)
    quality: Data = {}
    for base, kinds in sorted(residuals.items()):
        for kind, errors in sorted(kinds.items()):
            below, above, share = constants[name]["spread"][base].get(kind, constants[name]["spread"][base]["any"])
            size = [abs(error) for error in errors]
            quality.setdefault(base, {})[kind] = {
                "starts": len(errors),
                "mean_error": statistics.mean(size),
                "largest_error": max(size),
            }
            if len(errors) >= FEW:
                rest = [share * value for value in expected[base][kind]]
                under = sorted(max(0.0, -error - free) for error, free in zip(errors, rest, strict=True))
                over = sorted(max(0.0, error - free) for error, free in zip(errors, rest, strict=True))
                at = int(0.95 * (len(errors) - 1))
                constants[name]["spread"][base][kind] = [max(below, under[at]), max(above, over[at]), share]
    constants[name]["quality"] = quality


def _measured(name: str, start: Start) -> t.Iterator[tuple[Term, str, float]]:
    """(our term, its kind, what the log said in GiB) where the log says it by itself."""
    shape, device, chosen, truth = start.case.shape, start.case.device, start.chosen, start.truth
    if shape is None or device is None:
        return
    if name == "activation":
        value = truth.get("activation_peak_gib")
        if value is not None and not chosen.graphs_in_budget:
            stages = range(chosen.asked.pipeline_parallel)
            terms = [activation.activation(shape, chosen, device, stage) for stage in stages]
            yield max(terms, key=lambda term: term.expected), activation.kind(shape, chosen), value
    elif name == "graphs":
        value = truth.get("cudagraph_actual_gib")
        if value is not None and value >= 0:
            yield graphs.graphs(shape, chosen, device), "any", value
    elif name == "graphs reserved":
        value = truth.get("cudagraph_estimate_gib")
        if value is not None:
            # 0.18 and 0.19 make the same estimate and only log it.
            yield (
                graphs.graphs_reserved(shape, dataclasses.replace(chosen, graphs_in_budget=True), device),
                "any",
                value,
            )
    elif name == "runtime":
        value = _beside_weights(start)
        if value is not None:
            yield overhead.runtime(shape, chosen, device), overhead.kind(chosen, device), value
    elif truth.get("outside_gib") is not None:
        yield overhead.context(shape, chosen, device), overhead.context_kind(shape, chosen), truth["outside_gib"]


def _rounded(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return round(value, 4) if isinstance(value, float) else value


def text(constants: Data) -> str:
    """The file's text."""
    return json.dumps(constants, indent=2, sort_keys=True) + "\n"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--records", type=pathlib.Path, default=records.RECORDS)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file would change")
    asked = parser.parse_args()
    made = text(refit(starts(asked.records)))
    if asked.check:
        same = spread.FILE.read_text(encoding="utf-8") == made
        print("the constants are those of the records" if same else f"{spread.FILE.name} is not what the records give")
        return 0 if same else 1
    spread.FILE.write_text(made, encoding="utf-8")
    print(f"{spread.FILE.name}: {len(made.splitlines())} lines")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
