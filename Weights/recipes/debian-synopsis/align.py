#!/usr/bin/env python3
"""Prediction alignment (Kim et al., "Speculative decoding with big little decoder", 2023, section 3.4): write a copy of
the training data whose references are the large model's own greedy outputs, for train.py to train the small one on.

Writes piece by piece; stopped, the same command goes on.
"""

import argparse
import json
import pathlib

import torch
from data import LONGEST_TARGET, Tokens, pad, read_rows
from model import Model, Sizes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=pathlib.Path, help="of the large model")
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--data", required=True, type=pathlib.Path, help="file of documents, train.jsonl")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="file to write, aligned.jsonl")
    parser.add_argument("--count", type=int, help="only the first documents")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    saved = torch.load(arguments.checkpoint)
    model = Model(Sizes(**saved["sizes"]))
    model.load_state_dict(saved["model"])
    tokens = Tokens(arguments.tokenizer, model.sizes.n_positions)
    rows = read_rows(arguments.data, arguments.count)
    done = len(read_rows(arguments.out)) if arguments.out.exists() else 0
    with open(arguments.out, "a", encoding="utf-8") as file:
        for start in range(done, len(rows), 1024):
            piece = rows[start : start + 1024]
            ids = [tokens.document(row["document"]) for row in piece]
            order = sorted(range(len(piece)), key=lambda i: len(ids[i]))
            outputs = {}
            for first in range(0, len(order), 128):
                indices = order[first : first + 128]
                outputs |= zip(indices, model.greedy(pad([ids[i] for i in indices]), LONGEST_TARGET))
            file.write(
                "".join(
                    json.dumps(row | {"reference": tokens.text(outputs[i])}, ensure_ascii=False) + "\n"
                    for i, row in enumerate(piece)
                )
            )
            file.flush()
            print(f"{start + len(piece)} of {len(rows)}", flush=True)


if __name__ == "__main__":
    main()
