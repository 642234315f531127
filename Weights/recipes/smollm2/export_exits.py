"""Writes what training changed of a model as a delta, the whole model, and the maps of the exits, for `egress fit-exits
--maps`.

python export_exits.py --model MODEL.gguf --run RUN --delta Weights/models/NAME.delta --whole WHOLE.gguf --maps
MAPS.safetensors"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from checkpoint import BLOCK, Checkpoint
from export_reader import delta
from safetensors.torch import save_file


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--delta", required=True, type=Path)
    parser.add_argument("--whole", required=True, type=Path)
    parser.add_argument("--maps", required=True)
    arguments = parser.parse_args()
    file = Checkpoint(arguments.model)
    saved = torch.load(arguments.run / "checkpoint.pt")
    base = Path(arguments.model).read_bytes()
    whole = bytearray(base)
    changed = total = 0
    for name, latent in saved["latents"].items():
        before = file.grid(name)[0].numpy()
        codes = latent.float().round().clamp(0, 15).numpy().astype(np.uint8)
        changed += (codes != before).sum()
        total += codes.size
        raw = np.array(file.tensors[name].data)
        blocks = raw.reshape(raw.shape[0], -1, 4 + BLOCK // 2)
        blocks[..., 4:] = codes[..., : BLOCK // 2] | codes[..., BLOCK // 2 :] << 4
        tensor = file.tensors[name]
        whole[tensor.data_offset : tensor.data_offset + tensor.n_bytes] = blocks.tobytes()
    arguments.delta.write_bytes(delta(base, bytes(whole), [(0, len(base))])[0])
    arguments.whole.write_bytes(whole)
    # Rows are inputs there.
    save_file({f"map.{layer}": value.T.contiguous() for layer, value in saved["maps"].items()}, arguments.maps)
    print(f"{len(whole)} bytes, sha256 {hashlib.sha256(whole).hexdigest()}")
    print(f"{changed / total:.3f} of {total} codes changed")


if __name__ == "__main__":
    main()
