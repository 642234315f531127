#!/usr/bin/env python3
"""Write a checkpoint as a GGUF file with its tokenizer inside (matrices in Q8_0), and as a Hugging Face directory.

The directory holds the numbers that the file holds, so that both programs can be compared on one model.
"""

import argparse
import hashlib
import json
import pathlib
import shutil

import gguf
import numpy
import torch
from model import Model, Sizes
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2

WHOLE = {"shared.weight": "token_embd.weight", "lm_head.weight": "output.weight"}
PARTS = {"SelfAttention": "attn", "EncDecAttention": "cross_attn"}


def gguf_name(name):
    """T5's names in GGUF."""
    if name in WHOLE:
        return WHOLE[name]
    stack, rest = name.split(".", 1)
    if rest == "final_layer_norm.weight":
        return f"{stack[:3]}.output_norm.weight"
    _, block, _, sub, *last = rest.split(".")
    prefix = f"{stack[:3]}.blk.{block}."
    if last[0] == "layer_norm":
        kinds = ["attn", "ffn"] if stack == "encoder" else ["attn", "cross_attn", "ffn"]
        return f"{prefix}{kinds[int(sub)]}_norm.weight"
    if last[0] == "DenseReluDense":
        return prefix + {"wi_0": "ffn_gate", "wi_1": "ffn_up", "wo": "ffn_down"}[last[1]] + ".weight"
    part = "rel_b" if last[1] == "relative_attention_bias" else last[1]
    return f"{prefix}{PARTS[last[0]]}_{part}.weight"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=pathlib.Path)
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path, help="spiece.model")
    parser.add_argument("--name", required=True, help="the model's name")
    parser.add_argument("--context", type=int, default=512, help="tokens of a document, or of an output, to allow")
    parser.add_argument("--gguf", required=True, type=pathlib.Path, help="file to write")
    parser.add_argument("--directory", type=pathlib.Path, help="Hugging Face directory to write as well")
    arguments = parser.parse_args()

    saved = torch.load(arguments.checkpoint)
    sizes = Sizes(**saved["sizes"])
    model = Model(sizes)
    model.load_state_dict(saved["model"])
    tensors = {name: tensor.numpy().astype(numpy.float32) for name, tensor in model.to_hugging_face().items()}

    arguments.gguf.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(arguments.gguf, "t5")
    writer.add_name(arguments.name)
    writer.add_license("GPL-2.0-or-later")
    writer.add_context_length(arguments.context)
    writer.add_embedding_length(sizes.d_model)
    writer.add_feed_forward_length(sizes.d_ff)
    writer.add_block_count(sizes.num_layers)
    writer.add_decoder_block_count(sizes.num_decoder_layers)
    writer.add_head_count(sizes.num_heads)
    writer.add_key_length(sizes.d_kv)
    writer.add_value_length(sizes.d_kv)
    writer.add_layer_norm_rms_eps(sizes.layer_norm_epsilon)
    writer.add_relative_attn_buckets_count(sizes.relative_attention_num_buckets)
    writer.add_decoder_start_token_id(0)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    # Documents are read as they are.
    writer.add_string("egress.summary_prefix", "")

    proto = sentencepiece_model_pb2.ModelProto.FromString(arguments.tokenizer.read_bytes())
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece.piece.encode() for piece in proto.pieces])
    writer.add_token_scores([piece.score for piece in proto.pieces])
    writer.add_token_types([piece.type for piece in proto.pieces])
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(True)
    writer.add_add_space_prefix(proto.normalizer_spec.add_dummy_prefix)
    writer.add_remove_extra_whitespaces(proto.normalizer_spec.remove_extra_whitespaces)
    writer.add_precompiled_charsmap(proto.normalizer_spec.precompiled_charsmap)
    assert len(proto.pieces) == sizes.vocab_size

    for name, tensor in tensors.items():
        # Rows of a multiple of 32 numbers, but the position biases, which are small and added as they are.
        if tensor.ndim == 2 and "relative" not in name:
            packed = gguf.quantize(tensor, gguf.GGMLQuantizationType.Q8_0)
            tensors[name] = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(gguf_name(name), packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(gguf_name(name), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = arguments.gguf.read_bytes()
    print(
        json.dumps(
            {
                "file": arguments.gguf.name,
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "steps": int(saved["state"][0]),
            }
        )
    )

    if arguments.directory:
        arguments.directory.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()},
            arguments.directory / "model.safetensors",
            metadata={"format": "pt"},
        )
        config = sizes.hugging_face() | {
            "n_positions": arguments.context,
            "task_specific_params": {"summarization": {"prefix": ""}},
        }
        (arguments.directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (arguments.directory / "tokenizer_config.json").write_text(
            '{"tokenizer_class": "T5Tokenizer", "extra_ids": 0}\n'
        )
        shutil.copy(arguments.tokenizer, arguments.directory / "spiece.model")


if __name__ == "__main__":
    main()
