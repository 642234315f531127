"""A decoder whose rows share documents, in its own 4 bits, with prompts that may stop at a lower layer.

A batch holds documents, each with the rows of the requests on it behind one another. Rows of the document are a prefix;
a request's rows see the prefix and what comes before them in their own request.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from checkpoint import BLOCK, Checkpoint
from decoder import MATRICES, rotate
from torch import nn


class Rows(NamedTuple):
    tokens: torch.Tensor  # (n)
    positions: torch.Tensor  # (n)
    there: torch.Tensor  # (n) their places among (documents * most rows)
    places: torch.Tensor  # (documents, most rows) which row is there, or n

    def pad(self, x):
        return torch.cat([x, x.new_zeros(1, *x.shape[1:])])[self.places]

    @staticmethod
    def of(tokens, positions):
        """Of lists by document."""
        most = max(map(len, tokens))
        there = torch.tensor([i * most + j for i, row in enumerate(tokens) for j in range(len(row))])
        places = torch.full((len(tokens) * most,), len(there))
        places[there] = torch.arange(len(there))
        return Rows(
            torch.tensor(sum(tokens, [])), torch.tensor(sum(positions, [])), there, places.view(len(tokens), most)
        )


class Batch(NamedTuple):
    prefix: Rows  # of documents
    branch: Rows  # of all requests on them
    prefix_mask: torch.Tensor  # (documents, 1, p, p)
    branch_mask: torch.Tensor  # (documents, 1, b, p + b)
    guesses: torch.Tensor  # (n) the rows of `branch` after which something is to be written
    written: torch.Tensor  # (n) the tokens there
    weights: torch.Tensor  # (n)
    request: torch.Tensor  # (n) the number of the request that they belong to


def collate(items):
    """Of `Item`s. What a request writes weighs 1 / sqrt(its length) a token: long summaries count more, not as much
    more."""
    branches, positions, parts = [], [], []
    guesses, written, weights, request = [], [], [], []
    number = at = 0
    for item in items:
        rows, places, part = [], [], []
        for r in item.requests:
            count = len(r.tokens)
            for row in range(r.output - 1, count - 1):
                guesses.append(at + len(rows) + row)
                written.append(r.tokens[row + 1])
                weights.append((count - r.output) ** -0.5)
                request.append(number)
            rows += r.tokens
            places += range(len(item.prefix), len(item.prefix) + count)
            part += [number] * count
            number += 1
        branches.append(rows)
        positions.append(places)
        parts.append(part)
        at += len(rows)
    prefix = Rows.of([item.prefix for item in items], [list(range(len(item.prefix))) for item in items])
    branch = Rows.of(branches, positions)
    there = prefix.places < len(prefix.tokens)
    p, b = prefix.places.shape[1], branch.places.shape[1]
    part = torch.tensor([*sum(parts, []), -1])[branch.places]
    prefix_mask = (torch.ones(p, p, dtype=torch.bool).tril() & there[:, None]) | torch.eye(p, dtype=torch.bool)
    own = (part[:, :, None] == part[:, None]) & torch.ones(b, b, dtype=torch.bool).tril()
    branch_mask = torch.cat([there[:, None].expand(-1, b, -1), own], -1)
    return Batch(
        prefix,
        branch,
        prefix_mask[:, None],
        branch_mask[:, None],
        torch.tensor(guesses),
        torch.tensor(written),
        torch.tensor(weights),
        torch.tensor(request),
    )


class Grid:
    """A matrix in Q4_1 whose codes are trained: `mover`, in units of weights, is what gradients move; its rounding is
    used."""

    def __init__(self, file, name, generator):
        self.codes, self.scale, self.minimum = file.grid(name)
        # The latent begins anywhere within its code's bin: nothing changes at first, and a small step changes the right
        # share of codes.
        latent = self.codes.float() + (torch.rand(self.codes.shape, generator=generator) - 0.5) * 0.98
        self.scale, self.minimum = self.scale[..., None], self.minimum[..., None]
        self.inverse = 1 / torch.where(self.scale.abs() < 1e-8, torch.full_like(self.scale, 1e8), self.scale)
        self.mover = nn.Parameter(latent * self.scale)
        self.weight = nn.Parameter(torch.empty(self.codes.shape[0], self.codes.shape[1] * BLOCK))
        self.round()

    @torch.no_grad()
    def round(self):
        weight = self.weight.data.view(self.codes.shape)
        torch.mul(self.mover.data, self.inverse, out=weight)
        # A latent far outside would never come back.
        weight.clamp_(-0.6, 15.6)
        torch.mul(weight, self.scale, out=self.mover.data)
        weight.round_().clamp_(0, 15).mul_(self.scale).add_(self.minimum)

    @torch.no_grad()
    def new_codes(self):
        return (self.mover.data * self.inverse).round_().clamp_(0, 15).to(torch.uint8)


class Reader:
    """Layers above `frozen` are trained."""

    def __init__(self, path, frozen, seed):
        self.file = Checkpoint(path)
        self.frozen = frozen
        generator = torch.Generator().manual_seed(seed)
        self.grids, self.layers = {}, []
        for index in range(self.file.layers):
            prefix = f"blk.{index}."
            weights = {name: self.file.read(f"{prefix}{name}.weight") for name in ["attn_norm", "ffn_norm"]}
            for name in MATRICES:
                full = f"{prefix}{name}.weight"
                if index < frozen:
                    weights[name] = self.file.read(full)
                else:
                    self.grids[full] = Grid(self.file, full, generator)
                    weights[name] = self.grids[full].weight
            self.layers.append(weights)
        frequencies = self.file.base ** (-torch.arange(0, self.file.head_size, 2) / self.file.head_size)
        angles = torch.arange(8192)[:, None] * frequencies
        self.cosine, self.sine = angles.cos(), angles.sin()

    def heads(self, x, angles=None):
        """Rows of heads of (n, heads * head size); turned where angles are given."""
        x = x.unflatten(-1, (-1, self.file.head_size))
        return x if angles is None else rotate(x, angles)

    def norm(self, weights, name, x):
        return F.rms_norm(x, (self.file.size,), weights[name], self.file.epsilon)

    def attend(self, q, k, v, mask, rows):
        """q: (documents, rows, heads, head size). Returns (n, size), of the rows that there are."""
        group = self.file.heads // self.file.key_heads
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2).repeat_interleave(group, 1),
            v.transpose(1, 2).repeat_interleave(group, 1),
            attn_mask=mask,
        )
        return mixed.transpose(1, 2).flatten(2).flatten(0, 1)[rows.there]

    def rest(self, weights, x, mixed):
        x = x + F.linear(mixed, weights["attn_output"])
        n = self.norm(weights, "ffn_norm", x)
        return x + F.linear(
            F.silu(F.linear(n, weights["ffn_gate"])) * F.linear(n, weights["ffn_up"]), weights["ffn_down"]
        )

    def states(self, batch, stops, prompt_depth=None):
        """{layer: (n, size) states of the guesses after that layer} for the layers in `stops`.

        prompt_depth: the layer after which rows of documents stop. In later layers their keys and values are projected
        from the state there (method: CALM's propagation; SwiftKV, arXiv 2410.03960).
        """
        depth = prompt_depth or self.file.layers
        # Products are made of the rows that there are, one behind another; attention alone has them padded.
        before, after = batch.prefix, batch.branch
        x, y = self.file.embedding[before.tokens], self.file.embedding[after.tokens]
        turns, own_turns = (
            (self.cosine[r.positions][:, None], self.sine[r.positions][:, None]) for r in (before, after)
        )
        found = {}
        for index, weights in enumerate(self.layers):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= self.frozen):
                n, m = self.norm(weights, "attn_norm", x), self.norm(weights, "attn_norm", y)
                k = before.pad(self.heads(F.linear(n, weights["attn_k"]), turns))
                v = before.pad(self.heads(F.linear(n, weights["attn_v"])))
                own_k = after.pad(self.heads(F.linear(m, weights["attn_k"]), own_turns))
                own_v = after.pad(self.heads(F.linear(m, weights["attn_v"])))
                q = after.pad(self.heads(F.linear(m, weights["attn_q"]), own_turns))
                y = self.rest(
                    weights,
                    y,
                    self.attend(q, torch.cat([k, own_k], 1), torch.cat([v, own_v], 1), batch.branch_mask, after),
                )
                # The last layer's rows of documents are nobody's keys.
                if index < depth and index + 1 < self.file.layers:
                    q = before.pad(self.heads(F.linear(n, weights["attn_q"]), turns))
                    x = self.rest(weights, x, self.attend(q, k, v, batch.prefix_mask, before))
            if index + 1 in stops:
                found[index + 1] = y[batch.guesses]
        return found
