#!/usr/bin/env python3
"""Makes the tiny random models that the decoders are compared with Hugging Face transformers on.

Usage: make_model_fixtures.py Tests/TransformersTests/Fixtures [--families]

Needs torch, transformers and safetensors. Weights are rounded to half precision before anything is computed, so that
both sides have the very same numbers. Each model becomes a directory: config.json, model.safetensors and expected.json
with token IDs, logits and, for encoder-decoders, greedy and beam-search outputs.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, T5Config, T5ForConditionalGeneration


def randomise(model, scale, seed):
    """Norms near 1 (or 0, where the model adds 1), everything else uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.rand(parameter.shape, generator=generator) * 2 - 1
            if "norm" in name:
                values = values * 0.3 + (0 if "gemma" in type(model).__name__.lower() else 1)
            else:
                values = values * scale
            parameter.copy_(values.half().float())


def write(folder, model, config, expected):
    folder.mkdir(parents=True, exist_ok=True)
    # Tied tensors are stored once.
    seen, tensors = set(), {}
    for name, value in model.state_dict().items():
        if value.data_ptr() in seen or name.endswith("inv_freq"):
            continue
        seen.add(value.data_ptr())
        tensors[name] = value.half().contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    text = json.dumps(expected, separators=(",", ":"))
    (folder / "expected.json").write_text(text + "\n")


def rounded(logits):
    return [[float(f"{value:.7g}") for value in row] for row in logits.tolist()]


def gemma3(folder):
    settings = dict(
        vocab_size=80,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=64,
        rms_norm_eps=1e-6,
        sliding_window=5,
        query_pre_attn_scalar=24,
        tie_word_embeddings=True,
        hidden_activation="gelu_pytorch_tanh",
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        attn_implementation="eager",
    )
    config = Gemma3TextConfig(
        **settings,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0},
        },
    )
    model = Gemma3ForCausalLM(config).eval().float()
    randomise(model, 0.4, 1)
    tokens = torch.randint(3, 80, (1, 40), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model(tokens).logits[0]
    stored = json.loads(config.to_json_string(use_diff=False))
    keep = [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "rms_norm_eps",
        "sliding_window",
        "query_pre_attn_scalar",
        "tie_word_embeddings",
        "hidden_activation",
        "layer_types",
        "rope_parameters",
        "model_type",
    ]
    write(
        folder / "gemma3",
        model,
        {key: stored[key] for key in keep},
        {"tokens": tokens[0].tolist(), "logits": rounded(logits[[0, 4, 5, 6, 20, 39]]), "rows": [0, 4, 5, 6, 20, 39]},
    )


COMMON = dict(
    vocab_size=80,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-6,
    attn_implementation="eager",
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)

#: What each family does unlike the Llama family, and rotary angles stretched in every way.
FAMILIES = {
    "llama_bias": ("Llama", dict(attention_bias=True, mlp_bias=True, head_dim=16)),
    "llama_yarn": (
        "Llama",
        dict(
            rope_parameters={
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 16,
                "rope_theta": 1000.0,
            }
        ),
    ),
    "llama_dynamic": (
        "Llama",
        dict(max_position_embeddings=16, rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1000.0}),
    ),
    "mistral": ("Mistral", dict(sliding_window=7, head_dim=16)),
    "qwen2_window": ("Qwen2", dict(use_sliding_window=True, sliding_window=7, max_window_layers=1)),
    "qwen3": ("Qwen3", dict(head_dim=16, attention_bias=True)),
    "smollm3": ("SmolLM3", dict(num_hidden_layers=4, no_rope_layers=[1, 1, 1, 0], use_sliding_window=False)),
    "phi3": (
        "Phi3",
        dict(
            sliding_window=None,
            max_position_embeddings=64,
            original_max_position_embeddings=16,
            partial_rotary_factor=0.75,
            rope_parameters={
                "rope_type": "longrope",
                "short_factor": [1.0, 1.5, 2.0],
                "long_factor": [1.0, 3.0, 7.0],
                "rope_theta": 1000.0,
                "original_max_position_embeddings": 16,
                "partial_rotary_factor": 0.75,
            },
        ),
    ),
    "gemma2": (
        "Gemma2",
        dict(
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=7,
            attn_logit_softcapping=3.0,
            final_logit_softcapping=5.0,
            tie_word_embeddings=True,
            hidden_activation="gelu_pytorch_tanh",
        ),
    ),
    "olmo2": ("Olmo2", {}),
    "granite": (
        "Granite",
        dict(
            embedding_multiplier=3.0,
            attention_multiplier=0.2,
            residual_multiplier=0.4,
            logits_scaling=2.0,
            attention_bias=True,
        ),
    ),
}


