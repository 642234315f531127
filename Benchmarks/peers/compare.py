#!/usr/bin/env python3
"""Speed of egress beside llama.cpp, CTranslate2 and OpenVINO GenAI, on one model, on this machine.

The programs run one after the other, each in a process of its own, again and again (A B C, A B C, ...), so that a
change of the machine's clock or load meets all of them. In each process the same 256 tokens are read and 48 are decoded
one by one, several times, and the best time counts. Texts of about 2,000 tokens are read besides, others each time, so
that no cache knows them. llama-bench makes its own prompts and gives means. What is printed is the median over the
rounds, and the median of the ratios within a round, as a Markdown table.

See README.md beside this file for how to install the peers.
"""

import argparse
import csv
import ctypes
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Scripts"))
from egress_tools import run_egress

# What `egress bench` reads, too.
PROMPT = [i * 7919 % 40000 + 20 for i in range(256)]
BATCHES = {1: 48, 2: 8, 4: 8, 8: 8, 16: 6}
REPETITIONS = 6
PEERS = ["llama.cpp", "CTranslate2", "llama-bench", "OpenVINO"]
FIGURES = [
    ("decode, tokens/s", lambda r: r["decode"], True),
    ("prefill of 256, tokens/s", lambda r: r["prefill"], True),
    ("prefill of 2,000, tokens/s", lambda r: r.get("long"), True),
    ("T(2)/T(1)", lambda r: r["batch_cost"].get("2"), False),
    ("T(4)/T(1)", lambda r: r["batch_cost"].get("4"), False),
    ("T(8)/T(1)", lambda r: r["batch_cost"].get("8"), False),
    ("T(16)/T(1)", lambda r: r["batch_cost"].get("16"), False),
]


# Words made up of a text, about 2.3 tokens each with SmolLM2's tokenizer, and how many long ones a process reads.
SHORT_TEXT, LONG_TEXT, LONG_TEXTS = 100, 860, 3


def some_text(seed, words):
    chooser = random.Random(seed)

    def word():
        return "".join(chooser.choice("bdfglmnprst") + chooser.choice("aeiou") for _ in range(chooser.randint(1, 4)))

    return " ".join(word() for _ in range(words)) + "."


def measure_egress(program, model, threads, seed):
    command = ["bench", "--model", model, "--threads", str(threads), "--format", "json"]
    found = json.loads(run_egress(program, command, quiet=True))
    command = ["generate", "--raw", "--max-tokens", "1", "--format", "json"]
    command += ["--model", model, "--threads", str(threads)]
    long = [
        json.loads(run_egress(program, [*command, some_text(f"{seed} {part}", LONG_TEXT)], quiet=True))
        for part in range(LONG_TEXTS)
    ]
    return {
        "decode": found["decode_tokens_per_second"],
        "prefill": found["prefill_tokens_per_second"],
        "long": max(found["timings"]["prefill_tokens_per_second"] for found in long),
        "batch_cost": found["batch_cost"],
        "note": f"{found['instruction_set']}, perplexity {found['perplexity']:.3f} of bench's passage",
    }


def measure_llama(model, threads):
    import llama_cpp as lib

    lib.llama_backend_init()
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    loaded = lib.llama_model_load_from_file(model.encode(), lib.llama_model_default_params())
    if not loaded:
        sys.exit(f"llama.cpp cannot load {model}")
    settings = lib.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = 1024, 512, 512
    settings.n_threads = settings.n_threads_batch = threads
    context = lib.llama_init_from_model(loaded, settings)
    batch = lib.llama_batch_init(512, 0, 1)

    def advance(tokens, position):
        # As in `egress bench`: a small batch gives the logits of each token, a prompt those of its last.
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i] = token, position + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = len(tokens) <= max(BATCHES) or i == len(tokens) - 1
        if lib.llama_decode(context, batch) != 0:
            sys.exit("llama.cpp failed to decode")
        lib.llama_synchronize(context)

    best = {}
    for _ in range(REPETITIONS):
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        start = time.perf_counter()
        advance(PROMPT, 0)
        best["prefill"] = min(best.get("prefill", 1e9), time.perf_counter() - start)
        position = len(PROMPT)
        for size, times in BATCHES.items():
            start = time.perf_counter()
            for _ in range(times):
                advance(PROMPT[:size], position)
                position += size
            best[size] = min(best.get(size, 1e9), (time.perf_counter() - start) / times)
    return {
        "decode": 1 / best[1],
        "prefill": len(PROMPT) / best["prefill"],
        "batch_cost": {str(size): best[size] / best[1] for size in BATCHES},
        "note": f"llama-cpp-python {lib.__version__}",
    }


def measure_llama_bench(program, model, threads):
    command = [program, "-m", model, "-t", str(threads), "-p", "256,2000", "-n", "48", "-r", "3", "-o", "csv"]
    found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
    rows = list(csv.DictReader(found.stdout.splitlines()))
    speeds = {(int(row["n_prompt"]), int(row["n_gen"])): float(row["avg_ts"]) for row in rows}
    return {
        "decode": speeds[0, 48],
        "prefill": speeds[256, 0],
        "long": speeds[2000, 0],
        "batch_cost": {},
        "note": f"build {rows[0]['build_number']}, {rows[0]['model_type']}; means of three",
    }


