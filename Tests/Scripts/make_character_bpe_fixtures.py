#!/usr/bin/env python3
"""Writes Tests/TokenizationTests/Fixtures/character_bpe.json: small tokenizer.json files of BPE over characters, set up
as the conversions of SentencePiece models of several families are, and what the tokenizers library makes of texts.

Usage: make_character_bpe_fixtures.py Tests/TokenizationTests/Fixtures. Needs tokenizers alone."""

import json
import pathlib
import sys

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog. " * 3,
    "the theory of the other thing, then",
    "aaaa aaa aa baaab",
    "Häuser und Türen, naïve café",
    "def f(x):\n    return x + 1\n\n",
    "1234567890 3.14159 2,000",
] * 20
TEXTS = [
    "The quick fox",
    " a",
    "  two  spaces ",
    "",
    " ",
    "a",
    "hi\nthere\n\n  x",
    "naïve \U0001f642 日本",
    "aaaaaaaab aaaaa",
    "<s>the</s> the",
    "the <s> other",
    "▁the",
    "a<|end|> \n the",
    "x\n\n\n\ny",
    "theory",
]


def trained(normalizer, pre_tokenizer, fallback, unknown=True):
    bytes_ = [f"<0x{i:02X}>" for i in range(256)] if fallback else []
    t = Tokenizer(models.BPE(unk_token="<unk>" if unknown else None))
    t.normalizer, t.pre_tokenizer = normalizer, pre_tokenizer
    t.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=180, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    )
    stored = json.loads(t.to_str())
    vocabulary = stored["model"]["vocab"]
    for name in bytes_:
        vocabulary[name] = len(vocabulary)
    # Every pair that makes a token, as conversions list them, so that ranks are not what made them.
    pairs = sorted(
        (
            (a, w[len(a) :])
            for w in vocabulary
            for a in (w[:i] for i in range(1, len(w)))
            if a in vocabulary and w[len(a) :] in vocabulary and not w.startswith("<")
        ),
        key=lambda p: (vocabulary[p[0] + p[1]], vocabulary[p[0]], vocabulary[p[1]]),
    )
    stored["model"] |= {"merges": pairs, "byte_fallback": fallback, "fuse_unk": True}
    t = Tokenizer.from_str(json.dumps(stored))
    t.add_special_tokens([AddedToken("<|end|>", normalized=False, rstrip=True, special=True)])
    t.add_tokens([AddedToken("\n\n", normalized=False)])
    return t


MARK = "▁"
TOKENIZERS = {
    "llama": trained(normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)]), None, True),
    "mistral": trained(None, pre_tokenizers.Metaspace(MARK, "first", split=False), True),
    "always": trained(None, pre_tokenizers.Metaspace(MARK, "always", split=True), True),
    "gemma": trained(normalizers.Replace(" ", MARK), pre_tokenizers.Split(" ", "merged_with_previous"), True),
}


def main():
    cases = []
    for name, tokenizer in TOKENIZERS.items():
        for text in TEXTS:
            # With marks read as marks, and as text where there are none.
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            cases.append({"tokenizer": name, "text": text, "ids": ids})
    files = {name: tokenizer.to_str() for name, tokenizer in TOKENIZERS.items()}
    target = pathlib.Path(sys.argv[1]) / "character_bpe.json"
    target.write_text(json.dumps({"tokenizers": files, "cases": cases}, ensure_ascii=False, indent=0) + "\n")


main()
