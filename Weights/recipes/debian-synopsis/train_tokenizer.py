#!/usr/bin/env python3
"""Train the SentencePiece unigram model of the pair on the text of train.jsonl, with T5's IDs of pad, eos and unk."""

import argparse
import hashlib
import json
import pathlib

import sentencepiece


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=pathlib.Path, help="folder with train.jsonl")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="the model file, spiece.model")
    parser.add_argument("--vocabulary", type=int, default=8192)
    arguments = parser.parse_args()

    def sentences():
        for line in open(arguments.data / "train.jsonl", encoding="utf-8"):
            row = json.loads(line)
            yield row["document"]
            yield row["reference"]

    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with open(arguments.out, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences(),
            model_writer=file,
            vocab_size=arguments.vocabulary,
            model_type="unigram",
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            byte_fallback=True,
            character_coverage=0.9995,
            max_sentence_length=20000,
            num_threads=2,
            minloglevel=1,
        )
    data = arguments.out.read_bytes()
    print(f"{arguments.out}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
