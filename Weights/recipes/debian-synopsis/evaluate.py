#!/usr/bin/env python3
"""ROUGE-L of greedy outputs from every decoder layer: all tokens of an output leave after the same layer."""

import argparse
import json
import pathlib

import torch
from data import LONGEST_TARGET, Tokens, pad, read_rows
from model import Model, Sizes
from rouge_score import rouge_scorer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, type=pathlib.Path)
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--data", required=True, type=pathlib.Path, help="file of documents, test.jsonl")
    parser.add_argument("--count", type=int, help="only the first documents")
    parser.add_argument("--positions", type=int, help="tokens of a document to read, instead of those of training")
    parser.add_argument("--layers", type=int, nargs="*", help="only these")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--outputs", type=pathlib.Path, help="file for documents and outputs of the last layer")
    parser.add_argument("--out", type=pathlib.Path, help="file for the result")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    saved = torch.load(arguments.checkpoint)
    sizes = Sizes(**saved["sizes"])
    model = Model(sizes)
    model.load_state_dict(saved["model"])
    tokens = Tokens(arguments.tokenizer, arguments.positions or sizes.n_positions)
    rows = read_rows(arguments.data, arguments.count)
    ids = [tokens.document(row["document"]) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: len(ids[i]))
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    layers = arguments.layers or range(1, sizes.num_decoder_layers + 1)
    result = {"step": int(saved["state"][0]), "documents": len(rows), "rouge_l": {}}
    for layer in layers:
        outputs = [""] * len(rows)
        for first in range(0, len(order), 128):
            indices = order[first : first + 128]
            for i, output in zip(indices, model.greedy(pad([ids[i] for i in indices]), LONGEST_TARGET, layer)):
                outputs[i] = tokens.text(output)
        scores = [scorer.score(row["reference"], output)["rougeL"].fmeasure for row, output in zip(rows, outputs)]
        result["rouge_l"][layer] = round(sum(scores) / len(scores), 4)
    print(json.dumps(result), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.outputs:
        arguments.outputs.write_text(
            "".join(
                json.dumps({"id": row["id"], "reference": row["reference"], "output": output}, ensure_ascii=False)
                + "\n"
                for row, output in zip(rows, outputs)
            )
        )


if __name__ == "__main__":
    main()
