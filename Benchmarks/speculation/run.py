"""Drafting against plain decoding, in one run: ours in several ways, and llama.cpp's plain and prompt look-up decoding.

Usage: run.py EGRESS MODEL.gguf DOCS.jsonl... [--documents N] [--threads T] [--draft SMALL.gguf] [--rollback A]
       [--certificate CERT.json] [--exit-heads FILE] [--output RESULTS.json] [--skip-llama]

A line of DOCS is a document to summarise, one with a question to answer, or, with the field message alone, a message to
answer (messages.jsonl here). Every document goes through all ways one after the other, in an order that changes from
document to document, so that what else happens on the machine falls on all of them. Run it on a quiet machine. Greedy,
full depth; loading is not counted. Exact ways must give the tokens of plain decoding: any difference is told and ends
the run with status 1. llama.cpp needs the Python package llama_cpp; it gets the very prompt tokens of ours, and its
outputs may differ by its own rounding."""

import argparse
import collections
import json
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Scripts"))
from egress_tools import read_lines


def token_f1(text, references):
    def words(text):
        return re.findall(r"\w+", text.lower())

    found, best = collections.Counter(words(text)), 0.0
    for reference in references:
        wanted = collections.Counter(words(reference))
        common = sum((found & wanted).values())
        if common:
            best = max(best, 2 * common / (sum(found.values()) + sum(wanted.values())))
    return best


class Ours:
    def __init__(self, arguments, options, exact):
        self.arguments, self.options, self.exact = arguments, options, exact

    def __call__(self, document, _):
        a = self.arguments
        command = [a.egress, "summarize", "--model", a.model, "--format", "json"]
        if a.threads:
            command += ["--threads", str(a.threads)]
        text = document.get("document")
        if text is None:
            command[1:2] = ["generate", "--max-tokens", "160"]
            text = document["message"]
        else:
            command += ["--long", "truncate"]
            if document.get("question"):
                command[1:2] = ["answer", "--question", document["question"]]
        result = subprocess.run(command + self.options + ["-"], input=text, capture_output=True, text=True, check=False)
        if result.returncode:
            sys.exit(f"{' '.join(command + self.options)}: {result.stderr}")
        found = json.loads(result.stdout)
        return {
            "tokens": found["token_ids"],
            "prompt": found["prompt_token_ids"],
            "text": found["text"],
            "prefill": found["timings"]["prefill"],
            "decode": found["timings"]["decode"],
            "speculation": found.get("speculation"),
        }


class Llama:
    """llama.cpp by its Python binding; greedy."""

    def __init__(self, arguments, drafts):
        import llama_cpp
        from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

        self.exact = False
        draft = LlamaPromptLookupDecoding(max_ngram_size=3, num_pred_tokens=drafts) if drafts else None
        self.model = llama_cpp.Llama(
            arguments.model,
            n_ctx=2048,
            n_threads=arguments.threads,
            n_threads_batch=arguments.threads,
            draft_model=draft,
            logits_all=draft is not None,
            verbose=False,
        )
        self.ends = {llama_cpp.llama_vocab_eos(llama_cpp.llama_model_get_vocab(self.model.model)), 0, 2}

    def __call__(self, document, ours):
        limit = 48 if document.get("question") else 160
        self.model.reset()
        tokens = []
        start = time.perf_counter()
        first = start
        for token in self.model.generate(ours["prompt"], top_k=1, temp=0.0, repeat_penalty=1.0):
            if not tokens:
                first = time.perf_counter()
            tokens.append(token)
            if token in self.ends or len(tokens) == limit:
                break
        end = time.perf_counter()
        text = self.model.detokenize(tokens).decode("utf-8", "replace")
        return {"tokens": tokens, "text": text, "prefill": first - start, "decode": end - first}


def ways(a):
    found = {"plain": Ours(a, [], True)}
    lookup = ["--drafter", "prompt-lookup", "--exact"]
    found["prompt look-up"] = Ours(a, lookup, True)
    early = ["--drafter", "early-exit", "--exact"] + (["--exit-heads", a.exit_heads] if a.exit_heads else [])
    if a.draft_layer:
        early += ["--draft-layer", str(a.draft_layer)]
    found["early exit"] = Ours(a, early, True)
    auto = ["--drafter", "auto"]
    if a.exit_heads:
        auto += ["--exit-heads", a.exit_heads]
    if a.draft:
        auto += ["--draft", a.draft]
    found["auto"] = Ours(a, auto, True)
    if a.draft:
        found["draft, exact"] = Ours(a, ["--draft", a.draft, "--exact"], True)
        found[f"BiLD, rollback {a.rollback}"] = Ours(a, ["--draft", a.draft, "--rollback", str(a.rollback)], False)
        if a.certificate:
            found["BiLD, certified"] = Ours(a, ["--draft", a.draft, "--certificate", a.certificate], False)
    if not a.skip_llama:
        found["llama.cpp plain"] = Llama(a, 0)
        found["llama.cpp look-up"] = Llama(a, 7)
    return found


