# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Classes of tensors by the names that checkpoints of the common families use."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._checkpoint.classes import CLASSES, RULES, Classifier


@pytest.mark.parametrize(
    "name, tensor_class, layer",
    [
        # Llama, Qwen, Mistral as transformers writes them
        ("model.embed_tokens.weight", "embedding", None),
        ("lm_head.weight", "lm_head", None),
        ("model.norm.weight", "norm", None),
        ("model.layers.0.self_attn.q_proj.weight", "attention", 0),
        ("model.layers.17.self_attn.q_norm.weight", "norm", 17),
        ("model.layers.17.mlp.down_proj.weight", "mlp", 17),
        ("model.layers.17.mlp.down_proj.weight_scale_inv", "mlp", 17),
        ("model.layers.17.post_attention_layernorm.weight", "norm", 17),
        # mixtures of experts
        ("model.layers.3.mlp.gate.weight", "router", 3),
        ("model.layers.3.mlp.gate.e_score_correction_bias", "router", 3),
        ("model.layers.3.mlp.experts.127.up_proj.weight", "expert", 3),
        ("model.layers.3.mlp.shared_experts.up_proj.weight", "shared_expert", 3),
        ("model.layers.3.mlp.shared_expert_gate.weight", "router", 3),
        ("model.layers.3.mlp.experts.gate_up_proj_blocks", "expert", 3),
        ("model.layers.3.mlp.router.weight", "router", 3),
        ("model.layers.3.block_sparse_moe.gate.weight", "router", 3),
        ("model.layers.3.block_sparse_moe.experts.7.w1.weight", "expert", 3),
        ("language_model.model.layers.3.feed_forward.experts.down_proj", "expert", 3),
        ("language_model.model.layers.3.feed_forward.shared_expert.down_proj.weight", "shared_expert", 3),
        # latent attention, linear attention, state space
        ("model.layers.3.self_attn.kv_a_proj_with_mqa.weight", "latent", 3),
        ("model.layers.3.self_attn.kv_a_layernorm.weight", "norm", 3),
        ("model.layers.3.self_attn.sinks", "attention", 3),
        ("model.layers.3.linear_attn.in_proj_qkvz.weight", "state", 3),
        ("backbone.layers.3.mixer.in_proj.weight", "state", 3),
        ("backbone.layers.3.mixer.up_proj.weight", "mlp", 3),
        ("backbone.embeddings.weight", "embedding", None),
        ("backbone.norm_f.weight", "norm", None),
        # older families
        ("transformer.wte.weight", "embedding", None),
        ("transformer.h.5.attn.c_attn.weight", "qkv", 5),
        ("transformer.h.5.ln_1.weight", "norm", 5),
        ("transformer.h.5.mlp.norms_proj.qweight", "mlp", 5),
        ("transformer.h.5.mlp.lnorm.#", "mlp", 5),
        ("transformer.h.5.mlp.c_fc.weight", "mlp", 5),
        ("h.5.mlp.c_fc.weight", "mlp", 5),
        ("gpt_neox.layers.5.attention.query_key_value.weight", "qkv", 5),
        ("embed_out.weight", "lm_head", None),
        ("transformer.blocks.5.norm_attn_norm.attn.Wqkv.weight", "qkv", 5),
        # Mistral's own form
        ("layers.5.attention.wq.weight", "attention", 5),
        ("layers.5.feed_forward.w1.weight", "mlp", 5),
        ("layers.5.ffn_norm.weight", "norm", 5),
        ("tok_embeddings.weight", "embedding", None),
        ("output.weight", "lm_head", None),
        # encoders are no decoder layers
        ("visual.blocks.31.attn.qkv.weight", "vision", None),
        ("model.visual.merger.mlp.0.weight", "projector", None),
        ("vision_tower.vision_model.encoder.layers.2.mlp.fc1.weight", "vision", None),
        ("model.multi_modal_projector.linear_1.weight", "projector", None),
        ("mlp1.1.weight", "projector", None),
        ("audio_tower.layers.2.self_attn.q_proj.weight", "vision", None),
        # draft layers
        ("model.layers.61.shared_head.head.weight", "draft", None),
        ("model.layers.61.embed_tokens.weight", "draft", None),
        ("mtp.layers.0.mlp.experts.3.up_proj.weight", "draft", None),
        # fused and separate keys and values, and their quantized forms
        ("model.layers.4.self_attn.k_proj.weight_scale_inv", "key_value", 4),
        ("model.layers.4.self_attn.v_proj.qweight", "key_value", 4),
        ("model.layers.4.self_attn.o_proj.weight", "attention", 4),
        ("model.layers.4.self_attn.qkv_proj.weight", "qkv", 4),
        ("backbone.layers.4.mixer.k_proj.weight", "key_value", 4),
        ("backbone.layers.4.mixer.o_proj.weight", "attention", 4),
        ("layers.5.attention.wk.weight", "key_value", 5),
        ("model.layers.4.self_attn.kv_b_proj.weight", "attention", 4),
        ("model.layers.4.self_attn.indexer.wk.weight", "latent", 4),
        ("model.layers.4.self_attn.0.kv_a_proj_with_mqa.weight", "latent", 4),
        # experts under other names
        ("model.layers.4.block_sparse_moe.input_linear.weight", "expert", 4),
        ("model.layers.4.block_sparse_moe.router.layer.weight", "router", 4),
        ("model.layers.4.moe.down_proj.weight", "expert", 4),
        ("model.layers.4.share_expert.gate_proj.weight", "shared_expert", 4),
        ("backbone.layers.4.mixer.fc1_latent_proj.weight", "router", 4),
        ("model.layers.4.mlp.experts.gate_up_proj_bias", "expert", 4),
        # state space and convolutions
        ("model.layers.4.mamba.A_log", "state", 4),
        ("backbone.layers.4.mixer.conv1d.weight", "state", 4),
        ("model.layers.4.conv.in_proj.weight", "state", 4),
        # GGUF
        ("token_embd.weight", "embedding", None),
        ("blk.4.attn_k.weight", "key_value", 4),
        ("blk.4.attn_q.weight", "attention", 4),
        ("blk.4.attn_norm.weight", "norm", 4),
        ("blk.4.attn_kv_a_mqa.weight", "latent", 4),
        ("blk.4.ffn_gate_exps.weight", "expert", 4),
        ("blk.4.ffn_gate_inp.weight", "router", 4),
        ("blk.4.ffn_gate_inp_s.weight", "router", 4),
        ("blk.4.ffn_gate_inputs.weight", "mlp", 4),
        ("blk.4.ffn_down_shexp.weight", "shared_expert", 4),
        ("blk.4.ffn_down.weight", "mlp", 4),
        ("blk.4.ssm_in.weight", "state", 4),
        ("rope_freqs.weight", "unused", None),
        # never loaded
        ("model.layers.4.self_attn.rotary_emb.inv_freq", "unused", None),
        ("talker.model.layers.4.self_attn.q_proj.weight", "unused", None),
        # nothing that we know
        ("something.new.weight", "other", None),
        ("", "other", None),
    ],
)
def test_class_and_layer(name, tensor_class, layer):
    assert Classifier().classify(name) == (tensor_class, layer)


@pytest.mark.parametrize("part", ["norm", "_gate_inp"])
def test_an_endless_name_comes_to_an_end(part):
    """Were a rule's time the square of the length, this would take minutes."""
    assert Classifier().classify(part * 100_000 + "-")[0] in CLASSES


def test_layers_behind_the_last_one_are_draft_layers():
    classifier = Classifier(decoder_layers=61)
    assert classifier.classify("model.layers.60.mlp.experts.3.up_proj.weight") == ("expert", 60)
    assert classifier.classify("model.layers.61.mlp.experts.3.up_proj.weight") == ("draft", None)
    assert classifier.classify("visual.blocks.61.attn.qkv.weight") == ("vision", None)


def test_numbers_are_not_remembered():
    classifier = Classifier()
    names = [f"model.layers.{n}.mlp.experts.{9 - n}.w1.weight" for n in range(9)]
    assert [classifier.classify(name)[1] for name in names] == list(range(9))


def test_every_rule_has_a_known_class_and_a_reason():
    assert {rule[0] for rule in RULES} | {"other"} == set(CLASSES)
    assert all(rule[2].endswith(".") for rule in RULES)
