# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`accelerate estimate-memory` on the jobs of stdin (JSON, see run.py), its answers as JSON on stdout."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import signal
import sys
import types
from functools import cache
from typing import Any

from accelerate.commands import estimate

GIB = 2**30
_SECONDS = 60


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """It sizes weights alone, by a data type that its user names; what is left is its user's sum."""
    gpus = job["tp"] * job["pp"]
    size = sized(job["model"], {4: "int4", 8: "int8"}.get(job["bits"], "float16"))
    if size is None:
        raise TimeoutError(f"no answer within {_SECONDS} s")
    weights = size / GIB / gpus
    left = job["gpu_gib"] * job["utilization"] - weights
    return {"weights_gib": weights, "kv_gib": left, "fits": left > 0}


@cache
def sized(model: str, dtype: str) -> int | None:
    """Bytes that it says the model takes, None after a minute: it builds every layer, which of some takes an hour."""
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(_SECONDS)
    try:
        return _sized(model, dtype)
    except TimeoutError:
        return None
    finally:
        signal.alarm(0)


def _stop(*_arguments: object) -> None:
    raise TimeoutError


def _sized(model: str, dtype: str) -> int:
    given = estimate.estimate_command_parser().parse_args([model, "--library_name", "transformers", "--dtypes", dtype])
    with contextlib.redirect_stdout(sys.stderr):
        rows = estimate.gather_data(given)
    return int(rows[0][2])


def _info(repo: str, token: str | None = None) -> Any:
    """What the real hub says of a model holds its configuration; the one on loopback does not."""
    return types.SimpleNamespace(config={})


def main() -> None:
    """Answer every job; what the tool refuses is its answer."""
    estimate.verify_on_hub = _info
    said: dict[str, Any] = {}
    for job in json.load(sys.stdin):
        try:
            said[job["id"]] = answer(job)
        except Exception as error:
            said[job["id"]] = {"refused": f"{type(error).__name__}: {error}"[:200]}
    json.dump({"version": importlib.metadata.version("accelerate"), "records": said}, sys.stdout)


if __name__ == "__main__":
    main()
