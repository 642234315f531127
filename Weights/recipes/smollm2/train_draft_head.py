"""Trains a draft head on states that `egress export-states` wrote.

    python train_draft_head.py --model MODEL.gguf --states STATES --out RUN --minutes 60

Goes on from RUN/checkpoint.pt where that is. Every eightieth text is held out, or those of --held-out are.
"""

import argparse
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from checkpoint import Checkpoint, unit
from draft_head import Head
from safetensors.torch import load_file
from texts import groups, make_log, read, shortlist, split


def final(target):
    return f"layer.{target.layers}"


def batch(texts, target, rows, layers, chooser=None, elsewhere=0.3):
    """States, those after the lower layers, embeddings and the window that is guessed: an output, or, with a chooser,
    elsewhere in some of the cases."""
    length = max(len(text.tokens) for text in texts)
    states = torch.zeros(len(texts), length, target.size)
    lower = torch.zeros(len(texts), length, target.size * len(layers))
    tokens = torch.zeros(len(texts), length, dtype=torch.long)
    first = []
    for i, (ids, output, values, _) in enumerate(texts):
        states[i, : len(ids)] = values[final(target)].float()
        if layers:
            lower[i, : len(ids)] = torch.cat([values[f"layer.{layer}"].float() for layer in layers], -1)
        tokens[i, : len(ids)] = ids
        # Row t guesses token t + 2, and the first token of an output is the model's own.
        lowest, highest = max(0, min(output - 1, len(ids) - 2 - rows)), max(0, len(ids) - 2 - rows)
        begin = min(output - 1, highest) if chooser is None else chooser.randint(lowest, highest)
        if chooser is not None and chooser.random() < elsewhere:
            begin = chooser.randint(0, highest)
        first.append(begin)
    window = torch.tensor(first)[:, None] + torch.arange(rows)
    lengths = torch.tensor([len(text.tokens) for text in texts])
    outputs = torch.tensor([text.output for text in texts])
    is_there = window < lengths[:, None] - 2
    window = window.clamp(max=length - 3)
    embeddings = target.embedding[F.pad(tokens[:, 1:], (0, 1))]
    is_output = is_there & (window + 2 > outputs[:, None])
    return tokens, states, lower, embeddings, window, is_there, is_output


def ridge(texts, target, head, limit=60_000):
    """The maps that guess the next state best by themselves."""
    size = target.size
    normal, right = torch.zeros(2 * size, 2 * size), torch.zeros(2 * size, size)
    count = 0
    for tokens, _, values, _ in texts:
        states = values[final(target)].float()
        x = torch.cat([unit(states[:-1]), unit(target.embedding[tokens[1:]])], -1)
        normal += x.T @ x
        right += x.T @ unit(states[1:])
        count += len(x)
        if count > limit:
            break
    normal += 1e-3 * count * torch.eye(2 * size)
    solution = torch.linalg.solve(normal, right).T
    with torch.no_grad():
        head.state_map.weight.copy_(solution[:, :size])
        head.token_map.weight.copy_(solution[:, size:])