def measure_openvino(model, threads, seed):
    import openvino_genai as lib

    pipeline = lib.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=threads)
    settings = lib.GenerationConfig()
    settings.apply_chat_template, settings.ignore_eos = False, True

    def run(text, count):
        settings.max_new_tokens = count
        start = time.perf_counter()
        result = pipeline.generate([text], settings)
        return time.perf_counter() - start, result

    def prefill(words):
        # Another text each time, as what has been read before is kept.
        speeds = []
        for part in range(REPETITIONS if words == SHORT_TEXT else LONG_TEXTS):
            text = some_text(f"{seed} {part}", words)
            count = pipeline.get_tokenizer().encode(text).input_ids.shape[1]
            speeds.append(count / run(text, 1)[0])
        return max(speeds)

    short = prefill(SHORT_TEXT)
    _, result = run(some_text(f"{seed} more", SHORT_TEXT), 49)
    return {
        "decode": 1000 / result.perf_metrics.get_tpot().mean,
        "prefill": short,
        "long": prefill(LONG_TEXT),
        "batch_cost": {},
        "note": f"openvino-genai {lib.__version__}",
    }


def measure_ctranslate2(folder, threads):
    import ctranslate2

    generator = ctranslate2.Generator(folder, device="cpu", intra_threads=threads)
    with open(os.path.join(folder, "vocabulary.json"), encoding="utf-8") as file:
        vocabulary = json.load(file)
    prompt = [vocabulary[i] for i in PROMPT]

    def seconds(count):
        start = time.perf_counter()
        generator.generate_batch(
            [prompt], max_length=count, min_length=count, include_prompt_in_result=False, end_token=[]
        )
        return time.perf_counter() - start

    first = min(seconds(1) for _ in range(REPETITIONS))
    whole = min(seconds(65) for _ in range(REPETITIONS))
    return {
        "decode": 64 / (whole - first),
        "prefill": len(PROMPT) / first,
        "batch_cost": {},
        "note": f"ctranslate2 {ctranslate2.__version__}, {generator.compute_type}",
    }


def in_a_process(arguments):
    """The figures that this script prints when it is told to measure one program."""
    command = [sys.executable, os.path.abspath(__file__), *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if result.returncode != 0:
        sys.exit(f"{arguments[1]} failed with status {result.returncode}")
    return json.loads(result.stdout.splitlines()[-1])


def table(names, rounds):
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, figure, is_rate in FIGURES:
        cells = []
        for name in names:
            values = [figure(r[name]) for r in rounds]
            if None in values:
                cells.append("")
                continue
            cell = f"{statistics.median(values):,.{0 if is_rate else 2}f}"
            if is_rate and name != "egress":
                ratios = [figure(r["egress"]) / figure(r[name]) for r in rounds]
                cell += f" (egress {statistics.median(ratios):.2f}×, {min(ratios):.2f} to {max(ratios):.2f})"
            cells.append(cell)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return "a processor that the system does not name"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=["egress", *PEERS], help=argparse.SUPPRESS)
    parser.add_argument("--seed", default="0", help=argparse.SUPPRESS)
    parser.add_argument("--egress", default="egress", help="the program (default: the one on PATH)")
    parser.add_argument("--model", required=True, help="a GGUF file, for egress and llama.cpp")
    parser.add_argument("--ct2", help="the same model converted for CTranslate2; left out, it does not run")
    parser.add_argument("--no-llama", action="store_true", help="leave llama.cpp by way of llama-cpp-python out")
    parser.add_argument("--llama-bench", help="llama.cpp's own program; left out, it does not run")
    parser.add_argument("--openvino", action="store_true", help="run OpenVINO GenAI")
    parser.add_argument("--fastest", help="the model in the format that these two compute fastest (default: --model)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()

    fastest = given.fastest or given.model
    if given.measure:
        measured = {
            "egress": lambda: measure_egress(given.egress, given.model, given.threads, given.seed),
            "llama.cpp": lambda: measure_llama(given.model, given.threads),
            "CTranslate2": lambda: measure_ctranslate2(given.ct2, given.threads),
            "llama-bench": lambda: measure_llama_bench(given.llama_bench, fastest, given.threads),
            "OpenVINO": lambda: measure_openvino(fastest, given.threads, given.seed),
        }[given.measure]()
        print(json.dumps(measured))
        return

    wanted = [not given.no_llama, given.ct2, given.llama_bench, given.openvino]
    names = ["egress"] + [name for name, is_wanted in zip(PEERS, wanted) if is_wanted]
    shared = ["--egress", given.egress, "--model", given.model, "--threads", str(given.threads), "--fastest", fastest]
    shared += ["--ct2", given.ct2] if given.ct2 else []
    shared += ["--llama-bench", given.llama_bench] if given.llama_bench else []
    rounds = []
    for number in range(given.rounds):
        rounds.append({})
        for name in names:
            print(f"round {number + 1} of {given.rounds}: {name}", file=sys.stderr)
            rounds[-1][name] = in_a_process(["--measure", name, "--seed", str(number), *shared])
    load = os.getloadavg()[0]
    print(f"{processor()}, {given.threads} threads, {given.rounds} rounds; load at the end {load:.1f}\n")
    print(table(names, rounds))
    print()
    for name in names:
        print(f"- {name}: {rounds[0][name]['note']}")


if __name__ == "__main__":
    main()
