#!/usr/bin/env python3
"""T5 with random weights of true shapes: egress against CTranslate2, reading 512 tokens and decoding 64.

Usage: compare.py [--egress PATH] [--folder FOLDER] [--threads N] [--rounds N] [small base large]

Needs torch, transformers, sentencepiece and ctranslate2. Models are made once in the folder and converted with
CTranslate2's own tool. Both programs run in turns, so that a change in the machine's load meets both; the best of the
rounds counts. Run it on a machine that does nothing else.
"""

import argparse
import json
import os
import subprocess
import time

SHAPES = {
    # d_model, d_kv, heads, d_ff, layers, feed-forward: T5 1.0's own.
    "small": dict(d_model=512, d_kv=64, num_heads=8, d_ff=2048, num_layers=6),
    "base": dict(d_model=768, d_kv=64, num_heads=12, d_ff=3072, num_layers=12),
    "large": dict(d_model=1024, d_kv=64, num_heads=16, d_ff=4096, num_layers=24),
}


def make(name, folder):
    """A directory that both programs read; its tokenizer only has to be there."""
    path = os.path.join(folder, f"t5-{name}")
    if not os.path.exists(path + "/model.safetensors"):
        import sentencepiece
        import torch
        from transformers import T5Config, T5ForConditionalGeneration

        torch.manual_seed(1)
        shape = SHAPES[name]
        config = T5Config(
            vocab_size=32128,
            num_decoder_layers=shape["num_layers"],
            feed_forward_proj="relu",
            n_positions=512,
            decoder_start_token_id=0,
            **shape,
        )
        os.makedirs(path, exist_ok=True)
        T5ForConditionalGeneration(config).save_pretrained(path)
        text = os.path.join(folder, "text.txt")
        with open(text, "w") as file:
            file.writelines(
                f"line {i} of a text with {i * 7919 % 997} words and {i * 31 % 89} numbers\n" for i in range(2000)
            )
        sentencepiece.SentencePieceTrainer.train(
            input=text,
            model_prefix=path + "/spiece",
            vocab_size=300,
            model_type="unigram",
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    return path


def convert(path, kind):
    """CTranslate2's converter wants a vocabulary of the embedding's size; its names do not matter here."""
    target = f"{path}-ct2-{kind}"
    if not os.path.exists(target + "/model.bin"):
        from ctranslate2.converters import TransformersConverter
        from ctranslate2.converters.transformers import T5Loader
        from transformers import T5ForConditionalGeneration

        class Tokenizer:
            unk_token, bos_token, eos_token, pad_token = "<unk>", "<s>", "</s>", "<pad>"
            eos_token_id, pad_token_id = 1, 0

            names = ["<pad>", "</s>", "<unk>"] + [f"t{i}" for i in range(3, 32128)]

            def get_vocab(self):
                return {name: i for i, name in enumerate(self.names)}

            def convert_ids_to_tokens(self, ids):
                return self.names[ids] if isinstance(ids, int) else [self.names[i] for i in ids]

        class Converter(TransformersConverter):
            def load_model(self, model_class, name, **kwargs):
                return T5ForConditionalGeneration.from_pretrained(name)

            def load_tokenizer(self, tokenizer_class, name, **kwargs):
                return Tokenizer()

        assert T5Loader
        Converter(path).convert(target, quantization=kind, force=True)
    return target


def peer(target, threads, size):
    import ctranslate2

    model = ctranslate2.Translator(target, device="cpu", intra_threads=threads, inter_threads=1)
    names = ["<pad>", "</s>", "<unk>"] + [f"t{i}" for i in range(3, 32128)]
    sources = [[names[((i + s) * 7919 % 30000 + 20) % 32128] for i in range(512)] for s in range(size)]

    def run(length):
        start = time.perf_counter()
        results = model.translate_batch(
            sources,
            beam_size=1,
            min_decoding_length=length,
            max_decoding_length=length,
            max_input_length=0,
            return_end_token=True,
        )
        assert all(len(r.hypotheses[0]) >= length for r in results)
        return time.perf_counter() - start

    run(1)
    # One output token costs an encoder pass and a decoder step: its time is taken as that of the encoder.
    return run(1), run(64)


def ours(program, path, threads):
    output = subprocess.run(
        [program, "bench", "--model", path, "--threads", str(threads), "--format", "json"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    result = json.loads(output)
    return {size: (result["encode_seconds"][str(size)], result["decode_seconds"][str(size)]) for size in (1, 8)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--egress", default=".build/release/egress")
    parser.add_argument("--folder", default="/tmp/egress-t5")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default="int8,float32")
    parser.add_argument("shapes", nargs="*", default=["small", "base"])
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    for name in options.shapes:
        path = make(name, options.folder)
        kinds = {kind: convert(path, kind) for kind in options.kinds.split(",")}
        best = {}
        for _ in range(options.rounds):
            for size, (encode, decode) in ours(options.egress, path, options.threads).items():
                for part, value in (("encode", encode), ("decode", decode)):
                    key = ("egress", size, part)
                    best[key] = min(best.get(key, 1e9), value)
            for kind, target in kinds.items():
                for size in (1, 8):
                    first, whole = peer(target, options.threads, size)
                    for part, value in (("encode", first), ("decode", whole - first)):
                        key = (kind, size, part)
                        best[key] = min(best.get(key, 1e9), value)
        for size in (1, 8):
            for part in ("encode", "decode"):
                mine = best[("egress", size, part)]
                others = ", ".join(
                    f"CTranslate2 {kind} {best[(kind, size, part)]:.3f} s ({best[(kind, size, part)] / mine:.2f}x)"
                    for kind in kinds
                )
                print(f"t5-{name} batch {size} {part}: egress {mine:.3f} s, {others}", flush=True)


main()
