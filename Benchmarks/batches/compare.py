#!/usr/bin/env python3
"""Many documents: egress summarize --input in several ways against llama.cpp's llama-batched-bench, by turns.

    python3 Benchmarks/batches/compare.py .build/release/egress llama-batched-bench --gguf MODEL.Q4_0.gguf \\
        --documents docs.jsonl [--count 80] [--rounds 5] \\
        [--way 'certified exits=--certificate exits.certificate.json'] [--json out.json]

egress decodes all documents at full depth, with exits, with drafts that keep outputs, and in each --way. What a run on
the first document alone takes is taken off, which is loading. llama-batched-bench has no documents: it gets, for every
--width of them in a row, so many sequences with the mean length of their prompts and of egress's outputs at full depth,
rounded to whole tokens, and none of the reading and writing of files. Prints medians over the rounds, the ratio to
llama.cpp with its spread, and how many outputs are those of full depth. Standard library only.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run(line, **settings):
    """A command's output; a failed one ends the program."""
    result = subprocess.run(line, capture_output=True, text=True, check=False, **settings)
    if result.returncode != 0:
        sys.exit(f"{shlex.join(map(str, line))}: {result.stderr.strip()}")
    return result.stdout


def egress(given, options, lines):
    """Seconds of some documents, without those of the first, and their results."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, len(lines)):
            source, target = Path(folder) / f"{count}.jsonl", Path(folder) / f"{count}.out.jsonl"
            source.write_text("\n".join(lines[:count]) + "\n")
            line = [given.egress, "summarize", "--model", given.model, "--threads", str(given.threads)]
            start = time.perf_counter()
            run([*line, *options, "--input", source, "--output", target])
            seconds.append(time.perf_counter() - start)
        results = [json.loads(line) for line in target.read_text().splitlines()]
    return seconds[1] - seconds[0], results


def groups(results, width):
    """What llama.cpp is to decode: prompts' and outputs' mean lengths, and how many at a time."""
    for start in range(0, len(results), width):
        part = results[start : start + width]
        prompt = statistics.mean(len(one["prompt_token_ids"]) for one in part)
        output = statistics.mean(len(one["token_ids"]) for one in part)
        yield round(prompt), max(1, round(output)), len(part)


def llama(given, work):
    """Seconds of the same work in llama.cpp, loading apart."""
    seconds = 0.0
    for prompt, output, count in work:
        line = [given.llama, "-m", given.gguf, "-c", str((prompt + output) * count + 256), "-b", "2048", "-ub", "512"]
        line += ["-npp", str(prompt), "-ntg", str(output), "-npl", str(count)]
        line += ["-t", str(given.threads), "-tb", str(given.threads), "--output-format", "jsonl"]
        found = run([*line, *shlex.split(given.llama_options)])
        seconds += next(json.loads(text)["t"] for text in found.splitlines() if text.startswith("{"))
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("egress")
    parser.add_argument("llama", help="llama-batched-bench")
    parser.add_argument("--model", default="smollm2-135m-reader")
    parser.add_argument("--gguf", required=True, help="the same model in llama.cpp's best 4-bit format")
    parser.add_argument("--documents", required=True)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 8))
    parser.add_argument("--width", type=int, default=16, help="sequences that llama.cpp decodes at a time")
    parser.add_argument("--exit-threshold", default="0.8", help="of the exits that nothing certifies")
    parser.add_argument("--exit-layers", help="after which tokens may leave, where nothing certifies")
    parser.add_argument("--way", action="append", default=[], help="NAME=OPTIONS of egress")
    parser.add_argument("--llama-options", default="", help="further options of llama-batched-bench")
    parser.add_argument("--json", help="file for all measurements")
    given = parser.parse_args()

    lines = [line for line in Path(given.documents).read_text().splitlines() if line.strip()][: given.count]
    if len(lines) < 2:
        sys.exit(f"{given.documents} has {len(lines)} documents; a comparison takes at least 2")
    exits = ["--exit-threshold", given.exit_threshold]
    if given.exit_layers:
        exits += ["--exit-layers", given.exit_layers]
    ways = {"full depth": ["--full-depth"], "exits": exits, "drafts": ["--drafter", "auto"]}
    for way in given.way:
        name, _, options = way.partition("=")
        ways[name] = shlex.split(options)

    # Once before anything is timed: outputs of full depth say what llama.cpp has to do, and files are in memory.
    full = egress(given, ways["full depth"], lines)[1]
    work = list(groups(full, given.width))
    seconds, same = {"llama.cpp": []} | {name: [] for name in ways}, {}
    for number in range(given.rounds):
        order = list(seconds)
        # Whoever comes first is not always the same.
        for name in order[number % len(order) :] + order[: number % len(order)]:
            if name == "llama.cpp":
                # As many documents as egress's seconds are of.
                seconds[name].append(llama(given, work) * (len(lines) - 1) / len(lines))
                continue
            taken, results = egress(given, ways[name], lines)
            seconds[name].append(taken)
            same[name] = sum(one["text"] == other["text"] for one, other in zip(results, full))
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr)

    tokens = sum(len(one["token_ids"]) for one in full)
    read = sum(len(one["prompt_token_ids"]) for one in full)
    print(f"{len(lines)} documents, {read} tokens of prompts, {tokens} of outputs; {given.threads} threads")
    print(f"medians of {given.rounds} rounds; llama.cpp decodes {given.width} at a time\n")
    print(f"{'':24} seconds  documents/s  of llama.cpp's time    same outputs")
    for name, found in seconds.items():
        ratios = [mine / theirs for mine, theirs in zip(found, seconds["llama.cpp"])]
        median = statistics.median(found)
        alike = f"{same[name]} of {len(lines)}" if name in same else ""
        print(
            f"{name:24} {median:7.2f} {(len(lines) - 1) / median:12.2f}  {statistics.median(ratios):8.2f} "
            f"({min(ratios):.2f}-{max(ratios):.2f}) {alike:>15}"
        )
    if given.json:
        held = {"documents": len(lines), "threads": given.threads, "work": work, "seconds": seconds, "same": same}
        Path(given.json).write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    main()
