"""T5 1.1, for training on a CPU: the projections of a layer are one product, and so are the cross-attention keys and
values of all decoder layers. `to_hugging_face` gives the tensors their usual names."""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass
class Sizes:
    d_model: int = 256
    d_kv: int = 64
    d_ff: int = 1024
    num_heads: int = 4
    num_layers: int = 2
    num_decoder_layers: int = 8
    vocab_size: int = 8192
    #: Tokens of a document, its end included; the rest is cut.
    n_positions: int = 96
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6

    def hugging_face(self):
        """The text of config.json, as a dictionary."""
        return dataclasses.asdict(self) | {
            "architectures": ["T5ForConditionalGeneration"],
            "model_type": "t5",
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
            "scale_decoder_outputs": False,
            "is_encoder_decoder": True,
            "decoder_start_token_id": 0,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "dropout_rate": 0.0,
        }


def buckets(queries, keys, sizes, bidirectional):
    distance = torch.arange(keys)[None, :] - torch.arange(queries)[:, None]
    count, first = sizes.relative_attention_num_buckets, torch.zeros_like(distance)
    if bidirectional:
        count //= 2
        first = (distance > 0).long() * count
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = count // 2
    far = (
        exact
        + (
            torch.log(distance.clamp(min=1).float() / exact)
            / math.log(sizes.relative_attention_max_distance / exact)
            * (count - exact)
        ).long()
    )
    return first + torch.where(distance < exact, distance, far.clamp(max=count - 1))


class Norm(nn.Module):
    def __init__(self, size, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


def attend(q, k, v, bias):
    """q: [batch, heads, queries, size]; bias: broadcast to [batch, heads, queries, keys]. T5 does not scale."""
    weights = (
        torch.softmax(q @ k.transpose(-1, -2) + bias, -1)
        if bias is not None
        else torch.softmax(q @ k.transpose(-1, -2), -1)
    )
    return weights @ v


class Layer(nn.Module):
    def __init__(self, sizes, has_cross):
        super().__init__()
        d, inner = sizes.d_model, sizes.num_heads * sizes.d_kv
        self.heads, self.inner = sizes.num_heads, inner
        self.norm = Norm(d, sizes.layer_norm_epsilon)
        # Queries, keys and values; outputs begin at zero, so that a layer begins as the identity.
        self.qkv = nn.Parameter(torch.randn(3, inner, d) * d**-0.5)
        self.qkv.data[0] *= sizes.d_kv**-0.5
        self.o = nn.Parameter(torch.zeros(d, inner))
        if has_cross:
            self.cross_norm = Norm(d, sizes.layer_norm_epsilon)
            self.cross_q = nn.Parameter(torch.randn(inner, d) * (d * sizes.d_kv) ** -0.5)
            self.cross_kv = nn.Parameter(torch.randn(2, inner, d) * d**-0.5)
            self.cross_o = nn.Parameter(torch.zeros(d, inner))
        self.ff_norm = Norm(d, sizes.layer_norm_epsilon)
        self.wi = nn.Parameter(torch.randn(2, sizes.d_ff, d) * d**-0.5)
        self.wo = nn.Parameter(torch.zeros(d, sizes.d_ff))

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, x):
        return [self.split(part) for part in F.linear(self.norm(x), self.qkv.flatten(0, 1)).chunk(3, -1)]

    def forward(self, x, bias, cross=None, cross_bias=None, past=None):
        q, k, v = self.project(x)
        if past is not None:
            if past:
                k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
            past[:] = [k, v]
        x = x + F.linear(attend(q, k, v, bias).transpose(1, 2).flatten(2), self.o)
        if cross is not None:
            q = self.split(F.linear(self.cross_norm(x), self.cross_q))
            x = x + F.linear(attend(q, *cross, cross_bias).transpose(1, 2).flatten(2), self.cross_o)
        gate, up = F.linear(self.ff_norm(x), self.wi.flatten(0, 1)).chunk(2, -1)
        return x + F.linear(F.gelu(gate, approximate="tanh") * up, self.wo)


