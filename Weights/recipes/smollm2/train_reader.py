"""Trains SmolLM2-135M to answer and summarise from the text, in its own 4-bit codes, with exits and prompt depths.

    python train_reader.py --model MODEL.gguf --maps EXITS.safetensors --data DATA --out RUN --minutes 60

Goes on from RUN/checkpoint.pt where that is; `--steps 3` is a dry run. DATA holds train/*.jsonl and
scitldr-train.jsonl; --held-out names files to measure on, of which the part for choosing is used (see `tuning`)."""

import argparse
import hashlib
import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import torch
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F
from checkpoint import unit
from reader_data import Data
from reader_model import Reader, collate
from safetensors.torch import load_file
from torch import nn

EXITS = [20, 24]


def tuning(row):
    """Whether a row of a held-out file may be looked at while training: a fifth, by group or else by document."""
    key = row.get("group") or row["document"]
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 5 == 0


def losses(reader, maps, batch, chosen, prompt_depth):
    """Cross-entropy of the end, divergences of the exits from it, and which tokens the end gets right."""
    end = reader.file.layers
    states = reader.states(batch, {*EXITS, end}, prompt_depth)
    total = batch.weights.sum()
    logits = F.linear(
        F.rms_norm(states[end], (reader.file.size,), reader.file.norm, reader.file.epsilon), reader.file.unembedding
    )
    cross = F.cross_entropy(logits, batch.written, reduction="none")
    found = {end: (cross * batch.weights).sum() / total}
    right = logits.argmax(-1) == batch.written
    truth = logits.detach()[:, chosen].log_softmax(-1)
    agreement = {}
    for layer in EXITS:
        guess = F.linear(
            F.rms_norm(
                F.linear(unit(states[layer]), maps[layer]), (reader.file.size,), reader.file.norm, reader.file.epsilon
            ),
            reader.file.unembedding[chosen],
        ).log_softmax(-1)
        apart = F.kl_div(guess, truth, reduction="none", log_target=True).sum(-1)
        found[layer] = (apart * batch.weights).sum() / total
        agreement[layer] = (guess.argmax(-1) == truth.argmax(-1)).float().mean().item()
    return found, right, agreement


def objective(found, exit_weight, end):
    return found[end] + exit_weight * sum(found[layer] for layer in EXITS)


class Step:
    """Draws a batch and takes its gradients."""

    def __init__(self, reader, maps, data, chosen, arguments, seed):
        self.reader, self.maps, self.chosen, self.arguments = reader, maps, chosen, arguments
        self.chooser = random.Random(seed)
        self.queue = data.rounds(self.chooser, arguments.rows, arguments.answers)

    def take(self):
        items = next(self.queue)
        batch = collate(items)
        whole = self.chooser.random() < self.arguments.whole
        depth = None if whole else self.chooser.randint(self.arguments.lowest, 25)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.arguments.bfloat16):
            found, right, agreement = losses(self.reader, self.maps, batch, self.chosen, depth)
        for parameter in self.maps.values():
            parameter.grad = None
        for grid in self.reader.grids.values():
            grid.weight.grad = None
        objective(found, self.arguments.exit_weight, self.reader.file.layers).backward()
        kind = items[0].kind
        return {
            "rows": len(batch.prefix.tokens) + len(batch.branch.tokens),
            "requests": sum(len(item.requests) for item in items),
            f"{kind}{'' if whole else '@'}": found[self.reader.file.layers].item(),
            **{f"kl{layer}": found[layer].item() for layer in EXITS},
            f"right {kind}": right.float().mean().item(),
            **{f"own{layer}": value for layer, value in agreement.items()},
        }

    def gradients(self):
        return [*(grid.weight.grad for grid in self.reader.grids.values()), *(m.grad for m in self.maps.values())]


def helper(step, shared, ready, facts):
    """A second process, of low priority, whose gradients are added when they are there. They belong to weights of a
    step before."""
    torch.set_num_threads(1)
    # A session of its own: schedulers that share by session would count it to the first process.
    os.setsid()
    os.nice(5)
    while True:
        result = step.take()
        for to, gradient in zip(shared, step.gradients()):
            to.copy_(gradient)
        facts.put(result)
        ready.set()
        while ready.is_set():
            time.sleep(0.02)
            if os.getppid() == 1:
                return


