#!/usr/bin/env python3
"""Train a model of the pair: cross-entropy of the predictions of every decoder layer l, weighted by l (Schuster et al.,
"Confident Adaptive Language Modeling", 2022, equation 6), all through the same final norm and unembedding.

A step takes a few of the layers, drawn by their weights, and runs the model up to the last of them: the same gradient
on average, for less. The workers, of one thread each, change the shared parameters without waiting for each other (Niu
et al., "Hogwild!", 2011): on a machine that others use too, threads of one process mostly wait. Progress, which the
learning rate follows, is time used of `--minutes`, or steps of `--steps`. Stopped or killed, the same command goes on
from the last checkpoint."""

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
    states = model.decode(inputs, *model.encode(documents, max(layers) + 1))
    wanted = labels != 0
    targets = labels[wanted]
    rows = torch.cat([states[layer][wanted] for layer in layers])
    losses = F.cross_entropy(model.logits(rows), targets.repeat(len(layers)), reduction="none")
    return losses.view(len(layers), -1)


def orthogonal(matrices, iterations=4):
    """The orthogonal factor of each matrix, roughly, by an iteration of degree five."""
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) * 1.01 + 1e-7)
    for a, b, c in [
        (8.2872, -23.5959, 17.3004),
        (4.1071, -2.9478, 0.5448),
        (3.9487, -2.9089, 0.5518),
        (3.3184, -2.4885, 0.5100),
    ][:iterations]:
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


@torch.no_grad()
def begin_near_the_words(model, train):
    """Embeddings that begin near each other where tokens stand near the same others: the leading singular vectors of
    their positive pointwise mutual information (Levy and Goldberg, "Neural word embedding as implicit matrix
    factorization", 2014), plus noise that keeps every token apart. The unembedding begins as a small copy, with one
    number for how frequent a token is in outputs: without it the first thing to be learnt, by all matrices at once, is
    one large constant vector, next to which the words are lost."""
    sizes, window = model.sizes, 5
    size = sizes.vocab_size
    flat = torch.tensor([token for pair in train for row in pair for token in row + [0] * window])
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
    vectors = 0.7 * sizes.d_model**0.5 * (vectors + noise / noise.norm(dim=1, keepdim=True))
    vectors[:, 0] = 4
    model.shared.copy_(vectors)
    model.head.copy_(vectors * 0.25 * sizes.d_model**-0.5)
    frequency = torch.ones(size).index_add_(
        0, targets := torch.tensor([t for _, row in train for t in row]), torch.ones(len(targets))
    )
    logarithm = frequency.log()
    model.head[:, 0] = (logarithm - logarithm.mean()) / 4


