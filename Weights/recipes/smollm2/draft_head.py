"""A draft head: one transformer layer that guesses a model's next hidden state from its last one and the next token
(Li et al., "EAGLE: speculative sampling requires rethinking feature uncertainty", ICML 2024).

Row t reads the hidden state f_t of the model's last layer and the embedding of the token after it, x_{t+1}, and gives
g_t, which the model's own final norm and unembedding turn into the distribution of x_{t+2}. In drafting, g_t stands for
f_{t+1} in the next row. Where the model itself has passed token t, the states after lower layers are read as well
(EAGLE-3; Li et al., 2025); a row that drafts has none. Tensors are named and laid out as in GGUF, so that rotary pairs
lie side by side."""

import torch
import torch.nn.functional as F
from checkpoint import unit
from torch import nn


class Head(nn.Module):
    def __init__(self, target, lower=(), dropout=0.0):
        """lower: the lower layers after which states are read."""
        super().__init__()
        self.lower = sorted(lower)
        self.dropout = nn.Dropout(dropout)
        self.target = target
        size, _heads, key_heads, width = target.size, target.heads, target.key_heads, target.width
        self.head_size = target.head_size
        keys = key_heads * self.head_size
        self.state_map = nn.Linear(size, size, bias=False)
        self.token_map = nn.Linear(size, size, bias=False)
        self.lower_map = nn.Linear(size * len(self.lower), size, bias=False)
        nn.init.zeros_(self.lower_map.weight)
        self.attention_norm = nn.Parameter(torch.ones(size))
        self.q = nn.Linear(size, size, bias=False)
        self.k = nn.Linear(size, keys, bias=False)
        self.v = nn.Linear(size, keys, bias=False)
        self.o = nn.Linear(size, size, bias=False)
        self.ffn_norm = nn.Parameter(torch.ones(size))
        self.gate = nn.Linear(size, width, bias=False)
        self.up = nn.Linear(size, width, bias=False)
        self.down = nn.Linear(width, size, bias=False)
        frequencies = target.base ** (-torch.arange(0, self.head_size, 2) / self.head_size)
        self.register_buffer("angles", torch.arange(4096)[:, None] * frequencies, persistent=False)

    def begin_from_last_layer(self, scale):
        last = f"blk.{self.target.layers - 1}."
        tensors = {
            name: self.target.read(last + name[len("blk.0.") :]) if name.startswith("blk.0.") else part
            for name, part in self.tensors().items()
        }
        self.take(tensors)
        with torch.no_grad():
            self.o.weight.mul_(scale)
            self.down.weight.mul_(scale)

    def tensors(self):
        lower = self.lower_map.weight.split(self.target.size, 1)
        return {
            **{f"map.state.{layer}": part for layer, part in zip(self.lower, lower)},
            "map.state": self.state_map.weight,
            "map.token": self.token_map.weight,
            "blk.0.attn_norm.weight": self.attention_norm,
            "blk.0.attn_q.weight": self.q.weight,
            "blk.0.attn_k.weight": self.k.weight,
            "blk.0.attn_v.weight": self.v.weight,
            "blk.0.attn_output.weight": self.o.weight,
            "blk.0.ffn_norm.weight": self.ffn_norm,
            "blk.0.ffn_gate.weight": self.gate.weight,
            "blk.0.ffn_up.weight": self.up.weight,
            "blk.0.ffn_down.weight": self.down.weight,
        }

    def take(self, tensors):
        with torch.no_grad():
            for name, part in self.tensors().items():
                # One that began without lower layers goes on as it was.
                if name in tensors or not name.startswith("map.state."):
                    part.copy_(tensors[name])

    def rotate(self, x, positions):
        """x: (batch, heads, rows, head size); positions: (batch, rows)."""
        angles = self.angles[positions][:, None]
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1).flatten(-2)

    def split(self, x):
        return x.unflatten(-1, (-1, self.head_size)).transpose(1, 2)

    def fused(self, states, embeddings, lower=None):
        x = self.state_map(unit(states)) + self.token_map(unit(embeddings))
        return x + self.lower_map(lower) if self.lower and lower is not None else x

    def normalized(self, x):
        return unit(x, self.target.epsilon) * self.attention_norm

    def keys_and_values(self, x, positions):
        n = self.normalized(x)
        group = self.target.heads // self.target.key_heads
        k = self.rotate(self.split(self.k(n)), positions).repeat_interleave(group, 1)
        return k, self.split(self.v(n)).repeat_interleave(group, 1)

    def forward(self, states, lower, embeddings, window, steps):
        """The states guessed for the rows of a window, after 1 to `steps` rows of drafting.

        states, embeddings: (batch, rows, size), those of x_t and of x_{t+1}. lower: (batch, rows, layers * size), of
        mean square 1. window: (batch, n) row numbers, each row after the one before. Yields (batch, n, size): of step
        k, row t has seen the model's own states up to row t - k + 1."""
        batch, rows, size = states.shape
        positions = torch.arange(rows).expand(batch, rows)
        x = self.fused(states, embeddings, lower)
        keys, values = self.keys_and_values(x, positions)
        chosen = window[..., None].expand(-1, -1, size)
        tokens = embeddings.gather(1, chosen)
        x = x.gather(1, chosen)
        # (batch, 1, n, rows)
        distance = window[:, None, :, None] - positions[:, None, None, :]
        later = []
        for step in range(steps):
            n = self.normalized(x)
            q = self.rotate(self.split(self.q(n)), window) / self.head_size**0.5
            scores = (q @ keys.transpose(-1, -2)).masked_fill(distance < step, -1e30)
            if step:
                k, v = self.keys_and_values(x, window)
                # A row's own key and those of the draft before it, each one row further back.
                later = [(k, v)] + [
                    (F.pad(a, (0, 0, 1, 0))[:, :, :-1], F.pad(b, (0, 0, 1, 0))[:, :, :-1]) for a, b in later
                ]
                own = torch.stack([(q * a).sum(-1) for a, _ in later], -1)
                weights = torch.cat([scores, own], -1).softmax(-1)
                mixed = weights[..., :rows] @ values
                for index, (_, b) in enumerate(later):
                    mixed = mixed + weights[..., rows + index, None] * b
            else:
                mixed = scores.softmax(-1) @ values
            x = x + self.dropout(self.o(mixed.transpose(1, 2).flatten(2)))
            n = unit(x, self.target.epsilon) * self.ffn_norm
            x = x + self.dropout(self.down(F.silu(self.gate(n)) * self.up(n)))
            yield x
            # The guess of the row before stands for its state.
            x = self.fused(F.pad(x, (0, 0, 1, 0))[:, :-1], tokens)
