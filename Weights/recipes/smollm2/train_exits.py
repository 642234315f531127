"""Trains layers to leave early on states that `egress export-states --layers FIRST,LAST` wrote.

    python train_exits.py --model MODEL.gguf --states STATES --out RUN --minutes 60

Goes on from RUN/checkpoint.pt where that is. Every eightieth text is held out.
"""

import argparse
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from checkpoint import unit
from decoder import Decoder
from texts import groups, make_log, read, shortlist, split
from windows import batch, ridge


def evaluate(decoder, maps, texts, inputs, last, chosen, layers):
    """How often each exit, choosing from the shortlist, and the whole model give the token that the model wrote."""
    right = dict.fromkeys(layers, 0)
    count = 0
    place = torch.full((len(decoder.file.unembedding),), -1)
    place[chosen] = torch.arange(len(chosen))
    with torch.no_grad():
        for start in range(0, len(texts), 8):
            before, window, begins, _, tokens, _, is_output = batch(texts[start:start + 8], inputs, last, 96)
            count += is_output.sum().item()
            for layer, x in decoder.states(window, before, begins, set(layers)):
                x = x[is_output]
                if layer in maps:
                    guess = chosen[decoder.file.logits(F.linear(unit(x), maps[layer]), chosen).argmax(-1)]
                else:
                    guess = decoder.file.logits(x, torch.arange(len(place))).argmax(-1)
                right[layer] += (guess == tokens[is_output]).sum().item()
    return {"tokens": count, "agreement": {layer: round(n / count, 4) for layer, n in right.items()}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--states", required=True, nargs="+")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--first", type=int, default=15, help="states are given after this layer")
    parser.add_argument("--exits", type=int, nargs="+", default=[20, 24], help="layers are trained up to the last")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=1e-4, help="of weights, in themselves")
    parser.add_argument("--map-rate", type=float, default=5e-4)
    parser.add_argument("--depths", type=float, nargs="+", default=[0.35, 0.25, 0.4], help="shares of the exits and the end")
    parser.add_argument("--end-weight", type=float, default=1, help="of the end's loss, an exit's being 1")
    parser.add_argument("--elsewhere", type=float, default=0.2, help="share of windows on any part of a text")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shortlist", type=int, default=6144)
    parser.add_argument("--others", type=int, default=2048, help="tokens beyond the shortlist that the end is also held to")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    chooser = random.Random(arguments.seed)
    exits = arguments.exits
    decoder = Decoder(arguments.model, arguments.first, max(exits), arguments.seed)
    end = decoder.file.layers
    last, lowest, scale = f"layer.{end}", f"layer.{arguments.first}", f"scale.{arguments.first}"
    vocabulary = len(decoder.file.unembedding)
    texts, held_out = split(read(arguments.states, [last, lowest, scale]))

    def inputs(text, count):
        return text.values[lowest][:count].float() * text.values[scale][:count, None]

    chosen = shortlist(texts, arguments.shortlist, vocabulary)
    is_chosen = torch.zeros(vocabulary, dtype=torch.bool)
    is_chosen[chosen] = True
    rest = (~is_chosen).nonzero().flatten()
    note = make_log(arguments.out, texts)
    note(arguments={key: str(value) for key, value in vars(arguments).items()})
    grids = decoder.grids()
    path = arguments.out / "checkpoint.pt"
    saved = torch.load(path) if path.exists() else None
    if saved is None:
        maps = ridge(texts[::7], inputs, last, decoder, exits)
    else:
        maps = saved["maps"]
        for name, grid in grids.items():
            grid.latent = saved["latents"][name].float()
            grid.round()
    maps = {layer: nn.Parameter(value) for layer, value in maps.items()}
    # The optimizer moves latents in units of weights, so that the rate means the same for every scale.
    movers = {name: nn.Parameter((grid.latent * grid.scale[..., None]).flatten(1)) for name, grid in grids.items()}
    optimizer = torch.optim.AdamW(
        [{"params": list(movers.values()), "lr": arguments.rate, "top": arguments.rate},
         {"params": list(maps.values()), "lr": arguments.map_rate, "top": arguments.map_rate}],
        betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    done, step = 0.0, 0
    if saved is None:
        note(step=0, **evaluate(decoder, maps, held_out, inputs, last, chosen, [*exits, end]))
    else:
        done, step = saved["seconds"], saved["step"]
        optimizer.load_state_dict(saved["optimizer"])
    del saved
    budget = 60 * arguments.minutes
    now = time.time()
    spoken, sums, queue = done, {}, groups(texts, arguments.batch, chooser)
    while done < budget:
        part = done / budget
        for group in optimizer.param_groups:
            group["lr"] = group["top"] * min(1, (step + 1) / 50, 1.5 * (1 - part) + 0.01)
        depth = chooser.choices([*exits, end], arguments.depths)[0]
        before, window, begins, final, _, is_there, is_output = batch(
            next(queue), inputs, last, arguments.rows, chooser, arguments.elsewhere)
        others = rest[torch.randint(len(rest), (arguments.others,))]
        weight = torch.where(is_output, 1.0, 0.3)[is_there]
        total = 0.0
        for layer, x in decoder.states(window, before, begins, {d for d in [*exits, end] if d <= depth}):
            x = x[is_there]
            tokens = chosen
            if layer == end:
                tokens = torch.cat([chosen, others])
            else:
                x = F.linear(unit(x), maps[layer])
            with torch.no_grad():
                truth = decoder.file.logits(final[is_there], tokens).log_softmax(-1)
            guess = decoder.file.logits(x, tokens).log_softmax(-1)
            apart = ((truth.exp() * (truth - guess)).sum(-1) * weight).sum() / weight.sum()
            total = total + (arguments.end_weight if layer == end else 1) * apart
            spent, count = sums.get(layer, (0.0, 0))
            sums[layer] = (spent + apart.item(), count + 1)
        for parameter in maps.values():
            parameter.grad = None
        for grid in grids.values():
            grid.weight.grad = None
        total.backward()
        for name, grid in grids.items():
            movers[name].grad = grid.weight.grad
        norm = nn.utils.clip_grad_norm_(
            [p for p in [*movers.values(), *maps.values()] if p.grad is not None], 1.0)
        optimizer.step()
        with torch.no_grad():
            for name, grid in grids.items():
                grid.latent = (movers[name].unflatten(1, (-1, 32)) / grid.scale[..., None].clamp(min=1e-8)).clamp_(-0.6, 15.6)
                grid.round()
        step += 1
        done += time.time() - now
        now = time.time()
        if done - spoken > 300 or done >= budget:
            spoken = done
            note(step=step, seconds=round(done), norm=round(norm.item(), 2),
                 loss={layer: round(a / b, 4) for layer, (a, b) in sums.items()},
                 **evaluate(decoder, maps, held_out, inputs, last, chosen, [*exits, end]))
            sums = {}
            torch.save({
                "latents": {name: grid.latent.half() for name, grid in grids.items()},
                "maps": {layer: value.detach() for layer, value in maps.items()},
                "optimizer": optimizer.state_dict(), "seconds": done, "step": step, "ranked": chosen,
            }, path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)
            now = time.time()


if __name__ == "__main__":
    main()
