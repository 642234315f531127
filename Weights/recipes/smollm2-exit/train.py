"""Trains layers to leave early on states that `egress export-states --layers FIRST,LAST` wrote.

    python train.py --model MODEL.gguf --states STATES --out RUN --minutes 60

Goes on from RUN/checkpoint.pt where that is. Every eightieth text is held out.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from decoder import Decoder, unit


def read(folders, first, last):
    """(tokens, states after layer `first`, states after the last layer, row of the output) of every text."""
    texts = []
    for folder in folders:
        for path in sorted(Path(folder).glob("states-*.safetensors")):
            file = load_file(path)
            tokens = file["tokens"].long()
            ends = file["starts"].long().tolist()[1:] + [len(tokens)]
            for start, output, end in zip(file["starts"].long().tolist(), file["outputs"].long().tolist(), ends):
                if end - output >= 4:
                    scale = file[f"scale.{first}"][start:end]
                    texts.append((
                        tokens[start:end], (file[f"layer.{first}"][start:end], scale), file[f"layer.{last}"][start:end],
                        output - start))
    return texts


def shortlist(texts, count, vocabulary):
    """The tokens that the model wrote most often; of equal ones those read most often, then the lowest."""
    written, seen = torch.zeros(vocabulary), torch.zeros(vocabulary)
    for tokens, _, _, output in texts:
        seen += torch.bincount(tokens, minlength=vocabulary)
        written += torch.bincount(tokens[output:], minlength=vocabulary)
    order = sorted(range(vocabulary), key=lambda t: (-written[t].item(), -seen[t].item(), t))
    return torch.tensor(order[:count])


def batch(texts, rows, chooser=None, elsewhere=0.0):
    """Windows of `rows` rows, on outputs or, with a chooser and for a share of the texts, on any part of a text.

    Row t of a text guesses its token t + 1. Returns what comes before each window, the windows, where they begin, the
    last layer's states there, and which of their rows there are, and which of these guess an output.
    """
    begins, counts = [], []
    for tokens, _, _, output in texts:
        begin = output - 1
        last = max(begin, len(tokens) - 1 - rows)
        if chooser is not None:
            begin = chooser.randint(begin, last) if chooser.random() >= elsewhere else chooser.randint(0, last)
        begins.append(begin)
        counts.append(min(rows, len(tokens) - 1 - begin))
    size = texts[0][2].shape[1]
    before = torch.zeros(len(texts), max(begins), size)
    window = torch.zeros(len(texts), max(counts), size)
    final = torch.zeros(len(texts), max(counts), size)
    tokens = torch.zeros(len(texts), max(counts), dtype=torch.long)
    is_there = torch.zeros(len(texts), max(counts), dtype=torch.bool)
    is_output = torch.zeros(len(texts), max(counts), dtype=torch.bool)
    for i, (ids, (states, scale), last, output) in enumerate(texts):
        begin, count = begins[i], counts[i]
        states = states[: begin + count].float() * scale[: begin + count, None]
        before[i, :begin] = states[:begin]
        window[i, :count] = states[begin:]
        final[i, :count] = last[begin:begin + count].float()
        tokens[i, :count] = ids[begin + 1:begin + 1 + count]
        is_there[i, :count] = True
        is_output[i, max(0, output - 1 - begin):count] = True
    return before, window, torch.tensor(begins), final, tokens, is_there, is_output


def ridge(texts, decoder, exits, limit=30_000):
    """The maps from the states after the exits to the last layer's that are best by themselves."""
    size = decoder.file.size
    normal = {layer: torch.zeros(size, size) for layer in exits}
    right = {layer: torch.zeros(size, size) for layer in exits}
    count = 0
    for start in range(0, len(texts), 8):
        before, window, begins, final, _, is_there, _ = batch(texts[start:start + 8], 1024)
        with torch.no_grad():
            for layer, x in decoder.states(window, before, begins, set(exits)):
                x = unit(x[is_there])
                normal[layer] += x.T @ x
                right[layer] += x.T @ unit(final[is_there])
        count += is_there.sum().item()
        if count > limit:
            break
    return {
        layer: torch.linalg.solve(normal[layer] + 1e-3 * count * torch.eye(size), right[layer]).T.contiguous()
        for layer in exits}


