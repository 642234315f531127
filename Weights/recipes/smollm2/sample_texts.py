"""Lets the model go on with the first words of documents: texts of its own of that kind, as many as one likes.

    python sample_texts.py --model MODEL.gguf --documents scitldr-train.jsonl --out sampled.jsonl

Tokens are drawn at a temperature of 0.8 from the most probable that hold 0.95, in bfloat16. Calls `egress` for its
tokenizer."""

import argparse
import itertools
import json
import random
import subprocess
import time

import torch
import torch.nn.functional as F
from checkpoint import Checkpoint, unit
from decoder import MATRICES, rotate, split

# <|endoftext|>, <|im_start|>, <|im_end|>; the end of a line; a space.
ENDS, NEWLINE, SPACE = {0, 1, 2}, 198, 216
TEMPERATURE, TOP_P, BATCH = 0.8, 0.95, 128


def lines(command, text):
    """The token numbers of each line."""
    found = subprocess.run([*command, "-"], input=text, check=True, text=True, capture_output=True).stdout.split()
    rows = [[]]
    for token in map(int, found):
        if token == NEWLINE:
            rows.append([])
        else:
            rows[-1].append(token)
    return rows[:-1]


class Model:
    kind = torch.bfloat16

    def __init__(self, path):
        self.file = Checkpoint(path)
        kind = self.kind
        self.layers = []
        for index in range(self.file.layers):
            prefix = f"blk.{index}."
            weights = {name: self.file.read(f"{prefix}{name}.weight").to(kind) for name in MATRICES}
            norms = [self.file.read(f"{prefix}{name}.weight") for name in ("attn_norm", "ffn_norm")]
            joined = torch.cat([weights["attn_q"], weights["attn_k"], weights["attn_v"]])
            both = torch.cat([weights["ffn_gate"], weights["ffn_up"]])
            self.layers.append((joined, weights["attn_output"], both, weights["ffn_down"], *norms))
        self.unembedding = self.file.unembedding.to(kind)
        frequencies = self.file.base ** (-torch.arange(0, self.file.head_size, 2) / self.file.head_size)
        angles = torch.arange(4096)[:, None] * frequencies
        self.cosine, self.sine = angles.cos(), angles.sin()

    def cache(self, batch, room):
        shape = (self.file.layers, batch, self.file.key_heads, room, self.file.head_size)
        return torch.zeros(shape, dtype=self.kind), torch.zeros(shape, dtype=self.kind)

    def run(self, tokens, cache, start):
        """tokens: (batch, n), all at the rows start ..< start + n. Logits of the last row."""
        file = self.file
        batch, n = tokens.shape
        x = file.embedding[tokens]
        angles = self.cosine[start : start + n], self.sine[start : start + n]
        keys = file.key_heads * file.head_size
        mask = torch.ones(n, start + n, dtype=torch.bool).tril(start)
        for index, (joined, output, both, down, first, second) in enumerate(self.layers):
            q, k, v = F.linear((unit(x, file.epsilon) * first).to(self.kind), joined).split([file.size, keys, keys], -1)
            q = rotate(split(q.float(), file.head_size), angles).to(self.kind)
            cache[0][index, :, :, start : start + n] = rotate(split(k.float(), file.head_size), angles).to(self.kind)
            cache[1][index, :, :, start : start + n] = split(v, file.head_size)
            k, v = cache[0][index, :, :, : start + n], cache[1][index, :, :, : start + n]
            if n == 1:
                # Heads that share keys are rows of one product.
                group = q.reshape(batch, file.key_heads, -1, file.head_size)
                weights = (group @ k.transpose(-1, -2)).float().mul(file.head_size**-0.5).softmax(-1).to(self.kind)
                mixed = (weights @ v).reshape(batch, file.heads, 1, file.head_size)
            else:
                times = file.heads // file.key_heads
                mixed = F.scaled_dot_product_attention(
                    q, k.repeat_interleave(times, 1), v.repeat_interleave(times, 1), attn_mask=mask
                )
            x = x + F.linear(mixed.transpose(1, 2).flatten(2), output).float()
            gate, up = F.linear((unit(x, file.epsilon) * second).to(self.kind), both).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, down).float()
        x = unit(x[:, -1], file.epsilon) * file.norm
        return F.linear(x.to(self.kind), self.unembedding).float()


def draw(logits):
    """Of the 256 most probable, which hold nearly all."""
    found, tokens = (logits / TEMPERATURE).topk(256)
    p = found.softmax(-1)
    p = p * (p.cumsum(-1) - p < TOP_P)
    return tokens.gather(-1, torch.multinomial(p, 1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--documents", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--egress", default="egress")
    parser.add_argument("--rounds", type=int, default=2, help="texts to begin of each document")
    parser.add_argument("--tokens", type=int, default=140, help="to go on for")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    chooser = random.Random(0)
    model = Model(arguments.model)
    documents = [json.loads(line)["document"] for line in open(arguments.documents)]
    prompts = []
    for turn in range(arguments.rounds):
        for index, document in enumerate(documents):
            words = document.split()
            prompts.append((f"made{turn}.{index}", " ".join(words[: chooser.randint(8, 40)])))
    chooser.shuffle(prompts)
    # Byte-level BPE spells a line's end with this letter.
    names = model.file.reader.fields["tokenizer.ggml.tokens"].contents()
    breaks = {token for token, name in enumerate(names) if "Ċ" in name or "č" in name}
    # Lines' ends are tokens of their own.
    tokens = lines(
        [arguments.egress, "tokenize", "--model", arguments.model], "".join(f"{text}\n" for _, text in prompts)
    )
    queue = sorted(zip((name for name, _ in prompts), tokens, strict=True), key=lambda item: len(item[1]))
    parts = []
    for _, group in itertools.groupby(queue, key=lambda item: len(item[1])):
        group = list(group)
        parts += [group[i : i + BATCH] for i in range(0, len(group), BATCH)]
    chooser.shuffle(parts)
    out = open(arguments.out, "w")
    for part in parts:
        started = time.time()
        start = torch.tensor([ids for _, ids in part])
        written = torch.zeros(len(part), 0, dtype=torch.long)
        with torch.no_grad():
            cache = model.cache(len(part), start.shape[1] + arguments.tokens)
            logits = model.run(start, cache, 0)
            for step in range(arguments.tokens):
                token = draw(logits)
                written = torch.cat([written, token], -1)
                logits = model.run(token, cache, start.shape[1] + step)
        ids = []
        for row in torch.cat([start, written], -1).tolist():
            end = next((i for i, token in enumerate(row) if token in ENDS), len(row))
            ids.append([SPACE if token in breaks else token for token in row[:end]])
        command = [arguments.egress, "detokenize", "--model", arguments.model, "-"]
        joined = f" {NEWLINE} ".join(" ".join(map(str, row)) for row in ids)
        texts = subprocess.run(
            command, input=joined, check=True, text=True, errors="ignore", capture_output=True
        ).stdout.split("\n")
        kept = 0
        for (name, _), text in zip(part, texts, strict=True):
            text = " ".join(text.split())
            text = text[: max(text.rfind(mark) for mark in ".!?") + 1]
            if len(text.split()) >= 40:
                kept += 1
                print(json.dumps({"id": name, "document": text}, ensure_ascii=False), file=out, flush=True)
        print(
            f"{kept} of {len(part)}, {len(part) * arguments.tokens / (time.time() - started):.0f} tokens/s", flush=True
        )


if __name__ == "__main__":
    main()
