"""Takes the layers of a run of train_exits.py a part of the way back to where they began; maps and draft head stay.

python interpolate.py --model MODEL.gguf --run RUN --share 0.8 --out OTHER
"""

import argparse
from pathlib import Path

import torch
from decoder import Decoder


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="what the run began from")
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--share", required=True, type=float, help="of the way from the beginning to the run's end")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--first", type=int, default=15)
    parser.add_argument("--trained", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the latents that the run began from")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    begin = Decoder(arguments.model, arguments.first, arguments.trained, arguments.seed).grids()
    saved = torch.load(arguments.run / "checkpoint.pt")
    for name, latent in saved["latents"].items():
        saved["latents"][name] = torch.lerp(begin[name].latent, latent.float(), arguments.share).half()
    # A run that goes on from here has its own time; its optimizer begins as the other left it.
    saved |= {"seconds": 0.0, "step": 0}
    torch.save(saved, arguments.out / "checkpoint.pt")


if __name__ == "__main__":
    main()
