"""Writes a trained small decoder as a model of its own, with the tokens of the model it drafts for.

python export_draft_decoder.py --model MODEL.gguf --run RUN --out DRAFT.gguf
"""

import argparse
from pathlib import Path

import torch
from checkpoint import Checkpoint
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter, quantize

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--run", required=True, type=Path)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

file = Checkpoint(arguments.model)
parameters = torch.load(arguments.run / "checkpoint.pt")["parameters"]
layers = 1 + max(int(name.split(".")[1]) for name in parameters if name.startswith("blk."))
writer = GGUFWriter(arguments.out, "llama")
for name, field in file.reader.fields.items():
    if name.startswith("GGUF.") or name == "general.architecture":
        continue
    kind = field.types[0]
    value = layers if name == "llama.block_count" else field.contents()
    writer.add_key_value(name, value, kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)


def add(name, values, format):
    writer.add_tensor(name, quantize(values.detach().numpy(), format), raw_dtype=format)


matrix, vector = GGMLQuantizationType.Q8_0, GGMLQuantizationType.F32
add("token_embd.weight", file.embedding, matrix)
# The map and the model's norm and unembedding in one matrix. What follows the norm of the mapped state is a scale of
# each row, which is lost: the order of tokens stays, their probabilities do not.
add("output.weight", file.unembedding * file.norm @ parameters["map"], matrix)
add("output_norm.weight", torch.ones(file.size), vector)
for name, values in parameters.items():
    if name != "map":
        add(name, values, vector if values.ndim == 1 else matrix)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
