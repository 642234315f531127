"""Writes a trained draft head as egress reads it: tensors in half precision, and a description beside them.

python export_draft_head.py --model MODEL.gguf --run RUN --name smollm2-135m-instruct --out FILE.safetensors
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from checkpoint import Checkpoint
from draft_head import Head
from safetensors.torch import save_file

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True, type=Path)
parser.add_argument("--run", required=True, type=Path)
parser.add_argument("--name", required=True, help="what the model is called")
parser.add_argument("--shortlist", type=int, help="the first so many of the tokens that the model writes most often")
parser.add_argument("--out", required=True, type=Path)
arguments = parser.parse_args()

saved = torch.load(arguments.run / "checkpoint.pt")
head = Head(Checkpoint(arguments.model), saved["lower"])
head.load_state_dict(saved["head"])
tensors = {name: tensor.detach().half().contiguous() for name, tensor in head.tensors().items()}
tokens = saved["ranked"]
tensors["shortlist"] = tokens[: arguments.shortlist or len(tokens)].sort().values.float()
save_file(tensors, arguments.out)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


log = [json.loads(line) for line in open(arguments.run / "log.jsonl")]
description = {
    "draft_head_version": 2,
    "model": arguments.name,
    "model_sha256": digest(arguments.model),
    "head_sha256": digest(arguments.out),
    "steps": saved["step"],
    "seconds": round(saved["seconds"]),
    "held_out": {"tokens": log[-1]["tokens"], "agreement": log[-1]["drafted"], "accepted": log[-1]["accepted"]},
}
arguments.out.with_suffix(".json").write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")
