#!/usr/bin/env python3
"""Makes low-rank adapters for the tiny models of make_model_fixtures.py, with the PEFT library.

Usage: make_adapter_fixtures.py Tests/TransformersTests/Fixtures. Needs torch, transformers, safetensors and peft. Each
adapter becomes adapters/NAME beside the models: what save_pretrained writes, and expected.json with the logits of the
adapted model. One is written as llama.cpp's converter does too, which needs gguf."""

import json
import pathlib
import shutil
import sys

import gguf
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    # Q and K lie otherwise in this family's GGUF files.
    "llama_bias": LoraConfig(r=4, lora_alpha=6, target_modules=ALL),
    # Q, K and V are one matrix in the directory, and so are gate and up.
    "phi3": LoraConfig(r=3, lora_alpha=5, use_rslora=True, target_modules=["qkv_proj", "o_proj", "gate_up_proj"]),
    "qwen3": LoraConfig(
        r=2,
        lora_alpha=4,
        target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"down_proj": 5},
        alpha_pattern={"layers.1.self_attn.v_proj": 9},
    ),
}


def write_gguf(folder, name, config, settings):
    """Rows of Q and K go in turns from the first and the second half of each head, as the base's do."""
    writer = gguf.GGUFWriter(folder / "adapter.gguf", "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(config.lora_alpha))
    writer.add_string("general.base_model.0.name", name)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, settings.num_hidden_layers)
    for key, value in sorted(load_file(folder / "adapter_model.safetensors").items()):
        module, half = key.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".", 1)
        if half == "lora_B" and ("q_proj" in module or "k_proj" in module):
            heads = settings.num_attention_heads if "q_proj" in module else settings.num_key_value_heads
            value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(f"{names.get_name(module)}.weight.{half.lower()}", value.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    models = pathlib.Path(sys.argv[1])
    for number, (name, config) in enumerate(ADAPTERS.items()):
        # Some families pad with a token that models so small lack.
        settings = AutoConfig.from_pretrained(models / name, pad_token_id=0)
        base = AutoModelForCausalLM.from_pretrained(
            models / name, config=settings, dtype=torch.float32, attn_implementation="eager"
        )
        model = get_peft_model(base, config).eval()
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for key, value in model.named_parameters():
                if "lora_" in key:
                    value.copy_(((torch.rand(value.shape, generator=generator) * 2 - 1) * 0.5).half().float())
        folder = models / "adapters" / name
        shutil.rmtree(folder, ignore_errors=True)
        # The name of the base is that of a path here, which says nothing.
        model.peft_config["default"].base_model_name_or_path = f"tiny/{name}"
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        if name == "llama_bias":
            write_gguf(folder, name, config, settings)
        tokens = [3, 17, 9, 41, 22, 5, 30, 11]
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0]
            with model.disable_adapter():
                before = model(torch.tensor([tokens])).logits[0]
        assert (logits - before).abs().max() > 0.1, name
        (folder / "expected.json").write_text(
            json.dumps(
                {"tokens": tokens, "logits": [[float(f"{x:.7g}") for x in row] for row in logits.tolist()]},
                separators=(",", ":"),
            )
            + "\n"
        )


main()
