"""Texts with their states, as `egress export-states` wrote them."""

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file


class Text(NamedTuple):
    tokens: torch.Tensor
    output: int  # the row of its first token
    values: dict  # by the names that were asked for, a row for every token


def read(folders, names):
    texts = []
    for folder in folders:
        for path in sorted(Path(folder).glob("states-*.safetensors")):
            file = load_file(path)
            tokens = file["tokens"].long()
            starts, outputs = file["starts"].long().tolist(), file["outputs"].long().tolist()
            for start, output, end in zip(starts, outputs, [*starts[1:], len(tokens)]):
                if end - output >= 4:
                    texts.append(Text(tokens[start:end], output - start, {name: file[name][start:end] for name in names}))
    return texts


def split(texts):
    """(to learn from, held out): every eightieth is held out."""
    return [text for index, text in enumerate(texts) if index % 80 != 7], texts[7::80]


def shortlist(texts, count, vocabulary):
    """The tokens that the model wrote most often; of equal ones those read most often, then the lowest."""
    written, seen = torch.zeros(vocabulary), torch.zeros(vocabulary)
    for text in texts:
        seen += torch.bincount(text.tokens, minlength=vocabulary)
        written += torch.bincount(text.tokens[text.output:], minlength=vocabulary)
    order = sorted(range(vocabulary), key=lambda t: (-written[t].item(), -seen[t].item(), t))
    return torch.tensor(order[:count])
