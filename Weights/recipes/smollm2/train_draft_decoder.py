"""Trains a small decoder that drafts for a model: the model's own first layers, its embeddings, and a map to its last
states.

    python train_draft_decoder.py --model MODEL.gguf --states STATES --out RUN --minutes 25

Goes on from RUN/checkpoint.pt where that is. Every eightieth text is held out.
"""

import argparse
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from checkpoint import unit
from decoder import Decoder
from texts import groups, make_log, read, shortlist, split
from torch import nn
from windows import batch, ridge


def evaluate(decoder, map, texts, inputs, last, chosen, depth, steps):
    """How often the guess is the token that the model wrote, and tokens accepted of a draft of 1 to `steps`.

    A draft goes on from the model's own text as long as it is right, so that what is accepted of it are the right
    guesses that follow one another."""
    right = [0] * (steps + 1)
    count = 0
    with torch.no_grad():
        for start in range(0, len(texts), 8):
            part = batch(texts[start : start + 8], inputs, last, 96)
            [(_, x, _)] = decoder.states(part.window, part.before, part.begins, {depth})
            guess = chosen[decoder.file.logits(F.linear(unit(x), map), chosen).argmax(-1)]
            hit = (guess == part.guessed()) & part.is_output
            whole = F.pad(part.is_output, (0, steps))
            in_row = torch.ones_like(hit)
            # Only places where the longest draft ends within the output, so that all lengths have the same places.
            places = torch.stack([whole[:, k : k + hit.shape[1]] for k in range(steps)]).all(0)
            count += places.sum().item()
            padded = F.pad(hit, (0, steps))
            for k in range(steps):
                in_row = in_row & padded[:, k : k + hit.shape[1]]
                right[k + 1] += (in_row & places).sum().item()
    shares = [n / count for n in right[1:]]
    return {
        "tokens": count,
        "agreement": round(shares[0], 4),
        "accepted": [round(sum(shares[: k + 1]), 3) for k in range(steps)],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--states", required=True, nargs="+")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--elsewhere", type=float, default=0.2, help="share of windows on any part of a text")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shortlist", type=int, default=6144)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    chooser = random.Random(arguments.seed)
    depth = arguments.layers
    decoder = Decoder(arguments.model, 0, 0, arguments.seed, depth)
    file = decoder.file
    last = f"layer.{file.layers}"
    texts, held_out = split(read(arguments.states, [last]))
    chosen = shortlist(texts, arguments.shortlist, len(file.unembedding))

    def inputs(text, count):
        return file.embedding[text.tokens[:count]]

    note = make_log(arguments.out, texts)
    map = nn.Parameter(ridge(texts[::7], inputs, last, decoder, [depth])[depth])
    parameters = {"map": map}
    for index, layer in enumerate(decoder.layers):
        for values in [layer.weights, layer.norms]:
            for name in values:
                values[name] = parameters[f"blk.{index}.{name}.weight"] = nn.Parameter(values[name])
    note(parameters=sum(p.numel() for p in parameters.values()))
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=arguments.rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    path = arguments.out / "checkpoint.pt"
    done, step = 0.0, 0
    if path.exists():
        saved = torch.load(path)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved["parameters"][name])
        optimizer.load_state_dict(saved["optimizer"])
        done, step = saved["seconds"], saved["step"]
    else:
        note(step=0, **evaluate(decoder, map, held_out, inputs, last, chosen, depth, 7))
    budget = 60 * arguments.minutes
    now, spoken, summed, counted = time.time(), done, 0.0, 0
    queue = groups(texts, arguments.batch, chooser)
    while done < budget:
        for group in optimizer.param_groups:
            group["lr"] = arguments.rate * min(1, (step + 1) / 100, 2 * (1 - done / budget) + 0.01)
        part = batch(next(queue), inputs, last, arguments.rows, chooser, arguments.elsewhere)
        weight = torch.where(part.is_output, 1.0, 0.3)[part.is_there]
        [(_, x, _)] = decoder.states(part.window, part.before, part.begins, {depth})
        with torch.no_grad():
            truth = file.logits(part.final[part.is_there], chosen).softmax(-1)
        guess = file.logits(F.linear(unit(x[part.is_there]), map), chosen).log_softmax(-1)
        loss = (-(truth * guess).sum(-1) * weight).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        step += 1
        summed, counted = summed + loss.item(), counted + 1
        done += time.time() - now
        now = time.time()
        if done - spoken > 180 or done >= budget:
            spoken = done
            note(
                step=step,
                seconds=round(done),
                loss=round(summed / counted, 4),
                **evaluate(decoder, map, held_out, inputs, last, chosen, depth, 7),
            )
            summed, counted = 0.0, 0
            torch.save(
                {
                    "parameters": {name: p.detach() for name, p in parameters.items()},
                    "optimizer": optimizer.state_dict(),
                    "seconds": done,
                    "step": step,
                    "ranked": chosen,
                },
                path,
            )
            now = time.time()


if __name__ == "__main__":
    main()
