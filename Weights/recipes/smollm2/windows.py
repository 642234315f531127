"""Parts of texts that layers are trained on, and the maps from which that training begins."""

from typing import NamedTuple

import torch
from checkpoint import unit


class Batch(NamedTuple):
    before: torch.Tensor  # what comes before each window
    window: torch.Tensor
    begins: torch.Tensor  # the row of its text that a window begins with
    final: torch.Tensor  # the last layer's states there
    tokens: torch.Tensor  # of the texts, up to the last that a window guesses
    is_there: torch.Tensor  # which rows of a window there are
    is_output: torch.Tensor  # which of them guess an output

    def guessed(self):
        """The tokens after the rows of the windows."""
        rows = self.begins[:, None] + 1 + torch.arange(self.window.shape[1])
        return self.tokens.gather(1, rows)


def batch(texts, inputs, last, rows, chooser=None, elsewhere=0.0):
    """Windows of `rows` rows, on outputs or, with a chooser and for a share of the texts, on any part of a text.

    `inputs` gives the first so many rows of what the trained layers read of a text; `last` is the name of the last
    layer's states. Row t of a text guesses its token t + 1."""
    begins, counts = [], []
    for tokens, output, *_ in texts:
        begin = output - 1
        highest = max(begin, len(tokens) - 1 - rows)
        if chooser is not None:
            begin = chooser.randint(begin, highest) if chooser.random() >= elsewhere else chooser.randint(0, highest)
        begins.append(begin)
        counts.append(min(rows, len(tokens) - 1 - begin))
    size = texts[0].values[last].shape[1]
    before = torch.zeros(len(texts), max(begins), size)
    window = torch.zeros(len(texts), max(counts), size)
    final = torch.zeros(len(texts), max(counts), size)
    tokens = torch.zeros(len(texts), max(begins) + max(counts) + 1, dtype=torch.long)
    is_there = torch.zeros(len(texts), max(counts), dtype=torch.bool)
    is_output = torch.zeros(len(texts), max(counts), dtype=torch.bool)
    for i, text in enumerate(texts):
        begin, count = begins[i], counts[i]
        states = inputs(text, begin + count)
        before[i, :begin] = states[:begin]
        window[i, :count] = states[begin:]
        final[i, :count] = text.values[last][begin : begin + count].float()
        tokens[i, : begin + count + 1] = text.tokens[: begin + count + 1]
        is_there[i, :count] = True
        is_output[i, max(0, text.output - 1 - begin) : count] = True
    return Batch(before, window, torch.tensor(begins), final, tokens, is_there, is_output)


def ridge(texts, inputs, last, decoder, exits, limit=30_000):
    """The maps from the states after the exits to the last layer's that are best by themselves."""
    size = decoder.file.size
    normal = {layer: torch.zeros(size, size) for layer in exits}
    right = {layer: torch.zeros(size, size) for layer in exits}
    count = 0
    for start in range(0, len(texts), 8):
        part = batch(texts[start : start + 8], inputs, last, 1024)
        with torch.no_grad():
            for layer, x, _ in decoder.states(part.window, part.before, part.begins, set(exits)):
                x = unit(x[part.is_there])
                normal[layer] += x.T @ x
                right[layer] += x.T @ unit(part.final[part.is_there])
        count += part.is_there.sum().item()
        if count > limit:
            break
    return {
        layer: torch.linalg.solve(normal[layer] + 1e-3 * count * torch.eye(size), right[layer]).T.contiguous()
        for layer in exits
    }
