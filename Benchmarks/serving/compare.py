#!/usr/bin/env python3
"""egress serve against llama-server, by turns, on the same requests; and one client against the command line.

    python3 Benchmarks/serving/compare.py .build/release/egress llama-server --gguf MODEL.Q4_0.gguf \\
        --documents docs.jsonl --certificate docs.certificate.json [--rounds 3] [--json out.json]

Threads of llama.cpp wait spinning: right on a machine of their own, and half of their speed or more is lost where
others use it too; set OMP_WAIT_POLICY=passive then, and --llama-options='--poll 0'. In each round every server is
started, asked and stopped before the next one is: mixed requests at full depth; then summaries of documents, where
egress decodes at full depth and under the certificate. One client of egress is held against `egress summarize
--input` with one document at a time. Prints medians and ratios. Standard library only.
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
import urllib.request
from pathlib import Path

from serving import make_requests, make_summaries, run


def wait(base, process):
    for _ in range(600):
        try:
            with urllib.request.urlopen(base + "/health", timeout=5) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
        if process.poll() is not None:
            sys.exit("a server ended before it answered")
    sys.exit("a server does not answer")


def measure(line, port, requests, clients):
    """What serving.py measures, of a server that runs for this alone."""
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        base = f"http://127.0.0.1:{port}"
        try:
            wait(base, process)
            with urllib.request.urlopen(base + "/v1/models", timeout=30) as response:
                model = json.load(response)["data"][0]["id"]
            # Loads what is loaded on first use; not counted.
            run(base, model, "none", requests[:1], 1, 600)
            return run(base, model, "none", requests, clients, 600)
        finally:
            process.terminate()


def command_line(program, options, path, count):
    """Seconds of the documents on the command line, one at a time; those of one document are taken off."""
    seconds = []
    for number in (1, count):
        with tempfile.TemporaryDirectory() as folder:
            lines = Path(path).read_text().splitlines()[:number]
            (Path(folder) / "in.jsonl").write_text("\n".join(lines) + "\n")
            line = [program, "summarize", *options, "--batch", "1", "--input", folder + "/in.jsonl"]
            start = time.perf_counter()
            subprocess.run([*line, "--output", folder + "/out.jsonl"], check=True, stderr=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
    return seconds[1] - seconds[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("egress")
    parser.add_argument("llama")
    parser.add_argument("--model", default="smollm2-135m-reader")
    parser.add_argument("--gguf", required=True, help="the same model in llama.cpp's best 4-bit format")
    parser.add_argument("--documents", required=True)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--serve", default="", help="further options of egress")
    parser.add_argument("--llama-options", default="", help="further options of llama-server")
    parser.add_argument("--parts", default="mixed,summaries,one client", help="which of the comparisons")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--single", type=int, default=12, help="documents for one client")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", help="write all figures to this file as well")
    arguments = parser.parse_args()
    port, threads = 8765, str(arguments.threads)
    model = ["--model", arguments.model, "--threads", threads, *shlex.split(arguments.serve)]
    egress = [arguments.egress, "serve", *model, "--port", str(port), "--slots", str(arguments.clients)]
    certified = [*egress, "--certificate", arguments.certificate]
    llama = [arguments.llama, "-m", arguments.gguf, "--port", str(port), "-t", threads, "-tb", threads]
    llama += ["-np", str(arguments.clients), "-c", str(4096 * arguments.clients)]
    llama += shlex.split(arguments.llama_options)
    mixed = make_requests(arguments.requests, 1)
    plain = make_summaries(arguments.documents, arguments.requests, "chat")
    task = make_summaries(arguments.documents, arguments.requests, "summarize")
    turns = {
        "mixed: egress": (egress, mixed, arguments.clients),
        "mixed: llama-server": (llama, mixed, arguments.clients),
        "summaries: egress, full depth": (egress, task, arguments.clients),
        "summaries: egress, certified": (certified, task, arguments.clients),
        "summaries: llama-server": (llama, plain, arguments.clients),
        "one client: egress, full depth": (egress, task[1 : arguments.single], 1),
    }
    parts = arguments.parts.split(",")
    turns = {name: turn for name, turn in turns.items() if name.split(":")[0] in parts}
    figures = {name: [] for name in turns}
    alone = []
    for number in range(arguments.rounds):
        # Every second round backwards, so that nobody always comes first.
        for name, (line, requests, clients) in list(turns.items())[:: 1 if number % 2 == 0 else -1]:
            figures[name].append(measure(line, port, requests, clients))
            print(name, json.dumps(figures[name][-1]), file=sys.stderr, flush=True)
        if "one client" in parts:
            alone.append(command_line(arguments.egress, model, arguments.documents, arguments.single))
            print("command line", alone[-1], file=sys.stderr, flush=True)
        if arguments.json:
            Path(arguments.json).write_text(json.dumps({**figures, "command line": alone}, indent=1) + "\n")
    columns = ["tokens_per_second", "requests_per_second", "first_token_p50", "first_token_p95", "output_tokens"]
    print("| |", " | ".join(column.replace("_", " ") for column in columns), "|")
    for name, rounds in figures.items():
        print(f"| {name} |", " | ".join(f"{statistics.median(r[column] for r in rounds):g}" for column in columns), "|")
    if alone:
        single = statistics.median(r["seconds"] for r in figures["one client: egress, full depth"])
        print(f"one client: {single:.2f} s, the command line {statistics.median(alone):.2f} s")


if __name__ == "__main__":
    main()