@torch.no_grad()
def begin_with_copying(model):
    """Cross-attention that begins by copying: a head of the first encoder layer puts the token before a token beside
    it; a head of each of the first decoder layers looks for the places whose token before is the current one, and adds
    a part of what stands there. Half of a synopsis' tokens stand in its document, a quarter after the token that they
    follow; a model of this size takes thousands of steps to find out how to look them up."""
    sizes = model.sizes
    d, size = sizes.d_model, sizes.d_kv

    def basis():
        return torch.linalg.qr(torch.randn(d, d))[0]

    before, beside = basis()[:size], basis()[:size]
    first = model.encoder[0]
    model.encoder_bias[1, 0] = 8  # The bucket of the token before.
    first.qkv[0, :size] = 0
    first.qkv[2, :size] = before
    first.o[:, :size] = 1.5 * beside.T
    parts = basis()
    for index in range(min(d // size, sizes.num_decoder_layers)):
        layer, part = model.decoder[index], parts[index * size : (index + 1) * size]
        layer.cross_q[:size] = 0.4 * before
        layer.cross_kv[0, :size] = 0.4 * beside
        layer.cross_kv[1, :size] = part
        layer.cross_o[:, :size] = 2 * part.T


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
            begin_near_the_words(self.model, train)
            begin_with_copying(self.model)
        for tensor in [self.state, *parameters, *(m for pair in self.moments for m in pair)]:
            tensor.share_memory_()

    def save(self):
        state = {
            "model": self.model.state_dict(),
            "moments": self.moments,
            "state": self.state,
            "sizes": dataclasses.asdict(self.sizes),
        }
        torch.save(state, self.checkpoint.with_suffix(".new"))
        os.replace(self.checkpoint.with_suffix(".new"), self.checkpoint)


@torch.no_grad()
def take_step(run, arguments, scale):
    """Changes the shared parameters by this worker's gradients: matrices by Muon (Jordan 2024), in batches of one
    shape, the rest by Adam."""
    step = torch.tensor(run.state[0].item() + 1)
    groups = {}
    for (name, parameter), (first, second) in zip(run.model.named_parameters(), run.moments):
        gradient = parameter.grad
        if gradient is None:  # Of a layer that this step did not reach.
            continue
        if is_matrix(name):
            first.lerp_(gradient, 0.05)
            update = gradient.lerp(first, 0.95)
            is_tall = update.shape[-2] > update.shape[-1]
            update = (update.mT if is_tall else update).reshape(-1, *sorted(update.shape[-2:]))
            groups.setdefault(update.shape[1:], []).append((parameter, update, is_tall))
        else:
            torch._fused_adamw_(
                [parameter],
                [gradient],
                [first],
                [second],
                [],
                [step],
                beta1=0.9,
                beta2=0.98,
                weight_decay=0.0,
                lr=scale * (arguments.head_rate if name == "head" else arguments.adam_rate),
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )
    for members in groups.values():
        updates = orthogonal(torch.cat([update for _, update, _ in members])).split([len(u) for _, u, _ in members])
        for (parameter, _, is_tall), update in zip(members, updates):
            rows, columns = parameter.shape[-2:]
            parameter.add_(
                (update.mT if is_tall else update).reshape(parameter.shape),
                alpha=-arguments.muon_rate * scale * max(1, rows / columns) ** 0.5,
            )


def is_matrix(name):
    return not (name in ("shared", "head", "encoder_bias", "decoder_bias") or "norm" in name)


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
    saved_at = validated_at = logged_at = before = time.monotonic()
    logged_step, recent, order, epoch = run.state[0].item(), [], [], -1
    while True:
        step = int(run.state[0])
        now = time.monotonic()
        # A step that takes a minute was stopped from outside; that time is not used.
        if index == 0:
            run.state[1] += min(now - before, 60)
        before, seconds = now, run.state[1].item()
        progress = step / arguments.steps if arguments.steps else seconds / (60 * arguments.minutes)
        is_over = progress >= 1
        if index == 0:
            facts = {
                "step": step,
                "epoch": round(step * arguments.batch / len(train), 3),
                "minutes": round(seconds / 60, 2),
            }
            if is_over or now - validated_at > 60 * arguments.validate_every:
                log(event="validation", **facts, layers=validate())
                validated_at = time.monotonic()
            if is_over or now - saved_at > 60 * arguments.save_every:
                run.save()
                saved_at = time.monotonic()
            if now - logged_at > 60:
                log(
                    event="train",
                    **facts,
                    loss=round(sum(recent) / max(len(recent), 1), 4),
                    seconds_a_step=round((now - logged_at) / max(step - logged_step, 1), 3),
                )
                recent, logged_at, logged_step = [], now, step
        if is_over:
            break
        run.state[0] += 1
        steps_of_epoch = (len(train) + arguments.batch - 1) // arguments.batch
        if step // steps_of_epoch != epoch:
            epoch = step // steps_of_epoch
            order = batches(train, arguments.batch, arguments.seed * 1000 + epoch)
        layers = random.Random(arguments.seed * 10**9 + step).choices(
            range(last + 1), weights, k=arguments.drawn_layers
        )
        losses = loss_of(model, *tensors(train, order[step % len(order)]), layers).mean(1)
        losses.mean().backward()
        take_step(run, arguments, rate_scale(progress))
        model.zero_grad(set_to_none=True)
        recent.append(losses.mean().item())


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
    parser.add_argument("--drawn-layers", type=int, default=2, help="layers in the loss of a step")
    parser.add_argument("--positions", type=int, help="tokens of a document to train on, instead of the model's")
    parser.add_argument("--muon-rate", type=float, default=0.005)
    parser.add_argument("--adam-rate", type=float, default=1e-3, help="of embedding, norms and position biases")
    parser.add_argument("--head-rate", type=float, default=5e-4, help="of the unembedding")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--validate-every", type=float, default=6, help="minutes")
    parser.add_argument("--save-every", type=float, default=5, help="minutes")
    arguments = parser.parse_args()

    arguments.run.mkdir(parents=True, exist_ok=True)
    tokens = Tokens(arguments.tokenizer, SIZES[arguments.size].n_positions)
    train = pairs_of(
        arguments.data / arguments.train, Tokens(arguments.tokenizer, arguments.positions or tokens.positions)
    )
    validation = pairs_of(arguments.data / "validation.jsonl", tokens)
    run = Run(arguments, train)
    with open(arguments.run / "log.jsonl", "a") as log_file:
        facts = {
            "event": "start",
            "step": int(run.state[0]),
            "documents": len(train),
            "parameters": sum(p.numel() for p in run.model.parameters()),
            "sizes": dataclasses.asdict(run.sizes),
            "arguments": {name: str(value) for name, value in vars(arguments).items()},
        }
        log_file.write(json.dumps(facts) + "\n")
        print(json.dumps(facts), flush=True)
    context = torch.multiprocessing.get_context("fork")
    workers = [
        context.Process(target=work, args=(index, run, arguments, train, validation))
        for index in range(arguments.workers)
    ]
    for worker in workers:
        worker.start()
    (arguments.run / "train.pid").write_text(" ".join(str(worker.pid) for worker in workers) + "\n")
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
