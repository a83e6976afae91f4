# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of one server of real vLLM (its CPU build) with the tiny model."""

from __future__ import annotations

import pathlib
import typing as t

from support.fleet import BUILD, Fleet, engine


def real_fleet(folder: pathlib.Path, name: str, options: dict[str, t.Any], **changes: t.Any) -> Fleet:
    """A fleet with one model of this name.

    options: of the engine, beside those that every machine of the tests needs, None takes one of these
    out; changes: other fields of the model.
    """
    hub = BUILD / "tests" / "hub"
    image = engine("real")
    engine("model", str(hub))
    made = Fleet(folder, "2.21", image, hub)
    needed = {"dtype": "float32", "max_model_len": 1024, "enforce_eager": True, "kv_cache_memory_bytes": 2**28}
    made.models = [
        {
            "name": name,
            "model": "gpufleet/tiny-qwen3",
            "image": image,
            "engine": {key: value for key, value in {**needed, **options}.items() if value is not None},
            "env": {"VLLM_CPU_OMP_THREADS_BIND": "nobind", **changes.pop("env", {})},
            "offline": True,
            **changes,
        }
    ]
    return made
