"""Trains layers to leave early, and with a draft head to be foreseen, on states that `egress export-states --layers
FIRST,LAST` wrote.

    python train_exits.py --model MODEL.gguf --states STATES --out RUN --minutes 60

Goes on from RUN/checkpoint.pt where that is. Every eightieth text is held out, or those of --held-out are.
"""

import argparse
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from checkpoint import unit
from decoder import Decoder
from draft_head import Head
from safetensors.torch import load_file
from texts import groups, make_log, read, shortlist, split
from torch import nn
from windows import batch, ridge

# Rows of drafting that are trained and measured.
STEPS = 3


class Draft:
    """A draft head that learns along with the layers whose states it reads."""

    def __init__(self, decoder, tensors, dropout, noise):
        self.lower = sorted(int(name.rsplit(".", 1)[1]) for name in tensors if name.startswith("map.state."))
        self.head = Head(decoder.file, self.lower, dropout)
        self.head.take(tensors)
        self.noise = noise
        self.decoder = decoder

    def guesses(self, part, states, steps):
        """Of a batch and {layer: (states of its windows, states before them)}: (batch, n - 1, size) after 1 to `steps`
        rows of drafting.

        Row j guesses the state of the window's row j + 1, which it has not seen.
        """
        rows = part.window.shape[1]
        places = part.begins[:, None] + torch.arange(rows)

        def whole(x, before):
            x = unit(x)
            before = F.pad(unit(before), (0, 0, 0, rows))
            x = before.scatter(1, places[..., None].expand_as(x), x)
            return x + self.noise * torch.randn_like(x) if self.head.training else x

        # Rows to the right of a window are nobody's past.
        last = whole(*states[self.decoder.file.layers])
        lower = torch.cat([whole(*states[layer]) for layer in self.lower], -1) if self.lower else None
        embeddings = self.decoder.file.embedding[part.tokens[:, 1:]]
        return self.head(last, lower, embeddings, places[:, :-1], steps)