def evaluate(decoder, maps, texts, chosen, layers):
    """How often each exit, choosing from the shortlist, and the whole model give the token that the model wrote."""
    right = dict.fromkeys(layers, 0)
    count = 0
    place = torch.full((len(decoder.file.unembedding),), -1)
    place[chosen] = torch.arange(len(chosen))
    with torch.no_grad():
        for start in range(0, len(texts), 8):
            before, window, begins, _, tokens, _, is_output = batch(texts[start:start + 8], 96)
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
    parser.add_argument("--elsewhere", type=float, default=0.2, help="share of windows on any part of a text")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shortlist", type=int, default=6144)
    parser.add_argument("--others", type=int, default=2048, help="tokens beyond the shortlist that the end is also held to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=0, help="use so many texts alone")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    chooser = random.Random(arguments.seed)
    exits = arguments.exits
    decoder = Decoder(arguments.model, arguments.first, max(exits), arguments.seed)
    last = decoder.file.layers
    vocabulary = len(decoder.file.unembedding)
    texts = read(arguments.states, arguments.first, last)
    if arguments.limit:
        texts = texts[:: max(1, len(texts) // arguments.limit)]
    held_out = texts[7::80]
    texts = [text for index, text in enumerate(texts) if index % 80 != 7]
    chosen = shortlist(texts, arguments.shortlist, vocabulary)
    is_chosen = torch.zeros(vocabulary, dtype=torch.bool)
    is_chosen[chosen] = True
    rest = (~is_chosen).nonzero().flatten()
    log = open(arguments.out / "log.jsonl", "a")

    def note(**facts):
        print(json.dumps(facts), flush=True)
        print(json.dumps(facts), file=log, flush=True)

    note(texts=len(texts), tokens=sum(len(t[0]) for t in texts), outputs=sum(len(t[0]) - t[3] for t in texts),
         arguments={key: str(value) for key, value in vars(arguments).items()})
    grids = decoder.grids()
    path = arguments.out / "checkpoint.pt"
    saved = torch.load(path) if path.exists() else None
    if saved is None:
        maps = ridge(texts[::7], decoder, exits)
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
        note(step=0, **evaluate(decoder, maps, held_out, chosen, [*exits, last]))
    else:
        done, step = saved["seconds"], saved["step"]
        optimizer.load_state_dict(saved["optimizer"])
    del saved
    budget = 60 * arguments.minutes
    now = time.time()
    spoken, sums, queue = done, {}, []
    while done < budget:
        if not queue:
            # Texts of about one length go together.
            order = sorted(texts, key=lambda text: len(text[0]) + chooser.random() * 60)
            queue = [order[i:i + arguments.batch] for i in range(0, len(order), arguments.batch)]
            chooser.shuffle(queue)
        part = done / budget
        for group in optimizer.param_groups:
            group["lr"] = group["top"] * min(1, (step + 1) / 50, 1.5 * (1 - part) + 0.01)
        depth = chooser.choices([*exits, last], arguments.depths)[0]
        before, window, begins, final, _, is_there, is_output = batch(queue.pop(), arguments.rows, chooser, arguments.elsewhere)
        others = rest[torch.randint(len(rest), (arguments.others,))]
        weight = torch.where(is_output, 1.0, 0.3)[is_there]
        total = 0.0
        for layer, x in decoder.states(window, before, begins, {d for d in [*exits, last] if d <= depth}):
            x = x[is_there]
            tokens = chosen
            if layer == last:
                tokens = torch.cat([chosen, others])
            else:
                x = F.linear(unit(x), maps[layer])
            with torch.no_grad():
                truth = decoder.file.logits(final[is_there], tokens).log_softmax(-1)
            guess = decoder.file.logits(x, tokens).log_softmax(-1)
            apart = ((truth.exp() * (truth - guess)).sum(-1) * weight).sum() / weight.sum()
            total = total + apart
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
                 **evaluate(decoder, maps, held_out, chosen, [*exits, last]))
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
