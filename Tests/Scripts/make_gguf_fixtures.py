#!/usr/bin/env python3
"""Writes the tiny models of make_model_fixtures.py as GGUF too, beside their safetensors, as llama.cpp's converter
does.

Usage: make_gguf_fixtures.py Tests/TransformersTests/Fixtures

Needs gguf, numpy and safetensors. Names of tensors and keys are the gguf package's own. What the converter does to
numbers is written here: rows of Q and K in the order of rotary pairs that are neighbours, 1 added to Gemma's norms."""

import json
import math
import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file

#: The architecture, and whether rows of Q and K are reordered. Qwen 2's window has no key, nor has "dynamic" scaling;
#: Gemma 2's scale of queries and SmolLM3's layers without positions have none either, and are the usual ones.
ARCHITECTURES = {
    "llama_bias": ("llama", True),
    "llama_yarn": ("llama", True),
    "qwen3": ("qwen3", False),
    "smollm3": ("smollm3", True),
    "phi3": ("phi3", False),
    "gemma2": ("gemma2", False),
    "olmo2": ("olmo2", False),
    "granite": ("granite", True),
}


def reordered(rows, heads):
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write(folder, architecture, reorders):
    config = json.loads((folder / "config.json").read_text())
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    writer = gguf.GGUFWriter(folder / "model.gguf", architecture)
    heads, pairs = config["num_attention_heads"], config["num_key_value_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    rotated = int(head_size * config.get("partial_rotary_factor", 1))
    rope = config.get("rope_parameters") or {}
    writer.add_name(folder.name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(pairs)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(rotated)
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    if architecture == "gemma2":
        writer.add_sliding_window(config["sliding_window"])
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if architecture == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    if rope.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope.get("rope_type") == "longrope":
        original = rope["original_max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(original)
        ratio = config["max_position_embeddings"] / original
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(ratio) / math.log(original)))
        for length in ("long", "short"):
            writer.add_tensor(f"rope_factors_{length}.weight", np.array(rope[f"{length}_factor"], dtype=np.float32))
    for stored, values in sorted(load_file(folder / "model.safetensors").items()):
        name = names.get_name(stored, try_suffixes=(".weight", ".bias"))
        if reorders and ("q_proj" in stored or "k_proj" in stored):
            values = reordered(values, heads if "q_proj" in stored else pairs)
        if architecture == "gemma2" and "norm" in stored:
            values = values.astype(np.float32) + 1
        writer.add_tensor(name, values if values.ndim == 2 else values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    for name, (architecture, reorders) in ARCHITECTURES.items():
        write(pathlib.Path(sys.argv[1]) / name, architecture, reorders)


main()
