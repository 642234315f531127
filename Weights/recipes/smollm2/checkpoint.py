"""What the recipes read of a GGUF file."""

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, dequantize

BLOCK = 32


def unit(x, epsilon=1e-12):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)


class Checkpoint:
    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        self.layers = self.fact("block_count")
        self.size = self.fact("embedding_length")
        self.width = self.fact("feed_forward_length")
        self.heads = self.fact("attention.head_count")
        self.key_heads = self.fact("attention.head_count_kv")
        self.head_size = self.size // self.heads
        self.epsilon = self.fact("attention.layer_norm_rms_epsilon")
        self.base = self.fact("rope.freq_base")
        self.norm = self.read("output_norm.weight")
        self.embedding = self.read("token_embd.weight")
        self.unembedding = self.read("output.weight") if "output.weight" in self.tensors else self.embedding

    def fact(self, name):
        return self.reader.fields["llama." + name].contents()

    def read(self, name):
        tensor = self.tensors[name]
        return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))

    def grid(self, name):
        """Of a matrix in Q4_1: codes, (rows, blocks, 32), scales and minima, (rows, blocks)."""
        tensor = self.tensors[name]
        assert tensor.tensor_type == GGMLQuantizationType.Q4_1, f"{name} is {tensor.tensor_type.name}, not Q4_1"
        data = np.array(tensor.data)
        blocks = data.reshape(data.shape[0], -1, 4 + BLOCK // 2)
        numbers = blocks[..., :4].copy().view(np.float16).astype(np.float32)
        packed = blocks[..., 4:]
        codes = np.concatenate([packed & 15, packed >> 4], -1)
        return torch.from_numpy(codes), torch.from_numpy(numbers[..., 0]), torch.from_numpy(numbers[..., 1])

    def logits(self, states, tokens):
        """Of tokens alone; states of any scale."""
        return unit(states, self.epsilon) * self.norm @ self.unembedding[tokens].T
