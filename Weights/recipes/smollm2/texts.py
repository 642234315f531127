"""Texts with their states, as `egress export-states` wrote them."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file


class Text(NamedTuple):
    tokens: torch.Tensor
    output: int  # the row of its first token
    values: dict  # by the names that were asked for, a row for every token
    is_firm: bool = False  # whether the model is to stay as it is here


def read(folders, names, coarse=(), is_firm=False):
    """Values of the names in `coarse` are kept in 8 bits, with an error of some per cent, so that they fit into
    memory."""
    texts = []
    for folder in folders:
        for path in sorted(Path(folder).glob("states-*.safetensors")):
            file = load_file(path)
            tokens = file["tokens"].long()
            starts, outputs = file["starts"].long().tolist(), file["outputs"].long().tolist()
            values = {name: file[name] for name in names}
            values |= {name: file[name].to(torch.float8_e4m3fn) for name in coarse}
            for start, output, end in zip(starts, outputs, [*starts[1:], len(tokens)]):
                if end - output >= 4:
                    texts.append(
                        Text(
                            tokens[start:end],
                            output - start,
                            {name: value[start:end] for name, value in values.items()},
                            is_firm,
                        )
                    )
    return texts


def split(texts):
    """(to learn from, held out): every eightieth is held out."""
    return [text for index, text in enumerate(texts) if index % 80 != 7], texts[7::80]


def shortlist(texts, count, vocabulary):
    """The tokens that the model wrote most often; of equal ones those read most often, then the lowest."""
    written, seen = torch.zeros(vocabulary), torch.zeros(vocabulary)
    for text in texts:
        seen += torch.bincount(text.tokens, minlength=vocabulary)
        written += torch.bincount(text.tokens[text.output :], minlength=vocabulary)
    order = sorted(range(vocabulary), key=lambda t: (-written[t].item(), -seen[t].item(), t))
    return torch.tensor(order[:count])


def groups(texts, size, chooser):
    """Texts of about one length, `size` at a time, in another order each time they are through; without end."""
    while True:
        order = sorted(texts, key=lambda text: len(text.tokens) + chooser.random() * 60)
        queue = [order[i : i + size] for i in range(0, len(order), size)]
        chooser.shuffle(queue)
        while queue:
            yield queue.pop()


def make_log(folder, texts):
    """A function that prints facts and appends them to folder/log.jsonl; how much text there is, is the first it
    notes."""
    log = open(folder / "log.jsonl", "a")

    def note(**facts):
        print(json.dumps(facts), flush=True)
        print(json.dumps(facts), file=log, flush=True)

    note(
        texts=len(texts), tokens=sum(len(t.tokens) for t in texts), outputs=sum(len(t.tokens) - t.output for t in texts)
    )
    return note