def evaluate(decoder, maps, draft, texts, inputs, last, chosen, layers, bfloat16):
    """How often each exit, choosing from the shortlist, and the whole model give the token that was written;
    and how often a draft is what the whole model, as it is now, chooses."""
    right = dict.fromkeys(layers, 0)
    own = dict.fromkeys(layers, 0)
    count = 0
    hits, in_row, drafts = [0] * STEPS, [0] * STEPS, 0
    end = decoder.file.layers
    asked = {*layers, *(draft.lower if draft else [])} - {decoder.first}
    if draft:
        draft.head.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        for start in range(0, len(texts), 8):
            part = batch(texts[start : start + 8], inputs, last, 96)
            states = {
                layer: (x, before) for layer, x, before in decoder.states(part.window, part.before, part.begins, asked)
            }
            states[decoder.first] = (part.window, part.before)
            count += part.is_output.sum().item()
            written = part.guessed()[part.is_output]
            chosen_by = decoder.file.logits(states[end][0], torch.arange(len(decoder.file.unembedding))).argmax(-1)
            for layer in layers:
                x = states[layer][0]
                if layer in maps:
                    guess = chosen[decoder.file.logits(F.linear(unit(x), maps[layer]), chosen).argmax(-1)]
                else:
                    guess = chosen_by
                right[layer] += (guess[part.is_output] == written).sum().item()
                own[layer] += (guess == chosen_by)[part.is_output].sum().item()
            if not draft:
                continue
            length = part.window.shape[1] - STEPS
            usable = part.is_output[:, 1 : 1 + length] & part.is_output[:, STEPS:]
            good = usable.clone()
            drafts += usable.sum().item()
            for k, x in enumerate(draft.guesses(part, states, STEPS)):
                guess = chosen[decoder.file.logits(x, chosen).argmax(-1)]
                hit = (guess == chosen_by[:, 1:])[:, k : k + length]
                hits[k] += (hit & usable).sum().item()
                good &= hit
                in_row[k] += good.sum().item()
    facts = {
        "tokens": count,
        "agreement": {layer: round(n / count, 4) for layer, n in right.items()},
        "own": {layer: round(n / count, 4) for layer, n in own.items()},
    }
    if draft:
        draft.head.train()
        facts |= {"drafted": [round(n / drafts, 4) for n in hits], "accepted": round(sum(in_row) / drafts, 4)}
    return facts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--states", required=True, nargs="+")
    parser.add_argument(
        "--firm", nargs="*", default=[], help="more states, of texts on which the end does not give way to the draft"
    )
    parser.add_argument("--held-out", nargs="*", default=[], help="states of texts to measure on")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--first", type=int, default=15, help="states are given after this layer")
    parser.add_argument("--exits", type=int, nargs="+", default=[20, 24])
    parser.add_argument("--trained", type=int, help="the last layer that is trained, the last exit unless given")
    parser.add_argument("--maps", help="maps of exits to begin from, as export_exits.py wrote them")
    parser.add_argument("--draft", help="a draft head to train along, as export_draft_head.py wrote it")
    parser.add_argument("--draft-weight", type=float, default=0.2)
    parser.add_argument(
        "--agree", type=float, default=0.3, help="share of the draft in what the end is held to where it writes"
    )
    parser.add_argument(
        "--layer-dropout",
        type=float,
        default=0,
        help="chance of the last layer, lower ones' falling by LayerSkip's law",
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=1e-4, help="of weights, in themselves")
    parser.add_argument("--map-rate", type=float, default=5e-4)
    parser.add_argument(
        "--depths", type=float, nargs="+", default=[0.35, 0.25, 0.4], help="shares of the exits and the end"
    )
    parser.add_argument("--end-weight", type=float, default=1, help="of the end's loss, an exit's being 1")
    parser.add_argument("--elsewhere", type=float, default=0.2, help="share of windows on any part of a text")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shortlist", type=int, default=4096)
    parser.add_argument(
        "--others", type=int, default=2048, help="tokens beyond the shortlist that the end is also held to"
    )
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16: faster where the processor can")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    chooser = random.Random(arguments.seed)
    exits = arguments.exits
    first = arguments.first
    trained = arguments.trained or max(exits)
    decoder = Decoder(arguments.model, first, trained, arguments.seed)
    end = decoder.file.layers
    last, lowest, scale = f"layer.{end}", f"layer.{first}", f"scale.{first}"
    vocabulary = len(decoder.file.unembedding)
    names = [last, lowest, scale]
    texts, held_out = split(read(arguments.states, names) + read(arguments.firm, names, is_firm=True))
    if arguments.held_out:
        texts, held_out = texts + held_out, read(arguments.held_out, names)

    def inputs(text, count):
        return text.values[lowest][:count].float() * text.values[scale][:count, None]

    chosen = shortlist(texts, arguments.shortlist, vocabulary)
    is_chosen = torch.zeros(vocabulary, dtype=torch.bool)
    is_chosen[chosen] = True
    rest = (~is_chosen).nonzero().flatten()
    note = make_log(arguments.out, texts)
    note(arguments={key: str(value) for key, value in vars(arguments).items()})
    draft = Draft(decoder, load_file(arguments.draft), 0.1, 0.1) if arguments.draft else None
    grids = decoder.grids()
    path = arguments.out / "checkpoint.pt"
    saved = torch.load(path) if path.exists() else None
    if saved is not None:
        maps = saved["maps"]
        for name, grid in grids.items():
            grid.latent = saved["latents"][name].float()
            grid.round()
        if draft:
            draft.head.load_state_dict(saved["head"])
    elif arguments.maps:
        maps = {layer: load_file(arguments.maps)[f"map.{layer}"].float().T.contiguous() for layer in exits}
    else:
        maps = ridge(texts[::7], inputs, last, decoder, exits)
    maps = {layer: nn.Parameter(value) for layer, value in maps.items()}
    heads = [*maps.values(), *(draft.head.parameters() if draft else [])]
    # The optimizer moves latents in units of weights, so that the rate means the same for every scale.
    movers = {name: nn.Parameter((grid.latent * grid.scale[..., None]).flatten(1)) for name, grid in grids.items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": list(movers.values()), "lr": arguments.rate, "top": arguments.rate},
            {"params": heads, "lr": arguments.map_rate, "top": arguments.map_rate},
        ],
        betas=(0.9, 0.95),
        weight_decay=0.0,
        fused=True,
    )
    done, step = 0.0, 0
    if saved is not None:
        done, step = saved["seconds"], saved["step"]
        optimizer.load_state_dict(saved["optimizer"])
        # The rates of this run, not those of the run before.
        for group, rate in zip(optimizer.param_groups, [arguments.rate, arguments.map_rate]):
            group["top"] = rate
    note(step=step, **evaluate(decoder, maps, draft, held_out, inputs, last, chosen, [*exits, end], arguments.bfloat16))
    del saved
    budget = 60 * arguments.minutes
    now = time.time()
    spoken, sums, queue = done, {}, groups(texts, arguments.batch, chooser)
    asked = {*exits, end, *(draft.lower if draft else [])} - {first}
    while done < budget:
        part_done = done / budget
        for group in optimizer.param_groups:
            group["lr"] = group["top"] * min(1, (step + 1) / 50, 1.5 * (1 - part_done) + 0.01)

        def dropped(layer):
            # LayerSkip: the chance grows with depth, and over the time.
            law = math.expm1(math.log(2) * (layer - 1) / (end - 1))
            return arguments.layer_dropout * law * min(1, 2 * part_done)

        depth = chooser.choices([*exits, end], arguments.depths)[0]
        group = next(queue)
        part = batch(group, inputs, last, arguments.rows, chooser, arguments.elsewhere)
        others = rest[torch.randint(len(rest), (arguments.others,))]
        losses = {}

        def record(name, loss, factor):
            losses[name] = factor * loss
            spent, count = sums.get(name, (0.0, 0))
            sums[name] = (spent + loss.item(), count + 1)

        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.bfloat16):
            states = {
                layer: (x, before)
                for layer, x, before in decoder.states(
                    part.window,
                    part.before,
                    part.begins,
                    {d for d in asked if d <= depth},
                    dropped if arguments.layer_dropout else None,
                )
            }
            states[first] = (part.window, part.before)
            there = part.is_there
            weight = torch.where(part.is_output, 1.0, 0.3)[there]
            with torch.no_grad():
                tokens = torch.cat([chosen, others])
                wished = truth = decoder.file.logits(part.final[there], tokens).float().log_softmax(-1)
            if draft and depth == end:
                # Rows of a window but its first, which nothing guesses.
                guessed = there[:, 1:]
                count = arguments.shortlist
                later = (torch.arange(there.shape[1]) > 0).expand_as(there)[there]
                with torch.no_grad():
                    own = decoder.file.logits(states[end][0][:, 1:][guessed], chosen).float().softmax(-1)
                cross = 0.0
                for k, x in enumerate(draft.guesses(part, states, STEPS)):
                    guess = decoder.file.logits(x[guessed], chosen).float().log_softmax(-1)
                    # The first rows of a window have no draft before them.
                    usable = (torch.arange(x.shape[1]) >= k).expand_as(guessed)[guessed] * weight[later]
                    cross = cross - 0.8**k * ((own * guess).sum(-1) * usable).sum() / usable.sum()
                    if k == 0 and arguments.agree:
                        # Held to truth^(1 - a) draft^a where the draft chooses from, whose share of the whole stays.
                        gives_way = part.is_output & ~torch.tensor([text.is_firm for text in group])[:, None]
                        share = arguments.agree * gives_way[:, 1:][guessed][:, None]
                        old = truth[later, :count]
                        new = (1 - share) * old + share * guess.detach()
                        new += old.logsumexp(-1, keepdim=True) - new.logsumexp(-1, keepdim=True)
                        wished = truth.clone()
                        wished[later, :count] = new
                record("draft", cross, arguments.draft_weight)
            for layer in [*exits, end]:
                if layer > depth:
                    break
                x = states[layer][0][there]
                if layer == end:
                    to, guess = wished, decoder.file.logits(x, tokens)
                else:
                    to = truth[:, : arguments.shortlist].log_softmax(-1)
                    guess = decoder.file.logits(F.linear(unit(x), maps[layer]), chosen)
                apart = (
                    F.kl_div(guess.float().log_softmax(-1), to, reduction="none", log_target=True).sum(-1) * weight
                ).sum()
                record(layer, apart / weight.sum(), arguments.end_weight if layer == end else 1)
        for parameter in heads:
            parameter.grad = None
        for grid in grids.values():
            grid.weight.grad = None
        sum(losses.values()).backward()
        for name, grid in grids.items():
            movers[name].grad = grid.weight.grad
        norm = nn.utils.clip_grad_norm_([p for p in [*movers.values(), *heads] if p.grad is not None], 1.0)
        optimizer.step()
        with torch.no_grad():
            for name, grid in grids.items():
                grid.latent = (movers[name].unflatten(1, (-1, 32)) / grid.scale[..., None].clamp(min=1e-8)).clamp_(
                    -0.6, 15.6
                )
                grid.round()
        step += 1
        # Not the time for which the process was stopped.
        done += min(time.time() - now, 20)
        now = time.time()
        if done - spoken > 240 or done >= budget:
            spoken = done
            note(
                step=step,
                seconds=round(done),
                norm=round(norm.item(), 2),
                loss={layer: round(a / b, 4) for layer, (a, b) in sums.items()},
                **evaluate(decoder, maps, draft, held_out, inputs, last, chosen, [*exits, end], arguments.bfloat16),
            )
            sums = {}
            torch.save(
                {
                    "latents": {name: grid.latent.half() for name, grid in grids.items()},
                    "maps": {layer: value.detach() for layer, value in maps.items()},
                    "optimizer": optimizer.state_dict(),
                    "seconds": done,
                    "step": step,
                    "ranked": chosen,
                }
                | ({"head": draft.head.state_dict(), "lower": draft.lower} if draft else {}),
                path.with_suffix(".new"),
            )
            path.with_suffix(".new").rename(path)
            now = time.time()


if __name__ == "__main__":
    main()