class Model(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        d, _inner = sizes.d_model, sizes.num_heads * sizes.d_kv
        self.shared = nn.Parameter(torch.randn(sizes.vocab_size, d))
        self.head = nn.Parameter(self.shared.data * 0.25 * d**-0.5)
        self.encoder = nn.ModuleList(Layer(sizes, False) for _ in range(sizes.num_layers))
        self.encoder_norm = Norm(d, sizes.layer_norm_epsilon)
        self.encoder_bias = nn.Parameter(torch.zeros(sizes.relative_attention_num_buckets, sizes.num_heads))
        self.decoder = nn.ModuleList(Layer(sizes, True) for _ in range(sizes.num_decoder_layers))
        self.decoder_norm = Norm(d, sizes.layer_norm_epsilon)
        self.decoder_bias = nn.Parameter(torch.zeros(sizes.relative_attention_num_buckets, sizes.num_heads))

    def bias(self, table, queries, keys, bidirectional):
        rows = table[buckets(queries, keys, self.sizes, bidirectional)].permute(2, 0, 1)[None]
        if bidirectional:
            return rows
        return rows.masked_fill(torch.ones(queries, keys, dtype=torch.bool).triu(1), float("-inf"))

    def encode(self, ids, layers=None):
        """ids: [batch, tokens], 0 for padding. Gives the keys and values of the first decoder layers, and their
        mask."""
        mask = torch.zeros(ids.shape).masked_fill(ids == 0, float("-inf"))[:, None, None]
        if not (ids == 0).any():
            mask = None
        x = self.shared[ids]
        bias = self.bias(self.encoder_bias, ids.shape[1], ids.shape[1], True)
        if mask is not None:
            bias = bias + mask
        for layer in self.encoder:
            x = layer(x, bias)
        weights = torch.stack([layer.cross_kv for layer in self.decoder[:layers]])
        kv = F.linear(self.encoder_norm(x), weights.flatten(0, 2))
        kv = kv.unflatten(-1, (len(weights), 2, self.sizes.num_heads, self.sizes.d_kv))
        return kv.permute(2, 3, 0, 4, 1, 5), mask

    def decode(self, ids, kv, mask):
        """The states after each decoder layer that there are keys and values of, for all positions at once."""
        x = self.shared[ids]
        bias = self.bias(self.decoder_bias, ids.shape[1], ids.shape[1], False)
        states = []
        for layer, cross in zip(self.decoder, kv):
            x = layer(x, bias, cross.unbind(0), mask)
            states.append(x)
        return states

    def logits(self, states):
        return F.linear(self.decoder_norm(states), self.head)

    @torch.no_grad()
    def greedy(self, ids, maximum, layers=None):
        """Greedy outputs without their end, from the first `layers` decoder layers."""
        kv, mask = self.encode(ids, layers)
        pasts = [[] for _ in self.decoder]
        current = torch.zeros(len(ids), 1, dtype=torch.long)
        whole = self.bias(self.decoder_bias, maximum, maximum, False)
        done, output = torch.zeros(len(ids), dtype=torch.bool), []
        for step in range(maximum):
            x = self.shared[current]
            for layer, cross, past in zip(self.decoder[:layers], kv, pasts):
                x = layer(x, whole[:, :, step : step + 1, : step + 1], cross.unbind(0), mask, past)
            current = self.logits(x[:, -1]).argmax(-1, keepdim=True)
            done |= current[:, 0] == 1
            output.append(current.masked_fill(done[:, None], 0))
            if done.all():
                break
        return [[token for token in row if token] for row in torch.cat(output, 1).tolist()]

    def to_hugging_face(self):
        result = {
            "shared.weight": self.shared,
            "lm_head.weight": self.head,
            "encoder.final_layer_norm.weight": self.encoder_norm.weight,
            "decoder.final_layer_norm.weight": self.decoder_norm.weight,
        }
        for stack, layers, bias in (
            ("encoder", self.encoder, self.encoder_bias),
            ("decoder", self.decoder, self.decoder_bias),
        ):
            result[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = bias
            for index, layer in enumerate(layers):
                block = f"{stack}.block.{index}.layer."
                for name, part in zip("qkv", layer.qkv):
                    result[f"{block}0.SelfAttention.{name}.weight"] = part
                result[f"{block}0.SelfAttention.o.weight"] = layer.o
                result[f"{block}0.layer_norm.weight"] = layer.norm.weight
                last = 1
                if stack == "decoder":
                    last = 2
                    result[f"{block}1.EncDecAttention.q.weight"] = layer.cross_q
                    result[f"{block}1.EncDecAttention.k.weight"] = layer.cross_kv[0]
                    result[f"{block}1.EncDecAttention.v.weight"] = layer.cross_kv[1]
                    result[f"{block}1.EncDecAttention.o.weight"] = layer.cross_o
                    result[f"{block}1.layer_norm.weight"] = layer.cross_norm.weight
                result[f"{block}{last}.DenseReluDense.wi_0.weight"] = layer.wi[0]
                result[f"{block}{last}.DenseReluDense.wi_1.weight"] = layer.wi[1]
                result[f"{block}{last}.DenseReluDense.wo.weight"] = layer.wo
                result[f"{block}{last}.layer_norm.weight"] = layer.ff_norm.weight
        return {name: tensor.detach().clone().contiguous() for name, tensor in result.items()}