def evaluate(head, target, texts, chosen, rows, steps):
    """How often the guess is the model's token, by step, and tokens accepted of a draft of `steps`; on outputs."""
    right = [0] * steps
    in_row = [0] * steps
    count = 0
    place = torch.full((len(target.unembedding),), -1)
    place[chosen] = torch.arange(len(chosen))
    head.eval()
    with torch.no_grad():
        for start in range(0, len(texts), 8):
            tokens, states, lower, embeddings, window, _, is_output = batch(
                texts[start : start + 8], target, rows, head.lower
            )
            wanted = place[tokens.gather(1, window + 2)]
            hits = [
                target.logits(x, chosen).argmax(-1) == wanted for x in head(states, lower, embeddings, window, steps)
            ]
            # A draft of `steps` from row t: step k guesses at row t + k.
            length = window.shape[1] - steps + 1
            valid = is_output[:, :length] & is_output[:, steps - 1 :]
            good = valid.clone()
            count += valid.sum().item()
            for k in range(steps):
                hit = hits[k][:, k : k + length]
                right[k] += (hit & valid).sum().item()
                good &= hit
                in_row[k] += good.sum().item()
    head.train()
    return {"tokens": count, "drafted": [round(r / count, 4) for r in right], "accepted": round(sum(in_row) / count, 4)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--states", required=True, nargs="+")
    parser.add_argument("--held-out", nargs="*", default=[], help="states of texts to measure on")
    parser.add_argument(
        "--lower", nargs="*", type=int, default=[], help="lower layers after which the head reads states"
    )
    parser.add_argument(
        "--begin", type=Path, help="a head of this model's to begin from, as export_draft_head.py wrote it"
    )
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--scale", type=float, default=0.003, help="of the last layer's outputs in the beginning")
    parser.add_argument("--regression", type=float, default=0.3, help="weight of the distance of states")
    parser.add_argument("--prompt", type=float, default=0.3, help="weight of a token of a prompt, an output's being 1")
    parser.add_argument("--elsewhere", type=float, default=0.3, help="share of the windows that lie anywhere in a text")
    parser.add_argument("--dropout", type=float, default=0.0, help="of what attention and feed-forward add")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation added to states of mean square 1")
    parser.add_argument("--single", type=float, default=0.6, help="share of the time with one row of drafting")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--shortlist", type=int, default=6144)
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16: faster where the processor can")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    chooser = random.Random(arguments.seed)
    target = Checkpoint(arguments.model)
    coarse = [f"layer.{layer}" for layer in arguments.lower]
    texts, held_out = split(read(arguments.states, [final(target)], coarse))
    if arguments.held_out:
        texts, held_out = texts + held_out, read(arguments.held_out, [final(target)], coarse)
    chosen = shortlist(texts, arguments.shortlist, len(target.embedding))
    written = torch.cat([text.tokens[text.output :] for text in held_out])
    note = make_log(arguments.out, texts)
    note(covered=torch.isin(written, chosen).float().mean().item())
    head = Head(target, arguments.lower, arguments.dropout)
    head.begin_from_last_layer(arguments.scale)
    ridge(texts, target, head)
    if arguments.begin:
        head.take(load_file(arguments.begin))
    optimizer = torch.optim.AdamW(head.parameters(), lr=arguments.rate, betas=(0.9, 0.95), weight_decay=0.01)
    path = arguments.out / "checkpoint.pt"
    done = 0.0
    step = 0
    if path.exists():
        saved = torch.load(path)
        head.load_state_dict(saved["head"])
        optimizer.load_state_dict(saved["optimizer"])
        done, step = saved["seconds"], saved["step"]
    else:
        note(step=0, **evaluate(head, target, held_out, chosen, arguments.rows, arguments.steps))
    budget = 60 * arguments.minutes
    last, spoken, summed, counted = time.time(), 0.0, 0.0, 0
    queue = groups(texts, arguments.batch, chooser)
    while done < budget:
        part = done / budget
        for group in optimizer.param_groups:
            group["lr"] = arguments.rate * min(1, (step + 1) / 100, 2 * (1 - part))
        # One row of drafting teaches most for its time; that guesses build on guesses is learned in the end.
        depth = arguments.steps if part > arguments.single else 1
        _tokens, states, lower, embeddings, window, is_there, is_output = batch(
            next(queue), target, arguments.rows, head.lower, chooser, arguments.elsewhere
        )
        at = window[..., None].expand(-1, -1, target.size) + 1
        wanted = states.gather(1, at)[is_there]
        if arguments.noise:
            states = states + arguments.noise * torch.randn_like(states)
            lower = lower + arguments.noise * torch.randn_like(lower)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.bfloat16):
            with torch.no_grad():
                truth = target.logits(wanted, chosen).float().softmax(-1)
            guesses = [x[is_there] for x in head(states, lower, embeddings, window, depth)]
            found = [target.logits(guess, chosen) for guess in guesses]
        loss = 0.0
        weight = torch.where(is_output, 1.0, arguments.prompt)[is_there]
        for k, (guess, logits) in enumerate(zip(guesses, found)):
            # The first rows of a window have no draft before them.
            usable = (torch.arange(arguments.rows) >= k).expand_as(is_there)[is_there] * weight
            cross = -(truth * F.log_softmax(logits.float(), -1)).sum(-1)
            apart = (unit(guess.float()) - unit(wanted)).square().mean(-1)
            loss = loss + 0.8**k * ((cross + arguments.regression * apart) * usable).sum() / usable.sum()
        optimizer.zero_grad()
        loss.backward()
        nn_norm = torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        step += 1
        summed += loss.item()
        counted += 1
        now = time.time()
        done += now - last
        last = now
        if done - spoken > 180 or done >= budget:
            spoken = done
            note(
                step=step,
                seconds=round(done),
                loss=round(summed / counted, 4),
                norm=round(nn_norm.item(), 2),
                **evaluate(head, target, held_out, chosen, arguments.rows, arguments.steps),
            )
            summed, counted = 0.0, 0
            torch.save(
                {
                    "head": head.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "seconds": done,
                    "step": step,
                    "ranked": chosen,
                    "lower": head.lower,
                },
                path,
            )
            last = time.time()


if __name__ == "__main__":
    main()
