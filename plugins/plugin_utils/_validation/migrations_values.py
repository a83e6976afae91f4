# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of values that an option took once. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.migration import Changed, Migration, Note
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._validation.rewrites import (
    compilation_mode,
    counts_per_prompt,
    nothing,
    split_modules,
    structured,
    written,
)

CHANGED: t.Sequence[Changed] = (
    Changed(
        "prefix_caching_hash_algo",
        "builtin",
        "0.10.1.1",
        Migration(
            "Python's own hash is not safe against collisions",
            "config/cache.py of 0.10.1.1 and of 0.10.2",
            lambda case: [written(prefix_caching_hash_algo="sha256")],
        ),
    ),
    Changed(
        "prefix_caching_hash_algo",
        "sha256_cbor_64bit",
        "0.10.1.1",
        Migration(
            "it was replaced by sha256_cbor, which keeps all bits",
            "config/cache.py of 0.10.1.1 and of 0.10.2",
            lambda case: [written(prefix_caching_hash_algo="sha256_cbor")],
        ),
    ),
    Changed(
        "tokenizer_mode",
        "slow",
        "0.30.0",
        Migration(
            "tokenizers written in Python are not chosen by this option any more",
            "tokenizers/registry.py of 0.30.0 and of 0.31.0",
            lambda case: [written(tokenizer_mode="hf")],
            notes=(Note("transformers decides which of its tokenizers it loads"),),
        ),
    ),
    Changed(
        "tokenizer_mode",
        "fastokens",
        "0.21.0",
        Migration(
            "it is a variable now that works with any tokenizer of Hugging Face",
            "envs.py of 0.22.0",
            lambda case: [{"engine": {"tokenizer_mode": "hf"}, "env": {"VLLM_USE_FASTOKENS": "1"}}],
        ),
    ),
    Changed(
        "tokenizer_mode",
        "custom",
        "0.11.2",
        Migration(
            "registered tokenizers have modes of their own",
            "config/model.py of 0.11.2 and of 0.12.0",
            nothing,
            "Write the mode under which the tokenizer is registered",
        ),
    ),
    Changed(
        "load_format",
        "gguf",
        "0.23.0",
        Migration(
            "GGUF is not part of vLLM any more",
            "model_executor/model_loader/__init__.py of 0.23.0 and of 0.24.0",
            nothing,
            "Use an image with the plugin for it, or a checkpoint in safetensors",
        ),
    ),
    Changed(
        "load_format",
        "bitsandbytes",
        "0.27.1",
        Migration(
            "bitsandbytes is not part of vLLM any more",
            "model_executor/model_loader/__init__.py of 0.27.1 and of 0.28.0",
            nothing,
            "Use an image with the plugin for it, or another quantization",
        ),
    ),
    Changed(
        "quantization",
        "nvfp4",
        "0.8.5.post1",
        Migration(
            "it was renamed to modelopt_fp4",
            "model_executor/layers/quantization/__init__.py of 0.8.5 and of 0.9.0",
            lambda case: [written(quantization="modelopt_fp4")],
        ),
    ),
    Changed(
        "convert",
        "reward",
        "0.15.1",
        Migration(
            "0.15.0 and 0.15.1 took it as embed",
            "_get_convert_type in config/model.py of 0.15.1",
            lambda case: [written(convert="embed")],
        ),
    ),
    Changed(
        "convert",
        "mm_encoder_only",
        "0.15.1",
        Migration(
            "it is an option of its own",
            "__post_init__ of ModelConfig in config/model.py of 0.15.1",
            lambda case: [written(mm_encoder_only=True)],
        ),
    ),
    Changed(
        "all2all_backend",
        "mori",
        "0.22.1",
        Migration(
            "it was split into mori_high_throughput and mori_low_latency",
            "config/parallel.py of 0.22.1 and of 0.23.0",
            nothing,
            "Write the one that suits",
        ),
    ),
    Changed(
        "moe_backend",
        "flashinfer_moe_ep_mega_cutedsl",
        "0.31.0",
        Migration(
            "it was replaced by flashinfer_moe_ep_cutedsl",
            "config/kernel.py of 0.31.0 and of 0.32.0",
            lambda case: [written(moe_backend="flashinfer_moe_ep_cutedsl")],
        ),
    ),
    Changed(
        "mamba_cache_mode",
        "all",
        "0.31.0",
        Migration(
            "the state is cached at the end of a scheduler step only",
            "config/cache.py of 0.31.0 and of 0.32.0",
            lambda case: [written(mamba_cache_mode="align")],
        ),
    ),
    Changed(
        "reasoning_parser",
        "glm4_moe",
        "0.10.0",
        Migration(
            "it was renamed to glm45",
            "reasoning/glm4_moe_reasoning_parser.py of 0.10.0 and of 0.10.1",
            lambda case: [written(reasoning_parser="glm45")],
        ),
    ),
    Changed(
        "reasoning_parser",
        "GptOss",
        "0.10.1.1",
        Migration(
            "it was renamed to openai_gptoss",
            "reasoning/gptoss_reasoning_parser.py of 0.10.1.1 and of 0.10.2",
            lambda case: [written(reasoning_parser="openai_gptoss")],
        ),
    ),
    Changed(
        "spec_method",
        "medusa|mlp_speculator",
        "0.32.0",
        Migration(
            "the method was removed",
            "config/speculative.py of 0.32.0 and of 0.33.0",
            nothing,
            "Use an EAGLE head, a draft model or ngram",
        ),
    ),
    Changed(
        "collect_detailed_traces",
        r"\w+(,\w+)+",
        "0.30.0",
        Migration("several modules are a list", "arg_utils.py of 0.30.0 and of 0.31.0", split_modules),
    ),
    Changed(
        "guided_decoding_backend",
        r"[\w-]+:.*",
        "0.8.4",
        Migration(
            "options behind a colon have options of their own, which 0.9.0 brought",
            "_extract_backend_options in config.py of 0.9.0",
            structured,
            "Write the backend alone",
        ),
    ),
    Changed(
        "limit_mm_per_prompt",
        r"\s*\w+\s*=\s*\d{1,9}\s*(,\s*\w+\s*=\s*\d{1,9}\s*)*",
        None,
        Migration("counts are written as a mapping", "arg_utils.py of 0.9.2", counts_per_prompt),
    ),
    Changed(
        "compilation_config",
        "[0-3]",
        "0.8.5.post1",
        Migration(
            "a level or mode is a field of it",
            "CompilationConfig in config/compilation.py of 0.11.0 and of 0.11.2",
            compilation_mode,
        ),
    ),
)