def evaluate(reader, maps, held_out, chosen):
    facts = {}
    with torch.no_grad():
        for name, batches in held_out.items():
            for depth in [None, 16] if name == "xquad-en-dev" else [None]:
                cross, tokens, right_tokens, right, requests, same = 0.0, 0, 0, 0, 0, Counter()
                for batch in batches:
                    found, hits, agreement = losses(reader, maps, batch, chosen, depth)
                    tokens += len(hits)
                    cross += found[reader.file.layers].item() * len(hits)
                    right_tokens += hits.sum().item()
                    for layer, share in agreement.items():
                        same[layer] += share * len(hits)
                    count = batch.request.max().item() + 1
                    wrong = torch.zeros(count).index_add(0, batch.request, (~hits).float())
                    right += (wrong == 0).sum().item()
                    requests += count
                facts[name if depth is None else f"{name}@{depth}"] = [
                    # All tokens right under teacher forcing: greedy decoding writes the reference.
                    round(right / requests, 3),
                    round(right_tokens / tokens, 3),
                    round(cross / tokens, 3),
                    *(round(same[layer] / tokens, 3) for layer in EXITS),
                ]
    return facts


def held_out_batches(files, model, chooser, limit, near):
    result = {}
    for path in files:
        rows = [json.loads(line) for line in open(path)]
        wanted = {row["document"].strip() for row in rows if tuning(row)}
        data = Data([path], model, longest=1000, held_out=True, near=near)
        items, count = [], 0
        for key in sorted(data.documents, key=lambda key: hashlib.sha256(key[1].encode()).hexdigest()):
            if key[1] in wanted:
                for item in data.items(key, chooser):
                    if len(item.prefix) <= 1000 and count < limit:
                        items.append(item)
                        count += len(item.requests)
        items.sort(key=lambda item: len(item.prefix))
        result[Path(path).stem] = [collate(items[i : i + 4]) for i in range(0, len(items), 4)]
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--maps", required=True, help="maps of exits to begin from, as export_exits.py or fit-exits wrote them"
    )
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--held-out", nargs="*", default=[])
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--rate", type=float, default=2e-4, help="of weights, in themselves")
    parser.add_argument("--map-rate", type=float, default=5e-4)
    parser.add_argument("--exit-weight", type=float, default=0.15)
    parser.add_argument("--frozen", type=int, default=6)
    parser.add_argument("--rows", type=int, default=2400)
    parser.add_argument("--answers", type=float, default=0.5, help="share of the rows that belong to answers")
    parser.add_argument(
        "--spared", type=float, default=0, help="share of the questions without an answer that are left out"
    )
    parser.add_argument(
        "--near", type=float, default=0, help="share of the questions that are put to the sentences nearest to them"
    )
    parser.add_argument("--measured", type=int, default=30, help="requests of a held-out file, about")
    parser.add_argument("--bfloat16", action="store_true", help="products in bfloat16, where the processor has them")
    parser.add_argument("--whole", type=float, default=0.45, help="share of the steps whose prompts pass all layers")
    parser.add_argument("--lowest", type=int, default=14, help="layer after which prompts stop at the earliest")
    parser.add_argument("--checkpoint-minutes", type=float, default=10)
    parser.add_argument("--tail", type=float, default=0.6, help="share of the time in which the rate falls to nothing")
    parser.add_argument(
        "--helper", action="store_true", help="a second process of one thread, on what time others leave"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    log = open(arguments.out / "log.jsonl", "a")

    def note(**facts):
        print(json.dumps(facts), flush=True)
        print(json.dumps(facts), file=log, flush=True)

    note(arguments={key: str(value) for key, value in vars(arguments).items()})
    data = Data(arguments.data, arguments.model, spared=arguments.spared, near=arguments.near)
    held_out = held_out_batches(
        arguments.held_out, arguments.model, random.Random(0), arguments.measured, 1.0 if arguments.near else 0.0
    )
    reader = Reader(arguments.model, arguments.frozen, 0)
    written = Counter()
    for key in data.documents:
        for item in data.items(key, random.Random(0)):
            for request in item.requests:
                written.update(request.tokens[request.output :])
    common = sorted(written, key=lambda token: (-written[token], token))[:4096]
    begin = load_file(arguments.maps)
    maps = {layer: nn.Parameter(begin[f"map.{layer}"].float().T.contiguous()) for layer in EXITS}
    movers = [grid.mover for grid in reader.grids.values()]
    optimizer = torch.optim.AdamW(
        [
            {"params": movers, "top": arguments.rate, "lr": arguments.rate},
            {"params": list(maps.values()), "top": arguments.map_rate, "lr": arguments.map_rate},
        ],
        betas=(0.9, 0.98),
        weight_decay=0.0,
        fused=True,
    )
    path = arguments.out / "checkpoint.pt"
    done, step, tokens, requests = 0.0, 0, 0, 0
    if path.exists():
        saved = torch.load(path)
        done, step, tokens, requests = (saved[name] for name in ["seconds", "step", "tokens", "requests"])
        for name, grid in reader.grids.items():
            grid.mover.data.copy_(saved["movers"][name])
            grid.round()
        for layer in EXITS:
            maps[layer].data.copy_(saved["maps"][layer])
        optimizer.load_state_dict(saved["optimizer"])
        for group, rate in zip(optimizer.param_groups, [arguments.rate, arguments.map_rate]):
            group["top"] = rate
        del saved
    chosen = torch.tensor(common)
    own = Step(reader, maps, data, chosen, arguments, f"{arguments.seed} {step}")
    if arguments.helper:
        torch.set_num_threads(1)
        weights = [*(grid.weight for grid in reader.grids.values()), *maps.values()]
        for weight in weights:
            weight.data.share_memory_()
        shared = [torch.zeros(weight.shape).share_memory_() for weight in weights]
        context = multiprocessing.get_context("fork")
        ready, facts = context.Event(), context.Queue()
        other = Step(reader, maps, data, chosen, arguments, f"{arguments.seed} {step} helper")
        context.Process(target=helper, args=(other, shared, ready, facts), daemon=True).start()

    def measure():
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bfloat16):
            note(step=step, **evaluate(reader, maps, held_out, chosen))

    measure()

    def save():
        changed = sum((grid.new_codes() != grid.codes).sum().item() for grid in reader.grids.values())
        note(changed=round(changed / sum(grid.codes.numel() for grid in reader.grids.values()), 4))
        torch.save(
            {
                "movers": {name: grid.mover.data for name, grid in reader.grids.items()},
                "maps": {layer: value.detach() for layer, value in maps.items()},
                "optimizer": optimizer.state_dict(),
                "seconds": done,
                "step": step,
                "tokens": tokens,
                "requests": requests,
                "shortlist": chosen,
            },
            path.with_suffix(".new"),
        )
        path.with_suffix(".new").rename(path)

    budget = 60 * arguments.minutes
    saved_at, sums, now = done, {}, time.time()
    last = step + arguments.steps
    while done < budget and step < last:
        rate = min(1, (step + 1) / 40, (1 - done / budget) / arguments.tail + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = group["top"] * rate
        results = [own.take()]
        if arguments.helper and ready.is_set():
            for gradient, more in zip(own.gradients(), shared):
                gradient.add_(more).mul_(0.5)
            results.append(facts.get())
            ready.clear()
        for grid in reader.grids.values():
            grid.mover.grad = grid.weight.grad.view(grid.mover.shape)
        norm = nn.utils.clip_grad_norm_([*movers, *maps.values()], 1.0)
        optimizer.step()
        for grid in reader.grids.values():
            grid.round()
        step += 1
        tokens += sum(result.pop("rows") for result in results)
        requests += sum(result.pop("requests") for result in results)
        # Not the time for which the process was stopped.
        done += min(time.time() - now, 120)
        now = time.time()
        for name, value in [pair for result in results for pair in result.items()]:
            spent, count = sums.get(name, (0.0, 0))
            sums[name] = (spent + value, count + 1)
        if step % 10 == 0 or step == last:
            note(
                step=step,
                seconds=round(done),
                tokens=tokens,
                requests=requests,
                norm=round(norm.item(), 2),
                rate=round(rate, 3),
                **{name: round(spent / count, 3) for name, (spent, count) in sums.items()},
            )
            sums = {}
        if done - saved_at > 60 * arguments.checkpoint_minutes or done >= budget or step == last:
            saved_at = done
            save()
            measure()
            now = time.time()


if __name__ == "__main__":
    main()
