# Copyright (c) 2026, the gpufleet.vllm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release's own code makes of a KV cache: runs inside the catalogue's virtual environment.

    oracle_capacity.py SOURCE < cases.json > answers.json

SOURCE is the folder that holds the release's `vllm` package. A case names what the layers of each worker keep, the
bytes of each worker, and the options that decide; the answer is what vLLM computes and logs. Specs are built as the
release's layers build them, blocks of hybrid models are aligned by the release's own code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import json
import pathlib
import re
import sys
import types
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "catalogue"))

from probe import load_parser  # noqa: E402

Case = dict[str, Any]


def _accepted(make: Any, values: dict[str, Any]) -> Any:
    """An object of a class, with the values that this release's class has fields for."""
    known = {field.name for field in dataclasses.fields(make)}
    return make(**{name: value for name, value in values.items() if name in known})


class Oracle:
    """One release, imported."""

    def __init__(self, source: pathlib.Path) -> None:
        load_parser(source)
        import torch

        self.torch = torch
        self.bytes = {1: torch.uint8, 2: torch.bfloat16, 4: torch.float32}
        self.specs = importlib.import_module("vllm.v1.kv_cache_interface")
        self.utils = importlib.import_module("vllm.v1.core.kv_cache_utils")
        self.planning = self.utils
        with contextlib.suppress(ModuleNotFoundError):
            self.planning = importlib.import_module("vllm.v1.core.kv_cache_planning")
        self.logged: list[str] = []
        for module in (self.utils, self.planning):
            module.logger = types.SimpleNamespace(
                **dict.fromkeys(("debug", "warning", "warning_once", "debug_once"), self._quiet),
                **dict.fromkeys(("info", "info_once"), self._log),
            )

    def _quiet(self, *args: Any, **kwargs: Any) -> None:
        """Warnings are of no interest."""

    def _log(self, text: str, *args: Any, **kwargs: Any) -> None:
        self.logged.append(text % args if args else text)

    def answer(self, case: Case) -> dict[str, Any]:
        """Blocks, tokens, concurrency and the longest request; an error's name where the release refuses."""
        self.logged.clear()
        config = self._config(case)
        try:
            block = self._aligned(case, config)
            workers = [dict(self._spec(case, layer, block, config) for layer in worker) for worker in case["workers"]]
        except (AttributeError, ModuleNotFoundError, TypeError) as error:
            # The release has no such layers.
            return {"error": f"{type(error).__name__}: {error}"[:200]}
        answer: dict[str, Any] = {"block_tokens": block}
        try:
            configs = self._plan(config, workers, list(case["kv_bytes"]))
        except ValueError as error:
            match = re.search(r"maximum model length is (\d+)", str(error))
            if not re.search("KV cache is needed|No available memory", " ".join(str(error).split())):
                return {"error": f"{type(error).__name__}: {error}"[:200]}
            longest = int(match[1]) if match else 0
            if not match and "Based on" in str(error):
                # Until 0.9.0 the figure is computed, but left out of the text.
                longest = self._longest_then(config, workers, case)
            return {**answer, "fits": False, "longest": longest}
        except (NotImplementedError, AssertionError, AttributeError) as error:
            return {"error": f"{type(error).__name__}: {error}"[:200]}
        answer |= {"fits": True, "blocks": min(one.num_blocks for one in configs), **self._reported(config, configs)}
        return answer

    def _longest_then(self, config: Any, workers: list[dict[str, Any]], case: Case) -> int:
        length = config.model_config.max_model_len
        try:
            return min(
                self.utils.estimate_max_model_len(config, worker, memory)
                for worker, memory in zip(workers, case["kv_bytes"], strict=True)
            )
        finally:
            config.model_config.max_model_len = length

    def _config(self, case: Case) -> Any:
        """What the code reads of VllmConfig."""
        layout = None
        with contextlib.suppress(ModuleNotFoundError):
            layouts = importlib.import_module("vllm.v1.kv_cache_layout").KVCacheLayout
            # The backends of deepseek_v4 ask for blocks outermost, others take the default.
            layout = layouts.BLHNC if case["block"] == 256 else layouts.LBNHC
        dtype = self.bytes[case["model_bytes"]]
        hf = types.SimpleNamespace(model_type=case.get("model_type", "llama"))
        return types.SimpleNamespace(
            model_config=types.SimpleNamespace(
                max_model_len=case["length"],
                original_max_model_len=case["length"],
                dtype=dtype,
                use_mla=bool(case.get("latent")),
                hf_config=hf,
                hf_text_config=hf,
                architecture="Oracle",
                get_num_kv_heads=lambda parallel: case["own_heads"],
                get_head_size=lambda: case["own_width"],
                get_mamba_chunk_size=lambda: case.get("chunk", 2048),
                supports_kv_cache_grouping=False,
            ),
            cache_config=types.SimpleNamespace(
                block_size=case["block"],
                user_specified_block_size=True,
                num_gpu_blocks_override=case.get("override"),
                cache_dtype=case["kv_dtype"],
                mamba_cache_mode=case.get("mode", "none"),
                enable_prefix_caching=case.get("mode", "none") != "none",
                mamba_block_size=None,
                user_specified_mamba_block_size=False,
                mamba_page_size_padded=None,
                calculate_kv_scales=False,
                kv_cache_dtype_skip_layers=[],
                skip_page_size_padded=None,
                prefix_cache_retention_interval=None,
                use_replayssm=False,
                get_resolved_kv_cache_layout=lambda: layout,
            ),
            scheduler_config=types.SimpleNamespace(
                max_num_batched_tokens=case["batched"],
                max_num_encoder_input_tokens=case.get("encoder", 1500),
                disable_hybrid_kv_cache_manager=case.get("manager_off", False),
            ),
            parallel_config=types.SimpleNamespace(
                tensor_parallel_size=case.get("ranks", 1),
                decode_context_parallel_size=case.get("decode_context", 1),
                prefill_context_parallel_size=1,
                pipeline_parallel_size=len(case["workers"]),
            ),
            attention_config=types.SimpleNamespace(backend=None, hisparse_config=None),
            compilation_config=types.SimpleNamespace(static_forward_context={}),
            kv_transfer_config=None,
            speculative_config=None,
            num_prefill_lookahead_tokens=0,
            num_speculative_tokens=case.get("drafted", 0),
            max_in_flight_tokens=case["in_flight"],
        )

    def _spec(self, case: Case, layer: dict[str, Any], block: int, config: Any) -> tuple[str, Any]:
        """The spec that the release's layer of this kind makes."""
        kind, dtype = layer["kind"], self.bytes[case["kv_bytes_each"]]
        values: dict[str, Any] = {
            "block_size": block,
            "num_kv_heads": layer.get("heads", 1),
            "head_size": layer.get("key"),
            "dtype": dtype,
            "use_mla": bool(case.get("latent")),
        }
        if kind == "state":
            return f"layers.{layer['layer']}.state", self._state(case, layer, block, config)
        name = f"layers.{layer['layer']}.{kind}"
        if kind == "sliding":
            values |= {"sliding_window": layer["window"], "head_size_v": layer["value"]}
            return name, _accepted(self.specs.SlidingWindowSpec, values)
        if kind == "chunked":
            values |= {"attention_chunk_size": layer["window"]}
            return name, _accepted(self.specs.ChunkedLocalAttentionSpec, values)
        if kind == "cross":
            return name, _accepted(self.specs.CrossAttentionSpec, values)
        if kind in ("window_mla", "compressed", "partial") or (kind == "indexer" and layer["ratio"] > 1):
            return f"{name}.{layer['key']}", self._compressed(layer)
        if kind in ("mla", "indexer"):
            make = getattr(self.specs, "MLAAttentionSpec", self.specs.FullAttentionSpec)
            packed = case["kv_dtype"] if kind == "mla" else None
            values |= {"cache_dtype_str": packed, "head_size_v": 0}
            if packed == "fp8_ds_mla":
                values["state_content_bytes"] = 656
            if kind == "indexer":
                values |= {"dtype": self.torch.uint8, "head_size": layer["key"] + layer["key"] // 128 * 4}
            return name, _accepted(make, values)
        return name, _accepted(self.specs.FullAttentionSpec, {**values, "head_size_v": layer["value"]})

    def _compressed(self, layer: dict[str, Any]) -> Any:
        """As vllm/models/deepseek_v4 makes them for a cache of 8 bits."""
        kind, torch = layer["kind"], self.torch
        values: dict[str, Any] = {"num_kv_heads": 1, "head_size": layer["key"], "alignment": 576, "dtype": torch.uint8}
        packed = {"cache_dtype_str": "fp8_ds_mla", "state_content_bytes": 584, "model_version": "deepseek_v4"}
        if kind == "window_mla":
            values |= {**packed, "block_size": 64, "sliding_window": layer["window"]}
            return _accepted(self.specs.SlidingWindowMLASpec, values)
        if kind == "partial":
            block = 4 if layer["ratio"] == 4 else 8
            values |= {"block_size": block, "sliding_window": layer["window"], "dtype": torch.float32}
            return _accepted(self.specs.SlidingWindowMLASpec, values)
        values |= {"block_size": 256, "compress_ratio": layer["ratio"], "tokens_per_state": layer["ratio"]}
        if kind == "indexer":
            values["head_size"] = layer["key"] + layer["key"] // 128 * 4
            return _accepted(self.specs.MLAAttentionSpec, values)
        return _accepted(self.specs.MLAAttentionSpec, {**values, **packed})

    def _state(self, case: Case, layer: dict[str, Any], block: int, config: Any) -> Any:
        mode, shapes = case.get("mode", "none"), self._shapes(case, layer)
        dtypes = self._dtypes(layer, shapes)
        values = {
            "shapes": tuple(map(tuple, shapes)),
            "dtypes": dtypes,
            "dtype": dtypes[0],
            "block_size": case["length"] if mode == "none" else block,
            "page_size_padded": config.cache_config.mamba_page_size_padded,
            "mamba_cache_mode": mode,
            "num_speculative_blocks": case.get("drafted", 0),
            "num_prefill_checkpoint_blocks": int(case.get("exports", False)),
        }
        return _accepted(self.specs.MambaSpec, values)

    def _dtypes(self, layer: dict[str, Any], shapes: Any) -> tuple[Any, ...]:
        """The states' types; a release that splits the first state into several gives all of them its type."""
        *convolution, last = layer["bytes"]
        sizes = [*(convolution or [last]) * (len(shapes) - 1), last] if len(shapes) > 1 else [last]
        return tuple(self.bytes[size] for size in sizes)

    def _shapes(self, case: Case, layer: dict[str, Any]) -> Any:
        """MambaStateShapeCalculator of the release."""
        make = importlib.import_module("vllm.model_executor.layers.mamba.mamba_utils").MambaStateShapeCalculator
        ranks, drafted, sizes = case.get("ranks", 1), case.get("drafted", 0), layer["sizes"]
        names = {
            "mamba1": ("mamba1_state_shape", ("intermediate_size", "state_size", "conv_kernel")),
            "mamba2": (
                "mamba2_state_shape",
                ("intermediate_size", "n_groups", "num_heads", "head_dim", "state_size", "conv_kernel"),
            ),
            "gdn": (
                "gated_delta_net_state_shape",
                ("num_k_heads", "num_v_heads", "head_k_dim", "head_v_dim", "conv_kernel_size"),
            ),
            "kda": ("kda_state_shape", ("num_heads", "head_dim", "conv_kernel_size")),
            "short_conv": ("short_conv_state_shape", ("intermediate_size", "conv_kernel")),
            "linear": ("linear_attention_state_shape", ("num_heads", "head_dim")),
        }
        method, fields = names[layer["mixer"]]
        call = getattr(make, method)
        known = inspect.signature(call).parameters
        values = dict(zip(fields, sizes, strict=True))
        values |= {"tp_world_size": ranks, "tp_size": ranks, "num_spec": drafted}
        return call(**{name: value for name, value in values.items() if name in known})

    def _aligned(self, case: Case, config: Any) -> int:
        """Tokens of a block, aligned to the states by the release's own code where it has such."""
        states = [layer for worker in case["workers"] for layer in worker if layer["kind"] == "state"]
        attends = any(layer["kind"] != "state" for worker in case["workers"] for layer in worker)
        if not states or not attends:
            return case["block"]
        largest = max(states, key=lambda layer: self._state(case, layer, 1, config).page_size_bytes)
        model = types.SimpleNamespace(
            get_mamba_state_shape_from_config=lambda _config: self._shapes(case, largest),
            get_mamba_state_dtype_from_config=lambda _config: self._dtypes(largest, self._shapes(case, largest)),
        )
        registry = importlib.import_module("vllm.model_executor.models").ModelRegistry
        registry.resolve_model_cls = lambda *args, **kwargs: (model, "Oracle")
        platform = importlib.import_module("vllm.platforms.interface").Platform
        if hasattr(platform, "_align_hybrid_block_size"):
            self._align_now(platform, case, config)
        else:
            self._align_then(case, config)
        return config.cache_config.block_size

    def _align_now(self, platform: Any, case: Case, config: Any) -> None:
        """From 0.20.0 on."""
        sizes = [case["block"]]
        backend = types.SimpleNamespace(
            get_supported_kernel_block_sizes=lambda: sizes, customize_spec=lambda spec: spec, get_name=lambda: "Oracle"
        )
        module = importlib.import_module("vllm.config.vllm")
        module.set_current_vllm_config = lambda *args, **kwargs: contextlib.nullcontext()
        # 0.33.0 asks the layers, which are not built here.
        layers = importlib.import_module("vllm.model_executor.layers.mamba.abstract")
        layers.get_mamba_prefill_checkpoint_alignment = lambda _config: case.get("checkpoint")
        platform._find_non_ssm_backends = classmethod(lambda cls, _config: [backend])
        platform._align_hybrid_block_size(config, backend)

    def _align_then(self, case: Case, config: Any) -> None:
        """From 0.10.0 to 0.19.1."""
        models = importlib.import_module("vllm.model_executor.models.config")
        base = getattr(models, "MambaModelConfig", None)
        if base is not None:
            base.verify_and_update_config = classmethod(lambda cls, _config: None)
        models.HybridAttentionMambaModelConfig.verify_and_update_config(config)

    def _plan(self, config: Any, workers: list[dict[str, Any]], memory: list[int]) -> list[Any]:
        if hasattr(self.planning, "get_kv_cache_configs"):
            return list(self._call_configs(config, workers, memory))
        found = [
            self.utils.get_kv_cache_config(config, worker, available)
            for worker, available in zip(workers, memory, strict=True)
        ]
        return list(self.utils.unify_kv_cache_configs(found)) if len(found) > 1 else found

    def _call_configs(self, config: Any, workers: list[dict[str, Any]], memory: list[int]) -> Any:
        builder = getattr(self.planning, "DefaultKVCacheConfigBuilder", None)
        if builder is None:
            return self.planning.get_kv_cache_configs(config, workers, memory)
        # From 0.33.0 on the platform chooses who plans, and groups are made beforehand.
        importlib.import_module("vllm.v1.core.kv_cache_config_builder").get_kv_cache_config_builder = lambda _config: (
            builder()
        )
        groups = self.planning.get_global_kv_cache_groups(config, workers)
        return self.planning.get_kv_cache_configs(config, workers, memory, groups)

    def _reported(self, config: Any, configs: list[Any]) -> dict[str, Any]:
        """Tokens and concurrency as logged; the newest releases log them elsewhere, and have a function for it."""
        capacity = getattr(self.utils, "get_kv_cache_capacity", None)
        if capacity is not None:
            tokens, concurrency = capacity(config, configs[0])
            return {"tokens": tokens, "concurrency": concurrency}
        text = "\n".join(self.logged)
        tokens = [int(found.replace(",", "")) for found in re.findall(r"GPU KV cache size: ([\d,]+) tokens", text)]
        found = {"tokens": min(tokens)}
        count = getattr(self.utils, "get_max_concurrency_for_kv_cache_config", None)
        if count is not None:
            return {**found, "concurrency": min(count(config, one) for one in configs)}
        return {**found, "concurrency": found["tokens"] / config.model_config.max_model_len}


def main() -> int:
    """Answer the cases of standard input."""
    oracle = Oracle(pathlib.Path(sys.argv[1]))
    json.dump([oracle.answer(case) for case in json.load(sys.stdin)], sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