def report(name, runs, plain):
    tokens = sum(len(r["tokens"]) - 1 for r in runs)
    decode = sum(r["decode"] for r in runs)
    total = decode + sum(r["prefill"] for r in runs)
    same = sum(r["tokens"] == p["tokens"] for r, p in zip(runs, plain))
    row = {
        "way": name,
        "documents": len(runs),
        "tokens_per_second": tokens / decode if decode else 0.0,
        "samples_per_second": len(runs) / total,
        "same_as_plain": same,
        "token_f1": sum(r["quality"] for r in runs) / len(runs),
    }
    drafted = [r["speculation"] for r in runs if r.get("speculation")]
    if drafted:
        for key in ("steps", "drafted", "accepted", "rollbacks", "substituted"):
            row[key] = sum(d[key] for d in drafted)
        for key in ("draft_seconds", "verify_seconds", "cache_seconds", "sampling_seconds"):
            row[key] = sum(d[key] for d in drafted)
        for key in ("drafted_by_position", "accepted_by_position"):
            length = max(len(d[key]) for d in drafted)
            row[key] = [sum(d[key][i] for d in drafted if i < len(d[key])) for i in range(length)]
        row["tokens_per_pass"] = tokens / max(row["steps"], 1)
    return row


def show(rows):
    base = next(r for r in rows if r["way"] == "plain")
    print(f"{'':20} {'tok/s':>7} {'x':>5} {'samples/s':>9} {'same':>9} {'F1':>6} {'tok/pass':>8} {'accepted':>9}")
    for r in rows:
        gain = r["tokens_per_second"] / base["tokens_per_second"]
        line = (
            f"{r['way']:20} {r['tokens_per_second']:7.1f} {gain:5.2f} {r['samples_per_second']:9.3f} "
            f"{r['same_as_plain']:4}/{r['documents']:<4} {r['token_f1']:6.3f}"
        )
        if "drafted" in r:
            line += f" {r['tokens_per_pass']:8.2f} {r['accepted'] / max(r['drafted'], 1):9.2f}"
        print(line)
    for r in rows:
        if "drafted" in r:
            parts = [r[k] for k in ("draft_seconds", "verify_seconds", "cache_seconds", "sampling_seconds")]
            whole = max(sum(parts), 1e-9)
            shares = ", ".join(
                f"{name} {100 * part / whole:.1f} %"
                for name, part in zip(("draft", "verify", "cache", "sampling"), parts)
            )
            by = " ".join(f"{a / d:.2f}" for a, d in zip(r["accepted_by_position"], r["drafted_by_position"]) if d)
            print(f"{r['way']}: {shares}; accepted by position {by}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("egress")
    parser.add_argument("model")
    parser.add_argument("data", nargs="+")
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--draft")
    parser.add_argument("--rollback", type=float, default=2)
    parser.add_argument("--certificate")
    parser.add_argument("--exit-heads")
    parser.add_argument("--draft-layer", type=int)
    parser.add_argument("--output")
    parser.add_argument("--skip-llama", action="store_true")
    a = parser.parse_args()
    methods = ways(a)
    results, failed = {}, False
    for path in a.data:
        runs = {name: [] for name in methods}
        for number, document in enumerate(read_lines(path, a.documents)):
            # Plain first: its prompt tokens are what llama.cpp gets. The others take turns.
            names = list(methods)[1:]
            shift = number % len(names)
            plain = methods["plain"](document, None)
            for name in ["plain", *names[shift:], *names[:shift]]:
                found = plain if name == "plain" else methods[name](document, plain)
                found["quality"] = token_f1(found["text"], document.get("references", []))
                runs[name].append(found)
                if methods[name].exact and found["tokens"] != plain["tokens"]:
                    print(f"{path}: {name} differs from plain decoding in {document['id']}", file=sys.stderr)
                    failed = True
        rows = [report(name, runs[name], runs["plain"]) for name in methods]
        print(f"== {path}")
        show(rows)
        results[path] = rows
    if a.output:
        with open(a.output, "w") as file:
            json.dump(results, file, indent=1)
    sys.exit(1 if failed else 0)


main()
