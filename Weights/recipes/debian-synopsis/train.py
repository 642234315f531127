#!/usr/bin/env python3
"""Train a model of the pair: cross-entropy of the predictions of every decoder layer l, weighted by l (Schuster et al.,
"Confident Adaptive Language Modeling", 2022, equation 6), all through the same final norm and unembedding.

A step takes the last layer and a few of the others, drawn with their weights, which gives the same gradient on average.
The workers, of one thread each, change the shared parameters without waiting for each other (Niu et al., "Hogwild!",
2011): on a machine that others use too, threads of one process mostly wait. Progress, which the learning rate follows,
is time used of `--minutes`, or steps of `--steps`. Stopped or killed, the same command goes on from the last checkpoint.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import time

import torch
import torch.nn.functional as F

from data import Tokens, batches, read_rows, tensors
from model import Model, Sizes

SIZES = {"large": Sizes(), "small": Sizes(d_model=96, d_kv=32, d_ff=384, num_heads=3, num_decoder_layers=2)}


def rate_scale(progress, warm_up=0.02):
    return min(progress / warm_up, 1.0) * min(1.0, (1 - progress) / 0.85) if progress < 1 else 0.0


def loss_of(model, documents, inputs, labels, layers):
    """Mean cross-entropy in nats a token of each of the decoder layers given."""
    states = model.decode(inputs, *model.encode(documents))
    wanted = labels != 0
    targets = labels[wanted]
    rows = torch.cat([states[layer][wanted] for layer in layers])
    losses = F.cross_entropy(model.logits(rows), targets.repeat(len(layers)), reduction="none")
    return losses.view(len(layers), -1)


def co_occurrence_embedding(rows, sizes, window=5):
    """Embeddings that begin near each other where tokens stand near the same others: the leading singular vectors of
    their positive pointwise mutual information (Levy and Goldberg, "Neural word embedding as implicit matrix
    factorization", 2014), plus noise that keeps every token apart."""
    size = sizes.vocab_size
    flat = torch.tensor([token for row in rows for token in row + [0] * window])
    counts = torch.zeros(size, size)
    for offset in range(1, window + 1):
        pairs = flat[:-offset] * size + flat[offset:]
        counts += torch.bincount(pairs, minlength=size * size).view(size, size) / offset
    counts += counts.T.clone()
    counts[0], counts[:, 0] = 0, 0
    total = counts.sum(1) + 1e-9
    context = total**0.75
    information = (counts * context.sum() / (total[:, None] * context)).clamp_(min=1).log_()
    u, s, _ = torch.svd_lowrank(information, sizes.d_model, niter=2)
    vectors = u * s**0.5
    vectors = vectors @ torch.linalg.qr(torch.randn(sizes.d_model, sizes.d_model))[0]
    vectors = vectors / (vectors.norm(dim=1, keepdim=True) + 1e-9)
    noise = torch.randn_like(vectors)
    return (0.7 * vectors + 0.7 * noise / noise.norm(dim=1, keepdim=True)) * 0.2 * sizes.d_model**0.5


def pairs_of(path, tokens):
    return [(tokens.document(row["document"]), tokens.target(row["reference"])) for row in read_rows(path)]


class Run:
    """What the workers share: parameters and Adam's moments, in shared memory, and the progress."""

    def __init__(self, arguments, train):
        torch.manual_seed(arguments.seed)
        self.sizes = SIZES[arguments.size]
        self.model = Model(self.sizes)
        self.checkpoint = arguments.run / "checkpoint.pt"
        #: Steps taken by all workers, and seconds used.
        self.state = torch.zeros(2, dtype=torch.float64)
        parameters = list(self.model.parameters())
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
        if self.checkpoint.exists():
            saved = torch.load(self.checkpoint)
            self.model.load_state_dict(saved["model"])
            self.moments, self.state = saved["moments"], saved["state"]
        elif arguments.start:
            self.model.load_state_dict(torch.load(arguments.start)["model"])
        else:
            self.model.shared.data.copy_(co_occurrence_embedding([row for pair in train for row in pair], self.sizes))
        for tensor in [self.state, *parameters, *(m for pair in self.moments for m in pair)]:
            tensor.share_memory_()

    def save(self):
        state = {"model": self.model.state_dict(), "moments": self.moments, "state": self.state,
                 "sizes": dataclasses.asdict(self.sizes)}
        torch.save(state, self.checkpoint.with_suffix(".new"))
        os.replace(self.checkpoint.with_suffix(".new"), self.checkpoint)


@torch.no_grad()
def adam_step(run, arguments, rate, decay=0.0, betas=(0.9, 0.99), epsilon=1e-8):
    """Adam on the shared parameters, with this worker's gradients."""
    step = torch.tensor(run.state[0].item() + 1)
    for (name, parameter), (first, second) in zip(run.model.named_parameters(), run.moments):
        scale = 1.0 if parameter.dim() >= 2 and "bias" not in name and name != "shared" else arguments.vector_rate
        torch._fused_adamw_(
            [parameter], [parameter.grad], [first], [second], [], [step], lr=rate * scale, beta1=betas[0],
            beta2=betas[1], weight_decay=decay, eps=epsilon, amsgrad=False, maximize=False)


def work(index, run, arguments, train, validation):
    """Takes batches, every `workers`th of an epoch, until the time is over; the first one validates, logs and saves."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    sizes, model = run.sizes, run.model
    # The gradients must be this worker's own.
    for parameter in model.parameters():
        parameter.grad = None
    log_file = open(arguments.run / "log.jsonl", "a") if index == 0 else None

    def log(**fields):
        log_file.write(json.dumps(fields) + "\n")
        log_file.flush()
        print(json.dumps(fields), flush=True)

    @torch.no_grad()
    def validate():
        total, number = torch.zeros(sizes.num_decoder_layers), 0
        for indices in batches(validation, 32, 0):
            losses = loss_of(model, *tensors(validation, indices), range(sizes.num_decoder_layers))
            total += losses.sum(1)
            number += losses.shape[1]
        return [round(value, 4) for value in (total / number).tolist()]

    last = sizes.num_decoder_layers - 1
    weights = [layer + 1.0 for layer in range(sizes.num_decoder_layers)]
    drawn = min(arguments.drawn_layers, last)
    last_share = weights[last] / sum(weights)
    share = torch.tensor([last_share] + [(1 - last_share) / max(drawn, 1)] * drawn)
    began, earlier = time.monotonic(), run.state[1].item()
    saved_at = validated_at = logged_at = began
    logged_step, recent, order, epoch = run.state[0].item(), [], [], -1
    while True:
        step = int(run.state[0])
        now = time.monotonic()
        seconds = earlier + now - began
        progress = step / arguments.steps if arguments.steps else seconds / (60 * arguments.minutes)
        is_over = progress >= 1
        if index == 0:
            run.state[1] = seconds
            facts = {"step": step, "epoch": round(step * arguments.batch / len(train), 3),
                     "minutes": round(seconds / 60, 2)}
            if is_over or now - validated_at > 60 * arguments.validate_every:
                log(event="validation", **facts, layers=validate())
                validated_at = time.monotonic()
            if is_over or now - saved_at > 60 * arguments.save_every:
                run.save()
                saved_at = time.monotonic()
            if now - logged_at > 60:
                log(event="train", **facts, loss=round(sum(recent) / max(len(recent), 1), 4),
                    seconds_a_step=round((now - logged_at) / max(step - logged_step, 1), 3))
                recent, logged_at, logged_step = [], now, step
        if is_over:
            break
        run.state[0] += 1
        steps_of_epoch = (len(train) + arguments.batch - 1) // arguments.batch
        if step // steps_of_epoch != epoch:
            epoch = step // steps_of_epoch
            order = batches(train, arguments.batch, arguments.seed * 1000 + epoch)
        layers = [last] + random.Random(arguments.seed * 10**9 + step).choices(range(last), weights[:last], k=drawn)
        losses = loss_of(model, *tensors(train, order[step % len(order)]), layers).mean(1)
        (losses * share).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam_step(run, arguments, arguments.rate * rate_scale(progress))
        for parameter in model.parameters():
            parameter.grad.zero_()
        recent.append(losses[0].item())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="large")
    parser.add_argument("--data", required=True, type=pathlib.Path, help="folder with train.jsonl and validation.jsonl")
    parser.add_argument("--train", default="train.jsonl", help="file in the folder")
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path, help="spiece.model")
    parser.add_argument("--run", required=True, type=pathlib.Path, help="folder for checkpoint.pt and log.jsonl")
    parser.add_argument("--start", type=pathlib.Path, help="checkpoint whose weights to begin from")
    parser.add_argument("--minutes", type=float, default=95)
    parser.add_argument("--steps", type=int, help="plan by steps instead of time")
    parser.add_argument("--batch", type=int, default=32, help="documents a step")
    parser.add_argument("--drawn-layers", type=int, default=2, help="layers beside the last in the loss of a step")
    parser.add_argument("--rate", type=float, default=1e-3, help="Adam's largest rate for matrices")
    parser.add_argument("--vector-rate", type=float, default=3.0, help="that of the rest, in units of --rate")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--validate-every", type=float, default=6, help="minutes")
    parser.add_argument("--save-every", type=float, default=5, help="minutes")
    arguments = parser.parse_args()

    arguments.run.mkdir(parents=True, exist_ok=True)
    tokens = Tokens(arguments.tokenizer, SIZES[arguments.size].n_positions)
    train = pairs_of(arguments.data / arguments.train, tokens)
    validation = pairs_of(arguments.data / "validation.jsonl", tokens)
    run = Run(arguments, train)
    with open(arguments.run / "log.jsonl", "a") as log_file:
        facts = {"event": "start", "step": int(run.state[0]), "documents": len(train),
                 "parameters": sum(p.numel() for p in run.model.parameters()), "sizes": dataclasses.asdict(run.sizes),
                 "arguments": {name: str(value) for name, value in vars(arguments).items()}}
        log_file.write(json.dumps(facts) + "\n")
        print(json.dumps(facts), flush=True)
    context = torch.multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(index, run, arguments, train, validation))
               for index in range(arguments.workers)]
    for worker in workers:
        worker.start()
    (arguments.run / "train.pid").write_text(" ".join(str(worker.pid) for worker in workers) + "\n")
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
