"""The upper layers of a Llama-family decoder in 4 bits, to be trained as they will be read.

A weight of Q4_1 is code * scale + minimum, with codes of 0 to 15 and a scale and a minimum for every 32. Scales and
minima stay; what is learned is the code, through a latent number that is rounded in every step (straight-through). The
latent begins anywhere within its code's bin, so that nothing changes at first and a small step changes the right share
of codes."""

import torch
import torch.nn.functional as F
from checkpoint import BLOCK, Checkpoint, unit
from torch import nn


class Grid:
    """The latent numbers of one matrix, in units of its scales."""

    def __init__(self, file, name, generator):
        codes, self.scale, self.minimum = file.grid(name)
        self.latent = codes.float() + (torch.rand(codes.shape, generator=generator) - 0.5) * 0.98
        self.weight = nn.Parameter(torch.empty(codes.shape[0], codes.shape[1] * BLOCK))
        self.round()

    def codes(self):
        return self.latent.round().clamp_(0, 15)

    @torch.no_grad()
    def round(self):
        value = self.codes().mul_(self.scale[..., None]).add_(self.minimum[..., None])
        self.weight.data.copy_(value.flatten(1))


MATRICES = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]


class Layer:
    def __init__(self, file, index, generator=None):
        """Trained where a generator is given."""
        self.file = file
        prefix = f"blk.{index}."
        self.grids = {}
        self.norms = {name: file.read(f"{prefix}{name}.weight") for name in ["attn_norm", "ffn_norm"]}
        self.weights = {}
        for name in MATRICES:
            full = f"{prefix}{name}.weight"
            if generator is None:
                self.weights[name] = file.read(full)
            else:
                self.grids[full] = Grid(file, full, generator)
                self.weights[name] = self.grids[full].weight

    def linear(self, name, x):
        return F.linear(x, self.weights[name])

    def keys_and_values(self, x, angles):
        n = unit(x, self.file.epsilon) * self.norms["attn_norm"]
        k = rotate(split(self.linear("attn_k", n), self.file.head_size), angles)
        return n, k, split(self.linear("attn_v", n), self.file.head_size)

    def rest(self, x, mixed):
        x = x + self.linear("attn_output", mixed.transpose(1, 2).flatten(2))
        n = unit(x, self.file.epsilon) * self.norms["ffn_norm"]
        return x + self.linear("ffn_down", F.silu(self.linear("ffn_gate", n)) * self.linear("ffn_up", n))

    def forward(self, x, before, angles, angles_before, mask):
        """Rows of a window, and without gradients those before it.

        x: (batch, n, size), before: (batch, p, size); mask: (batch, 1, n, p + n).
        """
        group = self.file.heads // self.file.key_heads

        def attend(n, angles, k, v, **how):
            q = rotate(split(self.linear("attn_q", n), self.file.head_size), angles)
            return F.scaled_dot_product_attention(
                q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), **how
            )

        with torch.no_grad():
            n, k, v = self.keys_and_values(before, angles_before)
            # Rows beyond a text's own part are on the right, where no row before looks.
            before = self.rest(before, attend(n, angles_before, k, v, is_causal=True))
        n, own_k, own_v = self.keys_and_values(x, angles)
        k, v = torch.cat([k, own_k], 2), torch.cat([v, own_v], 2)
        return self.rest(x, attend(n, angles, k, v, attn_mask=mask)), before


def split(x, head_size):
    return x.unflatten(-1, (-1, head_size)).transpose(1, 2)


def rotate(x, angles):
    """x: (batch, heads, rows, head size); GGUF lays rotary pairs side by side."""
    cosine, sine = angles
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cosine - b * sine, a * sine + b * cosine], -1).flatten(-2)


class Decoder:
    """Layers first + 1 to `end`, or to the last; of those up to `trained` the codes are trained."""

    def __init__(self, path, first, trained, seed, end=None):
        self.file = Checkpoint(path)
        generator = torch.Generator().manual_seed(seed)
        self.first = first
        self.layers = [
            Layer(self.file, index, generator if index < trained else None)
            for index in range(first, end or self.file.layers)
        ]
        frequencies = self.file.base ** (-torch.arange(0, self.file.head_size, 2) / self.file.head_size)
        angles = torch.arange(8192)[:, None] * frequencies
        self.cosine, self.sine = angles.cos(), angles.sin()

    def grids(self):
        return {name: grid for layer in self.layers for name, grid in layer.grids.items()}

    def angles(self, positions):
        return self.cosine[positions][:, None], self.sine[positions][:, None]

    def states(self, x, before, begins, depths, dropped=None):
        """Yields (layer, states of the window, states before it) for the layers asked for, the deepest last.

        begins: (batch), the row of a text that its window begins with; `before` holds the rows up to it.
        dropped: a chance by the layer's number, with which it leaves a text as it is (layer dropout).
        """
        batch, n, _ = x.shape
        positions = begins[:, None] + torch.arange(n)
        angles = self.angles(positions)
        angles_before = self.angles(torch.arange(before.shape[1]).expand(batch, -1))
        seen = torch.arange(before.shape[1])[None, :] < begins[:, None]
        causal = torch.ones(n, n, dtype=torch.bool).tril()
        mask = torch.cat([seen[:, None, None].expand(-1, -1, n, -1), causal[None, None].expand(batch, -1, -1, -1)], -1)
        for index, layer in enumerate(self.layers):
            number = self.first + index + 1
            new, new_before = layer.forward(x, before, angles, angles_before, mask)
            if dropped is not None:
                stays = (torch.rand(batch) >= dropped(number))[:, None, None]
                new, new_before = torch.where(stays, new, x), torch.where(stays, new_before, before)
            x, before = new, new_before
            if number in depths:
                yield number, x, before
            if number == max(depths):
                return
