"""Documents as tokens, and batches of them of about one length."""

import random
import sys
from pathlib import Path

import sentencepiece
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "Scripts"))
from egress_tools import read_lines

#: Tokens of a synopsis, its end included.
LONGEST_TARGET = 32


def read_rows(path, count=None):
    return read_lines(path, count)


class Tokens:
    def __init__(self, model, positions):
        self.model = sentencepiece.SentencePieceProcessor(model_file=str(model))
        self.positions = positions

    def document(self, text):
        return [*self.model.encode(text)[: self.positions - 1], 1]

    def target(self, text):
        return [*self.model.encode(text)[: LONGEST_TARGET - 1], 1]

    def text(self, ids):
        return self.model.decode(ids)


def pad(rows):
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


def batches(pairs, size, seed):
    """The order of an epoch: lists of indices, each of documents and synopses of about one length."""
    generator = random.Random(seed)
    order = list(range(len(pairs)))
    generator.shuffle(order)
    result = []
    pool = size * 96
    for start in range(0, len(order), pool):
        part = sorted(order[start : start + pool], key=lambda i: (len(pairs[i][0]) // 6, len(pairs[i][1])))
        result += [part[i : i + size] for i in range(0, len(part), size)]
    generator.shuffle(result)
    return result


def tensors(pairs, indices):
    """Documents, decoder inputs and labels, 0 for padding."""
    documents = pad([pairs[i][0] for i in indices])
    labels = pad([pairs[i][1] for i in indices])
    inputs = torch.cat([torch.zeros(len(labels), 1, dtype=torch.long), labels[:, :-1]], 1)
    return documents, inputs, labels
