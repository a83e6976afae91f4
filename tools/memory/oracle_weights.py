# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what vLLM's own model classes create on each GPU, without a GPU and without weights.

`oracle_weights.py measure CONFIGS CASES > FIGURES` runs where vLLM is installed (the image of tests/engine has it):
CONFIGS is the folder that `profiles.py --configs` writes, CASES has lines of JSON with model, tp, pp and rank. One rank
of so many is set up with torch's stand-in for process groups, the model is created on the device "meta", and its
parameters and buffers are summed.

`oracle_weights.py fixture MODELS FIGURES OUT` joins the figures with the profiles of tools/accuracy/models.json into
the fixture of the unit tests.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

# Optional libraries that the models' files import and that creating them does not need.
STAND_INS = r"(torchvision|cv2|soundfile|soxr|librosa|av|timm|decord)(\..*)?"
# Fields of a figure.
KEYS = ("model", "tp", "pp", "rank")


def main() -> int:
    """Measure, or write the fixture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("configs", type=Path)
    measuring.add_argument("cases", type=Path)
    joining = commands.add_parser("fixture")
    joining.add_argument("models", type=Path)
    joining.add_argument("figures", type=Path)
    joining.add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "measure":
        measure(options.configs, options.cases)
    else:
        write_fixture(options.models, options.figures, options.out)
    return 0


def write_fixture(models: Path, figures: Path, out: Path) -> None:
    """Join the figures with what is known of their models."""
    known = json.loads(models.read_text())
    lines = [json.loads(line) for line in figures.read_text().splitlines() if line.startswith("{")]
    measured = [{key: line[key] for key in (*KEYS, "parameters", "buffers")} for line in lines if "error" not in line]
    names = sorted({line["model"] for line in measured})
    entries = {name: {key: known[name][key] for key in ("config", "weights")} for name in names}
    out.write_text(json.dumps({"models": entries, "figures": measured}, sort_keys=True) + "\n")


def measure(configs: Path, cases: Path) -> None:
    """Print a figure, or the error, for each case."""
    os.environ.update(VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1", VLLM_PLUGINS="")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "catalogue"))
    import probe

    sys.meta_path.append(probe.StandIns(STAND_INS, probe._anything))
    _prepare()
    for line in cases.read_text().splitlines():
        case = json.loads(line)
        try:
            figure = _create(str(configs / case["model"].replace("/", "--")), case["tp"], case["pp"], case["rank"])
        except Exception as error:  # A model that this vLLM does not create says so, and the next one has its turn.
            figure = {"error": f"{type(error).__name__}: {error}"[:200]}
        gc.collect()
        print(json.dumps({**{key: case[key] for key in KEYS}, **figure}), flush=True)


def _prepare() -> None:
    """Let nothing wait for processes that are not there."""
    import torch.distributed as dist
    from vllm.distributed.device_communicators.shm_broadcast import MessageQueue
    from vllm.model_executor.models import registry

    own = dist.new_group

    def new_group(ranks: Any = None, *args: Any, **kwargs: Any) -> Any:
        return own(ranks, backend="fake")

    dist.new_group = dist.distributed_c10d.new_group = new_group
    registry._run_in_subprocess = lambda function: function()
    MessageQueue.create_from_process_group = staticmethod(lambda *args, **kwargs: None)


def _create(path: str, tensor: int, pipeline: int, rank: int) -> dict[str, int]:
    """Bytes of parameters and buffers of one rank."""
    import torch
    import torch.distributed as dist
    import vllm.distributed.parallel_state as state
    import vllm.model_executor.layers.rotary_embedding as rotary
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    rotary._ROPE_DICT.clear()
    world = tensor * pipeline
    state.in_the_same_node_as = lambda *args, **kwargs: [True] * world
    dist.init_process_group(backend="fake", store=FakeStore(), rank=rank, world_size=world)
    try:
        config = EngineArgs(
            model=path,
            tensor_parallel_size=tensor,
            pipeline_parallel_size=pipeline,
            skip_tokenizer_init=True,
            load_format="dummy",
            enforce_eager=True,
            max_model_len=2048,
            distributed_executor_backend="mp",
        ).create_engine_config()
        with set_current_vllm_config(config):
            state.init_distributed_environment(world, rank, "env://", rank, "fake")
            state.initialize_model_parallel(tensor, pipeline, backend="fake")
            with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
                model = initialize_model(config)
        kinds = {"parameters": model.parameters(), "buffers": model.buffers()}
        return {kind: sum(one.numel() * one.element_size() for one in found) for kind, found in kinds.items()}
    finally:
        state.destroy_model_parallel()
        state.destroy_distributed_environment()
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