def decoder(folder, name, seed):
    import transformers

    prefix, settings = FAMILIES[name]
    config = getattr(transformers, prefix + "Config")(**{**COMMON, "tie_word_embeddings": False, **settings})
    model = getattr(transformers, prefix + "ForCausalLM")(config).eval().float()
    randomise(model, 0.4, seed)
    generator = torch.Generator().manual_seed(seed + 50)
    cases = []
    # Longer than the windows and than the original contexts, and shorter.
    for length in (12, 40):
        tokens = torch.randint(3, 80, (1, length), generator=generator)
        with torch.no_grad():
            logits = model(tokens, use_cache=False).logits[0]
        rows = sorted({0, 5, 9, length // 2, length - 1})
        cases.append({"tokens": tokens[0].tolist(), "rows": rows, "logits": rounded(logits[rows])})
    # Greedy tokens, each by the whole text anew: no cache that could hide a difference.
    text = cases[0]["tokens"][:6]
    with torch.no_grad():
        for _ in range(8):
            text = [*text, int(model(torch.tensor([text]), use_cache=False).logits[0, -1].argmax())]
    stored = json.loads(config.to_json_string(use_diff=False))
    kept = {
        key: value
        for key, value in stored.items()
        if value is not None
        and (
            key in COMMON
            or key in settings
            or key
            in (
                "model_type",
                "tie_word_embeddings",
                "hidden_act",
                "head_dim",
                "layer_types",
                "rope_parameters",
                "sliding_window",
                "no_rope_layers",
                "attention_bias",
                "mlp_bias",
            )
        )
    }
    kept.pop("attn_implementation", None)
    write(folder / name, model, kept, {"cases": cases, "greedy": text})


SMALL = dict(
    d_model=32,
    d_kv=12,
    d_ff=40,
    num_heads=3,
    num_layers=2,
    num_decoder_layers=3,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=20,
    n_positions=64,
)
#: As the published base sizes: d_kv times heads is d_model, as many layers on both sides, 32 buckets up to 128 tokens.
BASE = dict(
    d_model=48,
    d_kv=8,
    d_ff=96,
    num_heads=6,
    num_layers=3,
    num_decoder_layers=3,
    relative_attention_num_buckets=32,
    relative_attention_max_distance=128,
    n_positions=192,
)


def t5(folder, name, seed, scale, lengths=(1, 7, 16, 33, 50), **settings):
    config = T5Config(
        vocab_size=72,
        dropout_rate=0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        attn_implementation="eager",
        **settings,
    )
    model = T5ForConditionalGeneration(config).eval().float()
    if not settings["tie_word_embeddings"]:
        model.lm_head.weight = torch.nn.Parameter(torch.zeros(72, settings["d_model"]))
    randomise(model, scale, seed)
    with torch.no_grad():
        # Outputs should end now and then.
        for row in {id(m.weight): m.weight for m in (model.shared, model.lm_head)}.values():
            row[1] = (row[1] * 1.6).half().float()
    generator = torch.Generator().manual_seed(seed + 100)
    cases = []
    for length in lengths:
        source = torch.randint(2, 72, (1, length), generator=generator)
        target = torch.cat(
            [torch.zeros(1, 1, dtype=torch.long), torch.randint(2, 72, (1, 24), generator=generator)], dim=1
        )
        with torch.no_grad():
            logits = model(input_ids=source, decoder_input_ids=target, use_cache=False).logits[0]

            def generate(**options):
                return model.generate(source, max_new_tokens=20, do_sample=False, use_cache=False, **options)[
                    0
                ].tolist()[1:]

            beams = []
            for count, penalty in [(1, 1.0), (2, 1.0), (4, 1.0), (4, 0.0), (4, 2.0), (5, -1.0)]:
                ids = generate(num_beams=count, length_penalty=penalty)
                while ids and ids[-1] == 0:
                    ids.pop()
                beams.append({"beams": count, "length_penalty": penalty, "ids": ids})
        cases.append(
            {
                "source": source[0].tolist(),
                "target": target[0].tolist(),
                "rows": [0, 1, 12, 24],
                "logits": rounded(logits[[0, 1, 12, 24]]),
                "beams": beams,
            }
        )
    stored = json.loads(config.to_json_string(use_diff=False))
    keep = [
        "vocab_size",
        "d_model",
        "d_kv",
        "d_ff",
        "num_heads",
        "num_layers",
        "num_decoder_layers",
        "relative_attention_num_buckets",
        "relative_attention_max_distance",
        "pad_token_id",
        "eos_token_id",
        "decoder_start_token_id",
        "n_positions",
        "feed_forward_proj",
        "layer_norm_epsilon",
        "model_type",
    ]
    kept = {key: stored[key] for key in keep if key in stored}
    kept["tie_word_embeddings"] = settings["tie_word_embeddings"]
    write(folder / name, model, kept, {"cases": cases})
    print(name, [[b["ids"] for b in c["beams"][:2]] for c in cases])


def main():
    folder = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    for index, name in enumerate(FAMILIES):
        decoder(folder, name, 20 + index)
    if "--families" in sys.argv:
        return
    gemma3(folder)
    t5(folder, "t5", 3, 0.5, **SMALL, feed_forward_proj="relu", tie_word_embeddings=True)
    t5(folder, "t5_1_1", 4, 0.4, **SMALL, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    t5(folder, "t5_base", 9, 0.4, (1, 40, 170), **BASE, feed_forward_proj="relu", tie_word_embeddings=True)


main()
